// SPDX-License-Identifier: Apache-2.0
//! The URL of a proxy.

use std::fmt;
use std::net::Ipv6Addr;
use std::str::FromStr;

/// The port of a URL without one, as in curl.
const DEFAULT_PORT: u16 = 1080;

/// Maximum length of a SOCKS user name or password (RFC 1929).
const MAX_SOCKS_CREDENTIAL_BYTES: usize = 255;

/// A proxy: how it is spoken to, where it is, and the credentials for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProxyServer {
    scheme: ProxyScheme,
    host: String,
    port: u16,
    credentials: Option<ProxyCredentials>,
}

/// The protocol of a proxy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ProxyScheme {
    /// HTTP with `CONNECT`.
    Http,
    /// SOCKS 5. The proxy resolves the names, for `socks5` as for `socks5h`.
    Socks5,
}

/// User name and password; the output of `Debug` hides the password.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct ProxyCredentials {
    pub(super) user: Vec<u8>,
    pub(super) password: Vec<u8>,
}

impl fmt::Debug for ProxyCredentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ProxyCredentials")
            .field("user", &self.user.escape_ascii().to_string())
            .finish_non_exhaustive()
    }
}

/// The fault of a proxy URL. The URL is not part of it: it may hold a password.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ProxyUrlError {
    /// The scheme is `https`.
    #[error(
        "proxies that are spoken to over TLS (https://) are not supported; use http:// \
             (connections to https sites pass through it all the same), socks5:// or socks5h://"
    )]
    TlsProxy,
    /// Another scheme.
    #[error("unknown proxy protocol; use http://, socks5:// or socks5h://")]
    UnknownScheme,
    /// The host is empty or has a character that no host has.
    #[error("the proxy has no valid host; write http://HOST:PORT, an IPv6 address in brackets")]
    BadHost,
    /// The port is no number from 1 to 65535.
    #[error("the proxy's port is not a number from 1 to 65535")]
    BadPort,
    /// A `%` without two hexadecimal digits, or text that the protocol cannot carry.
    #[error("the proxy's user name or password cannot be used; write special characters as %XX")]
    BadCredentials,
}

impl ProxyServer {
    /// The protocol.
    pub fn scheme(&self) -> ProxyScheme {
        self.scheme
    }

    /// The host: a name, or an address without brackets.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The port.
    pub fn port(&self) -> u16 {
        self.port
    }

    pub(super) fn credentials(&self) -> Option<&ProxyCredentials> {
        self.credentials.as_ref()
    }
}

/// The URL without credentials.
impl fmt::Display for ProxyServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = match self.scheme {
            ProxyScheme::Http => "http",
            ProxyScheme::Socks5 => "socks5h",
        };
        if self.host.contains(':') {
            write!(f, "{scheme}://[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{scheme}://{}:{}", self.host, self.port)
        }
    }
}

impl FromStr for ProxyServer {
    type Err = ProxyUrlError;

    fn from_str(url: &str) -> Result<Self, ProxyUrlError> {
        let url = url.trim();
        let (scheme, rest) = url.split_once("://").unwrap_or(("http", url));
        let scheme = match scheme.to_ascii_lowercase().as_str() {
            "http" => ProxyScheme::Http,
            "socks5" | "socks5h" => ProxyScheme::Socks5,
            "https" => return Err(ProxyUrlError::TlsProxy),
            _ => return Err(ProxyUrlError::UnknownScheme),
        };
        let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
        let (user_info, host_port) = match authority.rsplit_once('@') {
            Some((user_info, host_port)) => (Some(user_info), host_port),
            None => (None, authority),
        };
        let (host, port) = parse_host_port(host_port)?;
        let credentials = match user_info {
            Some(user_info) if !user_info.is_empty() => {
                Some(ProxyCredentials::parse(user_info, scheme)?)
            }
            _ => None,
        };
        Ok(Self {
            scheme,
            host,
            port,
            credentials,
        })
    }
}

fn parse_host_port(text: &str) -> Result<(String, u16), ProxyUrlError> {
    let (host, port) = if let Some(bracketed) = text.strip_prefix('[') {
        let (address, port) = bracketed.split_once(']').ok_or(ProxyUrlError::BadHost)?;
        let address: Ipv6Addr = address.parse().ok().ok_or(ProxyUrlError::BadHost)?;
        let port = match port.strip_prefix(':') {
            None if !port.is_empty() => return Err(ProxyUrlError::BadHost),
            port => port,
        };
        (address.to_string(), port)
    } else {
        let (host, port) = match text.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (text, None),
        };
        let is_host_character = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        if host.is_empty() || host.len() > 253 || !host.chars().all(is_host_character) {
            return Err(ProxyUrlError::BadHost);
        }
        (host.to_ascii_lowercase(), port)
    };
    let port = match port {
        None | Some("") => DEFAULT_PORT,
        Some(port) if port.bytes().all(|byte| byte.is_ascii_digit()) => port
            .parse()
            .ok()
            .filter(|port| *port != 0)
            .ok_or(ProxyUrlError::BadPort)?,
        Some(_) => return Err(ProxyUrlError::BadPort),
    };
    Ok((host, port))
}

