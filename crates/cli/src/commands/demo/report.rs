// SPDX-License-Identifier: Apache-2.0
//! The steps of the demo, each as it is told: one JSON object, or a line on the [`page`](super::page).
//!
//! `docs/demo.md` describes the objects; a test compares the two.

use std::net::{IpAddr, SocketAddr};

use serde::Serialize;
use terok_clearance::{Action, Dest, DisplayText, Process, Protocol, RequestId, Scope};

use super::checks::DemoVerdict;
use super::protocol::WorkloadConfinement;

/// One step. Times are microseconds; `*_us` are durations.
#[derive(Debug, Clone, Serialize)]
#[serde(tag = "step", rename_all = "snake_case")]
pub(super) enum DemoStep {
    /// The sandbox's namespaces are there.
    Sandbox {
        /// A process in them, as seen from outside.
        pid: u32,
        /// How long it took.
        took_us: u64,
    },
    /// The ruleset is in force in the sandbox, and the questions have a hub.
    Firewall {
        /// The one host that may be asked without a question, for names.
        resolver: IpAddr,
        /// Whether what the kernel holds was compared with what was meant.
        verified: bool,
        /// Where the hub listens.
        socket: DisplayText,
        /// How long it took.
        took_us: u64,
    },
    /// The pretend internet is joined to the sandbox.
    Internet {
        /// How many hosts it has.
        hosts: usize,
        /// Why there is no IPv6, where there is none.
        without_v6: Option<DisplayText>,
        /// How long it took.
        took_us: u64,
    },
    /// The program runs in the sandbox.
    Program {
        /// What it may do.
        #[serde(flatten)]
        confinement: WorkloadConfinement,
        /// How long it took.
        took_us: u64,
    },
    /// The program begins to fetch something.
    Fetch {
        /// Its number, from 1.
        fetch: usize,
        /// How many there are.
        of: usize,
        /// What.
        url: String,
    },
    /// The program's packet was refused.
    Packet {
        /// The fetch.
        fetch: usize,
        /// Where it was sent.
        address: Option<SocketAddr>,
        /// How long the name server took.
        lookup_us: Option<u64>,
        /// When it was sent, on the machine's monotonic clock.
        at: u64,
        /// How long the program had to wait until it knew.
        took_us: u64,
        /// What the program was told.
        result: DisplayText,
    },
    /// The question arrived at the operator's client.
    Event {
        /// The fetch.
        fetch: usize,
        /// The question's id.
        request: RequestId,
        /// What it is about.
        dest: Dest,
        /// When it arrived, on the machine's monotonic clock.
        at: u64,
        /// The time from the packet to the supervisor's having read it from the kernel's log.
        packet_to_log_us: Option<u64>,
        /// The time from the packet to it.
        packet_to_event_us: u64,
    },
    /// The question, as it is put to the operator.
    Question {
        /// The fetch.
        fetch: usize,
        /// The question's id.
        request: RequestId,
        /// What an answer opens or closes.
        scope: Scope,
        /// Who sent the packet, where that was found.
        process: Option<Process>,
    },
    /// The answer.
    Answer {
        /// The fetch.
        fetch: usize,
        /// What it is: `allow`, `deny`; absent: nobody answered.
        answer: Option<Action>,
        /// Who gave it: `--answer`, `terminal`, `stdin`, `desktop`, `tui`.
        by: &'static str,
        /// How long it took to come.
        took_us: u64,
    },
    /// The hub took the answer, and the kernel holds the set element.
    Set {
        /// The fetch.
        fetch: usize,
        /// Whether it opens or closes.
        action: Action,
        /// The address.
        address: IpAddr,
        /// The protocol, where it is only one.
        protocol: Option<Protocol>,
        /// The port, where it is only one.
        port: Option<u16>,
        /// The time from sending the answer to the kernel's having taken the element, if it was
        /// the demo that sent it.
        answer_to_set_us: Option<u64>,
        /// The time from sending the answer to having read the element back, likewise.
        answer_to_read_back_us: Option<u64>,
    },
    /// An answer to a question that was never asked was refused.
    Forged {
        /// The fetch.
        fetch: usize,
        /// The error with which the hub refused.
        error: DisplayText,
    },
    /// The program's next attempt passed.
    Passed {
        /// The fetch.
        fetch: usize,
        /// The first line of the page.
        result: DisplayText,
        /// How long it took.
        took_us: u64,
    },
    /// The program's next attempt did not pass.
    Refused {
        /// The fetch.
        fetch: usize,
        /// What the program was told.
        result: DisplayText,
        /// How long it took.
        took_us: u64,
    },
    /// A fetch that this machine cannot show.
    Skipped {
        /// The fetch.
        fetch: usize,
        /// Why.
        reason: DisplayText,
    },
    /// The end.
    Summary(DemoSummary),
}

/// What it all came to.
#[derive(Debug, Clone, Serialize)]
pub(super) struct DemoSummary {
    /// Whether what was allowed passed, what was denied did not, and everything was answered.
    pub(super) ok: bool,
    /// The counts, and what is wrong.
    #[serde(flatten)]
    pub(super) verdict: DemoVerdict,
    /// The median time from a packet to its question at the operator.
    pub(super) packet_to_event_us: Option<u64>,
    /// The median time from an answer to the set element in the kernel.
    pub(super) answer_to_set_us: Option<u64>,
    /// How long everything took.
    pub(super) took_us: u64,
}

/// Returns the median of `values`, the lower one of two; nothing of none.
pub(super) fn median(mut values: Vec<u64>) -> Option<u64> {
    values.sort_unstable();
    let middle = values.len().saturating_sub(1) / 2;
    values.get(middle).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_lower_one_in_the_middle() {
        assert_eq!(median(vec![]), None);
        assert_eq!(median(vec![7]), Some(7));
        assert_eq!(median(vec![9, 1]), Some(1));
        assert_eq!(median(vec![9, 1, 5]), Some(5));
    }
}
