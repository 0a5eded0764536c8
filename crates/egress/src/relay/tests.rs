// SPDX-License-Identifier: Apache-2.0

use std::hash::{DefaultHasher, Hasher as _};
use std::io::{Read as _, Write as _};
use std::thread;

use rustix::net::SendFlags;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use super::direction::Moved;
use super::*;

/// A relay between two apps: (app inside, server outside, socket inside, socket outside).
async fn endpoints() -> (TcpStream, TcpStream, TcpStream, TcpStream) {
    let (app, inside) = connected().await;
    let (server, outside) = connected().await;
    (app, server, inside, outside)
}

async fn connected() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let client = TcpStream::connect(listener.local_addr().unwrap())
        .await
        .unwrap();
    let (accepted, _) = listener.accept().await.unwrap();
    (client, accepted)
}

async fn read_errno(stream: &mut TcpStream) -> Errno {
    let error = stream.read(&mut [0; 16]).await.unwrap_err();
    Errno::from_io_error(&error).unwrap()
}

fn reset(stream: TcpStream) {
    stream.set_zero_linger().unwrap();
    drop(stream);
}

#[tokio::test]
async fn half_close_passes_in_both_orders() {
    for inside_first in [true, false] {
        let (mut app, mut server, inside, outside) = endpoints().await;
        let stats = RelayStats::default();
        let talk = async {
            let (first, second) = if inside_first {
                (&mut app, &mut server)
            } else {
                (&mut server, &mut app)
            };
            first.write_all(b"request").await.unwrap();
            first.shutdown().await.unwrap();
            let mut received = Vec::new();
            second.read_to_end(&mut received).await.unwrap();
            assert_eq!(received, b"request");
            // The other direction still works after the half-close.
            for _ in 0..3 {
                second.write_all(b"answer").await.unwrap();
                first.read_exact(&mut [0; 6]).await.unwrap();
            }
            second.shutdown().await.unwrap();
            assert_eq!(first.read(&mut [0; 1]).await.unwrap(), 0);
        };
        let (summary, ()) = tokio::join!(relay_tcp(inside, outside, &stats), talk);
        let (bytes_out, bytes_in) = if inside_first { (7, 18) } else { (18, 7) };
        assert_eq!(
            summary,
            RelaySummary {
                bytes_out,
                bytes_in,
                end: RelayEnd::Closed
            }
        );
        assert_eq!((stats.bytes_out(), stats.bytes_in()), (bytes_out, bytes_in));
    }
}

#[tokio::test]
async fn reset_of_one_side_resets_the_other() {
    for side in [RelaySide::Inside, RelaySide::Outside] {
        let (app, server, inside, outside) = endpoints().await;
        let stats = RelayStats::default();
        let (broken, mut other) = if side == RelaySide::Inside {
            (app, server)
        } else {
            (server, app)
        };
        let talk = async {
            reset(broken);
            read_errno(&mut other).await
        };
        let (summary, errno) = tokio::join!(relay_tcp(inside, outside, &stats), talk);
        assert_eq!(
            (summary.end, errno),
            (RelayEnd::Reset(side), Errno::CONNRESET)
        );
    }
}

#[tokio::test]
async fn reset_after_half_close_is_passed_on() {
    for side in [RelaySide::Inside, RelaySide::Outside] {
        let (app, server, inside, outside) = endpoints().await;
        let stats = RelayStats::default();
        let (mut broken, mut other) = if side == RelaySide::Inside {
            (app, server)
        } else {
            (server, app)
        };
        let talk = async {
            broken.shutdown().await.unwrap();
            assert_eq!(other.read(&mut [0; 1]).await.unwrap(), 0);
            reset(broken);
            other.ready(Interest::ERROR).await.unwrap();
            other.take_error().unwrap().unwrap()
        };
        let (summary, error) = tokio::join!(relay_tcp(inside, outside, &stats), talk);
        assert_eq!(summary.end, RelayEnd::Reset(side));
        // A socket that has read the end of the stream reports a reset as a broken pipe.
        assert_eq!(Errno::from_io_error(&error), Some(Errno::PIPE));
    }
}

