// SPDX-License-Identifier: Apache-2.0
//! UDP: one flow for each client, with a socket of its own inside.

use std::cell::RefCell;
use std::collections::HashMap;
use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::io::Interest;
use tokio::net::UdpSocket;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::Instant;

use super::tcp::check_panic;
use super::{PublishPanicked, server_addresses};
use crate::dial::DialSockets;
use crate::flow_activity::{FlowActivity, wait_until};

/// Time after which an idle flow ends.
const FLOW_IDLE_TIMEOUT: Duration = Duration::from_secs(180);
/// Time between two looks for idle flows.
const IDLE_CHECK: Duration = Duration::from_secs(10);
/// The longest first datagram that is kept until a server answers, to be repeated at the next
/// address. The loss of a longer one is the network's: the client repeats it.
const MAX_REPEATED_BYTES: usize = 2048;
/// Maximum datagrams read before other tasks get their turn.
const DATAGRAMS_PER_TURN: usize = 64;
/// The longest datagram.
const MAX_DATAGRAM_BYTES: usize = 65_535;

thread_local! {
    /// Shared by all flows of the thread, so that an idle flow has no buffer.
    static BUFFER: RefCell<Box<[u8]>> =
        RefCell::new(vec![0; MAX_DATAGRAM_BYTES].into_boxed_slice());
}

/// Passes the datagrams of one published port on.
pub(super) struct UdpPublisher<D> {
    outside: Arc<UdpSocket>,
    port: u16,
    sockets: Arc<D>,
    slots: Arc<Semaphore>,
    flows: HashMap<SocketAddr, PublishedFlow>,
    readers: JoinSet<FlowEnd>,
    next_id: u64,
    next_idle_check: Option<Instant>,
}

/// The datagrams of one client.
struct PublishedFlow {
    id: u64,
    inside: Arc<UdpSocket>,
    reader: AbortHandle,
    /// The number of addresses that were tried.
    tried: usize,
    /// The first datagram, until a server answers.
    unanswered: Option<Vec<u8>>,
    activity: Arc<PublishActivity>,
    _slot: OwnedSemaphorePermit,
}

/// The time of the last datagram of a flow, and whether a server answered.
struct PublishActivity {
    times: FlowActivity,
    is_answered: AtomicBool,
}

/// A flow whose server refused a datagram.
struct FlowEnd {
    client: SocketAddr,
    id: u64,
}

impl<D: DialSockets> UdpPublisher<D> {
    pub(super) fn new(
        outside: UdpSocket,
        port: u16,
        sockets: Arc<D>,
        slots: Arc<Semaphore>,
    ) -> Self {
        Self {
            outside: Arc::new(outside),
            port,
            sockets,
            slots,
            flows: HashMap::new(),
            readers: JoinSet::new(),
            next_id: 0,
            next_idle_check: None,
        }
    }

    pub(super) async fn serve(mut self) -> Result<Infallible, PublishPanicked> {
        let outside = Arc::clone(&self.outside);
        loop {
            let next_idle_check = self.next_idle_check;
            tokio::select! {
                Some(ended) = self.readers.join_next() => match ended {
                    Ok(end) => self.try_next_address(&end),
                    Err(error) => check_panic::<()>(Err(error))?,
                },
                ready = outside.readable() => {
                    if let Err(error) = ready {
                        tracing::debug!(port = self.port, %error, "a published port failed");
                    }
                    BUFFER.with_borrow_mut(|buffer| self.receive(buffer));
                    tokio::task::yield_now().await;
                }
                () = wait_until(next_idle_check) => self.expire(),
            }
        }
    }

