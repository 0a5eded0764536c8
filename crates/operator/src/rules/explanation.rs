// SPDX-License-Identifier: Apache-2.0
//! What the rules of a sandbox do with a destination, why, and what would change it.

use std::str::FromStr;

use terok_clearance::wire::clearance2::{
    BypassReply, ExplainParameters, ExplainReply, ExplainVerdict, ListedRule,
};
use terok_clearance::{
    Action, DestPattern, DisplayText, HostPattern, NetworkZone, Protocol, Timestamp,
};

use super::{RuleRow, describe_ended, describe_rule};
use crate::answer_scope::format_seconds;
use crate::inbox::HubId;
use crate::json::{ScriptEvent, to_json_line};

/// A destination of `explain`: a name or an address, with a port and a protocol if given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExplainTarget {
    text: DisplayText,
    parameters: ExplainParameters,
}

/// A text that is not an [`ExplainTarget`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not one destination, such as api.example.com:443 or 192.0.2.1/icmp")]
pub struct ExplainTargetError(DisplayText);

impl FromStr for ExplainTarget {
    type Err = ExplainTargetError;

    fn from_str(text: &str) -> Result<Self, ExplainTargetError> {
        let refused = || ExplainTargetError(DisplayText::new(text));
        let pattern: DestPattern = text.parse().map_err(|_error| refused())?;
        let host = match pattern.host() {
            HostPattern::Name(name) => name.to_string(),
            HostPattern::Address(address) => address.to_string(),
            HostPattern::Subdomains(_) | HostPattern::Network(_) => return Err(refused()),
        };
        let port = match pattern.ports() {
            None => None,
            Some(ports) if ports.low() == ports.high() => Some(ports.low()),
            Some(_) => return Err(refused()),
        };
        Ok(Self {
            text: DisplayText::new(text),
            parameters: ExplainParameters {
                dest: DisplayText::new(&host),
                port,
                protocol: pattern.protocol(),
            },
        })
    }
}

impl ExplainTarget {
    /// Returns the parameters for [`Client::explain`](terok_clearance::client::Client::explain).
    pub const fn parameters(&self) -> &ExplainParameters {
        &self.parameters
    }

    /// Returns the destination in words, with the port that counts if none was given.
    fn describe(&self) -> String {
        let ExplainParameters {
            dest,
            port,
            protocol,
        } = &self.parameters;
        let protocol = protocol.unwrap_or(Protocol::TCP);
        if protocol == Protocol::ICMP {
            return format!("{dest} icmp");
        }
        format!("{dest} port {}/{protocol}", port.unwrap_or(443))
    }
}

/// The reply of a hub to `explain`, in words.
#[derive(Debug, Clone, Copy)]
pub struct Explanation<'a> {
    /// The hub.
    pub hub: &'a HubId,
    /// The name of its sandbox.
    pub sandbox: &'a DisplayText,
    /// The destination.
    pub target: &'a ExplainTarget,
    /// The reply.
    pub reply: &'a ExplainReply,
    /// The present time.
    pub now: Timestamp,
}

