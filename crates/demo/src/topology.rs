// SPDX-License-Identifier: Apache-2.0
//! The hosts of the simulated internet.
//!
//! All addresses except cloud metadata are from ranges reserved for documentation (RFC 5737,
//! RFC 3849), and cannot reach real hosts.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// Address of the simulated internet's name server.
pub(crate) const RESOLVER_ADDRESS: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 53));
/// Port of the name server.
pub(crate) const DNS_PORT: u16 = 53;

/// A host of the simulated internet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct FakeHost {
    /// Name; `None` for a host that is fetched by address.
    pub(crate) name: Option<&'static str>,
    /// IP address.
    pub(crate) address: IpAddr,
    /// HTTP port.
    pub(crate) port: u16,
    /// Whether a question about the host is allowed: `false` for cloud metadata.
    pub(crate) may_be_asked: bool,
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

    pub(crate) const fn socket_address(&self) -> SocketAddr {
        SocketAddr::new(self.address, self.port)
    }

    /// Returns the destination of a question about the host: the name or the address.
    pub(crate) fn dest(&self) -> String {
        self.name
            .map_or_else(|| self.address.to_string(), str::to_owned)
    }

    /// Returns the URL that the program fetches.
    pub(crate) fn url(&self) -> String {
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

/// The hosts in the order of the fetches.
///
/// The metadata address must not be last: a question about this address would be a fault, and is
/// noticed when the question about the next host arrives.
pub(crate) const HOSTS: [FakeHost; 6] = [
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

/// The ports of all hosts, without duplicates.
pub(crate) const HTTP_PORTS: [u16; 2] = [80, 8080];

/// Returns the addresses of `name`; `None` for an unknown name. The name must be in lower case and
/// without a trailing dot.
pub(crate) fn lookup_addresses(name: &str) -> Option<Vec<IpAddr>> {
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
        assert!(documented(RESOLVER_ADDRESS));
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
