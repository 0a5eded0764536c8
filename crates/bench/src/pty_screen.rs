// SPDX-License-Identifier: Apache-2.0
//! A program on a terminal with 80 columns and 24 lines.
//!
//! The module keeps the content of the screen and searches for texts there. The raw output is not
//! enough: a program that paints only changes may never write a text in one piece.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, bail};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use test_support::pseudo_terminal::PseudoTerminal;

use crate::latency_samples::SpanTimer;
use crate::proc_stats::MeasuredChild;

const SCREEN_COLUMNS: u16 = 80;
const SCREEN_LINES: u16 = 24;
/// The time after which a missing text fails the benchmark.
const WAIT_TIMEOUT: Duration = Duration::from_secs(60);

/// A program on a pseudo-terminal.
#[derive(Debug)]
pub(crate) struct PtyScreen {
    master: File,
    pub(crate) program: MeasuredChild,
    grid: ScreenGrid,
    bytes: Vec<u8>,
}

impl PtyScreen {
    pub(crate) fn start(command: &mut Command) -> anyhow::Result<Self> {
        let terminal = PseudoTerminal::open(SCREEN_LINES, SCREEN_COLUMNS);
        command.stdin(terminal.stdio()).stdout(terminal.stdio());
        let program = MeasuredChild::start(command)?;
        Ok(Self {
            master: terminal.into_master(),
            program,
            grid: ScreenGrid::default(),
            bytes: vec![0; 64 << 10],
        })
    }

    /// Sends keys to the program.
    pub(crate) fn send_keys(&mut self, keys: &[u8]) -> anyhow::Result<()> {
        self.master.write_all(keys).context("pressing a key")
    }

    /// Reads until a line of the screen contains the text.
    pub(crate) fn wait_for_text(&mut self, text: &str) -> anyhow::Result<()> {
        let clock = SpanTimer::start();
        while !self.grid.contains(text) {
            let Some(left) = WAIT_TIMEOUT.checked_sub(clock.elapsed()) else {
                let shown = self.grid.text();
                bail!("no {text:?} on the screen within {WAIT_TIMEOUT:?}:\n{shown}");
            };
            self.read_output(left)?;
        }
        Ok(())
    }

    /// Reads the output for this time.
    pub(crate) fn read_for(&mut self, time: Duration) -> anyhow::Result<()> {
        let clock = SpanTimer::start();
        while let Some(left) = time.checked_sub(clock.elapsed()) {
            self.read_output(left)?;
        }
        Ok(())
    }

    /// Reads the next output, if any comes within the limit.
    fn read_output(&mut self, limit: Duration) -> anyhow::Result<()> {
        let limit = Timespec::try_from(limit).context("waiting")?;
        let mut ready = [PollFd::new(&self.master, PollFlags::IN)];
        if poll(&mut ready, Some(&limit)).context("waiting for the screen")? > 0 {
            let read = self.master.read(&mut self.bytes);
            let read = read.context("reading the screen")?;
            self.grid
                .apply_output(self.bytes.get(..read).unwrap_or_default());
        }
        Ok(())
    }
}

/// The content of the screen. Supports the output of `tui`: characters of one column, cursor
/// positions, and clearing the screen.
#[derive(Debug)]
struct ScreenGrid {
    cells: Vec<Vec<char>>,
    line: usize,
    column: usize,
    /// The start of an escape sequence that is not complete yet.
    partial_sequence: Vec<u8>,
}

impl Default for ScreenGrid {
    fn default() -> Self {
        Self {
            cells: vec![vec![' '; SCREEN_COLUMNS.into()]; SCREEN_LINES.into()],
            line: 0,
            column: 0,
            partial_sequence: Vec::new(),
        }
    }
}

impl ScreenGrid {
    fn apply_output(&mut self, bytes: &[u8]) {
        let mut input = std::mem::take(&mut self.partial_sequence);
        input.extend_from_slice(bytes);
        let whole = match std::str::from_utf8(&input) {
            Err(error) if error.error_len().is_none() => error.valid_up_to(),
            _ => input.len(),
        };
        let rest = input.split_off(whole);
        let text = String::from_utf8_lossy(&input).into_owned();
        let mut left = text.as_str();
        while let Some(c) = left.chars().next() {
            if let Some(sequence) = left.strip_prefix("\x1b[") {
                let Some(end) = sequence.find(|c| ('@'..='~').contains(&c)) else {
                    break;
                };
                let (parameters, from_end) = sequence.split_at(end);
                self.apply_control_sequence(parameters, from_end.chars().next());
                left = from_end.get(1..).unwrap_or_default();
                continue;
            }
            if left == "\x1b" {
                break;
            }
            match c {
                '\r' => self.column = 0,
                '\n' => self.line = self.line.saturating_add(1),
                _ if c < ' ' => {}
                _ => {
                    let line = self.cells.get_mut(self.line);
                    if let Some(cell) = line.and_then(|line| line.get_mut(self.column)) {
                        *cell = c;
                    }
                    self.column = self.column.saturating_add(1);
                }
            }
            left = left.get(c.len_utf8()..).unwrap_or_default();
        }
        self.partial_sequence = [left.as_bytes(), &rest].concat();
    }

    fn apply_control_sequence(&mut self, parameters: &str, end: Option<char>) {
        match (parameters, end) {
            ("2", Some('J')) => *self = Self::default(),
            (place, Some('H')) => {
                let mut place = place
                    .split(';')
                    .map(|number| number.parse().unwrap_or(1_usize));
                let mut next = || place.next().unwrap_or(1).saturating_sub(1);
                (self.line, self.column) = (next(), next());
            }
            _ => {}
        }
    }

    fn contains(&self, text: &str) -> bool {
        self.cells.iter().any(|line| {
            let line: String = line.iter().collect();
            line.contains(text)
        })
    }

    fn text(&self) -> String {
        let line = |line: &Vec<char>| line.iter().collect::<String>().trim_end().to_owned();
        self.cells.iter().map(line).collect::<Vec<_>>().join("\n")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_painted_in_pieces_is_found() {
        let painted = "\x1b[0m\x1b[2J\x1b[1;1H998 questions\x1b[38;5;1m wait \u{2500}\x1b[2;3Hx\
                       \x1b[1;1H1000 que\x1b[1;9Hstions wait";
        for cut in 0..painted.len() {
            let mut grid = ScreenGrid::default();
            let (before, after) = painted.as_bytes().split_at(cut);
            grid.apply_output(before);
            grid.apply_output(after);
            assert!(
                grid.contains("1000 questions wait\u{2500}"),
                "{cut}: {}",
                grid.text()
            );
            assert_eq!(grid.text().lines().nth(1), Some("  x"), "{cut}");
        }
    }
}
