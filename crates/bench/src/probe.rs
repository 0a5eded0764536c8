// SPDX-License-Identifier: Apache-2.0
//! The probe: runs inside a sandbox, or beside it for the floor, and measures on command.
//!
//! A command is one line of words; the reply is one line, a JSON array of nanoseconds or bytes.

use std::fs;
use std::io::{BufRead as _, Read as _, Write as _};
use std::net::{
    Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream, ToSocketAddrs as _, UdpSocket,
};
use std::os::unix::net::{UnixListener, UnixStream};
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, connect, socket_with};
use rustix::time::{ClockId, clock_gettime};

use crate::latency_samples::SpanTimer;
use crate::many_hubs::raise_fd_limit;
use crate::report::print_text;

/// Bytes of one write or read of a bulk transfer.
pub(crate) const BULK_CHUNK: usize = 64 << 10;
/// The name that lookups ask for. No rule allows it, so no query leaves the machine.
pub(crate) const UNASKED_NAME: &str = "lookup.bench.test";
/// The time after which a missing reply fails the benchmark.
const REPLY_TIMEOUT: Duration = Duration::from_secs(5);

/// Measures what the lines of standard input ask for, until its end.
pub(crate) fn serve() -> anyhow::Result<()> {
    raise_fd_limit();
    let mut idle = Vec::new();
    for line in std::io::stdin().lock().lines() {
        let line = line.context("reading a command")?;
        let words: Vec<_> = line.split(' ').collect();
        let figures = match *words.as_slice() {
            ["hello"] => Vec::new(),
            ["connect", host, port, count] => {
                measure_connects(resolve(host, port)?, count.parse()?)?
            }
            ["connect-own-unix", count] => measure_own_unix(count.parse()?)?,
            ["connect-own-loopback", count] => measure_own_loopback(count.parse()?)?,
            ["timed-connect", host, port] => time_connect(resolve(host, port)?)?,
            ["upload", host, port, bytes] => measure_upload(resolve(host, port)?, bytes.parse()?)?,
            ["download", host, port] => measure_download(resolve(host, port)?)?,
            ["udp-echo", host, port, count] => {
                measure_echoes(resolve(host, port)?, count.parse()?)?
            }
            ["lookup", server, port, count] => {
                let server = match server {
                    "own" => resolve(&own_resolver()?, port)?,
                    other => resolve(other, port)?,
                };
                measure_lookups(server, count.parse()?)?
            }
            ["hold", host, port, count] => {
                let dest = resolve(host, port)?;
                for _ in 0..count.parse::<u32>()? {
                    idle.push(TcpStream::connect(dest).context("opening an idle connection")?);
                }
                Vec::new()
            }
            ["refused", host, port] => wait_for_refusal(resolve(host, port)?)?,
            ["flood", count] => flood(count.parse()?)?,
            ["connection-flood", count] => flood_connections(count.parse()?)?,
            _ => bail!("unknown command {line:?}"),
        };
        print_text(&format!("{}\n", serde_json::to_string(&figures)?));
    }
    Ok(())
}

/// Returns the time of the clock that all processes of the machine share, in nanoseconds.
pub(crate) fn monotonic_ns() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    let seconds = u64::try_from(now.tv_sec).unwrap_or_default();
    seconds * 1_000_000_000 + u64::try_from(now.tv_nsec).unwrap_or_default()
}

fn resolve(host: &str, port: &str) -> anyhow::Result<SocketAddr> {
    let dest = format!("{host}:{port}");
    let mut addresses = dest
        .to_socket_addrs()
        .with_context(|| format!("looking up {dest}"))?;
    addresses
        .find(SocketAddr::is_ipv4)
        .with_context(|| format!("{dest} has no IPv4 address"))
}

fn own_resolver() -> anyhow::Result<String> {
    let text = fs::read_to_string("/etc/resolv.conf").context("reading /etc/resolv.conf")?;
    let server = text
        .lines()
        .find_map(|line| line.strip_prefix("nameserver "));
    let server = server.context("/etc/resolv.conf names no server")?;
    Ok(server.trim().to_owned())
}

fn to_ns(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

fn measure_connects(dest: SocketAddr, count: u32) -> anyhow::Result<Vec<u64>> {
    (0..count)
        .map(|_| {
            let clock = SpanTimer::start();
            let connected = TcpStream::connect(dest);
            let took = clock.elapsed();
            connected.context("connecting")?;
            Ok(to_ns(took))
        })
        .collect()
}

/// Connects to a unix socket of this process, in a directory of its own.
fn measure_own_unix(count: u32) -> anyhow::Result<Vec<u64>> {
    let directory = tempfile::tempdir().context("making a directory")?;
    let path = directory.path().join("socket");
    let listener = UnixListener::bind(&path).context("listening at a path")?;
    (0..count)
        .map(|_| {
            let clock = SpanTimer::start();
            let connected = UnixStream::connect(&path);
            let took = clock.elapsed();
            connected.context("connecting to a path")?;
            listener.accept().context("accepting a connection")?;
            Ok(to_ns(took))
        })
        .collect()
}

/// Connects to a port of this process, on loopback.
fn measure_own_loopback(count: u32) -> anyhow::Result<Vec<u64>> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("listening")?;
    let dest = listener.local_addr().context("finding the own port")?;
    (0..count)
        .map(|_| {
            let took = measure_connects(dest, 1)?;
            listener.accept().context("accepting a connection")?;
            took.into_iter().next().context("nothing was measured")
        })
        .collect()
}

/// Connects once, and returns the times of start and end.
fn time_connect(dest: SocketAddr) -> anyhow::Result<Vec<u64>> {
    let start = monotonic_ns();
    let connected = TcpStream::connect(dest);
    let end = monotonic_ns();
    connected.context("connecting to what was asked about")?;
    Ok(vec![start, end])
}