impl ProxyCredentials {
    fn parse(user_info: &str, scheme: ProxyScheme) -> Result<Self, ProxyUrlError> {
        let (user, password) = user_info.split_once(':').unwrap_or((user_info, ""));
        let decode = |text| percent_decode(text).ok_or(ProxyUrlError::BadCredentials);
        let credentials = Self {
            user: decode(user)?,
            password: decode(password)?,
        };
        let usable = match scheme {
            // RFC 7617: the first colon ends the user name.
            ProxyScheme::Http => !credentials.user.contains(&b':'),
            ProxyScheme::Socks5 => [&credentials.user, &credentials.password]
                .iter()
                .all(|text| text.len() <= MAX_SOCKS_CREDENTIAL_BYTES),
        };
        usable
            .then_some(credentials)
            .ok_or(ProxyUrlError::BadCredentials)
    }
}

fn percent_decode(text: &str) -> Option<Vec<u8>> {
    let mut decoded = Vec::new();
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        decoded.push(if byte == b'%' {
            let high = char::from(bytes.next()?).to_digit(16)?;
            let low = char::from(bytes.next()?).to_digit(16)?;
            u8::try_from(high << 4 | low).ok()?
        } else {
            byte
        });
    }
    Some(decoded)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(url: &str, display: &str, credentials: Option<(&str, &str)>) {
        let server: ProxyServer = url.parse().unwrap();
        assert_eq!(server.to_string(), display);
        let parsed = server.credentials().map(|credentials| {
            (
                str::from_utf8(&credentials.user).unwrap(),
                str::from_utf8(&credentials.password).unwrap(),
            )
        });
        assert_eq!(parsed, credentials, "{url}");
    }

    #[test]
    fn urls_are_parsed() {
        check("proxy.corp:3128", "http://proxy.corp:3128", None);
        check("http://proxy.corp:3128/", "http://proxy.corp:3128", None);
        check(
            " HTTP://Proxy.Corp:3128/path?query ",
            "http://proxy.corp:3128",
            None,
        );
        check("http://proxy", "http://proxy:1080", None);
        check("http://proxy:/", "http://proxy:1080", None);
        check("socks5://10.0.0.1", "socks5h://10.0.0.1:1080", None);
        check(
            "socks5h://[2001:DB8::1]:9050",
            "socks5h://[2001:db8::1]:9050",
            None,
        );
        check("[::1]", "http://[::1]:1080", None);
        check("http://me@proxy:1", "http://proxy:1", Some(("me", "")));
        check("http://@proxy:1", "http://proxy:1", None);
        check(
            "http://me:a:b@proxy:1",
            "http://proxy:1",
            Some(("me", "a:b")),
        );
        check(
            "http://me:p%40ss%2f@proxy:1",
            "http://proxy:1",
            Some(("me", "p@ss/")),
        );
        check(
            "http://me:p@ss@proxy:1",
            "http://proxy:1",
            Some(("me", "p@ss")),
        );
    }

    #[test]
    fn bad_urls_are_refused() {
        for (url, expected) in [
            ("https://proxy:3128", ProxyUrlError::TlsProxy),
            ("socks4://proxy", ProxyUrlError::UnknownScheme),
            ("ftp://proxy", ProxyUrlError::UnknownScheme),
            ("", ProxyUrlError::BadHost),
            ("http://", ProxyUrlError::BadHost),
            ("http://:3128", ProxyUrlError::BadHost),
            ("http://a b:1", ProxyUrlError::BadHost),
            ("http://a\r\nb:1", ProxyUrlError::BadHost),
            ("http://[::1", ProxyUrlError::BadHost),
            ("http://[::1]x", ProxyUrlError::BadHost),
            ("http://[example]:1", ProxyUrlError::BadHost),
            ("http://2001:db8::1", ProxyUrlError::BadPort),
            ("http://proxy:0", ProxyUrlError::BadPort),
            ("http://proxy:65536", ProxyUrlError::BadPort),
            ("http://proxy:+1", ProxyUrlError::BadPort),
            ("http://a%zz@proxy:1", ProxyUrlError::BadCredentials),
            ("http://a%4@proxy:1", ProxyUrlError::BadCredentials),
            ("http://a%3ab@proxy:1", ProxyUrlError::BadCredentials),
        ] {
            assert_eq!(url.parse::<ProxyServer>(), Err(expected), "{url}");
        }
        let long = format!("socks5://{}@proxy:1", "x".repeat(256));
        assert_eq!(
            long.parse::<ProxyServer>(),
            Err(ProxyUrlError::BadCredentials)
        );
    }
}
