// SPDX-License-Identifier: Apache-2.0
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use hickory_proto::op::{Message, MessageType, OpCode, ResponseCode};
use hickory_proto::rr::{Name, RData, rdata};
use tempfile::TempDir;
use terok_clearance::DisplayText;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, UdpSocket};
use tokio::task::JoinSet;

use super::*;

/// A name server on the loopback interface; ends when it is dropped.
struct TestServer {
    address: SocketAddr,
    queries: Arc<Mutex<Vec<Message>>>,
    _tasks: JoinSet<()>,
}

/// The replies to one query: datagrams in their order, or the message over TCP.
type Respond = fn(query: &Message, is_tcp: bool) -> Vec<Vec<u8>>;

impl TestServer {
    async fn start(respond: Respond) -> Self {
        // A port that is free for both protocols.
        let (udp, tcp) = loop {
            let udp = UdpSocket::bind("127.0.0.1:0").await.unwrap();
            if let Ok(tcp) = TcpListener::bind(udp.local_addr().unwrap()).await {
                break (udp, tcp);
            }
        };
        let address = udp.local_addr().unwrap();
        let queries = Arc::new(Mutex::new(Vec::new()));
        let mut tasks = JoinSet::new();
        let log = Arc::clone(&queries);
        tasks.spawn(async move {
            let mut buffer = vec![0; 4096];
            loop {
                let (length, peer) = udp.recv_from(&mut buffer).await.unwrap();
                let query = Message::from_vec(&buffer[..length]).unwrap();
                log.lock().unwrap().push(query.clone());
                for reply in respond(&query, false) {
                    udp.send_to(&reply, peer).await.unwrap();
                }
            }
        });
        let log = Arc::clone(&queries);
        tasks.spawn(async move {
            loop {
                let (mut stream, _) = tcp.accept().await.unwrap();
                let length = stream.read_u16().await.unwrap();
                let mut query = vec![0; length.into()];
                stream.read_exact(&mut query).await.unwrap();
                let query = Message::from_vec(&query).unwrap();
                log.lock().unwrap().push(query.clone());
                for reply in respond(&query, true) {
                    let reply = crate::encode_stream_message(&reply).unwrap();
                    stream.write_all(&reply).await.unwrap();
                }
            }
        });
        Self {
            address,
            queries,
            _tasks: tasks,
        }
    }

    fn query_count(&self) -> usize {
        self.queries.lock().unwrap().len()
    }
}

fn response(query: &Message, code: ResponseCode) -> Message {
    let mut reply = Message::response(query.metadata.id, OpCode::Query);
    reply.metadata.response_code = code;
    reply.add_queries(query.queries.iter().cloned());
    reply
}

fn txt(text: &str) -> Record {
    let owner = Name::from_ascii("a.test.").unwrap();
    Record::from_rdata(
        owner,
        60,
        RData::TXT(rdata::TXT::new(vec![text.to_owned()])),
    )
}

fn good(query: &Message, _is_tcp: bool) -> Vec<Vec<u8>> {
    let mut reply = response(query, ResponseCode::NoError);
    reply.add_answer(txt("good"));
    vec![reply.to_vec().unwrap()]
}

fn fails(query: &Message, _is_tcp: bool) -> Vec<Vec<u8>> {
    vec![response(query, ResponseCode::ServFail).to_vec().unwrap()]
}

async fn lookup(servers: &[SocketAddr]) -> Result<Vec<Record>, LookupFailure> {
    let mut resolver = HostResolver::new("/nonexistent", "/nonexistent");
    resolver.name_servers = Some(servers.to_vec());
    let name = "a.test".parse().unwrap();
    resolver.lookup_records(&name, RecordType::TXT).await
}

#[tokio::test]
async fn records_come_from_the_first_server_that_answers() {
    let closed = {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        socket.local_addr().unwrap()
    };
    let broken = TestServer::start(fails).await;
    let server = TestServer::start(good).await;
    let found = lookup(&[closed, broken.address, server.address]).await;
    assert_eq!(found, Ok(vec![txt("good")]));
    assert_eq!((broken.query_count(), server.query_count()), (1, 1));

    let failure = lookup(&[closed, broken.address]).await.unwrap_err();
    let LookupFailure::Failed(reason) = failure else {
        panic!("{failure:?}");
    };
    assert_eq!(
        reason.as_str(),
        "name server 127.0.0.1: the server reports: Server Failure"
    );
}

#[tokio::test]
async fn a_silent_server_delays_a_lookup_and_does_not_fail_it() {
    let silent = TestServer::start(|_, _| Vec::new()).await;
    let server = TestServer::start(good).await;
    let found = lookup(&[silent.address, server.address]).await;
    assert_eq!(found, Ok(vec![txt("good")]));
    assert_eq!(silent.query_count(), 1);
}

