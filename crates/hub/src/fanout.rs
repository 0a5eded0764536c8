// SPDX-License-Identifier: Apache-2.0
//! Tells every subscriber what happened, each as fast as it reads.
//!
//! A frame is written once for each interface, and its bytes go from there into every socket. A
//! subscriber that keeps up costs one write and nothing else. One that does not is a cursor in the
//! [log](log::Log) and takes what it missed in its own task, so it holds up nobody. One that falls
//! too far behind is moved to the end, and is told from the ledger what it has missed: a pending
//! question is in the log, or in the ledger, and so always reaches everybody.

mod log;
#[cfg(test)]
mod tests;

use std::io;
use std::sync::Arc;

use terok_clearance::varlink::FrameWriter;
use terok_clearance::wire::clearance1::Clearance1Dialect;
use tokio::sync::Notify;

use crate::frame::{Interface, News};
use crate::ledger::Ledger;
use log::{Cursor, Log};

/// How many bytes a subscriber may be behind before it is moved on.
pub(crate) const BACKLOG: usize = 16 << 20;
/// How many bytes are made ready or written for one subscriber before others have their turn.
const PIECE: usize = 64 << 10;
const TURN: usize = 256 << 10;

/// Where a subscriber's frames go: a socket, in a test anything.
pub(crate) trait Sink {
    /// Writes as much as it takes now, or fails with `WouldBlock`.
    fn try_write(&self, bytes: &[u8]) -> io::Result<usize>;
}

impl Sink for FrameWriter {
    fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        Self::try_write(self, bytes)
    }
}

/// The subscribers of both interfaces, and what they are still to be told.
#[derive(Debug)]
pub(crate) struct Fanout<S> {
    one: Channel<S>,
    two: Channel<S>,
    seq: u64,
}

/// Names a subscriber.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Id {
    interface: Interface,
    slot: usize,
}

/// What a subscriber's task has to do next.
#[derive(Debug)]
pub(crate) enum Pumped {
    /// It has everything: wait until woken.
    Idle,
    /// Its socket is full: wait until it takes more.
    Blocked,
    /// It has had its turn: let others have theirs.
    More,
    /// Its socket failed.
    Gone(io::Error),
}

impl<S: Sink> Fanout<S> {
    /// Makes a fan-out without subscribers that moves on whoever is `backlog` bytes behind.
    pub(crate) fn new(dialect: Clearance1Dialect, backlog: usize) -> Self {
        Self {
            one: Channel::new(Interface::One(dialect), backlog),
            two: Channel::new(Interface::Two, backlog),
            seq: 0,
        }
    }

    /// Adds a subscriber, who will first be told what is pending. Pump it at once.
    pub(crate) fn subscribe(
        &mut self,
        interface: Interface,
        sink: S,
        wake: Arc<Notify>,
        ledger: &Ledger,
    ) -> Id {
        let seq = self.seq;
        let channel = self.channel(interface);
        let slot = channel.subscribe(sink, wake, ledger, seq);
        Id { interface, slot }
    }

    /// Forgets a subscriber.
    pub(crate) fn unsubscribe(&mut self, id: Id) {
        self.channel(id.interface).unsubscribe(id.slot);
    }

    /// Notes that something happened; [`Fanout::flush`] tells it to those who listen.
    pub(crate) fn publish(&mut self, ledger: &Ledger, news: &News<'_>) {
        self.seq = self.seq.saturating_add(1);
        let seq = self.seq;
        for channel in [&mut self.one, &mut self.two] {
            channel.publish(ledger, seq, news);
        }
    }

    /// Tells what was published to every subscriber that keeps up.
    pub(crate) fn flush(&mut self, ledger: &Ledger) {
        let seq = self.seq;
        for channel in [&mut self.one, &mut self.two] {
            channel.flush(ledger, seq);
        }
    }

    /// Writes what a subscriber missed, as much as its socket takes and its turn allows.
    pub(crate) fn pump(&mut self, id: Id, ledger: &Ledger) -> Pumped {
        let seq = self.seq;
        self.channel(id.interface).pump(id.slot, ledger, seq)
    }

    /// Returns how many subscribers there are.
    pub(crate) const fn len(&self) -> usize {
        self.one.count.saturating_add(self.two.count)
    }

    const fn channel(&mut self, interface: Interface) -> &mut Channel<S> {
        match interface {
            Interface::One(_) => &mut self.one,
            Interface::Two => &mut self.two,
        }
    }
}

