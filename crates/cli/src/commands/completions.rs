// SPDX-License-Identifier: Apache-2.0
//! `completions`: the completions of commands and options for a shell.

use clap::ValueEnum;
use clap_complete::Shell;

use crate::args::{ProgramName, build_parser};
use crate::{CommandContext, CommandError, CommandStatus};

/// Long help.
pub(super) const ABOUT: &str = "Print the completions for a shell.

The shell then completes commands, options and their values with Tab.";

/// Command-line arguments.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  source <(terok-clearance completions bash)
  terok-clearance completions bash > ~/.local/share/bash-completion/completions/terok-clearance
  terok-clearance completions zsh > \"${fpath[1]}/_terok-clearance\"
  terok-clearance completions fish > ~/.config/fish/completions/terok-clearance.fish")]
pub struct Args {
    /// The shell
    #[arg(value_enum, value_name = "SHELL")]
    shell: CompletionShell,
}

/// The shells with completions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum CompletionShell {
    Bash,
    Zsh,
    Fish,
}

/// Runs the command.
pub fn perform(args: &Args, context: &CommandContext) -> Result<CommandStatus, CommandError> {
    let shell = match args.shell {
        CompletionShell::Bash => Shell::Bash,
        CompletionShell::Zsh => Shell::Zsh,
        CompletionShell::Fish => Shell::Fish,
    };
    context.output.print(&render_completions(shell))?;
    Ok(CommandStatus::OK)
}

/// Returns the script for a shell.
pub(super) fn render_completions(shell: Shell) -> String {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut visible_parser(), PROGRAM, &mut script);
    // The generator for bash (4.6.12) writes a hyphen of the program's name in two ways, and its
    // script then completes no command's options.
    let script = String::from_utf8_lossy(&script);
    script.replace("terok__subcmd__clearance", "terok__clearance")
}

const PROGRAM: &str = "terok-clearance";

/// Returns the parser without the commands that the help does not list.
fn visible_parser() -> clap::Command {
    let whole = build_parser(ProgramName::Clearance);
    let visible = whole.get_subcommands().filter(|one| !one.is_hide_set());
    clap::Command::new(PROGRAM)
        .version(env!("CARGO_PKG_VERSION"))
        .args(whole.get_arguments())
        .subcommands(visible)
}
