// SPDX-License-Identifier: Apache-2.0
//! The entries of the record.
//!
//! Texts from outside are [`DisplayText`], and so harmless and short. Command lines are cut to 256
//! characters; the environment is never recorded.

use std::net::IpAddr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use terok_clearance::{
    Action, ContainerId, DecisionAction, Dest, DisplayText, NetworkZone, Protocol, RequestId,
    RuleLifetime, Timestamp,
};

use crate::{ConnectionEndReason, PostureChange, RefusalReason, RuleEndReason};

/// One entry of the record: the time, the sandbox, and the event.
///
/// The appender adds the version of the format, the sequence number and the hash of the line
/// before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditEntry {
    /// The time of the event.
    pub time: Timestamp,
    /// The sandbox of the event; `None` for events about the record itself and for the ends of kept
    /// rules.
    pub sandbox: Option<AuditSandbox>,
    /// The event.
    pub event: AuditEvent,
}

impl AuditEntry {
    /// Returns an entry.
    pub const fn new(time: Timestamp, sandbox: Option<AuditSandbox>, event: AuditEvent) -> Self {
        Self {
            time,
            sandbox,
            event,
        }
    }
}

/// The sandbox of an entry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditSandbox {
    /// The sandbox's id.
    #[serde(rename = "sandbox")]
    pub id: ContainerId,
    /// The name by which an operator knows the sandbox.
    #[serde(
        default,
        deserialize_with = "optional_name",
        skip_serializing_if = "Option::is_none"
    )]
    pub name: Option<DisplayText>,
    /// The project's directory: [`DisplayText::name`] of the path.
    #[serde(
        default,
        deserialize_with = "optional_name",
        skip_serializing_if = "Option::is_none"
    )]
    pub project: Option<DisplayText>,
    /// The run's id, which differs between two runs with the same sandbox id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run: Option<DisplayText>,
}

impl AuditSandbox {
    /// Returns a sandbox of which only the id is known.
    pub const fn new(id: ContainerId) -> Self {
        Self {
            id,
            name: None,
            project: None,
            run: None,
        }
    }

    /// Returns the name, else the first characters of the id.
    pub fn label(&self) -> &str {
        self.name
            .as_ref()
            .map_or_else(|| self.id.short(), DisplayText::as_str)
    }
}

/// Deserialises a name, which may have the characters of any script.
fn optional_name<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<DisplayText>, D::Error> {
    let name = Option::<String>::deserialize(deserializer)?;
    Ok(name.map(|name| DisplayText::name(&name)))
}

