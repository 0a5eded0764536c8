#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Boots systemd as the first process of a machine that has the kernel, the processors and, below an
# overlay that is lost in the end, the root file system of this one. Root's only.
#
#   boot.sh DIRECTORY    an empty directory: the machine's files are mounted there, and not seen
#                        from outside
#
# Prints the process id of systemd. Ends the machine when standard input ends.
set -eu
directory=$1
stage=${2:-outside}

case $stage in
outside)
  exec unshare --mount --propagation private sh "$0" "$directory" holder
  ;;
holder)
  mount -t tmpfs machine "$directory"
  mkdir "$directory/cgroups"
  mount -t cgroup2 cgroup2 "$directory/cgroups"
  group=$directory/cgroups/machine.$$
  mkdir "$group"
  sh -c 'echo $$ >"$1/cgroup.procs"
    exec unshare --cgroup --pid --net --uts --ipc --mount --fork --kill-child \
      sh "$2" "$3" machine' boot "$group" "$0" "$directory" </dev/null >&2 &
  outside=$!
  pid=
  while [ -z "$pid" ]; do
    kill -0 "$outside"
    # The file has no end of line, which read reports.
    read -r pid <"/proc/$outside/task/$outside/children" || true
  done
  echo "$pid"
  cat >/dev/null
  echo 1 >"$group/cgroup.kill"
  wait "$outside" || true
  find "$group" -depth -type d -exec sh -c 'until rmdir "$1"; do :; done' rmdir {} \;
  exit
  ;;
machine) ;;
*) exit 2 ;;
esac

root=$directory/root
mkdir "$directory/upper" "$directory/work" "$root"
mount -t overlay -o "lowerdir=/,upperdir=$directory/upper,workdir=$directory/work" machine "$root"
mount -t proc proc "$root/proc"
mount -t sysfs sysfs "$root/sys"
mount -t cgroup2 cgroup2 "$root/sys/fs/cgroup"
mount -t tmpfs -o mode=755 dev "$root/dev"
mkdir "$root/dev/net"
while read -r device numbers; do
  # shellcheck disable=SC2086
  mknod -m 666 "$root/dev/$device" c $numbers
done <<'DEVICES'
null 1 3
zero 1 5
full 1 7
random 1 8
urandom 1 9
tty 5 0
fuse 10 229
net/tun 10 200
DEVICES
mkdir "$root/dev/pts" "$root/dev/shm"
mount -t devpts -o newinstance,ptmxmode=0666,mode=620,gid=5 devpts "$root/dev/pts"
mount -t tmpfs -o mode=1777 shm "$root/dev/shm"
ln -s pts/ptmx "$root/dev/ptmx"
ln -s /proc/self/fd "$root/dev/fd"
ln -s fd/0 "$root/dev/stdin"
ln -s fd/1 "$root/dev/stdout"
ln -s fd/2 "$root/dev/stderr"
# The layers of an image cannot be an overlay above an overlay.
for path in home root tmp run var/tmp var/lib/containers; do
  mkdir -p "$root/$path"
  mount -t tmpfs -o mode=755 files "$root/$path"
done
chmod 1777 "$root/tmp" "$root/var/tmp"
chmod 700 "$root/root"
: >"$root/etc/fstab"
# The users of this system have no sessions there, and the user of the tests is a new one.
rm -rf "$root/var/lib/systemd/linger" "$root/var/log/journal"
for file in passwd group shadow gshadow subuid subgid; do
  [ ! -e "$root/etc/$file" ] || sed -i '/^op:/d' "$root/etc/$file"
done
mkdir -p "$root/run/systemd/system"
cat >"$root/run/systemd/system/machine.target" <<'UNIT'
[Unit]
Requires=basic.target dbus.socket
Wants=systemd-logind.service
After=basic.target dbus.socket systemd-logind.service
UNIT
# These would change the kernel of every machine.
for unit in systemd-sysctl systemd-modules-load systemd-pstore systemd-udevd \
  systemd-udev-trigger modprobe@; do
  ln -s /dev/null "$root/run/systemd/system/$unit.service"
done
cd "$root"
mkdir run/outside
pivot_root . run/outside
umount -l /run/outside
rmdir /run/outside
mount --make-rshared /
exec env -i container=machine PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
  /lib/systemd/systemd --unit=machine.target --log-target=console --show-status=0
