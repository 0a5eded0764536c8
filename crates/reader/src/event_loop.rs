// SPDX-License-Identifier: Apache-2.0
//! The reader's loop: from the NFLOG sockets to a [`ReaderSink`].

use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;

use terok_clearance::BlockedPacket;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::classifier::{ClassifiedPacket, PacketClassifier};
use crate::dns::DnsAnswer;
use crate::nflog::{NflogBindError, NflogOptions, NflogReceiveOutcome, NflogSocket};
use crate::packet::{NflogMessage, NflogParseError, netlink_messages};

/// Maximum datagrams read per socket and iteration.
const MAX_DATAGRAMS_PER_TURN: usize = 256;
/// Maximum answers read at a time; exceeds the capacity of the socket.
const MAX_ANSWERS_PER_DRAIN: usize = 4096;
/// Maximum datagram: the longest packet copy and the kernel's attributes.
const MAX_DATAGRAM_BYTES: usize = 8192;

/// The recipient of the reader's output, called in order in the reader's own task.
pub trait ReaderSink {
    /// Receives a question about a dropped packet. `client` is the address of the socket that sent
    /// it.
    fn on_question(&mut self, blocked: BlockedPacket, client: SocketAddr);

    /// Receives a DNS answer on its way to the sandbox, before any question about a packet that
    /// resulted from the answer.
    fn on_dns_answer(&mut self, answer: &DnsAnswer);

    /// Receives a report of packets dropped by the kernel before they could be read.
    fn on_loss(&mut self, loss: NflogLoss);
}

/// Count of lost packets in a log group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NflogLoss {
    /// The log group.
    pub group: u16,
    /// Minimum number of packets lost since the previous report.
    pub packets: u64,
}

/// The reader failed to receive.
#[derive(Debug, thiserror::Error)]
#[error("could not receive from packet log group {group}")]
pub struct ReaderRunError {
    /// The log group.
    pub group: u16,
    /// The kernel error.
    #[source]
    pub source: io::Error,
}

/// The two NFLOG sockets of a reader, in one network namespace.
///
/// Separate sockets keep a flood of dropped packets from displacing DNS answers.
#[derive(Debug)]
pub struct NflogSockets {
    questions: NflogSocket,
    answers: Option<NflogSocket>,
}

impl NflogSockets {
    /// Binds two unbound `NETLINK_NETFILTER` sockets of the sandbox's network namespace to the log
    /// groups for questions and for answers.
    pub fn bind(questions: OwnedFd, answers: OwnedFd) -> Result<Self, NflogBindError> {
        Self::bind_with(
            questions,
            answers,
            NflogOptions::QUESTIONS,
            NflogOptions::ANSWERS,
        )
    }

    /// As [`NflogSockets::bind`], with other groups or sizes.
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

    /// Binds one socket to the log group for questions. For sandboxes with a foreign firewall,
    /// where the group for answers may have another use.
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
    /// Creates a reader of `sockets` with the given classifier.
    pub const fn new(sockets: NflogSockets, classifier: PacketClassifier) -> Self {
        Self {
            sockets,
            classifier,
        }
    }

    /// Reports everything logged to `sink` until `stop` is cancelled or a socket fails.
    ///
    /// The sockets close on return; until then they keep the network namespace alive.
    pub async fn run(
        self,
        sink: &mut impl ReaderSink,
        stop: CancellationToken,
    ) -> Result<(), ReaderRunError> {
        let NflogSockets { questions, answers } = self.sockets;
        let mut classifier = self.classifier;
        let (mut asking, mut answering) = (NflogStream::new(), NflogStream::new());
        loop {
            tokio::select! {
                biased;
                () = stop.cancelled() => return Ok(()),
                received = questions.wait_for_datagram(&mut asking.bytes) => {
                    let mut more = asking.accept_received(received, &questions)?;
                    let mut left = MAX_DATAGRAMS_PER_TURN;
                    while more {
                        // A DNS answer that led to this packet was logged earlier and can be
                        // read now.
                        if let Some(answers) = &answers {
                            answering.drain_socket(answers, &mut classifier, sink)?;
                        }
                        asking.dispatch_datagram(&mut classifier, sink);
                        left = left.saturating_sub(1);
                        more = left > 0 && asking.receive_ready(&questions)?;
                    }
                    asking.report_loss(&questions, sink);
                    if left == 0 {
                        // Other tasks of the thread must run even in a flood.
                        tokio::task::yield_now().await;
                    }
                }
                (received, answers) = wait_if_bound(answers.as_ref(), &mut answering.bytes) => {
                    if answering.accept_received(received, answers)? {
                        answering.dispatch_datagram(&mut classifier, sink);
                    }
                    answering.drain_socket(answers, &mut classifier, sink)?;
                }
            }
        }
    }
}

