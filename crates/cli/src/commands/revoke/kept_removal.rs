// SPDX-License-Identifier: Apache-2.0
//! `revoke --always` and `revoke --project`: removes rules from the operator's files.

use std::path::{Path, PathBuf};

use policy::{FileRule, RuleEditError, RuleFile};
use record::{AuditEntry, AuditEvent, AuditOperator, AuditRuleEnd, RecordAppender, RuleEndReason};
use serde_json::json;
use store::ProjectPath;
use terok_clearance::{Action, DestPattern, DisplayText, Timestamp};

use super::super::kept_project::{find_project, open_rule_store};
use super::super::rules::place_to_json;
use super::super::run::merged_records;
use crate::settings_files::read_organisation;
use crate::{CommandContext, CommandError, CommandStatus};

/// The file from which rules are removed.
#[derive(Debug, clap::Args)]
pub(super) struct KeptPlaceArgs {
    /// Remove rules from those that you keep for every sandbox, whether one runs or not; `rules
    /// --kept` lists them
    #[arg(long, conflicts_with_all = ["project", "socket"])]
    always: bool,
    /// Remove rules from those of the project in this directory [default: the project of the
    /// working directory]
    #[arg(long, value_name = "DIR", num_args = 0..=1, require_equals = true,
        conflicts_with = "socket")]
    #[expect(clippy::option_option, reason = "an option whose value is optional")]
    project: Option<Option<PathBuf>>,
}

impl KeptPlaceArgs {
    /// Returns `true` if rules of a file are removed.
    pub(super) const fn is_given(&self) -> bool {
        self.always || self.project.is_some()
    }
}

/// A rule as a file states it: `!` in front names a deny, else both actions are meant.
#[derive(Debug, Clone, PartialEq, Eq)]
struct WrittenRule {
    action: Option<Action>,
    pattern: DestPattern,
}

impl WrittenRule {
    fn parse(text: &str) -> Result<Self, String> {
        let (action, dest) = match text.strip_prefix('!') {
            Some(dest) => (Some(Action::Deny), dest.trim_start()),
            None => (None, text),
        };
        let pattern = dest.parse::<DestPattern>();
        let pattern = pattern.map_err(|error| error.to_string())?;
        Ok(Self { action, pattern })
    }

    fn names(&self, rule: &FileRule) -> bool {
        rule.pattern == self.pattern && self.action.is_none_or(|action| action == rule.action)
    }
}

/// What became of one argument.
enum RemovalOutcome {
    Removed(Vec<FileRule>),
    Missing(String),
    Invalid(String),
}

/// Runs the command.
pub(super) fn perform(
    place: &KeptPlaceArgs,
    names: &[String],
    context: &CommandContext,
) -> Result<CommandStatus, CommandError> {
    let store = open_rule_store(context)?;
    let project = match &place.project {
        Some(directory) => Some(find_project(&store, directory.as_deref(), context)?),
        None => None,
    };
    let (path, before) = match &project {
        Some(project) => (
            store.project_file_path(project),
            store.load_project(project)?,
        ),
        None => (store.always_path(), store.load_always()?),
    };
    let mut outcomes = find_rules(&before, names);
    let is_found = |outcome: &RemovalOutcome| matches!(outcome, RemovalOutcome::Removed(_));
    // A file that has no such rule is not written, and a missing one is not made.
    if outcomes.iter().any(is_found) {
        let edit = |file: &mut RuleFile| remove_rules(file, names);
        outcomes = match &project {
            Some(project) => store.edit_project(project, edit)?,
            None => store.edit_always(edit)?,
        };
    }
    if let Err(error) = record_removals(&outcomes, project.as_ref(), context) {
        let reason = error.message();
        let line = format!("warning: the record has no entry of what was removed: {reason}");
        context.output.print_error_line(&line);
    }
    for (name, outcome) in names.iter().zip(&outcomes) {
        print_outcome(name, outcome, project.as_ref(), &path, context)?;
    }
    if outcomes.iter().any(is_found) && !context.json {
        let which = if project.is_some() {
            "sandboxes of this project that run"
        } else {
            "sandboxes that run"
        };
        context.output.print_line(&format!(
            "{which} notice it at once: connections that nothing else allows end, and the next one \
             is asked about"
        ))?;
    }
    Ok(removals_status(&outcomes))
}

