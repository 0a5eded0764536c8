// SPDX-License-Identifier: Apache-2.0
//! `NO_PROXY`: destinations that are reached without a proxy.

use std::net::IpAddr;

/// Destinations without a proxy.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct ProxyBypass {
    entries: Vec<BypassEntry>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct BypassEntry {
    hosts: BypassHosts,
    /// The port; `None` for all ports.
    port: Option<u16>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum BypassHosts {
    All,
    /// A name and everything below it.
    Domain(String),
    /// An address with the number of its leading bits that count.
    Network(IpAddr, u8),
}

impl ProxyBypass {
    /// Parses a list separated by commas or spaces, as curl and Go read it: `*`, addresses, CIDRs,
    /// and names that cover what is below them, with or without a leading dot or `*.`; each with an
    /// optional port. Other entries are ignored: then the proxy is used.
    pub(super) fn parse(list: &str) -> Self {
        let entries = list
            .split(|c: char| c == ',' || c.is_ascii_whitespace())
            .filter(|entry| !entry.is_empty())
            .filter_map(BypassEntry::parse)
            .collect();
        Self { entries }
    }

    /// Returns `true` if a destination is reached without a proxy. A name is compared as a name.
    pub(super) fn covers(&self, host: &str, port: u16) -> bool {
        let host = host.trim_end_matches('.').to_ascii_lowercase();
        let address = host
            .parse()
            .ok()
            .map(|address: IpAddr| address.to_canonical());
        let loopback = match address {
            Some(address) => address.is_loopback(),
            None => is_below(&host, "localhost"),
        };
        loopback
            || self.entries.iter().any(|entry| {
                entry.port.is_none_or(|entry| entry == port) && entry.hosts.cover(&host, address)
            })
    }
}

impl BypassEntry {
    fn parse(entry: &str) -> Option<Self> {
        let whole = |hosts| Some(Self { hosts, port: None });
        if entry == "*" {
            return whole(BypassHosts::All);
        }
        if let Ok(address) = entry.parse() {
            return whole(BypassHosts::address(address));
        }
        if let Some((address, bits)) = entry.split_once('/') {
            let address: IpAddr = unbracketed(address).parse().ok()?;
            let bits = bits
                .parse()
                .ok()
                .filter(|bits| *bits <= address_bits(address))?;
            return whole(BypassHosts::Network(address, bits));
        }
        let (host, port) = match entry.rsplit_once(':') {
            Some((host, port)) if !entry.ends_with(']') => (host, Some(port.parse().ok()?)),
            _ => (entry, None),
        };
        if host == "*" {
            return Some(Self {
                hosts: BypassHosts::All,
                port,
            });
        }
        if let Ok(address) = unbracketed(host).parse() {
            return Some(Self {
                hosts: BypassHosts::address(address),
                port,
            });
        }
        let name = host
            .strip_prefix("*.")
            .or_else(|| host.strip_prefix('.'))
            .unwrap_or(host);
        let name = name.trim_end_matches('.').to_ascii_lowercase();
        (!name.is_empty()).then_some(Self {
            hosts: BypassHosts::Domain(name),
            port,
        })
    }
}

impl BypassHosts {
    fn address(address: IpAddr) -> Self {
        let address = address.to_canonical();
        Self::Network(address, address_bits(address))
    }

    fn cover(&self, host: &str, address: Option<IpAddr>) -> bool {
        match (self, address) {
            (Self::All, _) => true,
            (Self::Domain(domain), None) => is_below(host, domain),
            (Self::Network(network, bits), Some(address)) => {
                shares_prefix(*network, address, *bits)
            }
            _ => false,
        }
    }
}

fn unbracketed(host: &str) -> &str {
    host.strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'))
        .unwrap_or(host)
}

fn address_bits(address: IpAddr) -> u8 {
    if address.is_ipv4() { 32 } else { 128 }
}

/// Returns `true` for the domain itself and for names below it.
fn is_below(host: &str, domain: &str) -> bool {
    host.strip_suffix(domain)
        .is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
}

fn shares_prefix(network: IpAddr, address: IpAddr, bits: u8) -> bool {
    let differing = match (network, address) {
        (IpAddr::V4(a), IpAddr::V4(b)) => (a.to_bits() ^ b.to_bits()).leading_zeros(),
        (IpAddr::V6(a), IpAddr::V6(b)) => (a.to_bits() ^ b.to_bits()).leading_zeros(),
        _ => return false,
    };
    differing >= u32::from(bits)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_cover() {
        for (list, host, port, expected) in [
            ("", "example.org", 443, false),
            ("*", "example.org", 443, true),
            ("*", "192.0.2.1", 443, true),
            ("other.org, *", "example.org", 443, true),
            ("*:8080", "example.org", 8080, true),
            ("*:8080", "example.org", 443, false),
            ("example.org", "example.org", 443, true),
            ("example.org", "www.example.org", 443, true),
            ("example.org", "badexample.org", 443, false),
            ("example.org", "org", 443, false),
            ("example.org", "example.org.evil.net", 443, false),
            (".example.org", "example.org", 443, true),
            (".example.org", "a.b.example.org", 443, true),
            ("*.example.org", "www.example.org", 443, true),
            ("EXAMPLE.org.", "www.Example.ORG.", 443, true),
            ("a.net example.org", "example.org", 443, true),
            ("a.net,,example.org", "example.org", 443, true),
            ("example.org:8080", "example.org", 8080, true),
            ("example.org:8080", "example.org", 443, false),
            ("example.org:no", "example.org", 443, false),
            (".", "example.org", 443, false),
            ("192.0.2.1", "192.0.2.1", 443, true),
            ("192.0.2.1", "192.0.2.2", 443, false),
            ("192.0.2.1:80", "192.0.2.1", 80, true),
            ("192.0.2.1:80", "192.0.2.1", 443, false),
            ("192.0.2.0/24", "192.0.2.77", 443, true),
            ("192.0.2.0/24", "192.0.3.77", 443, false),
            ("192.0.2.0/24", "2001:db8::1", 443, false),
            ("192.0.2.0/33", "192.0.2.0", 443, false),
            ("0.0.0.0/0", "198.51.100.1", 443, true),
            ("10.0.0.0/8", "::ffff:10.1.2.3", 443, true),
            ("2001:db8::/32", "2001:db8:1::1", 443, true),
            ("2001:db8::/32", "2001:db9::1", 443, false),
            ("2001:db8::1", "2001:db8:0::1", 443, true),
            ("[2001:db8::1]", "2001:db8::1", 443, true),
            ("[2001:db8::1]:443", "2001:db8::1", 443, true),
            ("[2001:db8::1]:443", "2001:db8::1", 80, false),
            // A name is not resolved, and an address has no domain.
            ("192.0.2.0/24", "example.org", 443, false),
            ("2.1", "192.0.2.1", 443, false),
        ] {
            assert_eq!(
                ProxyBypass::parse(list).covers(host, port),
                expected,
                "{list} {host}"
            );
        }
    }
}
