// SPDX-License-Identifier: Apache-2.0
//! The pretend internet: a process in a network namespace of its own next to the sandbox's, with a
//! name server and a web server behind every address of `world`.
//!
//! It ends when its standard input does, so that it never outlives the demo, however that ends.

use std::ffi::OsStr;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use hickory_proto::op::{Message, MessageType, OpCode, ResponseCode};
use hickory_proto::rr::rdata::{A, AAAA};
use hickory_proto::rr::{DNSClass, RData, Record, RecordType};
use netns::link::{IpNetwork, LinkError, LinkName, RtnetlinkSocket, VethPeerNetns};
use netns::{PollableFd, ProcessHandle, enter_sibling_netns};
use terok_clearance::DisplayText;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpSocket, TcpStream, UdpSocket};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::protocol::{self, InternetMessage};
use super::topology;
use crate::{CommandContext, CommandFailure, CommandStatus, StandardStreams};

/// The most connections at once; more wait in the kernel.
const MAX_CONNECTIONS: usize = 64;
/// How long a connection may take.
const CONNECTION_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a name's addresses are good for, in seconds.
const DNS_TTL_SECONDS: u32 = 60;

/// What the demo starts it with.
#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    /// A process in the sandbox's network namespace
    pid: u32,
    /// The demo's directory, to be swept away should the demo not come to do so
    directory: PathBuf,
}

/// Joins the sandbox and serves until standard input ends.
pub fn perform(args: &Args, context: &CommandContext) -> Result<CommandStatus, CommandFailure> {
    let status = serve(args, context);
    remove_stale_dir(&args.directory);
    Ok(status)
}

fn serve(args: &Args, context: &CommandContext) -> CommandStatus {
    let say = |what: &InternetMessage| context.output.print(&protocol::encode_line(what)?);
    let outcome = join_sandbox_network(args.pid).and_then(|without_v6| {
        crate::block_on(async {
            let servers = FakeServers::bind(without_v6.is_none())?;
            say(&InternetMessage::Ready { without_v6 })?;
            tokio::select! {
                // Nobody writes to it: it becomes readable when the demo is gone.
                ended = wait_for_stdin_close() => ended.context("watching for the demo's end"),
                served = servers.serve(&context.output) => served,
            }
        })
    });
    if let Err(error) = &outcome {
        let error = DisplayText::new(&format!("{error:#}"));
        // If nobody listens any more, there is nobody to tell.
        drop(say(&InternetMessage::Failed { error }));
        return CommandStatus::FAILURE;
    }
    CommandStatus::OK
}

/// Takes away what a killed demo left; one that ended by itself has left nothing.
fn remove_stale_dir(directory: &Path) {
    let name = directory.file_name().and_then(OsStr::to_str);
    if name.is_some_and(|name| name.starts_with(super::DIRECTORY_PREFIX)) {
        // Most often it is gone.
        drop(std::fs::remove_dir_all(directory));
    }
}

async fn wait_for_stdin_close() -> io::Result<()> {
    let stdin = rustix::io::fcntl_dupfd_cloexec(io::stdin().as_fd(), 0)?;
    PollableFd::new_readable(stdin)?.wait_readable().await
}

/// Lays the wire between the sandbox and a new network namespace, in which the process then is.
/// Returns why there is no IPv6 on it, if there is none.
fn join_sandbox_network(pid: u32) -> anyhow::Result<Option<DisplayText>> {
    let sandbox = ProcessHandle::open(pid).context("finding the sandbox")?;
    let settled = enter_sibling_netns(&sandbox).context("settling next to the sandbox")?;
    let (mut here, mut there) = (settled.own, settled.sandbox);
    let name = |name: &str| name.parse::<LinkName>();
    let (ours, theirs) = (name("sandbox")?, name("eth0")?);
    let net = std::fs::File::open(format!("/proc/{pid}/ns/net")).context("finding the sandbox")?;

    let link = here.add_veth(&ours, &theirs, VethPeerNetns::File(net.as_fd()))?;
    let eth0 = there.find_link(&theirs)?;
    here.bring_up(link)?;
    there.bring_up(eth0)?;
    let lo = here.find_link(&name("lo")?)?;
    here.bring_up(lo)?;

    here.add_address(link, topology::LINK_ADDRESSES_V4.1.parse()?)?;
    there.add_address(eth0, topology::LINK_ADDRESSES_V4.0.parse()?)?;
    there.add_route(IpNetwork::DEFAULT_V4, eth0, Some(topology::GATEWAY_V4))?;
    let v4 = topology::HOSTS.iter().map(|host| host.address);
    for address in v4
        .chain([topology::RESOLVER_ADDRESS])
        .filter(IpAddr::is_ipv4)
    {
        here.add_address(lo, IpNetwork::host(address))?;
    }

    let wire: (IpNetwork, IpNetwork) = (
        topology::LINK_ADDRESSES_V6.0.parse()?,
        topology::LINK_ADDRESSES_V6.1.parse()?,
    );
    let v6 = |here: &mut RtnetlinkSocket, there: &mut RtnetlinkSocket| -> Result<(), LinkError> {
        here.add_address(link, wire.1)?;
        there.add_address(eth0, wire.0)?;
        there.add_route(IpNetwork::DEFAULT_V6, eth0, Some(topology::GATEWAY_V6))?;
        for host in topology::HOSTS.iter().filter(|host| host.address.is_ipv6()) {
            here.add_address(lo, IpNetwork::host(host.address))?;
        }
        Ok(())
    };
    // A kernel without IPv6, or with it turned off, is no reason to show nothing at all.
    let without = v6(&mut here, &mut there).err();
    Ok(without.map(|error| DisplayText::new(&format!("{error}: {}", error.errno))))
}

