// SPDX-License-Identifier: Apache-2.0
//! The rules of several sandboxes, and the rule that a name means.
//!
//! Out of its sandbox a rule is called `web:r12`: the sandbox's name, and the name in the sandbox.

use terok_clearance::client::{AnswerError, Client};
use terok_clearance::wire::clearance2::{ListedRule, RevokeReply};
use terok_clearance::{Action, DisplayText, Timestamp, error_chain};
use tokio::task::JoinSet;

use super::describe_rule;
use crate::inbox::HubId;
use crate::join_result;
use crate::json::{ScriptEvent, hub_state_event, to_json_line};
use crate::script::hub_sandbox_name;
use crate::text_wrap::{display_width, pad_cell, wrap_lines};

/// Indentation of the second line of a rule.
const INDENT_COLUMNS: usize = 4;
/// Maximum names in an error.
const MAX_NAMES: usize = 6;

/// The rules of one hub's sandbox.
#[derive(Debug, Clone)]
pub struct HubRules {
    /// The hub.
    pub hub: HubId,
    /// The name of the sandbox, or its id.
    pub sandbox: DisplayText,
    /// The rules in the order of their additions.
    pub rules: Vec<ListedRule>,
    client: Client,
}

/// The rules of several hubs, and the hubs that did not tell them.
#[derive(Debug, Default)]
pub struct RuleSurvey {
    /// The rules, by hub.
    pub hubs: Vec<HubRules>,
    /// The hubs that did not tell their rules.
    pub gaps: Vec<RuleGap>,
}

/// A hub that did not tell its rules.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct RuleGap {
    /// The hub.
    pub hub: HubId,
    /// The reason.
    pub reason: DisplayText,
    /// `true` if the hub did not reply; otherwise it replied that it does not tell rules.
    pub is_silent: bool,
}

/// The result of [`RuleSurvey::revoke`].
#[derive(Debug, Clone)]
pub enum RevokeOutcome {
    /// The rules were revoked, of this hub and sandbox.
    Revoked(HubId, DisplayText, RevokeReply),
    /// No sandbox has such a rule.
    NoSuchRule(DisplayText),
    /// Nothing was revoked, for this reason.
    Refused(DisplayText),
    /// A hub did not reply: the rule may or may not be revoked.
    Unknown(DisplayText),
}

impl RuleSurvey {
    /// Reads the rules of these hubs, all at a time.
    pub async fn read(hubs: Vec<(HubId, Client)>) -> Self {
        let mut reading = JoinSet::new();
        for (hub, client) in hubs {
            reading.spawn(async move {
                let rules = client.rules().await;
                (hub, client, rules)
            });
        }
        let mut survey = Self::default();
        while let Some(read) = reading.join_next().await {
            let Some((hub, client, rules)) = join_result(read) else {
                continue;
            };
            match rules {
                Ok(rules) => {
                    let sandbox = sandbox_name(&hub);
                    survey.hubs.push(HubRules {
                        hub,
                        sandbox,
                        rules,
                        client,
                    });
                }
                Err(error) => survey.gaps.push(RuleGap {
                    hub,
                    reason: error_chain(&error),
                    is_silent: is_silent(&error),
                }),
            }
        }
        survey.hubs.sort_by(|a, b| a.hub.cmp(&b.hub));
        survey.gaps.sort();
        survey.name_by_id_if_ambiguous();
        survey
    }

    /// Sandboxes with the same name have their ids instead.
    fn name_by_id_if_ambiguous(&mut self) {
        let names: Vec<_> = self.hubs.iter().map(|hub| hub.sandbox.clone()).collect();
        for hub in &mut self.hubs {
            if names.iter().filter(|name| **name == hub.sandbox).count() > 1
                && let Some(id) = hub.hub.sandbox()
            {
                hub.sandbox = DisplayText::new(id);
            }
        }
    }

