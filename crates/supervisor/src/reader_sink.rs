// SPDX-License-Identifier: Apache-2.0
//! Forwards the reader's output to the shield and the hub.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use hub::Hub;
use reader::dns::DnsAnswer;
use reader::{NflogLoss, ReaderSink};
use terok_clearance::nflog::BLOCKED_GROUP;
use terok_clearance::{BlockedPacket, Protocol, SandboxEvent, Target};

use crate::hold_table::PacketFate;
use crate::shield_enforcer::{RuleAction, ShieldEnforcer, StandInPacket};
use crate::who_asks::{SearchSubject, WhoAsks};
use crate::{DossierSource, TraceEvent};

/// The sink of the supervisor's reader: DNS answers go to the shield, questions to the hub.
#[derive(Debug)]
pub(crate) struct SupervisorSink {
    pub(crate) hub: Arc<Hub<ShieldEnforcer>>,
    pub(crate) firewall: ShieldEnforcer,
    pub(crate) dossier: DossierSource,
    pub(crate) who_asks: WhoAsks,
}

impl ReaderSink for SupervisorSink {
    fn on_question(&mut self, mut blocked: BlockedPacket, client: SocketAddr) {
        let remote = match blocked.address.parse_target() {
            Ok(Target::Address(address)) => Some(SocketAddr::new(address, blocked.port)),
            _ => None,
        };
        if self.firewall.name_stand_in(&mut blocked) == StandInPacket::Unknown {
            tracing::info!(address = %blocked.address, "no name has this stand-in address");
            return self.firewall.refuse_dest(&blocked);
        }
        if self.firewall.order_by_rules(&blocked) == RuleAction::Refuse {
            tracing::debug!(dest = %blocked.dest(), "a rule for many destinations refuses it");
            return self.firewall.refuse_dest(&blocked);
        }
        if let Some(action) = self.firewall.decided_by_kernel(&blocked) {
            tracing::debug!(
                dest = %blocked.dest(),
                address = %blocked.address,
                %action,
                "packet was logged before its order took effect"
            );
            return self
                .firewall
                .emit_trace(TraceEvent::AlreadyDecided(&blocked, action));
        }
        let fate = self.firewall.record_packet(&blocked);
        if fate == PacketFate::AlreadyHeld {
            tracing::debug!(dest = %blocked.dest(), "the connection waits for the answer");
            return;
        }
        blocked.dossier = self.dossier.read();
        self.firewall.emit_trace(TraceEvent::Asked(&blocked));
        if *self.hub.answerers().borrow() == 0 {
            self.firewall.report_unanswered(&blocked);
        }
        let (request, protocol) = (blocked.request.clone(), blocked.protocol);
        self.hub.report(SandboxEvent::Blocked(blocked));
        // The socket of a refused TCP connection is gone before it can be found.
        let has_socket = fate == PacketFate::Held || protocol == Protocol::UDP;
        if let Some(remote) = remote.filter(|_| has_socket) {
            let subject = SearchSubject::Question(request);
            self.who_asks.search(subject, protocol, client, remote);
        }
    }

    fn on_dns_answer(&mut self, answer: &DnsAnswer) {
        let addresses: Vec<IpAddr> = answer.addresses.iter().map(|(ip, _)| *ip).collect();
        self.firewall.learn_addresses(&answer.name, &addresses);
    }

    fn on_loss(&mut self, loss: NflogLoss) {
        self.firewall.emit_trace(TraceEvent::Lost(loss));
        // A lost DNS answer costs only a name; a lost packet may have been a question.
        if loss.group == BLOCKED_GROUP {
            self.hub.report_lost_packets(loss.packets);
        }
    }
}
