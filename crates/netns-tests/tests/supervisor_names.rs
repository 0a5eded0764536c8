// SPDX-License-Identifier: Apache-2.0
//! Tests of the names of a namespace that has its own connection: its lookups end at the
//! supervisor, and each name has an address of its own.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test")]

use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use names::{LookupFailure, NameLookup, Record, RecordType};
use netns::ProcessHandle;
use netns_tests::guarded::{Guarded, Operator, connect, expect_refused};
use netns_tests::internet::{Internet, tcp};
use supervisor::{
    DossierSource, HoldLimit, NameAccess, NameServerConfig, SandboxLookup, Supervisor,
    SupervisorConfig, SupervisorStartError,
};
use terok_clearance::socket::RuntimeDir;
use terok_clearance::{DecisionAction, DomainName};
use test_support::namespaces::require_private_namespaces;

const LONG: HoldLimit = HoldLimit::For(Duration::from_secs(60));
/// An address that no server of the internet answers at.
const NOBODY: &str = "203.0.113.99";

/// The names of the internet, and the lookups so far.
#[derive(Debug, Clone)]
struct Names(Arc<Mutex<NamesState>>);

#[derive(Debug)]
struct NamesState {
    addresses: Vec<(&'static str, Vec<IpAddr>)>,
    lookups: Vec<String>,
}

impl Names {
    fn new(names: &[(&'static str, &[&str])]) -> Self {
        let addresses = names.iter().map(|(name, addresses)| {
            let addresses = addresses.iter().map(|text| text.parse().unwrap());
            (*name, addresses.collect())
        });
        Self(Arc::new(Mutex::new(NamesState {
            addresses: addresses.collect(),
            lookups: Vec::new(),
        })))
    }

    fn access(&self) -> NameAccess {
        self.access_at(&[])
    }

    fn access_at(&self, resolvers: &[&str]) -> NameAccess {
        let resolvers = resolvers.iter().map(|text| text.parse().unwrap());
        NameAccess::Server(NameServerConfig {
            resolvers: resolvers.collect(),
            lookup: SandboxLookup::new(self.clone()),
            stand_in_key: [7; 16].into(),
        })
    }

    fn set(&self, name: &str, addresses: Vec<IpAddr>) {
        let mut state = self.0.lock().unwrap();
        let entry = state.addresses.iter_mut().find(|(known, _)| *known == name);
        entry.unwrap().1 = addresses;
    }

    /// Returns the names that were looked up outside, each once.
    fn looked_up(&self) -> Vec<String> {
        let mut lookups = self.0.lock().unwrap().lookups.clone();
        lookups.sort();
        lookups.dedup();
        lookups
    }
}

impl NameLookup for Names {
    async fn lookup_addresses(&self, name: &DomainName) -> Result<Vec<IpAddr>, LookupFailure> {
        let mut state = self.0.lock().unwrap();
        state.lookups.push(name.to_string());
        let found = state
            .addresses
            .iter()
            .find(|(known, _)| *known == name.as_str());
        found
            .map(|(_, addresses)| addresses.clone())
            .ok_or(LookupFailure::NotFound)
    }

    async fn lookup_records(
        &self,
        name: &DomainName,
        _record_type: RecordType,
    ) -> Result<Vec<Record>, LookupFailure> {
        self.0.lock().unwrap().lookups.push(name.to_string());
        Err(LookupFailure::NoData)
    }
}

fn start(names: &Names) -> Guarded {
    let guarded = Guarded::start_with(LONG, &|| names.access());
    guarded.internet.count_packets();
    guarded
}

/// A resolver of the sandbox, in the internet.
struct Resolver {
    child: Child,
    output: BufReader<ChildStdout>,
}

/// Its address.
const RESOLVER: &str = "203.0.113.53";
/// Tells of each query its name, type and port, and knows names below `test`.
const RESOLVER_CODE: &str = r"
import socket
server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
server.bind(('203.0.113.53', 53))
print('ready', flush=True)
while True:
    query, client = server.recvfrom(2048)
    labels, at = [], 12
    while query[at]:
        labels.append(query[at + 1 : at + 1 + query[at]].decode('latin-1'))
        at += 1 + query[at]
    name, kind = '.'.join(labels), query[at + 2]
    print(name, kind, client[1], flush=True)
    question = query[12 : at + 5]
    found = labels[-1] == 'test' and kind == 1
    head = query[:2] + (b'\x81\x80' if labels[-1] == 'test' else b'\x81\x83')
    answer = b'\xc0\x0c\0\x01\0\x01\0\0\0\x3c\0\x04\xcb\0\x71\x07' if found else b''
    counts = b'\0\x01' + (b'\0\x01' if found else b'\0\0') + b'\0\0\0\0'
    server.sendto(head + counts + question + answer, client)
";

impl Resolver {
    fn start(internet: &Internet) -> Self {
        let mut command = internet.command("python3");
        let command = command.args(["-c", RESOLVER_CODE]).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        let mut resolver = Self { child, output };
        assert_eq!(resolver.line(), "ready");
        resolver
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.output.read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    }

    /// Ends the resolver, and returns the queries that were not read yet.
    fn end(mut self) -> Vec<String> {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        self.output.lines().map(Result::unwrap).collect()
    }
}

/// Builds a query for the IPv4 addresses of a name.
fn query(name: &str) -> Vec<u8> {
    let mut query = b"\x12\x34\x01\0\0\x01\0\0\0\0\0\0".to_vec();
    for label in name.split('.') {
        query.push(u8::try_from(label.len()).unwrap());
        query.extend(label.as_bytes());
    }
    query.extend(b"\0\0\x01\0\x01");
    query
}

/// Returns the address of a reply, or its code.
fn answer(reply: &[u8]) -> Result<Ipv4Addr, u8> {
    assert_eq!(reply[..2], [0x12, 0x34]);
    assert_eq!(reply[2] & 0x80, 0x80, "a reply: {reply:?}");
    if u16::from_be_bytes([reply[6], reply[7]]) == 0 {
        return Err(reply[3] & 15);
    }
    let is_stand_in = |bytes: &&[u8]| bytes[..2] == [198, 18];
    let found = reply.windows(4).find(is_stand_in);
    let address = found.unwrap_or_else(|| panic!("no stand-in in {reply:?}"));
    Ok(<[u8; 4]>::try_from(address).unwrap().into())
}

/// Looks a name up over UDP at any address.
async fn look_up_at(server: &'static str, name: &str) -> Result<Ipv4Addr, u8> {
    let query = query(name);
    let asked = tokio::task::spawn_blocking(move || -> io::Result<Vec<u8>> {
        let server: IpAddr = server.parse().unwrap();
        let any = if server.is_ipv4() {
            "0.0.0.0:0"
        } else {
            "[::]:0"
        };
        let socket = UdpSocket::bind(any)?;
        socket.set_read_timeout(Some(Duration::from_secs(5)))?;
        socket.connect((server, 53))?;
        socket.send(&query)?;
        let mut reply = vec![0; 2048];
        let length = socket.recv(&mut reply)?;
        reply.truncate(length);
        Ok(reply)
    });
    answer(&asked.await.unwrap().unwrap())
}

async fn look_up(name: &str) -> Ipv4Addr {
    look_up_at(NOBODY, name).await.unwrap()
}

/// Leaks the text of an address, for [`connect`].
fn text(address: Ipv4Addr) -> &'static str {
    Box::leak(address.to_string().into_boxed_str())
}

fn elements(map: &str) -> String {
    let list = ["list", "map", "inet", "terok_shield", map];
    let output = Command::new("nft").args(list).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// Asserts that nothing left but connections to real addresses.
fn nothing_else_left(internet: &Internet) {
    for (kind, count) in internet.packets() {
        assert_eq!(count, 0, "packets with {kind} left");
    }
}

#[tokio::test]
async fn lookups_of_unasked_names_do_not_leave() {
    let names = Names::new(&[("plain.test", &["203.0.113.7"])]);
    let guarded = start(&names);
    // Whatever server is asked, over UDP, TCP and IPv6: this machine answers.
    let stand_in = look_up("plain.test").await;
    for server in ["198.51.100.53", "10.0.0.1", "127.0.0.53", "2001:db8:53::53"] {
        assert_eq!(
            look_up_at(server, "PLAIN.test").await,
            Ok(stand_in),
            "{server}"
        );
    }
    for server in [NOBODY, "2001:db8:1::99"] {
        let asked = tokio::task::spawn_blocking(move || -> io::Result<Vec<u8>> {
            let server: IpAddr = server.parse().unwrap();
            let mut stream = TcpStream::connect((server, 53))?;
            stream.set_read_timeout(Some(Duration::from_secs(5)))?;
            let query = query("plain.test");
            let length = u16::try_from(query.len()).unwrap();
            stream.write_all(&[&length.to_be_bytes()[..], &query].concat())?;
            let mut length = [0; 2];
            stream.read_exact(&mut length)?;
            let mut reply = vec![0; u16::from_be_bytes(length).into()];
            stream.read_exact(&mut reply)?;
            Ok(reply)
        });
        assert_eq!(
            answer(&asked.await.unwrap().unwrap()),
            Ok(stand_in),
            "{server}"
        );
    }
    // A number is no name: the C library would take the stand-in's name for an address.
    assert_eq!(look_up_at(NOBODY, "127.1").await, Err(3));
    assert_eq!(names.looked_up(), Vec::<String>::new());
    nothing_else_left(&guarded.internet);
}

#[tokio::test]
async fn a_lookup_of_a_socket_that_is_bound_to_the_outer_interface_does_not_leave() {
    let names = Names::new(&[]);
    let guarded = start(&names);
    // Redirected to this namespace, but routed to the interface of the socket.
    let code = r"
import socket
for server in ('203.0.113.99', '198.51.100.53', '2001:db8:53::53'):
    family = socket.AF_INET6 if ':' in server else socket.AF_INET
    for kind in (socket.SOCK_DGRAM, socket.SOCK_STREAM):
        s = socket.socket(family, kind)
        s.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, b'out0')
        s.setblocking(False)
        try:
            s.connect((server, 53))
            s.send(b'secret')
        except OSError:
            pass
";
    let run = Command::new("python3").args(["-c", code]).status();
    assert!(run.unwrap().success());
    // Answered after all of them.
    look_up("last.test").await;
    nothing_else_left(&guarded.internet);
}

#[tokio::test]
async fn a_connection_to_a_name_waits_and_passes_when_the_name_is_allowed() {
    let names = Names::new(&[("plain.test", &["203.0.113.7"])]);
    let guarded = start(&names);
    let mut operator = Operator::connect(&guarded).await;
    let stand_in = text(look_up("plain.test").await);
    let waiting = connect(stand_in, 443);
    let request = operator.question().await;
    assert_eq!(request.dest.as_str(), "plain.test");
    assert_eq!(request.port, 443);
    assert!(!waiting.is_finished());
    assert_eq!(names.looked_up(), Vec::<String>::new());
    operator.answer(&request, DecisionAction::Allow).await;
    let (connected, duration) = waiting.await.unwrap();
    connected.unwrap();
    assert!(duration < Duration::from_secs(20), "{duration:?}");
    assert_eq!(names.looked_up(), ["plain.test"]);
    tcp(stand_in, 443).unwrap();

    // Another port is another question, and the address itself is one, too.
    for (at, port, dest) in [
        (stand_in, 80, "plain.test"),
        ("203.0.113.7", 443, "203.0.113.7"),
    ] {
        let waiting = connect(at, port);
        let request = operator.question().await;
        assert_eq!((request.dest.as_str(), request.port), (dest, port));
        operator.answer(&request, DecisionAction::Deny).await;
        expect_refused(waiting).await;
    }
    tcp(stand_in, 443).unwrap_err();
    nothing_else_left(&guarded.internet);
}

#[tokio::test]
async fn names_of_one_address_are_questions_of_their_own() {
    let shared: &[&str] = &["203.0.113.7"];
    let names = Names::new(&[
        ("one.test", shared),
        ("two.test", shared),
        ("three.test", shared),
    ]);
    let guarded = start(&names);
    let mut operator = Operator::connect(&guarded).await;
    let mut waiting = Vec::new();
    for name in ["one.test", "two.test", "three.test"] {
        let stand_in = text(look_up(name).await);
        waiting.push((name, stand_in, connect(stand_in, 443)));
    }
    for _ in 0..3 {
        let request = operator.question().await;
        let action = match request.dest.as_str() {
            "two.test" => DecisionAction::Deny,
            _ => DecisionAction::Allow,
        };
        operator.answer(&request, action).await;
    }
    for (name, stand_in, connection) in waiting {
        let (result, _) = connection.await.unwrap();
        assert_eq!(result.is_ok(), name != "two.test", "{name}: {result:?}");
        assert_eq!(tcp(stand_in, 443).is_ok(), name != "two.test", "{name}");
    }
    operator.expect_silence().await;
    nothing_else_left(&guarded.internet);
}

#[tokio::test]
async fn an_allowed_name_may_have_many_addresses_and_change_them() {
    let names = Names::new(&[("big.test", &["203.0.113.1"])]);
    let mut guarded = start(&names);
    let many = (1..=100).map(|last| IpAddr::from([203, 0, 113, last]));
    names.set("big.test", many.collect());
    guarded.end().await;
    guarded.supervise(LONG, names.access(), &["big.test"]);
    let mut operator = Operator::connect(&guarded).await;
    for round in 0..20 {
        let stand_in = text(look_up("big.test").await);
        drop(tcp(stand_in, 443).unwrap_or_else(|error| panic!("round {round}: {error}")));
        // The addresses of yesterday lead nowhere.
        names.set("big.test", vec![IpAddr::from([198, 51, 100, round + 1])]);
    }
    operator.expect_silence().await;
    nothing_else_left(&guarded.internet);
}

#[tokio::test]
async fn a_name_does_not_open_private_addresses() {
    let names = Names::new(&[
        ("router.test", &["192.168.1.1"]),
        ("metadata.test", &["169.254.169.254"]),
        ("six.test", &["2001:db8:1::7"]),
        ("mixed.test", &["10.0.0.1", "203.0.113.7"]),
    ]);
    let guarded = start(&names);
    let mut operator = Operator::connect(&guarded).await;
    for name in ["router.test", "metadata.test", "six.test", "absent.test"] {
        let stand_in = text(look_up(name).await);
        let waiting = connect(stand_in, 443);
        let request = operator.question().await;
        assert_eq!(request.dest.as_str(), name);
        operator.answer(&request, DecisionAction::Allow).await;
        expect_refused(waiting).await;
        // Now that the name is allowed, the reply tells the truth.
        let expected = if name == "absent.test" { 3 } else { 0 };
        assert_eq!(look_up_at(NOBODY, name).await, Err(expected), "{name}");
    }
    let stand_in = text(look_up("mixed.test").await);
    let waiting = connect(stand_in, 443);
    let request = operator.question().await;
    operator.answer(&request, DecisionAction::Allow).await;
    waiting.await.unwrap().0.unwrap();
    assert!(
        elements("name_port4").contains(": 203.0.113.7"),
        "{}",
        elements("name_port4")
    );
    nothing_else_left(&guarded.internet);
}

#[tokio::test]
async fn a_denied_address_stays_denied_for_every_name() {
    let names = Names::new(&[("plain.test", &["203.0.113.7"])]);
    let guarded = start(&names);
    let mut operator = Operator::connect(&guarded).await;
    let waiting = connect("203.0.113.7", 443);
    let request = operator.question().await;
    operator.answer(&request, DecisionAction::Deny).await;
    expect_refused(waiting).await;
    let stand_in = text(look_up("plain.test").await);
    let waiting = connect(stand_in, 443);
    let request = operator.question().await;
    operator.answer(&request, DecisionAction::Allow).await;
    expect_refused(waiting).await;
}

#[tokio::test]
async fn a_stand_in_without_a_name_is_refused_and_never_leaves() {
    let names = Names::new(&[("plain.test", &["203.0.113.7"])]);
    let guarded = start(&names);
    let mut operator = Operator::connect(&guarded).await;
    for address in ["198.18.255.7", "198.19.0.1"] {
        expect_refused(connect(address, 443)).await;
    }
    operator.expect_silence().await;
    // Nor does one whose map was emptied by another program.
    let stand_in = text(look_up("plain.test").await);
    let waiting = connect(stand_in, 443);
    let request = operator.question().await;
    operator.answer(&request, DecisionAction::Allow).await;
    waiting.await.unwrap().0.unwrap();
    let flush = ["flush", "map", "inet", "terok_shield", "name_port4"];
    assert!(Command::new("nft").args(flush).status().unwrap().success());
    let waiting = connect(stand_in, 443);
    let request = operator.question().await;
    assert_eq!(request.dest.as_str(), "plain.test");
    operator.answer(&request, DecisionAction::Deny).await;
    expect_refused(waiting).await;
    nothing_else_left(&guarded.internet);
}

#[tokio::test]
async fn a_restarted_supervisor_keeps_the_rules_for_names() {
    let names = Names::new(&[
        ("plain.test", &["203.0.113.7"]),
        ("denied.test", &["203.0.113.8"]),
    ]);
    let mut guarded = start(&names);
    let mut operator = Operator::connect(&guarded).await;
    let mut stand_ins = Vec::new();
    for (name, action) in [
        ("plain.test", DecisionAction::Allow),
        ("denied.test", DecisionAction::Deny),
    ] {
        let stand_in = text(look_up(name).await);
        let waiting = connect(stand_in, 443);
        let request = operator.question().await;
        operator.answer(&request, action).await;
        drop(waiting.await.unwrap());
        stand_ins.push(stand_in);
    }
    guarded.end().await;
    // While no supervisor runs: what was allowed passes, and nothing else.
    tcp(stand_ins[0], 443).unwrap();
    tcp(stand_ins[1], 443).unwrap_err();
    tcp("198.18.255.7", 443).unwrap_err();
    guarded.supervise(LONG, names.access(), &[]);
    let mut operator = Operator::connect(&guarded).await;
    for (at, name) in ["plain.test", "denied.test"].into_iter().enumerate() {
        assert_eq!(text(look_up(name).await), stand_ins[at], "{name}");
        assert_eq!(tcp(stand_ins[at], 443).is_ok(), at == 0, "{name}");
    }
    operator.expect_silence().await;
    nothing_else_left(&guarded.internet);
}

#[tokio::test]
async fn a_taken_port_of_the_name_server_is_an_error_that_names_it() {
    require_private_namespaces();
    let _internet = Internet::start();
    let taken: SocketAddr = "0.0.0.0:61053".parse().unwrap();
    let _listener = TcpListener::bind(taken).unwrap();
    let names = Names::new(&[]);
    let runtime = tempfile::TempDir::new().unwrap();
    let started = Supervisor::start(SupervisorConfig {
        container: "box".parse().unwrap(),
        dossier: DossierSource::default(),
        processes: ProcessHandle::current().unwrap().into(),
        names: names.access(),
        allowed_dests: Vec::new(),
        hold: LONG,
        allow_capabilities: true,
        runtime_dir: RuntimeDir::new(runtime.path()),
        journal: None,
    });
    let Err(SupervisorStartError::NameServer(error)) = started else {
        panic!("{started:?}");
    };
    assert_eq!(
        error.to_string(),
        "cannot listen at 127.0.0.1:61053 inside the sandbox"
    );
}

#[tokio::test]
async fn allowed_names_are_looked_up_at_the_resolver_of_the_sandbox() {
    let names = Names::new(&[]);
    let guarded = Guarded::start_with(LONG, &|| names.access_at(&[RESOLVER]));
    let mut resolver = Resolver::start(&guarded.internet);
    let mut operator = Operator::connect(&guarded).await;
    assert_ne!(look_up("secret.test").await, look_up("other.test").await);
    for (name, port) in [("plain.test", 443), ("absent.example", 80)] {
        let waiting = connect(text(look_up(name).await), port);
        let request = operator.question().await;
        assert_eq!(request.dest.as_str(), name);
        operator.answer(&request, DecisionAction::Allow).await;
        if name == "plain.test" {
            waiting.await.unwrap().0.unwrap();
        } else {
            expect_refused(waiting).await;
        }
    }
    assert_eq!(look_up_at(RESOLVER, "absent.example").await, Err(3));
    assert_eq!(names.looked_up(), Vec::<String>::new(), "at the host's");

    // The workload cannot continue the connection of an ended lookup, which the firewall tracks.
    let first = resolver.line();
    let [name, _, port] = first.split(' ').collect::<Vec<_>>()[..] else {
        panic!("{first:?}");
    };
    assert_eq!(name, "plain.test");
    let code = format!(
        "import socket
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.bind(('192.0.2.2', {port}))
s.connect(('{RESOLVER}', 53))
for _ in range(3):
    try:
        s.send(b'\\0' * 12 + b'\\6secret\\4data\\0\\0\\1\\0\\1')
    except OSError:
        pass"
    );
    let run = Command::new("python3").args(["-c", &code]).status();
    assert!(run.unwrap().success());
    // Answered after it.
    assert_eq!(look_up_at(RESOLVER, "absent.example").await, Err(3));
    for query in resolver.end() {
        let name = query.split(' ').next().unwrap();
        assert!(["plain.test", "absent.example"].contains(&name), "{query}");
    }
}

#[tokio::test]
async fn a_workload_cannot_answer_lookups_with_the_address_of_the_resolver() {
    let names = Names::new(&[]);
    let _guarded = Guarded::start_with(LONG, &|| names.access_at(&["2001:db8:53::99"]));
    let code = r"
import socket
receiver = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
receiver.bind(('2001:db8::2', 0))
receiver.settimeout(1)
def send(port):
    sender = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
    sender.setsockopt(41, 78, 1)  # IPV6_FREEBIND
    sender.bind(('2001:db8:53::99', port))
    sender.sendto(b'forged', receiver.getsockname())
send(53)
try:
    raise SystemExit(str(receiver.recvfrom(16)))
except socket.timeout:
    pass
# The same from another port arrives: the packet is one that reaches the sandbox.
send(54)
assert receiver.recv(16) == b'forged'
";
    let run = Command::new("python3").args(["-c", code]).output();
    let run = run.unwrap();
    assert!(run.status.success(), "{run:?}");
}
