// SPDX-License-Identifier: Apache-2.0
//! The interfaces of the engine to rules and questions.

use std::net::{IpAddr, SocketAddr};
use std::time::Instant;

use terok_clearance::{DestZone, DisplayText, DomainName, PacketDest, Protocol, RequestId};

use crate::live_connections::{ClosedConnection, DialedConnection, LiveConnection};

/// The number of a rule, as the policy counts them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RuleTag(pub u64);

/// The effect of the rules on a destination.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EgressVerdict {
    /// This rule allows the destination.
    Allow(RuleTag),
    /// A rule denies the destination; without a number if everything is denied that is not within
    /// a limit of the operator's organisation.
    Deny(Option<RuleTag>),
    /// No rule covers the destination.
    Ask,
    /// Nothing opens the destination.
    Floor,
}

/// The effect of the rules on an address of an allowed name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AddressVerdict {
    /// The address may be dialed.
    Allow,
    /// A rule denies the address.
    Deny,
    /// The address needs an answer of its own.
    Ask,
    /// Nothing opens the address.
    Floor,
}

/// The rules of a sandbox.
pub trait EgressPolicy: Send + Sync + 'static {
    /// Returns the effect of the rules on a connection to `dest` in `zone`.
    fn decide(&self, dest: &PacketDest, zone: DestZone) -> EgressVerdict;

    /// Returns the effect of the rules on an address that the allowed name `name` leads to.
    fn decide_address(
        &self,
        name: &DomainName,
        address: IpAddr,
        port: u16,
        protocol: Protocol,
        zone: DestZone,
    ) -> AddressVerdict;

    /// Returns `true` if a rule allows a connection to `name` on any port: it may be looked up.
    fn allows_name(&self, name: &DomainName) -> bool;

    /// Notes that a rule has let connections pass, or refused them.
    fn note_uses(&self, rule: RuleTag, count: u64);

    /// Returns the rule because of which a connection goes on, of those that are in force now;
    /// `None` if it must end. `rule` of the connection is the one that let it pass.
    fn rule_to_go_on(&self, connection: &DialedConnection) -> Option<RuleTag>;

    /// Notes the begin of a connection.
    fn note_opened(&self, rule: RuleTag);

    /// Notes the end of a connection.
    fn note_closed(&self, rule: RuleTag);
}

/// A question about a destination.
#[derive(Debug, Clone)]
pub struct EgressQuestion<'a> {
    /// The destination.
    pub dest: &'a PacketDest,
    /// The part of the network that the destination lies in.
    pub zone: DestZone,
    /// The name that led to the destination, an address.
    pub looked_up_as: Option<&'a DomainName>,
    /// The sandbox's end of the connection.
    pub client: SocketAddr,
    /// The connection waits for the answer, so that its program can be searched for meanwhile.
    pub is_held: bool,
    /// The destination in the packet, which may be a stand-in address.
    pub remote: SocketAddr,
    /// The reason of a program that asks ahead of a connection.
    pub reason: Option<&'a DisplayText>,
}

/// The connections that wait for the answer to a question.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HeldCount {
    /// The number of connections.
    pub count: usize,
    /// The start of the oldest.
    pub since: Option<Instant>,
    /// The time that a program waited before it gave up, if the last one did.
    pub gave_up_after: Option<std::time::Duration>,
}

/// Events that no question covers, each told once for a destination, up to a limit.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum EgressNotice {
    /// The destination is never opened: link-local, cloud metadata, multicast or reserved.
    Floor(PacketDest),
    /// The destination is the proxy of the operator's network.
    OperatorProxy(PacketDest),
    /// A connection was refused because no operator is there to answer.
    NobodyAnswers(PacketDest),
    /// A connection was refused because no answer came within its time.
    HoldEnded(PacketDest),
    /// The gateway does not pass packets of this protocol on.
    UnsupportedProtocol(Protocol),
    /// Too many connections wait; new ones are refused.
    TooManyHeld,
    /// The names of the sandbox are used up; further names are not resolved.
    TooManyNames,
    /// A lookup of a record that no stand-in can answer, for a name that no rule allows.
    RecordRefused {
        /// The name.
        name: DomainName,
        /// The record type, as in the query.
        record_type: String,
    },
    /// A connection was not made: this process has too many open files or sockets.
    OutOfSockets(PacketDest),
    /// Lookups for the sandbox failed: this process has too many open files or sockets.
    LookupsOutOfSockets,
    /// A connection was reset because it asked the destination for another server.
    ServerNameMismatch {
        /// The destination, a name.
        dest: PacketDest,
        /// The server name in the first bytes, or the reason why there is none.
        found: DisplayText,
    },
    /// QUIC to a name was refused because its server name cannot be checked.
    ServerNameUnreadable(PacketDest),
    /// Later notices of a kind are not told, because there were too many.
    NoticesOmitted,
}

/// Receives what the engine reports.
pub trait EgressSink: Send + 'static {
    /// Asks about a destination; returns the id of the question.
    fn ask(&mut self, question: &EgressQuestion<'_>) -> RequestId;

    /// Returns `false` if the program in the sandbox does not wait for the connection any more.
    fn still_waits(&mut self, client: SocketAddr, remote: SocketAddr) -> bool;

    /// Reports how many connections wait for the answer to a question.
    fn set_waiting(&mut self, request: &RequestId, held: HeldCount);

    /// Reports a connection that a rule allowed and that was made.
    fn connected(&mut self, connection: &LiveConnection);

    /// Reports the end of a connection.
    fn closed(&mut self, connection: &ClosedConnection);

    /// Reports a connection that a rule refused.
    fn refused(&mut self, dest: &PacketDest, rule: Option<RuleTag>);

    /// Reports an event without a question.
    fn notice(&mut self, notice: EgressNotice);
}
