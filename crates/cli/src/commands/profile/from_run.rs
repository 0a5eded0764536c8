// SPDX-License-Identifier: Apache-2.0
//! `profile from`: a profile of what a run has reached.

use policy::{ProfileName, RuleFile};
use record::{FILE_NAME, ReadRecordError};
use serde_json::json;
use terok_clearance::DisplayText;

use super::super::confirm::{can_confirm, confirm};
use super::super::run::groups_json;
use super::open_store;
use super::recorded_run::RecordedRun;
use crate::timezone::system_time_zone;
use crate::{CommandContext, CommandError, CommandStatus};

/// Help after the options.
pub(super) const AFTER_HELP: &str = "\
Examples:
  terok-clearance run --learn -- npm install
  terok-clearance profile from last
  terok-clearance profile from last --save web
  terok-clearance run --profile web -- npm install

RUN is the name or the id of a sandbox, as `log` shows it; of several runs with one name, the newest
counts. `last` is the newest run of all.

The profile has exactly the destinations that the run connected to, also without `run --learn`. How
often, how much and by which program is a comment; programs are known of runs that learn. Where
several names of one domain were reached, a comment offers every name below it: remove the `#` if
you want it. Read the list before you use it: an allowed destination is also a way out for data.

--save shows the profile, asks you, and writes it to ~/.config/terok-clearance/profiles/NAME.rules.
It replaces no profile.

With --json, one object: `profile` is the text, `groups` are the destinations with their counts,
`path` is the file of --save, which then needs --yes.

Exit status:
  0    success
  1    the run reached nothing, the profile exists, you did not accept it, or there is nobody to ask
  3    the record has no such run";

/// Command-line arguments.
#[derive(Debug, clap::Args)]
pub(super) struct FromArgs {
    /// The name or the id of a sandbox, or `last`
    #[arg(value_name = "RUN")]
    run: String,
    /// Save the profile under this name
    #[arg(long, value_name = "NAME")]
    save: Option<ProfileName>,
    /// Save it without a question
    #[arg(long, requires = "save")]
    yes: bool,
}

/// No profile was made of a run.
#[derive(Debug, thiserror::Error)]
pub enum RunProfileError {
    /// The record has no such run.
    #[error("the record has no run {0}")]
    NoRun(DisplayText),
    /// The run made no connection.
    #[error("the run {0} connected to nothing: there is nothing to make a profile of")]
    NothingReached(DisplayText),
    /// Too many destinations.
    #[error("the run reached too many destinations for a profile")]
    TooLarge(#[source] policy::RuleFileError),
    /// There is no terminal or prompt to ask at.
    #[error("the profile was not saved: there is nobody to ask")]
    NobodyToAsk,
    /// The operator did not accept the profile.
    #[error("the profile was not saved")]
    Refused,
}

/// Runs the command.
pub(super) fn perform(
    args: &FromArgs,
    context: &CommandContext,
) -> Result<CommandStatus, CommandError> {
    let path = context.environment.state_dir().join(FILE_NAME);
    let run = match RecordedRun::read(&path, &args.run) {
        Err(ReadRecordError::Missing(_)) => None,
        run => run?,
    };
    let run = run.ok_or_else(|| RunProfileError::NoRun(DisplayText::new(&args.run)))?;
    if run.learnt.count() == 0 {
        let label = DisplayText::name(run.sandbox.label());
        return Err(RunProfileError::NothingReached(label).into());
    }
    let profile = run.learnt.to_profile(&describe_run(&run));
    let profile = profile.map_err(RunProfileError::TooLarge)?;
    for warning in describe_gaps(&run, args) {
        context
            .output
            .print_error_line(&format!("warning: {warning}"));
    }
    if !context.json {
        context.output.print(&profile.render())?;
    }
    let saved = match &args.save {
        None => None,
        Some(name) => Some(save(name, &profile, args.yes, context)?),
    };
    if context.json {
        let object = json!({
            "event": "run_profile",
            "sandbox": run.sandbox.id.as_str(),
            "name": run.sandbox.name.as_ref().map(DisplayText::as_str),
            "profile": profile.render(),
            "groups": groups_json(&run.learnt),
            "path": saved,
        });
        context.output.print_line(&object.to_string())?;
    } else if let (Some(path), Some(name)) = (saved, &args.save) {
        let path = DisplayText::name(&path);
        let line = format!("saved as {path}: `terok-clearance run --profile {name}` uses it");
        context.output.print_error_line(&line);
    }
    Ok(CommandStatus::OK)
}

/// Returns the first line of the profile: `reached by web, 2026-11-29 20:04:19 (run 0123456789ab)`.
fn describe_run(run: &RecordedRun) -> String {
    let id = run.sandbox.id.short();
    let label = run.sandbox.label();
    let started = run.started.map_or_else(String::new, |started| {
        format!(", {}", system_time_zone().format_datetime(started))
    });
    format!("reached by {label}{started} (run {id})")
}

fn describe_gaps(run: &RecordedRun, args: &FromArgs) -> Vec<String> {
    let mut gaps = Vec::new();
    if run.namesakes > 1 && args.run != "last" {
        let (count, name) = (run.namesakes, DisplayText::new(&args.run));
        let id = run.sandbox.id.short();
        gaps.push(format!(
            "{count} runs are called {name}: this is the newest, {id}"
        ));
    }
    if !run.has_ended {
        gaps.push("the record has no end of this run: it may reach more".to_owned());
    }
    if run.started.is_none() {
        gaps.push("the record does not go back to the start of this run".to_owned());
    }
    if run.has_losses {
        gaps.push("entries of the record were lost since this run began".to_owned());
    }
    gaps
}

/// Saves the profile once the operator has accepted it, and returns its path.
fn save(
    name: &ProfileName,
    profile: &RuleFile,
    is_accepted: bool,
    context: &CommandContext,
) -> Result<String, CommandError> {
    let store = open_store(context)?;
    store.check_new_profile(name)?;
    if !is_accepted {
        if !can_confirm(context) {
            return Err(RunProfileError::NobodyToAsk.into());
        }
        let count = profile.rule_count();
        let rules = if count == 1 { "rule" } else { "rules" };
        if !confirm(&format!(
            "Save these {count} {rules} as the profile {name}? [y/N] "
        )) {
            return Err(RunProfileError::Refused.into());
        }
    }
    let path = store.create_profile(name, profile)?;
    Ok(path.to_string_lossy().into_owned())
}
