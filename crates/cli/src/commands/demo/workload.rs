// SPDX-License-Identifier: Apache-2.0
//! The program in the sandbox: it fetches what it is told to, as any program would, and says how
//! that went.
//!
//! It knows nothing of questions and answers: it looks a name up, connects, and sees a web page or
//! `Connection refused`.

use std::io::{self, BufRead as _, Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpStream, UdpSocket};
use std::str::FromStr as _;
use std::time::Duration;

use anyhow::{Context as _, bail};
use hickory_proto::op::{Message, Query};
use hickory_proto::rr::{Name, RecordType};
use terok_clearance::DisplayText;

use super::clock::now_us;
use super::protocol::{self, FetchAttempt, WorkloadConfinement, WorkloadMessage};
use super::topology::{self, FakeHost};
use crate::{CommandContext, CommandFailure, CommandStatus};

/// How long it waits for a name, a connection, a page. Nothing here takes a thousandth of that.
const FETCH_TIMEOUT: Duration = Duration::from_secs(3);

/// What the demo starts it with.
#[derive(Debug, Clone, Copy, clap::Args)]
pub struct Args {}

/// Fetches the hosts of the `world` by the numbers that it reads, one per line, until there are
/// no more.
pub fn perform(_args: Args, context: &CommandContext) -> Result<CommandStatus, CommandFailure> {
    // The operator sees which process asks: not this program's own name, which is the demo's.
    rustix::thread::set_name(c"demo-program").context("taking a name")?;
    let say = |what: WorkloadMessage| context.output.print(&protocol::encode_line(&what)?);
    say(WorkloadMessage::Ready(read_confinement()?))?;
    for line in io::stdin().lock().lines() {
        let line = line.context("reading what to fetch")?;
        let host = line
            .parse()
            .ok()
            .and_then(|n: usize| topology::HOSTS.get(n));
        let host = host.with_context(|| format!("there is no host {line:?}"))?;
        say(WorkloadMessage::Tried(fetch(host)))?;
    }
    Ok(CommandStatus::OK)
}

fn fetch(host: &FakeHost) -> FetchAttempt {
    let (mut address, mut lookup_us) = (Ok(host.address), None);
    if let Some(name) = host.name {
        let asked_at = now_us();
        address = query_dns(name, host.address.is_ipv6());
        lookup_us = Some(now_us() - asked_at);
    }
    let address = address.map(|ip| SocketAddr::new(ip, host.port));
    let connect_at = now_us();
    let result = match &address {
        Ok(address) => fetch_page(*address, &host.dest()).context("no page"),
        Err(error) => Err(anyhow::anyhow!("no address: {error:#}")),
    };
    FetchAttempt {
        done_at: now_us(),
        address: address.ok(),
        lookup_us,
        connect_at,
        result: match result {
            Ok(line) => Ok(DisplayText::new(&line)),
            Err(error) => Err(DisplayText::new(&error.root_cause().to_string())),
        },
    }
}

/// Asks the name server, without the C library: what that does depends on the machine's
/// configuration, and this is to work on every machine.
fn query_dns(name: &str, v6: bool) -> anyhow::Result<IpAddr> {
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
        return found.with_context(|| format!("{}", answer.metadata.response_code));
    }
}

/// Fetches the page and returns its first line.
fn fetch_page(address: SocketAddr, name: &str) -> anyhow::Result<String> {
    let mut stream = TcpStream::connect_timeout(&address, FETCH_TIMEOUT)?;
    stream.set_read_timeout(Some(FETCH_TIMEOUT))?;
    write!(
        stream,
        "GET / HTTP/1.1\r\nHost: {name}\r\nConnection: close\r\n\r\n"
    )?;
    let mut page = String::new();
    stream.take(64 * 1024).read_to_string(&mut page)?;
    let (head, body) = page.split_once("\r\n\r\n").context("half a page")?;
    if !head.starts_with("HTTP/1.1 200 ") {
        bail!("{}", head.lines().next().unwrap_or_default());
    }
    Ok(body.lines().next().unwrap_or_default().to_owned())
}

fn read_confinement() -> anyhow::Result<WorkloadConfinement> {
    let status = std::fs::read_to_string("/proc/self/status").context("reading what it may do")?;
    Ok(parse_confinement(&status))
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
    fn the_kernels_words_are_understood() {
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