fn find_rules(file: &RuleFile, names: &[String]) -> Vec<RemovalOutcome> {
    let outcomes = names.iter().map(|name| {
        let wanted = match WrittenRule::parse(name) {
            Ok(wanted) => wanted,
            Err(reason) => return RemovalOutcome::Invalid(reason),
        };
        let found: Vec<_> = file.rules().filter(|rule| wanted.names(rule)).collect();
        if found.is_empty() {
            RemovalOutcome::Missing(describe_missing(file, &wanted))
        } else {
            RemovalOutcome::Removed(found)
        }
    });
    outcomes.collect()
}

/// Removes the rules, and returns them with the numbers that their lines had.
fn remove_rules(
    file: &mut RuleFile,
    names: &[String],
) -> Result<Vec<RemovalOutcome>, RuleEditError> {
    let outcomes = find_rules(file, names);
    for outcome in &outcomes {
        if let RemovalOutcome::Removed(rules) = outcome {
            for rule in rules {
                file.remove(rule.action, &rule.pattern)?;
            }
        }
    }
    Ok(outcomes)
}

/// Records the ends of the rules, once in each record. The sandboxes record what ended with them.
fn record_removals(
    outcomes: &[RemovalOutcome],
    project: Option<&ProjectPath>,
    context: &CommandContext,
) -> Result<(), CommandError> {
    let origin = match project {
        Some(project) => DisplayText::new(&format!("project {}", project.display_text())),
        None => DisplayText::new("always"),
    };
    let by = AuditOperator {
        uid: Some(rustix::process::geteuid().as_raw()),
        pid: Some(std::process::id()),
        program: Some(DisplayText::new("terok-clearance")),
    };
    let removed = outcomes.iter().flat_map(|outcome| match outcome {
        RemovalOutcome::Removed(rules) => rules.as_slice(),
        RemovalOutcome::Missing(_) | RemovalOutcome::Invalid(_) => &[],
    });
    let entries = removed.map(|rule| {
        let end = AuditRuleEnd {
            rule: DisplayText::new(&format!("line {}", rule.line)),
            pattern: DisplayText::new(&rule.pattern.to_string()),
            action: rule.action,
            origin: origin.clone(),
            why: RuleEndReason::Revoked,
            connections_ended: 0,
            by: Some(by.clone()),
        };
        AuditEntry::new(Timestamp::now(), None, AuditEvent::RuleEnded(end))
    });
    let entries: Vec<_> = entries.collect();
    if entries.is_empty() {
        return Ok(());
    }
    let organisation = read_organisation()?;
    let settings = context.settings.get()?;
    let environment = &context.environment;
    for record in merged_records(false, environment, settings, organisation.as_deref())? {
        let (_, appended) = RecordAppender::new(record).append(&entries);
        appended.map_err(anyhow::Error::new)?;
    }
    Ok(())
}

/// Says that the file has no such rule, and which ones about the same host it has.
fn describe_missing(file: &RuleFile, wanted: &WrittenRule) -> String {
    const MAX_SHOWN: usize = 5;
    let same_host = file
        .rules()
        .filter(|rule| rule.pattern.host() == wanted.pattern.host());
    let similar: Vec<_> = same_host
        .take(MAX_SHOWN)
        .map(|rule| {
            let mark = if rule.action == Action::Deny { "!" } else { "" };
            format!("{mark}{}", rule.pattern)
        })
        .collect();
    if similar.is_empty() {
        "there is no such rule; `terok-clearance rules --kept` lists them".to_owned()
    } else {
        format!("there is no such rule, but {}", similar.join(", "))
    }
}

