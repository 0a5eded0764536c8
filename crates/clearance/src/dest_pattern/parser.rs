// SPDX-License-Identifier: Apache-2.0
//! Parses patterns of destinations.

use std::net::{IpAddr, Ipv4Addr};

use super::{DestPattern, DestPatternError, HostPattern, PortRange};
use crate::{DisplayText, DomainName, IpPrefix, Protocol};

/// Schemes of URLs and their ports.
const SCHEMES: [(&str, u16); 8] = [
    ("https", 443),
    ("http", 80),
    ("wss", 443),
    ("ws", 80),
    ("ssh", 22),
    ("git", 9418),
    ("ftp", 21),
    ("rsync", 873),
];

pub(super) fn parse(text: &str) -> Result<DestPattern, DestPatternError> {
    if text.is_empty() {
        return Err(DestPatternError::Empty);
    }
    if let Some((scheme, rest)) = text.split_once("://") {
        return Err(DestPatternError::Url {
            text: DisplayText::new(text),
            instead: suggest_for_url(scheme, rest),
        });
    }
    if let Some((_, host)) = text.rsplit_once('@') {
        return Err(DestPatternError::UserInfo {
            text: DisplayText::new(text),
            instead: suggestion(host),
        });
    }
    let (rest, protocol) = split_protocol(text)?;
    let (host, ports) = split_ports(rest)?;
    let ports = ports.map(parse_ports).transpose()?;
    DestPattern::new(parse_host(host)?, ports, protocol)
}

/// Splits a protocol off. What follows the first slash is a protocol, or the length of a network
/// with what belongs to it.
fn split_protocol(text: &str) -> Result<(&str, Option<Protocol>), DestPatternError> {
    let Some((rest, word)) = text.rsplit_once('/') else {
        return Ok((text, None));
    };
    let is_length = |word: &str| word.starts_with(|c: char| c.is_ascii_digit());
    let network_or_plain = |rest: &str| match rest.split_once('/') {
        None => true,
        Some((_, length)) => is_length(length) && !length.contains('/'),
    };
    if is_length(word) && network_or_plain(text) && may_be_address(rest) {
        return Ok((text, None));
    }
    let is_word = !word.is_empty() && word.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
    if !is_word || !network_or_plain(rest) {
        let (host, _) = text.split_once('/').unwrap_or((text, ""));
        return Err(DestPatternError::Path {
            text: DisplayText::new(text),
            instead: suggestion(host),
        });
    }
    let protocol = match word.to_ascii_lowercase().as_str() {
        "tcp" => Protocol::TCP,
        "udp" => Protocol::UDP,
        "icmp" => Protocol::ICMP,
        other => return Err(DestPatternError::unknown_protocol(other)),
    };
    Ok((rest, Some(protocol)))
}

/// Returns `true` for a text of the characters of addresses, so that a number after its slash is
/// the length of a network.
fn may_be_address(text: &str) -> bool {
    let text = text.strip_prefix('[').unwrap_or(text);
    let address = |b: u8| b.is_ascii_hexdigit() || matches!(b, b'.' | b':' | b'x');
    text.starts_with(|c: char| c.is_ascii_digit() || c == ':') && text.bytes().all(address)
        || text.contains(':') && text.bytes().all(address)
}

/// Splits a port or a range off: `host:80`, `10.0.0.0/8:80`, `[2001:db8::/32]:80`.
fn split_ports(text: &str) -> Result<(&str, Option<&str>), DestPatternError> {
    let brackets = || DestPatternError::Brackets(DisplayText::new(text));
    if let Some(rest) = text.strip_prefix('[') {
        let (host, rest) = rest.split_once(']').ok_or_else(brackets)?;
        let address = host.split_once('/').map_or(host, |(address, _)| address);
        if address.contains('%') {
            return Err(DestPatternError::InterfaceZone(DisplayText::new(host)));
        }
        if !address
            .parse()
            .is_ok_and(|address: IpAddr| address.is_ipv6())
        {
            return Err(brackets());
        }
        return match rest.strip_prefix(':') {
            Some(ports) => Ok((host, Some(ports))),
            None if rest.is_empty() => Ok((host, None)),
            None => Err(brackets()),
        };
    }
    if text.contains(['[', ']']) {
        return Err(brackets());
    }
    match text.bytes().filter(|byte| *byte == b':').count() {
        0 => Ok((text, None)),
        1 => Ok(text
            .split_once(':')
            .map_or((text, None), |(host, ports)| (host, Some(ports)))),
        _ if text.contains('%') => Err(DestPatternError::InterfaceZone(DisplayText::new(text))),
        _ => {
            let address = text.split_once('/').map_or(text, |(address, _)| address);
            match address.parse::<IpAddr>() {
                Ok(_) => Ok((text, None)),
                Err(_) => Err(DestPatternError::NotIpv6(DisplayText::new(text))),
            }
        }
    }
}

fn parse_ports(text: &str) -> Result<PortRange, DestPatternError> {
    let port = |digits: &str| -> Result<u16, DestPatternError> {
        let port = if digits.bytes().all(|digit| digit.is_ascii_digit()) {
            digits.parse().ok()
        } else {
            None
        };
        match port {
            Some(0) => Err(DestPatternError::PortZero),
            Some(port) => Ok(port),
            None => Err(DestPatternError::NotPort(DisplayText::new(text))),
        }
    };
    let (low, high) = match text.split_once('-') {
        Some((low, high)) => (port(low)?, port(high)?),
        None => (port(text)?, port(text)?),
    };
    PortRange::new(low, high).ok_or(DestPatternError::ReversedPorts {
        low: high,
        high: low,
    })
}

