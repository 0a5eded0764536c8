// SPDX-License-Identifier: Apache-2.0
//! The kernel's packet log: a netlink socket bound to one log group.
//!
//! The kernel hands a packet on at once only if it is told to wait for no second one
//! (`QTHRESH` 1); left alone it waits for a hundred, or for a second to pass.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use netns::PollableFd;
use rustix::io::Errno;
use rustix::net::sockopt;
use rustix::net::{RecvFlags, SendFlags};

/// How much of each packet is logged, and how many may wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NflogOptions {
    /// The log group to listen to.
    pub group: u16,
    /// Bytes of each packet, its IP header included.
    pub copy_bytes: u16,
    /// Bytes of kernel memory for messages that wait to be read. An ordinary user gets no more
    /// than `net.core.rmem_max`.
    pub buffer_bytes: usize,
}

impl NflogOptions {
    /// What questions need: the headers. One message takes 832 bytes of kernel memory, so that
    /// even the 208 KiB that an ordinary user may ask for (the kernel doubles them) hold 512.
    pub const QUESTIONS: Self = Self {
        group: terok_clearance::nflog::BLOCKED_GROUP,
        copy_bytes: 128,
        buffer_bytes: 2 << 20,
    };
    /// What DNS answers need: the whole message.
    pub const ANSWERS: Self = Self {
        group: terok_clearance::nflog::DNS_ANSWERS_GROUP,
        copy_bytes: 4096,
        buffer_bytes: 2 << 20,
    };
}

/// Why a log group could not be listened to.
#[derive(Debug, thiserror::Error)]
pub enum NflogBindError {
    /// Somebody listens already: the kernel gives a group to one socket per network namespace.
    #[error(
        "another program listens to packet log group {0} in this network namespace; only one can"
    )]
    GroupTaken(u16),
    /// The socket's user may not listen: it takes `CAP_NET_ADMIN` over the network namespace.
    #[error("listening to packet log group {0} takes CAP_NET_ADMIN over the network namespace")]
    Forbidden(u16),
    /// The kernel refused something else.
    #[error("could not {what} packet log group {group}")]
    Io {
        /// What was tried.
        what: &'static str,
        /// The group it was tried with.
        group: u16,
        /// The kernel's word.
        #[source]
        source: io::Error,
    },
}

/// A socket that gets one group's packets.
#[derive(Debug)]
pub struct NflogSocket {
    fd: PollableFd,
    group: u16,
    buffer_bytes: usize,
}

