// SPDX-License-Identifier: Apache-2.0
//! The reader's loop: from both sockets to whoever wants to know.

use std::io;
use std::os::fd::OwnedFd;

use terok_clearance::SandboxEvent;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::classifier::{ClassifiedPacket, PacketClassifier};
use crate::dns::DnsAnswer;
use crate::nflog::{NflogBindError, NflogOptions, NflogReceiveOutcome, NflogSocket};
use crate::packet::{NflogMessage, NflogParseError, netlink_messages};

/// As many datagrams of one socket are taken before others get their turn.
const MAX_DATAGRAMS_PER_TURN: usize = 256;
/// As many answers are taken at a time: more than their socket can hold.
const MAX_ANSWERS_PER_DRAIN: usize = 4096;
/// The greatest datagram: the longest copy of a packet and the kernel's attributes.
const MAX_DATAGRAM_BYTES: usize = 8192;

/// Who wants to know what the reader sees. Called in the reader's own task, in order.
pub trait ReaderSink {
    /// A question: a packet that was dropped.
    fn on_event(&mut self, event: SandboxEvent);

    /// A DNS answer that is about to reach the sandbox. It comes before any question about a
    /// packet that was sent because of it.
    fn on_dns_answer(&mut self, answer: &DnsAnswer);

    /// Packets that the kernel dropped and could not tell of.
    fn on_loss(&mut self, loss: NflogLoss);
}

/// Packets of one log group of which nothing is known but their number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NflogLoss {
    /// The log group.
    pub group: u16,
    /// How many, at least, since it was last said.
    pub packets: u64,
}

/// Why the reader ended before it was told to.
#[derive(Debug, thiserror::Error)]
#[error("could not receive from packet log group {group}")]
pub struct ReaderRunError {
    /// The group.
    pub group: u16,
    /// The kernel's word.
    #[source]
    pub source: io::Error,
}

/// The two sockets that a reader reads, of one network namespace.
///
/// Two and not one, so that a flood of dropped packets takes no room from DNS answers.
#[derive(Debug)]
pub struct NflogSockets {
    questions: NflogSocket,
    answers: Option<NflogSocket>,
}

impl NflogSockets {
    /// Makes two unbound netlink sockets of `NETLINK_NETFILTER`, made in the sandbox's network
    /// namespace, listeners of the log groups for questions and for answers.
    pub fn bind(questions: OwnedFd, answers: OwnedFd) -> Result<Self, NflogBindError> {
        Self::bind_with(
            questions,
            answers,
            NflogOptions::QUESTIONS,
            NflogOptions::ANSWERS,
        )
    }

    /// Does the same with other groups or sizes.
    pub fn bind_with(
        questions: OwnedFd,
        answers: OwnedFd,
        for_questions: NflogOptions,
        for_answers: NflogOptions,
    ) -> Result<Self, NflogBindError> {
        Ok(Self {
            questions: NflogSocket::bind(questions, for_questions)?,
            answers: Some(NflogSocket::bind(answers, for_answers)?),
        })
    }

    /// Makes one socket a listener of the log group for questions: the sandbox's firewall is
    /// somebody else's, and so may be the group that ours logs answers to.
    pub fn bind_questions_only(questions: OwnedFd) -> Result<Self, NflogBindError> {
        Ok(Self {
            questions: NflogSocket::bind(questions, NflogOptions::QUESTIONS)?,
            answers: None,
        })
    }
}

/// Reads one sandbox's packet log.
#[derive(Debug)]
pub struct NflogReader {
    sockets: NflogSockets,
    classifier: PacketClassifier,
}

impl NflogReader {
    /// Returns a reader of `sockets` that tells `facts`.
    pub const fn new(sockets: NflogSockets, facts: PacketClassifier) -> Self {
        Self {
            sockets,
            classifier: facts,
        }
    }

