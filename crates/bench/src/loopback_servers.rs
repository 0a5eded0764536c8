// SPDX-License-Identifier: Apache-2.0
//! The servers that a measured sandbox connects to. All listen on loopback.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, TcpListener, TcpStream, UdpSocket};
use std::thread;

use anyhow::Context as _;

use crate::probe::BULK_CHUNK;

/// The behaviour of a TCP server towards each connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ServerKind {
    /// Accepts and closes.
    Close,
    /// Accepts and keeps the connection idle.
    Keep,
    /// Reads to the end, and replies with the number of bytes.
    Receive,
    /// Sends this number of bytes, and closes.
    Send(u64),
}

/// Starts a server, and returns its port. The server ends with the process.
pub(crate) fn serve_tcp(kind: ServerKind) -> anyhow::Result<u16> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("binding a server")?;
    let port = listener
        .local_addr()
        .context("reading a server's port")?
        .port();
    thread::spawn(move || {
        let mut kept = Vec::new();
        // A broken connection fails at the probe, which reports it.
        for stream in listener.incoming().flatten() {
            match kind {
                ServerKind::Close => drop(stream),
                ServerKind::Keep => kept.push(stream),
                ServerKind::Receive => drop(receive(stream)),
                ServerKind::Send(bytes) => drop(send(stream, bytes)),
            }
        }
    });
    Ok(port)
}

/// Starts a UDP echo server, and returns its port. The server ends with the process.
pub(crate) fn serve_udp_echo() -> anyhow::Result<u16> {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).context("binding a server")?;
    let port = socket
        .local_addr()
        .context("reading a server's port")?
        .port();
    thread::spawn(move || {
        let mut buffer = [0; 2048];
        while let Ok((read, from)) = socket.recv_from(&mut buffer) {
            drop(socket.send_to(buffer.get(..read).unwrap_or_default(), from));
        }
    });
    Ok(port)
}

fn receive(mut stream: TcpStream) -> std::io::Result<()> {
    let mut buffer = vec![0; BULK_CHUNK];
    let mut bytes: u64 = 0;
    loop {
        match stream.read(&mut buffer)? {
            0 => return stream.write_all(&bytes.to_be_bytes()),
            read => bytes += u64::try_from(read).unwrap_or_default(),
        }
    }
}

fn send(mut stream: TcpStream, bytes: u64) -> std::io::Result<()> {
    let chunk = vec![7; BULK_CHUNK];
    for _ in 0..bytes / u64::try_from(BULK_CHUNK).unwrap_or(1) {
        stream.write_all(&chunk)?;
    }
    Ok(())
}
