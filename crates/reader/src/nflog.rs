// SPDX-License-Identifier: Apache-2.0
//! The kernel's packet log: a netlink socket bound to one log group.
//!
//! With `QTHRESH` 1 the kernel delivers packets at once. The default waits for a hundred packets or
//! one second.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use netns::PollableFd;
use netns::netlink::{
    AttributeBuilder, NLM_F_ACK, NLM_F_REQUEST, NLMSG_ERROR, NetlinkHeader, append_message,
    netfilter_header, parse_messages,
};
use rustix::io::Errno;
use rustix::net::netlink::SocketAddrNetlink;
use rustix::net::sockopt;
use rustix::net::{RecvFlags, SendFlags};

/// The configuration of an NFLOG socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NflogOptions {
    /// The log group.
    pub group: u16,
    /// Logged bytes per packet, including the IP header.
    pub copy_bytes: u16,
    /// Size of the kernel's queue. Unprivileged users get at most `net.core.rmem_max`.
    pub buffer_bytes: usize,
}

impl NflogOptions {
    /// Options for questions: headers only. A message takes 832 bytes of kernel memory, so that
    /// even the 208 KiB for ordinary users (doubled by the kernel) hold 512.
    pub const QUESTIONS: Self = Self {
        group: terok_clearance::nflog::BLOCKED_GROUP,
        copy_bytes: 128,
        buffer_bytes: 2 << 20,
    };
    /// Options for DNS answers: whole messages.
    pub const ANSWERS: Self = Self {
        group: terok_clearance::nflog::DNS_ANSWERS_GROUP,
        copy_bytes: 4096,
        buffer_bytes: 2 << 20,
    };
}

/// A log group could not be bound.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NflogBindError {
    /// Another socket has the group: the kernel allows one per network namespace.
    #[error(
        "another program listens to packet log group {0} in this network namespace; \
         only one program can"
    )]
    GroupTaken(u16),
    /// Missing permission: `CAP_NET_ADMIN` over the network namespace.
    #[error("listening to packet log group {0} requires CAP_NET_ADMIN over the network namespace")]
    Forbidden(u16),
    /// Another kernel error.
    #[error("could not {step} packet log group {group}")]
    Io {
        /// The failed step.
        step: &'static str,
        /// The log group.
        group: u16,
        /// The kernel error.
        #[source]
        source: io::Error,
    },
}

/// A socket that receives the packets of one log group.
#[derive(Debug)]
pub struct NflogSocket {
    fd: PollableFd,
    group: u16,
    buffer_bytes: usize,
}

impl NflogSocket {
    /// Binds `fd`, an unbound `NETLINK_NETFILTER` socket.
    ///
    /// The socket belongs to the network namespace of its creation and keeps it alive. It receives
    /// messages of the kernel only: root over the namespace could send forged packets to any other
    /// netlink socket of it. Requires a tokio runtime.
    pub fn bind(fd: OwnedFd, options: NflogOptions) -> Result<Self, NflogBindError> {
        let group = options.group;
        let failed = |step| {
            move |source| NflogBindError::Io {
                step,
                group,
                source,
            }
        };
        rustix::net::connect(&fd, &SocketAddrNetlink::new(0, 0))
            .map_err(|error| failed("connect the socket of")(error.into()))?;
        let setting =
            || -> Result<usize, Errno> { set_receive_buffer(fd.as_fd(), options.buffer_bytes) };
        let buffer = setting().map_err(|e| failed("set the buffer size of")(e.into()))?;
        match send_request(fd.as_fd(), &encode_config(options)) {
            Ok(()) => {}
            // `EPERM` means either that another socket has the group or that the user lacks
            // permission.
            Err(Errno::PERM) => {
                return Err(match send_request(fd.as_fd(), &encode_unknown_request()) {
                    Err(Errno::PERM) => NflogBindError::Forbidden(group),
                    _ => NflogBindError::GroupTaken(group),
                });
            }
            Err(error) => return Err(failed("bind to")(error.into())),
        }
        let fd = PollableFd::new_readable(fd).map_err(failed("register the socket of"))?;
        Ok(Self {
            fd,
            group,
            buffer_bytes: buffer,
        })
    }

