// SPDX-License-Identifier: Apache-2.0
//! A second network namespace that answers at every address, so that only a firewall refuses.
#![expect(clippy::expect_used, reason = "a test helper")]

use std::io::{self, Read as _, Write as _};
use std::net::{IpAddr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::process::Command;
use std::thread;
use std::time::Duration;

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use test_support::namespaces::{NamespaceHolder, ip, ip_in, require_private_namespaces};

/// The ports that answer over TCP and UDP.
pub const PORTS: [u16; 3] = [53, 80, 443];

/// What [`Internet::count_packets`] counts, in nft's syntax: lookups, stand-ins of names, loopback
/// addresses.
pub const COUNTED: [&str; 5] = [
    "udp dport { 53, 61053 }",
    "tcp dport { 53, 61053 }",
    "ip daddr 198.18.0.0/15",
    "ip daddr 127.0.0.0/8",
    "ip6 daddr ::1",
];

/// The networks with a reply from every address: some public ones, and those closed to sandboxes.
const NETWORKS: [&str; 18] = [
    "198.51.100.0/24",
    "203.0.113.0/24",
    "10.0.0.0/8",
    "172.16.0.0/12",
    "192.168.0.0/16",
    "100.64.0.0/10",
    "169.254.0.0/16",
    "192.0.0.192/32",
    "168.63.129.16/32",
    "2001:db8:1::/48",
    "2001:db8:53::/48",
    "fd00:ec2::254/128",
    "fd20:ce::254/128",
    "fc00::/16",
    "64:ff9b::/48",
    "64:ff9b:1::/48",
    "2002::/16",
    "240.0.0.0/4",
];

/// The addresses that answer over UDP.
const UDP_V4: [&str; 4] = [
    "198.51.100.53",
    "203.0.113.7",
    "10.0.0.1",
    "169.254.169.254",
];
const UDP_V6: [&str; 3] = ["2001:db8:53::53", "2001:db8:1::7", "fd00:ec2::254"];

/// The far end of a veth pair: `out0` in this namespace has default routes to it.
///
/// It greets each TCP connection with one line and echoes further bytes, and echoes UDP packets at
/// some addresses. It ends on drop.
#[derive(Debug)]
pub struct Internet {
    holder: NamespaceHolder,
}

impl Internet {
    /// Creates the namespace beside the caller's and starts its servers.
    ///
    /// # Panics
    ///
    /// If a step fails.
    pub fn start() -> Self {
        require_private_namespaces();
        let internet = Self {
            holder: NamespaceHolder::start(&["--net"]),
        };
        let pid = internet.pid();
        for line in [
            "link set lo up",
            &format!("link add out0 type veth peer name in0 netns {pid}"),
            "address add 192.0.2.2/24 dev out0",
            "address add 2001:db8::2/64 dev out0 nodad",
            "link set out0 up",
        ] {
            ip(line);
        }
        let there = &internet.holder;
        for line in [
            "link set lo up",
            "address add 192.0.2.1/24 dev in0",
            "address add 2001:db8::1/64 dev in0 nodad",
            "link set in0 up",
        ] {
            ip_in(there, line);
        }
        for network in NETWORKS {
            let family = if network.contains(':') { "-6 " } else { "" };
            ip_in(there, &format!("{family}route add local {network} dev lo"));
        }
        for at in UDP_V6 {
            ip_in(there, &format!("address add {at}/128 dev lo nodad"));
        }
        ip("route add default via 192.0.2.1 dev out0");
        ip("-6 route add default via 2001:db8::1 dev out0");
        let net = internet.holder.netns_file();
        let (ready, when_ready) = std::sync::mpsc::channel();
        thread::spawn(move || {
            move_into_link_name_space(
                std::os::fd::AsFd::as_fd(&net),
                Some(LinkNameSpaceType::Network),
            )
            .expect("entering the namespace");
            answer().expect("listening");
            ready.send(()).expect("a waiting parent");
        });
        when_ready.recv().expect("running servers");
        internet
    }

    /// Returns the process that holds the namespace.
    pub fn pid(&self) -> u32 {
        self.holder.pid()
    }

    /// Returns a command in the namespace.
    pub fn command(&self, program: &str) -> Command {
        self.holder.command(program)
    }

    /// Counts packets that arrive from now on; see [`packets`](Self::packets).
    ///
    /// # Panics
    ///
    /// If the rules cannot be loaded.
    pub fn count_packets(&self) {
        let rules = COUNTED.map(|condition| format!("{condition} counter"));
        let table = format!(
            "table inet count {{ chain arriving {{ type filter hook prerouting priority raw; {}\n}}\n}}",
            rules.join("\n")
        );
        let status = self.holder.command("nft").arg(table).status();
        assert!(status.expect("nft").success());
    }

    /// Returns how many packets came of each kind of [`COUNTED`].
    ///
    /// # Panics
    ///
    /// If they cannot be read.
    pub fn packets(&self) -> Vec<(&'static str, u64)> {
        let listing = self
            .holder
            .command("nft")
            .args(["list", "table", "inet", "count"])
            .output()
            .expect("nft");
        let listing = String::from_utf8_lossy(&listing.stdout).into_owned();
        let counts = listing.lines().filter_map(|line| {
            let (_, count) = line.split_once("counter packets ")?;
            count.split(' ').next()?.parse().ok()
        });
        let counted: Vec<_> = COUNTED.into_iter().zip(counts).collect();
        assert_eq!(counted.len(), COUNTED.len(), "{listing}");
        counted
    }

    /// Runs Python code in the namespace.
    ///
    /// # Panics
    ///
    /// If the code fails.
    pub fn run_python(&self, code: &str) {
        let status = self.holder.command("python3").args(["-c", code]).status();
        assert!(status.expect("python3").success(), "{code}");
    }
}

/// Starts the servers; their threads stay in the caller's network namespace.
fn answer() -> io::Result<()> {
    for port in PORTS {
        let everywhere = SocketAddr::from((Ipv6Addr::UNSPECIFIED, port));
        let listener = TcpListener::bind(everywhere)?;
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                thread::spawn(move || echo(stream));
            }
        });
        // One socket per address: replies need the address of the request as source.
        for at in UDP_V4.into_iter().chain(UDP_V6) {
            udp(SocketAddr::new(at.parse().expect("an address"), port))?;
        }
    }
    Ok(())
}

