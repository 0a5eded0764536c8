// SPDX-License-Identifier: Apache-2.0

use std::io;
use std::net::IpAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpSocket, TcpStream, UdpSocket};
use tokio::time::timeout;

use super::*;
use crate::dial::HostSockets;

/// Sockets of this process that reach loopback only: the addresses of a sandbox's `eth0` are other
/// hosts here.
#[derive(Debug)]
struct LoopbackSockets;

impl DialSockets for LoopbackSockets {
    fn tcp_socket(&self, remote: SocketAddr) -> io::Result<TcpSocket> {
        require_loopback(remote)?;
        HostSockets.tcp_socket(remote)
    }

    fn udp_socket(&self, remote: SocketAddr) -> io::Result<std::net::UdpSocket> {
        require_loopback(remote)?;
        HostSockets.udp_socket(remote)
    }
}

fn require_loopback(remote: SocketAddr) -> io::Result<()> {
    if remote.ip().is_loopback() {
        Ok(())
    } else {
        Err(io::ErrorKind::NetworkUnreachable.into())
    }
}

/// Publishes and serves until the value is dropped; returns the addresses outside.
fn publish(
    spec: &str,
) -> (
    JoinSet<Result<Infallible, PublishPanicked>>,
    Vec<SocketAddr>,
) {
    let published = PublishedPorts::bind(&[spec.parse().unwrap()]).unwrap();
    let port = published.ports().next().unwrap().clone();
    let mut serving = JoinSet::new();
    serving.spawn(published.serve(Arc::new(LoopbackSockets)));
    (serving, port.addresses)
}

#[tokio::test]
async fn a_client_reaches_the_server_at_either_loopback_address() {
    for server_ip in ["127.0.0.1", "::1", "0.0.0.0", "::"] {
        let ip: IpAddr = server_ip.parse().unwrap();
        let server = TcpListener::bind((ip, 0)).await.unwrap();
        let port = server.local_addr().unwrap().port();
        let (_serving, addresses) = publish(&format!(":{port}"));
        assert_eq!(addresses.len(), 2, "both loopback addresses of the host");
        assert_eq!(addresses[0].port(), addresses[1].port());
        for address in addresses {
            assert!(address.ip().is_loopback());
            let mut client = TcpStream::connect(address).await.unwrap();
            client.write_all(b"question").await.unwrap();
            client.shutdown().await.unwrap();
            let (mut accepted, _) = server.accept().await.unwrap();
            let mut said = Vec::new();
            accepted.read_to_end(&mut said).await.unwrap();
            assert_eq!(said, b"question");
            accepted.write_all(b"answer").await.unwrap();
            drop(accepted);
            let mut said = Vec::new();
            client.read_to_end(&mut said).await.unwrap();
            assert_eq!(said, b"answer");
        }
    }
}

/// Returns a port without a server. The kernel gives it to no other test as long as the socket of
/// the other protocol is bound.
async fn free_port() -> u16 {
    let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
    socket.local_addr().unwrap().port()
}

#[tokio::test]
async fn without_a_server_a_client_is_reset_at_once() {
    let (_serving, addresses) = publish(&format!(":{}", free_port().await));
    let mut client = TcpStream::connect(addresses[0]).await.unwrap();
    let error = client.read(&mut [0; 1]).await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
}

#[tokio::test]
async fn a_reset_of_the_server_is_one_of_the_client() {
    let server = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (_serving, addresses) = publish(&format!(":{}", server.local_addr().unwrap().port()));
    let mut client = TcpStream::connect(addresses[0]).await.unwrap();
    let (accepted, _) = server.accept().await.unwrap();
    accepted.set_zero_linger().unwrap();
    drop(accepted);
    let error = client.read(&mut [0; 1]).await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
}

#[tokio::test]
async fn the_end_of_the_service_ends_listeners_and_connections() {
    let server = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (mut serving, addresses) = publish(&format!(":{}", server.local_addr().unwrap().port()));
    let mut client = TcpStream::connect(addresses[0]).await.unwrap();
    let (_served, _) = server.accept().await.unwrap();
    serving.shutdown().await;
    client.read(&mut [0; 1]).await.unwrap_err();
    let refused = TcpStream::connect(addresses[0]).await.unwrap_err();
    assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
}

#[tokio::test]
async fn datagrams_of_each_client_are_a_flow_of_their_own() {
    for server_ip in ["127.0.0.1", "::1"] {
        let ip: IpAddr = server_ip.parse().unwrap();
        let server = UdpSocket::bind((ip, 0)).await.unwrap();
        let port = server.local_addr().unwrap().port();
        let (_serving, addresses) = publish(&format!("127.0.0.1::{port}/udp"));
        let mut buffer = [0; 100];
        let mut peers = Vec::new();
        let mut clients = Vec::new();
        for word in ["one", "two"] {
            let client = UdpSocket::bind("127.0.0.1:0").await.unwrap();
            client.connect(addresses[0]).await.unwrap();
            // The first datagram is repeated at the next address if the first one refuses.
            client.send(word.as_bytes()).await.unwrap();
            let (length, peer) = server.recv_from(&mut buffer).await.unwrap();
            assert_eq!(&buffer[..length], word.as_bytes());
            peers.push(peer);
            clients.push(client);
        }
        assert_ne!(peers[0], peers[1]);
        for (peer, client) in peers.iter().zip(&clients) {
            let answer = peer.to_string();
            server.send_to(answer.as_bytes(), peer).await.unwrap();
            let length = client.recv(&mut buffer).await.unwrap();
            assert_eq!(&buffer[..length], answer.as_bytes());
            client.send(b"more").await.unwrap();
            let (_, again) = server.recv_from(&mut buffer).await.unwrap();
            assert_eq!(again, *peer);
        }
    }
}