/// The name server and the web servers, bound.
struct FakeServers {
    dns_socket: UdpSocket,
    http_listeners: Vec<TcpListener>,
}

impl FakeServers {
    fn bind(v6: bool) -> anyhow::Result<Self> {
        let names = SocketAddr::new(topology::RESOLVER_ADDRESS, topology::DNS_PORT);
        let names = std::net::UdpSocket::bind(names).context("binding the name server")?;
        names.set_nonblocking(true)?;
        let mut web = Vec::new();
        for port in topology::HTTP_PORTS {
            web.push(bind_http_listener(IpAddr::V4(Ipv4Addr::UNSPECIFIED), port)?);
            if v6 {
                web.push(bind_http_listener(IpAddr::V6(Ipv6Addr::UNSPECIFIED), port)?);
            }
        }
        Ok(Self {
            dns_socket: UdpSocket::from_std(names)?,
            http_listeners: web,
        })
    }

    async fn serve(self, output: &StandardStreams) -> anyhow::Result<()> {
        let mut servers = JoinSet::new();
        let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
        let output = *output;
        servers.spawn(serve_dns(self.dns_socket));
        for listener in self.http_listeners {
            servers.spawn(serve_http(listener, Arc::clone(&places), output));
        }
        match servers.join_next().await {
            Some(ended) => ended.context("a server panicked")?,
            None => Ok(()),
        }
    }
}

fn bind_http_listener(ip: IpAddr, port: u16) -> anyhow::Result<TcpListener> {
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
    bind().with_context(|| format!("listening on {ip} port {port}"))
}

async fn serve_dns(socket: UdpSocket) -> anyhow::Result<()> {
    let mut packet = [0; 1500];
    loop {
        let (length, from) = socket
            .recv_from(&mut packet)
            .await
            .context("reading a query")?;
        let query = packet.get(..length).unwrap_or_default();
        if let Some(answer) = answer_query(query) {
            // Whoever asked may be gone by now, which is nobody else's trouble.
            drop(socket.send_to(&answer, from).await);
        }
    }
}

/// Returns the answer to a query; nothing where it is not a query at all.
fn answer_query(query: &[u8]) -> Option<Vec<u8>> {
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
            return answer.to_vec().ok();
        }
    };
    let name = question.name().to_ascii().to_ascii_lowercase();
    match topology::lookup_addresses(name.trim_end_matches('.')) {
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
    answer.to_vec().ok()
}

async fn serve_http(
    listener: TcpListener,
    places: Arc<Semaphore>,
    output: StandardStreams,
) -> anyhow::Result<()> {
    let mut visits = JoinSet::new();
    loop {
        let place = Arc::clone(&places).acquire_owned().await?;
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            // Whoever it was has gone away already.
            Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => continue,
            Err(error) => return Err(error).context("accepting a connection"),
        };
        let host = canonical_address(stream.local_addr().context("who was reached")?);
        output.print(&protocol::encode_line(&InternetMessage::Reached { host })?)?;
        visits.spawn(async move {
            // A visitor that goes away or dawdles gets nothing; that is its own trouble.
            drop(
                tokio::time::timeout(CONNECTION_TIMEOUT, respond_with_host_name(stream, host))
                    .await,
            );
            drop(place);
        });
        while visits.try_join_next().is_some() {}
    }
}

fn canonical_address(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

/// Answers one request with a line that says which host this is.
async fn respond_with_host_name(mut stream: TcpStream, host: SocketAddr) -> io::Result<()> {
    let mut request = Vec::new();
    let mut piece = [0; 1024];
    while !request.windows(4).any(|four| four == b"\r\n\r\n") && request.len() < 8 * 1024 {
        match stream.read(&mut piece).await? {
            0 => return Ok(()),
            read => request.extend_from_slice(piece.get(..read).unwrap_or_default()),
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
        let answer = Message::from_vec(&answer_query(&query.to_vec().unwrap()).unwrap()).unwrap();
        assert_eq!(answer.metadata.id, query.metadata.id);
        assert_eq!(answer.queries, query.queries);
        let addresses = answer
            .answers
            .iter()
            .filter_map(|record| record.data.ip_addr());
        (answer.metadata.response_code, addresses.collect())
    }

    #[test]
    fn names_lead_to_the_hosts_of_the_world() {
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
    fn what_is_no_query_gets_no_answer() {
        assert_eq!(answer_query(b""), None);
        assert_eq!(answer_query(b"GET / HTTP/1.1\r\n\r\n"), None);
        let response = Message::response(7, OpCode::Query).to_vec().unwrap();
        assert_eq!(
            answer_query(&response),
            None,
            "two name servers never talk in circles"
        );
        let empty = Message::query().to_vec().unwrap();
        let refused = Message::from_vec(&answer_query(&empty).unwrap()).unwrap();
        assert_eq!(refused.metadata.response_code, ResponseCode::NotImp);
    }
}
