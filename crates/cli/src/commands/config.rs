// SPDX-License-Identifier: Apache-2.0
//! `config`: what is configured and by what, checks of the files, and examples.

mod effective;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context as _;
use clap::Subcommand;
use settings::{
    ORGANISATION_KEYS, OrganisationError, OrganisationPolicy, USER_KEYS, UserSettings,
    UserSettingsError, example_file,
};
use terok_clearance::DisplayText;

use crate::settings_files::{ORGANISATION_FILE, check_text, read_organisation};
use crate::{CommandContext, CommandError, CommandStatus};

use effective::{EffectiveSetting, organisation_settings, user_settings};

/// Long help.
pub(super) const ABOUT: &str = "Show your configuration, check its files, or print an example.

Your defaults stand in config.toml. A flag comes before a variable of the environment, and that \
before the file. The limits of your organisation in /etc/terok-clearance/policy.toml come before \
all of them; only root can write that file. Unknown keys and wrong values are errors.";

/// Command-line arguments.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  terok-clearance config show
  terok-clearance config show --json | jq -r 'select(.source != \"default\") | .key'
  terok-clearance config example > ~/.config/terok-clearance/config.toml
  terok-clearance config check
  terok-clearance config check --organisation draft-of-policy.toml

Exit status: 0, or 1 if a file has errors or others could have written it.")]
pub struct Args {
    #[command(subcommand)]
    action: ConfigAction,
}

/// The commands of `config`.
#[derive(Debug, Subcommand)]
enum ConfigAction {
    /// Check your file and the organisation's, or the given file.
    Check {
        /// A file to check; its place and its permissions do not matter.
        #[arg(value_name = "FILE")]
        file: Option<PathBuf>,
        /// The file is one of an organisation.
        #[arg(long, requires = "file")]
        organisation: bool,
    },
    /// Print a file with every key, its meaning and its default, all commented out.
    Example {
        /// The organisation's file.
        #[arg(long)]
        organisation: bool,
    },
    /// Print the path of your file, which may not exist.
    Path {
        /// The organisation's file.
        #[arg(long)]
        organisation: bool,
    },
    /// Print each key, its value, and where that came from.
    Show,
}

/// Runs the command.
pub fn perform(args: Args, context: &CommandContext) -> Result<CommandStatus, CommandError> {
    match args.action {
        ConfigAction::Check {
            file: Some(file),
            organisation,
        } => check_file(&file, organisation, context)?,
        ConfigAction::Check { file: None, .. } => check_files(context)?,
        ConfigAction::Example { organisation } => print_example(organisation, context)?,
        ConfigAction::Path { organisation } => print_path(organisation, context)?,
        ConfigAction::Show => show(context)?,
    }
    Ok(CommandStatus::OK)
}

fn user_path(context: &CommandContext) -> PathBuf {
    UserSettings::path_in(context.environment.config_dir())
}

fn check_file(
    path: &Path,
    organisation: bool,
    context: &CommandContext,
) -> Result<(), CommandError> {
    let text = std::fs::read_to_string(path);
    let text = text.with_context(|| format!("cannot read {}", path.display()))?;
    if organisation {
        OrganisationPolicy::parse(path, &text).map_err(OrganisationError::from)?;
    } else {
        let parsed = UserSettings::parse(path, &text, &check_text);
        parsed.map_err(|errors| Arc::new(UserSettingsError::from(errors)))?;
    }
    print_checked(path, true, context)
}

fn check_files(context: &CommandContext) -> Result<(), CommandError> {
    // Both are checked, because the first error is often the cause of a question about the other.
    let user = context.settings.get();
    let organisation = read_organisation();
    if let (Err(_), Err(error)) = (&user, &organisation) {
        let text = terok_clearance::error_chain(error);
        context.output.print_error_line(&format!("error: {text}"));
    }
    user?;
    let path = user_path(context);
    print_checked(&path, path.exists(), context)?;
    let is_there = organisation?.is_some();
    print_checked(Path::new(ORGANISATION_FILE), is_there, context)
}

fn print_checked(path: &Path, exists: bool, context: &CommandContext) -> Result<(), CommandError> {
    let shown = DisplayText::new(&path.display().to_string());
    let line = if context.json {
        serde_json::json!({ "path": path.display().to_string(), "exists": exists }).to_string()
    } else if exists {
        format!("{shown}: no errors")
    } else {
        format!("{shown}: does not exist")
    };
    Ok(context.output.print_line(&line)?)
}

fn print_example(organisation: bool, context: &CommandContext) -> Result<(), CommandError> {
    let example = if organisation {
        let title = format!(
            "Limits of an organisation for terok-clearance: {ORGANISATION_FILE}. The file and \
             every directory above it must be root's and writable by root alone."
        );
        example_file(&title, ORGANISATION_KEYS)
    } else {
        let title = "Your defaults for terok-clearance: config.toml in \
                     $XDG_CONFIG_HOME/terok-clearance or ~/.config/terok-clearance. A flag comes \
                     before a variable, and that before this file.";
        example_file(title, USER_KEYS)
    };
    if context.json {
        let line = serde_json::json!({ "example": example }).to_string();
        return Ok(context.output.print_line(&line)?);
    }
    Ok(context.output.print(&example)?)
}

fn print_path(organisation: bool, context: &CommandContext) -> Result<(), CommandError> {
    let path = if organisation {
        PathBuf::from(ORGANISATION_FILE)
    } else {
        user_path(context)
    };
    if context.json {
        return print_checked(&path, path.exists(), context);
    }
    Ok(context.output.print_line(&path.display().to_string())?)
}

fn show(context: &CommandContext) -> Result<(), CommandError> {
    let organisation = read_organisation()?;
    let settings = context.settings.get()?;
    let mut rows = user_settings(settings, &context.environment, organisation.as_deref())?;
    if let Some(organisation) = &organisation {
        rows.extend(organisation_settings(organisation));
    }
    let text = if context.json {
        rows.iter().map(EffectiveSetting::to_json_line).collect()
    } else {
        effective::to_table(&rows)
    };
    Ok(context.output.print(&text)?)
}
