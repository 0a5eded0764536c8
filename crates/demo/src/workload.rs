// SPDX-License-Identifier: Apache-2.0
//! The program in the sandbox: fetches the requested hosts and reports the results.
//!
//! The program does not know about questions and answers. Like any other program, it looks up a
//! name, connects, and receives a page or `Connection refused`.

use std::io::{self, BufRead as _, Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpStream, UdpSocket};
use std::str::FromStr as _;
use std::time::Duration;

use hickory_proto::op::{Message, Query, ResponseCode};
use hickory_proto::rr::{Name, RecordType};
use hickory_proto::serialize::binary::DecodeError;
use terok_clearance::DisplayText;

use crate::clock::now_us;
use crate::error::ChildMessageError;
use crate::protocol::{FetchAttempt, WorkloadConfinement, WorkloadMessage, send_message};
use crate::topology::{self, FakeHost};

/// Maximum duration of a lookup, a connection attempt and a read; each takes about a millisecond.
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
    #[error(transparent)]
    Decode(#[from] DecodeError),
    #[error("{0}")]
    NoAddress(ResponseCode),
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
        let number: Option<usize> = line.parse().ok();
        let Some(host) = number.and_then(|number| topology::HOSTS.get(number)) else {
            return Err(DemoWorkloadError::UnknownHost(line));
        };
        send_message(&WorkloadMessage::Tried(fetch(host)))?;
    }
    Ok(())
}

fn fetch(host: &FakeHost) -> FetchAttempt {
    let (mut address, mut lookup_us) = (Ok(host.address), None);
    if let Some(name) = host.name {
        let asked_at = now_us();
        address = query_dns(name, host.address.is_ipv6())
            .map_err(|error| FetchError::Lookup(Box::new(error)));
        lookup_us = Some(now_us() - asked_at);
    }
    let address = address.map(|ip| SocketAddr::new(ip, host.port));
    let connect_at = now_us();
    let (address, result) = match address {
        Ok(address) => (Some(address), fetch_page(address, &host.dest())),
        Err(error) => (None, Err(error)),
    };
    FetchAttempt {
        done_at: now_us(),
        address,
        lookup_us,
        connect_at,
        result: match result {
            Ok(line) => Ok(DisplayText::new(&line)),
            Err(error) => Err(DisplayText::new(&error.to_string())),
        },
    }
}

/// Queries the name server directly: the C library's resolver depends on the machine's
/// configuration.
fn query_dns(name: &str, v6: bool) -> Result<IpAddr, FetchError> {
    let any = match topology::RESOLVER_ADDRESS {
        IpAddr::V4(_) => "0.0.0.0:0",
        IpAddr::V6(_) => "[::]:0",
    };
    let socket = UdpSocket::bind(any)?;
    socket.set_read_timeout(Some(FETCH_TIMEOUT))?;
    socket.connect((topology::RESOLVER_ADDRESS, topology::DNS_PORT))?;
    let kind = if v6 { RecordType::AAAA } else { RecordType::A };
    let mut query = Message::query();
    query.metadata.recursion_desired = true;
    query.add_query(Query::query(Name::from_str(name)?, kind));
    socket.send(&query.to_vec()?)?;
    let mut packet = [0; 1500];
    loop {
        let length = socket.recv(&mut packet)?;
        let answer = Message::from_vec(packet.get(..length).unwrap_or_default())?;
        if answer.metadata.id != query.metadata.id {
            continue;
        }
        let found = answer
            .answers
            .iter()
            .find_map(|record| record.data.ip_addr());
        return found.ok_or(FetchError::NoAddress(answer.metadata.response_code));
    }
}

/// Fetches the page and returns its first line.
fn fetch_page(address: SocketAddr, name: &str) -> Result<String, FetchError> {
    let mut stream = TcpStream::connect_timeout(&address, FETCH_TIMEOUT)?;
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
