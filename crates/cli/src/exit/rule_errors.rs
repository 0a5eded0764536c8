// SPDX-License-Identifier: Apache-2.0
//! Exit statuses of the commands about rules.

use operator::rules::{RevokeOutcome, is_silent};
use operator::script::SelectSandboxError;
use terok_clearance::client::AnswerError;

use super::CommandStatus;

/// Returns the exit status for several revocations: the first of the order below.
pub(crate) fn revocations_status(outcomes: &[RevokeOutcome]) -> CommandStatus {
    const PRIORITY: [CommandStatus; 3] = [
        CommandStatus::FAILURE,
        CommandStatus::UNAVAILABLE,
        CommandStatus::NO_SUCH_RULE,
    ];
    let status = |outcome: &RevokeOutcome| match outcome {
        RevokeOutcome::Revoked(..) => CommandStatus::OK,
        RevokeOutcome::NoSuchRule(_) => CommandStatus::NO_SUCH_RULE,
        RevokeOutcome::Refused(_) => CommandStatus::FAILURE,
        RevokeOutcome::Unknown(_) => CommandStatus::UNAVAILABLE,
    };
    let has = |wanted: &CommandStatus| outcomes.iter().any(|one| status(one) == *wanted);
    PRIORITY.into_iter().find(has).unwrap_or(CommandStatus::OK)
}

/// Returns the exit status for a sandbox that was not found.
pub(super) const fn selection_status(error: &SelectSandboxError) -> CommandStatus {
    match error {
        SelectSandboxError::Unknown { .. } => CommandStatus::NO_SUCH_SANDBOX,
        SelectSandboxError::Unresponsive { .. } => CommandStatus::UNAVAILABLE,
        _ => CommandStatus::FAILURE,
    }
}

/// Returns the exit status for a call about rules that failed.
pub(super) const fn rule_call_status(error: &AnswerError) -> CommandStatus {
    if is_silent(error) {
        CommandStatus::UNAVAILABLE
    } else {
        CommandStatus::FAILURE
    }
}
