// SPDX-License-Identifier: Apache-2.0
//! The handshake with a proxy: HTTP `CONNECT` (RFC 9110 section 9.3.6) and SOCKS 5 (RFC 1928 and
//! 1929).

use std::io;
use std::net::IpAddr;
use std::time::Duration;

use rustix::io::Errno;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::server::{ProxyCredentials, ProxyScheme, ProxyServer};
use crate::dial::{DialError, UnreachablePart};

/// Time limit for a handshake. The proxy dials within it.
pub const PROXY_TIMEOUT: Duration = Duration::from_secs(30);

/// Maximum length of the header of a reply.
const MAX_HEADER_BYTES: usize = 8 * 1024;

/// Bytes looked at in one step of reading a header.
const PEEK_BYTES: usize = 1024;

/// The reason why a proxy did not connect.
#[derive(Debug, thiserror::Error)]
pub enum ProxyError {
    /// The destination is no name or address that a proxy can be given.
    #[error("the destination's name cannot be given to a proxy")]
    BadDestination,
    /// The connection to the proxy failed.
    #[error("the connection to the proxy failed")]
    Io(#[source] io::Error),
    /// The proxy did not answer within [`PROXY_TIMEOUT`].
    #[error("the proxy did not answer in time")]
    TimedOut,
    /// The proxy closed the connection before the end of its reply.
    #[error("the proxy closed the connection without a whole reply")]
    Closed,
    /// The reply does not follow the protocol, or its header has no end.
    #[error("the proxy's reply is not one of its protocol; check the proxy's URL")]
    Malformed,
    /// The proxy wants other credentials: status 407, or a refused SOCKS authentication.
    #[error("the proxy wants a valid user name and password: http://USER:PASSWORD@HOST:PORT")]
    CredentialsNeeded,
    /// The proxy forbids the destination: status 401 or 403, or the SOCKS reply 2.
    #[error("the proxy forbids this destination")]
    Forbidden,
    /// The proxy could not reach the destination.
    #[error("the proxy cannot reach the destination: the {0} is unreachable")]
    Unreachable(UnreachablePart),
    /// The destination refused the proxy's connection.
    #[error("the destination refused the proxy's connection")]
    Refused,
    /// The HTTP proxy answered with another status.
    #[error("the proxy answered with status {0}")]
    Status(u16),
    /// The SOCKS proxy answered with another code.
    #[error("the proxy answered with SOCKS reply {0}")]
    SocksReply(u8),
}

impl From<io::Error> for ProxyError {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::UnexpectedEof => Self::Closed,
            _ => Self::Io(error),
        }
    }
}

/// What the app sees of a proxy's error.
impl From<ProxyError> for DialError {
    fn from(error: ProxyError) -> Self {
        match error {
            ProxyError::CredentialsNeeded | ProxyError::Forbidden => Self::NotPermitted,
            ProxyError::Unreachable(part) => Self::Unreachable(part),
            ProxyError::TimedOut => Self::TimedOut,
            ProxyError::Refused
            | ProxyError::Closed
            | ProxyError::Malformed
            | ProxyError::Status(_)
            | ProxyError::SocksReply(_) => Self::Refused,
            ProxyError::Io(error) => error.into(),
            ProxyError::BadDestination => Self::Local(Errno::INVAL.into()),
        }
    }
}

/// Asks a proxy for a connection to `host`, a name or an address, over `proxy_stream`.
///
/// The proxy resolves the name. The returned stream holds every byte of the destination: nothing
/// behind the proxy's reply is read. Takes at most [`PROXY_TIMEOUT`].
pub async fn connect_through(
    mut proxy_stream: TcpStream,
    proxy: &ProxyServer,
    host: &str,
    port: u16,
) -> Result<TcpStream, ProxyError> {
    let destination = ProxyDestination::parse(host).ok_or(ProxyError::BadDestination)?;
    let credentials = proxy.credentials();
    let handshake = async {
        match proxy.scheme() {
            ProxyScheme::Http => {
                http_connect(&mut proxy_stream, &destination, port, credentials).await
            }
            ProxyScheme::Socks5 => {
                socks_connect(&mut proxy_stream, &destination, port, credentials).await
            }
        }
    };
    match tokio::time::timeout(PROXY_TIMEOUT, handshake).await {
        Ok(result) => result.map(|()| proxy_stream),
        Err(_) => Err(ProxyError::TimedOut),
    }
}

/// A destination that no byte of breaks out of a request.
enum ProxyDestination<'a> {
    Name(&'a str),
    Address(IpAddr),
}

