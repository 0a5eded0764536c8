// SPDX-License-Identifier: Apache-2.0
//! What programs in a sandbox are told: what was decided, by what, and what to do.

use terok_clearance::{PacketDest, RequestId};

/// What denies a destination.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Denier {
    Operator,
    Organisation,
    Floor,
}

pub(super) const NO_REASON: &str =
    "a request needs a reason: one sentence that the operator sees with the question";
pub(super) const NO_DEST: &str =
    "the destination is neither a host name nor an address: write api.example.com or 203.0.113.7";
pub(super) const NO_PROTOCOL: &str = "the protocol is none of tcp, udp and icmp: no other leaves";
pub(super) const NO_PORT: &str = "port 0 cannot be opened: write a port from 1 to 65535";
pub(super) const NO_NETWORK: &str =
    "this sandbox has no network (`run --network none`): nobody can open anything";
pub(super) const TOO_MANY_PENDING: &str =
    "32 requests wait for the operator already: wait for their answers before the next one";

pub(super) fn too_fast(seconds: u64) -> String {
    format!("too many requests: nothing was asked; the next one is possible in {seconds} s")
}

pub(super) fn allowed(dest: &PacketDest) -> String {
    format!("connections to {dest} are allowed: connect")
}

pub(super) fn pending(dest: &PacketDest, id: &RequestId) -> String {
    format!(
        "the operator was asked about {dest} and has not answered yet; a connection waits for the \
         same answer, and `terok-clearance request --status {id}` tells it"
    )
}

pub(super) fn ask(dest: &PacketDest) -> String {
    format!(
        "no rule covers {dest}: a connection asks the operator; to ask ahead with a reason: \
         `terok-clearance request {dest} --reason '...'`"
    )
}

pub(super) fn ended(dest: &PacketDest) -> String {
    format!(
        "the question about {dest} has ended, and no answer to it is in force (any more): a new \
         request or connection asks again"
    )
}

pub(super) fn denied(dest: &PacketDest, denier: Denier) -> String {
    match denier {
        Denier::Operator => format!(
            "{dest} is denied by a rule of the operator: do without it, or tell the person who \
             started this sandbox why it is needed; asking again does not change a rule"
        ),
        Denier::Organisation => format!(
            "{dest} is denied by the policy of the operator's organisation: do without it; no \
             answer of the operator opens it here"
        ),
        Denier::Floor => format!(
            "{dest} is never opened: link-local, cloud metadata, multicast and reserved addresses \
             and the proxy of the operator's network are out of reach of every sandbox"
        ),
    }
}

#[cfg(test)]
mod tests {
    use terok_clearance::wire::request1::{RequestReply, RequestState};
    use terok_clearance::{PacketHost, Protocol};

    use super::*;

    /// A text that is cut would lose what to do.
    #[test]
    fn every_text_fits_with_the_longest_name() {
        let label = "a".repeat(62);
        let name = [label.as_str(); 4].join(".");
        let dest = PacketDest {
            host: PacketHost::Name(name.parse().unwrap()),
            port: 65_535,
            protocol: Protocol::UDP,
        };
        let id = format!("{}:{}", "c".repeat(12), u64::MAX).parse().unwrap();
        for text in [
            allowed(&dest),
            pending(&dest, &id),
            denied(&dest, Denier::Operator),
            denied(&dest, Denier::Organisation),
            denied(&dest, Denier::Floor),
            ended(&dest),
        ] {
            let shown = RequestReply::new(RequestState::Denied, &text);
            assert_eq!(shown.text.as_str(), text);
        }
    }
}
