// SPDX-License-Identifier: Apache-2.0
//! An ordinary user's own machine: rootless podman, with the hooks of a real `terok-shield`.
//!
//! It is made of namespaces, so that nothing is needed but the programs: user 1000 of a user
//! namespace below the test's, a process namespace that takes every container, helper and reader
//! along when it ends, and a mount namespace whose `/run/user/1000` is the test's [`Place`]. Its
//! network is the test's, so `slirp4netns` reaches the addresses that the test puts on its
//! loopback, and nothing else.

use std::ffi::OsStr;
use std::fmt::Write as _;
use std::fs;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

use serde_json::Value;
use terok_clearance::ContainerId;
use terok_clearance::socket::{HubSocketPaths, SocketLayout};
use tokio::process::Command;

use super::{Ended, Place, Running, Stack};

/// Where its user's session has its files: the place of the test.
const HOME: &str = "/run/user/1000";
/// Where its shield keeps what it knows of containers.
const STATE: &str = "/run/user/1000/state";
const IMAGE: &str = "interop:latest";

/// Makes the machine and stays as the first process of it, until its input ends.
///
/// Podman keeps its locks in `/dev/shm` by the user's id, which another user of this machine has.
/// A pure cgroup file system is mounted for the runtime, which takes no mixed one. Who may use
/// which other user ids is nobody here: the one that there is suffices. With none of the tools for
/// names the shield asks the C library, whatever else is installed.
const BOOT: &str = r#"
set -e
read -r pid _ < /proc/self/stat
mount -t proc proc /proc
mount -t cgroup2 cgroup2 /sys/fs/cgroup
mount -t tmpfs tmpfs /dev/shm
mount -t tmpfs tmpfs /run
mkdir -p -m 700 /run/user/1000
mount --bind "$1" /run/user/1000
for others in /etc/subuid /etc/subgid; do
  [ ! -e "$others" ] || mount --bind /dev/null "$others"
done
for tool in $(type -aP dnsmasq dig drill); do
  mount --bind /dev/null "$tool"
done
exec unshare --user --map-user=1000 --map-group=1000 -- \
  bash -c 'echo "$1"; read -r _ || exit 0' first "$pid"
"#;

/// The machine of a user with `stack`.
#[derive(Debug)]
pub(crate) struct Rootless {
    place: Place,
    stack: Stack,
    /// The first of its processes: with it goes the machine.
    _first: Running,
    /// Its id, as the test sees it.
    first: String,
}

/// A container that was made and not started.
#[derive(Debug, Clone)]
pub(crate) struct Container {
    pub(crate) name: String,
    /// All of its 64 digits.
    pub(crate) id: ContainerId,
}

impl Rootless {
    /// Makes the machine, and installs the hooks of `stack` on it.
    pub(crate) async fn new(stack: Stack) -> Self {
        let place = Place::new();
        let mut boot = place.command("unshare");
        boot.args([
            "--cgroup",
            "--pid",
            "--fork",
            "--kill-child",
            "--mount",
            "--",
        ])
        .args(["bash", "-c", BOOT, "boot"])
        .arg(place.path());
        let mut running = Running::start(&mut boot);
        let first = running.line().await;
        let machine = Self {
            place,
            stack,
            _first: running,
            first,
        };
        machine.configure();
        machine.import().await;
        let shield = machine.shield(&["setup"]);
        machine.done(shield).await;
        machine
    }

    /// The user's place, as the test sees it.
    pub(crate) const fn place(&self) -> &Place {
        &self.place
    }

