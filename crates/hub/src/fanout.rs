// SPDX-License-Identifier: Apache-2.0
//! Delivery of events to all subscribers, each at its own speed.
//!
//! A frame is encoded once for each interface and appended to a [`FrameLog`]. A subscriber that
//! keeps up costs one write. A slower subscriber is a cursor in the log; its own task sends the
//! rest, so that no subscriber delays another. A subscriber that falls too far behind skips to the
//! end of the log and receives the pending questions from the ledger. Every pending question is
//! either in the log or in the ledger, and so reaches every subscriber.

mod frame_log;
#[cfg(test)]
mod tests;

use std::io;
use std::sync::Arc;

use terok_clearance::varlink::FrameWriter;
use terok_clearance::wire::clearance1::Clearance1Dialect;
use tokio::sync::Notify;

use crate::event_frames::{ClearanceInterface, HubEvent};
use crate::ledger::Ledger;
use frame_log::{FrameCursor, FrameLog};

/// Maximum bytes that a subscriber may be behind before it skips events.
pub(crate) const MAX_BACKLOG_BYTES: usize = 16 << 20;
/// Bytes of pending questions encoded at once for one subscriber.
const SNAPSHOT_CHUNK_BYTES: usize = 64 << 10;
const FLUSH_TURN_BYTES: usize = 256 << 10;

/// The destination of a subscriber's frames: a socket, or a test double.
pub(crate) trait FrameSink {
    /// Writes without blocking. Returns the bytes written, or fails with `WouldBlock`.
    fn try_write(&self, bytes: &[u8]) -> io::Result<usize>;
}

impl FrameSink for FrameWriter {
    fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        Self::try_write(self, bytes)
    }
}

/// The subscribers of both interfaces, and their undelivered frames.
#[derive(Debug)]
pub(crate) struct EventFanout<S> {
    clearance1: InterfaceChannel<S>,
    clearance2: InterfaceChannel<S>,
    seq: u64,
}

/// Identifies a subscriber.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SubscriberId {
    interface: ClearanceInterface,
    slot: usize,
}

/// What the subscriber's task does next.
#[derive(Debug)]
pub(crate) enum FlushStatus {
    /// Everything was sent: wait until woken.
    Idle,
    /// The socket is full: wait until it is writable.
    Blocked,
    /// The byte limit of one turn was reached: yield to other tasks.
    TurnOver,
    /// The socket failed.
    Closed(io::Error),
}

impl<S: FrameSink> EventFanout<S> {
    /// Creates a fan-out without subscribers. A subscriber more than `backlog` bytes behind skips
    /// events.
    pub(crate) fn new(dialect: Clearance1Dialect, backlog: usize) -> Self {
        Self {
            clearance1: InterfaceChannel::new(ClearanceInterface::Clearance1(dialect), backlog),
            clearance2: InterfaceChannel::new(ClearanceInterface::Clearance2, backlog),
            seq: 0,
        }
    }

    /// Adds a subscriber, which first receives the pending questions. Call [`Self::flush_to`] next.
    pub(crate) fn subscribe(
        &mut self,
        interface: ClearanceInterface,
        sink: S,
        wake: Arc<Notify>,
        ledger: &Ledger,
    ) -> SubscriberId {
        let seq = self.seq;
        let channel = self.channel(interface);
        let slot = channel.subscribe(sink, wake, ledger, seq);
        SubscriberId { interface, slot }
    }

    /// Removes a subscriber.
    pub(crate) fn unsubscribe(&mut self, id: SubscriberId) {
        self.channel(id.interface).unsubscribe(id.slot);
    }

    /// Appends an event to the logs; [`Self::flush`] sends it.
    pub(crate) fn publish(&mut self, ledger: &Ledger, event: &HubEvent<'_>) {
        self.seq = self.seq.saturating_add(1);
        let seq = self.seq;
        for channel in [&mut self.clearance1, &mut self.clearance2] {
            channel.publish(ledger, seq, event);
        }
    }