    /// Returns the log group.
    pub const fn group(&self) -> u16 {
        self.group
    }

    /// Returns the granted size of the kernel's queue.
    pub const fn buffer_bytes(&self) -> usize {
        self.buffer_bytes
    }

    /// Waits for a datagram and receives it into `bytes`. Never returns
    /// [`NflogReceiveOutcome::Empty`]. Cancel safe.
    pub async fn wait_for_datagram(&self, bytes: &mut [u8]) -> NflogReceiveOutcome {
        let taken = self.fd.read_with(|fd| match receive_datagram(fd, bytes) {
            NflogReceiveOutcome::Empty => Err(io::ErrorKind::WouldBlock.into()),
            received => Ok(received),
        });
        taken.await.unwrap_or_else(NflogReceiveOutcome::Failed)
    }

    /// Receives the next datagram into `bytes`, if one is queued. To be called after
    /// [`wait_for_datagram`](Self::wait_for_datagram), whose readiness it clears when the queue is
    /// empty.
    pub fn receive_ready(&self, bytes: &mut [u8]) -> NflogReceiveOutcome {
        let taken = self
            .fd
            .try_read_with(|fd| match receive_datagram(fd, bytes) {
                NflogReceiveOutcome::Empty => Err(io::ErrorKind::WouldBlock.into()),
                received => Ok(received),
            });
        taken.unwrap_or_else(|error| match error.kind() {
            io::ErrorKind::WouldBlock => NflogReceiveOutcome::Empty,
            _ => NflogReceiveOutcome::Failed(error),
        })
    }

    /// Receives a datagram into `bytes`, if one is queued.
    ///
    /// Asks the kernel on every call: a message logged before the call is not missed.
    pub fn try_receive(&self, bytes: &mut [u8]) -> NflogReceiveOutcome {
        receive_datagram(self.fd.as_fd(), bytes)
    }
}

impl AsFd for NflogSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

fn receive_datagram(fd: BorrowedFd<'_>, bytes: &mut [u8]) -> NflogReceiveOutcome {
    loop {
        return match rustix::net::recv(fd, &mut *bytes, RecvFlags::DONTWAIT) {
            Ok((length, _)) => NflogReceiveOutcome::Datagram(length),
            Err(Errno::INTR) => continue,
            Err(Errno::AGAIN) => NflogReceiveOutcome::Empty,
            Err(Errno::NOBUFS) => NflogReceiveOutcome::Overrun,
            Err(error) => NflogReceiveOutcome::Failed(error.into()),
        };
    }
}

/// The outcome of a receive operation.
#[derive(Debug)]
pub enum NflogReceiveOutcome {
    /// A datagram with this number of bytes.
    Datagram(usize),
    /// The queue is empty.
    Empty,
    /// The kernel's queue overflowed and messages were dropped.
    Overrun,
    /// The socket failed.
    Failed(io::Error),
}

/// `NFNL_SUBSYS_ULOG << 8 | NFULNL_MSG_CONFIG`.
const CONFIG_MESSAGE: u16 = 0x0401;
/// An unassigned message type: its error distinguishes missing permission from a taken group.
const UNKNOWN_MESSAGE: u16 = 0x04ff;
const ANY_FAMILY: u8 = 0;
const REQUEST_SEQUENCE: u32 = 1;

const CONFIG_COMMAND: u16 = 1;
const CONFIG_MODE: u16 = 2;
const CONFIG_TIMEOUT: u16 = 4;
const CONFIG_QUEUE_THRESHOLD: u16 = 5;
const CONFIG_FLAGS: u16 = 6;

const COMMAND_BIND: u8 = 1;
const MODE_COPY_PACKET: u8 = 2;
/// `NFULNL_CFG_F_SEQ`: number the messages.
const FLAG_SEQUENCE: u16 = 1;

