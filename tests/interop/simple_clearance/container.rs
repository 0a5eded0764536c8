// SPDX-License-Identifier: Apache-2.0
//! A container of one stack as its `terok-shield` sees it: the stack's own ruleset in the test's
//! network namespace, its state directory, and real packets. Only the engine is a stand-in, a
//! script called `podman` that tells what podman would.

use std::net::UdpSocket;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Command as Blocking, Stdio};

use tokio::process::Command;

use crate::harness::{Place, Running, Stack};

pub(super) const NAME: &str = "my-task";
pub(super) const ID: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

pub(super) struct Container {
    pub(super) place: Place,
    pub(super) stack: Stack,
}

impl Container {
    /// Makes it, in the namespace of this test.
    pub(super) fn new(stack: Stack) -> Self {
        let container = Self {
            place: Place::new(),
            stack,
        };
        std::fs::create_dir_all(container.state()).unwrap();
        let bin = container.place.path().join("bin");
        std::fs::create_dir(&bin).unwrap();
        let record = serde_json::json!([{
            "Id": ID,
            "State": {"Pid": std::process::id()},
            "Config": {"Annotations": {"terok.shield.state_dir": container.state()}},
        }]);
        // What is in the namespace already needs no entering; `broken` stands for any trouble.
        container.program(
            "podman",
            &format!(
                "#!/bin/sh\ntest -e '{broken}' && exit 125\ncase \"$1 $*\" in\n\
                 inspect*State.Pid*) echo {pid};;\ninspect*) echo '{record}';;\n\
                 unshare*) shift; exec \"$@\";;\n*) exit 1;;\nesac\n",
                broken = container.broken().display(),
                pid = std::process::id(),
            ),
        );
        // From 0.9.0 on, the reader is where `terok-shield setup` puts it.
        let installed = container.place.path().join("terok/shield");
        std::fs::create_dir_all(&installed).unwrap();
        std::fs::copy(container.script(), installed.join("nflog-reader.py")).unwrap();
        container.engage();
        container
    }

    /// Puts the stack's own ruleset in force, and lets packets be sent.
    fn engage(&self) {
        for words in [
            "ip link set lo up",
            "ip link add out type veth peer name there",
            "ip link set there up",
            "ip address add 198.51.100.2/24 dev out",
            "ip link set out up",
            "ip route add default via 198.51.100.1",
        ] {
            let mut words = words.split(' ');
            let mut command = Blocking::new(words.next().unwrap());
            assert!(command.args(words).status().unwrap().success());
        }
        let root = self.root();
        let arguments = ["--state-dir", root.to_str().unwrap(), "preview"];
        let mut preview = self.with(self.place.theirs(self.stack, "terok-shield", &arguments));
        let rules = preview.as_std_mut().output().unwrap();
        assert!(rules.status.success(), "{rules:?}");
        self.load(&rules.stdout);
    }

    /// Puts a ruleset in force.
    pub(super) fn load(&self, rules: &[u8]) {
        let file = self.place.path().join("rules.nft");
        std::fs::write(&file, rules).unwrap();
        let loaded = Blocking::new("nft").arg("-f").arg(file).status().unwrap();
        assert!(loaded.success());
    }

    pub(super) fn root(&self) -> PathBuf {
        self.place.path().join("state")
    }

    pub(super) fn state(&self) -> PathBuf {
        self.root().join("containers").join(NAME)
    }

    /// Returns a file that breaks the engine as long as it exists.
    pub(super) fn broken(&self) -> PathBuf {
        self.place.path().join("broken")
    }

    /// Returns the reader of the stack.
    pub(super) fn script(&self) -> PathBuf {
        let python = self.stack.prefix().join("lib/python3.13");
        let library = if python.exists() {
            python
        } else {
            let mut libraries = std::fs::read_dir(self.stack.prefix().join("lib")).unwrap();
            libraries.next().unwrap().unwrap().path()
        };
        library.join("site-packages/terok_shield/resources/nflog_reader.py")
    }

