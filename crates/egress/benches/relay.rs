// SPDX-License-Identifier: Apache-2.0
//! Measures bulk transfer and round trips over loopback TCP: straight, relayed by this crate, and
//! relayed by `splice` through a pipe of default size. Each figure is the best of several rounds
//! that alternate, so a busy machine disturbs all alike. Then the memory of idle relays.

#![expect(
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a benchmark prints and may panic"
)]

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::pipe::{PipeFlags, SpliceFlags, pipe_with, splice};
use rustix::process::{Resource, Rlimit};
use terok_clearance_egress::relay::{RelayStats, relay_tcp};
use tokio::io::Interest;

const PAGE_BYTES: usize = 4096;
const IDLE_RELAYS: usize = 4000;
const ROUNDS: usize = 7;
const BULK_BYTES: usize = 2 << 30;
const ROUND_TRIPS: u32 = 20_000;
const SPLICE_BYTES: usize = 1 << 20;

#[derive(Clone, Copy)]
enum Way {
    Straight,
    Relay,
    Splice,
}

const WAYS: [(Way, &str); 3] = [
    (Way::Straight, "straight"),
    (Way::Relay, "relay_tcp"),
    (Way::Splice, "splice"),
];

fn main() {
    // First, while the heap is untouched.
    println!(
        "an idle relay takes {} bytes of resident memory",
        idle_bytes_per_relay()
    );
    let mut speed = [0.0_f64; 3];
    let mut processor = [f64::INFINITY; 3];
    let mut trips = [f64::INFINITY; 3];
    for _ in 0..ROUNDS {
        for (index, (way, _)) in WAYS.into_iter().enumerate() {
            let (round_speed, round_processor) = bulk(way);
            speed[index] = speed[index].max(round_speed);
            processor[index] = processor[index].min(round_processor);
            trips[index] = trips[index].min(round_trip_micros(way));
        }
    }
    for (index, (_, name)) in WAYS.into_iter().enumerate() {
        println!(
            "{name:10} {:6.0} MB/s, {:4.2} of straight; relay thread {:4.0} ms/GB; \
             round trip {:5.1} us",
            speed[index],
            speed[index] / speed[0],
            processor[index],
            trips[index]
        );
    }
}

/// Bytes of resident memory that each of many idle relays takes, after each moved a byte.
fn idle_bytes_per_relay() -> usize {
    let limit = rustix::process::getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        ..limit
    };
    rustix::process::setrlimit(Resource::Nofile, raised).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let (entrance, address) = listener();
        let pair = || {
            let app = TcpStream::connect(address).unwrap();
            let (socket, _) = entrance.accept().unwrap();
            socket.set_nonblocking(true).unwrap();
            (app, socket)
        };
        let connections: Vec<_> = (0..IDLE_RELAYS).map(|_| (pair(), pair())).collect();
        let mut relays = tokio::task::JoinSet::new();
        let mut ends = Vec::with_capacity(IDLE_RELAYS);
        let before = resident_bytes();
        for ((mut app, inside), (server, outside)) in connections {
            app.write_all(b"x").unwrap();
            server.set_nonblocking(true).unwrap();
            ends.push((app, server));
            let inside = tokio::net::TcpStream::from_std(inside).unwrap();
            let outside = tokio::net::TcpStream::from_std(outside).unwrap();
            relays.spawn(async move { relay_tcp(inside, outside, &RelayStats::default()).await });
        }
        for (_, server) in &ends {
            while server.peek(&mut [0]).is_err() {
                tokio::task::yield_now().await;
            }
        }
        (resident_bytes() - before) / IDLE_RELAYS
    })
}

fn resident_bytes() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    statm.split(' ').nth(1).unwrap().parse::<usize>().unwrap() * PAGE_BYTES
}

