// SPDX-License-Identifier: Apache-2.0
//! A log group whose packets are copied whole, such as the held connections of a gateway.

use std::io;
use std::os::fd::OwnedFd;

use crate::nflog::{NflogBindError, NflogOptions, NflogReceiveOutcome, NflogSocket};
use crate::packet::{netlink_messages, packet_copy};

/// Size of the receive buffer: a datagram of the kernel's log has at most this size.
const MAX_DATAGRAM_BYTES: usize = 256 * 1024;

/// Receives the packets of one log group.
///
/// Lost packets are not reported: a connection repeats its first packet.
#[derive(Debug)]
pub struct PacketLog {
    socket: NflogSocket,
    bytes: Box<[u8]>,
    length: usize,
}

impl PacketLog {
    /// Binds an unbound `NETLINK_NETFILTER` socket to a log group. The rule determines the copied
    /// part of a packet. Requires a tokio runtime.
    pub fn bind(socket: OwnedFd, group: u16) -> Result<Self, NflogBindError> {
        let options = NflogOptions {
            group,
            copy_bytes: u16::MAX,
            ..NflogOptions::QUESTIONS
        };
        Ok(Self {
            socket: NflogSocket::bind(socket, options)?,
            bytes: vec![0; MAX_DATAGRAM_BYTES].into(),
            length: 0,
        })
    }

    /// Waits for packets, which [`packets`](Self::packets) then returns. Cancel safe.
    pub async fn receive(&mut self) -> io::Result<()> {
        loop {
            match self.socket.wait_for_datagram(&mut self.bytes).await {
                NflogReceiveOutcome::Datagram(length) => {
                    self.length = length;
                    return Ok(());
                }
                NflogReceiveOutcome::Overrun | NflogReceiveOutcome::Empty => {}
                NflogReceiveOutcome::Failed(error) => return Err(error),
            }
        }
    }

    /// Receives the next packets if they are queued; returns `false` if there are none.
    pub fn receive_ready(&mut self) -> io::Result<bool> {
        match self.socket.receive_ready(&mut self.bytes) {
            NflogReceiveOutcome::Datagram(length) => {
                self.length = length;
                Ok(true)
            }
            NflogReceiveOutcome::Overrun | NflogReceiveOutcome::Empty => Ok(false),
            NflogReceiveOutcome::Failed(error) => Err(error),
        }
    }

    /// Returns the packets that were received last.
    pub fn packets(&self) -> impl Iterator<Item = &[u8]> {
        let datagram = self.bytes.get(..self.length).unwrap_or_default();
        netlink_messages(datagram).filter_map(packet_copy)
    }
}