    /// Puts a script where programs are looked for first.
    pub(super) fn program(&self, name: &str, text: &str) {
        let path = self.place.path().join("bin").join(name);
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o755)).unwrap();
    }

    /// Gives a command the environment that leads it to the stack and to the stand-in.
    pub(super) fn with(&self, mut command: Command) -> Command {
        let bin = self.place.path().join("bin");
        let (bin, stack) = (bin.display(), self.stack.prefix().join("bin"));
        let path = format!(
            "{bin}:{}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            stack.display()
        );
        command
            .env("PATH", path)
            .env("TEROK_ROOT", self.place.path().join("terok"))
            .env("_TEROK_SHIELD_NFLOG_NSENTER", "1");
        command
    }

    /// Returns the original, `terok-shield simple-clearance CONTAINER`.
    pub(super) fn original(&self) -> Command {
        let arguments = ["simple-clearance", NAME];
        self.with(self.place.theirs(self.stack, "terok-shield", &arguments))
    }

    /// Returns ours.
    pub(super) fn ours(&self, arguments: &[&str]) -> Command {
        let arguments = [&["simple-clearance"], arguments, &[NAME]].concat();
        self.with(self.place.ours(&arguments))
    }

    /// Returns ours with the reader of the stack.
    pub(super) fn ours_with_their_reader(&self) -> Command {
        let reader = self.script();
        self.ours(&["--reader", reader.to_str().unwrap()])
    }

    /// Starts a program that asks, and returns it once it listens to the packet log.
    pub(super) async fn asking(&self, mut command: Command) -> Running {
        let mut running = Running::start(&mut command);
        running
            .until("Watching for blocked connections... (Ctrl-C to stop)\n\n")
            .await;
        while !is_listened_to() {
            running.alive();
            tokio::task::yield_now().await;
        }
        running
    }

    /// Starts the reader of the stack as its hook does, and returns it once it listens.
    pub(super) async fn hooked(&self) -> Running {
        let state = self.state();
        let id = format!("--container-id={ID}");
        let mut command = self.place.command("setsid");
        command
            .arg(self.stack.program("python"))
            .arg("-I")
            .arg(self.place.path().join("terok/shield/nflog-reader.py"))
            .arg(&state)
            .args([&ID[..12], "--emit=socket", "--annotations={}", &id]);
        let mut reader = Running::start(&mut self.with(command));
        while !is_listened_to() {
            reader.alive();
            tokio::task::yield_now().await;
        }
        let pid = reader.pid().as_raw_nonzero().to_string();
        std::fs::write(state.join("reader.pid"), format!("{pid}\n")).unwrap();
        reader
    }

    /// Returns what the kernel's table says of an address: the sets that hold it.
    pub(super) fn sets_of(address: &str) -> Vec<String> {
        let list = ["-j", "list", "table", "inet", "terok_shield"];
        let listed = Blocking::new("nft").args(list).output().unwrap();
        let table: serde_json::Value = serde_json::from_slice(&listed.stdout).unwrap();
        let mut sets = Vec::new();
        for set in table["nftables"].as_array().unwrap() {
            let set = &set["set"];
            if set["elem"].to_string().contains(&format!("\"{address}\"")) {
                sets.push(set["name"].as_str().unwrap().to_owned());
            }
        }
        sets
    }
}

impl Container {
    /// Returns the ruleset in force.
    pub(super) fn rules() -> String {
        let listed = Blocking::new("nft").args(["list", "ruleset"]).output();
        String::from_utf8(listed.unwrap().stdout).unwrap()
    }
}

/// Sends a packet that the ruleset refuses and logs.
pub(super) fn knock(address: &str, port: u16) {
    let socket = UdpSocket::bind("198.51.100.2:0").unwrap();
    // The refusal is told to the sender, too.
    drop(socket.send_to(b"x", (address, port)));
}

/// Says whether somebody listens to group 100 in this namespace.
pub(super) fn is_listened_to() -> bool {
    let groups = std::fs::read_to_string("/proc/thread-self/net/netfilter/nfnetlink_log").unwrap();
    let mut groups = groups.lines().map(str::trim_start);
    groups.any(|line| line.starts_with("100 "))
}

/// Waits until nobody does.
pub(super) async fn is_free() {
    while is_listened_to() {
        tokio::task::yield_now().await;
    }
}

/// Says whether a process has not ended yet.
pub(super) fn lives(pid: &str) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let state = stat.rsplit_once(')').map_or("", |(_, behind)| behind);
    !matches!(state.trim_start().chars().next(), None | Some('Z' | 'X'))
}

/// Ends a process that the test did not start itself.
pub(super) fn end(pid: &str) {
    let status = Blocking::new("kill").arg(pid).stdin(Stdio::null()).status();
    assert!(status.unwrap().success());
}
