// SPDX-License-Identifier: Apache-2.0
//! Phrases for questions and answers: sandbox, destination, and the exact effect of an answer.
//!
//! All user interfaces use these phrases, so that the effect of an answer has the same wording
//! everywhere. All phrases are printable ASCII, because text from a sandbox is `DisplayText`. The
//! exceptions are the name of the sandbox, which the operator chose in any script, and the letters
//! of an internationalised host name, next to the ASCII form ([`unicode_name`]).

mod change;
mod connection;
mod effect;
mod program_words;
#[cfg(test)]
mod tests;
mod unicode_name;

use std::time::Duration;

use terok_clearance::client::ProtocolVersion;
use terok_clearance::{DisplayText, NetworkZone, Protocol, RuleLifetime, Scope, Target, Timestamp};

use crate::inbox::{HubId, Row, RowEnd};

pub use change::{
    ChangeMessage, MessageTone, describe_change, describe_change_by_id, describe_firewall,
};
pub use connection::{
    describe_lookup, describe_parents, describe_process, describe_waiting, describe_zone,
};
pub use effect::{
    describe_addresses, describe_answer_lifetime, describe_answered_scope, describe_effect,
    describe_offers, describe_own_effect, describe_present_addresses, describe_previous,
    describe_previous_with_time, describe_reach,
};
pub(crate) use effect::{describe_names, format_age, past_participle};
pub use program_words::{describe_approver_note, describe_reason};
pub use unicode_name::unicode_name;

/// Returns the name of the sandbox: `project/task (name)` if known, otherwise a name or the id.
pub fn describe_sandbox(row: &Row) -> String {
    let known = |key: &str| {
        let value = row.dossier().get(&DisplayText::new(key));
        value.filter(|value| !value.is_empty())
    };
    let name = known("name").or_else(|| known("container_name"));
    match (known("project"), known("task"), name) {
        (Some(project), Some(task), Some(name)) => format!("{project}/{task} ({name})"),
        (Some(project), Some(task), None) => format!("{project}/{task}"),
        (_, _, Some(name)) => name.to_string(),
        _ => row.container().to_string(),
    }
}

/// Returns the destination with its ports: `api.example.com port 443/tcp`,
/// `xn--bcher-kva.example (bücher.example) port 443/tcp`, `192.168.1.20 port 445/tcp, on your local
/// network`.
pub fn describe_dest(row: &Row) -> String {
    let zone = describe_zone(row).map_or_else(String::new, |zone| format!(", {zone}"));
    let unicode = unicode_name(row.dest());
    let unicode = unicode.map_or_else(String::new, |name| format!(" ({name})"));
    format_dest_ports(row, &unicode, "port ") + &zone
}

/// Returns the destination without the word `port`, for narrow columns.
pub fn describe_dest_briefly(row: &Row) -> String {
    let zone = match row.zone() {
        NetworkZone::Public => "",
        NetworkZone::LocalNetwork => " (local)",
        NetworkZone::ThisHost => " (this machine)",
    };
    format_dest_ports(row, "", "") + zone
}

/// Formats the destination, a remark about it, and its ports with the word `port` before a single
/// port. The caller passes the word, because removing the word from a finished text could change a
/// name chosen by the sandbox.
fn format_dest_ports(row: &Row, remark: &str, port: &str) -> String {
    let dest = row.dest();
    let ports = row.ports();
    let (shown, rest) = ports.split_at(ports.len().min(4));
    let mut names: Vec<_> = shown
        .iter()
        .map(|&(port, protocol)| format_port(port, protocol))
        .collect();
    if !rest.is_empty() {
        names.push(format!("{} more", rest.len()));
    }
    let word = match shown {
        [(0, _), ..] => "",
        [_] => port,
        _ => "ports ",
    };
    format!("{dest}{remark} {word}{}", names.join(", "))
}

fn format_port(port: u16, protocol: Protocol) -> String {
    match port {
        0 => protocol.to_string(),
        port => format!("{port}/{protocol}"),
    }
}

