// SPDX-License-Identifier: Apache-2.0
//! Facts become events: which logged packets are questions, under which id and which name.
//!
//! Pure: the time comes in.

use std::time::{Duration, SystemTime};

use terok_clearance::{Blocked, ContainerId, Dest, Dossier, Event, RequestId};
use tokio::time::Instant;

use crate::dns::Answer;
use crate::names::Names;
use crate::packet::{Log, Packet, Rule};

/// What is known of one sandbox's packets, and the next question's number.
#[derive(Debug)]
pub struct Facts {
    container: ContainerId,
    dossier: Dossier,
    next: u64,
    names: Names,
    noted: u64,
}

/// What a logged packet amounts to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fact {
    /// A question.
    Event(Event),
    /// A DNS answer, already remembered.
    Answer(Answer),
    /// Nothing to tell anybody.
    Nothing,
}

/// Returns the number of a reader's first question: the microseconds since the epoch.
///
/// Numbers rise by one with each question. So those of a reader that is started again are above
/// those of the one before, as long as that one asked fewer than a million questions a second
/// over its life, and nobody turned the clock back.
pub fn first_request(now: SystemTime) -> u64 {
    let since = now.duration_since(SystemTime::UNIX_EPOCH);
    u64::try_from(since.unwrap_or(Duration::ZERO).as_micros()).unwrap_or(0)
}

impl Facts {
    /// Returns the facts about `container`, of which nothing has been seen yet.
    ///
    /// `first` is the number of its first question, see [`first_request`]; `dossier` goes with
    /// every question.
    pub fn new(container: ContainerId, dossier: Dossier, first: u64) -> Self {
        Self {
            container,
            dossier,
            next: first,
            names: Names::default(),
            noted: 0,
        }
    }

    /// Says what a logged packet amounts to, at `now`.
    pub fn of(&mut self, log: &Log<'_>, now: Instant) -> Fact {
        match (log.rule, &log.packet) {
            (Rule::Blocked, Some(packet)) if packet.is_noise() => Fact::Nothing,
            (Rule::Blocked, Some(packet)) => {
                let question = self.question(packet, log.uid, now);
                question.map_or(Fact::Nothing, Fact::Event)
            }
            (Rule::Answer, Some(packet)) => Answer::of(packet).map_or(Fact::Nothing, |answer| {
                self.names.learn(&answer, now);
                Fact::Answer(answer)
            }),
            (rule, packet) => {
                self.noted = self.noted.saturating_add(1);
                tracing::debug!(?rule, ?packet, "packet refused without a question");
                Fact::Nothing
            }
        }
    }

    /// Returns how many packets were refused without a question: those that a deny, private or
    /// foreign rule logged, and those without a readable IP header.
    pub const fn noted(&self) -> u64 {
        self.noted
    }

    fn question(&mut self, packet: &Packet<'_>, uid: Option<u32>, now: Instant) -> Option<Event> {
        let container = &self.container;
        // A container's id and a number are always a request's id.
        let request: RequestId = format!("{container}:{}", self.next).parse().ok()?;
        self.next = self.next.wrapping_add(1);
        let name = self.names.find(packet.destination, now);
        let event = Blocked {
            container: container.clone(),
            request,
            address: Dest::from(packet.destination),
            port: packet.port,
            protocol: packet.protocol,
            domain: name.as_ref().map(Dest::from),
            dossier: self.dossier.clone(),
            process: None,
        };
        tracing::debug!(
            request = %event.request,
            dest = %event.dest(),
            protocol = %event.protocol,
            port = event.port,
            uid,
            "packet blocked"
        );
        Some(Event::Blocked(event))
    }
}
