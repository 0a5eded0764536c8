// SPDX-License-Identifier: Apache-2.0
//! Phrases for what an answer opens or closes and for how long, and for the answer before.

use std::time::Duration;

use terok_clearance::{
    Action, DecisionAction, Dest, NetworkZone, PreviousAnswer, RuleLifetime, Scope, Timestamp,
};

use super::{describe_zone, format_port};
use crate::answer_scope::{AnswerScope, ScopeChoice, format_seconds};
use crate::clock::TimeZone;
use crate::inbox::Row;

/// Returns exactly what an answer with this scope opens or closes, and for how long:
/// `api.example.com port 443/tcp, for 5 minutes`.
///
/// For a scope that the row does not offer, returns the reason.
pub fn describe_effect(row: &Row, action: Action, asked: &AnswerScope) -> String {
    let scope = match row.scope_with(asked) {
        Ok(scope) => scope,
        Err(refusal) => return refusal.to_string(),
    };
    let zone = match row.zone() {
        NetworkZone::Public => String::new(),
        NetworkZone::LocalNetwork | NetworkZone::ThisHost => {
            describe_zone(row).map_or_else(String::new, |zone| format!(" ({zone})"))
        }
    };
    let lifetime = match (scope.keep, row.waiting().count) {
        (RuleLifetime::Once, 1) => "once: the connection that waits now".to_owned(),
        (RuleLifetime::Once, 2..) => "once: the connections that wait now".to_owned(),
        _ => describe_answer_lifetime(scope.keep, scope.seconds),
    };
    let reach = describe_reach(&scope);
    let warning = describe_lookup_warning(&scope.dest, action);
    format!("{reach}{zone}, {lifetime}{warning}")
}

/// Returns the effect of `allow` without a scope: the row's own.
pub fn describe_own_effect(row: &Row) -> String {
    describe_effect(row, Action::Allow, &AnswerScope::default_of(row))
}

/// Returns the lifetimes and names that an answer may have, briefly: `once, 5 min, 1 h, this run;
/// as *.example.com`. `None` if there is no choice.
pub fn describe_offers(row: &Row) -> Option<String> {
    let lifetimes: Vec<_> = ScopeChoice::offered(row).map(ScopeChoice::as_str).collect();
    let names = row.offered_names();
    if lifetimes.len() < 2 && names.is_empty() {
        return None;
    }
    let mut words = lifetimes.join(", ");
    if !names.is_empty() {
        let names: Vec<_> = names.iter().map(|name| format!("as {name}")).collect();
        if !words.is_empty() {
            words.push_str("; ");
        }
        words.push_str(&names.join(", "));
    }
    Some(words)
}

/// Returns the addresses behind a name: `at 203.0.113.7 and 2 more`.
pub fn describe_addresses(row: &Row) -> Option<String> {
    let addresses = row.addresses();
    match addresses.as_slice() {
        [] => None,
        [only] if *only == row.dest() => None,
        [only] => Some(format!("at {only}")),
        [first, rest @ ..] => Some(format!("at {first} and {} more", rest.len())),
    }
}

/// Returns what the scope of a given answer covers, and for how long.
pub fn describe_answered_scope(scope: &Scope) -> String {
    let lifetime = describe_answer_lifetime(scope.keep, scope.seconds);
    format!("{}, {lifetime}", describe_reach(scope))
}

/// Returns what a scope covers: `api.example.com port 443/tcp`, `every name below example.com (not
/// example.com itself) port 443/tcp`, `EVERY port and protocol of 203.0.113.7`.
pub fn describe_reach(scope: &Scope) -> String {
    let dest = describe_names(scope.dest.as_str());
    match (scope.port, scope.protocol) {
        (Some(port), Some(protocol)) => format!("{dest} port {}", format_port(port, protocol)),
        (Some(port), None) => format!("{dest} port {port} of every protocol"),
        (None, Some(protocol)) => format!("all {protocol} of {dest}"),
        (None, None) => format!("EVERY port and protocol of {dest}"),
    }
}

/// Returns the host of a rule: a name or an address as it is, `*.` and a name in words.
pub(crate) fn describe_names(host: &str) -> String {
    match host.strip_prefix("*.") {
        Some(parent) => format!("every name below {parent} (not {parent} itself)"),
        None => host.to_owned(),
    }
}

/// Returns the further consequence of an open wildcard: each lookup of a name goes to the owner.
fn describe_lookup_warning(dest: &Dest, action: Action) -> String {
    match (action, dest.as_str().strip_prefix("*.")) {
        (Action::Allow, Some(parent)) => {
            format!("; whoever runs {parent} receives what is looked up")
        }
        _ => String::new(),
    }
}