    /// Returns `program` to be run by the user of the machine.
    pub(crate) fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = self.place.command("nsenter");
        command
            .arg(format!("--target={}", self.first))
            .args(["--user", "--mount", "--pid", "--cgroup"])
            .args(["--preserve-credentials", "--"])
            // The one that is started only waits for its child, which is to go with it.
            .args(["setpriv", "--pdeathsig", "KILL", "--"])
            .arg(program)
            .current_dir("/")
            .env("XDG_RUNTIME_DIR", HOME)
            .env("HOME", HOME)
            .env("CONTAINERS_STORAGE_CONF", format!("{HOME}/storage.conf"))
            .env("USER", "interop");
        command
    }

    /// Returns our program with `args`, run by the user.
    pub(crate) fn ours(&self, args: &[&str]) -> Command {
        let mut command = self.command(env!("CARGO_BIN_EXE_terok-clearance"));
        command.args(args);
        command
    }

    /// Returns a program of the stack with `args`, run by the user.
    pub(crate) fn theirs(&self, name: &str, args: &[&str]) -> Command {
        let mut command = self.command(self.stack.program(name));
        command.args(args);
        command
    }

    /// Returns a script of `python/` with `args`, run by the user.
    pub(crate) fn script(&self, name: &str, args: &[&str]) -> Command {
        let mut command = self.command(self.stack.program("python"));
        let scripts = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/interop/python");
        command.arg(scripts.join(name)).args(args);
        command
    }

    /// Runs `command` to its end, which must be a good one, and returns what it printed.
    pub(crate) async fn done(&self, mut command: Command) -> String {
        let ended = self.ended(&mut command).await;
        assert!(ended.status.success(), "{:?}: {ended:?}", command.as_std());
        ended.output
    }

    /// Runs `command` to its end.
    pub(crate) async fn ended(&self, command: &mut Command) -> Ended {
        Running::start(command).end().await
    }

    /// Makes a container that sleeps, as `terok-shield prepare` says to.
    pub(crate) async fn create(&self, name: &str) -> Container {
        let prepare = [
            "--state-dir",
            STATE,
            "prepare",
            name,
            "--profiles",
            "nothing",
            "--json",
        ];
        let arguments = self.done(self.shield(&prepare)).await;
        self.create_with(name, &arguments).await
    }

    /// Makes a container that sleeps, with the arguments that `prepare --json` printed.
    pub(crate) async fn create_with(&self, name: &str, arguments: &str) -> Container {
        let arguments: Vec<String> = serde_json::from_str(arguments).unwrap();
        let mut create = self.podman(&["create"]);
        create.args(arguments).args([IMAGE, "/bin/sh", "-c"]);
        create.arg("while :; do sleep 1000; done");
        let id = self.done(create).await;
        Container {
            name: name.to_owned(),
            id: id.trim().parse().unwrap(),
        }
    }

    /// Puts our reader into the place of the hooks' own.
    pub(crate) async fn use_our_reader(&self) {
        let script = self.done(self.ours(&["reader", "--script"])).await;
        let shield = self.place.path().join(".local/share/terok/shield");
        fs::write(shield.join("nflog-reader.py"), script).unwrap();
    }

    /// Returns the program that the container's reader is, none if it is gone.
    pub(crate) async fn reader(&self, pid: &str) -> Option<String> {
        let mut readlink = self.podman(&["unshare", "readlink"]);
        readlink.arg(format!("/proc/{pid}/exe"));
        let ended = self.ended(&mut readlink).await;
        ended
            .status
            .success()
            .then(|| ended.output.trim().to_owned())
    }

    /// Returns the process id that the container's hook noted for its reader.
    pub(crate) fn reader_pid(&self, container: &Container) -> Option<String> {
        let containers = self.place.path().join("state/containers");
        let noted = containers.join(&container.name).join("reader.pid");
        let noted = fs::read_to_string(noted).ok()?;
        Some(noted.trim().to_owned())
    }

    /// Starts a container; its hooks raise its firewall and start its reader.
    pub(crate) async fn start(&self, container: &Container) {
        self.done(self.podman(&["start", &container.name])).await;
    }

    /// Starts a container, which may be refused.
    pub(crate) async fn try_start(&self, container: &Container) -> Ended {
        self.ended(&mut self.podman(&["start", &container.name]))
            .await
    }

    /// Returns a file of a container's state directory.
    pub(crate) fn state_file(&self, container: &Container, name: &str) -> PathBuf {
        let containers = self.place.path().join("state/containers");
        containers.join(&container.name).join(name)
    }

    /// Ends a container at once.
    pub(crate) async fn stop(&self, container: &Container) {
        let stop = self.podman(&["stop", "--time", "0", &container.name]);
        self.done(stop).await;
    }

    /// Removes a container that has ended.
    pub(crate) async fn remove(&self, container: &Container) {
        self.done(self.podman(&["rm", &container.name])).await;
    }

    /// Connects from within the container, and returns what whoever listens there says; none if
    /// the way is barred.
    pub(crate) async fn connect(&self, container: &Container, to: Ipv4Addr) -> Option<String> {
        let mut nc = self.podman(&["exec", &container.name, "nc", "-w", "10"]);
        nc.args([&to.to_string(), "443"]);
        let ended = self.ended(&mut nc).await;
        if ended.status.success() {
            return Some(ended.output);
        }
        // What the firewall's refusal is called; anything else is a fault of the test.
        assert!(ended.errors.contains("No route to host"), "{ended:?}");
        None
    }

    /// Returns the addresses in a set of the container's firewall, as `nft` lists them there.
    pub(crate) async fn set(&self, container: &Container, name: &str) -> Vec<String> {
        let format = ["inspect", "--format", "{{.State.Pid}}", &container.name];
        let pid = self.done(self.podman(&format)).await;
        let mut nft = self.podman(&["unshare", "nsenter", "-n", "-t", pid.trim(), "nft"]);
        nft.args(["-j", "list", "set", "inet", "terok_shield", name]);
        let listed: Value = serde_json::from_str(&self.done(nft).await).unwrap();
        let sets = listed["nftables"].as_array().unwrap();
        let set = sets.iter().find_map(|item| item.get("set")).unwrap();
        let elements = set["elem"].as_array().into_iter().flatten();
        // One with a time of its own is an object around its value.
        let address = |item: &Value| item.get("elem").map_or(item, |elem| &elem["val"]).clone();
        elements
            .map(|item| address(item).as_str().unwrap().to_owned())
            .collect()
    }

    /// Returns the sockets of the container's own hub, as the user sees them: where the reader of
    /// the hook reports.
    pub(crate) fn sockets(&self, container: &Container) -> HubSocketPaths {
        let runtime = terok_clearance::socket::RuntimeDir::new(PathBuf::from(HOME));
        runtime.sandbox_sockets(&container.id, self.layout())
    }

    /// Starts a process of the user that connects to `ingester`, as the user sees it, and reports
    /// each line that is typed. A process outside of the machine is refused there.
    pub(crate) fn reporter(&self, ingester: &Path) -> Running {
        let report = "use Socket; socket(S, PF_UNIX, SOCK_STREAM, 0) or die; \
            connect(S, sockaddr_un($ARGV[0])) or die $!; \
            while (my $line = <STDIN>) { syswrite(S, $line) }";
        Running::start(self.command("perl").args(["-e", report]).arg(ingester))
    }

    /// Returns the path by which the test knows a file of the user's session.
    pub(crate) fn seen(&self, path: &Path) -> PathBuf {
        self.place.path().join(path.strip_prefix(HOME).unwrap())
    }

    /// Starts a server, and returns it once somebody listens at each of `sockets`, which are as
    /// the user sees them.
    pub(crate) async fn serve(&self, mut command: Command, sockets: &[&Path]) -> Running {
        let sockets: Vec<PathBuf> = sockets.iter().map(|socket| self.seen(socket)).collect();
        self.place.serve(&mut command, &sockets).await
    }

    const fn layout(&self) -> SocketLayout {
        match self.stack {
            Stack::V0_7_0 => SocketLayout::C,
            Stack::V0_8_0 | Stack::V0_8_1 | Stack::V0_8_1WithNewerVarlink => SocketLayout::D,
        }
    }

    fn podman(&self, args: &[&str]) -> Command {
        let mut podman = self.command("podman");
        podman.args(args);
        podman
    }

    /// Returns the release that it has.
    pub(crate) const fn stack(&self) -> Stack {
        self.stack
    }

    /// Returns the real `terok-shield`.
    pub(crate) fn shield(&self, args: &[&str]) -> Command {
        self.theirs("terok-shield", args)
    }

    /// Writes what podman and the shield need to know: there is neither systemd nor a registry.
    fn configure(&self) {
        let write = |name: &str, text: &str| {
            let path = self.place.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        let mut storage = String::from("[storage]\ndriver = \"vfs\"\n");
        writeln!(storage, "graphroot = \"{HOME}/storage\"").unwrap();
        writeln!(storage, "runroot = \"{HOME}/run\"").unwrap();
        storage.push_str("[storage.options]\nignore_chown_errors = \"true\"\n");
        // A place that only the environment tells: whoever runs the shield has to pass it on.
        write("storage.conf", &storage);
        write(
            ".config/containers/containers.conf",
            r#"[containers]
cgroups = "disabled"
default_ulimits = ["nofile=1024:1024", "nproc=1024:1024"]
log_driver = "k8s-file"
[network]
default_rootless_network_cmd = "slirp4netns"
[engine]
cgroup_manager = "cgroupfs"
events_logger = "file"
runtime = "crun"
"#,
        );
        write(
            ".config/containers/policy.json",
            r#"{"default": [{"type": "insecureAcceptAnything"}]}"#,
        );
        write(".config/terok/shield/profiles/nothing.txt", "");
        // The hook starts no reader without a session bus; that it is there suffices.
        write("bus", "");
    }

    /// Makes the image of containers: busybox and nothing else.
    async fn import(&self) {
        let root = self.place.path().join("root");
        let programs = root.join("bin");
        fs::create_dir_all(&programs).unwrap();
        fs::create_dir_all(root.join("etc")).unwrap();
        let busybox = ["/bin/busybox", "/usr/bin/busybox"];
        let busybox = busybox.into_iter().find(|path| Path::new(path).exists());
        let busybox = busybox.expect("there is no busybox: run `./check setup`");
        fs::copy(busybox, programs.join("busybox")).unwrap();
        for applet in ["sh", "sleep", "nc"] {
            std::os::unix::fs::symlink("busybox", programs.join(applet)).unwrap();
        }
        let mut tar = self.command("tar");
        tar.args(["-C", &format!("{HOME}/root")]);
        tar.args(["-cf", &format!("{HOME}/root.tar"), "."]);
        self.done(tar).await;
        let import = self.podman(&["import", "--quiet", &format!("{HOME}/root.tar"), IMAGE]);
        self.done(import).await;
    }
}