/// Returns the speed, and the processor time of the relay's thread in milliseconds a gigabyte.
fn bulk(way: Way) -> (f64, f64) {
    let (server, address) = listener();
    let sender = thread::spawn(move || {
        let (mut stream, _) = server.accept().unwrap();
        let chunk = vec![7; 128 * 1024];
        for _ in 0..BULK_BYTES / chunk.len() {
            stream.write_all(&chunk).unwrap();
        }
    });
    let (mut client, relay) = connect(way, address);
    let mut buffer = vec![0; 256 * 1024];
    let mut total = 0;
    let start = now();
    loop {
        match client.read(&mut buffer).unwrap() {
            0 => break,
            read => total += read,
        }
    }
    let seconds = start.elapsed().as_secs_f64();
    assert_eq!(total, BULK_BYTES);
    drop(client);
    sender.join().unwrap();
    let processor = relay.map_or(Duration::ZERO, |relay| relay.join().unwrap());
    let megabytes = f64::from(u32::try_from(BULK_BYTES / 1_000_000).unwrap());
    (
        megabytes / seconds,
        processor.as_secs_f64() * 1e6 / megabytes,
    )
}

fn round_trip_micros(way: Way) -> f64 {
    let (server, address) = listener();
    let echo = thread::spawn(move || {
        let (mut stream, _) = server.accept().unwrap();
        stream.set_nodelay(true).unwrap();
        let mut byte = [0];
        while stream.read(&mut byte).unwrap() == 1 {
            stream.write_all(&byte).unwrap();
        }
    });
    let (mut client, relay) = connect(way, address);
    let start = now();
    let mut byte = [1];
    for _ in 0..ROUND_TRIPS {
        client.write_all(&byte).unwrap();
        client.read_exact(&mut byte).unwrap();
    }
    let micros = start.elapsed().as_secs_f64() * 1e6 / f64::from(ROUND_TRIPS);
    drop(client);
    echo.join().unwrap();
    if let Some(relay) = relay {
        relay.join().unwrap();
    }
    micros
}

#[expect(clippy::disallowed_methods, reason = "a benchmark reads the clock")]
fn now() -> Instant {
    Instant::now()
}

fn listener() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

/// Connects to `server`, through a relay on a thread of its own unless straight.
fn connect(way: Way, server: SocketAddr) -> (TcpStream, Option<thread::JoinHandle<Duration>>) {
    if matches!(way, Way::Straight) {
        let client = TcpStream::connect(server).unwrap();
        client.set_nodelay(true).unwrap();
        return (client, None);
    }
    let (entrance, address) = listener();
    let relay = thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async {
            let (inside, _) = entrance.accept().unwrap();
            let outside = TcpStream::connect(server).unwrap();
            let [inside, outside] = [inside, outside].map(|socket| {
                socket.set_nonblocking(true).unwrap();
                socket.set_nodelay(true).unwrap();
                tokio::net::TcpStream::from_std(socket).unwrap()
            });
            if matches!(way, Way::Splice) {
                tokio::join!(
                    splice_one_way(&inside, &outside),
                    splice_one_way(&outside, &inside)
                );
            } else {
                relay_tcp(inside, outside, &RelayStats::default()).await;
            }
        });
        let cpu = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
        Duration::new(
            u64::try_from(cpu.tv_sec).unwrap(),
            u32::try_from(cpu.tv_nsec).unwrap(),
        )
    });
    let client = TcpStream::connect(address).unwrap();
    client.set_nodelay(true).unwrap();
    (client, Some(relay))
}

async fn splice_one_way(source: &tokio::net::TcpStream, sink: &tokio::net::TcpStream) {
    let (pipe_out, pipe_in) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK).unwrap();
    loop {
        source.readable().await.unwrap();
        let read = source.try_io(Interest::READABLE, || {
            let flags = SpliceFlags::MOVE | SpliceFlags::NONBLOCK;
            Ok(splice(source, None, &pipe_in, None, SPLICE_BYTES, flags)?)
        });
        let mut held = match read {
            Ok(0) => break,
            Ok(held) => held,
            Err(error) if Errno::from_io_error(&error) == Some(Errno::AGAIN) => continue,
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => continue,
            Err(_) => break,
        };
        while held > 0 {
            sink.writable().await.unwrap();
            let written = sink.try_io(Interest::WRITABLE, || {
                let flags = SpliceFlags::MOVE | SpliceFlags::NONBLOCK;
                Ok(splice(&pipe_out, None, sink, None, held, flags)?)
            });
            match written {
                Ok(written) => held -= written,
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
                Err(_) => return,
            }
        }
    }
    rustix::net::shutdown(sink, rustix::net::Shutdown::Write).ok();
}