#[tokio::test]
async fn a_query_holds_nothing_but_name_and_type() {
    let server = TestServer::start(good).await;
    for _ in 0..2 {
        lookup(&[server.address]).await.unwrap();
    }
    let queries = server.queries.lock().unwrap();
    for query in &*queries {
        assert_eq!(query.metadata.message_type, MessageType::Query);
        assert!(query.metadata.recursion_desired && !query.metadata.checking_disabled);
        assert_eq!(query.queries.len(), 1);
        assert_eq!(query.queries[0].name.to_ascii(), "a.test.");
        let edns = query.edns.as_ref().unwrap();
        assert!(edns.options().as_ref().is_empty() && !edns.flags().dnssec_ok);
    }
    assert_ne!(queries[0].metadata.id, queries[1].metadata.id);
}

#[tokio::test]
async fn replies_to_other_queries_are_skipped() {
    let server = TestServer::start(|query, is_tcp| {
        let forged = |change: fn(&mut Message)| {
            let mut reply = response(query, ResponseCode::NoError);
            reply.add_answer(txt("forged"));
            change(&mut reply);
            reply.to_vec().unwrap()
        };
        let mut replies = vec![
            vec![0; 3],
            forged(|reply| reply.metadata.id ^= 1),
            forged(|reply| reply.metadata.message_type = MessageType::Query),
            forged(|reply| {
                reply.queries[0].set_name(Name::from_ascii("b.test.").unwrap());
            }),
            forged(|reply| {
                reply.queries[0].set_query_type(RecordType::MX);
            }),
            forged(|reply| reply.queries.clear()),
        ];
        // Many questions are announced, and none is there.
        let mut many = response(query, ResponseCode::NoError).to_vec().unwrap();
        many.truncate(12);
        many[4..6].copy_from_slice(&[0xff, 0xff]);
        replies.push(many);
        replies.extend(good(query, is_tcp));
        replies
    })
    .await;
    assert_eq!(lookup(&[server.address]).await, Ok(vec![txt("good")]));
    assert_eq!(server.query_count(), 1);
}

#[tokio::test]
async fn a_truncated_reply_is_asked_for_over_tcp() {
    let server = TestServer::start(|query, is_tcp| {
        let mut reply = response(query, ResponseCode::NoError);
        reply.answers = vec![txt(&"x".repeat(250)); 100];
        if is_tcp {
            return vec![reply.to_vec().unwrap()];
        }
        reply.metadata.truncation = true;
        let mut bytes = reply.to_vec().unwrap();
        bytes.truncate(500);
        vec![bytes]
    })
    .await;
    let found = lookup(&[server.address]).await.unwrap();
    assert_eq!(found.len(), 100);
    assert_eq!(server.query_count(), 2);
}

#[tokio::test]
async fn a_server_without_edns_is_asked_without_it() {
    let server = TestServer::start(|query, is_tcp| {
        if query.edns.is_none() {
            return good(query, is_tcp);
        }
        let mut error = response(query, ResponseCode::FormErr);
        error.queries.clear();
        vec![error.to_vec().unwrap()]
    })
    .await;
    assert_eq!(lookup(&[server.address]).await, Ok(vec![txt("good")]));
    assert_eq!(server.query_count(), 2);
}

#[tokio::test]
async fn missing_names_and_missing_records_differ() {
    let missing = TestServer::start(|query, _| {
        vec![response(query, ResponseCode::NXDomain).to_vec().unwrap()]
    })
    .await;
    let empty = TestServer::start(|query, _| {
        vec![response(query, ResponseCode::NoError).to_vec().unwrap()]
    })
    .await;
    assert_eq!(
        lookup(&[missing.address]).await,
        Err(LookupFailure::NotFound)
    );
    assert_eq!(lookup(&[empty.address]).await, Err(LookupFailure::NoData));
}

#[tokio::test]
async fn an_unreadable_configuration_is_a_failure() {
    let resolver = HostResolver::new("/nonexistent", "/nonexistent/resolv.conf");
    let name = "a.test".parse().unwrap();
    let failure = resolver.lookup_records(&name, RecordType::TXT).await;
    assert_eq!(
        failure,
        Err(LookupFailure::Failed(DisplayText::new(
            "reading /nonexistent/resolv.conf: No such file or directory (os error 2)"
        )))
    );
}

/// A resolver with a hosts file and without the C library.
fn with_hosts(text: &str, system_lookup: SystemLookup) -> (TempDir, HostResolver) {
    let dir = tempfile::tempdir().unwrap();
    let hosts = dir.path().join("hosts");
    std::fs::write(&hosts, text).unwrap();
    let resolver = HostResolver {
        system_lookup,
        ..HostResolver::new(hosts, "/nonexistent")
    };
    (dir, resolver)
}

