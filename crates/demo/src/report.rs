// SPDX-License-Identifier: Apache-2.0
//! The steps of the demo. Each step is a JSON object or one line of text.
//!
//! `docs/demo.md` describes the objects; a test compares document and code.

use std::net::{IpAddr, SocketAddr};

use serde::Serialize;
use terok_clearance::{Action, Dest, DisplayText, Process, Protocol, RequestId, Scope};

use crate::checks::DemoVerdict;
use crate::protocol::WorkloadConfinement;

/// A step. Times are in microseconds; `*_us` are durations.
#[derive(Debug, Clone, Serialize)]
#[serde(tag = "step", rename_all = "snake_case")]
pub(crate) enum DemoStep {
    /// The sandbox's namespaces exist.
    Sandbox {
        /// Process id of the first process, outside the sandbox.
        pid: u32,
        /// Duration of the step.
        took_us: u64,
    },
    /// The simulated internet serves, in a network namespace of its own.
    Internet {
        /// Process id.
        pid: u32,
        /// Number of hosts.
        hosts: usize,
        /// The reason, if IPv6 is missing.
        without_v6: Option<DisplayText>,
        /// Duration of the step.
        took_us: u64,
    },
    /// The gateway's rules are in force, and the hub listens.
    Firewall {
        /// The sandbox's name server: the gateway.
        resolver: IpAddr,
        /// Whether the kernel's rules were compared with the intended ones.
        verified: bool,
        /// The links of the sandbox.
        sandbox_links: Vec<String>,
        /// The links of the gateway.
        gateway_links: Vec<String>,
        /// The hub's socket.
        socket: DisplayText,
        /// Duration of the step.
        took_us: u64,
    },
    /// The program runs in the sandbox.
    Program {
        /// Privileges.
        #[serde(flatten)]
        confinement: WorkloadConfinement,
        /// Duration of the step.
        took_us: u64,
    },
    /// A fetch begins.
    Fetch {
        /// Number of the fetch, from 1.
        fetch: usize,
        /// Number of all fetches.
        of: usize,
        /// The URL.
        url: String,
    },
    /// The program sent the first packet of a connection.
    Packet {
        /// The fetch.
        fetch: usize,
        /// Destination of the packet: an address, or the stand-in address of a name.
        address: SocketAddr,
        /// Duration of the name lookup.
        lookup_us: Option<u64>,
        /// Time of sending, on the monotonic clock.
        at: u64,
        /// Whether the packet is held and the program waits.
        held: bool,
    },
    /// The question arrived at the operator's client.
    Event {
        /// The fetch.
        fetch: usize,
        /// The question's id.
        request: RequestId,
        /// Destination of the question.
        dest: Dest,
        /// Time of arrival, on the monotonic clock.
        at: u64,
        /// Time from sending until the supervisor read the packet from the kernel's log.
        packet_to_log_us: Option<u64>,
        /// Time from the packet until the arrival.
        packet_to_event_us: u64,
    },
    /// The question for the operator.
    Question {
        /// The fetch.
        fetch: usize,
        /// The question's id.
        request: RequestId,
        /// The exact scope that an answer opens or closes.
        scope: Scope,
        /// The process that sent the packet, if known.
        process: Option<Process>,
    },
    /// The answer.
    Answer {
        /// The fetch.
        fetch: usize,
        /// `allow` or `deny`; `None` without an answer.
        answer: Option<Action>,
        /// Source: `--answer`, `terminal`, `stdin`, `desktop`, `tui`, …
        by: &'static str,
        /// Time until the answer.
        took_us: u64,
    },
    /// The answer became a rule.
    Rule {
        /// The fetch.
        fetch: usize,
        /// Whether the rule allows or denies.
        action: Action,
        /// The destination: a name or an address.
        dest: String,
        /// The protocol, if limited to one.
        protocol: Option<Protocol>,
        /// The port, if limited to one.
        port: Option<u16>,
        /// Time from sending the answer until the rule was in force, if the demo sent the answer.
        answer_to_rule_us: Option<u64>,
    },
    /// The supervisor connected to the destination and handed the connection over.
    Connected {
        /// The fetch.
        fetch: usize,
        /// Address of the connection outside.
        address: SocketAddr,
        /// Time from sending the answer until the program's `connect()` succeeded, if the demo sent
        /// the answer.
        answer_to_connect_us: Option<u64>,
    },
    /// The supervisor refused the packet without a question.
    Notice {
        /// The fetch.
        fetch: usize,
        /// Time from `connect()` until the refusal.
        waited_us: Option<u64>,
    },
    /// The hub refused an answer to a question that was never asked.
    Forged {
        /// The fetch.
        fetch: usize,
        /// The hub's error.
        error: DisplayText,
    },
    /// The program got the page.
    Passed {
        /// The fetch.
        fetch: usize,
        /// The first line of the page.
        result: DisplayText,
        /// Time from `connect()` until its success, the wait for the answer included.
        waited_us: Option<u64>,
        /// Time from the success of `connect()` until the end of the page.
        took_us: u64,
    },
    /// The program got no page.
    Refused {
        /// The fetch.
        fetch: usize,
        /// The error in the program.
        result: DisplayText,
        /// Time from `connect()` until the error, the wait for the answer included.
        waited_us: Option<u64>,
        /// Time from sending the answer until the error, if the demo sent the answer.
        answer_to_refused_us: Option<u64>,
    },
    /// This machine cannot show the fetch.
    Skipped {
        /// The fetch.
        fetch: usize,
        /// The reason.
        reason: DisplayText,
    },
    /// The summary, always last.
    Summary(DemoSummary),
}

/// The results of the demo.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct DemoSummary {
    /// Whether every question was answered, allowed fetches passed, and no others did.
    pub(crate) ok: bool,
    /// The counts and faults.
    #[serde(flatten)]
    pub(crate) verdict: DemoVerdict,
    /// Median time from a packet to the question at the operator.
    pub(crate) packet_to_event_us: Option<u64>,
    /// Median time from an answer to the program's connection.
    pub(crate) answer_to_connect_us: Option<u64>,
    /// Duration of the whole demo.
    pub(crate) took_us: u64,
}

/// Returns the median of `values`, or the lower median of an even number; `None` without values.
pub(crate) fn median(mut values: Vec<u64>) -> Option<u64> {
    values.sort_unstable();
    let middle = values.len().saturating_sub(1) / 2;
    values.get(middle).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_lower_of_the_two_in_the_middle() {
        assert_eq!(median(vec![]), None);
        assert_eq!(median(vec![7]), Some(7));
        assert_eq!(median(vec![9, 1]), Some(1));
        assert_eq!(median(vec![9, 1, 5]), Some(5));
    }
}