fn parse_host(text: &str) -> Result<HostPattern, DestPatternError> {
    if text.is_empty() {
        return Err(DestPatternError::Empty);
    }
    if let Ok(address) = text.parse::<IpAddr>() {
        return Ok(HostPattern::Address(address));
    }
    if let Some((address, _)) = text.split_once('/') {
        if let Some(instead) = suggest_for_number(address) {
            return Err(DestPatternError::NumberLike {
                text: DisplayText::new(address),
                instead,
            });
        }
        return Ok(HostPattern::Network(text.parse::<IpPrefix>()?));
    }
    if text == "*" {
        return Err(DestPatternError::Everything);
    }
    if let Some(parent) = text.strip_prefix("*.")
        && !parent.contains('*')
    {
        return Ok(HostPattern::Subdomains(parse_name(parent)?));
    }
    if text.contains('*') || text.starts_with('.') {
        return Err(misplaced_wildcard(text));
    }
    Ok(HostPattern::Name(parse_name(text)?))
}

fn parse_name(text: &str) -> Result<DomainName, DestPatternError> {
    if let Ok(name) = DomainName::from_unicode(text) {
        return Ok(name);
    }
    let text_shown = DisplayText::new(text);
    Err(match suggest_for_number(text) {
        Some(instead) => DestPatternError::NumberLike {
            text: text_shown,
            instead,
        },
        None => DestPatternError::NotHost(text_shown),
    })
}

/// Suggests `*.` and the labels after the last wildcard.
fn misplaced_wildcard(text: &str) -> DestPatternError {
    let (_, after) = text.rsplit_once('*').unwrap_or(("", text));
    let parent = after.trim_start_matches('.');
    let instead = match DomainName::from_unicode(parent) {
        Ok(name) => format!("*.{name}"),
        Err(_) => "*.example.com".to_owned(),
    };
    DestPatternError::MisplacedWildcard {
        text: DisplayText::new(text),
        instead: DisplayText::new(&instead),
    }
}

/// Returns the form for a text that some programs take for an IPv4 address; `None` for others.
fn suggest_for_number(text: &str) -> Option<DisplayText> {
    if text.parse::<IpAddr>().is_ok() || !text.is_ascii() {
        return None;
    }
    let text = text.strip_suffix('.').unwrap_or(text).to_ascii_lowercase();
    let last = text.rsplit('.').next()?;
    let digits = last.strip_prefix("0x").unwrap_or(last);
    let is_number = (!last.is_empty() && last.bytes().all(|digit| digit.is_ascii_digit()))
        || (digits.len() < last.len() && digits.bytes().all(|digit| digit.is_ascii_hexdigit()));
    if !is_number {
        return None;
    }
    let address = parse_legacy_ipv4(&text).map(|address| address.to_string());
    Some(DisplayText::new(address.as_deref().unwrap_or(
        "four decimal numbers up to 255 without leading zeros",
    )))
}

/// Parses the forms of `inet_aton`: one to four decimal or hexadecimal numbers, of which the last
/// one fills the rest. A leading zero is ambiguous, octal to some programs, and gives `None`.
fn parse_legacy_ipv4(text: &str) -> Option<Ipv4Addr> {
    let mut parts: Vec<u32> = Vec::new();
    for part in text.split('.') {
        let value = match part.strip_prefix("0x") {
            Some(digits) => u32::from_str_radix(digits, 16).ok()?,
            None if part.len() > 1 && part.starts_with('0') => return None,
            None => part.parse().ok()?,
        };
        parts.push(value);
    }
    let (last, octets) = parts.split_last()?;
    let mut bits: u32 = 0;
    let mut free_bits: u32 = 32;
    for octet in octets {
        free_bits = free_bits.checked_sub(8)?;
        bits |= u32::from(u8::try_from(*octet).ok()?).checked_shl(free_bits)?;
    }
    if free_bits == 0 || u64::from(*last) >> free_bits != 0 {
        return None;
    }
    Some(Ipv4Addr::from_bits(bits | last))
}

fn suggest_for_url(scheme: &str, rest: &str) -> DisplayText {
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let host = authority
        .rsplit_once('@')
        .map_or(authority, |(_, host)| host);
    let has_port = host
        .rsplit_once(':')
        .is_some_and(|(host, _)| !host.contains(':') || host.ends_with(']'));
    let scheme = scheme.to_ascii_lowercase();
    let port = SCHEMES.iter().find(|(name, _)| *name == scheme);
    match port {
        Some((_, port)) if !has_port => suggestion(&format!("{host}:{port}")),
        _ => suggestion(host),
    }
}

/// Returns the text in its usual form if it is a pattern, else a general example.
fn suggestion(text: &str) -> DisplayText {
    // Without a URL, a user name or a path this cannot suggest anew.
    let pattern = if text.contains(['@', '/']) {
        None
    } else {
        parse(text).ok()
    };
    match pattern {
        Some(pattern) => DisplayText::new(&pattern.to_string()),
        None => DisplayText::new("a host with or without a port, such as example.com:443"),
    }
}
