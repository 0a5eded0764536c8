// SPDX-License-Identifier: Apache-2.0
//! The demo at a terminal: questions, Ctrl-C and Ctrl-D.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::process::{Child, Command, ExitStatus};
use std::sync::mpsc;
use std::time::Duration;

use test_support::pseudo_terminal::PseudoTerminal;

use crate::demo::{Demo, User};

/// A terminal of 80 columns that runs a demo.
struct Terminal {
    master: File,
    child: Child,
    text: String,
    read: usize,
}

impl Terminal {
    fn start(demo: &Demo, environment: &[(&str, &str)]) -> Self {
        Self::with(demo, &["demo"], environment)
    }

    fn with(demo: &Demo, arguments: &[&str], environment: &[(&str, &str)]) -> Self {
        let terminal = PseudoTerminal::open(50, 80);
        let program = demo.command(User::Me, arguments);
        let child = Command::new("setsid")
            .args(["--ctty", "--wait"])
            .arg(program.get_program())
            .args(program.get_args())
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("TERM", "xterm")
            .env("DBUS_SESSION_BUS_ADDRESS", "disabled:")
            .envs(environment.iter().copied())
            .stdin(terminal.stdio())
            .stdout(terminal.stdio())
            .stderr(terminal.stdio())
            .spawn()
            .unwrap();
        Self {
            master: terminal.into_master(),
            child,
            text: String::new(),
            read: 0,
        }
    }

    /// Waits until `text` appears after the text of the previous wait.
    fn until(&mut self, text: &str) {
        loop {
            let rest = &self.text[self.read..];
            if let Some(at) = rest.find(text) {
                self.read += at + text.len();
                return;
            }
            assert!(self.more(), "no {text:?} in:\n{}", self.text);
        }
    }

    /// Reads more output. Returns `false` when all programs have closed the terminal.
    fn more(&mut self) -> bool {
        let mut piece = [0; 4096];
        match self.master.read(&mut piece) {
            Ok(0) | Err(_) => false,
            Ok(read) => {
                self.text += &String::from_utf8_lossy(&piece[..read]);
                true
            }
        }
    }

    fn press(&mut self, keys: &str) {
        self.master.write_all(keys.as_bytes()).unwrap();
    }

    /// Waits until all programs have closed the terminal, which means that no process is left.
    fn end(mut self) -> (ExitStatus, String) {
        while self.more() {}
        (self.child.wait().unwrap(), self.text)
    }
}

const PROMPT: &str = "allow or deny? [a/d] ";

#[test]
fn questions_are_answered_at_the_terminal() {
    let demo = Demo::new();
    let mut terminal = Terminal::start(&demo, &[]);
    for keys in ["a\n", "d\n", "a\n", "what?\n"] {
        terminal.until(PROMPT);
        terminal.press(keys);
    }
    terminal.until("type a to allow, d to deny");
    for keys in ["deny\n", "allow\n"] {
        terminal.until(PROMPT);
        terminal.press(keys);
    }
    let (status, text) = terminal.end();
    assert_eq!(status.code(), Some(0), "{text}");
    assert!(text.contains("The firewall held"), "{text}");
    assert!(
        text.contains("5 questions: 3 allowed, 2 denied, 0 not answered"),
        "{text}"
    );
    assert!(text.contains("\x1b[32m"), "coloured on a terminal: {text}");
}

#[test]
fn it_is_not_coloured_where_no_color_is_set() {
    let demo = Demo::new();
    let mut terminal = Terminal::start(&demo, &[("NO_COLOR", "1")]);
    terminal.until(PROMPT);
    terminal.press("q\n");
    let (status, text) = terminal.end();
    assert_eq!(status.code(), Some(1), "{text}");
    assert!(!text.contains('\x1b'), "{text:?}");
}

#[test]
fn ctrl_c_ends_it_and_opens_nothing() {
    let demo = Demo::new();
    let mut terminal = Terminal::start(&demo, &[]);
    terminal.until(PROMPT);
    terminal.press("\x03");
    let (status, text) = terminal.end();
    assert_eq!(status.code(), Some(130), "{text}");
    assert!(text.contains("0 passed"), "{text}");
}

#[test]
fn ctrl_d_leaves_questions_unanswered() {
    let demo = Demo::new();
    let mut terminal = Terminal::start(&demo, &[]);
    terminal.until(PROMPT);
    terminal.press("\x04");
    let (status, text) = terminal.end();
    assert_eq!(status.code(), Some(1), "{text}");
    assert!(
        text.contains("5 questions: 0 allowed, 0 denied, 5 not answered"),
        "{text}"
    );
    assert_eq!(text.matches(PROMPT).count(), 1, "asked once: {text}");
}

/// Presses an answering key until `text` appears, with a pause if the key came too soon.
fn answer(terminal: &mut Terminal, key: &str, text: &str) {
    let (tell, told) = mpsc::channel::<()>();
    let mut keys = terminal.master.try_clone().unwrap();
    let key = key.to_owned();
    let presser = std::thread::spawn(move || {
        // The time that the answer guard requires, shortened when the answer arrives.
        let pause = Duration::from_millis(700);
        while told.recv_timeout(pause) == Err(mpsc::RecvTimeoutError::Timeout) {
            keys.write_all(key.as_bytes()).unwrap();
        }
    });
    terminal.until(text);
    drop(tell);
    presser.join().unwrap();
}

#[test]
fn questions_are_answered_on_the_full_screen() {
    let demo = Demo::new();
    let mut terminal = Terminal::with(&demo, &["demo", "--ui", "tui"], &[]);
    for (key, result) in [("a", "passed"), ("x", "refused"), ("a", "passed")] {
        terminal.until("\x1b[?1049h");
        answer(&mut terminal, key, "\x1b[?1049l");
        terminal.until(result);
    }
    // After leaving the screen, the operator is not asked again and answers nothing.
    terminal.until("\x1b[?1049h");
    terminal.until("opens");
    terminal.press("q");
    let (status, text) = terminal.end();
    assert_eq!(status.code(), Some(1), "{text}");
    let counts = "5 questions: 2 allowed, 1 denied, 2 not answered";
    assert!(text.contains(counts), "{text}");
    assert_eq!(text.matches("\x1b[?1049h").count(), 4, "{text:?}");
    assert_eq!(text.matches("\x1b[?1049l").count(), 4, "{text:?}");
}

#[test]
fn ctrl_c_on_the_whole_screen_ends_it_and_opens_nothing() {
    let demo = Demo::new();
    let mut terminal = Terminal::with(&demo, &["demo", "--ui", "tui"], &[]);
    terminal.until("\x1b[?1049h");
    terminal.until("opens");
    terminal.press("\x03");
    let (status, text) = terminal.end();
    assert_eq!(status.code(), Some(130), "{text}");
    assert!(text.contains("0 passed"), "{text}");
    assert!(text.contains("\x1b[?1049l"), "{text:?}");
}
