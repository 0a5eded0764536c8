// SPDX-License-Identifier: Apache-2.0
//! The reader's loop: from both sockets to whoever wants to know.

use std::io;
use std::os::fd::OwnedFd;

use terok_clearance::SandboxEvent;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::dns::Answer;
use crate::facts::{Fact, Facts};
use crate::nflog::{BindError, Options, Received, Socket};
use crate::packet::{Log, LogError, messages};

/// As many datagrams of one socket are taken before others get their turn.
const BATCH: usize = 256;
/// As many answers are taken at a time: more than their socket can hold.
const FLOOD: usize = 4096;
/// The greatest datagram: the longest copy of a packet and the kernel's attributes.
const DATAGRAM: usize = 8192;

/// Who wants to know what the reader sees. Called in the reader's own task, in order.
pub trait Sink {
    /// A question: a packet that was dropped.
    fn event(&mut self, event: SandboxEvent);

    /// A DNS answer that is about to reach the sandbox. It comes before any question about a
    /// packet that was sent because of it.
    fn answer(&mut self, answer: &Answer);

    /// Packets that the kernel dropped and could not tell of.
    fn lost(&mut self, loss: Loss);
}

/// Packets of one log group of which nothing is known but their number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Loss {
    /// The log group.
    pub group: u16,
    /// How many, at least, since it was last said.
    pub packets: u64,
}

/// Why the reader ended before it was told to.
#[derive(Debug, thiserror::Error)]
#[error("could not receive from packet log group {group}")]
pub struct RunError {
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
pub struct Sockets {
    questions: Socket,
    answers: Option<Socket>,
}

impl Sockets {
    /// Makes two unbound netlink sockets of `NETLINK_NETFILTER`, made in the sandbox's network
    /// namespace, listeners of the log groups for questions and for answers.
    pub fn bind(questions: OwnedFd, answers: OwnedFd) -> Result<Self, BindError> {
        Self::bind_with(questions, answers, Options::QUESTIONS, Options::ANSWERS)
    }

    /// Does the same with other groups or sizes.
    pub fn bind_with(
        questions: OwnedFd,
        answers: OwnedFd,
        for_questions: Options,
        for_answers: Options,
    ) -> Result<Self, BindError> {
        Ok(Self {
            questions: Socket::bind(questions, for_questions)?,
            answers: Some(Socket::bind(answers, for_answers)?),
        })
    }

    /// Makes one socket a listener of the log group for questions: the sandbox's firewall is
    /// somebody else's, and so may be the group that ours logs answers to.
    pub fn questions_alone(questions: OwnedFd) -> Result<Self, BindError> {
        Ok(Self {
            questions: Socket::bind(questions, Options::QUESTIONS)?,
            answers: None,
        })
    }
}

/// Reads one sandbox's packet log.
#[derive(Debug)]
pub struct Reader {
    sockets: Sockets,
    facts: Facts,
}

impl Reader {
    /// Returns a reader of `sockets` that tells `facts`.
    pub const fn new(sockets: Sockets, facts: Facts) -> Self {
        Self { sockets, facts }
    }

    /// Tells `sink` of everything that is logged, until `stop` is cancelled or a socket fails.
    ///
    /// The sockets close on return; they keep the network namespace alive until then.
    pub async fn run(self, sink: &mut impl Sink, stop: CancellationToken) -> Result<(), RunError> {
        let Sockets { questions, answers } = self.sockets;
        let mut facts = self.facts;
        let (mut asking, mut answering) = (Intake::new(), Intake::new());
        loop {
            tokio::select! {
                biased;
                () = stop.cancelled() => return Ok(()),
                received = questions.wait(&mut asking.bytes) => {
                    let mut more = asking.take(received, &questions)?;
                    let mut left = BATCH;
                    while more {
                        // An answer that led to this packet was logged before it was: so it is
                        // there now.
                        if let Some(answers) = &answers {
                            answering.drain(answers, &mut facts, sink)?;
                        }
                        asking.tell(&mut facts, sink);
                        left = left.saturating_sub(1);
                        more = left > 0 && asking.more(&questions)?;
                    }
                    asking.flush(&questions, sink);
                    if left == 0 {
                        // What waits in the same thread gets its turn even in a flood.
                        tokio::task::yield_now().await;
                    }
                }
                (received, answers) = wait(answers.as_ref(), &mut answering.bytes) => {
                    if answering.take(received, answers)? {
                        answering.tell(&mut facts, sink);
                    }
                    answering.drain(answers, &mut facts, sink)?;
                }
            }
        }
    }
}

/// Waits for a datagram of a socket, for ever if there is none.
async fn wait<'a>(socket: Option<&'a Socket>, bytes: &mut [u8]) -> (Received, &'a Socket) {
    match socket {
        Some(socket) => (socket.wait(bytes).await, socket),
        None => std::future::pending().await,
    }
}

