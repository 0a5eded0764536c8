// SPDX-License-Identifier: Apache-2.0
//! `run` at a terminal under a shell: input, output, and answers.

use std::process::Command;

use test_support::pseudo_terminal::resize;

use super::console::{
    HOTKEY, READING, SCREEN_CLOSES, SCREEN_OPENS, SUSPEND, Terminal, press_until, words,
};
use super::machine::{Machine, fetch};
use super::user::as_everybody;

#[test]
fn the_command_has_a_separate_terminal() {
    as_everybody(|user| {
        let mut terminal = Terminal::new(user);
        terminal.enter("tty > outside; run --network none -- sh -c 'tty; stty size; echo en\"\"d'");
        let shown = terminal.until("end\r\n");
        assert!(shown.contains("/dev/pts/0\r\n30 200\r\n"), "{shown}");
        terminal.is_as_before();
        // Streams that are not terminals stay unchanged.
        terminal.enter(
            "run --network none -- sh -c 'test -t 0 && ! test -t 1 && echo pi\"\"ped' | cat",
        );
        terminal.until("piped\r\nOUT> ");
        terminal.enter("echo input | run --network none -- sh -c 'cat; test -t 1 && echo en\"\"d'");
        assert!(terminal.until("end\r\n").contains("input\r\n"));
        terminal.is_as_before();
    });
}

#[test]
fn the_exit_status_is_returned_at_a_terminal() {
    as_everybody(|user| {
        let mut terminal = Terminal::new(user);
        terminal.enter("run --network none -- sh -c 'exit 9'; echo sta\"\"tus=$?");
        terminal.until("status=9\r\n");
        terminal.is_as_before();
    });
}

#[test]
fn ctrl_c_goes_to_the_command() {
    as_everybody(|user| {
        let mut terminal = Terminal::new(user);
        terminal.enter(
            "run --network none -- sh -c 'echo go\"\"ing; exec sleep 100'; echo sta\"\"tus=$?",
        );
        terminal.until("going\r\n");
        terminal.press("\x03");
        terminal.until("status=130\r\n");
        terminal.is_as_before();
    });
}

#[test]
fn ctrl_z_suspends_the_command_and_fg_resumes_it() {
    as_everybody(|user| {
        let mut terminal = Terminal::new(user);
        terminal.enter("run --network none -- sh -c 'echo go\"\"ing; read a; echo ha\"\"ve=$a'");
        terminal.until("going\r\n");
        terminal.press(SUSPEND);
        terminal.until("Stopped");
        terminal.is_as_before();
        terminal.enter("jobs; echo jo\"\"bs");
        assert!(terminal.until("jobs\r\n").contains("Stopped"));
        terminal.enter("fg");
        terminal.until("terok-clearance run");
        terminal.enter("answer");
        terminal.until("have=answer\r\n");
        terminal.is_as_before();
    });
}

#[test]
fn a_change_of_the_window_reaches_the_command() {
    as_everybody(|user| {
        let mut terminal = Terminal::new(user);
        terminal.enter(
            "run --network none -- bash -c 'trap \"stty size; exit\" WINCH; echo go\"\"ing; \
             while :; do read -t 1; done'",
        );
        terminal.until("going\r\n");
        resize(&terminal.master, 41, 77);
        terminal.until("41 77\r\n");
        terminal.is_as_before();
    });
}

#[test]
fn the_terminal_is_restored_after_every_end() {
    as_everybody(|user| {
        for signal in ["TERM", "HUP", "QUIT"] {
            let mut terminal = Terminal::new(user);
            terminal.enter(
                "run --network none -- sh -c 'echo go\"\"ing; exec sleep 100'; echo sta\"\"tus=$?",
            );
            terminal.until("going\r\n");
            let job = job_of(terminal.shell.id());
            let sent = Command::new("kill")
                .args(["-s", signal, &job.to_string()])
                .status();
            assert!(sent.unwrap().success());
            terminal.until("status=1");
            terminal.is_as_before();
        }
    });
}

/// Returns the process of `run` below a shell, possibly through other shells.
fn job_of(pid: u32) -> u32 {
    let name = std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap();
    if name.trim() == "terok-clearance" {
        return pid;
    }
    let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap();
    job_of(children.split_whitespace().next().unwrap().parse().unwrap())
}

