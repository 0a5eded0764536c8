// SPDX-License-Identifier: Apache-2.0
//! A scene with a sandbox of `run`, `notifier` on a desktop, and `watch`.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, ChildStderr, ChildStdout, Command, Stdio};

use serde_json::Value;

use crate::machine::{Machine, fetch};
use crate::screen::{Desktop, Service};
use crate::user::{Shell, User, told};

/// Hosts of the simulated internet that the workload reaches by address.
pub(crate) const API: &str = "203.0.113.10";
pub(crate) const TELEMETRY: &str = "203.0.113.30";

/// Everything in the scene. Fields are dropped in order.
pub(crate) struct Scene {
    shell: Shell,
    watch: Child,
    said: BufReader<ChildStdout>,
    notifier: Child,
    /// Kept open, because the program writes to this stream.
    _log: BufReader<ChildStderr>,
    pub(crate) desktop: Desktop,
    machine: Machine,
    user: User,
}

impl Scene {
    /// Sets up the scene without a question.
    pub(crate) fn new(kind: Service) -> Self {
        Self::on(Desktop::new(kind))
    }

    pub(crate) fn on(desktop: Desktop) -> Self {
        let user = User::new(None);
        let machine = Machine::new(&user);
        let mut notifier = notifier(&user, &desktop);
        let mut log = BufReader::new(notifier.stderr.take().unwrap());
        until(&mut log, "popups started");
        let mut watch = machine.program(&user, &["watch", "--json"]);
        let mut watch = watch.stdout(Stdio::piped()).spawn().unwrap();
        let said = BufReader::new(watch.stdout.take().unwrap());
        let args = ["run", "--ui", "none", "--network", "pasta", "--name", "web"];
        let run = machine.program(&user, &[&args[..], &["sh"]].concat());
        Self {
            shell: Shell::start(run),
            watch,
            said,
            notifier,
            _log: log,
            desktop,
            machine,
            user,
        }
    }

    /// Makes the workload fetch a page. Returns `true` if the page arrived.
    pub(crate) fn reaches(&mut self, host: &str) -> bool {
        let (status, said) = self.shell.does(&fetch(host));
        let came = status == 0;
        assert_eq!(came, said.contains("200"), "{said}");
        came
    }

    /// Returns the next event of this kind from `watch`.
    pub(crate) fn heard(&mut self, event: &str) -> Value {
        loop {
            let mut line = String::new();
            self.said.read_line(&mut line).unwrap();
            assert!(!line.is_empty(), "`watch` ended without {event}");
            let said: Value = serde_json::from_str(&line).unwrap();
            if said["event"] == event {
                return said;
            }
        }
    }

    /// Returns the pending questions according to `list`: destination and count.
    pub(crate) fn listed(&self) -> Vec<(String, u64)> {
        let listed = self.machine.program(&self.user, &["list", "--json"]);
        let listed = { listed }.output().unwrap();
        assert!(listed.status.success(), "{}", told(&listed));
        let listed = String::from_utf8(listed.stdout).unwrap();
        let lines = listed
            .lines()
            .map(|line| serde_json::from_str(line).unwrap());
        let questions = lines.filter(|line: &Value| line["event"] == "listed");
        let question = |line: Value| {
            let dest = line["dest"].as_str().unwrap().to_owned();
            (dest, line["count"].as_u64().unwrap())
        };
        questions.map(question).collect()
    }

    /// Returns the elements of a set of the sandbox's firewall in the kernel.
    pub(crate) fn elements(&self, set: &str) -> Vec<Value> {
        let listed = self.nft(&["-j", "list", "set", "inet", "terok_shield", set]);
        let listed: Value = serde_json::from_str(&listed).unwrap();
        let objects = listed["nftables"].as_array().unwrap();
        let set = objects.iter().find_map(|object| object.get("set")).unwrap();
        set["elem"].as_array().cloned().unwrap_or_default()
    }

    /// Clears the kernel's memory of recent reports, which otherwise expires after some seconds, so
    /// that the same packet is reported again.
    pub(crate) fn reports_again(&self) {
        self.nft(&["flush", "set", "inet", "terok_shield", "asked_port4"]);
    }

    /// Runs `nft` in the sandbox's network namespace as its owner.
    fn nft(&self, args: &[&str]) -> String {
        let output = Command::new("nsenter")
            .args(["--preserve-credentials", "--user", "--net", "--target"])
            .arg(self.sandbox())
            .arg("nft")
            .args(args)
            .output()
            .unwrap();
        assert!(output.status.success(), "{args:?}: {}", told(&output));
        String::from_utf8(output.stdout).unwrap()
    }

    /// Returns the process id of the process that owns the workload's namespaces.
    fn sandbox(&self) -> String {
        let run = self.shell.child.id();
        let children = format!("/proc/{run}/task/{run}/children");
        let children = std::fs::read_to_string(children).unwrap();
        let mut children = children.split_whitespace();
        let ours = children.find(|pid| {
            let name = std::fs::read_to_string(format!("/proc/{pid}/comm"));
            !name.unwrap().starts_with("pasta")
        });
        ours.unwrap().to_owned()
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        for child in [&mut self.watch, &mut self.notifier] {
            drop(child.kill());
            drop(child.wait());
        }
    }
}

/// Starts `notifier` on the desktop for this user.
fn notifier(user: &User, desktop: &Desktop) -> Child {
    let mut command = user.command(user.program());
    let command = command
        .arg("notifier")
        .env("DBUS_SESSION_BUS_ADDRESS", desktop.bus())
        .stderr(Stdio::piped());
    command.spawn().unwrap()
}

/// Reads lines up to the first line that contains `what`.
fn until(log: &mut BufReader<ChildStderr>, what: &str) {
    let mut line = String::new();
    while !line.contains(what) {
        line.clear();
        log.read_line(&mut line).unwrap();
        assert!(!line.is_empty(), "it ended without saying {what:?}");
    }
}