    /// Tells `sink` of everything that is logged, until `stop` is cancelled or a socket fails.
    ///
    /// The sockets close on return; they keep the network namespace alive until then.
    pub async fn run(
        self,
        sink: &mut impl ReaderSink,
        stop: CancellationToken,
    ) -> Result<(), ReaderRunError> {
        let NflogSockets { questions, answers } = self.sockets;
        let mut facts = self.classifier;
        let (mut asking, mut answering) = (NflogStream::new(), NflogStream::new());
        loop {
            tokio::select! {
                biased;
                () = stop.cancelled() => return Ok(()),
                received = questions.wait_for_datagram(&mut asking.bytes) => {
                    let mut more = asking.accept_received(received, &questions)?;
                    let mut left = MAX_DATAGRAMS_PER_TURN;
                    while more {
                        // An answer that led to this packet was logged before it was: so it is
                        // there now.
                        if let Some(answers) = &answers {
                            answering.drain_socket(answers, &mut facts, sink)?;
                        }
                        asking.dispatch_datagram(&mut facts, sink);
                        left = left.saturating_sub(1);
                        more = left > 0 && asking.receive_ready(&questions)?;
                    }
                    asking.report_loss(&questions, sink);
                    if left == 0 {
                        // What waits in the same thread gets its turn even in a flood.
                        tokio::task::yield_now().await;
                    }
                }
                (received, answers) = wait_if_bound(answers.as_ref(), &mut answering.bytes) => {
                    if answering.accept_received(received, answers)? {
                        answering.dispatch_datagram(&mut facts, sink);
                    }
                    answering.drain_socket(answers, &mut facts, sink)?;
                }
            }
        }
    }
}

/// Waits for a datagram of a socket, for ever if there is none.
async fn wait_if_bound<'a>(
    socket: Option<&'a NflogSocket>,
    bytes: &mut [u8],
) -> (NflogReceiveOutcome, &'a NflogSocket) {
    match socket {
        Some(socket) => (socket.wait_for_datagram(bytes).await, socket),
        None => std::future::pending().await,
    }
}

/// What comes through one socket.
#[derive(Debug)]
struct NflogStream {
    bytes: Box<[u8]>,
    length: usize,
    gaps: SequenceGaps,
}

impl NflogStream {
    fn new() -> Self {
        Self {
            bytes: vec![0; MAX_DATAGRAM_BYTES].into(),
            length: 0,
            gaps: SequenceGaps::default(),
        }
    }

    /// Takes one datagram; returns whether there was one.
    fn try_receive(&mut self, socket: &NflogSocket) -> Result<bool, ReaderRunError> {
        let received = socket.try_receive(&mut self.bytes);
        self.accept_received(received, socket)
    }

    /// Takes the next datagram of a socket that was waited for; returns whether there was one.
    fn receive_ready(&mut self, socket: &NflogSocket) -> Result<bool, ReaderRunError> {
        let received = socket.receive_ready(&mut self.bytes);
        self.accept_received(received, socket)
    }

    /// Takes note of what was received, and of what the kernel then has, if that was no datagram.
    fn accept_received(
        &mut self,
        mut received: NflogReceiveOutcome,
        socket: &NflogSocket,
    ) -> Result<bool, ReaderRunError> {
        loop {
            match received {
                NflogReceiveOutcome::Datagram(length) => {
                    self.length = length;
                    return Ok(true);
                }
                NflogReceiveOutcome::Overrun => self.gaps.record_overrun(),
                NflogReceiveOutcome::Empty => return Ok(false),
                NflogReceiveOutcome::Failed(source) => {
                    let group = socket.group();
                    return Err(ReaderRunError { group, source });
                }
            }
            received = socket.try_receive(&mut self.bytes);
        }
    }

    /// Tells what the datagram says.
    fn dispatch_datagram(&mut self, facts: &mut PacketClassifier, sink: &mut impl ReaderSink) {
        let now = Instant::now();
        for message in netlink_messages(self.bytes.get(..self.length).unwrap_or_default()) {
            let log = match NflogMessage::parse(message) {
                Ok(log) => log,
                // The end of a row of messages (NLMSG_DONE).
                Err(NflogParseError::UnexpectedType(3)) => continue,
                Err(error) => {
                    tracing::debug!(%error, "unreadable packet log message");
                    continue;
                }
            };
            if let Some(sequence) = log.sequence {
                self.gaps.record_sequence(sequence);
            }
            match facts.classify(&log, now) {
                ClassifiedPacket::Event(event) => sink.on_event(event),
                ClassifiedPacket::Answer(answer) => sink.on_dns_answer(&answer),
                ClassifiedPacket::Ignored => {}
            }
        }
    }

