// SPDX-License-Identifier: Apache-2.0
//! The wording of the rules in force, for lists, pages and explanations.
//!
//! [`Session::client`](crate::Session::client) returns the client of a hub, which lists and revokes
//! its rules.

mod explanation;
mod rule_survey;

pub use explanation::{
    ExplainTarget, ExplainTargetError, Explanation, bypass_json, describe_bypass,
};
pub use rule_survey::{HubRules, RevokeOutcome, RuleGap, RuleSurvey, describe_ended, is_silent};

use std::time::Duration;

use terok_clearance::wire::clearance2::ListedRule;
use terok_clearance::{Action, DestPattern, Protocol, RuleLifetime, Timestamp};

use crate::phrases::{describe_answer_lifetime, describe_names, format_age};

/// A rule in words, one text for each column of a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RuleRow {
    /// The name in its sandbox: `r12`.
    pub rule: String,
    /// `allow` or `deny`.
    pub action: Action,
    /// What the rule covers: `api.example.com port 443/tcp`.
    pub covers: String,
    /// The lifetime: `for this run`, `4 minutes left`.
    pub lifetime: String,
    /// The origin: `profile npm`, `the answer to web:17`.
    pub origin: String,
    /// The operator who made the rule.
    pub by: String,
    /// The time since which it counts: `12 minutes`.
    pub age: String,
    /// What it has let pass or refused: `3 connections, last 2 minutes ago`, `refused 1
    /// connection`.
    pub uses: String,
    /// Connections that exist because of the rule.
    pub open: u64,
    /// Whether the rule opens nothing more: it was for one connection.
    pub is_spent: bool,
}

/// Returns a rule in words.
pub fn describe_rule(rule: &ListedRule, now: Timestamp) -> RuleRow {
    RuleRow {
        rule: rule.rule.to_string(),
        action: rule.action,
        covers: describe_rule_reach(rule),
        lifetime: describe_rule_lifetime(rule),
        origin: describe_rule_origin(rule),
        by: rule.by.to_string(),
        age: format_age(now.saturating_since(rule.since)),
        uses: describe_uses(rule, now),
        open: rule.open,
        is_spent: rule.spent,
    }
}

impl RuleRow {
    /// Returns where the rule comes from and what it did, in one line.
    pub fn details(&self) -> String {
        let by = if self.by.is_empty() {
            String::new()
        } else {
            format!(" by {}", self.by)
        };
        let open = match self.open {
            0 => String::new(),
            1 => "; 1 open now".to_owned(),
            open => format!("; {open} open now"),
        };
        format!("{}{by}, {} ago; {}{open}", self.origin, self.age, self.uses)
    }
}

/// Returns what a rule covers, in words: `every name below example.com (not example.com itself)
/// port 443/tcp`.
pub fn describe_rule_reach(rule: &ListedRule) -> String {
    let text = rule.dest.as_str();
    if text == "*" {
        return "the whole internet, except for what rules deny".to_owned();
    }
    let Ok(pattern) = text.parse::<DestPattern>() else {
        return text.to_owned(); // of a later release
    };
    let host = describe_names(&pattern.host().to_string());
    let protocol = |text: String| match pattern.protocol() {
        Some(protocol) => format!("{text}/{protocol}"),
        None => text,
    };
    match (pattern.ports(), pattern.protocol()) {
        (None, None) => format!("{host}, every port"),
        (None, Some(Protocol::ICMP)) => format!("{host}, icmp"),
        (None, Some(protocol)) => format!("{host}, every {protocol} port"),
        (Some(ports), _) if ports.low() == ports.high() => {
            format!("{host} port {}", protocol(ports.to_string()))
        }
        (Some(ports), _) => format!("{host} ports {}", protocol(ports.to_string())),
    }
}

/// Returns the lifetime of a rule, or the time that is left of it.
pub fn describe_rule_lifetime(rule: &ListedRule) -> String {
    if rule.spent {
        return "was for one connection".to_owned();
    }
    match (rule.keep, rule.seconds_left) {
        (RuleLifetime::Once, Some(left)) => {
            format!("once, {} left", format_age(Duration::from_secs(left)))
        }
        (RuleLifetime::Once, None) => "once".to_owned(),
        (_, Some(left)) => format!("{} left", format_age(Duration::from_secs(left))),
        (keep, None) => describe_answer_lifetime(keep, None),
    }
}

