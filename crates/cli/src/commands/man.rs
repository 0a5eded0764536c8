// SPDX-License-Identifier: Apache-2.0
//! `man`: manual pages, made of the help texts.

use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap_mangen::Man;

use crate::args::{ProgramName, build_parser};
use crate::{CommandContext, CommandError, CommandStatus};

/// Long help.
pub(super) const ABOUT: &str = "Print a manual page.

In the format of man(7): of the program, or of one of its commands. With --directory, all pages.";

/// Command-line arguments.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  terok-clearance man | man -l -
  terok-clearance man run > ~/.local/share/man/man1/terok-clearance-run.1
  terok-clearance man --directory ~/.local/share/man/man1     all of them")]
pub struct Args {
    /// The command [default: the page of the program]
    #[arg(value_name = "COMMAND")]
    command: Option<String>,
    /// Write all pages, also of the program's other names, to files in this directory
    #[arg(long, value_name = "DIR", conflicts_with = "command")]
    directory: Option<PathBuf>,
}

/// Runs the command.
pub fn perform(args: &Args, context: &CommandContext) -> Result<CommandStatus, CommandError> {
    if let Some(directory) = &args.directory {
        write_all_pages(directory)?;
        return Ok(CommandStatus::OK);
    }
    let program = built_parser(ProgramName::Clearance);
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

/// Returns the parser of a program, with whole names of its commands.
fn built_parser(name: ProgramName) -> clap::Command {
    let mut program = build_parser(name);
    program.build();
    program
}

/// Writes every page to a file of its name in a directory, which is made if it is missing.
fn write_all_pages(directory: &Path) -> anyhow::Result<()> {
    fs::create_dir_all(directory)
        .with_context(|| format!("cannot make the directory {}", directory.display()))?;
    for (name, page) in render_all_pages().context("cannot write the pages")? {
        let path = directory.join(name);
        fs::write(&path, page).with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(())
}

/// Returns the file names and texts of all pages: of each command, and of the program's names.
pub(super) fn render_all_pages() -> io::Result<Vec<(String, String)>> {
    let mut pages = Vec::new();
    // The pages of `notify` and `notifier` are those of the programs of these names.
    for name in [
        ProgramName::Clearance,
        ProgramName::Hub,
        ProgramName::Request,
        ProgramName::Shield,
    ] {
        render_with_subcommands(&built_parser(name), &mut pages)?;
    }
    Ok(pages)
}

/// Appends the page of a command, and the pages of the commands below it.
fn render_with_subcommands(
    command: &clap::Command,
    pages: &mut Vec<(String, String)>,
) -> io::Result<()> {
    let name = command
        .get_display_name()
        .unwrap_or_else(|| command.get_name());
    pages.push((format!("{name}.1"), render_page(command.clone())?));
    let commands = command.get_subcommands().filter(|one| !one.is_hide_set());
    for below in commands.filter(|one| one.get_name() != "help") {
        render_with_subcommands(below, pages)?;
    }
    Ok(())
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
