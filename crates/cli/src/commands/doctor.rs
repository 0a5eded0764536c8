// SPDX-License-Identifier: Apache-2.0
//! `doctor`: what the host needs, and how to get it.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use doctor::{
    CheckStatus, ConfigurationState, DoctorReport, Finding, HostDescription, RequirementGroup,
    examine, probe_kernel,
};
use operator::wrap_lines;
use settings::UserSettings;
use terok_clearance::error_chain;

use super::podman::host_hook_check;
use super::run::merged_records;
use crate::settings_files::{ORGANISATION_FILE, read_organisation};
use crate::{CommandContext, CommandError, CommandStatus, StopSignals, block_on};

/// Long help.
pub(super) const ABOUT: &str = "Check what this host needs, each with the command that fixes it.

Tries the kernel out with a sandbox of its own, and looks at podman, hooks, systemd units, the \
session bus, the notification service, the configuration and the record. Changes nothing, and \
takes less than a second, and a few seconds if a program does not answer.";

/// Command-line arguments.
#[derive(Debug, Clone, Copy, clap::Args)]
#[command(after_long_help = "\
Examples:
  terok-clearance doctor
  terok-clearance doctor --json | jq -r '.[] | select(.status != \"pass\") | .fix'

Each requirement is a line: pass, warning or failure, what was found, and for the latter two what to
do. They are in groups: `run` needs only the first one. A warning is something that works less well,
or that this host may not be meant for. docs/doctor.md describes every check.

With --json, one array of objects: `check`, `group` (commands, containers, popups), `status` (pass,
warning, failure), `found` and `fix` (null for a pass).

Exit status:
  0    all requirements are met, or there are only warnings
  1    a failure
  130  ended by Ctrl-C; 143 by SIGTERM")]
pub struct Args {}

/// Arguments of the hidden command that tries the kernel out.
#[derive(Debug, Clone, Copy, clap::Args)]
pub struct ProbeArgs {}

/// Runs the command.
pub fn perform(_: Args, context: &CommandContext) -> Result<CommandStatus, CommandError> {
    if runner::is_inside_sandbox() {
        return Err(CommandError::InsideSandbox);
    }
    let host = describe_host(context)?;
    let report = block_on(async {
        let mut stop = StopSignals::catch()?;
        Ok::<_, CommandError>(tokio::select! {
            status = stop.wait() => Err(status),
            report = examine(host) => Ok(report),
        })
    })?;
    let report = match report {
        Ok(report) => report,
        Err(status) => return Ok(status),
    };
    let output = context.output;
    if context.json {
        let line = serde_json::to_string(&report.findings).context("cannot encode the report")?;
        output.print_line(&line)?;
    } else {
        let text = render_report(&report, output.colors().stdout);
        output.print(&match context.environment.table_columns() {
            Some(columns) => wrap_lines(&text, columns, FOUND_COLUMN),
            None => text,
        })?;
    }
    Ok(if report.count(CheckStatus::Failure) > 0 {
        CommandStatus::FAILURE
    } else {
        CommandStatus::OK
    })
}

/// Tries the kernel out, and prints the findings for [`examine`].
pub fn perform_probe(context: &CommandContext) -> Result<CommandStatus, CommandError> {
    let findings = probe_kernel();
    let line = serde_json::to_string(&findings).context("cannot encode the findings")?;
    context.output.print_line(&line)?;
    Ok(CommandStatus::OK)
}

/// Collects the directories, and the state of the configuration.
fn describe_host(context: &CommandContext) -> Result<HostDescription, CommandError> {
    let environment = &context.environment;
    let user_path = UserSettings::path_in(environment.config_dir());
    let organisation = read_organisation();
    let organisation_state = match &organisation {
        Ok(found) => Ok(found.is_some()),
        Err(error) => Err(error_chain(error).to_string()),
    };
    let organisation = organisation.ok().flatten();
    let settings = context.settings.get();
    let records = settings
        .as_ref()
        .ok()
        .map(|settings| merged_records(false, environment, settings, organisation.as_deref()));
    let records = match records {
        Some(Ok(records)) => records.into_iter().map(|record| record.path).collect(),
        _ => vec![environment.state_dir().join(record::FILE_NAME)],
    };
    let is_set = |name: &str| !environment.select_variables(&[name]).is_empty();
    Ok(HostDescription {
        uid: environment.uid(),
        user: environment.user_name(),
        runtime_dir: environment.runtime_dir().to_owned(),
        config_home: parent_of(environment.config_dir()),
        data_home: environment.data_home().to_owned(),
        state_dir: environment.state_dir().to_owned(),
        search_path: environment.search_path().clone(),
        session_bus: environment.session_bus_address(),
        has_display: is_set("DISPLAY") || is_set("WAYLAND_DISPLAY"),
        program: std::env::current_exe().context("cannot find the path of this program")?,
        records,
        configuration: ConfigurationState {
            user: match settings {
                Ok(_) => Ok(user_path.exists()),
                Err(error) => Err(error.message()),
            },
            user_path,
            organisation: organisation_state,
            organisation_path: ORGANISATION_FILE.into(),
        },
        hook_check: host_hook_check(environment)?,
        system_root: "/".into(),
        time_limit: HostDescription::TIME_LIMIT,
    })
}

fn parent_of(directory: &Path) -> PathBuf {
    directory.parent().unwrap_or(directory).to_owned()
}

/// Columns of the status, of the name of a check, and the column at which the finding begins.
const STATUS_COLUMNS: usize = 9;
const NAME_COLUMNS: usize = 22;
const FOUND_COLUMN: usize = 2 + STATUS_COLUMNS + NAME_COLUMNS;

fn render_report(report: &DoctorReport, color: bool) -> String {
    let paint = |code: &str, text: &str| {
        if color {
            format!("\x1b[{code}m{text}\x1b[0m")
        } else {
            text.to_owned()
        }
    };
    let mut text = String::new();
    for group in RequirementGroup::ALL {
        let heading = paint("1", group.heading());
        append_line(&mut text, &heading);
        for finding in report.group(group) {
            let Finding {
                check,
                status,
                found,
                fix,
                ..
            } = finding;
            let code = match status {
                CheckStatus::Pass => "32",
                CheckStatus::Warning => "33",
                CheckStatus::Failure => "1;31",
            };
            let status = paint(code, &format!("{status:STATUS_COLUMNS$}"));
            append_line(
                &mut text,
                &format!("  {status}{check:NAME_COLUMNS$}{found}"),
            );
            if let Some(fix) = fix {
                let label = paint("1;36", "fix");
                append_line(&mut text, &format!("{:FOUND_COLUMN$}{label}: {fix}", ""));
            }
        }
        text.push('\n');
    }
    let count = |status| report.count(status);
    append_line(
        &mut text,
        &format!(
            "{} passed, {}, {}",
            count(CheckStatus::Pass),
            counted(count(CheckStatus::Warning), "warning"),
            counted(count(CheckStatus::Failure), "failure"),
        ),
    );
    text
}

fn append_line(text: &mut String, line: &str) {
    // Writing to a string does not fail.
    writeln!(text, "{line}").ok();
}

fn counted(count: usize, noun: &str) -> String {
    let plural = if count == 1 { "" } else { "s" };
    format!("{count} {noun}{plural}")
}
