// SPDX-License-Identifier: Apache-2.0
//! A scene with a sandbox of `run`, `notifier` on a desktop, and `watch`.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, ChildStderr, ChildStdout, Stdio};

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
    /// Sets up the scene without a question. Connections do not wait for an answer.
    pub(crate) fn new(kind: Service) -> Self {
        Self::on(Desktop::new(kind))
    }

    pub(crate) fn on(desktop: Desktop) -> Self {
        Self::holding(desktop, "0")
    }

    /// As [`Scene::on`], with connections that wait for an answer up to `time`.
    pub(crate) fn holding(desktop: Desktop, time: &str) -> Self {
        let user = User::new(None);
        let machine = Machine::new(&user);
        let mut notifier = notifier(&user, &desktop);
        let mut log = BufReader::new(notifier.stderr.take().unwrap());
        until(&mut log, "popups started");
        let mut watch = machine.program(&user, &["watch", "--json"]);
        let mut watch = watch.stdout(Stdio::piped()).spawn().unwrap();
        let said = BufReader::new(watch.stdout.take().unwrap());
        let args = ["run", "--ui", "none", "--hold", time, "--name", "web"];
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
        self.begins_to_reach(host);
        self.has_reached()
    }

    /// Makes the workload begin to fetch a page.
    pub(crate) fn begins_to_reach(&mut self, host: &str) {
        self.shell.begins(&fetch(host));
    }

    /// Returns `true` if the page of [`Scene::begins_to_reach`] arrived.
    pub(crate) fn has_reached(&mut self) -> bool {
        let (status, said) = self.shell.ends();
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
