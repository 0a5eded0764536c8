// SPDX-License-Identifier: Apache-2.0
//! The protocol between the supervisor and the init process of a sandbox.
//!
//! One message is one packet of a private socket pair: the workload's copy closes when its program
//! starts.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};

/// A command from the supervisor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum InitCommand {
    /// The id maps are written: build the sandbox.
    Build,
    /// The firewall is in place: start the workload.
    Start,
    /// Continue a stopped workload.
    Continue,
}

/// A report from the init process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum InitReport {
    /// The sandbox is built, the network is down. Carries the terminal's master side, if there is
    /// one.
    Ready,
    /// The workload's filter is in place, with this descriptor of the workload's process for its
    /// calls. Sent to the init process.
    Filtered(i32),
    /// The workload's program runs. Carries its pidfd.
    Started,
    /// The workload stopped (job control).
    Stopped,
    /// The workload ended with this exit status.
    Exited(i32),
    /// A signal ended the workload.
    Killed(i32),
    /// The workload's program could not be executed, with the errno.
    NotExecuted(i32),
    /// The sandbox could not be built.
    Failed(InitFault),
}

/// A failed step with its errno.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct InitFault {
    pub(crate) step: String,
    pub(crate) errno: i32,
}

impl InitFault {
    /// Returns a conversion from an error to a fault of `step`.
    pub(crate) fn at_step<E: Into<io::Error>>(step: impl Into<String>) -> impl FnOnce(E) -> Self {
        let step = step.into();
        move |error| Self {
            step,
            errno: error.into().raw_os_error().unwrap_or(libc::EIO),
        }
    }
}

impl InitCommand {
    fn byte(self) -> u8 {
        match self {
            Self::Build => b'b',
            Self::Start => b's',
            Self::Continue => b'c',
        }
    }

    pub(crate) fn decode(packet: &[u8]) -> Option<Self> {
        [Self::Build, Self::Start, Self::Continue]
            .into_iter()
            .find(|command| packet == [command.byte()])
    }

    pub(crate) fn send(self, to: impl AsFd) -> io::Result<()> {
        send_packet(to, &[self.byte()], None)
    }
}

impl InitReport {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let with = |kind: u8, number: i32| {
            let mut packet = vec![kind];
            packet.extend(number.to_ne_bytes());
            packet
        };
        match self {
            Self::Ready => vec![b'r'],
            Self::Filtered(fd) => with(b'l', *fd),
            Self::Started => vec![b's'],
            Self::Stopped => vec![b't'],
            Self::Exited(code) => with(b'e', *code),
            Self::Killed(signal) => with(b'k', *signal),
            Self::NotExecuted(errno) => with(b'x', *errno),
            Self::Failed(fault) => {
                let mut packet = with(b'f', fault.errno);
                packet.extend(fault.step.bytes().take(MAX_PACKET_BYTES - 5));
                packet
            }
        }
    }

    pub(crate) fn decode(packet: &[u8]) -> Option<Self> {
        let (kind, rest) = packet.split_first()?;
        let number = || {
            let (number, text) = rest.split_first_chunk()?;
            Some((i32::from_ne_bytes(*number), text))
        };
        Some(match kind {
            b'r' => Self::Ready,
            b'l' => Self::Filtered(number()?.0),
            b's' => Self::Started,
            b't' => Self::Stopped,
            b'e' => Self::Exited(number()?.0),
            b'k' => Self::Killed(number()?.0),
            b'x' => Self::NotExecuted(number()?.0),
            b'f' => {
                let (errno, text) = number()?;
                let step = String::from_utf8_lossy(text).into_owned();
                Self::Failed(InitFault { step, errno })
            }
            _ => return None,
        })
    }

    pub(crate) fn send(&self, to: impl AsFd, with: Option<&OwnedFd>) -> io::Result<()> {
        send_packet(to, &self.encode(), with)
    }
}

/// Maximum size of a packet.
pub(crate) const MAX_PACKET_BYTES: usize = 4096;

fn send_packet(to: impl AsFd, packet: &[u8], with: Option<&OwnedFd>) -> io::Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    let fds = with.map(AsFd::as_fd);
    if let Some(fd) = &fds {
        ancillary.push(SendAncillaryMessage::ScmRights(std::slice::from_ref(fd)));
    }
    sendmsg(
        to,
        &[IoSlice::new(packet)],
        &mut ancillary,
        SendFlags::NOSIGNAL,
    )?;
    Ok(())
}

/// Receives the next packet (empty: the peer is gone) and the descriptor sent with it.
pub(crate) fn receive_packet(
    from: impl AsFd,
    flags: RecvFlags,
) -> io::Result<(Vec<u8>, Option<OwnedFd>)> {
    let mut packet = vec![0; MAX_PACKET_BYTES];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let flags = flags | RecvFlags::CMSG_CLOEXEC;
    let got = loop {
        match recvmsg(
            &from,
            &mut [IoSliceMut::new(&mut packet)],
            &mut ancillary,
            flags,
        ) {
            Err(rustix::io::Errno::INTR) => {}
            done => break done?,
        }
    };
    packet.truncate(got.bytes);
    let mut with = None;
    for message in ancillary.drain() {
        if let RecvAncillaryMessage::ScmRights(mut fds) = message {
            with = fds.next();
        }
    }
    Ok((packet, with))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_and_reports_survive_a_round_trip() {
        for command in [
            InitCommand::Build,
            InitCommand::Start,
            InitCommand::Continue,
        ] {
            assert_eq!(InitCommand::decode(&[command.byte()]), Some(command));
        }
        let fault = InitFault {
            step: "mounting é".to_owned(),
            errno: 13,
        };
        for report in [
            InitReport::Ready,
            InitReport::Filtered(7),
            InitReport::Started,
            InitReport::Stopped,
            InitReport::Exited(255),
            InitReport::Killed(9),
            InitReport::NotExecuted(2),
            InitReport::Failed(fault),
        ] {
            assert_eq!(InitReport::decode(&report.encode()), Some(report));
        }
    }

    #[test]
    fn malformed_packets_are_rejected() {
        for packet in [&b""[..], b"z", b"e", b"e12", b"bb"] {
            assert_eq!(InitReport::decode(packet), None, "{packet:?}");
            assert_eq!(InitCommand::decode(packet), None, "{packet:?}");
        }
    }
}
