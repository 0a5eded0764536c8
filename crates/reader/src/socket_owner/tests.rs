// SPDX-License-Identifier: Apache-2.0
//! Tests with real sockets and processes on loopback.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use netns::{NetnsRef, SocketSpec};
use rustix::net::{AddressFamily, SocketFlags, SocketType};
use terok_clearance::Protocol;

use super::*;

fn open_diag() -> SocketDiag {
    let socket = NetnsRef::Current.open_socket(SocketSpec::SockDiag).unwrap();
    SocketDiag::new(socket).unwrap()
}

fn inode_of(fd: impl std::os::fd::AsFd) -> u64 {
    rustix::fs::fstat(fd).unwrap().st_ino
}

/// A shell that runs a script, and its output.
struct Shell {
    child: Child,
    output: BufReader<std::process::ChildStdout>,
}

impl Shell {
    fn start(script: &str, directory: &Path) -> Self {
        let mut child = Command::new("bash")
            .args(["-c", script, "an\u{1b}[31mag"])
            .current_dir(directory)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        Self { child, output }
    }

    fn read_line(&mut self) -> String {
        let mut line = String::new();
        self.output.read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    }
}

impl Drop for Shell {
    fn drop(&mut self) {
        drop(self.child.stdin.take()); // ends the reads of the script
        self.child.wait().unwrap();
    }
}

fn find_client(listener: &TcpListener) -> (TcpStream, Option<SocketEntry>) {
    let (server, client) = listener.accept().unwrap();
    let remote = server.local_addr().unwrap();
    let entry = open_diag().find_socket(Protocol::TCP, client, remote);
    (server, entry.unwrap())
}

#[test]
fn the_process_of_a_connection_is_found_with_its_parents() {
    let directory = tempfile::tempdir().unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    // The inner shell has the connection, the outer one is its parent.
    let script = format!(
        "bash -c 'exec 3<>/dev/tcp/127.0.0.1/{port}; printf name >/proc/$$/comm; \
         echo $$; read line; :' inner; :"
    );
    let mut outer = Shell::start(&script, directory.path());
    let pid: u32 = outer.read_line().parse().unwrap();
    let (_server, entry) = find_client(&listener);
    let entry = entry.unwrap();
    assert_eq!(entry.state, SocketState::ESTABLISHED);
    assert_eq!(entry.uid, rustix::process::getuid().as_raw());

    let scan = ProcessScan::new(std::process::id());
    let found = scan.find_holders(entry.inode);
    let [holder] = found.holders.as_slice() else {
        panic!("{found:?}");
    };
    assert_eq!((holder.pid, holder.name.as_str()), (pid, "name"));
    assert_eq!(holder.uid, Some(rustix::process::geteuid().as_raw()));
    let command: Vec<_> = holder.command.iter().map(AsRef::as_ref).collect();
    assert_eq!(
        (command[0], command[1], command[3]),
        ("bash", "-c", "inner")
    );
    let expected = directory.path().canonicalize().unwrap();
    assert_eq!(
        holder.directory.as_ref().unwrap().as_str(),
        expected.to_str().unwrap()
    );
    let parents: Vec<_> = holder.parents.iter().map(|(pid, _)| *pid).collect();
    assert_eq!(parents, [outer.child.id(), std::process::id()]);
    assert_eq!(holder.parents[0].1.as_str(), "bash");
    let outer = scan.describe(outer.child.id()).unwrap();
    assert_eq!(
        outer.command[3].as_str(),
        "an [31mag",
        "the text is sanitised"
    );
}

#[test]
fn every_holder_of_a_socket_is_listed() {
    let directory = tempfile::tempdir().unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let script = format!(
        "exec 3<>/dev/tcp/127.0.0.1/{port}; (echo $BASHPID; read line; :) <&0 & \
         read line; wait; :"
    );
    let mut shell = Shell::start(&script, directory.path());
    let second: u32 = shell.read_line().parse().unwrap();
    let (_server, entry) = find_client(&listener);
    let inode = entry.unwrap().inode;
    let found = ProcessScan::new(std::process::id()).find_holders(inode);
    let mut pids: Vec<_> = found.holders.iter().map(|holder| holder.pid).collect();
    pids.sort_unstable();
    let mut expected = [shell.child.id(), second];
    expected.sort_unstable();
    assert_eq!(pids, expected);
    assert!(!found.truncated, "{found:?}");
    // The first process of a sandbox may hold the socket for a moment, to connect it.
    let below = ProcessScan::below(shell.child.id()).find_holders(inode);
    let pids: Vec<_> = below.holders.iter().map(|holder| holder.pid).collect();
    assert_eq!(pids, [second]);
}

#[test]
fn more_holders_than_the_limit_are_cut() {
    let directory = tempfile::tempdir().unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let script = format!(
        "exec 3<>/dev/tcp/127.0.0.1/{port}; \
         for i in 1 2 3 4 5 6 7 8 9 10; do (echo; read line; :) <&0 & done; read line; wait; :"
    );
    let mut shell = Shell::start(&script, directory.path());
    for _ in 0..10 {
        shell.read_line();
    }
    let (_server, entry) = find_client(&listener);
    let found = ProcessScan::new(std::process::id()).find_holders(entry.unwrap().inode);
    assert_eq!((found.holders.len(), found.truncated), (8, true));
}

#[test]
fn a_process_outside_the_tree_is_found_by_its_namespace() {
    // The child is no ancestor of this process, but shares its namespaces.
    let directory = tempfile::tempdir().unwrap();
    let mut shell = Shell::start("echo; read line; :", directory.path());
    shell.read_line();
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let found = ProcessScan::new(shell.child.id()).find_holders(inode_of(&socket));
    let pids: Vec<_> = found.holders.iter().map(|holder| holder.pid).collect();
    assert_eq!(pids, [std::process::id()]);
}

