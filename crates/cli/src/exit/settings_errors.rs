// SPDX-License-Identifier: Apache-2.0
//! Statuses and hints for errors of the configuration, the organisation file and the record.

use record::ReadRecordError;
use settings::{OrganisationError, ProtectedFileError, UserSettingsError, WriteProtectionError};
use store::RuleStoreError;

use super::{CommandStatus, advise};
use crate::commands::profile::RunProfileError;

const EXAMPLE_HINT: &str = "`terok-clearance config example` prints every key and its values";

pub(super) fn explain_user_settings(error: &UserSettingsError) -> (CommandStatus, Vec<String>) {
    let hint = match error {
        UserSettingsError::Contents(_) => EXAMPLE_HINT.to_owned(),
        UserSettingsError::File(ProtectedFileError::Unprotected {
            source: WriteProtectionError::Writable { path },
            ..
        }) => format!(
            "look at what it says, then run `chmod go-w {}`",
            path.display()
        ),
        UserSettingsError::File(ProtectedFileError::Unprotected { .. }) => {
            "it must be a file of yours or of root; look at what it says before you use it"
                .to_owned()
        }
        UserSettingsError::File(_) => return advise(CommandStatus::FAILURE, &[]),
    };
    advise(CommandStatus::FAILURE, &[&hint])
}

pub(super) fn explain_organisation_file(error: &OrganisationError) -> (CommandStatus, Vec<String>) {
    let limits = "nothing is run until root has corrected it, because its limits are unknown";
    let file = match error {
        OrganisationError::File(_) => {
            "the file and every directory above it must be root's, writable by root alone, and no \
             symbolic link"
        }
        OrganisationError::Contents(_) => {
            "`terok-clearance config example --organisation` prints every key and its values"
        }
    };
    advise(CommandStatus::FAILURE, &[limits, file])
}

/// Returns the status and hints for a record that cannot be read.
pub(super) fn explain_record(error: &ReadRecordError) -> (CommandStatus, Vec<String>) {
    let hints: &[_] = match error {
        ReadRecordError::Missing(_) => {
            &["`run` and `supervise` write it; `--file PATH` reads another one"]
        }
        _ => &[],
    };
    advise(CommandStatus::FAILURE, hints)
}

/// Returns the status and hints for a profile that cannot be made of a run.
pub(super) fn explain_run_profile(error: &RunProfileError) -> (CommandStatus, Vec<String>) {
    match error {
        RunProfileError::NoRun(_) => advise(
            CommandStatus::NO_SUCH_SANDBOX,
            &["`terok-clearance log --kind sandbox_started` shows the runs, with their ids"],
        ),
        RunProfileError::NobodyToAsk => advise(
            CommandStatus::FAILURE,
            &["--yes saves it without a question"],
        ),
        _ => advise(CommandStatus::FAILURE, &[]),
    }
}

/// Returns the status and hints for rule files that cannot be used.
pub(super) fn explain_rule_store(error: &RuleStoreError) -> (CommandStatus, Vec<String>) {
    let hints = rule_store_hint(error).into_iter().collect();
    (CommandStatus::FAILURE, hints)
}

/// Returns the hint for a rule file with wrong lines; the other errors say what to do.
pub(crate) fn rule_store_hint(error: &RuleStoreError) -> Option<String> {
    error.rule_file_error()?;
    Some("`terok-clearance profile check` prints every wrong line".to_owned())
}
