// SPDX-License-Identifier: Apache-2.0
//! Opens sockets inside another network namespace.
//!
//! A threaded process cannot enter a user namespace (`setns` says `EINVAL`), and without that an
//! ordinary user cannot enter the network namespace that belongs to it (`EPERM`). So a forked
//! child of one thread enters, opens the sockets and hands them back, in a fraction of a millisecond. The
//! sockets work from any thread of the caller afterwards: the kernel checks a netlink socket's
//! opener, who was root inside, and its user, who owns the sandbox's user namespace.

use std::fmt;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use netlink_sys::Socket;
use rustix::fs::fstat;
use thiserror::Error;

use crate::ProcessHandle;
use crate::sys::{self, fork::NamespaceFds};

/// How long the child may take before it is killed. It needs a fraction of a millisecond; a whole
/// second passes only on a machine that has stopped making progress.
const ENTER_TIMEOUT: Duration = Duration::from_secs(5);

/// A socket to open. All are close-on-exec; none is bound or connected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SocketSpec {
    /// Netlink towards nftables and NFLOG.
    Netfilter,
    /// Netlink towards links, addresses and routes.
    Route,
    /// Netlink towards the list of sockets.
    SockDiag,
    /// UDP over IPv4.
    Udp4,
    /// UDP over IPv6.
    Udp6,
    /// TCP over IPv4.
    Tcp4,
    /// TCP over IPv6.
    Tcp6,
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
        };
        [domain, kind | libc::SOCK_CLOEXEC, protocol]
    }
}

/// A network namespace in which sockets can be opened.
#[derive(Debug)]
pub enum NetnsRef {
    /// The caller's own.
    Current,
    /// That of a process, looked up anew each time, so that nothing is kept alive by it.
    OfProcess(ProcessHandle),
    /// One given as a file (`/proc/PID/ns/net`, `/run/netns/NAME`). The file keeps the namespace
    /// alive for as long as it is held.
    NamespaceFile(OwnedFd),
}

impl NetnsRef {
    /// Returns the sockets asked for, in the order of `specs` (at most 16), opened in this place.
    ///
    /// It blocks for as long as that takes, a fraction of a millisecond, at most five seconds.
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
        if let Self::OfProcess(process) = self
            && !process.is_alive()
        {
            return Err(EnterError::ProcessEnded); // the number may have been another's by then
        }
        Ok(opened)
    }

    /// Returns one socket; see [`Place::open`].
    pub fn open_socket(&self, spec: SocketSpec) -> Result<OwnedFd, EnterError> {
        self.open_sockets(&[spec])?
            .pop()
            .ok_or(EnterError::BadReply)
    }

    /// Returns one netlink socket; see [`Place::open`]. Fails with `EPROTOTYPE` when `spec` is not
    /// one of netlink.
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

    /// The namespace's file, or none when the caller already is in it.
    fn foreign_netns(&self) -> Result<Option<OwnedFd>, EnterError> {
        let net = match self {
            Self::Current => return Ok(None),
            Self::OfProcess(process) => {
                let path = format!("/proc/{}/ns/net", process.pid());
                let file = File::open(path);
                if !process.is_alive() {
                    return Err(EnterError::ProcessEnded);
                }
                file.map_err(step_error(EnterStep::FindNamespaces))?.into()
            }
            Self::NamespaceFile(net) => net
                .try_clone()
                .map_err(step_error(EnterStep::FindNamespaces))?,
        };
        Ok((!is_current_namespace(&net, "net")?).then_some(net))
    }
}

/// The user namespace to enter first: the one that owns `net`, unless the caller is in it or the
/// kernel will not name it (it is not below the caller's, so entering it could not be allowed).
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

fn step_error(step: EnterStep) -> impl Fn(io::Error) -> EnterError {
    move |source| EnterError::Failed { step, source }
}

/// What was being done when entering a place failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EnterStep {
    /// Finding the namespaces.
    FindNamespaces,
    /// Starting the child.
    Fork,
    /// Entering the user namespace.
    EnterUser,
    /// Entering the network namespace.
    EnterNet,
    /// Opening a socket.
    Socket,
    /// Handing the sockets back.
    ReturnSockets,
}

impl fmt::Display for EnterStep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::FindNamespaces => "finding the namespaces",
            Self::Fork => "starting a child",
            Self::EnterUser => "entering the user namespace",
            Self::EnterNet => "entering the network namespace",
            Self::Socket => "opening a socket",
            Self::ReturnSockets => "handing the sockets back",
        })
    }
}

/// Why no socket could be opened in a place.
#[derive(Debug, Error)]
pub enum EnterError {
    /// The process whose namespaces were wanted has ended.
    #[error("the process has ended")]
    ProcessEnded,
    /// A step failed; `source` has the kernel's error number.
    #[error("{step} failed")]
    Failed {
        /// The step.
        step: EnterStep,
        /// The kernel's answer.
        #[source]
        source: io::Error,
    },
    /// The child took longer than it may and was killed.
    #[error("it took longer than {0:?}")]
    TimedOut(Duration),
    /// The child died, or sent what it never should.
    #[error("the child that enters died before it answered")]
    BadReply,
    /// More sockets were asked for than are handed over at once.
    #[error("{0} sockets at once are too many")]
    TooManySockets(usize),
}
