// SPDX-License-Identifier: Apache-2.0
//! Classifies logged packets: questions (with id and name), DNS answers, others.
//!
//! Pure: the caller passes the time.

use std::net::SocketAddr;

use terok_clearance::{
    BlockedPacket, ContainerId, Dest, Dossier, NetworkZone, RequestId, Timestamp,
};
use tokio::time::Instant;

use crate::dns::DnsAnswer;
use crate::dns_cache::DnsCache;
use crate::packet::{LogReason, LoggedPacket, NflogMessage};

/// Classifies one sandbox's logged packets, and numbers its questions.
#[derive(Debug)]
pub struct PacketClassifier {
    container: ContainerId,
    dossier: Dossier,
    next_request: u64,
    dns_cache: DnsCache,
    refused_silently: u64,
}

/// The classification of a logged packet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ClassifiedPacket {
    /// A question about a packet, and the address of the socket that sent it.
    Question(Box<BlockedPacket>, SocketAddr),
    /// A DNS answer, already cached.
    Answer(DnsAnswer),
    /// A packet to be ignored.
    Ignored,
}

/// Returns the number of a reader's first question: the microseconds since the epoch.
///
/// Each question increases the number by one. A restarted reader thus continues above its
/// predecessor, unless that one exceeded a million questions per second on average or the clock was
/// set back.
pub const fn first_request_number(now: Timestamp) -> u64 {
    now.as_micros()
}

impl PacketClassifier {
    /// Creates a classifier for `container` with an empty DNS cache.
    ///
    /// `first` is the number of the first question (see [`first_request_number`]); `dossier`
    /// accompanies every question.
    pub fn new(container: ContainerId, dossier: Dossier, first: u64) -> Self {
        Self {
            container,
            dossier,
            next_request: first,
            dns_cache: DnsCache::default(),
            refused_silently: 0,
        }
    }

    /// Returns the classification of a packet logged at `now`, and caches DNS answers.
    pub fn classify(&mut self, log: &NflogMessage<'_>, now: Instant) -> ClassifiedPacket {
        match (log.reason, &log.packet) {
            (LogReason::Blocked, Some(packet)) if packet.is_link_local_multicast() => {
                ClassifiedPacket::Ignored
            }
            (LogReason::Blocked, Some(packet)) => {
                let question = self.build_question(packet, log.uid, now);
                let client = SocketAddr::new(packet.source, packet.source_port);
                question.map_or(ClassifiedPacket::Ignored, |question| {
                    ClassifiedPacket::Question(Box::new(question), client)
                })
            }
            (LogReason::Answer, Some(packet)) => {
                DnsAnswer::from_packet(packet).map_or(ClassifiedPacket::Ignored, |answer| {
                    self.dns_cache.insert_answer(&answer, now);
                    ClassifiedPacket::Answer(answer)
                })
            }
            (rule, packet) => {
                self.refused_silently = self.refused_silently.saturating_add(1);
                tracing::debug!(?rule, ?packet, "packet refused without a question");
                ClassifiedPacket::Ignored
            }
        }
    }

    /// Returns the count of packets refused without a question: those logged by a deny, private or
    /// foreign rule, and those without a readable IP header.
    pub const fn refused_silently(&self) -> u64 {
        self.refused_silently
    }

