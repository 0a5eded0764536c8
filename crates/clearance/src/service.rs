// SPDX-License-Identifier: Apache-2.0
//! Parts of a program that serves until it is told to end: its log, and the signals for its end.

mod journal;

use std::fmt;
use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing_subscriber::Layer as _;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt::{self as format, MakeWriter};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::{SubscriberInitExt as _, TryInitError};

pub use journal::{JournalOptions, is_journal_stream};
pub use tracing_subscriber::filter::LevelFilter;

use journal::JournalLayer;

/// The signal that asked a program to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ShutdownSignal {
    /// SIGINT, as from Ctrl-C.
    Interrupt,
    /// SIGTERM, as from a service manager.
    Terminate,
}

impl fmt::Display for ShutdownSignal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Interrupt => "SIGINT",
            Self::Terminate => "SIGTERM",
        })
    }
}

/// SIGINT and SIGTERM, caught from the creation of the value on.
#[derive(Debug)]
pub struct ShutdownSignals {
    interrupt: Signal,
    terminate: Signal,
}

impl ShutdownSignals {
    /// Catches both signals. Must be called within a tokio runtime with I/O.
    pub fn catch() -> io::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
        })
    }

    /// Waits for the next of them. Cancel safe.
    pub async fn next(&mut self) -> ShutdownSignal {
        tokio::select! {
            _ = self.interrupt.recv() => ShutdownSignal::Interrupt,
            _ = self.terminate.recv() => ShutdownSignal::Terminate,
        }
    }
}

/// Waits for SIGINT or SIGTERM.
///
/// A signal that comes before the first poll ends the process as usual; [`ShutdownSignals`] catches
/// both from an earlier moment on.
pub async fn wait_for_shutdown_signal() -> io::Result<ShutdownSignal> {
    Ok(ShutdownSignals::catch()?.next().await)
}

/// Where the log goes, and in which form.
#[derive(Debug, Clone)]
pub struct LogOptions {
    /// The records that are written.
    pub filter: Targets,
    /// Lines are coloured with ANSI sequences.
    pub ansi: bool,
    /// Lines begin with the time. The journal of systemd has its own.
    pub timestamps: bool,
    /// Records become entries of the journal instead of lines, if it can be reached. For programs
    /// whose standard error goes there: see [`is_journal_stream`].
    pub journal: Option<JournalOptions>,
}

impl LogOptions {
    /// Returns options for plain lines with a time, of records up to `level`.
    pub fn up_to(level: LevelFilter) -> Self {
        Self {
            filter: Targets::new().with_default(level),
            ansi: false,
            timestamps: true,
            journal: None,
        }
    }
}

/// The process has a subscriber for log records already.
#[derive(Debug, thiserror::Error)]
#[error("the log of this process was configured before")]
#[non_exhaustive]
pub struct LogConfiguredError(#[from] TryInitError);

/// Writes the log records of this process to standard error, or to the journal of systemd.
/// Libraries do not call this; a program calls it once.
///
/// The counterpart of `configure_logging(level=logging.INFO)` of the Python package, which writes
/// lines to standard error at any level that is given. Here, too, that is the default:
///
/// ```
/// use terok_clearance::service::{LevelFilter, LogOptions, configure_logging};
///
/// configure_logging(LogOptions::up_to(LevelFilter::INFO))?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// Under systemd, entries with the fields of each record are more useful than lines. The value of
/// `JOURNAL_STREAM` is the file of standard error if that is the journal:
///
/// ```
/// use terok_clearance::service::{JournalOptions, LevelFilter, LogOptions, is_journal_stream};
///
/// # fn options(journal_stream: Option<&str>) -> LogOptions {
/// let mut options = LogOptions::up_to(LevelFilter::INFO);
/// if journal_stream.is_some_and(|value| is_journal_stream(value, std::io::stderr())) {
///     options.timestamps = false;
///     options.journal = Some(JournalOptions::new("my-program"));
/// }
/// # options
/// # }
/// ```
pub fn configure_logging(options: LogOptions) -> Result<(), LogConfiguredError> {
    configure_logging_to(options, io::stderr)
}

/// Writes the log records of this process to `writer`, as [`configure_logging`] to standard error.
pub fn configure_logging_to<W>(options: LogOptions, writer: W) -> Result<(), LogConfiguredError>
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    // Without a journal, its stream at standard error is left.
    let journal = options.journal.map(JournalLayer::open);
    let layer = if let Some(Ok(journal)) = journal {
        journal.boxed()
    } else {
        let lines = format::layer()
            .with_writer(writer)
            // The message about a failed write would go to standard error, and panic if that fails.
            .log_internal_errors(false)
            .with_ansi(options.ansi);
        if options.timestamps {
            lines.boxed()
        } else {
            lines.without_time().boxed()
        }
    };
    let registry = tracing_subscriber::registry().with(layer.with_filter(options.filter));
    Ok(registry.try_init()?)
}

#[cfg(test)]
mod tests {
    use rustix::process::{Signal, getpid, kill_process};

    use super::*;

    #[tokio::test]
    async fn each_signal_that_ends_a_service_is_reported_once() {
        let mut signals = ShutdownSignals::catch().unwrap();
        for (number, signal) in [
            (Signal::TERM, ShutdownSignal::Terminate),
            (Signal::INT, ShutdownSignal::Interrupt),
        ] {
            kill_process(getpid(), number).unwrap();
            assert_eq!(signals.next().await, signal);
        }
    }

    #[test]
    fn a_second_configuration_is_refused() {
        let options = LogOptions::up_to(LevelFilter::ERROR);
        configure_logging(options.clone()).unwrap();
        let refused = configure_logging(options).unwrap_err();
        assert_eq!(
            refused.to_string(),
            "the log of this process was configured before"
        );
    }
}
