// SPDX-License-Identifier: Apache-2.0
//! Authentication at a session bus without a user id: the bus uses the id reported by the kernel.
//!
//! Within nested user namespaces the outermost id is unknown, because the kernel translates every
//! readable map. The EXTERNAL mechanism allows an empty identity (RFC 4422, appendix A).
//! libsystemd always sends an empty identity; zbus does not support that.

use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::SocketAddr;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use zbus::address::Address;
use zbus::address::transport::{Transport, UnixSocket};
use zbus::connection::Builder;
use zbus::connection::socket::{ReadHalf, Socket, Split, WriteHalf};
use zbus::export::async_trait::async_trait;
use zbus::{Error, Guid};

/// Maximum length of a line of the handshake.
const MAX_LINE_BYTES: usize = 1024;

/// Authenticates at the bus at `address`, a unix socket, and returns the builder of the connection.
/// The caller must send `Hello`.
pub(super) async fn connect_anonymously(address: &str) -> zbus::Result<Builder<'static>> {
    let address = Address::try_from(address)?;
    let Transport::Unix(unix) = address.transport() else {
        return Err(Error::Unsupported);
    };
    let at = match unix.path() {
        UnixSocket::File(path) => SocketAddr::from_pathname(path)?,
        UnixSocket::Abstract(name) => SocketAddr::from_abstract_name(name.as_bytes())?,
        _ => return Err(Error::Unsupported),
    };
    let stream = std::os::unix::net::UnixStream::connect_addr(&at)?;
    stream.set_nonblocking(true)?;
    let mut stream = UnixStream::from_std(stream)?;
    stream.write_all(b"\0AUTH EXTERNAL\r\nDATA\r\n").await?;
    let lines = (read_line(&mut stream).await?, read_line(&mut stream).await?);
    let (challenge, result) = (lines.0.as_str(), lines.1.as_str());
    let guid = result.strip_prefix("OK ").filter(|_| challenge == "DATA");
    let Some(guid) = guid else {
        return Err(Error::Handshake(format!(
            "the bus sent {challenge:?}, {result:?}"
        )));
    };
    let guid = Guid::try_from(guid)?.to_owned();
    stream.write_all(b"BEGIN\r\n").await?;
    Ok(Builder::authenticated_socket(DbusStream(stream), guid))
}

/// Reads a line without the line end.
async fn read_line(stream: &mut UnixStream) -> zbus::Result<String> {
    let mut line = Vec::new();
    loop {
        match stream.read_u8().await? {
            b'\n' => break,
            _ if line.len() == MAX_LINE_BYTES => {
                return Err(Error::Handshake("a line is too long".to_owned()));
            }
            byte => line.push(byte),
        }
    }
    Ok(String::from_utf8_lossy(&line).trim_end().to_owned())
}

#[derive(Debug)]
struct DbusStream(UnixStream);

impl Socket for DbusStream {
    type ReadHalf = DbusReader;
    type WriteHalf = DbusWriter;

    fn split(self) -> Split<DbusReader, DbusWriter> {
        let (read, write) = self.0.into_split();
        Split::new(DbusReader(read), DbusWriter(write))
    }
}

/// Reads bytes; file descriptors are not expected.
#[derive(Debug)]
struct DbusReader(OwnedReadHalf);

#[async_trait]
impl ReadHalf for DbusReader {
    async fn recvmsg(&mut self, buffer: &mut [u8]) -> io::Result<(usize, Vec<OwnedFd>)> {
        Ok((self.0.read(buffer).await?, Vec::new()))
    }
}

#[derive(Debug)]
struct DbusWriter(OwnedWriteHalf);

#[async_trait]
impl WriteHalf for DbusWriter {
    async fn sendmsg(&mut self, buffer: &[u8], _: &[BorrowedFd<'_>]) -> io::Result<usize> {
        self.0.write(buffer).await
    }

    async fn close(&mut self) -> io::Result<()> {
        self.0.shutdown().await
    }
}
