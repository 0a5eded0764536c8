// SPDX-License-Identifier: Apache-2.0
//! `setup`: installs hooks, units and the rest on this host.

mod event_report;

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap_complete::Shell;
use desktop::{ICON_NAME, ICON_SVG};
use host_setup::{
    HookProgram, HostContext, HostDirectories, HostSetup, NotifierChoice, ProgramOrigin,
    SetupAssets, SetupOptions, SetupScope, UserDirectories,
};
use netns::sandbox::is_machine_root;

use super::completions::render_completions;
use super::man::render_all_pages;
use crate::args::PROGRAM_NAMES;
use crate::{CommandContext, CommandError, CommandStatus};

pub(super) use event_report::EventReport;

/// Long help.
pub(super) const ABOUT: &str = "Set this host up for guarded containers.

Installs for you or, if you are root, for the machine: the OCI hooks and their directory in \
podman's containers.conf, the systemd units that start supervisors and show popups, links for the \
other names of the program, completions, manual pages and the icon; for root also an AppArmor \
profile where the host needs one. Running it again changes only what is missing or outdated. A \
file that it did not write, or that you have changed since, stays as it is and is reported. \
`terok-clearance uninstall` takes everything away again.";

/// Command-line arguments.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  terok-clearance setup --dry-run
  terok-clearance setup
  terok-clearance setup --no-notifier
  terok-clearance setup --classic
  sudo terok-clearance setup

docs/setup.md lists what is installed where.

With --json, each line is an object: `event` is `path` with `part`, `path` and `change` (created,
replaced, unchanged, removed, restored, kept-changed, kept-foreign), `command` with `command`,
`skipped` with `reason`, or `failed` with `error`. In a dry run they are what would be done.

Exit status:
  0    everything is installed, or would be
  1    something is not: a step failed, or a file that is needed is not setup's
  2    invalid arguments")]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is an option of the command line"
)]
pub struct Args {
    /// Print what would be done, and change nothing
    #[arg(long)]
    dry_run: bool,
    /// The program that hooks and units execute: an absolute path [default: this program]
    #[arg(long, value_name = "PATH")]
    bin_path: Option<PathBuf>,
    /// Install no popups, and remove them if they are installed
    #[arg(long, conflicts_with = "notifier")]
    no_notifier: bool,
    /// Install the popups even if no graphical session is found
    #[arg(long)]
    notifier: bool,
    /// Install also the classic hub, its verdict helper and its notifier as user units, with the
    /// names of the Python stack up to 0.6
    #[arg(long)]
    classic: bool,
}

/// Runs the command.
pub fn perform(args: &Args, context: &CommandContext) -> Result<CommandStatus, CommandError> {
    let host = host_context(context);
    let program = hook_program(args.bin_path.as_deref(), context)?;
    let notifier = if args.no_notifier {
        NotifierChoice::Remove
    } else if args.notifier {
        NotifierChoice::Install
    } else {
        notifier_choice(&host, context)
    };
    let setup = HostSetup {
        host,
        program,
        assets: assets()?,
        options: SetupOptions {
            dry_run: args.dry_run,
            notifier,
            is_classic: args.classic,
        },
    };
    let mut report = EventReport::new("setup", args.dry_run, context);
    setup.run(&mut |event| report.add(&event))?;
    let is_changed = report.finish()?;
    if !context.json {
        let words = match (is_changed, args.dry_run) {
            (true, true) => "nothing was changed: this was a dry run",
            (true, false) => "this host is set up; `terok-clearance uninstall` undoes it",
            (false, _) => "this host is set up already; there is nothing to do",
        };
        context.output.print_line(words)?;
    }
    warn_about_variable(context);
    Ok(CommandStatus::OK)
}

/// Returns the places of the calling user or, for root, of the machine.
pub(super) fn host_context(context: &CommandContext) -> HostContext {
    let environment = &context.environment;
    let base = |own: &Path| own.parent().unwrap_or(own).to_owned();
    let user = UserDirectories {
        home: environment.home().to_owned(),
        config: base(environment.config_dir()),
        data: environment.data_home().to_owned(),
        state: base(environment.state_dir()),
        runtime: environment.runtime_dir().to_owned(),
    };
    let root = Path::new("/");
    let is_root = environment.uid() == 0 && is_machine_root();
    let directories = if is_root {
        HostDirectories::of_machine(&user, root)
    } else {
        HostDirectories::of_user(&user, root)
    };
    HostContext {
        directories,
        root: root.to_owned(),
        search_path: std::env::split_paths(environment.search_path()).collect(),
        systemctl: environment.find_protected_program("systemctl"),
        apparmor_parser: environment.find_protected_program("apparmor_parser"),
    }
}

fn hook_program(
    chosen: Option<&Path>,
    context: &CommandContext,
) -> Result<HookProgram, CommandError> {
    let uid = context.environment.uid();
    let temporary = [context.environment.runtime_dir().to_owned()];
    let program = if let Some(path) = chosen {
        HookProgram::check(path, ProgramOrigin::Chosen, uid, &temporary)
    } else {
        let path = std::env::current_exe().context("cannot find this program")?;
        HookProgram::check(&path, ProgramOrigin::Running, uid, &temporary)
    };
    Ok(program?)
}

/// Returns whether popups could be seen.
fn notifier_choice(host: &HostContext, context: &CommandContext) -> NotifierChoice {
    let environment = &context.environment;
    let leave = |reason: &str| NotifierChoice::Leave {
        reason: reason.to_owned(),
    };
    if !environment.has_session_bus() {
        return leave("there is no session bus, and so no desktop");
    }
    let displays = environment.select_variables(&["WAYLAND_DISPLAY", "DISPLAY"]);
    let has_display = displays.iter().any(|(_, value)| !value.is_empty());
    let has_session = || {
        let manager = host.running_user_manager();
        manager.is_some_and(|manager| manager.is_active("graphical-session.target"))
    };
    if has_display || has_session() {
        return NotifierChoice::Install;
    }
    leave("there is no graphical session here; `setup --notifier` installs them all the same")
}

fn assets() -> Result<SetupAssets, CommandError> {
    Ok(SetupAssets {
        completions: [Shell::Bash, Shell::Zsh, Shell::Fish].map(render_completions),
        man_pages: render_all_pages().context("cannot write the manual pages")?,
        icon: (format!("{ICON_NAME}.svg"), ICON_SVG.to_owned()),
        program_names: PROGRAM_NAMES.map(str::to_owned).to_vec(),
    })
}

/// Says that podman reads another file than the one that was changed.
fn warn_about_variable(context: &CommandContext) {
    let names = ["CONTAINERS_CONF", "CONTAINERS_CONF_OVERRIDE"];
    for (name, value) in context.environment.select_variables(&names) {
        if !value.is_empty() {
            tracing::warn!(
                variable = ?name,
                file = ?value,
                "podman reads this file of the environment, which setup does not change"
            );
        }
    }
}

/// Returns `true` for a setup of the whole machine.
pub(super) fn is_for_machine(host: &HostContext) -> bool {
    host.directories.scope == SetupScope::Machine
}
