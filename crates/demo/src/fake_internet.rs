// SPDX-License-Identifier: Apache-2.0
//! The simulated internet: a process in a network namespace of its own, with a name server, and a
//! web server at every address of the topology.
//!
//! No link leads there from the sandbox or from this machine's network. The supervisor reaches the
//! servers because it opens its sockets in this namespace.
//!
//! The process ends when standard input ends, and therefore never outlives the demo.

use std::ffi::OsStr;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::AsFd as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use hickory_proto::op::{Message, MessageType, OpCode, ResponseCode};
use hickory_proto::rr::rdata::{A, AAAA};
use hickory_proto::rr::{DNSClass, RData, Record, RecordType};
use netns::link::{IpNetwork, LinkError, LinkNameError};
use netns::{PollableFd, ProcessHandle, SiblingNetnsError, enter_sibling_netns};
use rustix::process::{DumpableBehavior, set_dumpable_behavior};
use terok_clearance::{DisplayText, error_chain};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpSocket, TcpStream, UdpSocket};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::demo::DIRECTORY_PREFIX;
use crate::error::ChildMessageError;
use crate::protocol::{InternetMessage, send_message};
use crate::topology;

/// Maximum number of open connections; more wait in the kernel.
const MAX_CONNECTIONS: usize = 64;
/// Maximum duration of a connection.
const CONNECTION_TIMEOUT: Duration = Duration::from_secs(5);
/// Time to live of a DNS answer, in seconds.
const DNS_TTL_SECONDS: u32 = 60;

