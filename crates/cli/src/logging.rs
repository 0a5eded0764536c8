// SPDX-License-Identifier: Apache-2.0
//! The log on standard error, or in the journal of systemd.

use std::io::{self, IsTerminal as _, Write};
use std::sync::{Arc, Mutex, PoisonError};

use terok_clearance::service::{JournalOptions, LogOptions, configure_logging_to};
use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt::MakeWriter;

use crate::UserEnvironment;
use crate::args::CliArgs;
use crate::output::StreamColors;

/// Maximum bytes of log lines that wait for the end of a command. Later lines are counted.
const MAX_HELD_BYTES: usize = 64 * 1024;

/// The log lines of a command whose terminal shows another program. They are printed when the value
/// is dropped, after the command.
#[derive(Debug, Default)]
pub(crate) struct HeldLog(Arc<Mutex<HeldLines>>);

#[derive(Debug, Default)]
struct HeldLines {
    text: Vec<u8>,
    omitted: u64,
}

/// Starts the log with the filter in `RUST_LOG`, else with the command's level raised by each `-v`.
///
/// Under systemd, whose journal is standard error, records become entries with fields.
///
/// A full-screen command logs only if standard error is not a terminal. If a terminal shows another
/// program, the lines for that terminal are held.
pub(crate) fn init(
    cli: &CliArgs,
    environment: &UserEnvironment,
    colors: StreamColors,
    held: &HeldLog,
) -> anyhow::Result<()> {
    let is_terminal = io::stderr().is_terminal();
    if cli.command.is_full_screen() && is_terminal {
        return Ok(());
    }
    let mut options = LogOptions::up_to(raise_level(cli.command.default_log_level(), cli.verbose));
    let mut wrong = None;
    match environment.log_filter().map(str::parse::<Targets>) {
        None => {}
        Some(Ok(filter)) => options.filter = filter,
        Some(Err(error)) => wrong = Some(error),
    }
    options.ansi = colors.stderr;
    if environment.logs_to_journal() {
        options.timestamps = false;
        options.journal = Some(JournalOptions::new(cli.name.program()));
    }
    if cli.command.shows_other_output() && is_terminal {
        configure_logging_to(options, HeldLogWriter(Arc::clone(&held.0)))?;
    } else {
        configure_logging_to(options, io::stderr)?;
    }
    match wrong {
        None => Ok(()),
        Some(error) => {
            Err(anyhow::Error::new(error).context("RUST_LOG is ignored: invalid filter"))
        }
    }
}

impl HeldLog {
    /// Returns the lines, and the number of lines that were left out, as text.
    fn take_text(&self) -> Vec<u8> {
        let mut lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let HeldLines { mut text, omitted } = std::mem::take(&mut *lines);
        if omitted > 0 {
            let more = format!("{omitted} further log lines were left out\n");
            text.extend(more.bytes());
        }
        text
    }
}

impl Drop for HeldLog {
    fn drop(&mut self) {
        // No stream is left to report a failure.
        drop(io::stderr().lock().write_all(&self.take_text()));
    }
}

/// Writes log lines into a [`HeldLog`], each with one call.
#[derive(Debug)]
struct HeldLogWriter(Arc<Mutex<HeldLines>>);

impl<'a> MakeWriter<'a> for HeldLogWriter {
    type Writer = &'a Self;

    fn make_writer(&'a self) -> Self::Writer {
        self
    }
}

impl Write for &HeldLogWriter {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let mut lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if lines.text.len().saturating_add(line.len()) <= MAX_HELD_BYTES && lines.omitted == 0 {
            lines.text.extend(line);
        } else {
            lines.omitted = lines.omitted.saturating_add(1);
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn raise_level(level: LevelFilter, steps: u8) -> LevelFilter {
    let levels = [
        LevelFilter::ERROR,
        LevelFilter::WARN,
        LevelFilter::INFO,
        LevelFilter::DEBUG,
        LevelFilter::TRACE,
    ];
    let at = levels.iter().position(|known| *known == level).unwrap_or(0);
    let raised = levels.get(at + usize::from(steps));
    *raised.unwrap_or(&LevelFilter::TRACE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn held_lines_are_bounded_and_the_others_are_counted() {
        let held = HeldLog::default();
        let mut writer = &HeldLogWriter(Arc::clone(&held.0));
        let line = [b"x".repeat(1023), b"\n".to_vec()].concat();
        for _ in 0..100 {
            writer.write_all(&line).unwrap();
        }
        let text = String::from_utf8(held.take_text()).unwrap();
        assert_eq!(text.lines().count(), 65);
        assert!(text.ends_with("\n36 further log lines were left out\n"));
        assert!(held.take_text().is_empty());
    }

    #[test]
    fn each_v_raises_the_level_by_one() {
        assert_eq!(raise_level(LevelFilter::WARN, 0), LevelFilter::WARN);
        assert_eq!(raise_level(LevelFilter::ERROR, 1), LevelFilter::WARN);
        assert_eq!(raise_level(LevelFilter::WARN, 1), LevelFilter::INFO);
        assert_eq!(raise_level(LevelFilter::INFO, 1), LevelFilter::DEBUG);
        assert_eq!(raise_level(LevelFilter::WARN, 9), LevelFilter::TRACE);
    }
}