    fn build_question(
        &mut self,
        packet: &LoggedPacket<'_>,
        uid: Option<u32>,
        now: Instant,
    ) -> Option<BlockedPacket> {
        let container = &self.container;
        // A container id and a number always form a request id.
        let request: RequestId = format!("{container}:{}", self.next_request).parse().ok()?;
        self.next_request = self.next_request.wrapping_add(1);
        let name = self.dns_cache.find_name(packet.destination, now);
        let event = BlockedPacket {
            container: container.clone(),
            request,
            address: Dest::from(packet.destination),
            port: packet.destination_port,
            protocol: packet.protocol,
            domain: name.as_ref().map(Dest::from),
            dossier: self.dossier.clone(),
            process: None,
            zone: NetworkZone::Public,
            looked_up_as: None,
            previous: None,
            reason: None,
        };
        tracing::debug!(
            request = %event.request,
            dest = %event.dest(),
            protocol = %event.protocol,
            port = event.port,
            uid,
            "packet blocked"
        );
        Some(event)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;
    use terok_clearance::Protocol;

    fn classifier(first: u64) -> PacketClassifier {
        let dossier = Dossier::new([("project".into(), "web".into())].into());
        PacketClassifier::new("box".parse().unwrap(), dossier, first)
    }

    fn log<'a>(rule: LogReason, destination: &str, body: &'a [u8]) -> NflogMessage<'a> {
        NflogMessage {
            group: 100,
            reason: rule,
            sequence: None,
            uid: Some(1000),
            gid: None,
            hook: None,
            timestamp_micros: None,
            packet: Some(LoggedPacket {
                source: "192.0.2.53".parse().unwrap(),
                destination: destination.parse().unwrap(),
                protocol: Protocol::UDP,
                source_port: 53,
                destination_port: 443,
                payload: body,
            }),
        }
    }

    /// `a.example` is 203.0.113.7, with a TTL of one minute.
    const ANSWER: &[u8] = b"\xab\xcd\x81\x80\0\x01\0\x01\0\0\0\0\x01a\x07example\0\0\x01\0\x01\
        \xc0\x0c\0\x01\0\x01\0\0\0\x3c\0\x04\xcb\0\x71\x07";

    fn question(classified: ClassifiedPacket) -> BlockedPacket {
        match classified {
            ClassifiedPacket::Question(blocked, client) => {
                assert_eq!(client.to_string(), "192.0.2.53:53");
                *blocked
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_blocked_packet_is_a_question_with_the_looked_up_name() {
        let (mut classifier, now) = (classifier(7), Instant::now());
        let before =
            question(classifier.classify(&log(LogReason::Blocked, "203.0.113.7", &[]), now));
        assert_eq!((before.request.as_str(), before.domain), ("box:7", None));
        let ClassifiedPacket::Answer(answer) =
            classifier.classify(&log(LogReason::Answer, "192.0.2.2", ANSWER), now)
        else {
            panic!()
        };
        assert_eq!(answer.name.as_str(), "a.example");
        let after =
            question(classifier.classify(&log(LogReason::Blocked, "203.0.113.7", &[]), now));
        assert_eq!(after.request.as_str(), "box:8");
        assert_eq!(after.dest().as_str(), "a.example");
        assert_eq!(after.address.as_str(), "203.0.113.7");
        assert_eq!((after.port, after.protocol), (443, Protocol::UDP));
        assert_eq!(after.dossier.len(), 1);
    }

    #[test]
    fn only_blocked_packets_become_questions_and_only_answers_add_names() {
        let (mut classifier, now) = (classifier(0), Instant::now());
        for rule in [LogReason::Denied, LogReason::Private, LogReason::Other] {
            assert_eq!(
                classifier.classify(&log(rule, "203.0.113.7", ANSWER), now),
                ClassifiedPacket::Ignored
            );
        }
        assert_eq!(classifier.refused_silently(), 3);
        let asked =
            question(classifier.classify(&log(LogReason::Blocked, "203.0.113.7", ANSWER), now));
        assert_eq!(asked.domain, None, "a dropped packet adds no name");
        assert_eq!(
            classifier.classify(&log(LogReason::Answer, "192.0.2.2", &[1]), now),
            ClassifiedPacket::Ignored
        );
        assert_eq!(
            classifier.classify(&log(LogReason::Blocked, "ff02::fb", &[]), now),
            ClassifiedPacket::Ignored
        );
        let mut unreadable = log(LogReason::Blocked, "203.0.113.7", &[]);
        unreadable.packet = None;
        assert_eq!(
            classifier.classify(&unreadable, now),
            ClassifiedPacket::Ignored
        );
        assert_eq!(classifier.refused_silently(), 4);
    }

    #[test]
    fn a_restarted_reader_continues_with_higher_numbers() {
        let start = Timestamp::from_micros(1_795_255_384_000_000);
        let (mut first, now) = (classifier(first_request_number(start)), Instant::now());
        let mut last = String::new();
        for _ in 0..1000 {
            let asked = question(first.classify(&log(LogReason::Blocked, "203.0.113.7", &[]), now));
            assert!(asked.request.as_str() > last.as_str());
            last = asked.request.as_str().into();
        }
        let mut second = classifier(first_request_number(
            start.saturating_add(Duration::from_millis(1)),
        ));
        let asked = question(second.classify(&log(LogReason::Blocked, "203.0.113.7", &[]), now));
        assert!(asked.request.as_str() > last.as_str());
        assert_eq!(first_request_number(Timestamp::UNIX_EPOCH), 0);
    }
}