/// Sets the size of the kernel's queue and returns the granted size.
fn set_receive_buffer(fd: BorrowedFd<'_>, size: usize) -> Result<usize, Errno> {
    // Exceeding the system's limit requires CAP_NET_ADMIN in the initial user namespace.
    if sockopt::set_socket_recv_buffer_size_force(fd, size).is_err() {
        sockopt::set_socket_recv_buffer_size(fd, size)?;
    }
    sockopt::socket_recv_buffer_size(fd)
}

/// Encodes binding and configuration as one message, so that no packet precedes the configuration.
fn encode_config(options: NflogOptions) -> Vec<u8> {
    let [c0, c1] = options.copy_bytes.to_be_bytes();
    let attributes = AttributeBuilder::default()
        .bytes(CONFIG_COMMAND, &[COMMAND_BIND])
        .bytes(CONFIG_MODE, &[0, 0, c0, c1, MODE_COPY_PACKET, 0])
        .u32_be(CONFIG_TIMEOUT, 0)
        .u32_be(CONFIG_QUEUE_THRESHOLD, 1)
        .u16_be(CONFIG_FLAGS, FLAG_SEQUENCE);
    encode_request(CONFIG_MESSAGE, options.group, &attributes)
}

/// Encodes a request that the kernel refuses, for its error alone.
fn encode_unknown_request() -> Vec<u8> {
    encode_request(UNKNOWN_MESSAGE, 0, &AttributeBuilder::default())
}

/// Encodes a request about a log group.
fn encode_request(kind: u16, group: u16, attributes: &AttributeBuilder) -> Vec<u8> {
    let header = NetlinkHeader {
        kind,
        flags: NLM_F_REQUEST | NLM_F_ACK,
        sequence: REQUEST_SEQUENCE,
    };
    let mut bytes = Vec::new();
    append_message(
        &mut bytes,
        header,
        &netfilter_header(ANY_FAMILY, group),
        attributes,
    );
    bytes
}

/// Sends a message and returns the kernel's reply, which is queued when sending returns.
fn send_request(fd: BorrowedFd<'_>, message: &[u8]) -> Result<(), Errno> {
    rustix::net::send(fd, message, SendFlags::empty())?;
    let mut bytes = [0; 8192];
    loop {
        // A packet logged earlier is skipped; it shows as a gap in the sequence and is counted.
        let (length, _) = rustix::net::recv(fd, &mut bytes, RecvFlags::DONTWAIT)?;
        let Some(Ok(reply)) = parse_messages(bytes.get(..length).unwrap_or_default()).next() else {
            continue;
        };
        if reply.header.sequence == REQUEST_SEQUENCE && reply.header.kind == NLMSG_ERROR {
            return match reply.error_code() {
                Some(0) => Ok(()),
                Some(code) => Err(Errno::from_raw_os_error(code)),
                None => Err(Errno::BADMSG),
            };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn binding_and_configuration_are_one_message() {
        let options = NflogOptions {
            group: 100,
            copy_bytes: 128,
            buffer_bytes: 0,
        };
        #[rustfmt::skip]
        let expected = [
            64, 0, 0, 0, 0x01, 0x04, 5, 0, 1, 0, 0, 0, 0, 0, 0, 0, // request, acknowledge
            0, 0, 0, 100,
            5, 0, 1, 0, 1, 0, 0, 0,                  // bind
            10, 0, 2, 0, 0, 0, 0, 128, 2, 0, 0, 0,   // copy 128 bytes of each packet
            8, 0, 4, 0, 0, 0, 0, 0,                  // no wait
            8, 0, 5, 0, 0, 0, 0, 1,                  // hand over each
            6, 0, 6, 0, 0, 1, 0, 0,                  // number them
        ];
        if cfg!(target_endian = "little") {
            assert_eq!(encode_config(options), expected);
        }
    }
}