fn udp(at: SocketAddr) -> io::Result<()> {
    let socket = UdpSocket::bind(at)?;
    thread::spawn(move || {
        let mut buffer = [0; 2048];
        while let Ok((length, from)) = socket.recv_from(&mut buffer) {
            if let Some(bytes) = buffer.get(..length) {
                drop(socket.send_to(bytes, from));
            }
        }
    });
    Ok(())
}

fn echo(mut stream: TcpStream) -> io::Result<()> {
    stream.write_all(b"hello\n")?;
    let mut buffer = [0; 2048];
    loop {
        match stream.read(&mut buffer)? {
            0 => return Ok(()),
            length => stream.write_all(buffer.get(..length).unwrap_or_default())?,
        }
    }
}

/// Connects over TCP and waits for the greeting.
///
/// # Panics
///
/// If another server answers.
///
/// # Errors
///
/// If the connection is refused, or after 5 s without an answer.
pub fn tcp(at: &str, port: u16) -> io::Result<TcpStream> {
    let at: IpAddr = at.parse().map_err(io::Error::other)?;
    let limit = Duration::from_secs(5);
    let mut stream = TcpStream::connect_timeout(&SocketAddr::new(at, port), limit)?;
    stream.set_read_timeout(Some(limit))?;
    let mut line = [0; 6];
    stream.read_exact(&mut line)?;
    assert_eq!(&line, b"hello\n");
    Ok(stream)
}

/// Sends a packet over UDP and waits for its echo.
///
/// # Panics
///
/// As [`tcp`].
///
/// # Errors
///
/// As [`tcp`].
pub fn round_trip(at: &str, port: u16) -> io::Result<()> {
    let at: IpAddr = at.parse().map_err(io::Error::other)?;
    let from = if at.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
    let socket = UdpSocket::bind(from)?;
    socket.set_read_timeout(Some(Duration::from_secs(5)))?;
    socket.connect(SocketAddr::new(at, port))?;
    socket.send(b"question")?;
    let mut buffer = [0; 16];
    let length = socket.recv(&mut buffer)?;
    assert_eq!(buffer.get(..length), Some(b"question".as_slice()));
    Ok(())
}
