// SPDX-License-Identifier: Apache-2.0
//! `status`: what is guarded now.

use std::path::PathBuf;
use std::time::Duration;

use doctor::{ServiceUnitState, read_unit_states};
use operator::script::{SandboxSelector, StatusSurvey, UnitStatus, take_snapshot};
use terok_clearance::socket::RuntimeDir;

use crate::{CommandContext, CommandError, CommandStatus, StopSignals, block_on};
use runner::raise_open_files_limit;

/// Long help.
pub(super) const ABOUT: &str = "Show what is guarded now.

Each sandbox with its way out, its supervisor and whether that answers, its pending questions and \
held connections, its rules, its published ports, and the number of operators that can answer; and \
the systemd units of this program. Nothing is changed or answered.";

/// Command-line arguments.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  terok-clearance status
  terok-clearance status --json | jq -r 'select(.event == \"status\" and .answers == false) | .hub'

A hub of the Python stack does not tell its questions, rules and operators: they are `unknown`. The
posture is guarded, bypass (open for a time), or down or disengaged, as the reader of a container of
`terok-shield` reports it. `terok-clearance list` lists the questions, `rules` the rules.

With --json, each line is an object: `event` is `status` for each hub, `unit` for each unit that
systemd has loaded, and `statuses` at the end; docs/schema/lines.json describes them. A field that
is absent is unknown.

Exit status:
  0    every hub answers, or none is running
  69   a hub, or the one of --socket, does not answer in time
  130  ended by Ctrl-C; 143 by SIGTERM")]
pub struct Args {
    /// Ask only the hub at this socket
    #[arg(long, value_name = "PATH")]
    socket: Option<PathBuf>,
    /// Maximum time without a reply from a hub
    #[arg(long, value_name = "SECONDS", default_value_t = 2,
        value_parser = clap::value_parser!(u32).range(1..=600))]
    timeout: u32,
}

/// Runs the command.
pub fn perform(args: &Args, context: &CommandContext) -> Result<CommandStatus, CommandError> {
    raise_open_files_limit();
    block_on(async {
        let mut stop = StopSignals::catch()?;
        let surveyed = async { tokio::join!(read_hubs(args, context), read_units(context)) };
        let (survey, units) = tokio::select! {
            status = stop.wait() => return Ok(status),
            surveyed = surveyed => surveyed,
        };
        let output = context.output;
        if context.json {
            output.print(&survey.to_json(&units))?;
        } else {
            let columns = context.environment.table_columns();
            let color = output.colors().stdout;
            output.print(&survey.to_table(columns, color))?;
            if survey.hubs.is_empty() {
                output.print_error_line("no hub is running: nothing is guarded");
            }
            output.print(&units_table(&units, !survey.hubs.is_empty(), color))?;
        }
        Ok(if survey.is_complete() {
            CommandStatus::OK
        } else {
            CommandStatus::UNAVAILABLE
        })
    })
}

async fn read_hubs(args: &Args, context: &CommandContext) -> StatusSurvey {
    let runtime = RuntimeDir::new(context.environment.runtime_dir());
    let limit = Duration::from_secs(args.timeout.into());
    let every_sandbox: Option<SandboxSelector> = None;
    let socket = args.socket.as_deref();
    let snapshot = take_snapshot(&runtime, socket, every_sandbox, limit).await;
    snapshot.read_status(limit).await
}

async fn read_units(context: &CommandContext) -> Vec<UnitStatus> {
    const UNITS_TIMEOUT: Duration = Duration::from_secs(2);
    let environment = &context.environment;
    let Some(systemctl) = environment.find_program("systemctl") else {
        return Vec::new();
    };
    let runtime_dir = environment.runtime_dir();
    let is_root = environment.uid() == 0;
    let units = read_unit_states(&systemctl, is_root, runtime_dir, UNITS_TIMEOUT).await;
    let units = units
        .into_iter()
        .map(|ServiceUnitState { unit, state }| UnitStatus { unit, state });
    units.collect()
}

fn units_table(units: &[UnitStatus], follows_hubs: bool, color: bool) -> String {
    let widths = units.iter().map(|unit| unit.unit.as_str().len());
    let Some(width) = widths.max() else {
        return String::new();
    };
    let head = format!("{:width$}  STATE", "UNIT");
    let head = if color {
        format!("\x1b[1m{head}\x1b[0m")
    } else {
        head
    };
    let rows = units.iter().map(|UnitStatus { unit, state }| {
        let unit = unit.as_str();
        format!("{unit:width$}  {state}\n")
    });
    let gap = if follows_hubs { "\n" } else { "" };
    format!("{gap}{head}\n{}", rows.collect::<String>())
}