/// Waits for a datagram of the socket; never resolves without one.
async fn wait_if_bound<'a>(
    socket: Option<&'a NflogSocket>,
    bytes: &mut [u8],
) -> (NflogReceiveOutcome, &'a NflogSocket) {
    match socket {
        Some(socket) => (socket.wait_for_datagram(bytes).await, socket),
        None => std::future::pending().await,
    }
}

/// The receive state of one socket.
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

    /// Receives one datagram; returns `false` if none is queued.
    fn try_receive(&mut self, socket: &NflogSocket) -> Result<bool, ReaderRunError> {
        let received = socket.try_receive(&mut self.bytes);
        self.accept_received(received, socket)
    }

    /// Receives the next datagram of a ready socket; returns `false` if none is queued.
    fn receive_ready(&mut self, socket: &NflogSocket) -> Result<bool, ReaderRunError> {
        let received = socket.receive_ready(&mut self.bytes);
        self.accept_received(received, socket)
    }

    /// Processes a receive outcome. After an overrun it receives again; returns `false` if no
    /// datagram is queued.
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

    /// Parses the datagram and passes its contents to `sink`.
    fn dispatch_datagram(&mut self, classifier: &mut PacketClassifier, sink: &mut impl ReaderSink) {
        let now = Instant::now();
        for message in netlink_messages(self.bytes.get(..self.length).unwrap_or_default()) {
            let log = match NflogMessage::parse(message) {
                Ok(log) => log,
                // The end of a multipart message (NLMSG_DONE).
                Err(NflogParseError::UnexpectedType(3)) => continue,
                Err(error) => {
                    tracing::debug!(%error, "unreadable packet log message");
                    continue;
                }
            };
            if let Some(sequence) = log.sequence {
                self.gaps.record_sequence(sequence);
            }
            match classifier.classify(&log, now) {
                ClassifiedPacket::Question(blocked, client) => sink.on_question(*blocked, client),
                ClassifiedPacket::Answer(answer) => sink.on_dns_answer(&answer),
                ClassifiedPacket::Ignored => {}
            }
        }
    }

    /// Dispatches all queued datagrams.
    fn drain_socket(
        &mut self,
        socket: &NflogSocket,
        classifier: &mut PacketClassifier,
        sink: &mut impl ReaderSink,
    ) -> Result<(), ReaderRunError> {
        for _ in 0..MAX_ANSWERS_PER_DRAIN {
            if !self.try_receive(socket)? {
                break;
            }
            self.dispatch_datagram(classifier, sink);
        }
        self.report_loss(socket, sink);
        Ok(())
    }

    /// Reports lost packets, if any.
    fn report_loss(&mut self, socket: &NflogSocket, sink: &mut impl ReaderSink) {
        let packets = self.gaps.take_missing();
        if packets > 0 {
            let group = socket.group();
            tracing::warn!(group, packets, "packets lost in the kernel's log");
            sink.on_loss(NflogLoss { group, packets });
        }
    }
}

/// Counts gaps in a series of sequence numbers.
#[derive(Debug, Default)]
struct SequenceGaps {
    /// The next sequence number; the kernel starts a group at 0.
    expected: u32,
    /// Count of missing messages, not yet reported.
    missing: u64,
    /// Set after an overrun until a gap reveals the number of lost messages.
    overrun: bool,
    /// Count of messages reported for overruns before a gap revealed them.
    reported_early: u64,
}

impl SequenceGaps {
    /// Records that the kernel dropped messages. The next message reveals their number.
    const fn record_overrun(&mut self) {
        self.overrun = true;
    }

    fn record_sequence(&mut self, sequence: u32) {
        let gap = sequence.wrapping_sub(self.expected);
        self.expected = sequence.wrapping_add(1);
        // The kernel never goes back; resynchronise on such a number.
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

    /// Takes the count of missing messages since the last call, at least one after an overrun.
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
    fn a_gap_is_reported_once() {
        let mut gaps = SequenceGaps::default();
        let mut arrive = |numbers: &[u32], overrun: bool| {
            for number in numbers {
                gaps.record_sequence(*number);
            }
            if overrun {
                gaps.record_overrun();
            }
            gaps.take_missing()
        };
        assert_eq!(arrive(&[0, 1, 2], false), 0);
        assert_eq!(arrive(&[5], false), 2);
        assert_eq!(arrive(&[], false), 0);
        assert_eq!(arrive(&[], true), 1, "at least one");
        assert_eq!(
            arrive(&[16], false),
            9,
            "ten are missing, one was reported before"
        );
        assert_eq!(arrive(&[17], true), 1);
        assert_eq!(arrive(&[19], false), 0, "reported before");
        assert_eq!(arrive(&[20, 22], false), 1);
    }

    #[test]
    fn losses_before_the_first_message_count_and_numbers_wrap() {
        let mut gaps = SequenceGaps::default();
        gaps.record_sequence(3);
        assert_eq!(gaps.take_missing(), 3);
        gaps.expected = u32::MAX;
        gaps.record_sequence(u32::MAX);
        gaps.record_sequence(1);
        assert_eq!(gaps.take_missing(), 1);
    }
}
