// SPDX-License-Identifier: Apache-2.0
//! What the pretend internet is made of: its hosts, and who is where on the wire to it.
//!
//! Every address but one is from the ranges that are set apart for documentation (RFC 5737,
//! RFC 3849), so that nothing here can be mistaken for, or reach, anybody's host.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// The pretend internet's name server.
pub(super) const RESOLVER_ADDRESS: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 53));
/// The port that names are asked for at.
pub(super) const DNS_PORT: u16 = 53;

/// The sandbox's end of the wire and the internet's, with the networks around them.
pub(super) const LINK_ADDRESSES_V4: (&str, &str) = ("192.0.2.2/29", "192.0.2.1/29");
/// The same over IPv6.
pub(super) const LINK_ADDRESSES_V6: (&str, &str) = ("2001:db8::2/64", "2001:db8::1/64");
/// Where the sandbox sends what is not on the wire itself.
pub(super) const GATEWAY_V4: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));
/// The same over IPv6.
pub(super) const GATEWAY_V6: IpAddr = IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1));

/// A host of the pretend internet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct FakeHost {
    /// Its name, where it has one.
    pub(super) name: Option<&'static str>,
    /// Its address.
    pub(super) address: IpAddr,
    /// Where it serves HTTP.
    pub(super) port: u16,
    /// Whether the firewall may ask about it: not about cloud metadata, ever.
    pub(super) may_be_asked: bool,
}

impl FakeHost {
    const fn named(name: &'static str, address: IpAddr) -> Self {
        Self {
            name: Some(name),
            address,
            port: 80,
            may_be_asked: true,
        }
    }

    /// Returns where it serves.
    pub(super) const fn socket_address(&self) -> SocketAddr {
        SocketAddr::new(self.address, self.port)
    }

    /// Returns what a person is asked about: its name, else its address.
    pub(super) fn dest(&self) -> String {
        self.name
            .map_or_else(|| self.address.to_string(), str::to_owned)
    }

    /// Returns its address on the web, as the program fetches it.
    pub(super) fn url(&self) -> String {
        let host = match (self.name, self.address) {
            (Some(name), _) => name.to_owned(),
            (None, IpAddr::V4(v4)) => v4.to_string(),
            (None, IpAddr::V6(v6)) => format!("[{v6}]"),
        };
        match self.port {
            80 => format!("http://{host}/"),
            port => format!("http://{host}:{port}/"),
        }
    }
}

/// The hosts, in the order in which the program reaches for them.
///
/// The metadata address is not the last: whatever is logged later is read later, so that a
/// question about it would have come before the next one does.
pub(super) const HOSTS: [FakeHost; 6] = [
    FakeHost::named(
        "api.example.com",
        IpAddr::V4(Ipv4Addr::new(203, 0, 113, 10)),
    ),
    FakeHost::named(
        "registry.example.net",
        IpAddr::V4(Ipv4Addr::new(198, 51, 100, 20)),
    ),
    FakeHost::named(
        "telemetry.example.org",
        IpAddr::V4(Ipv4Addr::new(203, 0, 113, 30)),
    ),
    FakeHost {
        name: None,
        address: IpAddr::V4(Ipv4Addr::new(169, 254, 169, 254)),
        port: 80,
        may_be_asked: false,
    },
    FakeHost::named(
        "mirror.example.com",
        IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0x50, 0, 0, 0, 0x40)),
    ),
    FakeHost {
        name: None,
        address: IpAddr::V4(Ipv4Addr::new(198, 51, 100, 99)),
        port: 8080,
        may_be_asked: true,
    },
];

/// The ports on which hosts serve, each once.
pub(super) const HTTP_PORTS: [u16; 2] = [80, 8080];

/// Returns the addresses of `name`, which is in lower case and without a dot at its end; nothing
/// where there is no such name.
pub(super) fn lookup_addresses(name: &str) -> Option<Vec<IpAddr>> {
    let mut found = HOSTS
        .iter()
        .filter(|host| host.name == Some(name))
        .map(|host| host.address)
        .peekable();
    found.peek()?;
    Some(found.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_address_but_metadata_is_for_documentation() {
        let documented = |ip: IpAddr| match ip {
            IpAddr::V4(ip) => ip.is_documentation(),
            IpAddr::V6(ip) => ip.segments()[..2] == [0x2001, 0xdb8],
        };
        for host in HOSTS {
            assert_eq!(documented(host.address), host.may_be_asked, "{host:?}");
            assert!(HTTP_PORTS.contains(&host.port), "{host:?}");
        }
        for ip in [RESOLVER_ADDRESS, GATEWAY_V4, GATEWAY_V6] {
            assert!(documented(ip), "{ip}");
        }
    }

    #[test]
    fn the_metadata_address_is_followed_by_one_that_is_asked_about() {
        let metadata = HOSTS.iter().position(|host| !host.may_be_asked).unwrap();
        assert!(HOSTS[metadata + 1..].iter().any(|host| host.may_be_asked));
    }

    #[test]
    fn a_host_is_written_as_a_browser_has_it() {
        let urls: Vec<_> = HOSTS.iter().map(FakeHost::url).collect();
        assert_eq!(urls[0], "http://api.example.com/");
        assert_eq!(urls[5], "http://198.51.100.99:8080/");
    }
}
