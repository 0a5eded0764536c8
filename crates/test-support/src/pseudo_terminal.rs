// SPDX-License-Identifier: Apache-2.0
//! Pseudo-terminals.

use std::fs::File;
use std::os::fd::OwnedFd;

use rustix::pty::{OpenptFlags, ioctl_tiocgptpeer, openpt, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};

/// A pseudo-terminal: the end of the person, and the end of the program.
#[derive(Debug)]
pub struct PseudoTerminal {
    /// The person's end: keys are written to it, and the output is read from it.
    pub master: File,
    /// The program's end. While it is open, the master has no end of file.
    pub peer: OwnedFd,
}

impl PseudoTerminal {
    /// Opens a pseudo-terminal of this size. It is not made a controlling terminal.
    pub fn open(rows: u16, columns: u16) -> Self {
        let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
        let master = openpt(flags).unwrap();
        unlockpt(&master).unwrap();
        let terminal = Self {
            peer: ioctl_tiocgptpeer(&master, flags).unwrap(),
            master: master.into(),
        };
        terminal.resize(rows, columns);
        terminal
    }

    /// Changes the size, which signals SIGWINCH to the foreground programs.
    pub fn resize(&self, rows: u16, columns: u16) {
        resize(&self.master, rows, columns);
    }

    /// Returns a copy of the program's end, for a standard stream.
    pub fn stdio(&self) -> OwnedFd {
        self.peer.try_clone().unwrap()
    }

    /// Returns the person's end and drops the program's: the end of file comes with the end of the
    /// last program.
    pub fn into_master(self) -> File {
        self.master
    }
}

/// Changes the size of the terminal with this master.
pub fn resize(master: &File, rows: u16, columns: u16) {
    let size = Winsize {
        ws_row: rows,
        ws_col: columns,
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    tcsetwinsize(master, size).unwrap();
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;
    use std::process::Command;

    use super::*;

    #[test]
    fn a_program_sees_the_size_and_its_output_ends_with_it() {
        let terminal = PseudoTerminal::open(24, 80);
        terminal.resize(7, 90);
        let mut child = Command::new("stty")
            .arg("size")
            .stdin(terminal.stdio())
            .stdout(terminal.stdio())
            .spawn()
            .unwrap();
        let mut master = terminal.into_master();
        let mut shown = Vec::new();
        let end = master.read_to_end(&mut shown).unwrap_err();
        assert_eq!(end.raw_os_error(), Some(5), "EIO is a terminal's end");
        assert_eq!(shown, b"7 90\r\n");
        assert!(child.wait().unwrap().success());
    }
}