fn print_outcome(
    name: &str,
    outcome: &RemovalOutcome,
    project: Option<&ProjectPath>,
    path: &Path,
    context: &CommandContext,
) -> Result<(), CommandError> {
    let output = context.output;
    let shown_name = DisplayText::new(name);
    let shown_path = DisplayText::name(&path.to_string_lossy());
    match outcome {
        RemovalOutcome::Removed(rules) if context.json => {
            let rules = rules.iter().map(|rule| {
                let dest = rule.pattern.to_string();
                json!({ "action": rule.action.as_str(), "dest": dest, "line": rule.line })
            });
            let mut object = place_to_json(project, path);
            object["event"] = json!("kept_removed");
            object["name"] = json!(shown_name.as_str());
            object["rules"] = rules.collect();
            output.print_line(&object.to_string())?;
        }
        RemovalOutcome::Removed(rules) => {
            for rule in rules {
                let (line, action) = (rule.line, rule.action.as_str());
                let text = format!("removed {action} {} from {shown_path}:{line}", rule.pattern);
                output.print_line(&text)?;
            }
        }
        RemovalOutcome::Missing(reason) if context.json => {
            let object = json!({
                "event": "missing_rule", "name": shown_name.as_str(), "reason": reason,
            });
            output.print_line(&object.to_string())?;
        }
        RemovalOutcome::Invalid(reason) if context.json => {
            let object = json!({ "event": "refused", "reason": format!("{shown_name}: {reason}") });
            output.print_line(&object.to_string())?;
        }
        RemovalOutcome::Missing(reason) => {
            output.print_error_line(&format!("{shown_name}: {reason} ({shown_path})"));
        }
        RemovalOutcome::Invalid(reason) => {
            output.print_error_line(&format!("{shown_name}: no destination: {reason}"));
        }
    }
    Ok(())
}

fn removals_status(outcomes: &[RemovalOutcome]) -> CommandStatus {
    let has = |wanted: fn(&RemovalOutcome) -> bool| outcomes.iter().any(wanted);
    if has(|outcome| matches!(outcome, RemovalOutcome::Invalid(_))) {
        CommandStatus::FAILURE
    } else if has(|outcome| matches!(outcome, RemovalOutcome::Missing(_))) {
        CommandStatus::NO_SUCH_RULE
    } else {
        CommandStatus::OK
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn a_rule_is_named_as_its_line_states_it() {
        let text = b"# mine\na.example:443/tcp  # why\n!a.example:443/tcp\n-b.example\nc.example\n";
        let mut file = RuleFile::parse(text).unwrap();
        let wanted = names(&["!a.example:443/tcp", "b.example", "d.example", "no/where"]);
        let outcomes = remove_rules(&mut file, &wanted).unwrap();
        assert_eq!(
            file.render(),
            "# mine\na.example:443/tcp  # why\n!*.b.example\nc.example\n"
        );
        let lines = |outcome: &RemovalOutcome| match outcome {
            RemovalOutcome::Removed(rules) => rules.iter().map(|rule| rule.line).collect(),
            _ => Vec::new(),
        };
        let lines: Vec<_> = outcomes.iter().map(lines).collect();
        assert_eq!(lines, [vec![3], vec![4], vec![], vec![]]);
        assert!(matches!(outcomes[2], RemovalOutcome::Missing(_)));
        assert!(matches!(outcomes[3], RemovalOutcome::Invalid(_)));
        assert_eq!(removals_status(&outcomes), CommandStatus::FAILURE);
    }

    #[test]
    fn without_a_mark_both_actions_are_removed() {
        let mut file = RuleFile::parse(b"a.example\n!a.example\n").unwrap();
        let outcomes = remove_rules(&mut file, &names(&["a.example"])).unwrap();
        assert_eq!(file.rule_count(), 0);
        assert_eq!(removals_status(&outcomes), CommandStatus::OK);
    }

    #[test]
    fn a_narrower_name_is_told_what_there_is() {
        let file = RuleFile::parse(b"!a.example:443/tcp\n").unwrap();
        let wanted = WrittenRule::parse("a.example").unwrap();
        assert!(describe_missing(&file, &wanted).ends_with("but !a.example:443/tcp"));
    }
}
