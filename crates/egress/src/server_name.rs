// SPDX-License-Identifier: Apache-2.0
//! Finds the server name in the first bytes of a connection: TLS or plain HTTP/1.
//!
//! An allowed name leads to servers that may serve other names too. The names in the first bytes
//! are those that such a server selects by, before any encryption: the `server_name` of a TLS
//! `ClientHello` (with Encrypted Client Hello its outer one) and the host of an HTTP/1 request.
//! Whatever a server might take for a name counts: duplicates, lenient spellings, bare line feeds.
//!
//! The parsers are pure, and written here because the parsers of TLS on crates.io (`tls-parser`
//! with `nom`, rustls' acceptor with its cryptography) leave the fragments of a message to the
//! caller or bring many times the code of what is needed: one message, one extension.

mod client_hello;
mod http_head;

use std::fmt;

/// Maximum bytes that are searched for a server name.
pub const MAX_FIRST_BYTES: usize = 16 * 1024;

/// The meaning of the first bytes of a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FirstBytes {
    /// The decision needs more bytes: this many in total, or more.
    Incomplete {
        /// The smallest number of bytes that may decide.
        needed: usize,
    },
    /// TLS or HTTP/1 with these server names, as written. Not empty.
    Names(Vec<String>),
    /// TLS or HTTP without a readable server name.
    Unnamed(UnnamedServer),
    /// Neither TLS nor HTTP.
    OtherProtocol,
}

/// The reason why TLS or HTTP has no readable server name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UnnamedServer {
    /// A `ClientHello` without a server name.
    Tls,
    /// A TLS message that is no valid `ClientHello`.
    MalformedTls,
    /// An HTTP/1 request without a host.
    Http,
    /// HTTP/2 without TLS, whose hosts are compressed.
    PlainHttp2,
    /// The name is not within [`MAX_FIRST_BYTES`].
    TooLong,
}

impl fmt::Display for UnnamedServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tls => "TLS without a server name",
            Self::MalformedTls => "a malformed TLS greeting",
            Self::Http => "an HTTP request without a host",
            Self::PlainHttp2 => "HTTP/2 without TLS",
            Self::TooLong => "a greeting that is too long to check",
        })
    }
}

impl FirstBytes {
    /// Searches the first bytes of a client for server names. Bytes beyond [`MAX_FIRST_BYTES`] are
    /// ignored.
    pub fn inspect(bytes: &[u8]) -> Self {
        let searched = bytes.get(..MAX_FIRST_BYTES).unwrap_or(bytes);
        let found = match searched.first() {
            None => Self::Incomplete { needed: 1 },
            Some(&client_hello::HANDSHAKE) => client_hello::inspect_tls(searched),
            Some(first) if first & client_hello::SSL2_LENGTH_BIT != 0 => {
                client_hello::inspect_ssl2(searched)
            }
            Some(_) => http_head::inspect_http(searched),
        };
        match found {
            Self::Incomplete { needed }
                if needed > MAX_FIRST_BYTES || searched.len() == MAX_FIRST_BYTES =>
            {
                Self::Unnamed(UnnamedServer::TooLong)
            }
            found => found,
        }
    }

    /// Searches all bytes of a client that has closed its direction: a lenient server takes the end
    /// for the end of a request.
    pub fn inspect_at_end(bytes: &[u8]) -> Self {
        match Self::inspect(bytes) {
            Self::Incomplete { .. } => Self::inspect(&[bytes, b"\r\n\r\n"].concat()),
            found => found,
        }
    }
}

#[cfg(test)]
mod tests;
