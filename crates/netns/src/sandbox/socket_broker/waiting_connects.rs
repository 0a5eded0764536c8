// SPDX-License-Identifier: Apache-2.0
//! The connects of blocking sockets that are under way.
//!
//! No descriptor of a socket is kept: a kept one would hold the connection open after the end of
//! its program. The kernel reports the end of a connect through an epoll instance, which forgets a
//! socket as soon as the workload has closed it.

use std::collections::HashMap;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::event::Timespec;
use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};
use rustix::io::Errno;

use super::bound_files::FileId;
use super::caller::ThreadStatus;
use crate::sys::seccomp::NotifiedCall;

/// The first wait for room in the queue of a listener. The kernel reports none for unix sockets.
const MIN_RETRY_WAIT: Duration = Duration::from_millis(1);
const MAX_RETRY_WAIT: Duration = Duration::from_millis(50);
/// Waiting sockets before the first look for abandoned ones.
const MIN_SWEPT_SOCKETS: usize = 64;
/// Maximum sockets reported at once.
const MAX_EVENTS: usize = 64;

/// A socket, by the number that the kernel never uses twice (`SO_COOKIE`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct SocketCookie(pub(super) u64);

/// The peer of a connect.
#[derive(Clone, Debug)]
pub(super) enum ConnectTarget {
    /// An address that names no file, encoded.
    Address(Vec<u8>),
    /// The socket of a file.
    File(FileId),
}

/// A connect under way, with all calls that wait for its end.
#[derive(Debug)]
pub(super) struct WaitingConnect {
    pub(super) target: ConnectTarget,
    pub(super) thread: Option<ThreadStatus>,
    pub(super) calls: Vec<WaitingCall>,
    /// The next attempt, if the queue of the listener was full.
    retry: Option<Retry>,
}

/// A call that waits, until its socket's `SO_SNDTIMEO` at most.
#[derive(Clone, Copy, Debug)]
pub(super) struct WaitingCall {
    pub(super) call: NotifiedCall,
    pub(super) deadline: Option<Instant>,
}

#[derive(Clone, Copy, Debug)]
struct Retry {
    at: Instant,
    wait: Duration,
}

/// All connects under way.
#[derive(Debug)]
pub(super) struct WaitingConnects {
    epoll: OwnedFd,
    connects: HashMap<SocketCookie, WaitingConnect>,
    sweep_at: usize,
}

impl WaitingConnects {
    pub(super) fn new() -> Result<Self, Errno> {
        Ok(Self {
            epoll: epoll::create(CreateFlags::CLOEXEC)?,
            connects: HashMap::new(),
            sweep_at: MIN_SWEPT_SOCKETS,
        })
    }

    /// Adds a call that waits until `socket` is connected or has failed.
    pub(super) fn wait_for_peer(
        &mut self,
        socket: BorrowedFd<'_>,
        cookie: SocketCookie,
        waiting: WaitingConnect,
    ) -> Result<(), Errno> {
        let data = EventData::new_u64(cookie.0);
        let events = EventFlags::OUT | EventFlags::ONESHOT;
        match epoll::add(&self.epoll, socket, data, events) {
            Err(Errno::EXIST) => epoll::modify(&self.epoll, socket, data, events),
            added => added,
        }?;
        self.join(cookie, waiting);
        Ok(())
    }

    /// Adds a call that waits for room in the queue of a listener.
    pub(super) fn wait_for_room(
        &mut self,
        cookie: SocketCookie,
        mut waiting: WaitingConnect,
        now: Instant,
    ) {
        waiting.retry = Some(Retry::after(waiting.retry, now));
        self.join(cookie, waiting);
    }

    fn join(&mut self, cookie: SocketCookie, waiting: WaitingConnect) {
        match self.connects.get_mut(&cookie) {
            Some(known) => {
                known.retry = waiting.retry;
                known.calls.extend(waiting.calls);
            }
            None => drop(self.connects.insert(cookie, waiting)),
        }
    }

    /// Drops the calls that wait no more, if their number may have grown.
    pub(super) fn sweep(&mut self, is_waiting: impl Fn(u64) -> bool) {
        if self.connects.len() < self.sweep_at {
            return;
        }
        for connect in self.connects.values_mut() {
            connect.calls.retain(|waiting| is_waiting(waiting.call.id));
        }
        self.connects.retain(|_, connect| !connect.calls.is_empty());
        self.sweep_at = self.connects.len().saturating_mul(2).max(MIN_SWEPT_SOCKETS);
    }

    /// Takes the connects that the kernel reports as over, or that are to be tried again.
    pub(super) fn take_due(&mut self, now: Instant) -> Vec<(SocketCookie, WaitingConnect)> {
        let mut events = Vec::with_capacity(MAX_EVENTS);
        let at_once = Timespec {
            tv_sec: 0,
            tv_nsec: 0,
        };
        let space = rustix::buffer::spare_capacity(&mut events);
        // Fails only if a signal interrupts it.
        epoll::wait(&self.epoll, space, Some(&at_once)).ok();
        let reported = events
            .iter()
            .map(|&Event { data, .. }| SocketCookie(data.u64()));
        let repeated = self.connects.iter();
        let repeated = repeated.filter(|(_, connect)| connect.retry.is_some_and(|it| it.at <= now));
        let due: Vec<_> = reported
            .chain(repeated.map(|(cookie, _)| *cookie))
            .collect();
        due.into_iter()
            .filter_map(|cookie| self.connects.remove_entry(&cookie))
            .collect()
    }

    /// Takes the calls whose time is over.
    pub(super) fn take_expired(&mut self, now: Instant) -> Vec<(NotifiedCall, Errno)> {
        let mut expired = Vec::new();
        for connect in self.connects.values_mut() {
            // As connect(2) of a socket with a time limit: unix(7), tcp(7).
            let errno = match connect.retry {
                Some(_) => Errno::AGAIN,
                None => Errno::INPROGRESS,
            };
            let is_over = |waiting: &WaitingCall| waiting.deadline.is_some_and(|at| at <= now);
            let over = connect.calls.extract_if(.., |waiting| is_over(waiting));
            expired.extend(over.map(|waiting| (waiting.call, errno)));
        }
        if !expired.is_empty() {
            self.connects.retain(|_, connect| !connect.calls.is_empty());
        }
        expired
    }

    /// Returns the next time at which a call expires or is to be tried again.
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        let connects = self.connects.values();
        connects
            .flat_map(|connect| {
                let deadlines = connect.calls.iter().filter_map(|waiting| waiting.deadline);
                deadlines.chain(connect.retry.map(|retry| retry.at))
            })
            .min()
    }
}

impl AsFd for WaitingConnects {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.epoll.as_fd()
    }
}

impl WaitingConnect {
    pub(super) const fn new(
        target: ConnectTarget,
        thread: Option<ThreadStatus>,
        calls: Vec<WaitingCall>,
    ) -> Self {
        Self {
            target,
            thread,
            calls,
            retry: None,
        }
    }
}

impl Retry {
    fn after(before: Option<Self>, now: Instant) -> Self {
        let wait = before.map_or(MIN_RETRY_WAIT, |retry| retry.wait.saturating_mul(2));
        let wait = wait.min(MAX_RETRY_WAIT);
        Self {
            at: now.checked_add(wait).unwrap_or(now),
            wait,
        }
    }
}
