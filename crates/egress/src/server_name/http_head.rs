// SPDX-License-Identifier: Apache-2.0
//! The hosts in the head of an HTTP/1 request (RFC 9112).

use super::{FirstBytes, UnnamedServer};

/// The longest method; a longer first word is another protocol's.
const MAX_METHOD_BYTES: usize = 32;

/// Inspects bytes that may be a request.
pub(super) fn inspect_http(bytes: &[u8]) -> FirstBytes {
    let incomplete = FirstBytes::Incomplete {
        needed: bytes.len().saturating_add(1),
    };
    // Servers ignore empty lines before a request.
    let request = bytes.trim_ascii_start();
    let method_bytes = request.iter().take_while(|byte| is_token(**byte)).count();
    match request.get(method_bytes) {
        _ if method_bytes > MAX_METHOD_BYTES => return FirstBytes::OtherProtocol,
        None => return incomplete,
        Some(b' ' | b'\t') if method_bytes > 0 => {}
        Some(_) => return FirstBytes::OtherProtocol,
    }
    let mut lines = request.split_inclusive(|byte| *byte == b'\n');
    let Some(first) = lines.next().and_then(|line| line.strip_suffix(b"\n")) else {
        return incomplete;
    };
    let words: Vec<_> = first
        .split(u8::is_ascii_whitespace)
        .filter(|word| !word.is_empty())
        .collect();
    let has_version = first
        .split(u8::is_ascii_whitespace)
        .any(|word| starts_with(word, b"HTTP/"));
    let Some(target) = words.get(1) else {
        return FirstBytes::OtherProtocol;
    };
    let mut names = Vec::new();
    if let Some(authority) = authority_of(target) {
        names.push(host_of(authority));
    } else if !has_version {
        return FirstBytes::OtherProtocol;
    } else if words
        .first()
        .is_some_and(|method| starts_with(method, b"CONNECT"))
    {
        names.push(host_of(target));
    } else if words.first() == Some(&&b"PRI"[..]) {
        return FirstBytes::Unnamed(UnnamedServer::PlainHttp2);
    }
    if has_version {
        // Some servers end a line at a carriage return.
        names.extend(
            first
                .split(|byte| *byte == b'\r')
                .skip(1)
                .filter_map(host_field),
        );
        let mut has_end = false;
        for line in lines {
            let Some(line) = line.strip_suffix(b"\n") else {
                break;
            };
            if matches!(line, b"" | b"\r") {
                has_end = true;
                break;
            }
            names.extend(line.split(|byte| *byte == b'\r').filter_map(host_field));
        }
        if !has_end {
            return incomplete;
        }
    }
    if names.is_empty() {
        FirstBytes::Unnamed(UnnamedServer::Http)
    } else {
        FirstBytes::Names(names)
    }
}

const fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
        || matches!(byte, b'!' | b'#'..=b'\'' | b'*' | b'+' | b'-' | b'.')
        || matches!(byte, b'^' | b'_' | b'`' | b'|' | b'~')
}

fn starts_with(word: &[u8], prefix: &[u8]) -> bool {
    word.get(..prefix.len())
        .is_some_and(|head| head.eq_ignore_ascii_case(prefix))
}

/// Returns the authority of a target in absolute form.
fn authority_of(target: &[u8]) -> Option<&[u8]> {
    let colon = target.windows(3).position(|window| window == b"://")?;
    let scheme = target.get(..colon)?;
    if scheme.is_empty() || !scheme.iter().all(u8::is_ascii_alphanumeric) {
        return None; // within a path or query
    }
    let rest = target.get(colon.checked_add(3)?..)?;
    rest.split(|byte| matches!(byte, b'/' | b'?' | b'#' | b'\\'))
        .next()
}

/// Returns the host of an authority: without user and port.
fn host_of(authority: &[u8]) -> String {
    let text = String::from_utf8_lossy(authority);
    let text = text
        .rsplit_once('@')
        .map_or(&*text, |(_, host)| host)
        .trim();
    if let Some(bracketed) = text.strip_prefix('[')
        && let Some((address, _)) = bracketed.split_once(']')
    {
        return address.to_owned();
    }
    let host = match text.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => host,
        _ => text,
    };
    host.to_owned()
}

/// Returns the host of a line that is a `Host` field.
fn host_field(line: &[u8]) -> Option<String> {
    let colon = line.iter().position(|byte| *byte == b':')?;
    let (name, value) = line.split_at_checked(colon)?;
    if !name.trim_ascii().eq_ignore_ascii_case(b"host") {
        return None;
    }
    let value = value.strip_prefix(b":")?.trim_ascii();
    (!value.is_empty()).then(|| host_of(value))
}