#[tokio::test]
async fn a_long_first_datagram_is_lost_and_later_ones_arrive() {
    let server = UdpSocket::bind("[::1]:0").await.unwrap();
    let port = server.local_addr().unwrap().port();
    let (_serving, addresses) = publish(&format!("127.0.0.1::{port}/udp"));
    let client = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let long = [7; 5000];
    let mut buffer = [0; 6000];
    let received = async {
        loop {
            client.send_to(&long, addresses[0]).await.unwrap();
            let wait = timeout(Duration::from_millis(20), server.recv_from(&mut buffer));
            if let Ok(received) = wait.await {
                return received.unwrap();
            }
        }
    };
    let (length, _) = timeout(Duration::from_secs(10), received).await.unwrap();
    assert_eq!(length, long.len());
}

#[tokio::test]
async fn over_the_limit_a_flow_ends_for_a_new_one_and_a_connection_is_reset() {
    let server = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let outside = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let address = outside.local_addr().unwrap();
    let port = server.local_addr().unwrap().port();
    let sockets = Arc::new(LoopbackSockets);
    let one = Arc::new(Semaphore::new(1));
    let publisher = udp::UdpPublisher::new(outside, port, Arc::clone(&sockets), one);
    let mut serving = JoinSet::new();
    serving.spawn(publisher.serve());
    let mut peers = Vec::new();
    let clients = [
        UdpSocket::bind("127.0.0.1:0").await.unwrap(),
        UdpSocket::bind("127.0.0.1:0").await.unwrap(),
    ];
    for client in [&clients[0], &clients[1], &clients[0]] {
        client.send_to(b"x", address).await.unwrap();
        peers.push(server.recv_from(&mut [0; 1]).await.unwrap().1);
    }
    assert_ne!(peers[0], peers[1]);

    let server = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let outside = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = outside.local_addr().unwrap();
    let port = server.local_addr().unwrap().port();
    serving.spawn(tcp::serve_tcp(
        outside,
        port,
        sockets,
        Arc::new(Semaphore::new(1)),
    ));
    let mut first = TcpStream::connect(address).await.unwrap();
    let (mut accepted, _) = server.accept().await.unwrap();
    let mut second = TcpStream::connect(address).await.unwrap();
    let error = second.read(&mut [0; 1]).await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
    first.write_all(b"x").await.unwrap();
    accepted.read_exact(&mut [0; 1]).await.unwrap();
}

#[tokio::test]
async fn a_server_that_starts_later_receives_later_datagrams() {
    // Holds the port for a server of the other family until its time.
    let reserved = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let port = reserved.local_addr().unwrap().port();
    drop(reserved);
    let (_serving, addresses) = publish(&format!("127.0.0.1::{port}/udp"));
    let client = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    client.send_to(b"early", addresses[0]).await.unwrap();
    let server = UdpSocket::bind(("127.0.0.1", port)).await.unwrap();
    let mut buffer = [0; 100];
    let received = async {
        loop {
            client.send_to(b"again", addresses[0]).await.unwrap();
            let wait = timeout(Duration::from_millis(20), server.recv_from(&mut buffer));
            if let Ok(received) = wait.await {
                return received.unwrap();
            }
        }
    };
    let (length, _) = timeout(Duration::from_secs(10), received).await.unwrap();
    assert_eq!(length, 5);
}

#[tokio::test]
async fn a_taken_port_is_an_error_and_a_chosen_one_is_free() {
    let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = taken.local_addr().unwrap();
    let spec: PublishSpec = format!("{}:80", address.port()).parse().unwrap();
    let error = PublishedPorts::bind(&[spec]).unwrap_err();
    assert_eq!(error.source.kind(), io::ErrorKind::AddrInUse);
    assert_eq!(
        error.to_string(),
        format!(
            "cannot publish {}:80: cannot listen at {address}",
            address.port()
        )
    );

    // The kernel chooses by IPv4, and may choose a port that is taken at the IPv6 address.
    let bound: Vec<_> = (0..50)
        .map(|_| PublishedPorts::bind(&[":80".parse().unwrap()]).unwrap())
        .collect();
    for ports in &bound {
        let port = ports.ports().next().unwrap();
        assert!(port.is_chosen && port.addresses.iter().all(|address| address.port() != 0));
    }
}

#[tokio::test]
async fn every_ipv6_address_is_not_every_ipv4_address() {
    let ports = PublishedPorts::bind(&["[::]::80".parse().unwrap()]).unwrap();
    let port = ports.ports().next().unwrap().addresses[0].port();
    let refused = TcpStream::connect(("127.0.0.1", port)).await.unwrap_err();
    assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
    TcpStream::connect(("::1", port)).await.unwrap();
}

#[test]
fn a_published_port_says_where_it_leads() {
    let mut port = PublishedPort {
        addresses: vec![
            "127.0.0.1:8080".parse().unwrap(),
            "[::1]:8080".parse().unwrap(),
        ],
        port: 80,
        protocol: Protocol::TCP,
        is_chosen: false,
    };
    assert_eq!(
        port.to_string(),
        "127.0.0.1:8080 and [::1]:8080 to port 80 of the sandbox"
    );
    port.addresses.pop();
    port.protocol = Protocol::UDP;
    assert_eq!(
        port.to_string(),
        "127.0.0.1:8080 to UDP port 80 of the sandbox"
    );
}
