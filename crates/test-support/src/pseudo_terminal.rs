// SPDX-License-Identifier: Apache-2.0
//! Pseudo-terminals.

use std::fs::File;
use std::os::fd::OwnedFd;

use rustix::pty::{OpenptFlags, ioctl_tiocgptpeer, openpt, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};

/// A pseudo-terminal with two ends, one for the simulated person and one for the program.
#[derive(Debug)]
pub struct PseudoTerminal {
    /// The person's end, to write keys and to read the output.
    pub master: File,
    /// The program's end. While open, reading the master never returns an end of file.
    pub peer: OwnedFd,
}

impl PseudoTerminal {
    /// Opens a pseudo-terminal of this size, without making it a controlling terminal.
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

    /// Changes the size; the foreground programs receive SIGWINCH.
    pub fn resize(&self, rows: u16, columns: u16) {
        resize(&self.master, rows, columns);
    }

    /// Returns a copy of the program's end, for a standard stream.
    pub fn stdio(&self) -> OwnedFd {
        self.peer.try_clone().unwrap()
    }

    /// Returns the person's end and closes the program's end here. Reading then returns an end of
    /// file after the last program has ended.
    pub fn into_master(self) -> File {
        self.master
    }
}

/// Changes the size of the terminal that belongs to `master`.
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
