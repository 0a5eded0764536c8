// SPDX-License-Identifier: Apache-2.0
//! The server name of a TLS `ClientHello` (RFC 8446 sections 4.1.2 and 5.1, RFC 6066 section 3).

use super::{FirstBytes, UnnamedServer};

/// The content type of a record with handshake messages.
pub(super) const HANDSHAKE: u8 = 22;
/// The bit of the first byte of an SSL 2.0 record.
pub(super) const SSL2_LENGTH_BIT: u8 = 0x80;

const MAJOR_VERSION: u8 = 3;
const CLIENT_HELLO: u8 = 1;
const SERVER_NAME_EXTENSION: usize = 0;
const HOST_NAME: u8 = 0;
const RECORD_HEADER_BYTES: usize = 5;
/// The longest record without encryption.
const MAX_RECORD_BYTES: usize = 1 << 14;

const MALFORMED: FirstBytes = FirstBytes::Unnamed(UnnamedServer::MalformedTls);

/// Inspects bytes that begin with the type of a handshake record.
pub(super) fn inspect_tls(bytes: &[u8]) -> FirstBytes {
    match bytes.get(1) {
        None => return FirstBytes::Incomplete { needed: 2 },
        Some(&MAJOR_VERSION) => {}
        Some(_) => return FirstBytes::OtherProtocol,
    }
    // A message may begin in one record and continue in the next ones.
    let mut message = Vec::new();
    let mut records = ByteReader(bytes);
    loop {
        let header_end = position(bytes, &records).saturating_add(RECORD_HEADER_BYTES);
        let header = records.take(RECORD_HEADER_BYTES);
        let Some(&[content_type, major, _, high, low]) = header else {
            return FirstBytes::Incomplete { needed: header_end };
        };
        let length = usize::from(u16::from_be_bytes([high, low]));
        let is_valid = (1..=MAX_RECORD_BYTES).contains(&length);
        if content_type != HANDSHAKE || major != MAJOR_VERSION || !is_valid {
            return MALFORMED;
        }
        let Some(fragment) = records.take(length) else {
            let needed = header_end.saturating_add(length);
            return FirstBytes::Incomplete { needed };
        };
        message.extend_from_slice(fragment);
        if message.first().is_some_and(|kind| *kind != CLIENT_HELLO) {
            return MALFORMED;
        }
        let mut reader = ByteReader(message.get(1..).unwrap_or_default());
        if let Some(body) = reader.length(3).and_then(|length| reader.take(length)) {
            return match server_names(body) {
                None => MALFORMED,
                Some(names) if names.is_empty() => FirstBytes::Unnamed(UnnamedServer::Tls),
                Some(names) => FirstBytes::Names(names),
            };
        }
    }
}

/// Inspects bytes that may be an SSL 2.0 greeting, which old servers take as one of TLS. It has no
/// server name.
pub(super) fn inspect_ssl2(bytes: &[u8]) -> FirstBytes {
    let is_greeting = |kind: u8, major: u8| kind == CLIENT_HELLO && matches!(major, 0 | 3);
    match *bytes {
        [_, _, kind, ..] if kind != CLIENT_HELLO => FirstBytes::OtherProtocol,
        [_, _, kind, major, ..] if is_greeting(kind, major) => {
            FirstBytes::Unnamed(UnnamedServer::Tls)
        }
        [_, _, _, _, ..] => FirstBytes::OtherProtocol,
        [_, _, _] => FirstBytes::Incomplete { needed: 4 },
        _ => FirstBytes::Incomplete { needed: 3 },
    }
}

/// Returns every host name in a `ClientHello`; `None` if it is malformed.
fn server_names(body: &[u8]) -> Option<Vec<String>> {
    let mut names = Vec::new();
    let mut hello = ByteReader(body);
    hello.take(2)?; // legacy version
    hello.take(32)?; // random
    hello.vector(1)?; // legacy session id
    hello.vector(2)?; // cipher suites
    hello.vector(1)?; // legacy compression methods
    if hello.0.is_empty() {
        return Some(names); // before TLS 1.3, extensions are optional
    }
    let mut extensions = ByteReader(hello.vector(2)?);
    if !hello.0.is_empty() {
        return None;
    }
    while !extensions.0.is_empty() {
        let kind = extensions.length(2)?;
        let mut data = ByteReader(extensions.vector(2)?);
        if kind != SERVER_NAME_EXTENSION {
            continue;
        }
        let mut list = ByteReader(data.vector(2)?);
        if !data.0.is_empty() {
            return None;
        }
        while !list.0.is_empty() {
            let kind = list.take(1)?;
            let name = list.vector(2)?;
            if kind == [HOST_NAME] {
                names.push(String::from_utf8_lossy(name).into_owned());
            }
        }
    }
    Some(names)
}

/// Returns the number of bytes before the rest of a reader of `bytes`.
fn position(bytes: &[u8], reader: &ByteReader<'_>) -> usize {
    bytes.len().saturating_sub(reader.0.len())
}

/// Reads values of RFC 8446 section 3 from the front of its bytes.
struct ByteReader<'a>(&'a [u8]);

impl<'a> ByteReader<'a> {
    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    /// Reads an unsigned number of `width` bytes.
    fn length(&mut self, width: usize) -> Option<usize> {
        let bytes = self.take(width)?;
        Some(bytes.iter().fold(0, |length: usize, byte| {
            length.wrapping_shl(8) | usize::from(*byte)
        }))
    }

    /// Reads a vector whose length has `width` bytes.
    fn vector(&mut self, width: usize) -> Option<&'a [u8]> {
        let length = self.length(width)?;
        self.take(length)
    }
}
