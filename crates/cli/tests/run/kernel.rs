// SPDX-License-Identifier: Apache-2.0
//! Attempts of a workload against the kernel: sockets, system calls, settings, devices, privileges.

use std::process::Command;

use super::user::{as_everybody, quoted, told};

/// A script that opens a socket; the exit status is the error number.
pub(crate) fn socket(domain: i32, kind: i32, protocol: i32) -> String {
    format!("perl -e 'socket(S, {domain}, {kind}, {protocol}) or exit $!'")
}

/// A script that makes a system call; the exit status is the error number.
pub(crate) fn call(number: i64, arguments: &str) -> String {
    format!("perl -e 'exit $! if syscall({number}, {arguments}) < 0'")
}

#[test]
fn socket_families_that_ignore_the_network_namespace() {
    as_everybody(|user| {
        for domain in [
            libc::AF_VSOCK,
            libc::AF_PACKET,
            libc::AF_BLUETOOTH,
            libc::AF_ALG,
            libc::AF_TIPC,
        ] {
            let inside = user.inside(&socket(domain, libc::SOCK_STREAM, 0));
            assert_eq!(
                inside.status.code(),
                Some(libc::EAFNOSUPPORT),
                "{domain}: {}",
                told(&inside)
            );
        }
        for domain in [libc::AF_UNIX, libc::AF_INET, libc::AF_INET6] {
            let inside = user.inside(&socket(domain, libc::SOCK_STREAM, 0));
            assert_eq!(inside.status.code(), Some(0), "{domain}: {}", told(&inside));
        }
        let route = socket(libc::AF_NETLINK, libc::SOCK_RAW, libc::NETLINK_ROUTE);
        assert_eq!(user.inside(&route).status.code(), Some(0));
        // Control with a family that every kernel has; the attempt needs a privilege for it.
        let packet = quoted(&socket(libc::AF_PACKET, libc::SOCK_RAW, 0));
        let control = user.outside(&format!("unshare -Urn sh -c '{packet}'"));
        assert!(control.status.success(), "{}", told(&control));
        user.not_inside(&socket(libc::AF_PACKET, libc::SOCK_RAW, 0));
    });
}

#[test]
fn raw_sockets() {
    as_everybody(|user| {
        let raw = socket(libc::AF_INET, libc::SOCK_RAW, libc::IPPROTO_ICMP);
        assert_eq!(user.inside(&raw).status.code(), Some(libc::EPERM));
        for way in user.ways().iter().filter(|way| !way.contains("n sh")) {
            // Ways with a nested network namespace are left out: raw sockets are allowed there,
            // but packets lead nowhere.
            let nested = format!("{way} '{}'", quoted(&raw));
            assert_eq!(
                user.inside(&nested).status.code(),
                Some(libc::EPERM),
                "{way}"
            );
        }
        let control = user.outside(&format!("unshare -Urn {raw}"));
        assert!(control.status.success(), "{}", told(&control));
    });
}

#[test]
fn system_calls_that_no_namespace_confines() {
    as_everybody(|user| {
        let check = |number, arguments: &str, inside| {
            let script = call(number, arguments);
            let within = user.inside(&script);
            assert_eq!(
                within.status.code(),
                Some(inside),
                "{number}: {}",
                told(&within)
            );
            let outside = user.outside(&script).status.code();
            assert_ne!(
                outside,
                Some(inside),
                "{number}: the same outside, so nothing is shown"
            );
        };
        // KEYCTL_GET_KEYRING_ID of the session's keyring
        check(libc::SYS_keyctl, "0, -3, 0", libc::EPERM);
        check(libc::SYS_request_key, "0, 0, 0, 0", libc::EPERM);
        check(libc::SYS_io_uring_setup, "0, 0", libc::ENOSYS);
        // The descriptor is not a terminal: the filter refuses the request before the driver sees
        // it.
        check(libc::SYS_ioctl, "0, 0x5412, 0", libc::EPERM);
        check(libc::SYS_ioctl, "0, 0x541c, 0", libc::EPERM);
        // The kernel ignores the upper half of a request, so the filter must ignore it too.
        check(libc::SYS_ioctl, "0, 0x100005412, 0", libc::EPERM);
    });
}

#[cfg(target_arch = "x86_64")]
#[test]
fn system_calls_of_the_other_abi() {
    as_everybody(|user| {
        let number = 0x4000_0000 | libc::SYS_getpid;
        assert_eq!(
            user.inside(&call(number, "0")).status.code(),
            Some(libc::ENOSYS)
        );
        assert_eq!(
            user.inside(&call(libc::SYS_getpid, "0")).status.code(),
            Some(0)
        );
    });
}

