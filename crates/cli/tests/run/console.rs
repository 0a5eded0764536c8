// SPDX-License-Identifier: Apache-2.0
//! A person at a terminal with a shell.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::process::{Child, Command};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use test_support::pseudo_terminal::PseudoTerminal;

use super::machine::Machine;
use super::user::User;

/// A shell with job control at a separate terminal.
pub(crate) struct Terminal {
    pub(crate) master: File,
    pub(crate) shell: Child,
    /// Output that no wait has consumed yet.
    shown: String,
}

/// The size of the terminal.
pub(crate) const ROWS: u16 = 30;
pub(crate) const COLUMNS: u16 = 200;

const SHELL: [&str; 5] = ["setsid", "--ctty", "--wait", "bash", "--norc"];

/// Ctrl-G and Ctrl-Z.
pub(crate) const HOTKEY: &str = "\x07";
pub(crate) const SUSPEND: &str = "\x1a";

impl Terminal {
    pub(crate) fn new(user: &User) -> Self {
        let [setsid, arguments @ ..] = SHELL;
        let mut command = user.command(setsid);
        command.args(arguments);
        Self::with(user, command)
    }

    pub(crate) fn on(machine: &Machine, user: &User) -> Self {
        Self::with(user, machine.command(user, &SHELL))
    }

    /// Starts a command at a terminal.
    pub(crate) fn start(mut command: Command, terminal: PseudoTerminal) -> Self {
        let shell = command
            .stdin(terminal.stdio())
            .stdout(terminal.stdio())
            .stderr(terminal.stdio())
            .spawn()
            .unwrap();
        drop(command);
        Self {
            master: terminal.into_master(),
            shell,
            shown: String::new(),
        }
    }

    fn with(user: &User, command: Command) -> Self {
        let mut terminal = Self::start(command, PseudoTerminal::open(ROWS, COLUMNS));
        // Typed text is echoed, so the awaited text is written differently in the command.
        terminal.enter(&format!(
            "export TERM=xterm; PS1='OU''T> '; run() {{ {} run \"$@\"; }}",
            user.program().display()
        ));
        terminal.enter("stty -g > before; echo re\"\"ady");
        terminal.until("ready\r\nOUT> ");
        terminal
    }

    /// Closes the terminal.
    pub(crate) fn close(&mut self) {
        let nothing = File::open("/dev/null").unwrap();
        drop(std::mem::replace(&mut self.master, nothing));
    }

    /// Presses keys at once.
    pub(crate) fn press(&mut self, keys: &str) {
        self.master.write_all(keys.as_bytes()).unwrap();
    }

    /// Types a line after clearing the present line.
    pub(crate) fn enter(&mut self, line: &str) {
        self.press("\x15");
        self.press(line);
        self.press("\r");
    }

    /// Waits until `text` is shown, and returns the output up to there.
    pub(crate) fn until(&mut self, text: &str) -> String {
        self.until_all(&[text])
    }

    /// Waits until all texts are shown, in any order, and returns the output up to the last one.
    pub(crate) fn until_all(&mut self, texts: &[&str]) -> String {
        loop {
            let ends = texts.iter().map(|text| {
                let at = self.shown.find(text);
                at.map(|at| at + text.len())
            });
            if let Some(ends) = ends.collect::<Option<Vec<_>>>() {
                let rest = self.shown.split_off(ends.into_iter().max().unwrap());
                return std::mem::replace(&mut self.shown, rest);
            }
            let mut fds = [PollFd::new(&self.master, PollFlags::IN)];
            let limit = Timespec {
                tv_sec: 30,
                tv_nsec: 0,
            };
            let ready = poll(&mut fds, Some(&limit)).unwrap();
            assert_ne!(ready, 0, "waited in vain for {texts:?} in {:?}", self.shown);
            let mut bytes = [0; 4096];
            let read = self.master.read(&mut bytes);
            let count = read.unwrap_or_else(|error| panic!("{error} after {:?}", self.shown));
            assert_ne!(count, 0, "{}", self.shown);
            self.shown += &String::from_utf8_lossy(bytes.get(..count).unwrap());
        }
    }

    /// Waits until the shell is back, and asserts that the terminal is restored.
    pub(crate) fn is_as_before(&mut self) {
        self.until("OUT> ");
        self.enter("stty -g > after; cmp before after && echo as\" \"before");
        self.until("as before\r\nOUT> ");
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        drop(self.shell.kill());
        drop(self.shell.wait());
    }
}

/// The escape sequences that open and close the full screen.
pub(crate) const SCREEN_OPENS: &str = "\x1b[?1049h";
pub(crate) const SCREEN_CLOSES: &str = "\x1b[?1049l";

/// The time that the answer guard requires.
pub(crate) const READING: Duration = Duration::from_millis(700);

/// Returns the painted words, with spaces where the cursor was moved.
pub(crate) fn words(painted: &str) -> String {
    let mut words = String::new();
    for (at, piece) in painted.split("\x1b[").enumerate() {
        match piece.find(|c: char| c.is_ascii_alphabetic()) {
            Some(end) if at > 0 => {
                let (sequence, text) = piece.split_at(end + 1);
                words += if sequence.ends_with('H') { " " } else { "" };
                words += text;
            }
            _ => words += piece,
        }
    }
    words
}

/// Presses a key repeatedly, with pauses, until `text` appears.
pub(crate) fn press_until(terminal: &mut Terminal, key: &str, text: &str, pause: Duration) {
    let (tell, told) = std::sync::mpsc::channel::<()>();
    let mut keys = terminal.master.try_clone().unwrap();
    let key = key.to_owned();
    let presser = std::thread::spawn(move || {
        // A pause between two keys, shortened when the answer arrives.
        while told.recv_timeout(pause) == Err(std::sync::mpsc::RecvTimeoutError::Timeout) {
            keys.write_all(key.as_bytes()).unwrap();
        }
    });
    terminal.until(text);
    drop(tell);
    presser.join().unwrap();
}
