// SPDX-License-Identifier: Apache-2.0
//! The line prompt on a terminal: broken between words, and the typed line is left alone.

use std::process::Command;

use tempfile::TempDir;
use test_support::directory::private_directory;

use super::harness::UserSession;

/// A terminal with a shell, shown by tmux.
struct Terminal<'a> {
    session: &'a UserSession,
    directory: TempDir,
}

impl<'a> Terminal<'a> {
    /// Opens a terminal of this width, with the program's directories in its environment.
    fn open(session: &'a UserSession, columns: u16) -> Self {
        let terminal = Self {
            session,
            directory: private_directory(),
        };
        let (width, shell) = (columns.to_string(), "exec bash --norc --noprofile");
        terminal.tmux(&[
            "-f",
            "/dev/null",
            "new-session",
            "-d",
            "-x",
            &width,
            "-y",
            "50",
            shell,
        ]);
        terminal.type_keys(&["PS1='ready$ '", "Enter"]);
        terminal.until("\nready$");
        terminal
    }

    fn tmux(&self, args: &[&str]) -> String {
        let mut tmux = Command::new("tmux");
        tmux.arg("-S")
            .arg(self.directory.path().join("tmux"))
            .args(args);
        tmux.env_clear()
            .env("PATH", "/usr/bin:/bin")
            .env("TERM", "xterm-256color")
            .env("LANG", "C.UTF-8")
            .env("XDG_RUNTIME_DIR", self.session.path(""))
            .env("HOME", self.session.path(""));
        let output = tmux.output().unwrap();
        assert!(output.status.success(), "{args:?}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    fn type_keys(&self, keys: &[&str]) {
        self.tmux(&[&["send-keys"], keys].concat());
    }

    fn start_prompt(&self) {
        let program = env!("CARGO_BIN_EXE_terok-clearance");
        self.type_keys(&["clear; ", program, " clearance", "Enter"]);
    }

    fn screen(&self) -> String {
        self.tmux(&["capture-pane", "-p"]).trim_end().to_owned()
    }

    /// Waits until the screen contains the text.
    fn until(&self, text: &str) -> String {
        loop {
            let screen = self.screen();
            if screen.contains(text) {
                return screen;
            }
        }
    }

    fn last_line(&self) -> String {
        let screen = self.screen();
        screen.lines().last().unwrap_or_default().to_owned()
    }
}

impl Drop for Terminal<'_> {
    fn drop(&mut self) {
        self.tmux(&["kill-server"]);
    }
}

#[test]
fn lines_break_between_words_at_every_width() {
    let session = UserSession::new();
    let _web = session.sandbox("web", &["registry.example", "two.example"]);
    let piped = session.run(&["clearance"]).stdout;
    // Times and counts change.
    let is_stable = |word: &&str| !word.bytes().any(|byte| byte.is_ascii_digit());
    let words = |text: &str| {
        let words = text.split_whitespace().filter(is_stable).map(str::to_owned);
        words.collect::<Vec<_>>()
    };
    let expected = words(&piped);
    for columns in [40, 61, 80, 133] {
        let terminal = Terminal::open(&session, columns);
        terminal.start_prompt();
        terminal.until("2 questions)");
        let screen = terminal.until("\n>");
        let shown = words(screen.trim_end_matches('>'));
        let runtime = session.path("").display().to_string();
        let keep = |words: &[String]| {
            // The path of the runtime directory may be longer than the line.
            let words = words
                .iter()
                .filter(|word| !runtime.contains(word.trim_end_matches(':')));
            words.cloned().collect::<Vec<_>>()
        };
        assert_eq!(keep(&shown), keep(&expected), "{columns}: {screen}");
    }
}

#[test]
fn a_message_leaves_the_typed_line_as_it_is() {
    let session = UserSession::new();
    let _web = session.sandbox("web", &["one.example"]);
    let terminal = Terminal::open(&session, 80);
    terminal.start_prompt();
    terminal.until("(1 hub, 1 question)");
    terminal.type_keys(&["-l", "d 17"]);
    terminal.until("\n> d 17");
    let _other = session.sandbox("other", &["two.example"]);
    let _third = session.sandbox("third", &["three.example"]);
    let screen = terminal.until("three.example");
    for line in screen.lines() {
        assert!(!line.contains("d 17") || line == "> d 17", "{screen}");
    }
    terminal.until("\n> d 17");
    assert_eq!(terminal.last_line(), "> d 17");
    // The line can be edited, and is executed as it is shown.
    terminal.type_keys(&["BSpace", "Enter"]);
    terminal.until("DENIED");
    let screen = terminal.until("\n> d 1\n");
    assert!(
        screen.contains("[1] DENIED   one.example port 443/tcp, for this run"),
        "{screen}"
    );
    terminal.type_keys(&["-l", "nonsense"]);
    terminal.type_keys(&["C-u", "q", "Enter"]);
    // The shell shows what is typed again.
    terminal.until("\nready$");
    terminal.type_keys(&["-l", "echo a''b"]);
    terminal.until("ready$ echo a''b");
}

#[test]
fn the_terminal_is_as_before_after_every_end() {
    let session = UserSession::new();
    let terminal = Terminal::open(&session, 80);
    for keys in [&["C-c"][..], &["C-d"], &["q", "Enter"], &["x", "C-c"]] {
        terminal.start_prompt();
        terminal.until("waiting for one, no questions)");
        terminal.until("\n>");
        terminal.type_keys(keys);
        terminal.until("\nready$");
        terminal.type_keys(&["clear; stty | grep -c -e '-echo' -e '-icanon'", "Enter"]);
        terminal.until("0\nready$");
    }
    // Stopped and continued.
    terminal.start_prompt();
    terminal.until("\n>");
    terminal.type_keys(&["C-z"]);
    terminal.until("Stopped");
    terminal.type_keys(&["clear; stty | grep -c -e '-echo' -e '-icanon'", "Enter"]);
    terminal.until("0\nready$");
    terminal.type_keys(&["fg", "Enter"]);
    terminal.until("clearance");
    terminal.type_keys(&["-l", "h"]);
    terminal.until("> h");
    terminal.type_keys(&["Enter"]);
    terminal.until("q               quit");
}