/// Returns the origin of a rule.
pub fn describe_rule_origin(rule: &ListedRule) -> String {
    let name = rule.origin_name.as_ref().map(ToString::to_string);
    match (rule.origin.as_str(), name) {
        ("organisation", _) => "the organisation's policy".to_owned(),
        ("ceiling", _) => "what the organisation lets users allow".to_owned(),
        ("flag", _) => "the command line or the configuration".to_owned(),
        ("profile", Some(name)) => format!("profile {name}"),
        ("project", _) => "kept for this project".to_owned(),
        ("always", _) => "kept for every sandbox".to_owned(),
        ("trusted_file", _) => "the trusted file of the project".to_owned(),
        ("decision", Some(request)) => format!("the answer to {request}"),
        ("bypass", _) => "the bypass".to_owned(),
        (other, Some(name)) => format!("{other} {name}"),
        (other, None) => other.to_owned(),
    }
}

/// Returns what a rule has let pass or refused.
fn describe_uses(rule: &ListedRule, now: Timestamp) -> String {
    let Some(uses) = rule.uses else {
        return "uses are not counted here".to_owned();
    };
    let count = match (rule.action, uses) {
        (_, 0) => return "never used".to_owned(),
        (Action::Allow, 1) => "1 connection".to_owned(),
        (Action::Allow, count) => format!("{count} connections"),
        (Action::Deny, 1) => "refused 1 connection".to_owned(),
        (Action::Deny, count) => format!("refused {count} connections"),
    };
    match rule.last_used {
        Some(last) => format!(
            "{count}, last {} ago",
            format_age(now.saturating_since(last))
        ),
        None => count,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};
    use test_support::questions::NOON_MICROS;

    use super::*;

    const NOW: Timestamp = Timestamp::from_micros(NOON_MICROS);

    fn described(changes: Value) -> RuleRow {
        let mut rule = json!({
            "rule": "r12", "action": "allow", "dest": "api.example.com:443/tcp", "keep": "sandbox",
            "origin": "decision", "origin_name": "web:17", "by": "uid 1000",
            "since": NOON_MICROS - 720_000_000, "uses": 0, "open": 0,
        });
        if let Value::Object(changes) = changes {
            rule.as_object_mut().unwrap().extend(changes);
        }
        describe_rule(&serde_json::from_value(rule).unwrap(), NOW)
    }

    #[test]
    fn a_rule_is_described_column_by_column() {
        let row = described(json!({
            "uses": 3, "last_used": NOON_MICROS - 125_000_000, "open": 2, "seconds_left": 250,
        }));
        let expected = RuleRow {
            rule: "r12".to_owned(),
            action: Action::Allow,
            covers: "api.example.com port 443/tcp".to_owned(),
            lifetime: "4 minutes left".to_owned(),
            origin: "the answer to web:17".to_owned(),
            by: "uid 1000".to_owned(),
            age: "12 minutes".to_owned(),
            uses: "3 connections, last 2 minutes ago".to_owned(),
            open: 2,
            is_spent: false,
        };
        assert_eq!(row, expected);
    }

    #[test]
    fn reach_is_in_words() {
        for (dest, expected) in [
            ("api.example.com", "api.example.com, every port"),
            (
                "*.example.com:443",
                "every name below example.com (not example.com itself) port 443",
            ),
            ("203.0.113.0/24:80-90/tcp", "203.0.113.0/24 ports 80-90/tcp"),
            ("[2001:db8::1]:443/udp", "2001:db8::1 port 443/udp"),
            ("2001:db8::1", "2001:db8::1, every port"),
            ("192.0.2.1/icmp", "192.0.2.1, icmp"),
            ("a.example/udp", "a.example, every udp port"),
            ("*", "the whole internet, except for what rules deny"),
            ("of a later release", "of a later release"),
        ] {
            assert_eq!(described(json!({"dest": dest})).covers, expected);
        }
    }

    #[test]
    fn lifetime_is_what_is_left() {
        for (changes, expected) in [
            (
                json!({"keep": "once", "seconds_left": 59}),
                "once, 59 seconds left",
            ),
            (
                json!({"keep": "once", "spent": true}),
                "was for one connection",
            ),
            (json!({"keep": "once"}), "once"),
            (json!({"keep": "sandbox"}), "for this run"),
            (json!({"keep": "always"}), "always, in every sandbox"),
            (
                json!({"keep": "project"}),
                "for this project, also in later runs",
            ),
        ] {
            assert_eq!(described(changes).lifetime, expected);
        }
    }

    #[test]
    fn origin_and_uses_are_in_words() {
        for (origin, name, expected) in [
            ("organisation", json!(null), "the organisation's policy"),
            ("profile", json!("npm"), "profile npm"),
            ("decision", json!("web:17"), "the answer to web:17"),
            ("project", json!(null), "kept for this project"),
            ("later", json!("x"), "later x"),
        ] {
            let row = described(json!({"origin": origin, "origin_name": name}));
            assert_eq!(row.origin, expected);
        }
        assert_eq!(described(json!({})).uses, "never used");
        let refusing = described(json!({"action": "deny", "uses": 1}));
        assert_eq!(refusing.uses, "refused 1 connection");
    }
}
