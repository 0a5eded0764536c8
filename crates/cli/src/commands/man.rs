// SPDX-License-Identifier: Apache-2.0
//! `man`: manual pages, made of the help texts.

use std::io::{self, Write as _};

use anyhow::Context as _;
use clap_mangen::Man;

use crate::args::{ProgramName, build_parser};
use crate::{CommandContext, CommandError, CommandStatus};

/// Long help.
pub(super) const ABOUT: &str = "Print a manual page.

In the format of man(7): of the program, or of one of its commands.";

/// Command-line arguments.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  terok-clearance man | man -l -
  terok-clearance man run > ~/.local/share/man/man1/terok-clearance-run.1")]
pub struct Args {
    /// The command [default: the page of the program]
    #[arg(value_name = "COMMAND")]
    command: Option<String>,
}

/// Runs the command.
pub fn perform(args: &Args, context: &CommandContext) -> Result<CommandStatus, CommandError> {
    let mut program = build_parser(ProgramName::Clearance);
    // Gives the commands their whole names.
    program.build();
    let page = match &args.command {
        None => program,
        Some(name) => match program.find_subcommand(name) {
            Some(command) if !command.is_hide_set() => command.clone(),
            _ => return Err(CommandError::NoManualPage { name: name.clone() }),
        },
    };
    let page = render_page(page).context("cannot write the page")?;
    context.output.print(&page)?;
    Ok(CommandStatus::OK)
}

/// Returns the file names and texts of all pages.
pub(super) fn render_all_pages() -> io::Result<Vec<(String, String)>> {
    let mut program = build_parser(ProgramName::Clearance);
    program.build();
    let commands = program.get_subcommands().filter(|one| !one.is_hide_set());
    let commands = commands.filter(|one| one.get_name() != "help");
    let mut pages = Vec::new();
    for command in commands.cloned().chain([program.clone()]) {
        let name = command.get_display_name().unwrap_or("terok-clearance");
        pages.push((format!("{name}.1"), render_page(command)?));
    }
    Ok(pages)
}

/// Returns the page of a command in man(7) format.
fn render_page(command: clap::Command) -> io::Result<String> {
    let notes = command
        .get_after_long_help()
        .or_else(|| command.get_after_help());
    let notes = notes.map(ToString::to_string);
    let has_commands = command.get_subcommands().any(|one| !one.is_hide_set());
    let man = Man::new(
        command
            .after_help(None::<&str>)
            .after_long_help(None::<&str>),
    );
    let mut page = Vec::new();
    man.render_title(&mut page)?;
    man.render_name_section(&mut page)?;
    man.render_synopsis_section(&mut page)?;
    man.render_description_section(&mut page)?;
    man.render_options_section(&mut page)?;
    if has_commands {
        man.render_subcommands_section(&mut page)?;
    }
    if let Some(notes) = notes {
        // Examples and tables of statuses keep their lines.
        writeln!(page, ".SH NOTES\n.nf")?;
        for line in notes.lines() {
            writeln!(page, "{}", escape_line(line))?;
        }
        writeln!(page, ".fi")?;
    }
    Ok(String::from_utf8_lossy(&page).into_owned())
}

/// Returns a line of text that roff(7) prints as it is.
fn escape_line(line: &str) -> String {
    let escaped = line.replace('\\', "\\e").replace('-', "\\-");
    if escaped.starts_with(['.', '\'']) {
        return format!("\\&{escaped}");
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_no_request_to_roff() {
        for (line, expected) in [
            ("a b", "a b"),
            (".SH x", "\\&.SH x"),
            ("'x", "\\&'x"),
            ("--x\\n", "\\-\\-x\\en"),
        ] {
            assert_eq!(escape_line(line), expected);
        }
    }
}