impl<'a> ProxyDestination<'a> {
    fn parse(host: &'a str) -> Option<Self> {
        if let Ok(address) = host.parse() {
            return Some(Self::Address(address));
        }
        let is_name_byte = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
        let valid = !host.is_empty() && host.len() <= 253 && host.bytes().all(is_name_byte);
        valid.then_some(Self::Name(host))
    }
}

async fn http_connect(
    stream: &mut TcpStream,
    destination: &ProxyDestination<'_>,
    port: u16,
    credentials: Option<&ProxyCredentials>,
) -> Result<(), ProxyError> {
    let authority = match destination {
        ProxyDestination::Name(name) => format!("{name}:{port}"),
        ProxyDestination::Address(IpAddr::V4(address)) => format!("{address}:{port}"),
        ProxyDestination::Address(IpAddr::V6(address)) => format!("[{address}]:{port}"),
    };
    let mut request = format!("CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\n");
    if let Some(ProxyCredentials { user, password }) = credentials {
        let pair = [user, &b":"[..], password].concat();
        request.push_str("Proxy-Authorization: Basic ");
        base64_into(&mut request, &pair);
        request.push_str("\r\n");
    }
    request.push_str("\r\n");
    stream.write_all(request.as_bytes()).await?;
    let header = read_header(stream).await?;
    match parse_status(&header).ok_or(ProxyError::Malformed)? {
        200..=299 => Ok(()),
        407 => Err(ProxyError::CredentialsNeeded),
        401 | 403 => Err(ProxyError::Forbidden),
        502..=504 => Err(ProxyError::Unreachable(UnreachablePart::Host)),
        status => Err(ProxyError::Status(status)),
    }
}

/// Reads a header up to its empty line, and not a byte of what follows: it looks first, then takes
/// what belongs to the header.
async fn read_header(stream: &mut TcpStream) -> Result<Vec<u8>, ProxyError> {
    let mut header = Vec::new();
    let mut ahead = [0; PEEK_BYTES];
    while header.len() < MAX_HEADER_BYTES {
        let peeked = stream.peek(&mut ahead).await?;
        if peeked == 0 {
            return Err(ProxyError::Closed);
        }
        let start = header.len();
        header.extend_from_slice(ahead.get(..peeked).unwrap_or_default());
        let end = end_of_header(&header, start);
        header.truncate(end.unwrap_or(header.len()));
        // The bytes are there already.
        stream
            .read_exact(header.get_mut(start..).unwrap_or_default())
            .await?;
        if end.is_some() {
            return Ok(header);
        }
        // What begins unlike a reply of HTTP needs no more patience.
        if !header
            .iter()
            .zip(b"HTTP/1.")
            .all(|(byte, expected)| byte == expected)
        {
            return Err(ProxyError::Malformed);
        }
    }
    Err(ProxyError::Malformed)
}

/// Returns the offset behind the first empty line; a line ends with LF or CRLF. An empty line that
/// ends before `known` was found by an earlier call.
fn end_of_header(header: &[u8], known: usize) -> Option<usize> {
    let start = known.saturating_sub(2);
    let tail = header.get(start..)?;
    let line_ends = tail.iter().enumerate().filter(|(_, byte)| **byte == b'\n');
    for (index, _) in line_ends {
        let next = index.checked_add(1)?;
        let length = match tail.get(next..)? {
            [b'\n', ..] => 1,
            [b'\r', b'\n', ..] => 2,
            _ => continue,
        };
        return start.checked_add(next)?.checked_add(length);
    }
    None
}

fn parse_status(header: &[u8]) -> Option<u16> {
    let rest = header.strip_prefix(b"HTTP/1.")?;
    let [minor, b' ', status @ ..] = rest else {
        return None;
    };
    let (digits, rest) = status.split_at_checked(3)?;
    let digits_only = minor.is_ascii_digit() && digits.iter().all(u8::is_ascii_digit);
    if !digits_only || !rest.first()?.is_ascii_whitespace() {
        return None;
    }
    str::from_utf8(digits)
        .ok()?
        .parse()
        .ok()
        .filter(|status| *status >= 100)
}

const BASE64_ALPHABET: &[u8; 64] =
    b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// Appends `bytes` in base64 (RFC 4648 section 4).
fn base64_into(text: &mut String, bytes: &[u8]) {
    for chunk in bytes.chunks(3) {
        let byte = |index| u32::from(chunk.get(index).copied().unwrap_or(0));
        let word = byte(0) << 16 | byte(1) << 8 | byte(2);
        for (index, shift) in [18, 12, 6, 0].into_iter().enumerate() {
            let digit = usize::try_from(word >> shift & 0x3f).unwrap_or(0);
            let character = BASE64_ALPHABET.get(digit).copied().unwrap_or(b'=');
            text.push(if index > chunk.len() {
                '='
            } else {
                char::from(character)
            });
        }
    }
}