#[test]
fn a_closed_connection_has_no_socket() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (mut server, _) = listener.accept().unwrap();
    let (local, remote) = (client.local_addr().unwrap(), client.peer_addr().unwrap());
    let mut diag = open_diag();
    let find = |diag: &mut SocketDiag| diag.find_socket(Protocol::TCP, local, remote).unwrap();
    assert_eq!(find(&mut diag).unwrap().inode, inode_of(&client));
    client.shutdown(std::net::Shutdown::Write).unwrap();
    assert_eq!(server.read(&mut [0]).unwrap(), 0);
    drop(client);
    drop(server);
    assert_eq!(
        find(&mut diag),
        None,
        "what waits for its end has no process"
    );
    // A listener on the local port is not the connection.
    let other = "127.0.0.1:9".parse().unwrap();
    let found = diag.find_socket(Protocol::TCP, listener.local_addr().unwrap(), other);
    assert_eq!(found.unwrap(), None);
}

#[test]
fn a_connection_that_waits_is_in_syn_sent() {
    let stream = |flags| {
        rustix::net::socket_with(AddressFamily::INET, SocketType::STREAM, flags, None).unwrap()
    };
    let server: OwnedFd = stream(SocketFlags::CLOEXEC);
    let any: SocketAddr = "127.0.0.1:0".parse().unwrap();
    rustix::net::bind(&server, &any).unwrap();
    rustix::net::listen(&server, 0).unwrap();
    let address: SocketAddr = rustix::net::getsockname(&server)
        .unwrap()
        .try_into()
        .unwrap();
    // The queue has room for one connection; the kernel drops the further ones' packets.
    let mut clients = Vec::new();
    let mut diag = open_diag();
    for _ in 0..8 {
        let client = stream(SocketFlags::CLOEXEC | SocketFlags::NONBLOCK);
        let _in_progress = rustix::net::connect(&client, &address);
        clients.push(client);
    }
    let waiting = clients.iter().filter(|client| {
        let local = rustix::net::getsockname(client)
            .unwrap()
            .try_into()
            .unwrap();
        let entry = diag
            .find_socket(Protocol::TCP, local, address)
            .unwrap()
            .unwrap();
        assert_eq!(entry.inode, inode_of(client.as_fd()));
        entry.state == SocketState::SYN_SENT
    });
    assert!(waiting.count() > 0);
}

#[test]
fn udp_and_ipv6_sockets_are_found() {
    let mut diag = open_diag();
    let remote: SocketAddr = "127.0.0.1:9".parse().unwrap();
    let mut find = |local: SocketAddr, remote| {
        let entry = diag.find_socket(Protocol::UDP, local, remote).unwrap();
        entry.map(|entry| (entry.inode, entry.state))
    };
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let local = socket.local_addr().unwrap();
    let inode = inode_of(&socket);
    assert_eq!(find(local, remote), Some((inode, SocketState::CLOSE)));
    socket.connect(remote).unwrap();
    assert_eq!(find(local, remote), Some((inode, SocketState::ESTABLISHED)));
    assert_eq!(find(local, "127.0.0.2:9".parse().unwrap()), None);
    // Bound to every address, and an IPv6 socket that sends IPv4.
    for any in ["0.0.0.0:0", "[::]:0"] {
        let socket = UdpSocket::bind(any).unwrap();
        let local = SocketAddr::from(([127, 0, 0, 1], socket.local_addr().unwrap().port()));
        let found = find(local, remote).map(|(inode, _)| inode);
        assert_eq!(found, Some(inode_of(&socket)), "of {any}");
    }
    let listener = TcpListener::bind("[::1]:0").unwrap();
    let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (local, remote) = (client.local_addr().unwrap(), client.peer_addr().unwrap());
    let entry = diag.find_socket(Protocol::TCP, local, remote).unwrap();
    assert_eq!(entry.map(|entry| entry.inode), Some(inode_of(&client)));
    let none = diag.find_socket(Protocol::ICMP, local, remote).unwrap();
    assert_eq!(none, None);
}

#[test]
fn what_has_ended_is_not_known() {
    let directory = tempfile::tempdir().unwrap();
    let mut shell = Shell::start("echo", directory.path());
    shell.read_line();
    shell.child.stdin.as_mut().unwrap().flush().unwrap();
    shell.child.wait().unwrap();
    let scan = ProcessScan::new(shell.child.id());
    assert_eq!(scan.describe(shell.child.id()), None);
    assert_eq!(scan.find_holders(u64::MAX), SocketHolders::default());
}

#[test]
fn a_process_with_very_many_descriptors_is_cut() {
    let mut limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    limit.current = limit.maximum;
    rustix::process::setrlimit(rustix::process::Resource::Nofile, limit).unwrap();
    let duplicates: Vec<OwnedFd> = {
        let file = std::fs::File::open("/dev/null").unwrap();
        (0..900).map(|_| file.try_clone().unwrap().into()).collect()
    };
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let scan = ProcessScan::new(std::process::id());
    let found = scan.find_holders(inode_of(&socket));
    assert_eq!((found.holders.len(), found.truncated), (1, false));
    let more: Vec<OwnedFd> = duplicates
        .iter()
        .map(|fd| fd.try_clone().unwrap())
        .collect();
    let late = UdpSocket::bind("127.0.0.1:0").unwrap();
    let found = scan.find_holders(inode_of(&late));
    assert_eq!((found.holders.len(), found.truncated), (0, true));
    drop(more);
}
