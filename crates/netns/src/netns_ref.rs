// SPDX-License-Identifier: Apache-2.0
//! Opens sockets inside another network namespace.
//!
//! A threaded process cannot enter a user namespace (`setns` fails with `EINVAL`), and an ordinary
//! user cannot enter a network namespace without entering its owning user namespace first
//! (`EPERM`). A forked single-threaded child enters both, opens the sockets and passes them back
//! within a fraction of a millisecond. Afterwards the sockets work from any thread: the kernel
//! checks the opener of a netlink socket (root inside) and its user (owner of the user namespace).

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use netlink_sys::Socket;
use rustix::fs::fstat;

use crate::enter_error::{EnterError, EnterStep, step_error};
use crate::sys::{self, fork::NamespaceFds};
use crate::{ProcessHandle, SandboxProcesses};

/// Timeout for the child. Normal duration: a fraction of a millisecond.
const ENTER_TIMEOUT: Duration = Duration::from_secs(5);

/// A socket to open: close-on-exec, neither bound nor connected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SocketSpec {
    /// Netlink for nftables and NFLOG.
    Netfilter,
    /// Netlink for links, addresses and routes.
    Route,
    /// Netlink for the socket list.
    SockDiag,
    /// UDP over IPv4.
    Udp4,
    /// UDP over IPv6.
    Udp6,
    /// TCP over IPv4.
    Tcp4,
    /// TCP over IPv6.
    Tcp6,
    /// Complete IPv4 packets, sent with their own header (`raw(7)`).
    RawPacket4,
    /// Complete IPv6 packets, sent with their own header.
    RawPacket6,
}

impl SocketSpec {
    fn socket_arguments(self) -> [i32; 3] {
        let [domain, kind, protocol] = match self {
            Self::Netfilter => [libc::AF_NETLINK, libc::SOCK_RAW, libc::NETLINK_NETFILTER],
            Self::Route => [libc::AF_NETLINK, libc::SOCK_RAW, libc::NETLINK_ROUTE],
            Self::SockDiag => [libc::AF_NETLINK, libc::SOCK_RAW, libc::NETLINK_SOCK_DIAG],
            Self::Udp4 => [libc::AF_INET, libc::SOCK_DGRAM, libc::IPPROTO_UDP],
            Self::Udp6 => [libc::AF_INET6, libc::SOCK_DGRAM, libc::IPPROTO_UDP],
            Self::Tcp4 => [libc::AF_INET, libc::SOCK_STREAM, libc::IPPROTO_TCP],
            Self::Tcp6 => [libc::AF_INET6, libc::SOCK_STREAM, libc::IPPROTO_TCP],
            Self::RawPacket4 => [libc::AF_INET, libc::SOCK_RAW, libc::IPPROTO_RAW],
            Self::RawPacket6 => [libc::AF_INET6, libc::SOCK_RAW, libc::IPPROTO_RAW],
        };
        [domain, kind | libc::SOCK_CLOEXEC, protocol]
    }
}

/// Gives every packet of a socket the mark `mark` (`SO_MARK`, `socket(7)`). Requires
/// `CAP_NET_ADMIN` over the socket's network namespace, which the owner of its user namespace has.
pub fn set_packet_mark(socket: &impl AsFd, mark: u32) -> io::Result<()> {
    sys::set_mark(socket.as_fd(), mark)
}

/// The open files of a foreign network namespace and of the user namespace to enter before it, for
/// a program such as `nsenter(1)`.
#[derive(Debug)]
pub struct NamespaceFiles {
    /// The network namespace.
    pub net: OwnedFd,
    /// The owning user namespace; `None` if the caller is inside already.
    pub user: Option<OwnedFd>,
}

/// A network namespace in which sockets can be opened.
#[derive(Debug)]
pub enum NetnsRef {
    /// The caller's own namespace.
    Current,
    /// The namespace of a process, resolved on every use; it is not kept alive.
    OfProcess(ProcessHandle),
    /// The namespace that the processes of a sandbox share, resolved on every use from one that is
    /// alive; it is not kept alive.
    OfProcesses(SandboxProcesses),
    /// A namespace file (`/proc/PID/ns/net`, `/run/netns/NAME`). The open file keeps the namespace
    /// alive.
    NamespaceFile(OwnedFd),
}

impl NetnsRef {
    /// Opens at most 16 sockets inside the namespace and returns them in the order of `specs`.
    ///
    /// Blocks for a fraction of a millisecond, at most for five seconds.
    pub fn open_sockets(&self, specs: &[SocketSpec]) -> Result<Vec<OwnedFd>, EnterError> {
        let sockets: Vec<_> = specs.iter().map(|spec| spec.socket_arguments()).collect();
        let Some(net) = self.foreign_netns()? else {
            return open_in_current_netns(&sockets);
        };
        let user = owning_userns_to_enter(&net)?;
        let entry = NamespaceFds {
            user: user.as_ref().map(AsFd::as_fd),
            net: net.as_fd(),
        };
        let opened = sys::fork::open_inside(entry, &sockets, ENTER_TIMEOUT)?;
        let has_ended = match self {
            Self::OfProcess(process) => !process.is_alive(),
            Self::OfProcesses(processes) => processes.first_alive().is_none(),
            Self::Current | Self::NamespaceFile(_) => false,
        };
        if has_ended {
            return Err(EnterError::ProcessEnded); // the pid may have been reused before the fork
        }
        Ok(opened)
    }