#[test]
fn the_kernels_settings() {
    as_everybody(|user| {
        // Writes the present value, so that the control changes nothing.
        for setting in [
            "/proc/sys/kernel/core_pattern",
            "/proc/sys/vm/overcommit_memory",
        ] {
            let script = format!("v=$(cat {setting}) && echo \"$v\" > {setting}");
            if user.is_root() {
                user.only_outside(&script);
            } else {
                user.not_inside(&script);
            }
        }
        let writable = "find /sys /proc/sys /proc/sysrq-trigger /proc/irq /proc/bus -xdev \
            -writable ! -type l 2>/dev/null | grep .";
        if user.is_root() {
            user.only_outside(writable);
        } else {
            user.not_inside(writable);
        }
        let mut shell = user.shell_inside();
        for place in ["/sys", "/proc/sys"] {
            // The last line is the topmost mount, which is the visible one.
            let last = format!("grep ' {place} ' /proc/self/mounts | tail -1");
            let (_, mount) = shell.does(&last);
            let options = mount.split(' ').nth(3).unwrap();
            assert!(options.split(',').any(|option| option == "ro"), "{mount}");
        }
    });
}

#[test]
fn device_files() {
    as_everybody(|user| {
        let (_, devices) = user.shell_inside().does("ls /dev");
        let expected = "fd full null ptmx pts random shm stderr stdin stdout tty urandom zero";
        assert_eq!(
            devices.split_whitespace().collect::<Vec<_>>().join(" "),
            expected
        );
        user.not_inside(&format!(
            "mknod {}/device b 7 0",
            user.path("work").display()
        ));
        if user.is_root() {
            // A device file on the disk does not work either. (1:5 is /dev/zero.)
            let node = user.path("work/zero");
            let made = Command::new("mknod")
                .arg(&node)
                .args(["c", "1", "5"])
                .status()
                .unwrap();
            assert!(made.success());
            user.only_outside(&format!("head -c 1 {}", node.display()));
        }
    });
}

#[test]
fn descriptors_of_the_caller() {
    as_everybody(|user| {
        let run = format!("{} run --network none -- sh -c", user.program().display());
        let script = |shell: &str| format!("exec 9</etc/passwd 7</; {shell} 'cat <&9'");
        let outside = user.outside(&script("sh -c"));
        assert!(outside.status.success(), "{}", told(&outside));
        let inside = user.outside(&script(&run));
        assert!(!inside.status.success(), "{}", told(&inside));
        let listed = user.inside("ls /proc/self/fd");
        // Standard streams, and the descriptor that `ls` uses to read the directory.
        assert_eq!(String::from_utf8_lossy(&listed.stdout), "0\n1\n2\n3\n");
    });
}

#[test]
fn user_namespaces_of_its_own_work() {
    // Browsers use nested user namespaces. If these did not work at all, the other tests would not
    // show that nested namespaces are no way out.
    as_everybody(|user| {
        for way in user.ways() {
            let rights = user.inside(&format!("{way} 'grep CapEff /proc/self/status'"));
            let said = String::from_utf8_lossy(&rights.stdout).into_owned();
            let full = way.contains("unshare");
            assert_eq!(said.contains("ffffffff"), full, "{way}: {}", told(&rights));
        }
    });
}

#[test]
fn privileges() {
    as_everybody(|user| {
        let status = user.inside("cat /proc/self/status");
        let status = String::from_utf8(status.stdout).unwrap();
        // Root of the machine keeps the rights over files and ids: CAP_CHOWN, DAC_OVERRIDE,
        // FOWNER, FSETID, KILL, SETGID, SETUID, SETFCAP.
        let kept = if user.is_root() {
            "800000fb"
        } else {
            "00000000"
        };
        for set in ["CapPrm", "CapBnd"] {
            let line = format!("{set}:\t00000000{kept}\n");
            assert!(status.contains(&line), "{line}: {status}");
        }
        assert!(status.contains("CapInh:\t0000000000000000\n"), "{status}");
        assert!(status.contains("NoNewPrivs:\t1\n"), "{status}");
        let outside = String::from_utf8(user.outside("id").stdout).unwrap();
        let inside = String::from_utf8(user.inside("id").stdout).unwrap();
        let name = |id: &str| id.split(' ').next().unwrap().to_owned();
        assert_eq!(name(&inside), name(&outside), "the same user");
    });
}
