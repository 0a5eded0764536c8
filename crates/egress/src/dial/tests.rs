// SPDX-License-Identifier: Apache-2.0

use std::collections::HashMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use rustix::net::{AddressFamily, SocketType};
use tokio::net::TcpListener;
use tokio::time::Instant;

use super::*;

/// Sockets that fail for some addresses, and a record of what was asked for.
#[derive(Default)]
struct FakeSockets {
    errors: HashMap<SocketAddr, Errno>,
    asked: Mutex<Vec<SocketAddr>>,
    /// The largest number of descriptors that were open when a socket was asked for.
    peak: AtomicUsize,
}

impl FakeSockets {
    fn failing(errors: &[(&str, Errno)]) -> Self {
        let errors = errors
            .iter()
            .map(|(address, errno)| (address.parse().unwrap(), *errno))
            .collect();
        Self {
            errors,
            ..Self::default()
        }
    }

    fn check(&self, remote: SocketAddr) -> io::Result<()> {
        self.asked.lock().unwrap().push(remote);
        self.peak.fetch_max(open_descriptors(), Ordering::Relaxed);
        match self.errors.get(&remote) {
            Some(errno) => Err((*errno).into()),
            None => Ok(()),
        }
    }
}

impl DialSockets for FakeSockets {
    fn tcp_socket(&self, remote: SocketAddr) -> io::Result<TcpSocket> {
        self.check(remote)?;
        HostSockets.tcp_socket(remote)
    }

    fn udp_socket(&self, remote: SocketAddr) -> io::Result<UdpSocket> {
        self.check(remote)?;
        HostSockets.udp_socket(remote)
    }
}

/// A listener whose backlog is full: a SYN to it is never answered.
struct SilentServer {
    address: SocketAddr,
    _listener: std::os::fd::OwnedFd,
    _first: std::net::TcpStream,
}

impl SilentServer {
    fn new() -> Self {
        let listener = rustix::net::socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
        rustix::net::bind(&listener, &SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
        rustix::net::listen(&listener, 0).unwrap();
        let address = SocketAddr::try_from(rustix::net::getsockname(&listener).unwrap()).unwrap();
        let first = std::net::TcpStream::connect(address).unwrap();
        Self {
            address,
            _listener: listener,
            _first: first,
        }
    }
}

async fn live_server() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

/// A port of loopback on which nothing listens: held by a bound socket.
fn closed_port() -> (TcpSocket, SocketAddr) {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let address = socket.local_addr().unwrap();
    (socket, address)
}

fn addresses(texts: &[&str]) -> Vec<SocketAddr> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

#[test]
fn families_alternate_without_duplicates() {
    for (input, expected) in [
        (&[][..], &[][..]),
        (&["10.0.0.1:1", "10.0.0.2:1"], &["10.0.0.1:1", "10.0.0.2:1"]),
        (
            &[
                "[::1]:1",
                "[::2]:1",
                "10.0.0.1:1",
                "10.0.0.2:1",
                "10.0.0.3:1",
            ],
            &[
                "[::1]:1",
                "10.0.0.1:1",
                "[::2]:1",
                "10.0.0.2:1",
                "10.0.0.3:1",
            ],
        ),
        (
            &["10.0.0.1:1", "10.0.0.1:1", "[::1]:1"],
            &["10.0.0.1:1", "[::1]:1"],
        ),
    ] {
        assert_eq!(interleave(addresses(input)), addresses(expected));
    }
}

#[tokio::test]
async fn first_success_is_used() {
    let (listener, address) = live_server().await;
    let stream = dial_tcp(&HostSockets, vec![address]).await.unwrap();
    assert_eq!(stream.peer_addr().unwrap(), address);
    let (_, peer) = listener.accept().await.unwrap();
    assert_eq!(peer, stream.local_addr().unwrap());
}

#[tokio::test(start_paused = true)]
async fn dead_first_address_costs_one_delay() {
    let silent = SilentServer::new();
    let (_listener, address) = live_server().await;
    let start = Instant::now();
    let stream = dial_tcp(&HostSockets, vec![silent.address, address])
        .await
        .unwrap();
    assert_eq!(stream.peer_addr().unwrap(), address);
    assert!(start.elapsed() >= ATTEMPT_DELAY, "{:?}", start.elapsed());
}

#[tokio::test(start_paused = true)]
async fn failed_attempt_starts_the_next_at_once() {
    let (_held, closed) = closed_port();
    let (_listener, address) = live_server().await;
    let sockets = FakeSockets::failing(&[("[2001:db8::1]:80", Errno::NETUNREACH)]);
    let start = Instant::now();
    let candidates = vec!["[2001:db8::1]:80".parse().unwrap(), closed, address];
    let stream = dial_tcp(&sockets, candidates).await.unwrap();
    assert_eq!(stream.peer_addr().unwrap(), address);
    assert_eq!(start.elapsed(), Duration::ZERO);
    assert_eq!(sockets.asked.lock().unwrap().len(), 3);
}

#[tokio::test(start_paused = true)]
async fn silence_times_out() {
    let silent = SilentServer::new();
    let start = Instant::now();
    let error = dial_tcp(&HostSockets, vec![silent.address])
        .await
        .unwrap_err();
    assert!(matches!(error, DialError::TimedOut), "{error:?}");
    let elapsed = start.elapsed();
    assert!((DIAL_TIMEOUT..DIAL_TIMEOUT + Duration::from_millis(5)).contains(&elapsed));
}

#[tokio::test(start_paused = true)]
async fn many_dead_addresses_take_a_bounded_number_of_descriptors() {
    let silent: Vec<_> = (0..MAX_ATTEMPTS + 8).map(|_| SilentServer::new()).collect();
    let (_listener, address) = live_server().await;
    let mut candidates: Vec<_> = silent.iter().map(|server| server.address).collect();
    candidates.push(address);
    let before = open_descriptors();
    let sockets = FakeSockets::default();
    let stream = dial_tcp(&sockets, candidates).await.unwrap();
    assert_eq!(stream.peer_addr().unwrap(), address);
    let peak = sockets.peak.load(Ordering::Relaxed) - before;
    assert!(peak <= MAX_ATTEMPTS, "{peak} attempts at once");
    assert_eq!(open_descriptors(), before + 1, "the losers are closed");
}

fn open_descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}