/// A failure of the simulated internet.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FakeInternetError {
    /// The sandbox's process was not found.
    #[error("cannot find the sandbox's process")]
    FindSandbox(#[source] io::Error),
    /// A network namespace could not be created and entered.
    #[error("cannot enter a network namespace of its own")]
    Enter(#[from] SiblingNetnsError),
    /// An address could not be configured.
    #[error("cannot configure the addresses of the simulated internet")]
    Link(#[from] LinkError),
    /// A link name is invalid.
    #[error(transparent)]
    LinkName(#[from] LinkNameError),
    /// The demo could not be given access to the network namespace.
    #[error("cannot share the network namespace with the demo")]
    Share(#[source] io::Error),
    /// The runtime could not be started.
    #[error("cannot start the runtime")]
    Runtime(#[source] io::Error),
    /// A server's socket could not be opened.
    #[error("cannot listen on {0}")]
    Listen(SocketAddr, #[source] io::Error),
    /// A DNS query could not be read.
    #[error("cannot read a DNS query")]
    ReadQuery(#[source] io::Error),
    /// A connection could not be accepted.
    #[error("cannot accept a connection")]
    Accept(#[source] io::Error),
    /// Standard input could not be watched.
    #[error("cannot watch standard input")]
    WatchStdin(#[source] io::Error),
    /// A message to the demo could not be sent.
    #[error("cannot send a message to the demo")]
    Send(#[from] ChildMessageError),
    /// A server ended.
    #[error("a server ended")]
    ServerEnded,
}

/// Serves in a network namespace owned by the user namespace of the sandbox of process `pid`, until
/// standard input ends, then removes `directory` in case a killed demo left it behind.
///
/// An error is also reported to the demo. The call changes the namespaces of the calling process,
/// which must be single-threaded.
pub fn run_fake_internet(pid: u32, directory: &Path) -> Result<(), FakeInternetError> {
    let served = serve(pid);
    if let Err(error) = &served {
        let error = error_chain(error);
        // Fails if the demo has ended.
        drop(send_message(&InternetMessage::Failed { error }));
    }
    remove_stale_dir(directory);
    served
}

fn serve(pid: u32) -> Result<(), FakeInternetError> {
    let without_v6 = enter_internet_netns(pid)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .enable_time()
        .build()
        .map_err(FakeInternetError::Runtime)?;
    runtime.block_on(async {
        let servers = FakeServers::bind(without_v6.is_none())?;
        send_message(&InternetMessage::Ready { without_v6 })?;
        tokio::select! {
            // Standard input carries no data: it becomes readable when the demo has ended.
            ended = wait_for_stdin_close() => ended.map_err(FakeInternetError::WatchStdin),
            served = servers.serve() => served,
        }
    })
}

/// Removes the directory of a killed demo.
fn remove_stale_dir(directory: &Path) {
    let name = directory.file_name().and_then(OsStr::to_str);
    if name.is_some_and(|name| name.starts_with(DIRECTORY_PREFIX)) {
        // Usually missing: a demo that is not killed removes the directory.
        drop(std::fs::remove_dir_all(directory));
    }
}

async fn wait_for_stdin_close() -> io::Result<()> {
    let stdin = rustix::io::fcntl_dupfd_cloexec(io::stdin().as_fd(), 0)?;
    PollableFd::new_readable(stdin)?.wait_readable().await
}

/// Enters a new network namespace, where every address of the topology is on `lo`. Returns the
/// reason if IPv6 is missing.
fn enter_internet_netns(pid: u32) -> Result<Option<DisplayText>, FakeInternetError> {
    let sandbox = ProcessHandle::open(pid).map_err(FakeInternetError::FindSandbox)?;
    let mut links = enter_sibling_netns(&sandbox)?;
    // The demo opens a file of this process in /proc, which a process with new rights forbids by
    // default.
    set_dumpable_behavior(DumpableBehavior::Dumpable)
        .map_err(|errno| FakeInternetError::Share(errno.into()))?;
    let lo = links.find_link(&"lo".parse()?)?;
    links.bring_up(lo)?;
    let (v4, v6): (Vec<_>, Vec<_>) = topology::HOSTS
        .iter()
        .map(|host| host.address)
        .chain([topology::RESOLVER_ADDRESS])
        .partition(IpAddr::is_ipv4);
    let mut add = |address| links.add_address(lo, IpNetwork::host(address));
    v4.into_iter().try_for_each(&mut add)?;
    // Without IPv6 in the kernel, the demo skips the IPv6 hosts.
    let without = v6.into_iter().try_for_each(&mut add).err();
    Ok(without.map(|error| DisplayText::new(&format!("{error}: {}", error.errno))))
}

/// The name server and the web servers, bound.
struct FakeServers {
    dns_socket: UdpSocket,
    http_listeners: Vec<TcpListener>,
}

impl FakeServers {
    fn bind(v6: bool) -> Result<Self, FakeInternetError> {
        let resolver = SocketAddr::new(topology::RESOLVER_ADDRESS, topology::DNS_PORT);
        let bind_dns = || {
            let socket = std::net::UdpSocket::bind(resolver)?;
            socket.set_nonblocking(true)?;
            UdpSocket::from_std(socket)
        };
        let dns_socket = bind_dns().map_err(|error| FakeInternetError::Listen(resolver, error))?;
        let mut web = Vec::new();
        for port in topology::HTTP_PORTS {
            web.push(bind_http_listener(IpAddr::V4(Ipv4Addr::UNSPECIFIED), port)?);
            if v6 {
                web.push(bind_http_listener(IpAddr::V6(Ipv6Addr::UNSPECIFIED), port)?);
            }
        }
        Ok(Self {
            dns_socket,
            http_listeners: web,
        })
    }

    async fn serve(self) -> Result<(), FakeInternetError> {
        let mut servers = JoinSet::new();
        let permits = Arc::new(Semaphore::new(MAX_CONNECTIONS));
        servers.spawn(serve_dns(self.dns_socket));
        for listener in self.http_listeners {
            servers.spawn(serve_http(listener, Arc::clone(&permits)));
        }
        match servers.join_next().await {
            Some(Ok(ended)) => ended,
            Some(Err(_)) | None => Err(FakeInternetError::ServerEnded),
        }
    }
}

fn bind_http_listener(ip: IpAddr, port: u16) -> Result<TcpListener, FakeInternetError> {
    let bind = || {
        let socket = match ip {
            IpAddr::V4(_) => TcpSocket::new_v4()?,
            IpAddr::V6(_) => {
                let socket = TcpSocket::new_v6()?;
                rustix::net::sockopt::set_ipv6_v6only(&socket, true)?;
                socket
            }
        };
        socket.set_reuseaddr(true)?;
        socket.bind(SocketAddr::new(ip, port))?;
        socket.listen(128)
    };
    bind().map_err(|error| FakeInternetError::Listen(SocketAddr::new(ip, port), error))
}

async fn serve_dns(socket: UdpSocket) -> Result<(), FakeInternetError> {
    let mut packet = [0; 1500];
    loop {
        let (length, from) = socket
            .recv_from(&mut packet)
            .await
            .map_err(FakeInternetError::ReadQuery)?;
        let query = packet.get(..length).unwrap_or_default();
        if let Some((answer, name)) = answer_query(query) {
            if let Some(name) = name {
                send_message(&InternetMessage::LookedUp { name })?;
            }
            // Fails if the client has closed its socket.
            drop(socket.send_to(&answer, from).await);
        }
    }
}

/// Returns the answer to a query, and the name in it; `None` if the packet is not a query.
fn answer_query(query: &[u8]) -> Option<(Vec<u8>, Option<DisplayText>)> {
    let query = Message::from_vec(query).ok()?;
    if query.metadata.message_type != MessageType::Query {
        return None;
    }
    let mut answer = Message::response(query.metadata.id, query.metadata.op_code);
    answer.metadata.recursion_desired = query.metadata.recursion_desired;
    answer.metadata.recursion_available = true;
    answer.add_queries(query.queries.clone());
    let question = match query.queries.as_slice() {
        [one] if query.metadata.op_code == OpCode::Query && one.query_class() == DNSClass::IN => {
            one
        }
        _ => {
            answer.metadata.response_code = ResponseCode::NotImp;
            return Some((answer.to_vec().ok()?, None));
        }
    };
    let name = question.name().to_ascii().to_ascii_lowercase();
    let name = name.trim_end_matches('.');
    match topology::lookup_addresses(name) {
        None => answer.metadata.response_code = ResponseCode::NXDomain,
        Some(addresses) => {
            let data = addresses
                .into_iter()
                .filter_map(|ip| match (ip, question.query_type()) {
                    (IpAddr::V4(ip), RecordType::A) => Some(RData::A(A(ip))),
                    (IpAddr::V6(ip), RecordType::AAAA) => Some(RData::AAAA(AAAA(ip))),
                    _ => None,
                });
            answer.add_answers(
                data.map(|d| Record::from_rdata(question.name().clone(), DNS_TTL_SECONDS, d)),
            );
        }
    }
    Some((answer.to_vec().ok()?, Some(DisplayText::new(name))))
}

async fn serve_http(
    listener: TcpListener,
    permits: Arc<Semaphore>,
) -> Result<(), FakeInternetError> {
    let mut connections = JoinSet::new();
    loop {
        // The semaphore is never closed.
        let permit = Arc::clone(&permits).acquire_owned().await.ok();
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => continue,
            Err(error) => return Err(FakeInternetError::Accept(error)),
        };
        let local = stream.local_addr().map_err(FakeInternetError::Accept)?;
        let host = canonical_address(local);
        send_message(&InternetMessage::Reached { host })?;
        connections.spawn(async move {
            // A client that disconnects or is slow gets no page.
            drop(
                tokio::time::timeout(CONNECTION_TIMEOUT, respond_with_host_name(stream, host))
                    .await,
            );
            drop(permit);
        });
        while connections.try_join_next().is_some() {}
    }
}

fn canonical_address(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

/// Answers one request with a line that names the host.
async fn respond_with_host_name(mut stream: TcpStream, host: SocketAddr) -> io::Result<()> {
    let mut request = Vec::new();
    let mut chunk = [0; 1024];
    while !request.windows(4).any(|four| four == b"\r\n\r\n") && request.len() < 8 * 1024 {
        match stream.read(&mut chunk).await? {
            0 => return Ok(()),
            read => request.extend_from_slice(chunk.get(..read).unwrap_or_default()),
        }
    }
    let known = topology::HOSTS
        .iter()
        .find(|known| known.socket_address() == host);
    let name = known.map_or_else(|| host.ip().to_string(), topology::FakeHost::dest);
    let body = format!("hello from {name}\n");
    let reply = format!(
        "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: {}\r\nConnection: \
         close\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(reply.as_bytes()).await?;
    stream.shutdown().await
}

#[cfg(test)]
mod tests {
    use std::str::FromStr as _;

    use hickory_proto::op::Query;
    use hickory_proto::rr::Name;

    use super::*;

    fn ask(name: &str, kind: RecordType) -> (ResponseCode, Vec<IpAddr>) {
        let mut query = Message::query();
        query.add_query(Query::query(
            Name::from_str(&format!("{name}.")).unwrap(),
            kind,
        ));
        let (answer, asked) = answer_query(&query.to_vec().unwrap()).unwrap();
        assert_eq!(asked, Some(DisplayText::new(&name.to_ascii_lowercase())));
        let answer = Message::from_vec(&answer).unwrap();
        assert_eq!(answer.metadata.id, query.metadata.id);
        assert_eq!(answer.queries, query.queries);
        let addresses = answer
            .answers
            .iter()
            .filter_map(|record| record.data.ip_addr());
        (answer.metadata.response_code, addresses.collect())
    }

    #[test]
    fn names_resolve_to_the_hosts_of_the_topology() {
        for host in topology::HOSTS {
            let Some(name) = host.name else { continue };
            let (own, other) = if host.address.is_ipv4() {
                (RecordType::A, RecordType::AAAA)
            } else {
                (RecordType::AAAA, RecordType::A)
            };
            assert_eq!(ask(name, own), (ResponseCode::NoError, vec![host.address]));
            assert_eq!(
                ask(name, other),
                (ResponseCode::NoError, vec![]),
                "no such address"
            );
        }
        let loud = ask("API.Example.COM", RecordType::A);
        assert_eq!(loud.1.len(), 1, "names have no case");
        assert_eq!(
            ask("nowhere.example.com", RecordType::A),
            (ResponseCode::NXDomain, vec![])
        );
    }

    #[test]
    fn a_packet_that_is_no_query_gets_no_answer() {
        assert_eq!(answer_query(b""), None);
        assert_eq!(answer_query(b"GET / HTTP/1.1\r\n\r\n"), None);
        let response = Message::response(7, OpCode::Query).to_vec().unwrap();
        assert_eq!(
            answer_query(&response),
            None,
            "two name servers never talk in circles"
        );
        let empty = Message::query().to_vec().unwrap();
        let (refused, asked) = answer_query(&empty).unwrap();
        assert_eq!(asked, None);
        let refused = Message::from_vec(&refused).unwrap();
        assert_eq!(refused.metadata.response_code, ResponseCode::NotImp);
    }
}
