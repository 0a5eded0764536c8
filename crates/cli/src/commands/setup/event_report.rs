// SPDX-License-Identifier: Apache-2.0
//! Prints the steps of `setup` and `uninstall`.

use host_setup::{PathChange, SetupEvent, SetupPart};
use serde_json::json;
use terok_clearance::DisplayText;

use crate::output::OutputError;
use crate::{CommandContext, CommandError};

/// The steps of a setup or uninstall, printed as they come.
pub(in crate::commands) struct EventReport<'a> {
    command: &'static str,
    is_dry_run: bool,
    context: &'a CommandContext,
    problems: usize,
    is_changed: bool,
    /// Manual pages share a line.
    man_pages: Option<(PathChange, String, usize)>,
    printed: Result<(), OutputError>,
}

impl<'a> EventReport<'a> {
    pub(in crate::commands) const fn new(
        command: &'static str,
        is_dry_run: bool,
        context: &'a CommandContext,
    ) -> Self {
        Self {
            command,
            is_dry_run,
            context,
            problems: 0,
            is_changed: false,
            man_pages: None,
            printed: Ok(()),
        }
    }

    /// Prints a step. The steps go on if the output was closed.
    pub(in crate::commands) fn add(&mut self, event: &SetupEvent) {
        self.problems += usize::from(event.is_problem());
        self.is_changed |= match event {
            SetupEvent::Path { change, .. } => matches!(
                change,
                PathChange::Created
                    | PathChange::Replaced
                    | PathChange::Removed
                    | PathChange::Restored
            ),
            _ => false,
        };
        if self.context.json {
            let line = event_json(event, self.is_dry_run).to_string();
            self.print(&line);
            return;
        }
        if let SetupEvent::Path {
            part: SetupPart::ManPages,
            path,
            change,
        } = event
        {
            let directory = path.parent().unwrap_or(path).to_string_lossy().into_owned();
            match &mut self.man_pages {
                Some((known, _, count)) if known == change => *count += 1,
                _ => {
                    self.flush_man_pages();
                    self.man_pages = Some((*change, directory, 1));
                }
            }
            return;
        }
        self.flush_man_pages();
        let is_error = matches!(event, SetupEvent::Failed { .. });
        if let Some(line) = event_text(event, self.is_dry_run) {
            if is_error {
                self.context.output.print_error_line(&line);
            } else {
                self.print(&line);
            }
        }
    }

    /// Ends the report. Returns `true` if anything was changed, or would be.
    pub(in crate::commands) fn finish(mut self) -> Result<bool, CommandError> {
        self.flush_man_pages();
        self.printed?;
        if self.problems > 0 {
            return Err(CommandError::SetupProblems {
                command: self.command,
                problems: self.problems,
            });
        }
        Ok(self.is_changed)
    }

    fn flush_man_pages(&mut self) {
        if let Some((change, directory, count)) = self.man_pages.take() {
            let subject = format!("{count} manual pages in {}", DisplayText::name(&directory));
            if let Some(line) = change_text(change, &subject, self.is_dry_run) {
                self.print(&line);
            }
        }
    }

    fn print(&mut self, line: &str) {
        if self.printed.is_ok() {
            self.printed = self.context.output.print_line(line);
        }
    }
}

fn event_json(event: &SetupEvent, is_dry_run: bool) -> serde_json::Value {
    let part = event.part().as_str();
    let mut object = match event {
        SetupEvent::Path { path, change, .. } => json!({
            "event": "path",
            "part": part,
            "path": path.to_string_lossy(),
            "change": change.as_str(),
        }),
        SetupEvent::Command { command, .. } => {
            json!({ "event": "command", "part": part, "command": command })
        }
        SetupEvent::Skipped { reason, .. } => {
            json!({ "event": "skipped", "part": part, "reason": reason })
        }
        SetupEvent::Failed { message, .. } => {
            json!({ "event": "failed", "part": part, "error": message })
        }
        other => json!({ "event": "other", "part": part, "text": format!("{other:?}") }),
    };
    if is_dry_run {
        object["dry_run"] = json!(true);
    }
    object
}

fn event_text(event: &SetupEvent, is_dry_run: bool) -> Option<String> {
    let part = part_text(event.part());
    match event {
        SetupEvent::Path { path, change, .. } => {
            let path = DisplayText::name(&path.to_string_lossy());
            change_text(*change, path.as_str(), is_dry_run)
        }
        SetupEvent::Command { command, .. } => {
            let verb = if is_dry_run { "would run" } else { "ran" };
            Some(format!("{verb:13} {}", DisplayText::new(command)))
        }
        SetupEvent::Skipped { reason, .. } => Some(format!(
            "{:13} {part}: {}",
            "skipped",
            DisplayText::new(reason)
        )),
        SetupEvent::Failed { message, .. } => Some(format!(
            "{:13} {part}: {}",
            "failed",
            DisplayText::new(message)
        )),
        _ => None,
    }
}

/// Returns the line for a file or directory; `None` if it is as it should be.
fn change_text(change: PathChange, subject: &str, is_dry_run: bool) -> Option<String> {
    let (done, planned, note) = match change {
        PathChange::Created => ("created", "would create", ""),
        PathChange::Replaced => ("updated", "would update", ""),
        PathChange::Removed => ("removed", "would remove", ""),
        PathChange::Restored => ("restored", "would restore", ""),
        PathChange::Unchanged => return None,
        PathChange::KeptChanged => (
            "left alone",
            "left alone",
            ", which was changed since setup wrote it; remove it if you do not need it",
        ),
        PathChange::KeptForeign => (
            "left alone",
            "left alone",
            ", which setup did not write; move it away for setup's own",
        ),
    };
    let verb = if is_dry_run { planned } else { done };
    Some(format!("{verb:13} {subject}{note}"))
}

const fn part_text(part: SetupPart) -> &'static str {
    match part {
        SetupPart::LegacyUnit => "unit of an old release",
        SetupPart::Supervisor => "supervisors",
        SetupPart::Notifier => "popups",
        SetupPart::ClassicHub => "classic hub",
        SetupPart::ProgramNames => "names of the program",
        SetupPart::Completions => "completions",
        SetupPart::ManPages => "manual pages",
        SetupPart::Icon => "icon",
        SetupPart::Apparmor => "AppArmor profile",
        SetupPart::Hooks => "hooks",
        SetupPart::ContainersConf => "containers.conf",
        SetupPart::Bookkeeping => "list of installed files",
    }
}
