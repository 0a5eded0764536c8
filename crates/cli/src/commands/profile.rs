// SPDX-License-Identifier: Apache-2.0
//! `profile`: lists, shows and checks profiles.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use clap::Subcommand;
use policy::{
    FileRule, MAX_RULE_FILE_BYTES, ProfileName, RuleFile, RuleFileError, RuleLineError,
    bundled_profile,
};
use serde_json::{Value, json};
use store::{LoadedProfile, ProfileEntry, ProfileOrigin, RuleStore, RuleStoreError};
use terok_clearance::{Action, DisplayText};

use crate::error::error_causes;
use crate::{CommandContext, CommandError, CommandStatus};

/// Long help.
pub(super) const ABOUT: &str = "List, show and check profiles.

A profile is a text file with one destination a line, which is allowed; `!` in front denies it, \
and `#` begins a comment. Bundled profiles cover common work. Your own are files \
~/.config/terok-clearance/profiles/NAME.rules; one with the name of a bundled profile replaces it.";

/// Command-line arguments.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  terok-clearance profile list
  terok-clearance profile show npm
  terok-clearance profile show npm --bundled > ~/.config/terok-clearance/profiles/npm.rules
  terok-clearance profile check
  terok-clearance profile check ./web.rules

docs/profiles.md describes the format, and which rule decides.

Exit status:
  0    success
  1    a file has a wrong line or cannot be used, or there is no profile of this name; the
       other files are listed or checked all the same
  2    invalid arguments")]
pub struct Args {
    #[command(subcommand)]
    command: ProfileCommand,
}

/// The commands about profiles.
#[derive(Debug, Subcommand)]
enum ProfileCommand {
    /// List the bundled profiles and your own
    #[command(after_long_help = "\
Examples:
  terok-clearance profile list
  terok-clearance profile list --json | jq -r 'select(.event == \"profile\") | .name'

With --json, each line is an object: `event` is `profile`, `origin` is `bundled` or `own`, and
`error` is there if the profile cannot be used.")]
    List,
    /// Print a profile as it is
    #[command(after_long_help = "\
Examples:
  terok-clearance profile show npm
  terok-clearance profile show npm --json
  terok-clearance profile show npm --bundled > ~/.config/terok-clearance/profiles/npm.rules

In the last example --bundled is needed, because the shell makes the file first, empty, and it then
replaces the bundled profile.

With --json, one object: `rules` are the rules with the numbers of their lines.")]
    Show {
        /// The name of the profile
        #[arg(value_name = "NAME")]
        name: ProfileName,
        /// The bundled profile, also if your own replaces it
        #[arg(long)]
        bundled: bool,
    },
    /// Check rule files, and print every wrong line
    #[command(after_long_help = "\
Examples:
  terok-clearance profile check
  terok-clearance profile check ./web.rules
  terok-clearance profile show npm | terok-clearance profile check -

Without FILE, all your own profiles and all kept answers are checked, and also whether other users
could change them. With --json, each line is an object: `event` is `checked` for each file, with
`rules`, the number of its rules, or with `errors`.")]
    Check {
        /// Files; - is standard input
        #[arg(value_name = "FILE")]
        files: Vec<PathBuf>,
    },
}

/// Runs the command.
pub fn perform(args: Args, context: &CommandContext) -> Result<CommandStatus, CommandError> {
    match args.command {
        ProfileCommand::List => list(context),
        ProfileCommand::Show { name, bundled } => show(&name, bundled, context),
        ProfileCommand::Check { files } if files.is_empty() => check_own(context),
        ProfileCommand::Check { files } => check_files(&files, context),
    }
}

fn open_store(context: &CommandContext) -> Result<RuleStore, CommandError> {
    Ok(RuleStore::open(context.environment.config_dir())?)
}

fn list(context: &CommandContext) -> Result<CommandStatus, CommandError> {
    let mut status = CommandStatus::OK;
    let entries = open_store(context)?.list_profiles()?;
    let longest = entries.iter().map(|entry| entry.name.as_str().len()).max();
    let width = longest.unwrap_or_default();
    for entry in &entries {
        if entry.loaded.is_err() {
            status = CommandStatus::FAILURE;
        }
        if context.json {
            let object = entry_to_json(entry);
            context.output.print_line(&object.to_string())?;
            continue;
        }
        match &entry.loaded {
            Ok(profile) => {
                let line = entry_to_text(profile, width);
                context.output.print_line(&line)?;
            }
            Err(error) => {
                let causes = error_causes(error).join(": ");
                let line = format!("{:width$}  unusable: {causes}", entry.name.as_str());
                context.output.print_error_line(&line);
            }
        }
    }
    Ok(status)
}