/// What comes through one socket.
#[derive(Debug)]
struct Intake {
    bytes: Box<[u8]>,
    length: usize,
    count: Count,
}

impl Intake {
    fn new() -> Self {
        Self {
            bytes: vec![0; DATAGRAM].into(),
            length: 0,
            count: Count::default(),
        }
    }

    /// Takes one datagram; returns whether there was one.
    fn receive(&mut self, socket: &Socket) -> Result<bool, RunError> {
        let received = socket.receive(&mut self.bytes);
        self.take(received, socket)
    }

    /// Takes the next datagram of a socket that was waited for; returns whether there was one.
    fn more(&mut self, socket: &Socket) -> Result<bool, RunError> {
        let received = socket.more(&mut self.bytes);
        self.take(received, socket)
    }

    /// Takes note of what was received, and of what the kernel then has, if that was no datagram.
    fn take(&mut self, mut received: Received, socket: &Socket) -> Result<bool, RunError> {
        loop {
            match received {
                Received::Datagram(length) => {
                    self.length = length;
                    return Ok(true);
                }
                Received::Overrun => self.count.overrun(),
                Received::Empty => return Ok(false),
                Received::Failed(source) => {
                    let group = socket.group();
                    return Err(RunError { group, source });
                }
            }
            received = socket.receive(&mut self.bytes);
        }
    }

    /// Tells what the datagram says.
    fn tell(&mut self, facts: &mut Facts, sink: &mut impl Sink) {
        let now = Instant::now();
        for message in messages(self.bytes.get(..self.length).unwrap_or_default()) {
            let log = match Log::read(message) {
                Ok(log) => log,
                // The end of a row of messages (NLMSG_DONE).
                Err(LogError::Kind(3)) => continue,
                Err(error) => {
                    tracing::debug!(%error, "unreadable packet log message");
                    continue;
                }
            };
            if let Some(sequence) = log.sequence {
                self.count.arrived(sequence);
            }
            match facts.of(&log, now) {
                Fact::Event(event) => sink.event(event),
                Fact::Answer(answer) => sink.answer(&answer),
                Fact::Nothing => {}
            }
        }
    }

    /// Tells what all datagrams say that are there.
    fn drain(
        &mut self,
        socket: &Socket,
        facts: &mut Facts,
        sink: &mut impl Sink,
    ) -> Result<(), RunError> {
        for _ in 0..FLOOD {
            if !self.receive(socket)? {
                break;
            }
            self.tell(facts, sink);
        }
        self.flush(socket, sink);
        Ok(())
    }

    /// Says what was lost, if anything was.
    fn flush(&mut self, socket: &Socket, sink: &mut impl Sink) {
        let packets = self.count.take();
        if packets > 0 {
            let group = socket.group();
            tracing::warn!(group, packets, "packets lost in the kernel's log");
            sink.lost(Loss { group, packets });
        }
    }
}

/// Counts what is missing from a row of numbered messages.
#[derive(Debug, Default)]
struct Count {
    /// The number that comes next; the kernel starts a group at 0.
    expected: u32,
    /// Missing, and not said yet.
    missing: u64,
    /// The kernel said that something is missing; no gap has shown yet how much.
    overrun: bool,
    /// Said, for overruns, before the gap was seen.
    ahead: u64,
}

impl Count {
    /// Notes that the kernel threw messages away. Their number shows with the next that arrives.
    const fn overrun(&mut self) {
        self.overrun = true;
    }

    fn arrived(&mut self, sequence: u32) {
        let gap = sequence.wrapping_sub(self.expected);
        self.expected = sequence.wrapping_add(1);
        // A number from before is none that the kernel gives; take the row from there.
        if gap == 0 || gap > u32::MAX / 2 {
            return;
        }
        let gap = u64::from(gap);
        self.missing = self.missing.saturating_add(gap.saturating_sub(self.ahead));
        self.ahead = self.ahead.saturating_sub(gap);
        self.overrun = false;
    }

    /// Returns how many are missing that were not said before, at least one after an overrun.
    const fn take(&mut self) -> u64 {
        if self.overrun {
            self.overrun = false;
            self.missing = self.missing.saturating_add(1);
            self.ahead = self.ahead.saturating_add(1);
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
        let mut count = Count::default();
        let mut arrive = |numbers: &[u32], overrun: bool| {
            for number in numbers {
                count.arrived(*number);
            }
            if overrun {
                count.overrun();
            }
            count.take()
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
        let mut count = Count::default();
        count.arrived(3);
        assert_eq!(count.take(), 3);
        count.expected = u32::MAX;
        count.arrived(u32::MAX);
        count.arrived(1);
        assert_eq!(count.take(), 1);
    }
}
