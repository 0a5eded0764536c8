// SPDX-License-Identifier: Apache-2.0
//! A machine with a user whose containers are guarded, and what the user sees.

use std::process::{Child, Command, Output, Stdio};

use serde_json::Value;

use super::machine::{Account, Machine, PROGRAM, until};
use super::operator::Operator;
use super::podman::{Podman, fetch};

/// The two ways out.
pub(crate) const WAYS: [&str; 2] = ["dialed", "filtered"];

/// The options with which podman starts a guarded container.
pub(crate) fn guarded(way: &str) -> String {
    format!(
        "--network none --cap-drop NET_RAW,NET_ADMIN --annotation org.terok.clearance.network={way}"
    )
}

/// A machine that is set up.
pub(crate) struct Host {
    pub(crate) machine: Machine,
    pub(crate) account: Account,
}

impl Host {
    /// Boots a machine with an image, and sets a user's account up.
    pub(crate) fn set_up(account: Account) -> Self {
        let machine = Machine::boot();
        Podman::new(&machine, account, "crun");
        let host = Self { machine, account };
        host.clearance("setup --no-notifier");
        host
    }

    /// Returns the user's podman with a runtime that works on this machine.
    pub(crate) fn podman(&self) -> Podman<'_> {
        let runtime = match self.account {
            Account::Operator => "crun",
            // crun needs more capabilities than every root has: `runtimes`.
            Account::Root => "runc",
        };
        Podman {
            machine: &self.machine,
            account: self.account,
            runtime,
        }
    }

    /// Returns the runtimes that work for the user on this machine.
    pub(crate) fn runtimes(&self) -> &'static [&'static str] {
        let may_raise = "prlimit --memlock=unlimited:unlimited true";
        let is_limited = !self.machine.does(self.account, may_raise).status.success();
        if self.account == Account::Root && is_limited {
            // Root's crun raises a limit, which takes CAP_SYS_RESOURCE.
            eprintln!("root may not raise limits here: crun is not tried");
            return &["runc"];
        }
        &["crun", "runc"]
    }

    /// Begins `podman run WORDS`.
    pub(crate) fn begin(&self, words: &str) -> Running {
        Running::begin(self.podman(), words)
    }

    /// Begins a guarded container that fetches a page.
    pub(crate) fn begin_fetch(&self, way: &str, name: &str) -> Running {
        self.begin(&format!(
            "--rm --name {name} {} bb:latest {}",
            guarded(way),
            fetch(name)
        ))
    }

    /// Runs `terok-clearance WORDS`, which succeeds; returns the output.
    pub(crate) fn clearance(&self, words: &str) -> String {
        self.machine
            .done(self.account, &format!("{PROGRAM} {words}"))
    }

    /// Starts an operator who answers.
    pub(crate) fn operator(&self) -> Operator {
        let script = format!("exec {PROGRAM} --json clearance");
        Operator::start(self.machine.command(self.account, &script))
    }

    /// Returns the pending questions, as `list --json` prints them.
    pub(crate) fn questions(&self) -> Vec<Value> {
        let output = self
            .machine
            .does(self.account, &format!("{PROGRAM} --json list"));
        let text = String::from_utf8(output.stdout).unwrap();
        let lines = text.lines().map(|line| serde_json::from_str(line).unwrap());
        lines
            .filter(|line: &Value| line["event"] == "listed")
            .collect()
    }

    /// Waits until so many questions are pending, and returns them.
    pub(crate) fn wait_for_questions(&self, count: usize) -> Vec<Value> {
        let mut questions = Vec::new();
        until(
            || {
                questions = self.questions();
                questions.len() == count
            },
            || format!("{count} questions\n{}", self.messages()),
        );
        questions
    }

    /// Returns the reasons of refused containers.
    pub(crate) fn hook_errors(&self) -> String {
        let directory = self.machine.runtime_directory(self.account);
        let log = format!("{directory}/terok/containers/hook-error.log");
        std::fs::read_to_string(self.machine.path(&log)).unwrap_or_default()
    }

    /// Returns everything that says why something failed.
    pub(crate) fn messages(&self) -> String {
        self.machine.messages()
    }

    /// Returns the pages that the servers were asked for.
    pub(crate) fn pages(&self) -> Vec<String> {
        let pages = self.machine.events_of("http");
        let pages = pages.iter().map(|page| page.rsplit('/').next().unwrap());
        pages.map(str::to_owned).collect()
    }

    /// Returns the units of supervisors that systemd knows.
    pub(crate) fn supervisor_units(&self) -> String {
        self.systemctl("list-units --all --plain --no-legend 'clearance-supervisor@*'")
    }

    /// Runs `systemctl WORDS` with the user's manager.
    pub(crate) fn systemctl(&self, words: &str) -> String {
        let manager = match self.account {
            Account::Operator => "--user",
            Account::Root => "--system",
        };
        self.machine
            .done(self.account, &format!("systemctl {manager} {words}"))
    }

    /// Returns the process id of the only supervisor.
    pub(crate) fn supervisor_pid(&self) -> Option<u32> {
        let shown = self.systemctl("show --property MainPID --value 'clearance-supervisor@*'");
        let pid = shown.trim().parse().ok()?;
        (pid != 0).then_some(pid)
    }
}

/// A `podman run` that has begun.
pub(crate) struct Running(Child);

impl Running {
    /// Begins `podman run WORDS`.
    pub(crate) fn begin(podman: Podman<'_>, words: &str) -> Self {
        Self::of(&mut podman.command(&format!("run {words}")))
    }

    /// Begins this command.
    pub(crate) fn of(command: &mut Command) -> Self {
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        Self(command.spawn().unwrap())
    }

    /// Waits for the end.
    pub(crate) fn ends(self) -> Output {
        self.0.wait_with_output().unwrap()
    }

    /// Returns `true` if the command still runs.
    pub(crate) fn runs(&mut self) -> bool {
        self.0.try_wait().unwrap().is_none()
    }
}