fn entry_to_text(profile: &LoadedProfile, width: usize) -> String {
    let count = profile.file.rule_count();
    let origin = match &profile.origin {
        ProfileOrigin::Bundled => "bundled",
        ProfileOrigin::Own {
            replaces_bundled: true,
            ..
        } => "own, replaces the bundled one",
        ProfileOrigin::Own { .. } => "own",
    };
    let purpose = profile.file.purpose();
    let purpose = purpose.as_ref().map_or("", DisplayText::as_str);
    let rules = if count == 1 { "rule" } else { "rules" };
    let name = profile.name.as_str();
    let line = format!("{name:width$}  {count:>3} {rules:5}  {purpose} ({origin})");
    line.replace("   (", "  (")
}

fn entry_to_json(entry: &ProfileEntry) -> Value {
    let name = entry.name.as_str();
    match &entry.loaded {
        Ok(profile) => {
            let mut object = profile_to_json("profile", profile);
            object["rules"] = json!(profile.file.rule_count());
            object
        }
        Err(error) => json!({
            "event": "profile",
            "name": name,
            "origin": "own",
            "replaces_bundled": bundled_profile(&entry.name).is_some(),
            "error": error_causes(error).join(": "),
        }),
    }
}

fn profile_to_json(event: &str, profile: &LoadedProfile) -> Value {
    let (origin, path, replaces) = match &profile.origin {
        ProfileOrigin::Bundled => ("bundled", None, false),
        ProfileOrigin::Own {
            path,
            replaces_bundled,
        } => ("own", Some(path.to_string_lossy()), *replaces_bundled),
    };
    let purpose = profile.file.purpose();
    json!({
        "event": event,
        "name": profile.name.as_str(),
        "origin": origin,
        "path": path,
        "replaces_bundled": replaces,
        "purpose": purpose.as_ref().map(DisplayText::as_str),
    })
}

fn show(
    name: &ProfileName,
    bundled: bool,
    context: &CommandContext,
) -> Result<CommandStatus, CommandError> {
    let profile = if bundled {
        let missing = || RuleStoreError::NoBundledProfile(name.clone());
        LoadedProfile::bundled(name).ok_or_else(missing)?
    } else {
        open_store(context)?.load_profile(name)?
    };
    if context.json {
        let mut object = profile_to_json("shown", &profile);
        let rules: Vec<Value> = profile
            .file
            .rules()
            .map(|rule| rule_to_json(&rule))
            .collect();
        object["rules"] = json!(rules);
        context.output.print_line(&object.to_string())?;
        return Ok(CommandStatus::OK);
    }
    if let ProfileOrigin::Own {
        path,
        replaces_bundled: true,
    } = &profile.origin
    {
        let path = path.display();
        let line = format!("{path} replaces the bundled profile {name}");
        context.output.print_error_line(&line);
    }
    context.output.print(&profile.file.render())?;
    Ok(CommandStatus::OK)
}

fn rule_to_json(rule: &FileRule) -> Value {
    json!({
        "action": rule.action.as_str(),
        "dest": rule.pattern.to_string(),
        "line": rule.line,
    })
}

/// Checks the operator's own profiles and all kept answers.
fn check_own(context: &CommandContext) -> Result<CommandStatus, CommandError> {
    let store = open_store(context)?;
    let mut report = CheckReport::new(context);
    for entry in store.list_profiles()? {
        match entry.loaded {
            Ok(LoadedProfile {
                origin: ProfileOrigin::Own { path, .. },
                file,
                ..
            }) => report.passed(&path, &file)?,
            Ok(_) => {}
            Err(error) => report.refused(&error)?,
        }
    }
    let always = store.always_path();
    match store.load_always() {
        Ok(file) if file.first_line().is_some() => report.passed(&always, &file)?,
        Ok(_) => {}
        Err(error) => report.refused(&error)?,
    }
    for project in store.list_projects()? {
        match project {
            Ok(kept) => report.passed(&kept.path, &kept.file)?,
            Err(error) => report.refused(&error)?,
        }
    }
    if report.files == 0 && !context.json {
        let directory = store.config_dir().display().to_string();
        context
            .output
            .print_error_line(&format!("no rule files in {directory}"));
    }
    Ok(report.status)
}