impl NflogSocket {
    /// Makes `fd`, an unbound netlink socket of `NETLINK_NETFILTER`, a listener.
    ///
    /// The socket belongs to the network namespace that it was made in, and keeps that alive.
    /// Call it within a tokio runtime.
    pub fn bind(fd: OwnedFd, options: NflogOptions) -> Result<Self, NflogBindError> {
        let group = options.group;
        let failed = |what| {
            move |source| NflogBindError::Io {
                what,
                group,
                source,
            }
        };
        let setting =
            || -> Result<usize, Errno> { set_receive_buffer(fd.as_fd(), options.buffer_bytes) };
        let buffer = setting().map_err(|e| failed("set aside memory for")(e.into()))?;
        match send_request(fd.as_fd(), &encode_config(options)) {
            Ok(()) => {}
            // The same error means that another socket has the group, and that the user may do
            // nothing at all.
            Err(Errno::PERM) => {
                return Err(
                    match send_request(fd.as_fd(), &encode_message(UNKNOWN_MESSAGE, 0, &[])) {
                        Err(Errno::PERM) => NflogBindError::Forbidden(group),
                        _ => NflogBindError::GroupTaken(group),
                    },
                );
            }
            Err(error) => return Err(failed("bind to")(error.into())),
        }
        let fd = PollableFd::new_readable(fd).map_err(failed("wait for"))?;
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

    /// Returns the bytes of kernel memory that the socket really got for waiting messages.
    pub const fn buffer_bytes(&self) -> usize {
        self.buffer_bytes
    }

    /// Waits for a datagram and takes it, into `bytes`. Never returns [`Received::Empty`].
    ///
    /// Nothing is lost if the wait is given up.
    pub async fn wait_for_datagram(&self, bytes: &mut [u8]) -> NflogReceiveOutcome {
        let taken = self.fd.read_with(|fd| match receive_datagram(fd, bytes) {
            NflogReceiveOutcome::Empty => Err(io::ErrorKind::WouldBlock.into()),
            received => Ok(received),
        });
        taken.await.unwrap_or_else(NflogReceiveOutcome::Failed)
    }

    /// Takes the next datagram if there is one, into `bytes`; to be called after
    /// [`wait`](Self::wait), which then knows when nothing is left.
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

    /// Takes one datagram if it is there, into `bytes`.
    ///
    /// It asks the kernel: a message that was logged before this call is not missed.
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

/// What [`Socket::receive`] found.
#[derive(Debug)]
pub enum NflogReceiveOutcome {
    /// A datagram of so many bytes.
    Datagram(usize),
    /// Nothing is there.
    Empty,
    /// The kernel ran out of the socket's memory and threw messages away.
    Overrun,
    /// The socket is of no more use.
    Failed(io::Error),
}

/// `NFNL_SUBSYS_ULOG << 8 | NFULNL_MSG_CONFIG`.
const CONFIG_MESSAGE: u16 = 0x0401;
/// A message type that the packet log does not know: its answer tells a right from a bad request.
const UNKNOWN_MESSAGE: u16 = 0x04ff;
const ERROR_MESSAGE: u16 = 2;
const REQUEST_AND_ACKNOWLEDGE: u16 = 5;
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

/// Sets the bytes of messages that may wait, and returns those granted.
fn set_receive_buffer(fd: BorrowedFd<'_>, size: usize) -> Result<usize, Errno> {
    // Past the system's limit only with CAP_NET_ADMIN over the whole machine.
    if sockopt::set_socket_recv_buffer_size_force(fd, size).is_err() {
        sockopt::set_socket_recv_buffer_size(fd, size)?;
    }
    sockopt::socket_recv_buffer_size(fd)
}

/// Binds a group and says how its packets are to come, all in one message: so no packet comes
/// before the group is set up.
fn encode_config(options: NflogOptions) -> Vec<u8> {
    let [c0, c1] = options.copy_bytes.to_be_bytes();
    let attributes: [(u16, &[u8]); 5] = [
        (CONFIG_COMMAND, &[COMMAND_BIND]),
        (CONFIG_MODE, &[0, 0, c0, c1, MODE_COPY_PACKET, 0]),
        (CONFIG_TIMEOUT, &0_u32.to_be_bytes()),
        (CONFIG_QUEUE_THRESHOLD, &1_u32.to_be_bytes()),
        (CONFIG_FLAGS, &FLAG_SEQUENCE.to_be_bytes()),
    ];
    encode_message(CONFIG_MESSAGE, options.group, &attributes)
}

/// Writes a netlink message with nfnetlink's header and attributes.
fn encode_message(kind: u16, group: u16, attributes: &[(u16, &[u8])]) -> Vec<u8> {
    let mut bytes = vec![0; 4];
    bytes.extend(kind.to_ne_bytes());
    bytes.extend(REQUEST_AND_ACKNOWLEDGE.to_ne_bytes());
    bytes.extend(REQUEST_SEQUENCE.to_ne_bytes());
    bytes.extend([0; 4]);
    // nfgenmsg: any family, version 0, the group.
    bytes.extend([0, 0]);
    bytes.extend(group.to_be_bytes());
    for (kind, value) in attributes {
        let length = u16::try_from(value.len())
            .unwrap_or(u16::MAX)
            .saturating_add(4);
        bytes.extend(length.to_ne_bytes());
        bytes.extend(kind.to_ne_bytes());
        bytes.extend(*value);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
    }
    let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
    if let Some(field) = bytes.first_chunk_mut() {
        *field = length.to_ne_bytes();
    }
    bytes
}

/// Sends a message and returns what the kernel says to it, which is there when sending returns.
fn send_request(fd: BorrowedFd<'_>, message: &[u8]) -> Result<(), Errno> {
    rustix::net::send(fd, message, SendFlags::empty())?;
    let mut bytes = [0; 8192];
    loop {
        // A packet that was logged first is passed over; its number is then missing, and counted.
        let (length, _) = rustix::net::recv(fd, &mut bytes, RecvFlags::DONTWAIT)?;
        let answer = bytes.get(..length).unwrap_or_default();
        let Some(
            &[
                _,
                _,
                _,
                _,
                k0,
                k1,
                _,
                _,
                s0,
                s1,
                s2,
                s3,
                _,
                _,
                _,
                _,
                e0,
                e1,
                e2,
                e3,
            ],
        ) = answer.first_chunk()
        else {
            continue;
        };
        let ours = u32::from_ne_bytes([s0, s1, s2, s3]) == REQUEST_SEQUENCE;
        if ours && u16::from_ne_bytes([k0, k1]) == ERROR_MESSAGE {
            return match i32::from_ne_bytes([e0, e1, e2, e3]) {
                0 => Ok(()),
                error => Err(Errno::from_raw_os_error(error.saturating_neg())),
            };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_group_is_bound_and_set_up_in_one_message() {
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
