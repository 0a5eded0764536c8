// SPDX-License-Identifier: Apache-2.0
//! What a UDP flow sends into the sandbox: replies and refusals.

use std::cell::RefCell;
use std::io;
use std::sync::Arc;

use netns::transparent::RawPacketSender;
use tokio::io::Interest;
use tokio::net::UdpSocket;
use tokio::task;

use super::{DATAGRAMS_PER_STEP, MAX_DATAGRAM_BYTES};
use crate::dial::DialError;
use crate::flow_activity::FlowActivity;
use crate::held_connections::ConnectionKey;
use crate::packet_build::{IcmpErrorKind, icmp_error, udp_datagram};
use crate::relay::RelayStats;

/// The bytes of a datagram that an ICMP error quotes at most.
const QUOTED_BYTES: usize = 512;

/// A refusal makes a socket ready without a datagram to read.
const REPLY_OR_ERROR: Interest = Interest::READABLE.add(Interest::ERROR);

/// Passes the replies of one flow into the sandbox.
pub(super) struct FlowReplies {
    pub(super) outside: Arc<UdpSocket>,
    pub(super) raw: Arc<RawPacketSender>,
    pub(super) activity: Arc<FlowActivity>,
    pub(super) stats: Arc<RelayStats>,
    pub(super) key: ConnectionKey,
}

impl FlowReplies {
    /// Runs until the socket fails.
    pub(super) async fn pass_on(&self) {
        while let Ok(ready) = self.outside.ready(REPLY_OR_ERROR).await {
            let passed = if ready.is_error() {
                self.take_error()
            } else {
                self.pass_ready()
            };
            match passed {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                // The kernel does not tell which datagram was refused, and the sandbox's kernel
                // reports the error to the socket of the flow whatever the datagram.
                Err(error) => match DialError::from(error) {
                    DialError::Refused => {
                        send_refusal(&self.raw, self.key, &[], IcmpErrorKind::PortUnreachable);
                    }
                    DialError::Unreachable(_) => {
                        send_refusal(&self.raw, self.key, &[], IcmpErrorKind::HostUnreachable);
                    }
                    _ => return,
                },
            }
            task::yield_now().await;
        }
    }

    /// Takes the pending error of the socket; `WouldBlock` without one.
    fn take_error(&self) -> io::Result<()> {
        self.outside.try_io(Interest::ERROR, || {
            let error = self.outside.take_error()?;
            Err(error.unwrap_or_else(|| io::ErrorKind::WouldBlock.into()))
        })
    }

    fn pass_ready(&self) -> io::Result<()> {
        thread_local! {
            /// Shared by all flows of the thread, so that an idle flow has no buffer.
            static BUFFER: RefCell<Box<[u8]>> =
                RefCell::new(vec![0; MAX_DATAGRAM_BYTES].into_boxed_slice());
        }
        BUFFER.with_borrow_mut(|buffer| {
            for _ in 0..DATAGRAMS_PER_STEP {
                let length = self.outside.try_recv(buffer)?;
                self.activity.touch();
                self.stats.add_in(length);
                send_reply(
                    &self.raw,
                    self.key,
                    buffer.get(..length).unwrap_or_default(),
                );
            }
            Ok(())
        })
    }
}

/// Sends a datagram from the destination of a flow into the sandbox.
pub(super) fn send_reply(raw: &RawPacketSender, key: ConnectionKey, payload: &[u8]) {
    let Some(packet) = udp_datagram(key.remote, key.client, payload) else {
        return;
    };
    if let Err(error) = raw.send(&packet, key.client.ip()) {
        tracing::debug!(%error, "a datagram to the sandbox was lost");
    }
}

/// Answers a datagram of a flow with an ICMP error.
pub(super) fn send_refusal(
    raw: &RawPacketSender,
    key: ConnectionKey,
    payload: &[u8],
    kind: IcmpErrorKind,
) {
    // An ICMP error quotes the head of the packet only.
    let quoted = payload.get(..QUOTED_BYTES).unwrap_or(payload);
    let datagram = udp_datagram(key.client, key.remote, quoted);
    if let Some(refusal) = datagram.and_then(|packet| icmp_error(&packet, kind))
        && let Err(error) = raw.send(&refusal, key.client.ip())
    {
        tracing::debug!(%error, "the refusal of a datagram was lost");
    }
}
