// SPDX-License-Identifier: Apache-2.0
//! The terminal while the UI has it, and how it gets it back: at the end, at a panic, at a stop.

use std::io::{self, IsTerminal as _, Write as _};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use ratatui::backend::CrosstermBackend;
use ratatui::layout::Rect;
use ratatui::{Terminal, TerminalOptions, Viewport};
use rustix::fs::{Mode, OFlags, open};
use rustix::process::{Pid, Signal, getpgid, getpgrp, getppid, getsid, kill_current_process_group};
use rustix::stdio::{stdin, stdout};
use rustix::termios::{
    OptionalActions, Termios, tcgetattr, tcgetpgrp, tcgetwinsize, tcsetattr, ttyname,
};

use crate::writer::TtyWriter;

/// The other screen, presses of the mouse (not its moves), pasted text set off; no cursor.
const ENTER_SEQUENCE: &[u8] = b"\x1b[?1049h\x1b[?2004h\x1b[?25l";
const LEAVE_SEQUENCE: &[u8] = b"\x1b[?2004l\x1b[?1006l\x1b[?1000l\x1b[0m\x1b[?25h\x1b[?1049l";
const ENABLE_MOUSE: &[u8] = b"\x1b[?1000h\x1b[?1006h";
const DISABLE_MOUSE: &[u8] = b"\x1b[?1006l\x1b[?1000l";

/// How long anything may wait for the terminal.
pub(crate) const TTY_WRITE_TIMEOUT: Duration = Duration::from_secs(1);

const CLEAR_SCREEN: &[u8] = b"\x1b[0m\x1b[2J";

/// What the terminal was before we took it; none, it is not taken.
static SAVED_TERMIOS: Mutex<Option<Termios>> = Mutex::new(None);

pub(crate) type TtyBackend = CrosstermBackend<TtyWriter>;

/// A taken terminal; dropping it gives it back.
pub(crate) struct RawTerminal {
    pub(crate) screen: Terminal<TtyBackend>,
    mouse_captured: bool,
    write_timeout: Duration,
}

impl RawTerminal {
    /// Takes the terminal that standard input and output are; a frame may wait for it so long.
    pub(crate) fn enter(patience: Duration) -> io::Result<Self> {
        if !(io::stdin().is_terminal() && io::stdout().is_terminal()) {
            return Err(io::Error::other(
                "standard input and output are no terminal",
            ));
        }
        install_panic_hook();
        let mut taken = Self {
            screen: build_terminal(patience)?,
            write_timeout: patience,
            mouse_captured: true,
        };
        taken.reenter()?;
        Ok(taken)
    }

    /// Takes it, after it was given back or somebody else had it.
    pub(crate) fn reenter(&mut self) -> io::Result<()> {
        let mut found = SAVED_TERMIOS.lock().unwrap_or_else(PoisonError::into_inner);
        let before = match found.take() {
            Some(before) => before,
            None => tcgetattr(stdin())?,
        };
        let mut raw = before.clone();
        raw.make_raw();
        // In the background this stops us, as it does any program, until the shell's `fg`.
        *found = Some(before);
        tcsetattr(stdin(), OptionalActions::Now, &raw)?;
        drop(found);
        write_to_tty(ENTER_SEQUENCE)?;
        self.clear()?;
        self.set_mouse(self.mouse_captured)
    }

    /// Clears the screen, so that all of it is drawn anew, in the size that the window has now.
    pub(crate) fn clear(&mut self) -> io::Result<()> {
        self.screen = build_terminal(self.write_timeout)?;
        Ok(())
    }

    /// Clears the screen when only a part of what was painted has arrived, of the mouse, too.
    pub(crate) fn clear_with_modes(&mut self) -> io::Result<()> {
        self.clear()?;
        self.set_mouse(self.mouse_captured)
    }

    /// Takes the mouse, or leaves it to the terminal.
    pub(crate) fn set_mouse(&mut self, mouse: bool) -> io::Result<()> {
        self.mouse_captured = mouse;
        let words = if mouse { ENABLE_MOUSE } else { DISABLE_MOUSE };
        self.screen.backend_mut().write_all(words)
    }

    /// Gives the terminal back and stops, as Ctrl-Z does, until the shell lets us go on.
    ///
    /// Says false, and does nothing, where there is no shell that would.
    pub(crate) fn suspend(&mut self) -> io::Result<bool> {
        if !has_job_control() {
            return Ok(false);
        }
        restore();
        // SIGTSTP is caught, and would come back to us.
        kill_current_process_group(Signal::STOP)?;
        self.reenter()?;
        Ok(true)
    }
}

/// Opens the terminal behind `fd` once more, for `access`, so that it does not block: that is then
/// true for nobody else who has it open.
pub(crate) fn reopen_tty(fd: impl AsFd, access: OFlags) -> rustix::io::Result<OwnedFd> {
    let flags = access | OFlags::NOCTTY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    ttyname(fd, Vec::new())
        .and_then(|name| open(name.as_c_str(), flags, Mode::empty()))
        .or_else(|_not_ours_by_name| open(c"/dev/tty", flags, Mode::empty()))
}

