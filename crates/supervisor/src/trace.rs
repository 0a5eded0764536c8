// SPDX-License-Identifier: Apache-2.0
//! Trace events for programs that display or measure the processing of packets.

use std::net::IpAddr;
use std::time::Duration;

use egress::{ClosedConnection, EgressNotice, LiveConnection};
use policy::{BypassRule, PolicyRule, RuleId, TableRule};
use terok_clearance::{
    Action, BlockedPacket, Dest, DisplayText, DomainName, PacketDest, Process, RequestId, Scope,
};

/// A step on the way from a dropped packet to a set element.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub enum TraceEvent<'a> {
    /// A DNS answer was seen on its way into the sandbox.
    DnsAnswered {
        /// The queried name.
        name: &'a DomainName,
        /// The addresses of the answer.
        addresses: &'a [IpAddr],
        /// The number of addresses newly opened or closed by an order on the name.
        added: usize,
    },
    /// A packet was dropped; the hub receives the question next.
    Asked(&'a BlockedPacket),
    /// A packet was dropped without a question, because an order covers the next one.
    AlreadyDecided(&'a BlockedPacket, Action),
    /// An answer is in force as a set element.
    Enforced {
        /// The id of the question.
        request: &'a RequestId,
        /// The destination of the answer.
        dest: &'a Dest,
        /// The action of the answer.
        action: Action,
        /// The scope of the answer.
        scope: &'a Scope,
        /// The operator.
        by: &'a DisplayText,
        /// The time taken by the shield.
        duration: Duration,
    },
    /// The shield refused an answer; the question is pending again.
    Refused {
        /// The id of the question.
        request: &'a RequestId,
        /// The destination of the answer.
        dest: &'a Dest,
        /// The action of the answer.
        action: Action,
        /// The operator.
        by: &'a DisplayText,
        /// The reason for the refusal.
        reason: &'a DisplayText,
    },
    /// A rule was added: by an answer, or because a file of rules has changed.
    RuleAdded(&'a PolicyRule),
    /// A rule has ended.
    RuleEnded {
        /// The rule with its uses.
        rule: &'a TableRule,
        /// The reason.
        end: RuleEnd,
        /// Connections that were ended with this rule and with those that ended together with it.
        connections: u64,
        /// The operator who ended it; `None` if no operator did.
        by: Option<&'a DisplayText>,
    },
    /// The internet is open, except for what rules deny.
    BypassOpened {
        /// The operator.
        by: &'a DisplayText,
        /// Seconds until the end.
        seconds: u32,
    },
    /// The internet is not open any more.
    BypassEnded(&'a BypassRule),
    /// A file of rules could not be read again; the old rules count.
    KeptUnreadable(&'a DisplayText),
    /// A connection that a rule allowed was made.
    Connected(&'a LiveConnection),
    /// The process of a connection was found, in a sandbox that learns.
    ProcessFound {
        /// The number of the connection.
        connection: u64,
        /// The process, as it describes itself.
        process: &'a Process,
    },
    /// A connection has ended.
    Closed(&'a ClosedConnection),
    /// A rule refused connections. Told at the first one, then at most once a minute for a
    /// destination.
    RuleRefused {
        /// The destination.
        dest: &'a PacketDest,
        /// The rule; `None` for what the organisation's ceiling does not contain.
        rule: Option<RuleId>,
        /// Connections since the last time.
        count: u64,
    },
    /// A packet was refused without a question.
    Notice(&'a EgressNotice),
    /// The kernel dropped messages of a log group before they could be read.
    Lost(reader::NflogLoss),
}

/// The reason why a rule has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum RuleEnd {
    /// Its time is over.
    Expired,
    /// An operator revoked it.
    Revoked,
    /// A new answer for the same destinations replaced it.
    Replaced,
    /// It was for one connection, which has ended.
    Used,
    /// It was removed from its file.
    FileChanged,
}

impl RuleEnd {
    /// Returns the reason as one word.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Expired => "expired",
            Self::Revoked => "revoked",
            Self::Replaced => "replaced",
            Self::Used => "used",
            Self::FileChanged => "file_changed",
        }
    }
}

/// A callback for trace events, called in the supervisor's thread. It must not block.
pub type TraceObserver = Box<dyn FnMut(TraceEvent<'_>) + Send>;