impl Explanation<'_> {
    /// Returns the explanation as lines: what happens and why, the other rules, what would change
    /// it.
    pub fn to_text(&self) -> String {
        let mut lines = vec![self.because()];
        for rule in &self.reply.others {
            let row = describe_rule(rule, self.now);
            lines.push(format!("  also covers it: {}", self.describe_rule(&row)));
        }
        lines.extend(self.changes().iter().map(|change| format!("  {change}")));
        lines.join("\n") + "\n"
    }

    /// Returns the explanation as a JSON line.
    pub fn to_json(&self) -> String {
        to_json_line(&ScriptEvent::Explained {
            hub: self.hub.to_string(),
            sandbox: self.sandbox,
            dest: &self.target.text,
            reply: self.reply,
            because: self.because(),
            change: self.changes(),
        })
    }

    /// Returns what happens to a connection, and which rule decides.
    fn because(&self) -> String {
        let (sandbox, dest) = (self.sandbox, self.target.describe());
        let zone = match self.reply.zone {
            NetworkZone::Public => "",
            NetworkZone::LocalNetwork => ", on your local network,",
            NetworkZone::ThisHost => ", a service on this machine,",
        };
        let happens = match self.reply.verdict {
            ExplainVerdict::Allow => "is allowed",
            ExplainVerdict::Deny => "is denied",
            ExplainVerdict::OutsideCeiling => {
                "is denied: the organisation's policy does not let you open it"
            }
            ExplainVerdict::Ask => "is asked about: no rule covers it",
            ExplainVerdict::Floor => "is refused: no rule opens such an address",
        };
        match &self.reply.rule {
            Some(rule) => {
                let row = describe_rule(rule, self.now);
                let rule = self.describe_rule(&row);
                format!("{sandbox}: {dest}{zone} {happens} by {rule}")
            }
            None => format!("{sandbox}: {dest}{zone} {happens}"),
        }
    }

    fn describe_rule(&self, row: &RuleRow) -> String {
        format!(
            "{}:{}, {} {}, {} ({})",
            self.sandbox,
            row.rule,
            row.action,
            row.covers,
            row.lifetime,
            row.details()
        )
    }

    /// Returns what would change the result, each a sentence with the command.
    fn changes(&self) -> Vec<String> {
        let sandbox = self.sandbox;
        let text = &self.target.text;
        match (self.reply.verdict, &self.reply.rule) {
            (ExplainVerdict::Allow | ExplainVerdict::Deny, Some(rule)) => self.rule_changes(rule),
            (ExplainVerdict::Allow | ExplainVerdict::Deny, None) => Vec::new(),
            (ExplainVerdict::OutsideCeiling, _) => vec![
                "to open it, the organisation's administrator has to add it to the policy; no \
                 command of yours does"
                    .to_owned(),
            ],
            (ExplainVerdict::Ask, _) => vec![
                "to open or close it, answer when a connection asks: `terok-clearance list` shows \
                 the question's ID, `terok-clearance allow ID` opens it"
                    .to_owned(),
                format!(
                    "to open it from the start: `terok-clearance run --allow {text} -- COMMAND`"
                ),
                format!(
                    "to open everything for a time: `terok-clearance bypass {sandbox} --for 10m`"
                ),
            ],
            (ExplainVerdict::Floor, _) => {
                vec!["nothing opens it; use another address".to_owned()]
            }
        }
    }

    fn rule_changes(&self, rule: &ListedRule) -> Vec<String> {
        let (sandbox, name) = (self.sandbox, &rule.rule);
        let change = match (rule.origin.as_str(), rule.action) {
            ("organisation" | "ceiling", _) => {
                return vec![
                    "only the organisation's administrator changes this rule; no command of yours \
                     does"
                        .to_owned(),
                ];
            }
            ("bypass", _) => {
                return vec![format!(
                    "to close it: `terok-clearance bypass {sandbox} --end`"
                )];
            }
            (_, Action::Allow) => "to close it",
            (_, Action::Deny) => "to be asked again",
        };
        let then = self.others_after(rule);
        let kept = match rule.origin.as_str() {
            "profile" | "flag" | "trusted_file" => {
                " (for this run; later runs start with it again)"
            }
            "project" | "always" => " (also for later runs)",
            _ => "",
        };
        vec![format!(
            "{change}: `terok-clearance revoke {sandbox}:{name}`{kept}{then}"
        )]
    }

    /// Returns the rule that would decide after the end of `rule`.
    fn others_after(&self, rule: &ListedRule) -> String {
        // In the order of authority; a ceiling opens nothing by itself.
        let next = self
            .reply
            .others
            .iter()
            .find(|other| other.origin.as_str() != "ceiling");
        match next {
            Some(next) => {
                let verb = match next.action {
                    Action::Allow => "allows",
                    Action::Deny => "denies",
                };
                let (sandbox, name) = (self.sandbox, &next.rule);
                format!("; {sandbox}:{name} then still {verb} it")
            }
            None if rule.action == Action::Allow => "; the next connection then asks".to_owned(),
            None => String::new(),
        }
    }
}

/// Returns what a call of the bypass did, in words that say what is open.
pub fn describe_bypass(sandbox: &DisplayText, reply: &BypassReply) -> String {
    match &reply.rule {
        Some(rule) => {
            let time = rule.seconds_left.map_or_else(
                || "until it is ended".to_owned(),
                |left| format!("for {}", format_seconds(left)),
            );
            format!(
                "{sandbox} IS OPEN {time}: EVERY destination on the internet, without a question, \
                 except for what rules deny; `terok-clearance bypass {sandbox} --end` closes it"
            )
        }
        None => format!(
            "{sandbox} is closed again: the bypass has ended, {}",
            describe_ended(reply.ended)
        ),
    }
}

/// Returns what a call of the bypass did as a JSON line.
pub fn bypass_json(hub: &HubId, sandbox: &DisplayText, reply: &BypassReply) -> String {
    to_json_line(&ScriptEvent::Bypass {
        hub: hub.to_string(),
        sandbox,
        rule: reply.rule.as_ref(),
        ended: reply.ended,
    })
}

#[cfg(test)]
mod tests;