#[tokio::test]
async fn most_telling_error_is_reported() {
    const FIRST: &str = "10.0.0.1:1";
    const SECOND: &str = "10.0.0.2:1";
    for (first, second, expected) in [
        (Errno::NETUNREACH, Errno::CONNREFUSED, Errno::CONNREFUSED),
        (Errno::CONNREFUSED, Errno::TIMEDOUT, Errno::CONNREFUSED),
        (Errno::TIMEDOUT, Errno::HOSTUNREACH, Errno::HOSTUNREACH),
        (Errno::TIMEDOUT, Errno::NETUNREACH, Errno::TIMEDOUT),
        (Errno::TIMEDOUT, Errno::PERM, Errno::ACCESS),
        (Errno::NETUNREACH, Errno::NETUNREACH, Errno::NETUNREACH),
        (Errno::MFILE, Errno::NETUNREACH, Errno::NETUNREACH),
        (Errno::MFILE, Errno::MFILE, Errno::CONNREFUSED),
    ] {
        let sockets = FakeSockets::failing(&[(FIRST, first), (SECOND, second)]);
        let error = dial_tcp(&sockets, addresses(&[FIRST, SECOND]))
            .await
            .unwrap_err();
        assert_eq!(error.errno(), expected, "{first:?} {second:?}");
        let error = connect_udp(&sockets, addresses(&[FIRST, SECOND])).unwrap_err();
        assert_eq!(error.errno(), expected, "{first:?} {second:?}");
    }
}

#[tokio::test]
async fn real_refusal_and_no_candidates() {
    let (_held, closed) = closed_port();
    let error = dial_tcp(&HostSockets, vec![closed]).await.unwrap_err();
    assert!(matches!(error, DialError::Refused), "{error:?}");
    let error = dial_tcp(&HostSockets, Vec::new()).await.unwrap_err();
    assert!(matches!(error, DialError::NoCandidates), "{error:?}");
}

#[tokio::test]
async fn descriptor_limit_refuses_at_once() {
    let sockets = FakeSockets::failing(&[("10.0.0.1:1", Errno::MFILE)]);
    let error = dial_tcp(&sockets, addresses(&["10.0.0.1:1"]))
        .await
        .unwrap_err();
    assert!(matches!(error, DialError::TooManyOpenFiles), "{error:?}");
    assert_eq!(error.errno(), Errno::CONNREFUSED);
}

#[tokio::test]
async fn udp_takes_the_first_reachable_candidate() {
    let server = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = server.local_addr().unwrap();
    let sockets = FakeSockets::failing(&[("[2001:db8::1]:53", Errno::NETUNREACH)]);
    let candidates = vec!["[2001:db8::1]:53".parse().unwrap(), address];
    let socket = connect_udp(&sockets, candidates).unwrap();
    assert_eq!(socket.peer_addr().unwrap(), address);
    socket.send(b"ping").await.unwrap();
    let mut buffer = [0; 8];
    assert_eq!(server.recv(&mut buffer).unwrap(), 4);
}

#[tokio::test]
async fn losers_are_closed_after_success() {
    let (first, first_address) = live_server().await;
    let before = open_descriptors();
    let stream = dial_tcp(&HostSockets, vec![first_address, first_address])
        .await
        .unwrap();
    assert_eq!(open_descriptors(), before + 1);
    drop((stream, first));
}
