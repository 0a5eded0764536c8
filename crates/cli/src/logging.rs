// SPDX-License-Identifier: Apache-2.0
//! The log on standard error.

use std::io::IsTerminal as _;

use terok_clearance::service::{LogOptions, configure_logging};
use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::Targets;

use crate::UserEnvironment;
use crate::args::CliArgs;

/// Starts the log with the filter in `RUST_LOG`, else with the command's level raised by each `-v`.
///
/// A full-screen command logs only if standard error is not a terminal.
pub(crate) fn init(cli: &CliArgs, environment: &UserEnvironment) -> anyhow::Result<()> {
    if cli.command.is_full_screen() && std::io::stderr().is_terminal() {
        return Ok(());
    }
    let mut options = LogOptions::up_to(raise_level(cli.command.default_log_level(), cli.verbose));
    let mut wrong = None;
    match environment.log_filter().map(str::parse::<Targets>) {
        None => {}
        Some(Ok(filter)) => options.filter = filter,
        Some(Err(error)) => wrong = Some(error),
    }
    options.ansi = environment.stream_colors(cli.color).stderr;
    options.timestamps = !environment.logs_to_journal();
    configure_logging(options)?;
    match wrong {
        None => Ok(()),
        Some(error) => {
            Err(anyhow::Error::new(error).context("RUST_LOG is ignored: invalid filter"))
        }
    }
}

fn raise_level(level: LevelFilter, steps: u8) -> LevelFilter {
    let levels = [
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
    fn each_v_raises_the_level_by_one() {
        assert_eq!(raise_level(LevelFilter::WARN, 0), LevelFilter::WARN);
        assert_eq!(raise_level(LevelFilter::WARN, 1), LevelFilter::INFO);
        assert_eq!(raise_level(LevelFilter::INFO, 1), LevelFilter::DEBUG);
        assert_eq!(raise_level(LevelFilter::WARN, 9), LevelFilter::TRACE);
    }
}
