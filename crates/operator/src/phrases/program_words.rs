// SPDX-License-Identifier: Apache-2.0
//! Words that are not the user interface's own: those of the program that asks, and of an approver.

use crate::inbox::Row;

/// Returns the reason that a program in the sandbox gave: `the program says: to upload the build`.
/// The words are the program's, and may be untrue; a line of their own keeps them apart.
pub fn describe_reason(row: &Row) -> Option<String> {
    let reason = row.request().reason.as_ref()?;
    Some(format!("the program says: {reason}"))
}

/// Returns why the operator's approver left the question to a person: `the approver says: …`.
pub fn describe_approver_note(row: &Row) -> Option<String> {
    let note = row.request().approver.as_ref()?;
    Some(if note.is_empty() {
        "the approver leaves it to you".to_owned()
    } else {
        format!("the approver says: {note}")
    })
}
