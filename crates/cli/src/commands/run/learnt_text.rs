// SPDX-License-Identifier: Apache-2.0
//! Formats what a run that learns has reached.

use runner::{LearntDest, LearntDests};
use terok_clearance::DisplayText;

/// Maximum destinations that are listed.
const MAX_LISTED_DESTS: usize = 200;

/// Returns the list as text, one line or more; `None` if nothing was reached.
pub(super) fn text(learnt: &LearntDests) -> Option<String> {
    let total: usize = learnt.groups.iter().map(|group| group.dests.len()).sum();
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
            lines.push(format!("    {}", describe_dest(dest)));
        }
        left = left.saturating_sub(group.dests.len());
    }
    let more = total.saturating_sub(MAX_LISTED_DESTS);
    if more > 0 {
        lines.push(format!("  and {more} more"));
    }
    lines.push("`terok-clearance profile from` makes a profile of it".to_owned());
    Some(lines.join("\n"))
}

fn describe_dest(dest: &LearntDest) -> String {
    let programs: Vec<_> = dest.programs.iter().map(DisplayText::as_str).collect();
    let programs = match programs.as_slice() {
        [] => String::new(),
        names => format!(", by {}", names.join(", ")),
    };
    let connections = match dest.connections {
        1 => "1 connection".to_owned(),
        count => format!("{count} connections"),
    };
    let (sent, received) = (dest.bytes_out, dest.bytes_in);
    format!(
        "{}  {connections}, {sent} bytes sent, {received} received{programs}",
        dest.pattern
    )
}

/// Returns the list as one JSON object.
pub(super) fn json(learnt: &LearntDests) -> serde_json::Value {
    let dest = |dest: &LearntDest| {
        let programs: Vec<_> = dest.programs.iter().map(DisplayText::as_str).collect();
        serde_json::json!({
            "dest": dest.pattern.to_string(),
            "connections": dest.connections,
            "bytes_out": dest.bytes_out,
            "bytes_in": dest.bytes_in,
            "programs": programs,
        })
    };
    let groups = learnt.groups.iter().map(|group| {
        let dests: Vec<_> = group.dests.iter().map(dest).collect();
        serde_json::json!({"owner": group.owner.as_str(), "dests": dests})
    });
    serde_json::json!({"step": "learnt", "groups": groups.collect::<Vec<_>>()})
}