    /// Sends published events to every subscriber that keeps up.
    pub(crate) fn flush(&mut self, ledger: &Ledger) {
        let seq = self.seq;
        for channel in [&mut self.clearance1, &mut self.clearance2] {
            channel.flush(ledger, seq);
        }
    }

    /// Sends outstanding frames to one subscriber, up to the limit of one turn.
    pub(crate) fn flush_to(&mut self, id: SubscriberId, ledger: &Ledger) -> FlushStatus {
        let seq = self.seq;
        self.channel(id.interface).flush_to(id.slot, ledger, seq)
    }

    /// Returns the number of subscribers.
    pub(crate) const fn len(&self) -> usize {
        self.clearance1
            .subscriber_count
            .saturating_add(self.clearance2.subscriber_count)
    }

    const fn channel(&mut self, interface: ClearanceInterface) -> &mut InterfaceChannel<S> {
        match interface {
            ClearanceInterface::Clearance1(_) => &mut self.clearance1,
            ClearanceInterface::Clearance2 => &mut self.clearance2,
        }
    }
}

/// The subscribers of one interface.
#[derive(Debug)]
struct InterfaceChannel<S> {
    interface: ClearanceInterface,
    max_backlog_bytes: usize,
    log: FrameLog,
    /// The end of the frames that were sent to the subscribers that keep up.
    unflushed: FrameCursor,
    unflushed_bytes: usize,
    subscribers: Vec<Option<FanoutSubscriber<S>>>,
    subscriber_count: usize,
}

#[derive(Debug)]
struct FanoutSubscriber<S> {
    sink: S,
    wake: Arc<Notify>,
    state: SubscriberState,
    /// Frames for this subscriber only, sent before those of the log.
    private_frames: Vec<u8>,
    private_written: usize,
}

#[derive(Debug)]
enum SubscriberState {
    /// Everything flushed was sent.
    Live,
    /// Everything before the cursor was sent.
    Behind(FrameCursor),
    /// Everything before `cursor` was sent; a snapshot of the ledger is in progress.
    Resyncing(SubscriberResync),
    /// The socket failed.
    Closed(Option<io::Error>),
}

/// A snapshot of the ledger, in progress for one subscriber.
#[derive(Debug, Clone, Copy)]
struct SubscriberResync {
    /// The number of the last question sent.
    last_sent: u64,
    /// The number of the last question of the snapshot; newer questions are in the log.
    last_pending: u64,
    /// The position in the log after the snapshot.
    cursor: FrameCursor,
    /// The newest event that the snapshot includes.
    seq: u64,
    /// The events that the subscriber skipped since the snapshot began.
    skipped: u64,
}

impl<S: FrameSink> InterfaceChannel<S> {
    fn new(interface: ClearanceInterface, backlog: usize) -> Self {
        let log = FrameLog::new();
        let end = log.end();
        Self {
            interface,
            max_backlog_bytes: backlog,
            log,
            unflushed: end,
            unflushed_bytes: 0,
            subscribers: Vec::new(),
            subscriber_count: 0,
        }
    }

    fn subscribe(&mut self, sink: S, wake: Arc<Notify>, ledger: &Ledger, seq: u64) -> usize {
        let cursor = self.log.end();
        self.log.add_reader(cursor);
        let subscriber = FanoutSubscriber {
            sink,
            wake,
            state: SubscriberState::Resyncing(SubscriberResync {
                last_sent: 0,
                last_pending: ledger.newest_number(),
                cursor,
                seq,
                skipped: 0,
            }),
            private_frames: Vec::new(),
            private_written: 0,
        };
        self.subscriber_count = self.subscriber_count.saturating_add(1);
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
        if let SubscriberState::Behind(cursor)
        | SubscriberState::Resyncing(SubscriberResync { cursor, .. }) = subscriber.state
        {
            self.log.remove_reader(cursor);
            self.log.trim();
            self.unflushed = self.log.end();
        }
        self.subscriber_count = self.subscriber_count.saturating_sub(1);
        if self.subscriber_count == 0 {
            self.subscribers = Vec::new();
            self.log.release_memory();
            self.unflushed = self.log.end();
        }
    }

