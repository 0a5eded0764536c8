// SPDX-License-Identifier: Apache-2.0
//! `run --ui tui`: the full screen over a waiting command, and the return to the command.

use super::console::{HOTKEY, READING, SUSPEND, Terminal, press_until, words};
use super::machine::{Machine, fetch};
use super::user::{User, as_everybody};

/// Returns a shell in a sandbox, at a terminal, with a script that fetches from a host without
/// permission.
fn sandboxed(machine: &Machine, user: &User) -> Terminal {
    user.add_file("work/fetch", &fetch("203.0.113.30"));
    sandboxed_with(machine, user, "--hold 0")
}

/// Returns a shell in a sandbox with these options, at a terminal.
fn sandboxed_with(machine: &Machine, user: &User, options: &str) -> Terminal {
    let mut terminal = Terminal::on(machine, user);
    terminal.enter(&format!("run --ui tui {options} -- bash --norc"));
    terminal.until("Ctrl-G shows the questions");
    // With bracketed paste, like most shells.
    terminal.enter("PS1='I''N> '; bind 'set enable-bracketed-paste on'");
    terminal.until("IN> ");
    terminal
}

#[test]
fn a_question_is_answered_on_the_whole_screen_and_the_command_goes_on() {
    as_everybody(|user| {
        let machine = Machine::new(user);
        let mut terminal = sandboxed(&machine, user);
        terminal.enter("sh ./fetch; echo sta\"\"tus=$?");
        terminal.until("1 question; Ctrl-G to answer");
        // A key that would be an answer on the screen goes to the command.
        terminal.enter("a; x; echo li\"\"ne");
        terminal.until("line\r\n");
        terminal.until("IN> ");

        terminal.press(HOTKEY);
        let shown = terminal.until("blocked");
        assert!(shown.contains("\x1b[?1049h"), "{shown:?}");
        let words = words(&shown);
        assert!(words.contains("opens 203.0.113.30 port 80/tcp"), "{words}");
        press_until(&mut terminal, "a", "ALLOWED", READING);
        terminal.press("q");
        let shown = terminal.until("\x1b[?1049l");
        assert!(!shown.contains("IN> "), "the command waits: {shown:?}");
        // The command's terminal modes are restored.
        terminal.until("\x1b[?2004h");
        terminal.enter("sh ./fetch; echo sta\"\"tus=$?");
        let shown = terminal.until("status=");
        assert!(shown.contains("200 OK"), "{shown:?}");
        terminal.enter("exit");
        terminal.until("1 allowed, 0 denied, 0 unanswered");
        terminal.is_as_before();
    });
}

#[test]
fn a_connection_waits_while_the_question_is_read_on_the_screen() {
    as_everybody(|user| {
        let machine = Machine::new(user);
        let patient = fetch("203.0.113.30").replace(", Timeout => 5", "");
        user.add_file("work/fetch", &patient);
        let mut terminal = sandboxed_with(&machine, user, "");
        terminal.enter("sh ./fetch; echo sta\"\"tus=$?");
        terminal.until("1 question; Ctrl-G to answer");
        terminal.press(HOTKEY);
        let words = words(&terminal.until("blocked"));
        assert!(words.contains("203.0.113.30"), "{words}");
        press_until(&mut terminal, "a", "ALLOWED", READING);
        terminal.press("q");
        let shown = terminal.until("status=0");
        assert!(shown.contains("200 OK"), "{shown:?}");
        terminal.enter("exit");
        terminal.until("1 allowed, 0 denied, 0 unanswered");
        terminal.is_as_before();
    });
}

#[test]
fn leaving_the_screen_answers_nothing() {
    as_everybody(|user| {
        let machine = Machine::new(user);
        let mut terminal = sandboxed(&machine, user);
        for leave in ["q", "\x03"] {
            terminal.enter("sh ./fetch; echo sta\"\"tus=$?");
            let shown = terminal.until("status=");
            assert!(!shown.contains("200 OK"), "{shown:?}");
            terminal.until("IN> ");
            terminal.press(HOTKEY);
            terminal.until("203.0.113.30");
            terminal.press(leave);
            terminal.until("\x1b[?1049l");
        }
        terminal.enter("exit");
        terminal.until("0 allowed, 0 denied, 1 unanswered");
        terminal.is_as_before();
    });
}

#[test]
fn ctrl_z_on_the_screen_leads_to_the_shell_and_fg_back_to_the_screen() {
    as_everybody(|user| {
        let machine = Machine::new(user);
        let mut terminal = sandboxed(&machine, user);
        terminal.press(HOTKEY);
        terminal.until("refused to a sandbox appears here");
        terminal.press(SUSPEND);
        terminal.until("\x1b[?1049l");
        terminal.until("Stopped");
        terminal.is_as_before();
        terminal.enter("fg");
        terminal.until("refused to a sandbox appears here");
        terminal.press("q");
        terminal.until("\x1b[?1049l");
        terminal.enter("echo go\"\"es on");
        terminal.until("goes on\r\n");
        terminal.enter("exit");
        terminal.is_as_before();
    });
}

#[test]
fn the_terminal_is_restored_when_the_command_ends_behind_the_screen() {
    as_everybody(|user| {
        let machine = Machine::new(user);
        let mut terminal = sandboxed(&machine, user);
        // The command ends after the screen was opened: the test holds the other end of its pipe.
        let fifo = user.path("work/fifo");
        let made = std::process::Command::new("mkfifo").arg(&fifo).status();
        assert!(made.unwrap().success());
        user.own(&fifo);
        terminal.enter("exec cat fifo");
        terminal.until("cat fifo\r\n");
        terminal.press(HOTKEY);
        terminal.until("refused to a sandbox appears here");
        std::fs::write(&fifo, "its last words\n").unwrap();
        terminal.until("\x1b[?1049l");
        terminal.until("its last words\r\n");
        terminal.is_as_before();
    });
}

#[test]
fn without_a_terminal_the_screen_is_refused() {
    as_everybody(|user| {
        let refused = user.run(&["--ui", "tui", "--network", "none", "--", "true"]);
        let refused = { refused }.output().unwrap();
        assert_eq!(refused.status.code(), Some(125));
        let said = String::from_utf8(refused.stderr).unwrap();
        assert!(said.contains("no terminal"), "{said}");
    });
}