/// Defines the events, their names in the record, and their parsers.
macro_rules! audit_events {
    ($($(#[$about:meta])* $variant:ident($body:ident) = $kind:literal,)+) => {
        /// The event of an entry.
        #[derive(Debug, Clone, PartialEq, Eq, Serialize)]
        #[serde(untagged)]
        pub enum AuditEvent {
            $($(#[$about])* $variant($body),)+
        }

        /// The kinds that this version knows, as `kind` names them.
        pub const KNOWN_KINDS: &[&str] = &[$($kind),+];

        impl AuditEvent {
            /// Returns the kind, as in the record.
            pub const fn kind(&self) -> &'static str {
                match self {
                    $(Self::$variant(_) => $kind,)+
                }
            }

            /// Parses the event of a line; `None` for a kind or a value of a newer version.
            pub(crate) fn from_line(kind: &str, line: &[u8]) -> Option<Self> {
                match kind {
                    $($kind => serde_json::from_slice(line).ok().map(Self::$variant),)+
                    _ => None,
                }
            }
        }
    };
}

audit_events! {
    /// A question was asked.
    Asked(AuditQuestion) = "asked",
    /// A question was answered.
    Answered(AuditAnswer) = "answered",
    /// A rule came into force.
    RuleAdded(AuditRule) = "rule_added",
    /// A rule ended.
    RuleEnded(AuditRuleEnd) = "rule_ended",
    /// A connection was dialed.
    Connected(AuditConnection) = "connected",
    /// A dialed connection ended.
    Closed(AuditConnectionEnd) = "closed",
    /// A connection was refused.
    Refused(AuditRefusal) = "refused",
    /// A sandbox started.
    SandboxStarted(AuditSandboxStart) = "sandbox_started",
    /// A sandbox ended.
    SandboxEnded(AuditSandboxEnd) = "sandbox_ended",
    /// The bypass or the firewall of a sandbox changed.
    Posture(AuditPosture) = "posture",
    /// Entries are missing here.
    Lost(AuditLoss) = "lost",
    /// A note.
    Note(AuditNote) = "note",
}

/// A question that was asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditQuestion {
    /// The request's id.
    pub request: RequestId,
    /// The destination.
    pub dest: Dest,
    /// The destination's port; 0 for a protocol without ports.
    pub port: u16,
    /// The transport protocol.
    pub protocol: Protocol,
    /// The part of the network.
    #[serde(default, skip_serializing_if = "NetworkZone::is_public")]
    pub zone: NetworkZone,
    /// The process that asks, as it describes itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub process: Option<DisplayText>,
    /// The reason that the workload gave for an access request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<DisplayText>,
}

/// An operator: a person's program or a script.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct AuditOperator {
    /// The user id, as the kernel reported it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uid: Option<u32>,
    /// The process id, as the kernel reported it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pid: Option<u32>,
    /// The user interface or the program.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub program: Option<DisplayText>,
}

/// The answer to a question, or a decision without a question.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditAnswer {
    /// The request's id; `None` for a decision without a question.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request: Option<RequestId>,
    /// The destination of the question.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dest: Option<Dest>,
    /// The action.
    pub action: DecisionAction,
    /// The pattern of the destinations that the answer covers; `None` if it makes no rule.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pattern: Option<DisplayText>,
    /// How long the answer lasts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keep: Option<RuleLifetime>,
    /// The seconds for which the answer lasts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seconds: Option<u32>,
    /// The operator that answered.
    pub by: AuditOperator,
    /// The automatic approver, if one decided.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub approver: Option<DisplayText>,
    /// The approver's reason.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub approver_reason: Option<DisplayText>,
    /// Whether the answer took effect.
    pub ok: bool,
    /// The reason if it did not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<DisplayText>,
}

/// A rule that came into force.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditRule {
    /// The rule's name or number, unique in the sandbox's run.
    pub rule: DisplayText,
    /// The pattern of the destinations.
    pub pattern: DisplayText,
    /// Allow or deny.
    pub action: Action,
    /// The source: a flag, a profile, a project file, a decision, the organisation.
    pub origin: DisplayText,
    /// How long the rule lasts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keep: Option<RuleLifetime>,
    /// The seconds for which the rule lasts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seconds: Option<u32>,
    /// The operator that made it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<AuditOperator>,
}

/// A rule that ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditRuleEnd {
    /// The rule's name or number.
    pub rule: DisplayText,
    /// The pattern of the destinations.
    pub pattern: DisplayText,
    /// Allow or deny.
    pub action: Action,
    /// The source of the rule.
    pub origin: DisplayText,
    /// The reason.
    pub why: RuleEndReason,
    /// The number of open connections that were ended with the rule.
    #[serde(default)]
    pub connections_ended: u32,
    /// The operator that took it back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<AuditOperator>,
}

/// A connection that was dialed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditConnection {
    /// The connection's number, unique in the sandbox's run; its end has the same.
    pub connection: u64,
    /// The destination, as the sandbox named it.
    pub dest: Dest,
    /// The destination's port; 0 for a protocol without ports.
    pub port: u16,
    /// The transport protocol.
    pub protocol: Protocol,
    /// The dialed address; `None` if a proxy resolved the name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<IpAddr>,
    /// The rule that allowed the connection.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rule: Option<DisplayText>,
    /// The source of that rule.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub origin: Option<DisplayText>,
}

