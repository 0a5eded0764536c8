// SPDX-License-Identifier: Apache-2.0
//! The text form of a published port, as podman has it.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::num::NonZeroU16;
use std::str::FromStr;

use terok_clearance::Protocol;

/// A port of a sandbox to publish: `[ADDR:]HOST:PORT[/udp]`.
///
/// Without an address, the port outside is at the loopback addresses. An empty `HOST`, and 0, let
/// the kernel choose the port outside; so does `PORT` alone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublishSpec {
    address: Option<IpAddr>,
    host_port: Option<NonZeroU16>,
    port: NonZeroU16,
    protocol: Protocol,
}

/// A text is not a [`PublishSpec`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PublishSpecError {
    /// The text has another form.
    #[error("write [ADDR:]HOST:PORT[/udp], such as 8080:80 or 127.0.0.1:8080:80")]
    Form,
    /// A port is no number from 1 to 65535.
    #[error("{0:?} is no port from 1 to 65535")]
    Port(String),
    /// A range of ports.
    #[error("{0:?} is a range; give the option once for each port")]
    Range(String),
    /// The address is no IP address.
    #[error("{0:?} is no IP address; write 127.0.0.1 or [::1], or 0.0.0.0 for every interface")]
    Address(String),
    /// An IPv6 address without brackets.
    #[error("write an IPv6 address in brackets, such as [::1]:8080:80")]
    Brackets,
    /// The protocol is neither TCP nor UDP.
    #[error("{0:?} cannot be published: only tcp and udp can")]
    Protocol(String),
}

impl PublishSpec {
    /// Returns the address outside; `None`: the loopback addresses.
    pub const fn address(&self) -> Option<IpAddr> {
        self.address
    }

    /// Returns the port outside; `None`: the kernel chooses one.
    pub const fn host_port(&self) -> Option<NonZeroU16> {
        self.host_port
    }

    /// Returns the port inside.
    pub const fn port(&self) -> u16 {
        self.port.get()
    }

    /// Returns the protocol: TCP or UDP.
    pub const fn protocol(&self) -> Protocol {
        self.protocol
    }
}

impl FromStr for PublishSpec {
    type Err = PublishSpecError;

    fn from_str(text: &str) -> Result<Self, PublishSpecError> {
        let (ports, protocol) = match text.split_once('/') {
            None => (text, Protocol::TCP),
            Some((ports, "tcp")) => (ports, Protocol::TCP),
            Some((ports, "udp")) => (ports, Protocol::UDP),
            Some((_, other)) => return Err(PublishSpecError::Protocol(shorten(other))),
        };
        let (address, ports) = split_address(ports)?;
        let (host, port) = match ports.split_once(':') {
            Some((host, port)) => (host, port),
            None if address.is_none() => ("", ports),
            None => return Err(PublishSpecError::Form),
        };
        Ok(Self {
            address,
            host_port: match host {
                "" | "0" => None,
                port => Some(parse_port(port)?),
            },
            port: parse_port(port)?,
            protocol,
        })
    }
}

/// Splits the address off, which ends before the second-last colon.
fn split_address(text: &str) -> Result<(Option<IpAddr>, &str), PublishSpecError> {
    let (address, ports) = if let Some(rest) = text.strip_prefix('[') {
        let (address, ports) = rest.split_once("]:").ok_or(PublishSpecError::Form)?;
        let parsed = address.parse::<Ipv6Addr>();
        let parsed = parsed.map_err(|_not_ipv6| PublishSpecError::Address(shorten(address)))?;
        (IpAddr::from(parsed).to_canonical(), ports)
    } else {
        match text.split(':').count() {
            0..=2 => return Ok((None, text)),
            3 => {}
            _ => return Err(PublishSpecError::Brackets),
        }
        let (address, ports) = text.split_once(':').ok_or(PublishSpecError::Form)?;
        let parsed = address.parse::<IpAddr>();
        let parsed = parsed.map_err(|_not_ip| PublishSpecError::Address(shorten(address)))?;
        (parsed, ports)
    };
    if ports.split(':').count() == 2 {
        Ok((Some(address), ports))
    } else {
        Err(PublishSpecError::Form)
    }
}

fn parse_port(text: &str) -> Result<NonZeroU16, PublishSpecError> {
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    match text.split_once('-') {
        Some((low, high)) if is_number(low) && is_number(high) => {
            return Err(PublishSpecError::Range(shorten(text)));
        }
        _ => {}
    }
    let port = is_number(text).then(|| text.parse().ok()).flatten();
    port.ok_or_else(|| PublishSpecError::Port(shorten(text)))
}

fn shorten(text: &str) -> String {
    text.chars().take(40).collect()
}

impl fmt::Display for PublishSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.address {
            None => {}
            Some(IpAddr::V4(address)) => write!(f, "{address}:")?,
            Some(IpAddr::V6(address)) => write!(f, "[{address}]:")?,
        }
        if let Some(port) = self.host_port {
            port.fmt(f)?;
        }
        write!(f, ":{}", self.port)?;
        if self.protocol == Protocol::UDP {
            f.write_str("/udp")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_form_is_podmans() {
        let check = |text: &str, shown: &str| {
            let spec: PublishSpec = text.parse().unwrap();
            assert_eq!(spec.to_string(), shown, "{text}");
            assert_eq!(shown.parse(), Ok(spec), "{text}");
        };
        check("8080:80", "8080:80");
        check("8080:80/tcp", "8080:80");
        check("5353:53/udp", "5353:53/udp");
        check(":8080", ":8080");
        check("0:8080", ":8080");
        check("8080", ":8080");
        check("127.0.0.1:8080:80", "127.0.0.1:8080:80");
        check("127.0.0.1::80", "127.0.0.1::80");
        check("0.0.0.0:8080:80", "0.0.0.0:8080:80");
        check("[::1]:8080:80", "[::1]:8080:80");
        check("[::ffff:127.0.0.1]:8080:80", "127.0.0.1:8080:80");
    }

    #[test]
    fn what_is_wrong_is_named() {
        use PublishSpecError::{Address, Brackets, Form, Port, Protocol, Range};
        let check = |text: &str, expected: PublishSpecError| {
            assert_eq!(text.parse::<PublishSpec>(), Err(expected), "{text}");
        };
        let own = str::to_owned;
        check("", Port(own("")));
        check("8080:", Port(own("")));
        check("8080:0", Port(own("0")));
        check("8080:http", Port(own("http")));
        check("65536:80", Port(own("65536")));
        check("+80:80", Port(own("+80")));
        check("8000-8010:8000-8010", Range(own("8000-8010")));
        check("localhost:8080:80", Address(own("localhost")));
        check("*:8080:80", Address(own("*")));
        check(":8080:80", Address(own("")));
        check("[127.0.0.1]:8080:80", Address(own("127.0.0.1")));
        check("::1:8080:80", Brackets);
        check("[::1]:80", Form);
        check("[::1]", Form);
        check("[::1]:1:2:3", Form);
        check("80:80/sctp", Protocol(own("sctp")));
        check("80:80/", Protocol(own("")));
    }
}