/// Returns the exact effect of `allow` on the row.
pub fn describe_allow_effect(row: &Row) -> String {
    let addresses = row.addresses();
    let at = match addresses.as_slice() {
        [only] if *only == row.dest() => String::new(),
        [only] => only.to_string(),
        [first, rest @ ..] => format!("{first} and {} more", rest.len()),
        [] => String::new(),
    };
    let is_name = matches!(row.dest().parse_target(), Ok(Target::Name(_)));
    let at = match (at.is_empty(), is_name) {
        (true, _) => String::new(),
        (false, true) => format!(" ({at}, and its later addresses)"),
        (false, false) => format!(" ({at})"),
    };
    let reach = describe_scope(row.scope());
    let keep = match row.protocol_version() {
        // The firewall keeps the rule; the interface has no field for a lifetime.
        ProtocolVersion::Clearance1 => UNTIL_REMOVED.to_owned(),
        ProtocolVersion::Clearance2 => describe_lifetime(row.scope()),
    };
    format!("{reach}{at} {keep}")
}

/// Returns the range of a scope: `tcp port 443 of api.example.com`.
pub fn describe_scope(scope: &Scope) -> String {
    let Scope {
        dest,
        port,
        protocol,
        ..
    } = scope;
    match (port, protocol) {
        (Some(port), Some(protocol)) => format!("{protocol} port {port} of {dest}"),
        (Some(port), None) => format!("port {port} of every protocol of {dest}"),
        (None, Some(protocol)) => format!("all {protocol} of {dest}"),
        (None, None) => format!("EVERY port and protocol of {dest}"),
    }
}

const UNTIL_REMOVED: &str = "until it is removed from the firewall";

/// Returns the lifetime of a scope.
pub fn describe_lifetime(scope: &Scope) -> String {
    let seconds = scope.seconds.or_else(|| {
        let once = scope.keep == RuleLifetime::Once;
        once.then_some(Scope::ONCE_SECONDS)
    });
    if let Some(seconds) = seconds {
        return format!("for {seconds} s");
    }
    match scope.keep {
        RuleLifetime::Once => String::new(),
        RuleLifetime::Sandbox => "while the sandbox lives".to_owned(),
        RuleLifetime::UntilRemoved => UNTIL_REMOVED.to_owned(),
        RuleLifetime::Project => "in every sandbox of the project, for good".to_owned(),
        RuleLifetime::Always => "in every sandbox, for good".to_owned(),
    }
}

/// Returns the number and the times of blocked packets.
pub fn describe_occurrences(row: &Row, now: Timestamp) -> String {
    let ago = |then: Timestamp| format_duration(now.saturating_since(then));
    match row.count() {
        0 | 1 => format!("once, {} ago", ago(row.first_seen())),
        count => format!(
            "{count} times since {} ago, last {} ago",
            ago(row.first_seen()),
            ago(row.last_seen())
        ),
    }
}

/// Returns a duration in the largest unit that fits: `5 s`, `3 min`, `2 h`, `4 d`.
fn format_duration(time: Duration) -> String {
    match time.as_secs() {
        seconds @ 0..60 => format!("{seconds} s"),
        seconds @ 60..3600 => format!("{} min", seconds / 60),
        seconds @ 3600..86_400 => format!("{} h", seconds / 3600),
        seconds => format!("{} d", seconds / 86_400),
    }
}

/// Returns the name of a hub: the hub's sandbox, or the path of the socket.
pub fn describe_hub(hub: &HubId) -> String {
    match hub.sandbox() {
        Some(sandbox) => format!("the hub of {}", DisplayText::new(sandbox)),
        None => format!("the hub at {hub}"),
    }
}

/// Returns the reason for the end of a row.
pub fn describe_row_end(end: &RowEnd) -> String {
    match end {
        RowEnd::Decided(_) => "it was answered".to_owned(),
        RowEnd::Withdrawn(reason) => match reason.as_str() {
            "exited" => "the sandbox ended".to_owned(),
            "shield" => "the sandbox's firewall is no longer up".to_owned(),
            "evicted" => "the hub has too many questions".to_owned(),
            other => format!("the hub withdrew it: {other}"),
        },
        RowEnd::MissingAfterResync => "the hub no longer has the question".to_owned(),
        RowEnd::HubGone => "the hub is gone".to_owned(),
        RowEnd::Evicted => "the list was full; the next packet asks again".to_owned(),
        RowEnd::ScopeChanged => "the scope changed; asking again".to_owned(),
    }
}