/// Checks the text of files; their owners do not matter.
fn check_files(files: &[PathBuf], context: &CommandContext) -> Result<CommandStatus, CommandError> {
    let mut report = CheckReport::new(context);
    for path in files {
        match read_file(path) {
            Ok(bytes) => match RuleFile::parse(&bytes) {
                Ok(file) => report.passed(path, &file)?,
                Err(error) => report.wrong_lines(path, &error)?,
            },
            Err(error) => report.failed(path, &format!("cannot read it: {error}"))?,
        }
    }
    Ok(report.status)
}

fn read_file(path: &Path) -> io::Result<Vec<u8>> {
    let limit = u64::try_from(MAX_RULE_FILE_BYTES).unwrap_or(u64::MAX);
    let mut bytes = Vec::new();
    // One byte more, so that the parser refuses a larger file.
    let limit = limit.saturating_add(1);
    if path == Path::new("-") {
        io::stdin().lock().take(limit).read_to_end(&mut bytes)?;
    } else {
        File::open(path)?.take(limit).read_to_end(&mut bytes)?;
    }
    Ok(bytes)
}

/// Prints the result for each file.
struct CheckReport<'a> {
    context: &'a CommandContext,
    status: CommandStatus,
    files: usize,
}

impl<'a> CheckReport<'a> {
    const fn new(context: &'a CommandContext) -> Self {
        Self {
            context,
            status: CommandStatus::OK,
            files: 0,
        }
    }

    fn passed(&mut self, path: &Path, file: &RuleFile) -> Result<(), CommandError> {
        self.files += 1;
        let count = file.rule_count();
        let denies = file.rules().filter(|rule| rule.action == Action::Deny);
        let line = if self.context.json {
            let path = path.to_string_lossy();
            json!({ "event": "checked", "path": path, "rules": count }).to_string()
        } else {
            let rules = if count == 1 { "rule" } else { "rules" };
            let path = DisplayText::name(&path.to_string_lossy());
            match denies.count() {
                0 => format!("{path}: {count} {rules}"),
                denies => format!("{path}: {count} {rules}, {denies} of them deny"),
            }
        };
        Ok(self.context.output.print_line(&line)?)
    }

    fn refused(&mut self, error: &RuleStoreError) -> Result<(), CommandError> {
        let path = error
            .path()
            .unwrap_or_else(|| self.context.environment.config_dir());
        if let Some(lines) = error.rule_file_error() {
            return self.wrong_lines(path, lines);
        }
        // The first text of such an error is the path.
        let is_about_path = matches!(error, RuleStoreError::File { .. });
        let causes = error_causes(error).into_iter().skip(is_about_path.into());
        self.failed(path, &causes.collect::<Vec<_>>().join(": "))
    }

    fn wrong_lines(&mut self, path: &Path, error: &RuleFileError) -> Result<(), CommandError> {
        if error.lines().is_empty() {
            return self.failed(path, &error.to_string());
        }
        let errors: Vec<Value> = error.lines().iter().map(line_to_json).collect();
        let path_text = DisplayText::name(&path.to_string_lossy());
        let lines = error.lines().iter();
        let texts = lines.map(|line| format!("{path_text}:{}: {}", line.line, line.problem));
        self.print_failure(path, &json!(errors), &texts.collect::<Vec<_>>())
    }

    fn failed(&mut self, path: &Path, problem: &str) -> Result<(), CommandError> {
        let path_text = DisplayText::name(&path.to_string_lossy());
        let errors = json!([{ "error": problem }]);
        self.print_failure(path, &errors, &[format!("{path_text}: {problem}")])
    }

    fn print_failure(
        &mut self,
        path: &Path,
        errors: &Value,
        lines: &[String],
    ) -> Result<(), CommandError> {
        self.files += 1;
        self.status = CommandStatus::FAILURE;
        let output = self.context.output;
        if self.context.json {
            let path = path.to_string_lossy();
            let object = json!({ "event": "checked", "path": path, "errors": errors });
            output.print_line(&object.to_string())?;
        } else {
            output.print_error_line(&lines.join("\n"));
        }
        Ok(())
    }
}

fn line_to_json(line: &RuleLineError) -> Value {
    json!({
        "line": line.line,
        "text": line.text.as_str(),
        "error": line.problem.to_string(),
    })
}
