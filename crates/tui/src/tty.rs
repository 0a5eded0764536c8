// SPDX-License-Identifier: Apache-2.0
//! Takes over the terminal, and restores it: at the end, after a panic, and before a stop.

use std::io::{self, IsTerminal as _, Write as _};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use ratatui::backend::CrosstermBackend;
use ratatui::layout::Rect;
use ratatui::{Terminal, TerminalOptions, Viewport};
use rustix::process::{Pid, Signal, getpgid, getpgrp, getppid, getsid, kill_current_process_group};
use rustix::stdio::{stdin, stdout};
use rustix::termios::{OptionalActions, Termios, tcgetattr, tcgetpgrp, tcgetwinsize, tcsetattr};

use crate::terminal_state::{enter_sequence, leave_sequence};
use crate::writer::TtyWriter;

const ENABLE_MOUSE: &[u8] = b"\x1b[?1000h\x1b[?1006h";
const DISABLE_MOUSE: &[u8] = b"\x1b[?1006l\x1b[?1000l";

/// Time limit of a write to the terminal.
pub(crate) const TTY_WRITE_TIMEOUT: Duration = Duration::from_secs(1);

const CLEAR_SCREEN: &[u8] = b"\x1b[0m\x1b[2J";

/// The terminal's modes before this process changed them; `None` while they are unchanged.
static SAVED_TERMIOS: Mutex<Option<Termios>> = Mutex::new(None);

pub(crate) type TtyBackend = CrosstermBackend<TtyWriter>;

/// The terminal in raw mode; dropping the value restores the terminal.
pub(crate) struct RawTerminal {
    pub(crate) screen: Terminal<TtyBackend>,
    mouse_captured: bool,
    write_timeout: Duration,
    /// The terminal was restored for good.
    is_released: Arc<AtomicBool>,
}

impl RawTerminal {
    /// Takes over the terminal of standard input and output; each write waits at most `timeout`.
    pub(crate) fn enter(timeout: Duration) -> io::Result<Self> {
        if !(io::stdin().is_terminal() && io::stdout().is_terminal()) {
            return Err(io::Error::other(
                "standard input and output are no terminal",
            ));
        }
        install_panic_hook();
        let is_released = Arc::default();
        let mut terminal = Self {
            screen: build_terminal(timeout, &is_released)?,
            is_released,
            write_timeout: timeout,
            mouse_captured: true,
        };
        terminal.reenter()?;
        Ok(terminal)
    }

    /// Sets the modes again, after they were restored or another program changed them.
    pub(crate) fn reenter(&mut self) -> io::Result<()> {
        let mut saved = SAVED_TERMIOS.lock().unwrap_or_else(PoisonError::into_inner);
        let before = match saved.take() {
            Some(before) => before,
            None => tcgetattr(stdin())?,
        };
        let mut raw = before.clone();
        raw.make_raw();
        // In the background, this call stops the process until the shell's `fg`.
        *saved = Some(before);
        tcsetattr(stdin(), OptionalActions::Now, &raw)?;
        drop(saved);
        write_to_tty(enter_sequence().as_bytes())?;
        self.clear()?;
        self.set_mouse(self.mouse_captured)
    }

    /// Clears the screen at its current size, so that the next frame draws all of it.
    pub(crate) fn clear(&mut self) -> io::Result<()> {
        self.screen = build_terminal(self.write_timeout, &self.is_released)?;
        Ok(())
    }

    /// Clears the screen and sets the mouse mode, after the terminal accepted a part of a frame.
    pub(crate) fn clear_with_modes(&mut self) -> io::Result<()> {
        self.clear()?;
        self.set_mouse(self.mouse_captured)
    }

    /// Switches mouse events on or off.
    pub(crate) fn set_mouse(&mut self, mouse: bool) -> io::Result<()> {
        self.mouse_captured = mouse;
        let sequence = if mouse { ENABLE_MOUSE } else { DISABLE_MOUSE };
        self.screen.backend_mut().write_all(sequence)
    }

    /// Restores the terminal and stops this process, as Ctrl-Z does, until the shell resumes it.
    ///
    /// Returns `false`, and does nothing, without a shell that could.
    pub(crate) fn suspend(&mut self) -> io::Result<bool> {
        if !has_job_control() {
            return Ok(false);
        }
        restore();
        // This process catches SIGTSTP.
        kill_current_process_group(Signal::STOP)?;
        self.reenter()?;
        Ok(true)
    }
}

/// Returns a ratatui terminal of the current size, which clears the screen first.
///
/// ratatui's own clearing and resizing asks the terminal for the cursor's position, and would wait
/// for a reply that the reader of the keys may get first.
fn build_terminal(
    timeout: Duration,
    is_released: &Arc<AtomicBool>,
) -> io::Result<Terminal<TtyBackend>> {
    let size = tcgetwinsize(stdout())?;
    let mut out = TtyWriter::new(timeout, Arc::clone(is_released))?;
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
        // ratatui shows the cursor once more, and panics if the terminal and standard error are
        // closed.
        self.is_released.store(true, Ordering::Relaxed);
    }
}

/// Returns `true` if a shell runs this process as a job: the parent is in the same session, but in
/// another process group.
fn has_job_control() -> bool {
    let shell = |parent: Pid| -> rustix::io::Result<bool> {
        Ok(getsid(Some(parent))? == getsid(None)? && getpgid(Some(parent))? != getpgrp())
    };
    getppid().is_some_and(|parent| shell(parent).unwrap_or(false))
}

/// Restores the terminal, if its modes were changed.
pub(crate) fn restore() {
    let mut saved = SAVED_TERMIOS.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(before) = saved.take() {
        // An error means that the terminal was closed.
        write_to_tty(leave_sequence().as_bytes()).ok();
        let is_foreground = tcgetpgrp(stdin()).map_or(true, |foreground| foreground == getpgrp());
        // In the background, a change would stop this process; the shell has set its own modes.
        if is_foreground {
            tcsetattr(stdin(), OptionalActions::Now, &before).ok();
        }
    }
}

/// Installs a panic hook that restores the terminal before the message is printed.
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
    // Not through `io::stdout`, whose lock a panicking thread may hold.
    let mut out = TtyWriter::new(TTY_WRITE_TIMEOUT, Arc::default())?;
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

    /// Runs in a child process with a terminal: see the next test.
    #[test]
    #[ignore = "panics on purpose; the next test runs it in a child process"]
    fn panics_on_the_alternate_screen() {
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
    fn panic_restores_the_terminal_before_its_message() {
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
            .args(["--exact", "tty::tests::panics_on_the_alternate_screen"])
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
        assert!(at(&enter_sequence()) < at("painted"));
        assert!(at("painted") < at(leave_sequence()));
        assert!(at(leave_sequence()) < at("on purpose"), "{shown:?}");
        let after = tcgetattr(&slave).unwrap();
        assert_eq!(format!("{before:?}"), format!("{after:?}"));
    }
}