    fn publish(&mut self, ledger: &Ledger, seq: u64, event: &HubEvent<'_>) {
        if self.subscriber_count == 0 {
            return;
        }
        let interface = self.interface;
        let written = self.log.append(ledger.newest_number(), |out| {
            interface.write_event(out, seq, event);
        });
        self.unflushed_bytes = self.unflushed_bytes.saturating_add(written);
        if self.unflushed_bytes >= FLUSH_TURN_BYTES {
            self.flush(ledger, seq);
        }
    }

    fn flush(&mut self, ledger: &Ledger, seq: u64) {
        if self.unflushed_bytes == 0 {
            return;
        }
        self.unflushed_bytes = 0;
        for subscriber in self.subscribers.iter_mut().flatten() {
            if matches!(subscriber.state, SubscriberState::Live) {
                subscriber.state = subscriber.write_log(&self.log, self.unflushed);
                match subscriber.state {
                    SubscriberState::Live => {}
                    SubscriberState::Behind(cursor) => {
                        self.log.add_reader(cursor);
                        subscriber.wake.notify_one();
                    }
                    SubscriberState::Resyncing(_) | SubscriberState::Closed(_) => {
                        subscriber.wake.notify_one();
                    }
                }
            }
        }
        if self.log.exceeds(self.max_backlog_bytes) {
            self.skip_ahead(ledger, seq);
        }
        self.log.trim();
        self.unflushed = self.log.end();
    }

    /// Moves each subscriber that is too far behind to the end of the log.
    fn skip_ahead(&mut self, ledger: &Ledger, seq: u64) {
        let end = self.log.end();
        for subscriber in self.subscribers.iter_mut().flatten() {
            let cursor = match &subscriber.state {
                SubscriberState::Behind(cursor)
                | SubscriberState::Resyncing(SubscriberResync { cursor, .. }) => *cursor,
                SubscriberState::Live | SubscriberState::Closed(_) => continue,
            };
            if self.log.bytes_behind(cursor) <= self.max_backlog_bytes {
                continue;
            }
            let skipped_frames = self.log.skipped_after(cursor);
            let until = ledger.newest_number();
            match &mut subscriber.state {
                SubscriberState::Resyncing(resync) => {
                    resync.last_pending = until;
                    resync.cursor = end;
                    resync.skipped = resync.skipped.saturating_add(skipped_frames.frame_count);
                }
                state => {
                    subscriber
                        .private_frames
                        .extend_from_slice(&skipped_frames.partial_frame);
                    let last_sent = if self.interface.replays_all_pending() {
                        self.interface.write_skipped(
                            &mut subscriber.private_frames,
                            seq,
                            skipped_frames.frame_count,
                        );
                        0
                    } else {
                        skipped_frames.newest_question
                    };
                    *state = SubscriberState::Resyncing(SubscriberResync {
                        last_sent,
                        last_pending: until,
                        cursor: end,
                        seq,
                        skipped: 0,
                    });
                }
            }
            self.log.add_reader(end);
            self.log.remove_reader(cursor);
            tracing::debug!(
                frames = skipped_frames.frame_count,
                "a slow subscriber skipped events"
            );
        }
    }