/// Numbers of the SOCKS protocol.
mod socks {
    pub(super) const VERSION: u8 = 5;
    pub(super) const NO_AUTHENTICATION: u8 = 0;
    pub(super) const USER_AND_PASSWORD: u8 = 2;
    pub(super) const NO_METHOD: u8 = 0xff;
    pub(super) const AUTHENTICATION_VERSION: u8 = 1;
    pub(super) const CONNECT: u8 = 1;
    pub(super) const IPV4: u8 = 1;
    pub(super) const NAME: u8 = 3;
    pub(super) const IPV6: u8 = 4;
}

async fn socks_connect(
    stream: &mut TcpStream,
    destination: &ProxyDestination<'_>,
    port: u16,
    credentials: Option<&ProxyCredentials>,
) -> Result<(), ProxyError> {
    let methods: &[u8] = match credentials {
        Some(_) => &[
            socks::VERSION,
            2,
            socks::NO_AUTHENTICATION,
            socks::USER_AND_PASSWORD,
        ],
        None => &[socks::VERSION, 1, socks::NO_AUTHENTICATION],
    };
    stream.write_all(methods).await?;
    match (read_array(stream).await?, credentials) {
        ([socks::VERSION, socks::NO_AUTHENTICATION], _) => {}
        ([socks::VERSION, socks::USER_AND_PASSWORD], Some(credentials)) => {
            let mut request = vec![socks::AUTHENTICATION_VERSION];
            for text in [&credentials.user, &credentials.password] {
                push_counted(&mut request, text)?;
            }
            stream.write_all(&request).await?;
            match read_array(stream).await? {
                [socks::AUTHENTICATION_VERSION, 0] => {}
                [socks::AUTHENTICATION_VERSION, _] => return Err(ProxyError::CredentialsNeeded),
                _ => return Err(ProxyError::Malformed),
            }
        }
        ([socks::VERSION, socks::NO_METHOD], _) => return Err(ProxyError::CredentialsNeeded),
        _ => return Err(ProxyError::Malformed),
    }
    let mut request = vec![socks::VERSION, socks::CONNECT, 0];
    match destination {
        ProxyDestination::Name(name) => {
            request.push(socks::NAME);
            push_counted(&mut request, name.as_bytes())?;
        }
        ProxyDestination::Address(IpAddr::V4(address)) => {
            request.push(socks::IPV4);
            request.extend(address.octets());
        }
        ProxyDestination::Address(IpAddr::V6(address)) => {
            request.push(socks::IPV6);
            request.extend(address.octets());
        }
    }
    request.extend(port.to_be_bytes());
    stream.write_all(&request).await?;
    let [version, reply, reserved, address_type] = read_array(stream).await?;
    if version != socks::VERSION || reserved != 0 {
        return Err(ProxyError::Malformed);
    }
    match reply {
        0 => skip_bound_address(stream, address_type).await,
        2 => Err(ProxyError::Forbidden),
        3 => Err(ProxyError::Unreachable(UnreachablePart::Network)),
        // Host unreachable, hop limit exceeded.
        4 | 6 => Err(ProxyError::Unreachable(UnreachablePart::Host)),
        5 => Err(ProxyError::Refused),
        reply => Err(ProxyError::SocksReply(reply)),
    }
}

/// Takes the address that the proxy connected from, the end of its reply.
async fn skip_bound_address(stream: &mut TcpStream, address_type: u8) -> Result<(), ProxyError> {
    let address_bytes = match address_type {
        socks::IPV4 => 4,
        socks::IPV6 => 16,
        socks::NAME => usize::from(read_array::<1>(stream).await?[0]),
        _ => return Err(ProxyError::Malformed),
    };
    let mut rest = vec![0; address_bytes.saturating_add(2)];
    stream.read_exact(&mut rest).await?;
    Ok(())
}

fn push_counted(request: &mut Vec<u8>, text: &[u8]) -> Result<(), ProxyError> {
    let length = u8::try_from(text.len())
        .ok()
        .ok_or(ProxyError::BadDestination)?;
    request.push(length);
    request.extend_from_slice(text);
    Ok(())
}

async fn read_array<const N: usize>(stream: &mut TcpStream) -> Result<[u8; N], ProxyError> {
    let mut bytes = [0; N];
    stream.read_exact(&mut bytes).await?;
    Ok(bytes)
}

#[cfg(test)]
mod tests;
