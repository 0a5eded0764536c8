// SPDX-License-Identifier: Apache-2.0
//! Questions that a program in the sandbox asks ahead of a connection.

use std::net::{Ipv4Addr, SocketAddr};

use names::NameLookup;
use terok_clearance::{DisplayText, PacketDest, PacketHost, Protocol, RequestId};
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use super::{EgressEngine, ZonedDest};
use crate::dial::DialSockets;
use crate::{EgressPolicy, EgressQuestion, EgressSink, EgressVerdict};

/// A query about a destination that no connection was made to yet.
#[derive(Debug)]
pub struct AheadQuery {
    /// The destination, as the program in the sandbox writes it. An address may be a stand-in.
    pub dest: PacketDest,
    /// The program's reason for a question to the operator; `None` for no question.
    pub reason: Option<DisplayText>,
    /// Receives the answer.
    pub reply: oneshot::Sender<AheadAnswer>,
}

/// What a connection would meet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AheadAnswer {
    /// The destination, with the name of a stand-in address.
    pub dest: PacketDest,
    /// The effect of the rules.
    pub verdict: EgressVerdict,
    /// The question, if the operator was asked.
    pub request: Option<RequestId>,
}

impl<P: EgressPolicy, N: NameLookup, D: DialSockets, S: EgressSink> EgressEngine<P, N, D, S> {
    /// Answers a query, and asks the operator as a refused packet would.
    pub(super) fn answer_ahead(&mut self, query: AheadQuery) {
        let AheadQuery {
            dest,
            reason,
            reply,
        } = query;
        let asked = match &dest.host {
            PacketHost::Address(address) => {
                self.destination(SocketAddr::new(*address, dest.port), dest.protocol)
            }
            PacketHost::Name(_) => ZonedDest {
                zone: self.zone_of(&dest),
                dest,
                looked_up_as: None,
            },
        };
        let verdict = self.decide(&asked.dest, asked.zone);
        let request = match (verdict, &reason) {
            (EgressVerdict::Ask, Some(reason)) => self.ask_ahead(&asked, reason),
            _ => None,
        };
        let answer = AheadAnswer {
            dest: asked.dest,
            verdict,
            request,
        };
        drop(reply.send(answer)); // the program may have hung up
    }

    fn ask_ahead(&mut self, asked: &ZonedDest, reason: &DisplayText) -> Option<RequestId> {
        if !self.question_rate.admit(Instant::now().into_std()) {
            return None;
        }
        let nowhere = SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0));
        Some(self.sink.ask(&EgressQuestion {
            dest: &asked.dest,
            zone: asked.zone,
            looked_up_as: None,
            client: nowhere,
            is_held: false,
            remote: nowhere,
            reason: Some(reason),
        }))
    }
}

/// Receives the next query; never without a channel.
pub(super) async fn next_query(queries: &mut Option<mpsc::Receiver<AheadQuery>>) -> AheadQuery {
    if let Some(receiver) = queries {
        if let Some(query) = receiver.recv().await {
            return query;
        }
        *queries = None;
    }
    std::future::pending().await
}

/// Returns `true` for a protocol that an engine opens.
pub const fn is_dialed_protocol(protocol: Protocol) -> bool {
    matches!(
        protocol,
        Protocol::TCP | Protocol::UDP | Protocol::ICMP | Protocol::ICMPV6
    )
}