/// Returns the lifetime of an answer: `for 5 minutes`, `for this run`.
pub fn describe_answer_lifetime(keep: RuleLifetime, seconds: Option<u32>) -> String {
    match (keep, seconds) {
        (RuleLifetime::Once, seconds) => {
            let seconds = seconds.unwrap_or(Scope::ONCE_SECONDS);
            format!("once: the next connection within {seconds} s")
        }
        (RuleLifetime::Sandbox, Some(seconds)) => {
            format!("for {}", format_seconds(seconds.into()))
        }
        (RuleLifetime::Sandbox, None) => "for this run".to_owned(),
        (RuleLifetime::UntilRemoved, _) => super::UNTIL_REMOVED.to_owned(),
        (RuleLifetime::Project, _) => "for this project, also in later runs".to_owned(),
        (RuleLifetime::Always, _) => "always, in every sandbox".to_owned(),
    }
}

/// Returns how the question was answered before: `this was allowed for 5 minutes, 12 minutes ago
/// (uid 1000 pid 812 (terok-clearance)); the rule has ended`.
pub fn describe_previous(row: &Row, now: Timestamp) -> Option<String> {
    let previous = row.previous()?;
    Some(format!(
        "this was {}",
        describe_previous_answer(previous, now)
    ))
}

/// Returns how the question was answered before, with the time in place of the age, for texts that
/// stay as time passes: `allowed for 5 minutes, at 2026-11-22 12:30:07 by uid 1000; that rule has
/// ended`.
pub fn describe_previous_with_time(row: &Row, zone: &TimeZone) -> Option<String> {
    let previous = row.previous()?;
    let lifetime = match previous.keep {
        RuleLifetime::Once => "once".to_owned(),
        keep => describe_answer_lifetime(keep, previous.seconds),
    };
    let by = match previous.by.as_str() {
        "" => String::new(),
        by => format!(" by {by}"),
    };
    let end = if previous.revoked {
        "it was revoked"
    } else {
        "that rule has ended"
    };
    let answer = past_participle(previous.action.into());
    let at = zone.format_datetime(previous.at);
    Some(format!("{answer} {lifetime}, at {at}{by}; {end}"))
}

/// Returns the present addresses of a name: `now 203.0.113.7 and 1 more`.
pub fn describe_present_addresses(row: &Row) -> Option<String> {
    let addresses = row.addresses();
    match addresses.as_slice() {
        [] => None,
        [only] if *only == row.dest() => None,
        [only] => Some(format!("now {only}")),
        [first, rest @ ..] => Some(format!("now {first} and {} more", rest.len())),
    }
}

/// Returns an earlier answer: `allowed for 5 minutes, 12 minutes ago (…); it was revoked`.
pub(crate) fn describe_previous_answer(previous: &PreviousAnswer, now: Timestamp) -> String {
    let PreviousAnswer {
        action,
        by,
        at,
        keep,
        seconds,
        revoked,
    } = previous;
    let lifetime = match keep {
        RuleLifetime::Once => "once".to_owned(),
        // The answer may be one of an earlier run.
        RuleLifetime::Sandbox if seconds.is_none() => "for one run".to_owned(),
        _ => describe_answer_lifetime(*keep, *seconds),
    };
    let ago = format_age(now.saturating_since(*at));
    let by = if by.is_empty() {
        String::new()
    } else {
        format!(" ({by})")
    };
    let end = if *revoked {
        "it was revoked"
    } else {
        "the rule has ended"
    };
    let answer = past_participle((*action).into());
    format!("{answer} {lifetime}, {ago} ago{by}; {end}")
}

/// Returns the word for an answer that was given.
pub(crate) const fn past_participle(action: DecisionAction) -> &'static str {
    match action {
        DecisionAction::Allow => "allowed",
        DecisionAction::Deny => "denied",
        DecisionAction::Dismiss => "dismissed",
    }
}

/// Returns a time that has passed, in words and in the largest unit that fits: `12 minutes`.
pub(crate) fn format_age(age: Duration) -> String {
    let seconds = age.as_secs();
    let whole = |unit: u64| seconds.checked_div(unit).unwrap_or(0).saturating_mul(unit);
    format_seconds(match seconds {
        0..60 => seconds,
        60..3600 => whole(60),
        3600..86_400 => whole(3600),
        _ => whole(86_400),
    })
}

#[cfg(test)]
mod tests;