/// Returns what clears the screen and then paints on it, in the size that it has now.
///
/// ratatui can clear and resize by itself, but asks the terminal for the cursor's place to do so,
/// and waits for an answer that the reader of the keys may get first.
fn build_terminal(patience: Duration) -> io::Result<Terminal<TtyBackend>> {
    let size = tcgetwinsize(stdout())?;
    let mut out = TtyWriter::new(patience)?;
    out.write_all(CLEAR_SCREEN)?;
    let area = Rect::new(0, 0, size.ws_col, size.ws_row);
    let options = TerminalOptions {
        viewport: Viewport::Fixed(area),
    };
    Terminal::with_options(CrosstermBackend::new(out), options)
}

impl Drop for RawTerminal {
    fn drop(&mut self) {
        restore();
    }
}

/// Says whether a shell has us as a job: a parent in our session and not in our group.
fn has_job_control() -> bool {
    let shell = |parent: Pid| -> rustix::io::Result<bool> {
        Ok(getsid(Some(parent))? == getsid(None)? && getpgid(Some(parent))? != getpgrp())
    };
    getppid().is_some_and(|parent| shell(parent).unwrap_or(false))
}

/// Makes the terminal as it was found, if it is taken.
pub(crate) fn restore() {
    let mut found = SAVED_TERMIOS.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(found) = found.take() {
        // There is nobody to tell when the terminal is gone.
        write_to_tty(LEAVE_SEQUENCE).ok();
        let ours = tcgetpgrp(stdin()).map_or(true, |foreground| foreground == getpgrp());
        // From the background, to touch it would stop us, and the shell has seen to it.
        if ours {
            tcsetattr(stdin(), OptionalActions::Now, &found).ok();
        }
    }
}

/// Has a panic give the terminal back before anything is said about it.
fn install_panic_hook() {
    static INSTALL_HOOK_ONCE: std::sync::Once = std::sync::Once::new();
    INSTALL_HOOK_ONCE.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            restore();
            before(panic);
        }));
    });
}

fn write_to_tty(bytes: &[u8]) -> io::Result<()> {
    // Not by way of `io::stdout`, whose lock a panic may hold.
    let mut out = TtyWriter::new(TTY_WRITE_TIMEOUT)?;
    out.write_all(bytes)?;
    out.flush()
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::Read as _;
    use std::process::Command;

    use rustix::pty::{OpenptFlags, ioctl_tiocgptpeer, openpt, unlockpt};
    use rustix::termios::{LocalModes, Winsize, tcsetwinsize};

    use super::*;

    /// Runs in a process of its own, on a terminal: see the test below.
    #[test]
    #[ignore = "it panics, on purpose, on the terminal that another test gives it"]
    fn panics_on_the_other_screen() {
        let mut taken = RawTerminal::enter(TTY_WRITE_TIMEOUT).unwrap();
        let raw = tcgetattr(stdin()).unwrap();
        assert!(!raw.local_modes.contains(LocalModes::ICANON));
        taken
            .screen
            .draw(|frame| frame.render_widget("painted", frame.area()))
            .unwrap();
        panic!("on purpose");
    }

    #[test]
    fn a_panic_gives_the_terminal_back_before_it_is_told() {
        let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
        let master = openpt(flags).unwrap();
        unlockpt(&master).unwrap();
        let slave = File::from(ioctl_tiocgptpeer(&master, flags).unwrap());
        let size = Winsize {
            ws_row: 24,
            ws_col: 80,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        tcsetwinsize(&master, size).unwrap();
        let before = tcgetattr(&slave).unwrap();
        let copy = || slave.try_clone().unwrap();
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "tty::tests::panics_on_the_other_screen"])
            .args(["--ignored", "--nocapture"])
            .stdin(copy())
            .stdout(copy())
            .stderr(copy())
            .spawn()
            .unwrap();
        let mut master = File::from(master);
        let mut shown = String::new();
        let mut bytes = [0; 4096];
        while !shown.contains("test result") {
            let read = master.read(&mut bytes).unwrap();
            shown += &String::from_utf8_lossy(&bytes[..read]);
        }
        assert!(!child.wait().unwrap().success());
        let at = |text: &str| {
            shown
                .find(text)
                .unwrap_or_else(|| panic!("no {text:?} in {shown:?}"))
        };
        let text = |bytes: &'static [u8]| std::str::from_utf8(bytes).unwrap();
        assert!(at(text(ENTER_SEQUENCE)) < at("painted"));
        assert!(at("painted") < at(text(LEAVE_SEQUENCE)));
        assert!(at(text(LEAVE_SEQUENCE)) < at("on purpose"), "{shown:?}");
        let after = tcgetattr(&slave).unwrap();
        assert_eq!(format!("{before:?}"), format!("{after:?}"));
    }
}