/// The subscribers of one interface.
#[derive(Debug)]
struct Channel<S> {
    interface: Interface,
    backlog: usize,
    log: Log,
    /// What is after it has not been written to those who keep up.
    fresh: Cursor,
    fresh_bytes: usize,
    subscribers: Vec<Option<Subscriber<S>>>,
    count: usize,
}

#[derive(Debug)]
struct Subscriber<S> {
    sink: S,
    wake: Arc<Notify>,
    state: State,
    /// Bytes for it alone, to be written before anything else.
    own: Vec<u8>,
    own_written: usize,
}

#[derive(Debug)]
enum State {
    /// It has all that was flushed.
    Live,
    /// It has all before the cursor.
    Behind(Cursor),
    /// It is being told what is pending, and has all before the cursor besides.
    Catching(Catching),
    /// Its socket failed.
    Gone(Option<io::Error>),
}

/// A walk through the ledger for one subscriber.
#[derive(Debug, Clone, Copy)]
struct Catching {
    /// The number of the last question that it was told.
    told: u64,
    /// The number of the last question that it is to be told; newer ones are in the log.
    until: u64,
    /// Where it goes on in the log.
    cursor: Cursor,
    /// The newest event that the walk takes into account.
    seq: u64,
    /// The events that it missed since the walk began.
    skipped: u64,
}

impl<S: Sink> Channel<S> {
    fn new(interface: Interface, backlog: usize) -> Self {
        let log = Log::new();
        let fresh = log.end();
        Self {
            interface,
            backlog,
            log,
            fresh,
            fresh_bytes: 0,
            subscribers: Vec::new(),
            count: 0,
        }
    }

    fn subscribe(&mut self, sink: S, wake: Arc<Notify>, ledger: &Ledger, seq: u64) -> usize {
        let cursor = self.log.end();
        self.log.enter(cursor);
        let subscriber = Subscriber {
            sink,
            wake,
            state: State::Catching(Catching {
                told: 0,
                until: ledger.newest(),
                cursor,
                seq,
                skipped: 0,
            }),
            own: Vec::new(),
            own_written: 0,
        };
        self.count = self.count.saturating_add(1);
        let free = self.subscribers.iter().position(Option::is_none);
        if let Some(slot) = free
            && let Some(place) = self.subscribers.get_mut(slot)
        {
            *place = Some(subscriber);
            return slot;
        }
        self.subscribers.push(Some(subscriber));
        self.subscribers.len().saturating_sub(1)
    }

    fn unsubscribe(&mut self, slot: usize) {
        let Some(subscriber) = self.subscribers.get_mut(slot).and_then(Option::take) else {
            return;
        };
        if let State::Behind(cursor) | State::Catching(Catching { cursor, .. }) = subscriber.state {
            self.log.leave(cursor);
            self.log.trim();
            self.fresh = self.log.end();
        }
        self.count = self.count.saturating_sub(1);
        if self.count == 0 {
            self.subscribers = Vec::new();
            self.log.shrink();
            self.fresh = self.log.end();
        }
    }

    fn publish(&mut self, ledger: &Ledger, seq: u64, news: &News<'_>) {
        if self.count == 0 {
            return;
        }
        let interface = self.interface;
        let written = self
            .log
            .append(ledger.newest(), |out| interface.write(out, seq, news));
        self.fresh_bytes = self.fresh_bytes.saturating_add(written);
        if self.fresh_bytes >= TURN {
            self.flush(ledger, seq);
        }
    }

    fn flush(&mut self, ledger: &Ledger, seq: u64) {
        if self.fresh_bytes == 0 {
            return;
        }
        self.fresh_bytes = 0;
        for subscriber in self.subscribers.iter_mut().flatten() {
            if matches!(subscriber.state, State::Live) {
                subscriber.state = subscriber.take(&self.log, self.fresh);
                match subscriber.state {
                    State::Live => {}
                    State::Behind(cursor) => {
                        self.log.enter(cursor);
                        subscriber.wake.notify_one();
                    }
                    State::Catching(_) | State::Gone(_) => subscriber.wake.notify_one(),
                }
            }
        }
        if self.log.is_over(self.backlog) {
            self.move_on(ledger, seq);
        }
        self.log.trim();
        self.fresh = self.log.end();
    }