    /// Tells what all datagrams say that are there.
    fn drain_socket(
        &mut self,
        socket: &NflogSocket,
        facts: &mut PacketClassifier,
        sink: &mut impl ReaderSink,
    ) -> Result<(), ReaderRunError> {
        for _ in 0..MAX_ANSWERS_PER_DRAIN {
            if !self.try_receive(socket)? {
                break;
            }
            self.dispatch_datagram(facts, sink);
        }
        self.report_loss(socket, sink);
        Ok(())
    }

    /// Says what was lost, if anything was.
    fn report_loss(&mut self, socket: &NflogSocket, sink: &mut impl ReaderSink) {
        let packets = self.gaps.take_missing();
        if packets > 0 {
            let group = socket.group();
            tracing::warn!(group, packets, "packets lost in the kernel's log");
            sink.on_loss(NflogLoss { group, packets });
        }
    }
}

/// Counts what is missing from a row of numbered messages.
#[derive(Debug, Default)]
struct SequenceGaps {
    /// The number that comes next; the kernel starts a group at 0.
    expected: u32,
    /// Missing, and not said yet.
    missing: u64,
    /// The kernel said that something is missing; no gap has shown yet how much.
    overrun: bool,
    /// Said, for overruns, before the gap was seen.
    reported_early: u64,
}

impl SequenceGaps {
    /// Notes that the kernel threw messages away. Their number shows with the next that arrives.
    const fn record_overrun(&mut self) {
        self.overrun = true;
    }

    fn record_sequence(&mut self, sequence: u32) {
        let gap = sequence.wrapping_sub(self.expected);
        self.expected = sequence.wrapping_add(1);
        // A number from before is none that the kernel gives; take the row from there.
        if gap == 0 || gap > u32::MAX / 2 {
            return;
        }
        let gap = u64::from(gap);
        self.missing = self
            .missing
            .saturating_add(gap.saturating_sub(self.reported_early));
        self.reported_early = self.reported_early.saturating_sub(gap);
        self.overrun = false;
    }

    /// Returns how many are missing that were not said before, at least one after an overrun.
    const fn take_missing(&mut self) -> u64 {
        if self.overrun {
            self.overrun = false;
            self.missing = self.missing.saturating_add(1);
            self.reported_early = self.reported_early.saturating_add(1);
        }
        let missing = self.missing;
        self.missing = 0;
        missing
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gap_in_the_numbers_is_a_loss_said_once() {
        let mut count = SequenceGaps::default();
        let mut arrive = |numbers: &[u32], overrun: bool| {
            for number in numbers {
                count.record_sequence(*number);
            }
            if overrun {
                count.record_overrun();
            }
            count.take_missing()
        };
        assert_eq!(arrive(&[0, 1, 2], false), 0);
        assert_eq!(arrive(&[5], false), 2);
        assert_eq!(arrive(&[], false), 0);
        assert_eq!(arrive(&[], true), 1, "at least one");
        assert_eq!(
            arrive(&[16], false),
            9,
            "ten are missing, of which one was said"
        );
        assert_eq!(arrive(&[17], true), 1);
        assert_eq!(arrive(&[19], false), 0, "that one");
        assert_eq!(arrive(&[20, 22], false), 1);
    }

    #[test]
    fn messages_lost_before_the_first_are_counted_and_the_numbers_wrap() {
        let mut count = SequenceGaps::default();
        count.record_sequence(3);
        assert_eq!(count.take_missing(), 3);
        count.expected = u32::MAX;
        count.record_sequence(u32::MAX);
        count.record_sequence(1);
        assert_eq!(count.take_missing(), 1);
    }
}
