// SPDX-License-Identifier: Apache-2.0
//! Reaching a session bus without saying who we are: the bus takes the number that the kernel tells.
//!
//! Within a namespace of a namespace nothing knows our number outside of both: every map that we can
//! read is translated for us. The EXTERNAL mechanism has a way that needs none, which libsystemd
//! goes always: an empty identity (RFC 4422, appendix A). zbus does not have it.

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

/// The longest line that a bus says before messages begin.
const MAX_LINE_BYTES: usize = 1024;

/// Connects to the bus at `address`, a unix socket, and returns what makes a connection of that. The
/// bus has not been greeted yet.
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
    let said = (read_line(&mut stream).await?, read_line(&mut stream).await?);
    let (question, answer) = (said.0.as_str(), said.1.as_str());
    let guid = answer.strip_prefix("OK ").filter(|_| question == "DATA");
    let Some(guid) = guid else {
        return Err(Error::Handshake(format!(
            "it said {question:?}, {answer:?}"
        )));
    };
    let guid = Guid::try_from(guid)?.to_owned();
    stream.write_all(b"BEGIN\r\n").await?;
    Ok(Builder::authenticated_socket(DbusStream(stream), guid))
}

/// Reads a line, without its end.
async fn read_line(stream: &mut UnixStream) -> zbus::Result<String> {
    let mut line = Vec::new();
    loop {
        match stream.read_u8().await? {
            b'\n' => break,
            _ if line.len() == MAX_LINE_BYTES => {
                return Err(Error::Handshake("a line has no end".to_owned()));
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

/// Reads bytes. No call or signal of ours has descriptors.
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