#[tokio::test]
async fn reset_is_noticed_while_the_other_side_does_not_read() {
    let (app, mut server, inside, outside) = endpoints().await;
    let stats = RelayStats::default();
    let talk = async {
        fill(&app).await;
        reset(app);
    };
    let (summary, ()) = tokio::join!(relay_tcp(inside, outside, &stats), talk);
    assert_eq!(summary.end, RelayEnd::Reset(RelaySide::Inside));
    let error = server.read_to_end(&mut Vec::new()).await.unwrap_err();
    assert_eq!(Errno::from_io_error(&error), Some(Errno::CONNRESET));
}

/// Writes until the whole way to the other end is full: the relay gets several turns after each
/// write that would block.
async fn fill(stream: &TcpStream) {
    let chunk = vec![1; 64 * 1024];
    let mut idle_turns = 0;
    while idle_turns < 100 {
        match stream.try_write(&chunk) {
            Ok(_) => idle_turns = 0,
            Err(error) => {
                assert_eq!(error.kind(), std::io::ErrorKind::WouldBlock);
                idle_turns += 1;
            }
        }
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn answer_before_a_reset_is_delivered() {
    let (mut app, mut server, inside, outside) = endpoints().await;
    let stats = RelayStats::default();
    app.write_all(b"an upload that the server does not read")
        .await
        .unwrap();
    let talk = async {
        server.readable().await.unwrap();
        server.write_all(b"413 too large").await.unwrap();
        // Closing with unread bytes sends a reset behind the answer.
        drop(server);
        app.read_exact(&mut [0; 13]).await.unwrap();
        read_errno(&mut app).await
    };
    let (summary, errno) = tokio::join!(relay_tcp(inside, outside, &stats), talk);
    assert_eq!(errno, Errno::CONNRESET);
    assert_eq!(
        (summary.end, summary.bytes_in),
        (RelayEnd::Reset(RelaySide::Outside), 13)
    );
}

#[tokio::test]
async fn dropped_relay_resets_both_sides() {
    let (mut app, mut server, inside, outside) = endpoints().await;
    let stats = RelayStats::default();
    {
        let mut relay = pin!(relay_tcp(inside, outside, &stats));
        let talk = async {
            app.write_all(b"x").await.unwrap();
            server.read_exact(&mut [0; 1]).await.unwrap();
        };
        tokio::select! {
            _ = &mut relay => panic!("the relay ended"),
            () = talk => {}
        }
    }
    assert_eq!(read_errno(&mut app).await, Errno::CONNRESET);
    assert_eq!(read_errno(&mut server).await, Errno::CONNRESET);
}

#[tokio::test]
async fn slow_reader_stops_reading() {
    let (app, _server, inside, outside) = endpoints().await;
    let written = AtomicU64::new(0);
    let mut direction = Direction::new(&inside, &outside, &written);
    let relay = poll_fn(|cx| match direction.poll(cx) {
        Poll::Ready(turn) => {
            turn.unwrap();
            cx.waker().wake_by_ref();
            Poll::Pending
        }
        Poll::Pending => Poll::<()>::Pending,
    });
    tokio::select! {
        () = relay => panic!("the direction ended"),
        () = fill(&app) => {}
    }
    let kept = direction.kept_bytes();
    assert!(
        0 < kept && kept <= splice::SPLICE_BYTES,
        "{kept} bytes kept"
    );
    // The rest waits in the kernel, where it slows the app down.
    assert!(rustix::io::ioctl_fionread(&inside).unwrap() > 0);
    drop(direction);
}

#[tokio::test]
async fn reads_are_small_while_remainders_exceed_their_budget() {
    let (app, _server, inside, outside) = endpoints().await;
    let written = AtomicU64::new(0);
    let mut direction = Direction::new(&inside, &outside, &written);
    app.try_write(&vec![0; 32 * 1024]).unwrap();
    inside.readable().await.unwrap();
    let excess = direction::exceed_budget();
    assert_eq!(
        direction.move_chunk(),
        Ok(Moved::Bytes(direction::SMALL_READ_BYTES))
    );
    drop(excess);
    let rest = 32 * 1024 - direction::SMALL_READ_BYTES;
    assert_eq!(direction.move_chunk(), Ok(Moved::Bytes(rest)));
}

#[tokio::test]
async fn bulk_transfers_without_a_pipe_are_copied() {
    let pipes: Vec<_> = std::iter::from_fn(splice::SplicePipe::take)
        .take(splice::MAX_PIPES + 1)
        .collect();
    assert!(pipes.len() <= splice::MAX_PIPES);
    big_transfer(4 * 1024 * 1024).await;
    drop(pipes);
}

#[tokio::test]
async fn big_transfer_arrives_intact_in_both_directions() {
    big_transfer(16 * 1024 * 1024).await;
}

async fn big_transfer(total: u64) {
    let (app, server, inside, outside) = endpoints().await;
    let stats = RelayStats::default();
    let ends = [(app, 1), (server, 2)].map(|(stream, seed)| {
        let mut writer = blocking(stream);
        let mut reader = writer.try_clone().unwrap();
        let reader = thread::spawn(move || {
            let mut hasher = DefaultHasher::new();
            let mut buffer = vec![0; 70_001];
            loop {
                match reader.read(&mut buffer).unwrap() {
                    0 => return hasher.finish(),
                    read => hash_bytes(&mut hasher, &buffer[..read]),
                }
            }
        });
        let writer = thread::spawn(move || {
            let mut hasher = DefaultHasher::new();
            let mut random: u64 = seed;
            let mut left = total;
            while left > 0 {
                let length = left.min(1 + random % 100_000);
                let chunk: Vec<u8> = (0..length)
                    .map(|_| {
                        random = random
                            .wrapping_mul(6_364_136_223_846_793_005)
                            .wrapping_add(1);
                        random.to_be_bytes()[0]
                    })
                    .collect();
                hash_bytes(&mut hasher, &chunk);
                writer.write_all(&chunk).unwrap();
                left -= length;
            }
            writer.shutdown(std::net::Shutdown::Write).unwrap();
            hasher.finish()
        });
        (writer, reader)
    });
    let summary = relay_tcp(inside, outside, &stats).await;
    assert_eq!(
        summary,
        RelaySummary {
            bytes_out: total,
            bytes_in: total,
            end: RelayEnd::Closed
        }
    );
    let [app, server] =
        ends.map(|(sent, received)| (sent.join().unwrap(), received.join().unwrap()));
    assert_eq!((app.0, server.0), (server.1, app.1));
}

/// Hashes byte by byte, so that the hash does not depend on the cut into reads.
fn hash_bytes(hasher: &mut DefaultHasher, bytes: &[u8]) {
    for &byte in bytes {
        hasher.write_u8(byte);
    }
}

fn blocking(stream: TcpStream) -> std::net::TcpStream {
    let stream = stream.into_std().unwrap();
    stream.set_nonblocking(false).unwrap();
    stream
}

#[tokio::test]
async fn bulk_transfer_lets_others_run() {
    const TRIPS: u64 = 50;
    let (app, server, inside, outside) = endpoints().await;
    let (mut writer, mut reader) = (blocking(app), blocking(server));
    let writer = thread::spawn(move || {
        let chunk = vec![0; 128 * 1024];
        while writer.write_all(&chunk).is_ok() {}
    });
    let reader = thread::spawn(move || {
        let mut buffer = vec![0; 256 * 1024];
        while reader.read(&mut buffer).is_ok_and(|read| read > 0) {}
    });
    let (mut small_app, mut small_server, small_inside, small_outside) = endpoints().await;
    let (bulk, small) = (RelayStats::default(), RelayStats::default());
    let trips = async {
        for _ in 0..TRIPS {
            small_app.write_all(b"x").await.unwrap();
            small_server.read_exact(&mut [0; 1]).await.unwrap();
        }
    };
    tokio::select! {
        _ = relay_tcp(inside, outside, &bulk) => panic!("the bulk transfer ended"),
        _ = relay_tcp(small_inside, small_outside, &small) => panic!("the small relay ended"),
        () = trips => {}
    }
    // A byte crosses in a few turns of the event loop, each with one turn of the bulk transfer.
    let bulk_per_trip = bulk.bytes_out() / TRIPS;
    assert!(
        bulk_per_trip < 16 * 1024 * 1024,
        "{bulk_per_trip} bytes between two small ones"
    );
    writer.join().unwrap();
    reader.join().unwrap();
}

#[tokio::test]
async fn a_thousand_connections_at_once() {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    rustix::process::setrlimit(
        rustix::process::Resource::Nofile,
        rustix::process::Rlimit {
            current: limit.maximum,
            ..limit
        },
    )
    .unwrap();
    let mut relays = JoinSet::new();
    let mut ends = Vec::new();
    for _ in 0..1000 {
        let (app, server, inside, outside) = endpoints().await;
        ends.push((app, server));
        relays.spawn(async move { relay_tcp(inside, outside, &RelayStats::default()).await });
    }
    for (index, (app, server)) in ends.iter_mut().enumerate() {
        app.write_all(&index.to_be_bytes()).await.unwrap();
        server.write_all(&index.to_le_bytes()).await.unwrap();
    }
    for (index, (mut app, mut server)) in ends.into_iter().enumerate() {
        let mut bytes = [0; 8];
        server.read_exact(&mut bytes).await.unwrap();
        assert_eq!(bytes, index.to_be_bytes());
        app.read_exact(&mut bytes).await.unwrap();
        assert_eq!(bytes, index.to_le_bytes());
    }
    for summary in relays.join_all().await {
        assert_eq!(
            summary,
            RelaySummary {
                bytes_out: 8,
                bytes_in: 8,
                end: RelayEnd::Closed
            }
        );
    }
}

#[tokio::test]
async fn urgent_data_passes_in_line() {
    let (app, mut server, inside, outside) = endpoints().await;
    let stats = RelayStats::default();
    // The urgent byte is the last of "a!", and bytes wait behind it before the relay starts.
    for (bytes, flags) in [
        (b"a!", SendFlags::OOB),
        (b"bc", SendFlags::empty()),
        (b"d!", SendFlags::OOB),
        (b"ef", SendFlags::empty()),
    ] {
        rustix::net::send(&app, bytes, flags).unwrap();
    }
    let talk = async {
        let mut received = [0; 8];
        server.read_exact(&mut received).await.unwrap();
        drop(app);
        assert_eq!(&received, b"a!bcd!ef");
        drop(server);
    };
    let (summary, ()) = tokio::join!(relay_tcp(inside, outside, &stats), talk);
    assert_eq!((summary.bytes_out, summary.end), (8, RelayEnd::Closed));
}

#[tokio::test]
async fn idle_relay_is_small() {
    let (_app, _server, inside, outside) = endpoints().await;
    let stats = RelayStats::default();
    let relay = relay_tcp(inside, outside, &stats);
    let bytes = size_of_val(&relay);
    assert!(bytes <= 1024, "{bytes} bytes");
}

#[tokio::test]
async fn options_are_set_on_both_sockets() {
    let (_app, socket) = connected().await;
    prepare(&socket, &INSIDE_KEEPALIVE);
    assert!(socket.nodelay().unwrap());
    assert!(sockopt::socket_keepalive(&socket).unwrap());
    assert_eq!(
        sockopt::tcp_keepidle(&socket).unwrap(),
        INSIDE_KEEPALIVE.idle
    );
}

#[test]
fn errors_name_their_end() {
    let side = RelaySide::Outside;
    for (errno, expected) in [
        (Errno::CONNRESET, RelayEnd::Reset(side)),
        (Errno::PIPE, RelayEnd::Reset(side)),
        (Errno::TIMEDOUT, RelayEnd::Failed(side, Errno::TIMEDOUT)),
        (
            Errno::HOSTUNREACH,
            RelayEnd::Failed(side, Errno::HOSTUNREACH),
        ),
    ] {
        assert_eq!(end_of(side, errno), expected);
    }
}
