// SPDX-License-Identifier: Apache-2.0
//! The terminal is restored after every kind of end and stop.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::fd::{AsFd, OwnedFd};
use std::process::{Command, Stdio};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process, pidfd_open};
use test_support::pseudo_terminal::PseudoTerminal;

use crate::session::{PROGRAM, Session};
use crate::window::Window;

#[test]
fn the_terminal_is_restored_after_a_signal() {
    let session = Session::new();
    let window = Window::open(&session, 80, 24);
    for (name, status) in [("TERM", 143), ("HUP", 129), ("INT", 130)] {
        window.tui("", "");
        window.signal(name);
        window.until_over(status);
    }
}

#[test]
fn it_is_suspended_and_resumed_as_a_job_of_the_shell() {
    let session = Session::served(true);
    session.report(&["one.example"]);
    let window = Window::open(&session, 80, 24);
    window.tui("", "");
    window.until("1 question waits");
    for stop in ["C-z", "TSTP"] {
        if stop == "TSTP" {
            window.signal(stop);
        } else {
            window.press(&[stop]);
        }
        window.until("Stopped");
        window.is_as_before();
        window.line("clear; fg");
        window.until("1 question waits");
    }
    // SIGSTOP cannot be caught: the shell restores the settings, and the screen is painted again on
    // SIGCONT.
    window.signal("STOP");
    window.until("Stopped");
    window.line("clear; fg");
    window.until("1 question waits");
    window.resize(100, 30);
    window.until("r rules  l log  s sandboxes");
    window.press_until("a", "ALLOWED");
    window.press(&["q"]);
    window.until("OUT>");
    window.is_as_before();
}

#[test]
fn a_terminal_that_disappears_ends_it() {
    let session = Session::new();
    let window = Window::open(&session, 80, 24);
    window.tui("", "");
    let pid = Pid::from_raw(window.pid().try_into().unwrap()).unwrap();
    let process = pidfd_open(pid, PidfdFlags::empty()).unwrap();
    drop(window);
    assert!(has_ended(&process), "it still runs");
}

/// Returns `true` if a process ends within half a minute.
fn has_ended(process: impl AsFd) -> bool {
    let mut ended = [PollFd::new(&process, PollFlags::IN)];
    let limit = Timespec {
        tv_sec: 30,
        tv_nsec: 0,
    };
    poll(&mut ended, Some(&limit)).unwrap() == 1
}

/// Reads the painted output up to `text`.
fn until(master: &mut File, text: &str) {
    let (mut shown, mut bytes) = (String::new(), [0; 4096]);
    while !shown.contains(text) {
        let count = master.read(&mut bytes).unwrap();
        assert_ne!(count, 0, "{shown}");
        shown += &String::from_utf8_lossy(&bytes[..count]);
    }
}

#[test]
fn a_stalled_terminal_delays_no_signal() {
    let session = Session::new();
    let PseudoTerminal {
        mut master,
        peer: slave,
    } = PseudoTerminal::open(100, 300);
    let mut child = Command::new(PROGRAM)
        .arg("tui")
        .env("XDG_RUNTIME_DIR", session.runtime())
        .env("TERM", "xterm")
        .stdin(slave.try_clone().unwrap())
        .stdout(slave.try_clone().unwrap())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let pid = Pid::from_child(&child);
    let process = pidfd_open(pid, PidfdFlags::empty()).unwrap();
    until(&mut master, "No hub yet");
    // From here on the terminal is not read. Pages are switched until the terminal's buffer is full
    // and keys have no effect.
    rustix::io::ioctl_fionbio(&master, true).unwrap();
    let mut pages = [b"?", b"q"].iter().cycle();
    let full = |slave: &OwnedFd| {
        let mut ready = [PollFd::new(slave, PollFlags::OUT)];
        let now = Timespec::default();
        poll(&mut ready, Some(&now)).unwrap() == 0
    };
    while !full(&slave) {
        master.write_all(*pages.next().unwrap()).unwrap();
        // The key has been read when the terminal's queue is empty.
        while rustix::io::ioctl_fionread(&slave).unwrap() > 0 {
            std::thread::yield_now();
        }
    }
    // The program does not wait for any of these either.
    master.write_all(&[b'?'; 60]).unwrap();
    kill_process(pid, Signal::TERM).unwrap();
    assert!(has_ended(&process), "it waits for its terminal");
    assert_eq!(child.wait().unwrap().code(), Some(143));
}

/// A terminal that is not a controlling terminal disappears without a signal.
#[test]
fn a_terminal_that_disappears_without_a_signal_ends_it_too() {
    let session = Session::new();
    let PseudoTerminal {
        mut master,
        peer: slave,
    } = PseudoTerminal::open(24, 80);
    let mut child = Command::new("setsid")
        .args(["--wait", PROGRAM, "tui"])
        .env("XDG_RUNTIME_DIR", session.runtime())
        .env("TERM", "xterm")
        .stdin(slave.try_clone().unwrap())
        .stdout(slave.try_clone().unwrap())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    drop(slave);
    until(&mut master, "Waiting for you");
    let process = pidfd_open(Pid::from_child(&child), PidfdFlags::empty()).unwrap();
    drop(master);
    assert!(has_ended(&process), "it still runs");
    assert_eq!(child.wait().unwrap().code(), Some(129));
}

#[test]
fn without_a_terminal_the_error_names_an_alternative() {
    let session = Session::new();
    let run = |command: &mut Command| {
        let run = command
            .env_clear()
            .env("XDG_RUNTIME_DIR", session.runtime())
            .env("TERM", "xterm")
            .stdin(Stdio::null())
            .output()
            .unwrap();
        (run.status.code(), String::from_utf8(run.stderr).unwrap())
    };
    let (status, said) = run(Command::new(PROGRAM).arg("tui"));
    assert_eq!(status, Some(1));
    assert!(
        said.contains("no terminal") && said.contains("terok-clearance clearance"),
        "{said}"
    );
    let (status, said) = run(Command::new(PROGRAM).args(["--json", "tui"]));
    assert_eq!(status, Some(2));
    assert!(said.contains("clearance --json"), "{said}");
}

#[test]
fn a_terminal_that_cannot_paint_is_refused() {
    let session = Session::new();
    let window = Window::open(&session, 80, 24);
    window.line("TERM=dumb $tui; echo sta''tus=$?");
    window.until("status=1");
    window.line("clear; $tui --socket /nonexistent/hub.sock; echo sec''ond=$?");
    let screen = window.until("second=1");
    assert!(screen.contains("clearance hub unavailable"), "{screen}");
    window.is_as_before();
}

/// So `terok clearance` calls the Python stack's program of this name.
#[test]
fn without_arguments_it_opens_on_a_terminal() {
    let session = Session::new();
    let window = Window::open(&session, 80, 24);
    window.line(&format!("{PROGRAM}; echo sta''tus=$?"));
    window.until("Waiting for you");
    window.press(&["q"]);
    window.until("status=0");
    // Nothing can be drawn there.
    window.line(&format!(
        "clear; TERM=dumb {PROGRAM} 2>&1 | head -3; echo do''ne"
    ));
    window.until("done");
}
