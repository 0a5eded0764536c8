// SPDX-License-Identifier: Apache-2.0
//! The program in the sandbox: fetches the requested hosts and reports the results.
//!
//! The program does not know about questions and answers. Like any other program, it looks up a
//! name, connects, waits, and receives a page or `Connection refused`.

use std::io::{self, BufRead as _, Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream, UdpSocket};
use std::time::Duration;

use hickory_proto::op::ResponseCode;
use hickory_proto::rr::RecordType;
use netns::gateway::GATEWAY_V4;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::{Errno, retry_on_intr};
use rustix::net::{AddressFamily, SocketFlags, SocketType};
use terok_clearance::DisplayText;

use crate::clock::now_us;
use crate::dns_message::{AddressQuery, MAX_ANSWER_BYTES};
use crate::error::ChildMessageError;
use crate::protocol::{
    FetchAttempt, GIVE_UP_COMMAND, SentPacket, WorkloadConfinement, WorkloadMessage, send_message,
};
use crate::topology::{self, FakeHost};

/// Maximum duration of a lookup and of a read; each takes about a millisecond. A connection waits
/// for its answer as long as the kernel lets it.
const FETCH_TIMEOUT: Duration = Duration::from_secs(3);

/// A failure of the program in the sandbox, apart from its fetches.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DemoWorkloadError {
    /// The process could not be named.
    #[error("cannot name the process")]
    SetName(#[source] io::Error),
    /// The privileges could not be read.
    #[error("cannot read /proc/self/status")]
    ReadStatus(#[source] io::Error),
    /// A command of the demo could not be read.
    #[error("cannot read the number of a host from standard input")]
    ReadCommand(#[source] io::Error),
    /// A command of the demo names no host.
    #[error("there is no host {0:?}")]
    UnknownHost(String),
    /// A message to the demo could not be sent.
    #[error("cannot send a message to the demo")]
    Send(#[from] ChildMessageError),
}

/// The result of a failed fetch, as the demo shows it.
#[derive(Debug, thiserror::Error)]
enum FetchError {
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error("no address: {0}")]
    Lookup(Box<Self>),
    #[error(transparent)]
    Name(#[from] hickory_proto::ProtoError),
    #[error("{0}")]
    NoAddress(ResponseCode),
    #[error("the program gave up waiting")]
    GaveUp,
    #[error("the page is incomplete")]
    IncompletePage,
    #[error("{0}")]
    HttpStatus(String),
}

/// Reads the numbers of hosts from standard input, one per line, and fetches each host, until the
/// input ends. Renames the calling thread.
pub fn run_demo_workload() -> Result<(), DemoWorkloadError> {
    // The operator sees the name of the blocked process; the default is the name of the demo.
    rustix::thread::set_name(c"demo-program")
        .map_err(|errno| DemoWorkloadError::SetName(errno.into()))?;
    let status = std::fs::read_to_string("/proc/self/status");
    let status = status.map_err(DemoWorkloadError::ReadStatus)?;
    send_message(&WorkloadMessage::Ready(parse_confinement(&status)))?;
    for line in io::stdin().lock().lines() {
        let line = line.map_err(DemoWorkloadError::ReadCommand)?;
        if line == GIVE_UP_COMMAND {
            continue; // the attempt has ended
        }
        let number: Option<usize> = line.parse().ok();
        let Some(host) = number.and_then(|number| topology::HOSTS.get(number)) else {
            return Err(DemoWorkloadError::UnknownHost(line));
        };
        send_message(&WorkloadMessage::Tried(fetch(host)?))?;
    }
    Ok(())
}

fn fetch(host: &FakeHost) -> Result<FetchAttempt, ChildMessageError> {
    let (mut address, mut lookup_us) = (Ok(host.address), None);
    if let Some(name) = host.name {
        let asked_at = now_us();
        address = query_dns(name).map_err(|error| FetchError::Lookup(Box::new(error)));
        lookup_us = Some(now_us() - asked_at);
    }
    let (mut sent, mut connected_at) = (None, None);
    let result = address.map(|ip| SocketAddr::new(ip, host.port));
    let result = match result {
        Ok(address) => connect(address, lookup_us, &mut sent)?.and_then(|stream| {
            connected_at = Some(now_us());
            fetch_page(stream, &host.dest())
        }),
        Err(error) => Err(error),
    };
    Ok(FetchAttempt {
        done_at: now_us(),
        sent,
        connected_at,
        result: match result {
            Ok(line) => Ok(DisplayText::new(&line)),
            Err(error) => Err(DisplayText::new(&error.to_string())),
        },
    })
}

/// Queries the name server directly: the C library's resolver depends on the machine's
/// configuration.
fn query_dns(name: &str) -> Result<IpAddr, FetchError> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
    socket.set_read_timeout(Some(FETCH_TIMEOUT))?;
    socket.connect((GATEWAY_V4, topology::DNS_PORT))?;
    let query = AddressQuery::new(name, RecordType::A)?;
    socket.send(&query.encode()?)?;
    let mut datagram = [0; MAX_ANSWER_BYTES];
    loop {
        let length = socket.recv(&mut datagram)?;
        let datagram = datagram.get(..length).unwrap_or_default();
        match query.parse_answer(datagram) {
            Some(Ok(addresses)) => {
                let first = addresses.first().copied();
                return first.ok_or(FetchError::NoAddress(ResponseCode::NoError));
            }
            Some(Err(code)) => return Err(FetchError::NoAddress(code)),
            None => {}
        }
    }
}

/// Connects, and reports the packet as soon as it is sent. Standard input ends the wait.
fn connect(
    address: SocketAddr,
    lookup_us: Option<u64>,
    sent: &mut Option<SentPacket>,
) -> Result<Result<TcpStream, FetchError>, ChildMessageError> {
    let family = match address {
        SocketAddr::V4(_) => AddressFamily::INET,
        SocketAddr::V6(_) => AddressFamily::INET6,
    };
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = match rustix::net::socket_with(family, SocketType::STREAM, flags, None) {
        Ok(socket) => socket,
        Err(errno) => return Ok(Err(io::Error::from(errno).into())),
    };
    let at = now_us();
    let begun = rustix::net::connect(&socket, &address);
    let packet = SentPacket {
        address,
        lookup_us,
        at,
    };
    *sent = Some(packet);
    send_message(&WorkloadMessage::Connecting(packet))?;
    let connected = || -> Result<TcpStream, FetchError> {
        match begun {
            Ok(()) | Err(Errno::INPROGRESS) => {}
            Err(errno) => return Err(io::Error::from(errno).into()),
        }
        let stdin = io::stdin();
        let mut both = [
            PollFd::new(&socket, PollFlags::OUT),
            PollFd::new(&stdin, PollFlags::IN),
        ];
        retry_on_intr(|| poll(&mut both, None)).map_err(io::Error::from)?;
        if both[0].revents().is_empty() {
            return Err(FetchError::GaveUp);
        }
        let ended = rustix::net::sockopt::socket_error(&socket).map_err(io::Error::from)?;
        ended.map_err(io::Error::from)?;
        let stream = TcpStream::from(socket);
        stream.set_nonblocking(false)?;
        Ok(stream)
    };
    Ok(connected())
}

/// Fetches the page and returns its first line.
fn fetch_page(mut stream: TcpStream, name: &str) -> Result<String, FetchError> {
    stream.set_read_timeout(Some(FETCH_TIMEOUT))?;
    write!(
        stream,
        "GET / HTTP/1.1\r\nHost: {name}\r\nConnection: close\r\n\r\n"
    )?;
    let mut page = String::new();
    stream.take(64 * 1024).read_to_string(&mut page)?;
    let (head, body) = page
        .split_once("\r\n\r\n")
        .ok_or(FetchError::IncompletePage)?;
    if !head.starts_with("HTTP/1.1 200 ") {
        let status = head.lines().next().unwrap_or_default();
        return Err(FetchError::HttpStatus(status.to_owned()));
    }
    Ok(body.lines().next().unwrap_or_default().to_owned())
}

fn parse_confinement(status: &str) -> WorkloadConfinement {
    let field = |name: &str| {
        let mut lines = status.lines();
        lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(":\t"))
    };
    let number = |name| {
        let first = field(name).and_then(|value| value.split('\t').next());
        first
            .and_then(|value| value.parse().ok())
            .unwrap_or(u32::MAX)
    };
    WorkloadConfinement {
        pid: number("Pid"),
        uid: number("Uid"),
        capabilities: field("CapEff").unwrap_or("unknown").into(),
        no_new_privileges: field("NoNewPrivs") == Some("1"),
        seccomp: field("Seccomp") == Some("2"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_status_file_is_parsed() {
        let status = "Name:\tx\nPid:\t7\nUid:\t1000\t1000\t1000\t1000\n\
                      CapEff:\t0000000000000000\nNoNewPrivs:\t1\nSeccomp:\t2\n";
        let confined = parse_confinement(status);
        assert_eq!((confined.pid, confined.uid), (7, 1000));
        assert_eq!(confined.capabilities.as_str(), "0000000000000000");
        assert!(confined.no_new_privileges && confined.seccomp);
        let loose = parse_confinement("Pid:\t7\nNoNewPrivs:\t0\nSeccomp:\t0\n");
        assert!(!loose.no_new_privileges && !loose.seccomp);
        assert_eq!(loose.capabilities.as_str(), "unknown");
    }
}