    /// Revokes the rule with this name, or the rules of the answers to a request: `web:r12`,
    /// `web:17`, and `r12` where one sandbox alone has such a rule.
    pub async fn revoke(&self, name: &str) -> RevokeOutcome {
        let found: Vec<_> = self
            .hubs
            .iter()
            .filter_map(|hub| Some((hub, hub.find(name)?)))
            .collect();
        match found.as_slice() {
            // A hub that did not reply may have the rule.
            [] if self.gaps.iter().any(|gap| gap.is_silent) => {
                RevokeOutcome::Unknown(self.describe_missing(name))
            }
            [] => RevokeOutcome::NoSuchRule(self.describe_missing(name)),
            [(hub, rule)] => match hub.client.revoke(rule.clone()).await {
                Ok(reply) => RevokeOutcome::Revoked(hub.hub.clone(), hub.sandbox.clone(), reply),
                Err(error) if is_silent(&error) => RevokeOutcome::Unknown(error_chain(&error)),
                Err(error) => RevokeOutcome::Refused(error_chain(&error)),
            },
            several => {
                let names = several
                    .iter()
                    .map(|(hub, rule)| format!("{}:{rule}", hub.sandbox));
                let names: Vec<_> = names.take(MAX_NAMES).collect();
                let reason = format!("several sandboxes have {name}: {}", names.join(", "));
                RevokeOutcome::Refused(DisplayText::from_program_output(&reason))
            }
        }
    }

    fn describe_missing(&self, name: &str) -> DisplayText {
        let name = DisplayText::new(name);
        let reason = match self.describe_gaps().first() {
            Some(gap) => format!("no sandbox has a rule {name}; {gap}"),
            None => format!("no sandbox has a rule {name}: it has ended, or was never made"),
        };
        DisplayText::from_program_output(&reason)
    }

    /// Returns a line for each hub that did not tell its rules.
    pub fn describe_gaps(&self) -> Vec<String> {
        let gaps = self.gaps.iter().map(|gap| {
            let hub = crate::phrases::describe_hub(&gap.hub);
            format!("{hub} did not tell its rules: {}", gap.reason)
        });
        gaps.collect()
    }

    /// Returns the rules as a table, each with a second line for its origin and its use. Lines are
    /// broken for a terminal of `width` columns, and stay whole without one.
    pub fn to_table(&self, now: Timestamp, width: Option<usize>, color: bool) -> String {
        let head = ["RULE", "WHAT", "COVERS", "LASTS"].map(str::to_owned);
        let rules = self.hubs.iter().flat_map(|hub| {
            let name = |rule: &ListedRule| format!("{}:{}", hub.sandbox, rule.rule);
            hub.rules
                .iter()
                .map(move |rule| (name(rule), describe_rule(rule, now)))
        });
        let rows: Vec<_> = rules
            .map(|(name, rule)| {
                let details = rule.details();
                let action = rule.action.to_string();
                ([name, action, rule.covers, rule.lifetime], details)
            })
            .collect();
        if rows.is_empty() {
            return String::new();
        }
        let cells = || rows.iter().map(|(cells, _)| cells).chain([&head]);
        let widths: [usize; 4] = std::array::from_fn(|column| {
            let texts = cells().filter_map(|cells| cells.get(column));
            texts.map(|text| display_width(text)).max().unwrap_or(0)
        });
        let wrap = |line: String| match width {
            Some(width) => wrap_lines(&line, width, INDENT_COLUMNS),
            None => line,
        };
        let line = |cells: &[String; 4]| {
            let padded = cells.iter().zip(widths);
            let padded: Vec<_> = padded.map(|(text, width)| pad_cell(text, width)).collect();
            padded.join("  ").trim_end().to_owned()
        };
        let head = line(&head);
        let head = if color {
            format!("\x1b[1m{head}\x1b[0m\n")
        } else {
            format!("{head}\n")
        };
        let mut shown = wrap(head);
        for (cells, details) in &rows {
            shown.push_str(&wrap(line(cells) + "\n"));
            let indent = " ".repeat(INDENT_COLUMNS);
            shown.push_str(&wrap(format!("{indent}{details}\n")));
        }
        shown
    }

    /// Returns the rules as JSON lines: `rule` for each, `hub` for each hub that did not tell its
    /// rules, and `rules` at the end.
    pub fn to_json(&self) -> String {
        let mut lines = String::new();
        let mut count = 0_usize;
        for hub in &self.hubs {
            for rule in &hub.rules {
                count = count.saturating_add(1);
                lines.push_str(&to_json_line(&ScriptEvent::Rule {
                    name: format!("{}:{}", hub.sandbox, rule.rule),
                    hub: hub.hub.to_string(),
                    sandbox: &hub.sandbox,
                    rule,
                }));
            }
        }
        for gap in &self.gaps {
            let (hub, reason) = (&gap.hub, Some(&gap.reason));
            lines.push_str(&to_json_line(&hub_state_event(hub, "unreachable", reason)));
        }
        lines.push_str(&to_json_line(&ScriptEvent::Rules { rules: count }));
        lines
    }
}