#[test]
fn a_question_is_answered_by_the_keys_that_it_lists_and_no_others() {
    as_everybody(|user| {
        let machine = Machine::new(user);
        let mut terminal = Terminal::on(&machine, user);
        std::fs::write(user.path("work/fetch"), fetch("203.0.113.30")).unwrap();
        std::fs::write(user.path("work/other"), fetch("api.example.com")).unwrap();
        for file in ["work/fetch", "work/other"] {
            user.own(&user.path(file));
        }
        terminal.enter("run --hold 0 -- bash --norc");
        terminal.until("Ctrl-G shows the questions");
        terminal.enter("PS1='% '; sh ./fetch; echo sta\"\"tus=$?");
        terminal.until("1 question; Ctrl-G to answer");

        // Keys go to the command until the hotkey is pressed; the hotkey within a burst of keys
        // does not count.
        terminal.enter("a; x; echo li\"\"ne");
        terminal.until("line\r\n");
        terminal.enter(&format!("{HOTKEY} echo bu\"\"rst"));
        let shown = terminal.until("burst\r\n");
        assert!(!shown.contains(SCREEN_OPENS), "{shown:?}");

        terminal.press(HOTKEY);
        let shown = terminal.until("blocked");
        assert!(shown.contains(SCREEN_OPENS), "{shown:?}");
        let painted = words(&shown);
        assert!(painted.contains("203.0.113.30"), "{painted}");
        assert!(
            painted.contains("opens 203.0.113.30 port 80/tcp, for this run"),
            "{painted}"
        );
        // Keys that come too soon, keys in a burst, and keys that are no answers.
        terminal.press("a");
        terminal.press("aaaa");
        terminal.press("\x1b[A");
        terminal.press("y");
        press_until(&mut terminal, "q", SCREEN_CLOSES, READING);
        terminal.enter("sh ./fetch; echo sta\"\"tus=$?");
        let shown = terminal.until("status=");
        assert!(!shown.contains("200 OK"), "{shown}");

        // Another question arrives; each is answered after it was visible for a moment.
        terminal.enter("sh ./other; echo ot\"\"her=$?");
        terminal.until("other=");
        terminal.press(HOTKEY);
        terminal.until("api.example.com");
        press_until(&mut terminal, "a", "ALLOWED", READING);
        press_until(&mut terminal, "x", "DENIED", READING);
        press_until(&mut terminal, "q", SCREEN_CLOSES, READING);
        terminal.enter("sh ./fetch; echo sta\"\"tus=$?");
        let shown = terminal.until("status=");
        assert!(shown.contains("200"), "{shown}");
        terminal.enter("exit");
        let shown = terminal.until("1 allowed, 1 denied, 0 unanswered");
        assert!(!shown.contains("error"), "{shown}");
        terminal.is_as_before();
    });
}

#[test]
fn without_a_usable_terminal_the_hotkey_is_disabled_and_another_command_is_named() {
    as_everybody(|user| {
        let machine = Machine::new(user);
        let mut terminal = Terminal::on(&machine, user);
        // A question waits while the command reads a key.
        let script = "stty -icanon -echo; echo re\"\"ady; dd bs=1 count=1 2>/dev/null | od -An -c";
        let script = format!("{}\n{script}\n", fetch("203.0.113.30"));
        std::fs::write(user.path("work/script"), script).unwrap();
        user.own(&user.path("work/script"));
        for (before, after) in [("TERM=dumb ", ""), ("TERM=unknown ", ""), ("", " | cat")] {
            terminal.enter(&format!("{before}run --hold 0 -- sh ./script{after}"));
            terminal.until("`terok-clearance clearance` in another terminal");
            let shown = terminal.until("ready\r\n");
            assert!(!shown.contains("Ctrl-G"), "{shown:?}");
            terminal.press(HOTKEY);
            let shown = terminal.until("\\a");
            assert!(!shown.contains(SCREEN_OPENS), "{shown:?}");
            terminal.until("0 allowed, 0 denied, 1 unanswered");
            terminal.is_as_before();
        }
    });
}
