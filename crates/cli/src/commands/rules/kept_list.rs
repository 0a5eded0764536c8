// SPDX-License-Identifier: Apache-2.0
//! `rules --kept`: the rules of the operator's files, without a sandbox.

use std::path::{Path, PathBuf};

use policy::RuleFile;
use serde_json::{Value, json};
use store::{ProjectPath, RuleStoreError};
use terok_clearance::DisplayText;

use super::super::kept_project::{find_project, open_rule_store};
use crate::error::error_causes;
use crate::{CommandContext, CommandError, CommandStatus};

/// Which files are listed.
#[derive(Debug, clap::Args)]
pub(super) struct KeptArgs {
    /// List the rules that are kept in your files, whether a sandbox runs or not: those for every
    /// sandbox, and those of the project of this directory
    #[arg(long, conflicts_with_all = ["sandboxes", "socket"])]
    pub(super) kept: bool,
    /// With --kept: the project in this directory
    #[arg(long, value_name = "DIR", requires = "kept")]
    project: Option<PathBuf>,
    /// With --kept: every project
    #[arg(long, requires = "kept", conflicts_with = "project")]
    all_projects: bool,
}

/// A file with kept rules.
struct ListedFile {
    /// `None`: the rules for every sandbox.
    project: Option<ProjectPath>,
    path: PathBuf,
    loaded: Result<RuleFile, RuleStoreError>,
}

/// Runs the command.
pub(super) fn perform(
    args: &KeptArgs,
    context: &CommandContext,
) -> Result<CommandStatus, CommandError> {
    let files = read_files(args, context)?;
    let (mut count, mut status) = (0_usize, CommandStatus::OK);
    for file in &files {
        match &file.loaded {
            Ok(rules) => {
                count = count.saturating_add(rules.rule_count());
                print_rules(file, rules, context)?;
            }
            Err(error) => {
                status = CommandStatus::FAILURE;
                print_unusable(&file.path, error, context)?;
            }
        }
    }
    if context.json {
        let end = json!({ "event": "rules", "rules": count });
        context.output.print_line(&end.to_string())?;
    } else if count == 0 && status == CommandStatus::OK {
        let project = files.iter().find_map(|file| file.project.as_ref());
        let place = match project {
            Some(project) if !args.all_projects => {
                format!(" or for the project {}", project.display_text())
            }
            _ if args.all_projects => " or for a project".to_owned(),
            _ => String::new(),
        };
        let line = format!("no rules are kept for every sandbox{place}");
        context.output.print_error_line(&line);
    }
    Ok(status)
}

fn read_files(args: &KeptArgs, context: &CommandContext) -> Result<Vec<ListedFile>, CommandError> {
    let store = open_rule_store(context)?;
    let mut files = vec![ListedFile {
        project: None,
        path: store.always_path(),
        loaded: store.load_always(),
    }];
    if args.all_projects {
        for kept in store.list_projects()? {
            files.push(match kept {
                Ok(kept) => ListedFile {
                    project: Some(kept.project),
                    path: kept.path,
                    loaded: Ok(kept.file),
                },
                Err(error) => ListedFile {
                    project: None,
                    path: error
                        .path()
                        .unwrap_or_else(|| store.config_dir())
                        .to_owned(),
                    loaded: Err(error),
                },
            });
        }
    } else {
        let project = find_project(&store, args.project.as_deref(), context)?;
        files.push(ListedFile {
            path: store.project_file_path(&project),
            loaded: store.load_project(&project),
            project: Some(project),
        });
    }
    Ok(files)
}

fn print_rules(
    file: &ListedFile,
    rules: &RuleFile,
    context: &CommandContext,
) -> Result<(), CommandError> {
    if context.json {
        for rule in rules.rules() {
            let mut object = place_to_json(file.project.as_ref(), &file.path);
            object["event"] = json!("kept_rule");
            object["line"] = json!(rule.line);
            object["action"] = json!(rule.action.as_str());
            object["dest"] = json!(rule.pattern.to_string());
            context.output.print_line(&object.to_string())?;
        }
        return Ok(());
    }
    if rules.rule_count() == 0 {
        return Ok(());
    }
    let path = DisplayText::name(&file.path.to_string_lossy());
    let place = match &file.project {
        None => "always, in every sandbox".to_owned(),
        Some(project) => {
            let gone = if project.as_path().is_dir() {
                ""
            } else {
                " (the directory is gone)"
            };
            format!("for the project {}{gone}", project.display_text())
        }
    };
    context.output.print_line(&format!("{place}: {path}"))?;
    for rule in rules.rules() {
        let line = format!(
            "{:>5}  {:5}  {}",
            rule.line,
            rule.action.as_str(),
            rule.pattern
        );
        context.output.print_line(&line)?;
    }
    Ok(())
}

fn print_unusable(
    path: &Path,
    error: &RuleStoreError,
    context: &CommandContext,
) -> Result<(), CommandError> {
    let reason = error_causes(error).join(": ");
    if context.json {
        let path = path.to_string_lossy();
        let object = json!({ "event": "unusable_file", "path": path, "reason": reason });
        context.output.print_line(&object.to_string())?;
    } else {
        let hints: Vec<_> = crate::exit::rule_store_hint(error).into_iter().collect();
        context.output.print_error(&reason, &hints);
    }
    Ok(())
}

/// Returns the fields that name a file of kept rules.
pub(in crate::commands) fn place_to_json(project: Option<&ProjectPath>, path: &Path) -> Value {
    let mut object = json!({
        "place": if project.is_some() { "project" } else { "always" },
        "path": path.to_string_lossy(),
    });
    if let Some(project) = project {
        object["project"] = json!(project.display_text().as_str());
    }
    object
}
