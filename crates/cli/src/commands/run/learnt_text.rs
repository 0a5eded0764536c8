// SPDX-License-Identifier: Apache-2.0
//! Formats what a run that learns has reached.

use runner::{LearntDest, LearntDests};
use serde_json::{Value, json};
use terok_clearance::DisplayText;

/// Maximum destinations that are listed.
const MAX_LISTED_DESTS: usize = 200;

/// Returns the list as text, one line or more; `None` if nothing was reached. A profile can be made
/// of a run with a record.
pub(super) fn text(learnt: &LearntDests, has_record: bool) -> Option<String> {
    let total = learnt.count();
    if total == 0 {
        return None;
    }
    let mut lines = vec![format!("learnt {total} destinations:")];
    let mut left = MAX_LISTED_DESTS;
    for group in &learnt.groups {
        if left == 0 {
            break;
        }
        lines.push(format!("  {}", group.owner));
        for dest in group.dests.iter().take(left) {
            lines.push(format!("    {}  {}", dest.pattern, dest.describe()));
        }
        left = left.saturating_sub(group.dests.len());
    }
    let more = total.saturating_sub(MAX_LISTED_DESTS);
    if more > 0 {
        lines.push(format!("  and {more} more"));
    }
    let hint = if has_record {
        "`terok-clearance profile from last --save NAME` makes a profile of it"
    } else {
        "this run has no record, of which `terok-clearance profile from` could make a profile"
    };
    lines.push(hint.to_owned());
    Some(lines.join("\n"))
}

/// Returns the list as one JSON object.
pub(super) fn json(learnt: &LearntDests) -> Value {
    json!({"step": "learnt", "groups": groups_json(learnt)})
}

/// Returns the groups of destinations as JSON.
pub(in crate::commands) fn groups_json(learnt: &LearntDests) -> Value {
    let dest = |dest: &LearntDest| {
        let programs: Vec<_> = dest.programs.iter().map(DisplayText::as_str).collect();
        json!({
            "dest": dest.pattern.to_string(),
            "connections": dest.connections,
            "bytes_out": dest.bytes_out,
            "bytes_in": dest.bytes_in,
            "programs": programs,
        })
    };
    let groups = learnt.groups.iter().map(|group| {
        let dests: Vec<_> = group.dests.iter().map(dest).collect();
        json!({"owner": group.owner.as_str(), "dests": dests})
    });
    groups.collect()
}