/// The end of a dialed connection.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditConnectionEnd {
    /// The connection's number.
    pub connection: u64,
    /// The destination, as the sandbox named it.
    pub dest: Dest,
    /// The destination's port; 0 for a protocol without ports.
    pub port: u16,
    /// The transport protocol.
    pub protocol: Protocol,
    /// The bytes that left the sandbox.
    pub bytes_out: u64,
    /// The bytes that came back.
    pub bytes_in: u64,
    /// The duration in milliseconds.
    pub millis: u64,
    /// The reason of the end.
    pub why: ConnectionEndReason,
    /// The program that made the connection, as it describes itself; only in runs that learn.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub process: Option<DisplayText>,
}

/// A connection that was refused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditRefusal {
    /// The destination.
    pub dest: Dest,
    /// The destination's port; 0 for a protocol without ports.
    pub port: u16,
    /// The transport protocol.
    pub protocol: Protocol,
    /// The part of the network.
    #[serde(default, skip_serializing_if = "NetworkZone::is_public")]
    pub zone: NetworkZone,
    /// The address that was refused, for a destination with a name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<IpAddr>,
    /// The reason.
    pub why: RefusalReason,
    /// The rule that decided.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rule: Option<DisplayText>,
    /// More about the reason, such as an error of the kernel.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<DisplayText>,
    /// The number of refusals that this entry stands for, if there are several in a short time.
    #[serde(default = "one", skip_serializing_if = "is_one")]
    pub count: u32,
}

const fn one() -> u32 {
    1
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the signature of serde")]
const fn is_one(count: &u32) -> bool {
    *count == 1
}

/// The start of a sandbox.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditSandboxStart {
    /// The way to the network: `dialed`, `filtered`, `none`.
    pub network: DisplayText,
    /// Whether everything that is not floor, private or denied passes (`--learn`).
    #[serde(default)]
    pub learn: bool,
    /// The profiles, at most 32.
    #[serde(
        default,
        deserialize_with = "read_profiles",
        serialize_with = "write_profiles",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub profiles: Vec<DisplayText>,
    /// The command line, cut; never the environment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub command: Option<DisplayText>,
}

/// Maximum number of profiles in an entry.
const MAX_PROFILES: usize = 32;

fn read_profiles<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<DisplayText>, D::Error> {
    let mut profiles = Vec::deserialize(deserializer)?;
    profiles.truncate(MAX_PROFILES);
    Ok(profiles)
}

fn write_profiles<S: Serializer>(
    profiles: &[DisplayText],
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(profiles.iter().take(MAX_PROFILES))
}

/// The end of a sandbox.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditSandboxEnd {
    /// The exit status of the command, if known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<i32>,
    /// The reason, if it is not the end of the command.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<DisplayText>,
}

/// A change of the bypass or of the firewall.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditPosture {
    /// The change.
    pub change: PostureChange,
    /// The seconds for which the change lasts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seconds: Option<u32>,
    /// The operator that asked for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<AuditOperator>,
}

/// Entries that are missing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditLoss {
    /// The number of missing entries; `None` if not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub count: Option<u64>,
    /// The time of the first missing entry.
    #[serde(
        default,
        deserialize_with = "optional_time",
        serialize_with = "write_optional_time",
        skip_serializing_if = "Option::is_none"
    )]
    pub since: Option<Timestamp>,
    /// The reason.
    pub why: DisplayText,
    /// The bytes of the lines before this one that a writer did not finish. They are not part of
    /// the chain.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cut_bytes: Option<u64>,
}

fn optional_time<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<Timestamp>, D::Error> {
    crate::record_time::deserialize(deserializer).map(Some)
}

#[expect(clippy::ref_option, reason = "the signature of serde")]
fn write_optional_time<S: Serializer>(
    time: &Option<Timestamp>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    crate::record_time::serialize(&time.unwrap_or_default(), serializer)
}

/// A note.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditNote {
    /// The text.
    pub text: DisplayText,
}