/// A lookup that fails with the name that it got.
fn echo(name: &str) -> Result<Vec<IpAddr>, LookupFailure> {
    Err(LookupFailure::failed(name))
}

#[tokio::test]
async fn dotted_names_are_absolute_and_the_hosts_file_comes_first() {
    let (dir, resolver) = with_hosts("192.0.2.1 wiki.corp.test a.local intranet\n", echo);
    let check = async |name: &str, expected: Result<&str, &str>| {
        let found = resolver.lookup_addresses(&name.parse().unwrap()).await;
        let expected = expected
            .map(|address| vec![address.parse().unwrap()])
            .map_err(LookupFailure::failed);
        assert_eq!(found, expected, "of {name}");
    };
    check("wiki.corp.test", Ok("192.0.2.1")).await;
    check("example.com", Err("example.com.")).await;
    check("intranet", Err("intranet")).await;
    check("a.local", Err("a.local")).await;
    check("local", Err("local")).await;
    // A change counts at once, and so does the file's end.
    let hosts = dir.path().join("hosts");
    std::fs::write(&hosts, "192.0.2.2 example.com\n").unwrap();
    check("example.com", Ok("192.0.2.2")).await;
    std::fs::remove_file(&hosts).unwrap();
    check("example.com", Err("example.com.")).await;
}

#[tokio::test]
async fn the_c_library_knows_this_machine() {
    let resolver = HostResolver::new("/etc/hosts", "/etc/resolv.conf");
    let name = "localhost".parse().unwrap();
    let found = resolver.lookup_addresses(&name).await.unwrap();
    assert!(!found.is_empty() && found.iter().all(IpAddr::is_loopback));
}

#[test]
fn errors_of_the_c_library_keep_their_kind() {
    // EAI_NONAME, EAI_NODATA, EAI_AGAIN and EAI_FAIL of Linux.
    assert_eq!(
        lookup_failure(LookupError::new(-2)),
        LookupFailure::NotFound
    );
    assert_eq!(lookup_failure(LookupError::new(-5)), LookupFailure::NoData);
    for code in [-3, -4] {
        let failure = lookup_failure(LookupError::new(code));
        assert!(matches!(failure, LookupFailure::Failed(_)), "{failure:?}");
    }
}

#[tokio::test]
async fn a_slow_lookup_ends_at_the_limit_and_keeps_its_slot() {
    static IS_OPEN: AtomicBool = AtomicBool::new(false);
    fn waits(_: &str) -> Result<Vec<IpAddr>, LookupFailure> {
        while !IS_OPEN.load(Ordering::SeqCst) {
            std::thread::yield_now();
        }
        Err(LookupFailure::NotFound)
    }
    let (_dir, mut resolver) = with_hosts("", waits);
    resolver.time_limit = Duration::from_millis(20);
    let name: DomainName = "a.test".parse().unwrap();
    let failure = resolver.lookup_addresses(&name).await;
    assert!(
        matches!(failure, Err(LookupFailure::Failed(_))),
        "{failure:?}"
    );
    let free = resolver.system_slots.available_permits();
    assert_eq!(free, MAX_SYSTEM_LOOKUPS - 1);
    IS_OPEN.store(true, Ordering::SeqCst);
    resolver.time_limit = LOOKUP_TIMEOUT;
    assert_eq!(
        resolver.lookup_addresses(&name).await,
        Err(LookupFailure::NotFound)
    );
}

#[tokio::test]
async fn system_lookups_at_a_time_are_limited() {
    static RUNNING: AtomicUsize = AtomicUsize::new(0);
    static HIGHEST: AtomicUsize = AtomicUsize::new(0);
    fn counts(_: &str) -> Result<Vec<IpAddr>, LookupFailure> {
        let running = RUNNING.fetch_add(1, Ordering::SeqCst) + 1;
        HIGHEST.fetch_max(running, Ordering::SeqCst);
        std::thread::yield_now();
        RUNNING.fetch_sub(1, Ordering::SeqCst);
        Err(LookupFailure::NotFound)
    }
    let (_dir, resolver) = with_hosts("", counts);
    let mut lookups = JoinSet::new();
    for index in 0..500 {
        let resolver = resolver.clone();
        let name: DomainName = format!("n{index}.test").parse().unwrap();
        lookups.spawn(async move { resolver.lookup_addresses(&name).await });
    }
    for result in lookups.join_all().await {
        assert_eq!(result, Err(LookupFailure::NotFound));
    }
    assert!(HIGHEST.load(Ordering::SeqCst) <= MAX_SYSTEM_LOOKUPS);
}
