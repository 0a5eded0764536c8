// SPDX-License-Identifier: Apache-2.0
//! A window of tmux with a shell. Tests wait for text on the screen.

use std::process::{Command, Output};
use std::sync::atomic::{AtomicU32, Ordering};

use crate::session::{PROGRAM, Session};

/// A window in a private tmux server that ends with the value.
pub(crate) struct Window {
    socket: String,
}

/// Maximum number of looks at the screen before a test fails. Each look starts a process.
const LOOKS: usize = 4000;

impl Window {
    /// Opens a window with a shell.
    pub(crate) fn open(session: &Session, width: u16, height: u16) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let next = NEXT.fetch_add(1, Ordering::Relaxed);
        let socket = session.path(&format!("tmux{next}"));
        let window = Self {
            socket: socket.to_str().unwrap().to_owned(),
        };
        let (width, height) = (width.to_string(), height.to_string());
        // tmux takes the locale of the outer terminal from the server's environment.
        window.tmux(&[
            "-f",
            "/dev/null",
            "-u",
            "new-session",
            "-d",
            "-x",
            &width,
            "-y",
            &height,
            "-e",
            &format!("XDG_RUNTIME_DIR={}", session.runtime().display()),
            "-e",
            &format!("HOME={}", session.runtime().display()),
            "-e",
            "LC_ALL=C.UTF-8",
            "-e",
            "TZ=UTC",
            "-e",
            "TERM=screen-256color",
            "-e",
            &format!("tui={PROGRAM} tui"),
            "exec bash --norc --noprofile",
        ]);
        window.line("cd; PS1='OU''T> '; PROMPT_COMMAND=; stty -g >before; clear; echo re''ady");
        window.until("ready\nOUT>");
        window
    }

    fn tmux(&self, args: &[&str]) -> Output {
        let run = Command::new("tmux")
            .args(["-S", &self.socket])
            .args(args)
            .env("LC_ALL", "C.UTF-8")
            .env_remove("TMUX")
            .output()
            .unwrap();
        assert!(
            run.status.success(),
            "tmux {args:?}: {}",
            String::from_utf8_lossy(&run.stderr)
        );
        run
    }

    /// Presses keys, given by tmux's names.
    pub(crate) fn press(&self, keys: &[&str]) {
        self.tmux(&[&["send-keys"], keys].concat());
    }

    /// Types a line into the shell.
    pub(crate) fn line(&self, line: &str) {
        self.tmux(&["send-keys", "-l", line]);
        self.press(&["Enter"]);
    }

    /// Sends bytes as if they came from the terminal.
    pub(crate) fn line_raw(&self, bytes: &str) {
        self.tmux(&["send-keys", "-l", bytes]);
    }

    /// Pastes text with bracketed paste.
    pub(crate) fn paste(&self, text: &str) {
        self.tmux(&["set-buffer", text]);
        self.tmux(&["paste-buffer", "-p"]);
    }

    /// Starts the user interface and waits for its screen.
    pub(crate) fn tui(&self, before: &str, args: &str) {
        self.line(&format!("{before} $tui {args}; echo sta''tus=$?"));
        self.until("Waiting for you");
    }

    pub(crate) fn resize(&self, width: u16, height: u16) {
        let (width, height) = (width.to_string(), height.to_string());
        self.tmux(&["resize-window", "-x", &width, "-y", &height]);
    }

    /// Returns the text of the window without trailing spaces.
    pub(crate) fn screen(&self) -> String {
        String::from_utf8(self.tmux(&["capture-pane", "-p"]).stdout).unwrap()
    }

    /// Waits until the window shows a text, and returns the screen.
    pub(crate) fn until(&self, text: &str) -> String {
        self.until_that(text, |screen| screen.contains(text))
    }

    /// Waits until the window no longer shows a text.
    pub(crate) fn until_not(&self, text: &str) -> String {
        self.until_that(&format!("no {text}"), |screen| !screen.contains(text))
    }

    /// Waits until the screen satisfies `holds`, and returns the screen.
    pub(crate) fn until_that(&self, what: &str, holds: impl Fn(&str) -> bool) -> String {
        let mut screen = String::new();
        for _ in 0..LOOKS {
            screen = self.screen();
            if holds(&screen) {
                return screen;
            }
        }
        panic!("waited in vain for {what:?} in\n{screen}");
    }

    /// Presses an answering key like a person: after a pause to read the question, and again if the
    /// screen reports that the key came too soon.
    pub(crate) fn press_until(&self, key: &str, text: &str) -> String {
        for _ in 0..20 {
            // Clears the message of an earlier key.
            self.press(&["F5"]);
            self.until("? shows the keys");
            std::thread::park_timeout(std::time::Duration::from_millis(600));
            self.press(&[key]);
            let said = |screen: &str| screen.contains(text) || screen.contains("NOT answered");
            let screen = self.until_that(text, said);
            if screen.contains(text) {
                return screen;
            }
        }
        panic!("pressed {key} in vain for {text:?} in\n{}", self.screen());
    }

    /// Returns the process id of the user interface, a child of the shell.
    pub(crate) fn pid(&self) -> u32 {
        let pane = self.tmux(&["display-message", "-p", "#{pane_pid}"]).stdout;
        let shell = String::from_utf8(pane).unwrap().trim().to_owned();
        let children = format!("/proc/{shell}/task/{shell}/children");
        let children = std::fs::read_to_string(children).unwrap();
        children.split_whitespace().next().unwrap().parse().unwrap()
    }

    pub(crate) fn signal(&self, name: &str) {
        let pid = self.pid().to_string();
        let sent = Command::new("kill")
            .args(["-s", name, &pid])
            .status()
            .unwrap();
        assert!(sent.success());
    }

    /// Waits until the shell reports this exit status and the terminal is restored.
    pub(crate) fn until_over(&self, status: u8) {
        let screen = self.until(&format!("status={status}\nOUT>"));
        assert!(!screen.contains("Waiting for you"), "{screen}");
        self.is_as_before();
    }

    /// Asserts that the terminal's settings and modes are unchanged.
    pub(crate) fn is_as_before(&self) {
        self.line("clear; stty -g >after; cmp before after && echo as'' before");
        self.until("as before\nOUT>");
        let modes = "#{alternate_on} #{mouse_any_flag} #{cursor_flag}";
        let modes = self.tmux(&["display-message", "-p", modes]).stdout;
        assert_eq!(String::from_utf8(modes).unwrap().trim(), "0 0 1");
    }
}

impl Drop for Window {
    fn drop(&mut self) {
        let socket = self.socket.as_str();
        drop(
            Command::new("tmux")
                .args(["-S", socket, "kill-server"])
                .output(),
        );
    }
}