    /// Moves everybody to the end of the log who is too far behind it.
    fn move_on(&mut self, ledger: &Ledger, seq: u64) {
        let end = self.log.end();
        for subscriber in self.subscribers.iter_mut().flatten() {
            let cursor = match &subscriber.state {
                State::Behind(cursor) | State::Catching(Catching { cursor, .. }) => *cursor,
                State::Live | State::Gone(_) => continue,
            };
            if self.log.behind(cursor) <= self.backlog {
                continue;
            }
            let gap = self.log.gap(cursor);
            let until = ledger.newest();
            match &mut subscriber.state {
                State::Catching(walk) => {
                    walk.until = until;
                    walk.cursor = end;
                    walk.skipped = walk.skipped.saturating_add(gap.frames);
                }
                state => {
                    subscriber.own.extend_from_slice(&gap.rest);
                    let told = if self.interface.starts_over() {
                        self.interface
                            .write_skipped(&mut subscriber.own, seq, gap.frames);
                        0
                    } else {
                        gap.knows
                    };
                    *state = State::Catching(Catching {
                        told,
                        until,
                        cursor: end,
                        seq,
                        skipped: 0,
                    });
                }
            }
            self.log.enter(end);
            self.log.leave(cursor);
            tracing::debug!(frames = gap.frames, "moved a slow subscriber on");
        }
    }

    fn pump(&mut self, slot: usize, ledger: &Ledger, seq: u64) -> Pumped {
        let Some(Some(subscriber)) = self.subscribers.get_mut(slot) else {
            return Pumped::Gone(io::ErrorKind::NotConnected.into());
        };
        let mut turn = 0_usize;
        while turn < TURN {
            match subscriber.write_own() {
                Ok(written) => turn = turn.saturating_add(written),
                Err(error) => return Pumped::failed(error),
            }
            match &mut subscriber.state {
                State::Live => return Pumped::Idle,
                State::Gone(error) => {
                    let error = error.take();
                    return Pumped::Gone(error.unwrap_or_else(|| io::ErrorKind::BrokenPipe.into()));
                }
                State::Behind(cursor) => {
                    let rest = self.log.rest(*cursor);
                    if rest.is_empty() {
                        let cursor = *cursor;
                        subscriber.state = State::Live;
                        self.log.leave(cursor);
                        self.log.trim();
                        self.fresh = self.log.end();
                        return Pumped::Idle;
                    }
                    match subscriber.sink.try_write(rest) {
                        Ok(written) => {
                            turn = turn.saturating_add(written);
                            let from = *cursor;
                            *cursor = self.log.after(from, written);
                            let to = *cursor;
                            self.log.step(from, to);
                        }
                        Err(error) => return Pumped::failed(error),
                    }
                }
                State::Catching(walk) => {
                    let own = &mut subscriber.own;
                    for (number, question) in ledger.pending_after(walk.told) {
                        if number > walk.until || own.len() >= PIECE {
                            break;
                        }
                        walk.told = number;
                        self.interface
                            .write(own, walk.seq, &News::Pending(question));
                    }
                    if own.is_empty() {
                        let walk = *walk;
                        if walk.skipped > 0 && self.interface.starts_over() {
                            self.interface.write_skipped(own, seq, walk.skipped);
                            let end = self.log.end();
                            self.log.step(walk.cursor, end);
                            subscriber.state = State::Catching(Catching {
                                told: 0,
                                until: ledger.newest(),
                                cursor: end,
                                seq,
                                skipped: 0,
                            });
                        } else {
                            self.interface.write_synced(own, walk.seq);
                            subscriber.state = State::Behind(walk.cursor);
                        }
                    }
                }
            }
        }
        Pumped::More
    }
}

impl<S: Sink> Subscriber<S> {
    /// Writes everything from `cursor` on, and returns the state in which that leaves it.
    fn take(&self, log: &Log, mut cursor: Cursor) -> State {
        loop {
            let rest = log.rest(cursor);
            if rest.is_empty() {
                return State::Live;
            }
            match self.sink.try_write(rest) {
                Ok(written) => cursor = log.after(cursor, written),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    return State::Behind(cursor);
                }
                Err(error) => return State::Gone(Some(error)),
            }
        }
    }

    /// Writes the bytes that are for it alone, and returns how many they were.
    fn write_own(&mut self) -> io::Result<usize> {
        let mut all = 0_usize;
        while let Some(rest) = self.own.get(self.own_written..)
            && !rest.is_empty()
        {
            let written = self.sink.try_write(rest)?;
            self.own_written = self.own_written.saturating_add(written);
            all = all.saturating_add(written);
        }
        self.own_written = 0;
        self.own.clear();
        if matches!(self.state, State::Live | State::Behind(_)) {
            self.own = Vec::new();
        }
        Ok(all)
    }
}

impl Pumped {
    fn failed(error: io::Error) -> Self {
        if error.kind() == io::ErrorKind::WouldBlock {
            Self::Blocked
        } else {
            Self::Gone(error)
        }
    }
}