    /// Passes queued datagrams on, up to a limit.
    fn receive(&mut self, buffer: &mut [u8]) {
        for _ in 0..DATAGRAMS_PER_TURN {
            match self.outside.try_recv_from(buffer) {
                Ok((length, client)) => {
                    self.pass_on(client, buffer.get(..length).unwrap_or_default());
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                // A client does not listen any more; other clients do.
                Err(error) => tracing::debug!(%error, "a client of a published port is gone"),
            }
        }
    }

    fn pass_on(&mut self, client: SocketAddr, payload: &[u8]) {
        if let Some(flow) = self.flows.get_mut(&client) {
            flow.activity.times.touch();
            if flow.activity.is_answered() {
                flow.unanswered = None;
            }
            match flow.inside.try_send(payload) {
                Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {}
                _ => return, // a full queue loses a datagram
            }
            // An earlier datagram was refused, and this one was not sent.
            let was_answered = flow.activity.is_answered();
            let id = flow.id;
            self.try_next_address(&FlowEnd { client, id });
            match self.flows.get(&client) {
                Some(flow) => {
                    drop(flow.inside.try_send(payload));
                    return;
                }
                None if was_answered => {} // the server may have moved to another address
                None => return,
            }
        }
        let Some(slot) = self.take_slot() else {
            return; // every flow belongs to another port
        };
        let unanswered = (payload.len() <= MAX_REPEATED_BYTES).then(|| payload.to_vec());
        self.open_flow(client, Some(payload), unanswered, 0, slot);
    }

    /// Returns a free slot; without one, the flow that was idle for the longest time ends.
    fn take_slot(&mut self) -> Option<OwnedSemaphorePermit> {
        if let Ok(slot) = Arc::clone(&self.slots).try_acquire_owned() {
            return Some(slot);
        }
        let oldest = self
            .flows
            .iter()
            .min_by_key(|(_, flow)| flow.activity.times.last());
        let client = oldest.map(|(client, _)| *client)?;
        self.remove(&client);
        Arc::clone(&self.slots).try_acquire_owned().ok()
    }

    /// Opens a flow to the next address inside, and sends its first datagram if there is one.
    fn open_flow(
        &mut self,
        client: SocketAddr,
        payload: Option<&[u8]>,
        unanswered: Option<Vec<u8>>,
        mut tried: usize,
        slot: OwnedSemaphorePermit,
    ) {
        let inside = loop {
            let Some(address) = server_addresses(self.port).get(tried).copied() else {
                return; // no server: its end of the flow is silence, as behind any router
            };
            tried = tried.saturating_add(1);
            match self.connect(address, payload) {
                Ok(inside) => break Arc::new(inside),
                Err(error) => {
                    tracing::debug!(%address, %error, "a datagram to the sandbox was not sent");
                }
            }
        };
        let id = self.next_id;
        self.next_id = id.wrapping_add(1);
        let activity = Arc::new(PublishActivity {
            times: FlowActivity::begin(),
            is_answered: AtomicBool::new(false),
        });
        let replies = PublishedReplies {
            inside: Arc::clone(&inside),
            outside: Arc::clone(&self.outside),
            client,
            activity: Arc::clone(&activity),
        };
        let reader = self.readers.spawn(async move {
            replies.pass_on().await;
            FlowEnd { client, id }
        });
        let flow = PublishedFlow {
            id,
            inside,
            reader,
            tried,
            unanswered,
            activity,
            _slot: slot,
        };
        self.flows.insert(client, flow);
        let in_a_while = || Instant::now().checked_add(IDLE_CHECK);
        self.next_idle_check = self.next_idle_check.or_else(in_a_while);
    }

    /// Returns a socket inside that is connected to `address` and has sent `payload`.
    fn connect(&self, address: SocketAddr, payload: Option<&[u8]>) -> io::Result<UdpSocket> {
        let socket = self.sockets.udp_socket(address)?;
        socket.connect(address)?;
        socket.set_nonblocking(true)?;
        if let Some(payload) = payload {
            socket.send(payload)?;
        }
        UdpSocket::from_std(socket)
    }

    /// Continues a flow at the next address, with its first datagram, if no server has answered.
    fn try_next_address(&mut self, end: &FlowEnd) {
        if self
            .flows
            .get(&end.client)
            .is_none_or(|flow| flow.id != end.id)
        {
            return;
        }
        let Some(flow) = self.flows.remove(&end.client) else {
            return;
        };
        let PublishedFlow {
            tried,
            unanswered,
            activity,
            reader,
            _slot: slot,
            ..
        } = flow;
        reader.abort();
        if !activity.is_answered() {
            let payload = unanswered.clone();
            self.open_flow(end.client, payload.as_deref(), unanswered, tried, slot);
        }
    }

    fn expire(&mut self) {
        let now = Instant::now();
        let is_idle = |flow: &PublishedFlow| {
            now.saturating_duration_since(flow.activity.times.last()) >= FLOW_IDLE_TIMEOUT
        };
        let idle = self.flows.iter().filter(|(_, flow)| is_idle(flow));
        let idle: Vec<_> = idle.map(|(client, _)| *client).collect();
        for client in idle {
            self.remove(&client);
        }
        self.next_idle_check = now.checked_add(IDLE_CHECK);
        if self.flows.is_empty() {
            self.next_idle_check = None;
        }
    }

    fn remove(&mut self, client: &SocketAddr) {
        if let Some(flow) = self.flows.remove(client) {
            flow.reader.abort();
        }
    }
}

impl PublishActivity {
    fn is_answered(&self) -> bool {
        self.is_answered.load(Ordering::Relaxed)
    }
}

/// Passes the replies of a server to one client.
struct PublishedReplies {
    inside: Arc<UdpSocket>,
    outside: Arc<UdpSocket>,
    client: SocketAddr,
    activity: Arc<PublishActivity>,
}

impl PublishedReplies {
    /// Runs until the server refuses a datagram.
    async fn pass_on(&self) {
        let interest = Interest::READABLE | Interest::ERROR;
        while let Ok(ready) = self.inside.ready(interest).await {
            if ready.is_error() {
                // Without an error here, a send has taken it and handles it.
                if !matches!(self.inside.take_error(), Ok(None)) {
                    return;
                }
                let blocked = || Err::<(), _>(io::ErrorKind::WouldBlock.into());
                drop(self.inside.try_io(Interest::ERROR, blocked));
            }
            match BUFFER.with_borrow_mut(|buffer| self.pass_ready(buffer)) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(_) => return,
            }
            tokio::task::yield_now().await;
        }
    }

    fn pass_ready(&self, buffer: &mut [u8]) -> io::Result<()> {
        for _ in 0..DATAGRAMS_PER_TURN {
            let length = self.inside.try_recv(buffer)?;
            self.activity.times.touch();
            self.activity.is_answered.store(true, Ordering::Relaxed);
            let reply = buffer.get(..length).unwrap_or_default();
            // A full queue loses a datagram.
            drop(self.outside.try_send_to(reply, self.client));
        }
        Ok(())
    }
}