impl HubRules {
    /// Returns the rule or the request that a name means in this sandbox, as the hub calls it.
    fn find(&self, name: &str) -> Option<DisplayText> {
        let has = |text: &str| self.rules.iter().any(|rule| rule.rule.as_str() == text);
        if has(name) {
            return Some(DisplayText::new(name));
        }
        let by_request = self
            .rules
            .iter()
            .filter(|rule| rule.origin.as_str() == "decision")
            .filter_map(|rule| rule.origin_name.clone());
        let (sandbox, number) = name.rsplit_once(':')?;
        let is_this = sandbox == self.sandbox.as_str()
            || sandbox_name(&self.hub).as_str() == sandbox
            || self.hub.sandbox().is_some_and(|id| {
                sandbox == id || (id.len() == 12 && sandbox.get(..12) == Some(id))
            });
        if is_this && has(number) {
            return Some(DisplayText::new(number));
        }
        let mut requests = by_request.filter(|request| {
            let own = request.as_str();
            own == name || (is_this && has_short_number(own, number))
        });
        let first = requests.next()?;
        // Two requests with the same short number: neither is meant.
        requests.all(|other| other == first).then_some(first)
    }
}

/// Returns `true` if the hub did not reply, so that nothing is known.
pub const fn is_silent(error: &AnswerError) -> bool {
    matches!(
        error,
        AnswerError::NoHub(_) | AnswerError::Unanswered(_) | AnswerError::TimedOut(_)
    )
}

/// Returns `true` if the number of a request is this one, whole or in its short form.
fn has_short_number(request: &str, number: &str) -> bool {
    let is_number = !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit());
    let whole = request.rsplit_once(':').map(|(_, whole)| whole);
    is_number && whole.is_some_and(|whole| crate::inbox::is_request_number(whole, number))
}

fn sandbox_name(hub: &HubId) -> DisplayText {
    hub_sandbox_name(hub).unwrap_or_else(|| DisplayText::new(&hub.to_string()))
}

impl RevokeOutcome {
    /// Returns the outcome in words: `revoked web:r12 (allow api.example.com port 443/tcp); ended 2
    /// connections`.
    pub fn to_text(&self) -> String {
        match self {
            Self::Revoked(_, sandbox, reply) => {
                let rules = reply.rules.iter().map(|rule| {
                    let reach = super::describe_rule_reach(rule);
                    format!("{sandbox}:{} ({} {reach})", rule.rule, rule.action)
                });
                let rules: Vec<_> = rules.collect();
                let ended = describe_ended(reply.ended);
                let mut text = format!("revoked {}; {ended}", rules.join(", "));
                let is_denial = |rule: &ListedRule| rule.action == Action::Deny;
                if !reply.rules.is_empty() && reply.rules.iter().all(is_denial) {
                    text.push_str("; the next connection asks again");
                }
                text
            }
            Self::NoSuchRule(reason) | Self::Refused(reason) | Self::Unknown(reason) => {
                reason.to_string()
            }
        }
    }

    /// Returns the outcome as a JSON line; `name` is the name that was given.
    pub fn to_json(&self, name: &str) -> String {
        to_json_line(&match self {
            Self::Revoked(hub, sandbox, reply) => ScriptEvent::Revoked {
                hub: hub.to_string(),
                sandbox,
                rules: &reply.rules,
                ended: reply.ended,
            },
            Self::NoSuchRule(reason) => ScriptEvent::MissingRule {
                name: DisplayText::new(name),
                reason,
            },
            Self::Refused(reason) | Self::Unknown(reason) => ScriptEvent::Refused {
                row: None,
                request: None,
                reason: reason.clone(),
            },
        })
    }
}

/// Returns the number of connections that were ended: `ended 2 connections`.
pub fn describe_ended(ended: u64) -> String {
    match ended {
        0 => "no connection was open".to_owned(),
        1 => "ended 1 connection".to_owned(),
        ended => format!("ended {ended} connections"),
    }
}
