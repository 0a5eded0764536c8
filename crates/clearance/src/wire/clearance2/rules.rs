// SPDX-License-Identifier: Apache-2.0
//! The rules of a sandbox: list, revoke, explain, bypass.

use serde::{Deserialize, Deserializer, Serialize};

use crate::display_text::deserialize_program_output;
use crate::{Action, DisplayText, NetworkZone, Protocol, RuleLifetime, Timestamp};

/// A rule of a sandbox.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListedRule {
    /// The name of the rule in its sandbox, such as `r12`.
    pub rule: DisplayText,
    /// Allow or deny.
    pub action: Action,
    /// The covered destinations, in the form of [`DestPattern`](crate::DestPattern); `*` for the
    /// bypass.
    pub dest: DisplayText,
    /// The lifetime.
    pub keep: RuleLifetime,
    /// Seconds until the end; absent for a rule without an end of its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seconds_left: Option<u64>,
    /// The kind of origin: `organisation`, `ceiling`, `flag`, `profile`, `project`, `always`,
    /// `trusted_file`, `decision` or `bypass`.
    pub origin: DisplayText,
    /// The profile or the question that the rule comes from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub origin_name: Option<DisplayText>,
    /// The operator who made the rule, as the record names them.
    pub by: DisplayText,
    /// The time since which the rule counts.
    pub since: Timestamp,
    /// Connections that the rule has let pass, or refused; absent where they are not counted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uses: Option<u64>,
    /// The time of the last one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_used: Option<Timestamp>,
    /// Connections that exist because of the rule.
    #[serde(default)]
    pub open: u64,
    /// `true` for a rule for one connection that it has let pass: it opens nothing more.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub spent: bool,
}

/// The reply to `Rules`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RulesReply {
    /// The rules in the order of their additions.
    pub rules: Vec<ListedRule>,
}

/// The parameters of `Revoke`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RevokeParameters {
    /// The name of the rule, or the id of a request: then every rule of its answers.
    pub rule: DisplayText,
}

/// The reply to `Revoke`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RevokeReply {
    /// The rules that were revoked.
    pub rules: Vec<ListedRule>,
    /// The number of connections that were ended.
    pub ended: u64,
}

/// The parameters of `Explain`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ExplainParameters {
    /// A name or an address.
    pub dest: DisplayText,
    /// The port; absent for 443.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    /// The protocol; absent for TCP.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub protocol: Option<Protocol>,
}

/// What the rules do with a destination.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ExplainVerdict {
    /// A rule allows it.
    Allow,
    /// A rule denies it.
    Deny,
    /// The organisation's ceiling does not contain it.
    OutsideCeiling,
    /// It is a question.
    Ask,
    /// Nothing opens it.
    Floor,
}

/// The reply to `Explain`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExplainReply {
    /// What happens.
    pub verdict: ExplainVerdict,
    /// The part of the network that the destination belongs to.
    #[serde(default, skip_serializing_if = "NetworkZone::is_public")]
    pub zone: NetworkZone,
    /// The rule that decides.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rule: Option<ListedRule>,
    /// The other rules that cover the destination, in the order of authority.
    #[serde(default)]
    pub others: Vec<ListedRule>,
}

/// The parameters of `Bypass`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct BypassParameters {
    /// Seconds for which the internet is open; 0 ends the bypass now.
    pub seconds: u32,
}

/// The reply to `Bypass`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BypassReply {
    /// The bypass; absent if it was ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rule: Option<ListedRule>,
    /// The number of connections that were ended.
    #[serde(default)]
    pub ended: u64,
}

/// An error reply to a call about rules.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[non_exhaustive]
#[serde(tag = "error", content = "parameters")]
pub enum RuleCallError {
    /// The sandbox has no such rule.
    #[error("the sandbox has no rule {rule}: it has ended, or was never made")]
    #[serde(rename = "org.terok.Clearance2.NoSuchRule")]
    NoSuchRule {
        /// The name in the call.
        rule: DisplayText,
    },
    /// The rule was not changed, or the hub cannot do what was asked.
    #[error("{reason}")]
    #[serde(rename = "org.terok.Clearance2.RuleRefused")]
    RuleRefused {
        /// The reason.
        #[serde(deserialize_with = "deserialize_program_output")]
        reason: DisplayText,
    },
}

impl RuleCallError {
    /// Creates a refusal with a reason.
    pub fn refused(reason: &str) -> Self {
        Self::RuleRefused {
            reason: DisplayText::from_program_output(reason),
        }
    }
}

/// Reads a list of lifetimes, without those of later releases.
pub(super) fn deserialize_known_lifetimes<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Vec<RuleLifetime>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum LenientLifetime {
        Known(RuleLifetime),
        Unknown(serde::de::IgnoredAny),
    }
    let all = Vec::<LenientLifetime>::deserialize(deserializer)?;
    let known = all.into_iter().filter_map(|one| match one {
        LenientLifetime::Known(lifetime) => Some(lifetime),
        LenientLifetime::Unknown(_) => None,
    });
    Ok(known.collect())
}