    fn flush_to(&mut self, slot: usize, ledger: &Ledger, seq: u64) -> FlushStatus {
        let Some(Some(subscriber)) = self.subscribers.get_mut(slot) else {
            return FlushStatus::Closed(io::ErrorKind::NotConnected.into());
        };
        let mut turn = 0_usize;
        while turn < FLUSH_TURN_BYTES {
            match subscriber.write_private_frames() {
                Ok(written) => turn = turn.saturating_add(written),
                Err(error) => return FlushStatus::from_write_error(error),
            }
            match &mut subscriber.state {
                SubscriberState::Live => return FlushStatus::Idle,
                SubscriberState::Closed(error) => {
                    let error = error.take();
                    return FlushStatus::Closed(
                        error.unwrap_or_else(|| io::ErrorKind::BrokenPipe.into()),
                    );
                }
                SubscriberState::Behind(cursor) => {
                    let rest = self.log.unread(*cursor);
                    if rest.is_empty() {
                        let cursor = *cursor;
                        subscriber.state = SubscriberState::Live;
                        self.log.remove_reader(cursor);
                        self.log.trim();
                        self.unflushed = self.log.end();
                        return FlushStatus::Idle;
                    }
                    match subscriber.sink.try_write(rest) {
                        Ok(written) => {
                            turn = turn.saturating_add(written);
                            let from = *cursor;
                            *cursor = self.log.advance(from, written);
                            let to = *cursor;
                            self.log.move_reader(from, to);
                        }
                        Err(error) => return FlushStatus::from_write_error(error),
                    }
                }
                SubscriberState::Resyncing(resync) => {
                    let own = &mut subscriber.private_frames;
                    for (number, question) in ledger.pending_after(resync.last_sent) {
                        if number > resync.last_pending || own.len() >= SNAPSHOT_CHUNK_BYTES {
                            break;
                        }
                        resync.last_sent = number;
                        self.interface
                            .write_event(own, resync.seq, &HubEvent::Pending(question));
                    }
                    if own.is_empty() {
                        let resync = *resync;
                        if resync.skipped > 0 && self.interface.replays_all_pending() {
                            self.interface.write_skipped(own, seq, resync.skipped);
                            let end = self.log.end();
                            self.log.move_reader(resync.cursor, end);
                            subscriber.state = SubscriberState::Resyncing(SubscriberResync {
                                last_sent: 0,
                                last_pending: ledger.newest_number(),
                                cursor: end,
                                seq,
                                skipped: 0,
                            });
                        } else {
                            self.interface.write_synced(own, resync.seq);
                            subscriber.state = SubscriberState::Behind(resync.cursor);
                        }
                    }
                }
            }
        }
        FlushStatus::TurnOver
    }
}

impl<S: FrameSink> FanoutSubscriber<S> {
    /// Writes the log from `cursor` on, and returns the subscriber's new state.
    fn write_log(&self, log: &FrameLog, mut cursor: FrameCursor) -> SubscriberState {
        loop {
            let rest = log.unread(cursor);
            if rest.is_empty() {
                return SubscriberState::Live;
            }
            match self.sink.try_write(rest) {
                Ok(written) => cursor = log.advance(cursor, written),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    return SubscriberState::Behind(cursor);
                }
                Err(error) => return SubscriberState::Closed(Some(error)),
            }
        }
    }

    /// Writes the subscriber's own frames, and returns the number of bytes written.
    fn write_private_frames(&mut self) -> io::Result<usize> {
        let mut all = 0_usize;
        while let Some(rest) = self.private_frames.get(self.private_written..)
            && !rest.is_empty()
        {
            let written = self.sink.try_write(rest)?;
            self.private_written = self.private_written.saturating_add(written);
            all = all.saturating_add(written);
        }
        self.private_written = 0;
        self.private_frames.clear();
        if matches!(
            self.state,
            SubscriberState::Live | SubscriberState::Behind(_)
        ) {
            self.private_frames = Vec::new();
        }
        Ok(all)
    }
}

impl FlushStatus {
    fn from_write_error(error: io::Error) -> Self {
        if error.kind() == io::ErrorKind::WouldBlock {
            Self::Blocked
        } else {
            Self::Closed(error)
        }
    }
}
