// SPDX-License-Identifier: Apache-2.0
//! `--ui` of `demo` and `run`: popups if requested or if a desktop exists.

use std::io::{BufRead as _, BufReader};
use std::os::unix::net::UnixListener;
use std::process::{Child, ChildStdout, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use crate::console::{HOTKEY, READING, Terminal, press_until};
use crate::machine::{Machine, fetch};
use crate::picture::Picture;
use crate::scene::API;
use crate::screen::{Desktop, Service};
use crate::user::{Shell, User};

const PROGRAM: &str = env!("CARGO_BIN_EXE_terok-clearance");

/// A demo whose questions are shown on a desktop.
struct Demo {
    child: Child,
    said: BufReader<ChildStdout>,
}

impl Demo {
    fn start(kind: Service, desktop: &Desktop, arguments: &[&str]) -> Self {
        // notification-daemon does not remove a popup without an expiry, such as the result of a
        // verdict.
        let kinds = if matches!(kind, Service::Gnome2) {
            "blocked verdict"
        } else {
            "blocked"
        };
        let mut command = desktop.on_it(PROGRAM);
        let command = command.args(["--json", "demo"]).args(arguments);
        let mut child = command
            .env("TEROK_CLEARANCE_NOTIFY_EVENTS", kinds)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let said = BufReader::new(child.stdout.take().unwrap());
        Self { child, said }
    }

    /// Reads until one of these steps.
    fn until(&mut self, names: &[&str]) -> Value {
        loop {
            let mut line = String::new();
            self.said.read_line(&mut line).unwrap();
            assert_ne!(line, "", "the demo ended before {names:?}");
            let step: Value = serde_json::from_str(&line).unwrap();
            if names.iter().any(|name| step["step"] == *name) {
                return step;
            }
        }
    }
}

/// Clicks each button as the answer to a real packet. Checks the rule, and whether the program's
/// waiting connection passes.
fn demo_asks(kind: Service, arguments: &[&str]) {
    let desktop = Desktop::new(kind);
    let mut demo = Demo::start(kind, &desktop, arguments);
    for (button, action, end) in [(0, "allow", "passed"), (1, "deny", "refused")] {
        demo.until(&["question"]);
        desktop.read_and_click(button);
        let answer = demo.until(&["answer"]);
        assert_eq!(
            (&answer["answer"], &answer["by"]),
            (&json!(action), &json!("desktop"))
        );
        assert_eq!(demo.until(&["rule"])["action"], action);
        assert_eq!(demo.until(&["passed", "refused"])["step"], end);
    }
    demo.until(&["question"]);
    desktop.popup();
    kill_process(Pid::from_child(&demo.child), Signal::INT).unwrap();
    let summary = demo.until(&["summary"]);
    let counts = ["allowed", "denied", "passed", "problems"].map(|name| &summary[name]);
    assert_eq!(counts, [&json!(1), &json!(1), &json!(1), &json!([])]);
    assert_eq!(demo.child.wait().unwrap().code(), Some(130));
}

#[test]
fn the_demo_asks_on_mates_popups() {
    demo_asks(Service::Mate, &["--ui", "desktop"]);
}

#[test]
fn the_demo_asks_on_xfces_popups_by_default() {
    demo_asks(Service::Xfce, &[]);
}

#[test]
fn the_demo_asks_on_the_popups_of_notification_daemon() {
    demo_asks(Service::Gnome2, &["--ui", "desktop"]);
}

#[test]
fn without_a_desktop_popups_are_refused_with_a_remedy() {
    let user = User::new(None);
    for (command, status) in [("demo", 69), ("run", 125)] {
        let mut refused = user.command(PROGRAM);
        refused.args([command, "--ui", "desktop"]);
        if command == "run" {
            // Without a network, no question is asked.
            let machine = Machine::new(&user);
            let args = ["run", "--ui", "desktop", "true"];
            refused = machine.program(&user, &args);
            let refused = refused.output().unwrap();
            assert_eq!(refused.status.code(), Some(status), "{refused:?}");
            continue;
        }
        let refused = refused.output().unwrap();
        assert_eq!(refused.status.code(), Some(status), "{refused:?}");
        let said = String::from_utf8(refused.stderr).unwrap();
        assert!(
            said.contains("session bus") && said.contains("hint"),
            "{said}"
        );
    }
}

/// Starts a shell in a sandbox of `run`, on this machine and desktop.
fn run(machine: &Machine, user: &User, desktop: &Desktop, ui: &str) -> Shell {
    let bus = format!("DBUS_SESSION_BUS_ADDRESS={}", desktop.bus());
    let program = user.program();
    let args = [
        "env",
        &bus,
        program.to_str().unwrap(),
        "run",
        "--ui",
        ui,
        "--hold",
        "0",
        "sh",
    ];
    Shell::start(machine.command(user, &args))
}

fn reaches(shell: &mut Shell, host: &str) -> bool {
    let (status, said) = shell.does(&fetch(host));
    assert_eq!(status == 0, said.contains("200 OK"), "{said}");
    status == 0
}

#[test]
fn run_asks_on_popups_of_its_own() {
    for ui in ["desktop", "auto"] {
        let user = User::new(None);
        let machine = Machine::new(&user);
        let desktop = Desktop::new(Service::Mate);
        let mut shell = run(&machine, &user, &desktop, ui);
        assert!(!reaches(&mut shell, API), "not allowed yet");
        assert_eq!(desktop.popup().popups(), 1);
        desktop.read_and_click(0);
        // The result is a popup without buttons, shown after the kernel has the element.
        desktop.until(|picture| picture.popups() == 1 && picture.buttons().len() < 2);
        assert!(reaches(&mut shell, API), "it was allowed");
        drop(shell);
    }
}

/// Without an explicit `--ui`, the operator may work over a remote connection and not see the
/// desktop. The terminal therefore announces the question too and accepts the answer; the popup
/// then disappears.
#[test]
fn run_also_asks_at_the_terminal_if_the_desktop_was_not_requested() {
    let user = User::new(None);
    let machine = Machine::new(&user);
    let desktop = Desktop::new(Service::Mate);
    std::fs::write(user.path("work/fetch"), fetch(API)).unwrap();
    let mut terminal = Terminal::on(&machine, &user);
    terminal.enter(&format!(
        "export DBUS_SESSION_BUS_ADDRESS={}",
        desktop.bus()
    ));
    terminal.enter("run -- bash --norc");
    terminal.until("popups ask; Ctrl-G shows the questions here too");
    terminal.enter("PS1='I''N> '; sh ./fetch; echo sta\"\"tus=$?");
    terminal.until("1 question; Ctrl-G to answer");
    assert_eq!(desktop.popup().popups(), 1);
    terminal.press(HOTKEY);
    terminal.until("blocked");
    press_until(&mut terminal, "x", "DENIED", READING);
    desktop.until(|picture| picture.buttons().len() < 2);
}

/// No question is asked twice: if the notifier runs, `run` shows no popups.
#[test]
fn run_shows_no_popups_while_a_notifier_runs() {
    let user = User::new(None);
    let machine = Machine::new(&user);
    let desktop = Desktop::new(Service::Mate);
    let mut notifier: Command = user.command(user.program());
    let notifier = notifier
        .arg("notifier")
        .env("DBUS_SESSION_BUS_ADDRESS", desktop.bus())
        .stderr(Stdio::piped());
    let mut notifier = notifier.spawn().unwrap();
    let mut log = BufReader::new(notifier.stderr.take().unwrap());
    let mut line = String::new();
    while !line.contains("popups started") {
        line.clear();
        assert_ne!(log.read_line(&mut line).unwrap(), 0, "it ended");
    }
    let mut shell = run(&machine, &user, &desktop, "desktop");
    assert!(!reaches(&mut shell, API), "not allowed yet");
    assert_eq!(desktop.popup().popups(), 1);
    notifier.kill().unwrap();
    notifier.wait().unwrap();
    // The only popup was the notifier's, so a click has no effect after the notifier ended.
    desktop.read_and_click(0);
    desktop.until(Picture::is_empty);
    assert!(
        !reaches(&mut shell, API),
        "no effect after the end of the notifier"
    );
}

/// A bus that accepts connections but never replies counts as no desktop, and does not prevent the
/// start.
#[test]
fn a_bus_that_hangs_leaves_the_prompt() {
    let user = User::new(None);
    let machine = Machine::new(&user);
    let path = user.path("runtime/bus");
    let _nobody_accepts = UnixListener::bind(&path).unwrap();
    user.own(&path);
    let args = ["run", "--ui", "auto", "echo", "started"];
    let run = { machine.program(&user, &args) }.output().unwrap();
    assert!(run.status.success(), "{run:?}");
    assert_eq!(run.stdout, b"started\n");
}
