// SPDX-License-Identifier: Apache-2.0
//! Statuses and hints for errors of `setup`, `uninstall` and `install-service`.

use host_setup::{ClassicUnitsError, HookProgramError, HostSetupError, ManifestError};

use super::{CommandStatus, advise};
use crate::CommandError;

const COPY_HINT: &str = "install the program where it stays, such as ~/.local/bin or \
                         /usr/local/bin, and run its setup there";
const CHOOSE_HINT: &str = "`--bin-path PATH` names the program that hooks and units execute";

pub(super) fn explain_setup(error: &CommandError) -> (CommandStatus, Vec<String>) {
    let failure = |hints: &[&str]| advise(CommandStatus::FAILURE, hints);
    match error {
        CommandError::HookProgram(error) => explain_program(error),
        CommandError::HostSetup(HostSetupError::Manifest(error)) => match error {
            ManifestError::Damaged { path, .. } => failure(&[&format!(
                "it is needed to tell what setup has installed; restore it, or remove it with \
                 `rm {}` and remove the files of docs/setup.md by hand",
                path.display()
            )]),
            ManifestError::Newer { .. } => failure(&["use the program that set this host up"]),
            ManifestError::Busy { .. } => failure(&["wait for its end, and try again"]),
            _ => failure(&[]),
        },
        CommandError::ClassicUnits(ClassicUnitsError::Foreign { path }) => failure(&[&format!(
            "look at what it starts; `mv {} /somewhere/else` makes room",
            path.display()
        )]),
        CommandError::SetupProblems { .. } => {
            failure(&["run it again afterwards: it does only what is left to do"])
        }
        CommandError::RunningSupervisors { .. } => failure(&[
            "stop these containers first",
            "with --force they keep their rules, but nothing is set up again if their supervisor \
             ends",
        ]),
        _ => failure(&[]),
    }
}

fn explain_program(error: &HookProgramError) -> (CommandStatus, Vec<String>) {
    let failure = |hints: &[&str]| advise(CommandStatus::FAILURE, hints);
    match error {
        HookProgramError::Temporary { .. } => failure(&[COPY_HINT, CHOOSE_HINT]),
        HookProgramError::Writable { path } => failure(&[&format!(
            "whoever can write there decides what guards containers: `chmod go-w {}`",
            path.display()
        )]),
        HookProgramError::Owner { .. } => failure(&[COPY_HINT]),
        _ => failure(&[CHOOSE_HINT]),
    }
}
