// SPDX-License-Identifier: Apache-2.0
//! Measures what the check of server names costs: a connection through the relay until the first
//! byte of the answer, with and without the check, and the parser alone. The ways alternate, so a
//! busy machine disturbs both alike.

#![expect(
    clippy::disallowed_methods,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a benchmark reads the clock, prints and may panic"
)]

use std::hint::black_box;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::Instant;

use terok_clearance_egress::relay::{RelayStats, relay_tcp, relay_tcp_checked};
use terok_clearance_egress::server_name::FirstBytes;

const CONNECTIONS: usize = 5_000;
const PARSES: u32 = 100_000;

fn main() {
    for (name, first_bytes) in [
        ("ClientHello", client_hello()),
        (
            "request",
            b"GET / HTTP/1.1\r\nHost: a.example\r\nAccept: */*\r\n\r\n".to_vec(),
        ),
    ] {
        let start = Instant::now();
        for _ in 0..PARSES {
            black_box(FirstBytes::inspect(black_box(&first_bytes)));
        }
        let parse = start.elapsed().as_secs_f64() * 1e9 / f64::from(PARSES);
        let entrances = [entrance(false), entrance(true)];
        let mut times = [Vec::new(), Vec::new()];
        for _ in 0..CONNECTIONS {
            for (entrance, times) in entrances.iter().zip(&mut times) {
                let start = Instant::now();
                let mut app = TcpStream::connect(entrance).unwrap();
                app.write_all(&first_bytes).unwrap();
                app.read_exact(&mut [0]).unwrap();
                times.push(start.elapsed().as_secs_f64() * 1e6);
            }
        }
        let [relayed, checked] = times.map(|mut times| {
            times.sort_by(f64::total_cmp);
            (times[CONNECTIONS / 2], times[CONNECTIONS * 9 / 10])
        });
        println!(
            "{name:12} {} bytes, parsed in {parse:5.0} ns; connect to first byte: relayed p50 \
             {:5.1} us p90 {:5.1}, checked p50 {:5.1} us p90 {:5.1}",
            first_bytes.len(),
            relayed.0,
            relayed.1,
            checked.0,
            checked.1
        );
    }
}

/// Starts a server that answers with a byte, and a relay to it; returns the relay's address.
fn entrance(is_checked: bool) -> SocketAddr {
    let server = TcpListener::bind("127.0.0.1:0").unwrap();
    let server_address = server.local_addr().unwrap();
    thread::spawn(move || {
        let mut buffer = [0; 4096];
        loop {
            let (mut accepted, _) = server.accept().unwrap();
            if accepted.read(&mut buffer).is_ok_and(|length| length > 0) {
                drop(accepted.write_all(b"x"));
            }
        }
    });
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async {
            listener.set_nonblocking(true).unwrap();
            let listener = tokio::net::TcpListener::from_std(listener).unwrap();
            let mut relays = tokio::task::JoinSet::new();
            loop {
                let (inside, _) = listener.accept().await.unwrap();
                let outside = tokio::net::TcpStream::connect(server_address);
                let outside = outside.await.unwrap();
                relays.spawn(async move {
                    let stats = RelayStats::default();
                    if is_checked {
                        let accepts = |name: &str| name == "a.example";
                        drop(relay_tcp_checked(inside, outside, &stats, accepts).await);
                    } else {
                        relay_tcp(inside, outside, &stats).await;
                    }
                });
                while relays.try_join_next().is_some() {}
            }
        });
    });
    address
}

/// A `ClientHello` of the usual length, with its name before the padding.
fn client_hello() -> Vec<u8> {
    let vector = |width: usize, bytes: &[u8]| {
        let length = bytes.len().to_be_bytes();
        [&length[length.len() - width..], bytes].concat()
    };
    let name = [&[0][..], &vector(2, b"a.example")].concat();
    let server_name = [&[0, 0][..], &vector(2, &vector(2, &name))].concat();
    let padding = [&[0, 21][..], &vector(2, &[0; 400])].concat();
    let body = [
        &[3, 3][..],
        &[7; 32],
        &vector(1, &[9; 32]),
        &vector(2, &[0x13, 1, 0x13, 2, 0x13, 3]),
        &vector(1, &[0]),
        &vector(2, &[server_name, padding].concat()),
    ]
    .concat();
    let message = [&[1][..], &vector(3, &body)].concat();
    [&[22, 3, 1][..], &vector(2, &message)].concat()
}