fn measure_upload(dest: SocketAddr, bytes: u64) -> anyhow::Result<Vec<u64>> {
    let mut stream = TcpStream::connect(dest).context("connecting")?;
    let chunk = vec![7; BULK_CHUNK];
    let clock = SpanTimer::start();
    let mut left = bytes;
    while left > 0 {
        let now = BULK_CHUNK.min(usize::try_from(left)?);
        let part = chunk.get(..now).unwrap_or(&chunk);
        stream.write_all(part).context("sending")?;
        left -= u64::try_from(now)?;
    }
    stream
        .shutdown(Shutdown::Write)
        .context("ending the transfer")?;
    let mut received = [0; 8];
    stream
        .read_exact(&mut received)
        .context("reading the receipt")?;
    let took = clock.elapsed();
    let received = u64::from_be_bytes(received);
    ensure!(received == bytes, "{received} of {bytes} bytes arrived");
    Ok(vec![bytes, to_ns(took)])
}

fn measure_download(dest: SocketAddr) -> anyhow::Result<Vec<u64>> {
    let mut stream = TcpStream::connect(dest).context("connecting")?;
    let mut buffer = vec![0; BULK_CHUNK];
    let clock = SpanTimer::start();
    let mut bytes = 0;
    loop {
        match stream.read(&mut buffer).context("receiving")? {
            0 => break,
            read => bytes += u64::try_from(read)?,
        }
    }
    Ok(vec![bytes, to_ns(clock.elapsed())])
}

fn connect_udp(dest: SocketAddr) -> anyhow::Result<UdpSocket> {
    let socket = UdpSocket::bind("0.0.0.0:0").context("creating a socket")?;
    socket.connect(dest).context("connecting a socket")?;
    socket
        .set_read_timeout(Some(REPLY_TIMEOUT))
        .context("setting a time limit")?;
    Ok(socket)
}

fn measure_echoes(dest: SocketAddr, count: u32) -> anyhow::Result<Vec<u64>> {
    let socket = connect_udp(dest)?;
    let mut buffer = [0; 64];
    (0..count)
        .map(|number| {
            let clock = SpanTimer::start();
            socket.send(&number.to_be_bytes()).context("sending")?;
            let read = socket.recv(&mut buffer).context("waiting for an echo")?;
            let took = clock.elapsed();
            let echo = buffer.get(..read);
            ensure!(echo == Some(&number.to_be_bytes()), "another echo came");
            Ok(to_ns(took))
        })
        .collect()
}

fn measure_lookups(server: SocketAddr, count: u16) -> anyhow::Result<Vec<u64>> {
    let socket = connect_udp(server)?;
    let mut reply = [0; 512];
    (0..count)
        .map(|id| {
            let query = build_query(id);
            let clock = SpanTimer::start();
            socket.send(&query).context("sending a query")?;
            let read = socket.recv(&mut reply).context("waiting for a reply")?;
            let took = clock.elapsed();
            let [high, low] = id.to_be_bytes();
            ensure!(
                matches!(reply.get(..read), Some(&[a, b, _, flags, _, _, 0, 1, ..])
                    if a == high && b == low && flags.is_multiple_of(16)),
                "a lookup was not answered with one address"
            );
            Ok(to_ns(took))
        })
        .collect()
}

/// Builds a DNS query for the address of [`UNASKED_NAME`].
fn build_query(id: u16) -> Vec<u8> {
    let mut query = id.to_be_bytes().to_vec();
    // Recursion desired; one question.
    query.extend([1, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
    for label in UNASKED_NAME.split('.') {
        query.extend(u8::try_from(label.len()));
        query.extend(label.as_bytes());
    }
    // The root; type A; class IN.
    query.extend([0, 0, 1, 0, 1]);
    query
}

/// Connects once; an error is expected.
fn wait_for_refusal(dest: SocketAddr) -> anyhow::Result<Vec<u64>> {
    ensure!(
        TcpStream::connect(dest).is_err(),
        "{dest} is open, although nothing allows it"
    );
    Ok(Vec::new())
}

/// Returns the destination with this number, below 2^24, in a network reserved for documentation.
fn unallowed_dest(number: u32) -> (Ipv4Addr, u16) {
    let [_, high, middle, low] = number.to_be_bytes();
    let [a, b, c] = if middle.is_multiple_of(2) {
        [203, 0, 113]
    } else {
        [198, 51, 100]
    };
    let port = 10_000 + u16::from_be_bytes([high, middle / 2]);
    (Ipv4Addr::new(a, b, c, low), port)
}

/// Sends first packets, each to another destination, and returns how many were sent.
fn flood(count: u32) -> anyhow::Result<Vec<u64>> {
    let socket = UdpSocket::bind("0.0.0.0:0").context("creating a socket")?;
    let mut sent = 0;
    for number in 0..count {
        // An error is an earlier refusal, or a full queue.
        sent += u64::from(socket.send_to(b"x", unallowed_dest(number)).is_ok());
    }
    Ok(vec![sent])
}

/// Begins TCP connections, each to another destination, and ends each at once. Returns how many
/// were begun.
fn flood_connections(count: u32) -> anyhow::Result<Vec<u64>> {
    let mut begun = 0;
    for number in 0..count {
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        let socket = socket_with(AddressFamily::INET, SocketType::STREAM, flags, None);
        let socket = socket.context("creating a socket")?;
        let result = connect(&socket, &SocketAddr::from(unallowed_dest(number)));
        begun += u64::from(result == Err(Errno::INPROGRESS));
    }
    Ok(vec![begun])
}