    /// Opens one socket; see [`NetnsRef::open_sockets`].
    pub fn open_socket(&self, spec: SocketSpec) -> Result<OwnedFd, EnterError> {
        self.open_sockets(&[spec])?
            .pop()
            .ok_or(EnterError::BadReply)
    }

    /// Opens one netlink socket; see [`NetnsRef::open_sockets`]. Fails with `EPROTOTYPE` if `spec`
    /// is not a netlink socket.
    pub fn open_netlink_socket(&self, spec: SocketSpec) -> Result<Socket, EnterError> {
        if spec.socket_arguments().first() != Some(&libc::AF_NETLINK) {
            let source = io::Error::from_raw_os_error(libc::EPROTOTYPE);
            return Err(EnterError::Failed {
                step: EnterStep::Socket,
                source,
            });
        }
        Ok(sys::into_netlink_socket(self.open_socket(spec)?))
    }

    /// Opens the files of the namespace, or returns `None` if the caller is inside already.
    ///
    /// The files keep the namespace alive and belong to it even if the process ends and its id is
    /// used again.
    pub fn open_files(&self) -> Result<Option<NamespaceFiles>, EnterError> {
        let Some(net) = self.foreign_netns()? else {
            return Ok(None);
        };
        let user = owning_userns_to_enter(&net)?;
        Ok(Some(NamespaceFiles { net, user }))
    }

    /// Returns the namespace file, or `None` if the caller is inside already.
    fn foreign_netns(&self) -> Result<Option<OwnedFd>, EnterError> {
        let net = match self {
            Self::Current => return Ok(None),
            Self::OfProcess(process) => open_netns_of(process)?,
            Self::OfProcesses(processes) => loop {
                let process = processes.first_alive().ok_or(EnterError::ProcessEnded)?;
                match open_netns_of(&process) {
                    // Another process may be alive.
                    Err(EnterError::ProcessEnded) => {}
                    opened => break opened?,
                }
            },
            Self::NamespaceFile(net) => net
                .try_clone()
                .map_err(step_error(EnterStep::FindNamespaces))?,
        };
        Ok((!is_current_namespace(&net, "net")?).then_some(net))
    }
}

fn open_netns_of(process: &ProcessHandle) -> Result<OwnedFd, EnterError> {
    let file = File::open(format!("/proc/{}/ns/net", process.pid()));
    if !process.is_alive() {
        return Err(EnterError::ProcessEnded);
    }
    Ok(file.map_err(step_error(EnterStep::FindNamespaces))?.into())
}

/// Returns the user namespace to enter first: the owner of `net`. `None` if the caller is inside
/// already, or if the kernel does not reveal the owner (outside the caller's descendants, where
/// entering would be refused as well).
pub(crate) fn owning_userns_to_enter(net: &OwnedFd) -> Result<Option<OwnedFd>, EnterError> {
    match sys::owning_user_namespace(net.as_fd()) {
        Ok(user) => Ok((!is_current_namespace(&user, "user")?).then_some(user)),
        Err(error) if error.raw_os_error() == Some(libc::EPERM) => Ok(None),
        Err(source) => Err(EnterError::Failed {
            step: EnterStep::FindNamespaces,
            source,
        }),
    }
}

fn is_current_namespace(namespace: &OwnedFd, kind: &str) -> Result<bool, EnterError> {
    let own = File::open(format!("/proc/self/ns/{kind}"))
        .map_err(step_error(EnterStep::FindNamespaces))?;
    let identity = |fd| match fstat(fd) {
        Ok(stat) => Ok((stat.st_dev, stat.st_ino)),
        Err(error) => Err(step_error(EnterStep::FindNamespaces)(error.into())),
    };
    Ok(identity(namespace.as_fd())? == identity(own.as_fd())?)
}

fn open_in_current_netns(sockets: &[[i32; 3]]) -> Result<Vec<OwnedFd>, EnterError> {
    let open = |spec: &[i32; 3]| sys::open_socket(*spec).map_err(step_error(EnterStep::Socket));
    sockets.iter().map(open).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_namespace_that_the_caller_is_in_has_nothing_to_enter() {
        assert!(NetnsRef::Current.open_files().unwrap().is_none());
        let own = NetnsRef::OfProcess(ProcessHandle::current().unwrap());
        assert!(own.open_files().unwrap().is_none());
        let file = File::open("/proc/self/ns/net").unwrap();
        assert!(
            NetnsRef::NamespaceFile(file.into())
                .open_files()
                .unwrap()
                .is_none()
        );
    }

    #[test]
    fn the_namespace_of_an_ended_process_is_not_found() {
        let mut child = std::process::Command::new("true").spawn().unwrap();
        let process = ProcessHandle::open(child.id()).unwrap();
        child.wait().unwrap();
        let gone = NetnsRef::OfProcess(process).open_files();
        assert!(matches!(gone, Err(EnterError::ProcessEnded)), "{gone:?}");
    }
}
