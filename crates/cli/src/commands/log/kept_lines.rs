// SPDX-License-Identifier: Apache-2.0
//! The last lines of the selected ones, which are printed once all have been read.

use std::collections::VecDeque;
use std::path::Path;
use std::rc::Rc;

use record::RecordLine;

use super::printer::EntryPrinter;
use crate::output::OutputError;

/// Keeps the last lines up to a limit; without a limit, prints each at once.
#[derive(Debug)]
pub(super) struct KeptLines {
    limit: Option<usize>,
    lines: VecDeque<KeptLine>,
}

#[derive(Debug)]
struct KeptLine {
    bytes: Vec<u8>,
    length: u64,
    file: Rc<Path>,
    number: u64,
}

impl KeptLines {
    pub(super) const fn new(limit: Option<usize>) -> Self {
        Self {
            limit,
            lines: VecDeque::new(),
        }
    }

    /// Takes the next line.
    pub(super) fn push(
        &mut self,
        line: RecordLine<'_>,
        printer: &mut EntryPrinter<'_>,
    ) -> Result<(), OutputError> {
        let Some(limit) = self.limit else {
            return printer.print(&line);
        };
        // The buffer of the line that is dropped is used again.
        let mut bytes = Vec::new();
        if self.lines.len() >= limit {
            match self.lines.pop_front() {
                Some(dropped) => bytes = dropped.bytes,
                None => return Ok(()),
            }
        }
        bytes.clear();
        bytes.extend_from_slice(line.bytes);
        let known = self.lines.back().filter(|last| *last.file == *line.file);
        let file = known.map_or_else(|| Rc::from(line.file), |last| Rc::clone(&last.file));
        self.lines.push_back(KeptLine {
            bytes,
            length: line.length,
            file,
            number: line.number,
        });
        Ok(())
    }

    /// Prints the kept lines.
    pub(super) fn print(&mut self, printer: &mut EntryPrinter<'_>) -> Result<(), OutputError> {
        for line in self.lines.drain(..) {
            printer.print(&RecordLine {
                bytes: &line.bytes,
                length: line.length,
                file: &line.file,
                number: line.number,
            })?;
        }
        Ok(())
    }
}
