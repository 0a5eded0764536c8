// SPDX-License-Identifier: Apache-2.0
//! Where a packet wanted to go, as it was shown and as the firewall can enforce it.
//!
//! The hub repeats whatever a reader reports, so that no question is swallowed; so [`Dest`] is
//! any harmless text. Only a [`Target`] ever reaches a firewall: an address, or a host name.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize};

use crate::DisplayText;

/// A destination in the words of the question: `203.0.113.7`, `2001:db8::7`, `api.example.com`.
///
/// A verdict is compared with it byte for byte. It is [`DisplayText`], and never empty.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(transparent)]
pub struct Dest(DisplayText);

/// What a firewall can open or close: one address, or every address of one host name.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Target {
    /// One address.
    Address(IpAddr),
    /// A host name: the addresses seen for it, and those that will be.
    Name(DomainName),
}

/// A host name in lower case, without the dot at its end.
///
/// Labels of letters, digits, `-` and `_`, each 1 to 63 bytes long and not starting with `-`, 253
/// bytes in all (RFC 1035 section 2.3.4; the underscore is in use, RFC 8552), and not a number in
/// its last label, so that no spelling of an address passes for a name.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct DomainName(Arc<str>);

/// Why a text is not a destination.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DestParseError {
    /// There is no text.
    #[error("the destination is empty")]
    Empty,
    /// The text is neither an address nor a host name.
    #[error("{0:?} is neither an IP address nor a host name")]
    NotAddressOrName(DisplayText),
}

impl Dest {
    /// Makes a destination of `text`, everything unprintable replaced as [`DisplayText`] does.
    pub fn new(text: &str) -> Result<Self, DestParseError> {
        Self::try_from(DisplayText::new(text))
    }

    /// Returns the destination as text.
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }

    /// Returns what a firewall would have to open or close for it.
    pub fn parse_target(&self) -> Result<Target, DestParseError> {
        self.as_str().parse()
    }
}

impl TryFrom<DisplayText> for Dest {
    type Error = DestParseError;

    fn try_from(text: DisplayText) -> Result<Self, DestParseError> {
        if text.is_empty() {
            Err(DestParseError::Empty)
        } else {
            Ok(Self(text))
        }
    }
}

impl FromStr for Dest {
    type Err = DestParseError;

    fn from_str(text: &str) -> Result<Self, DestParseError> {
        Self::new(text)
    }
}

impl From<IpAddr> for Dest {
    fn from(address: IpAddr) -> Self {
        Self(DisplayText::new(&address.to_string()))
    }
}

impl From<&DomainName> for Dest {
    fn from(name: &DomainName) -> Self {
        Self(DisplayText::new(name.as_str()))
    }
}

impl<'de> Deserialize<'de> for Dest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::try_from(DisplayText::deserialize(deserializer)?).map_err(serde::de::Error::custom)
    }
}

impl fmt::Display for Dest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for Target {
    type Err = DestParseError;

    fn from_str(text: &str) -> Result<Self, DestParseError> {
        match text.parse::<IpAddr>() {
            // A mapped address reaches the IPv4 host, so it is that host.
            Ok(address) => Ok(Self::Address(address.to_canonical())),
            Err(_) => text.parse().map(Self::Name),
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(address) => address.fmt(f),
            Self::Name(name) => name.fmt(f),
        }
    }
}

impl DomainName {
    const MAX_BYTES: usize = 253;
    const MAX_LABEL_BYTES: usize = 63;

    /// Returns the name, in lower case and without a dot at its end.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    fn is_valid(name: &str) -> bool {
        let label = |label: &str| {
            (1..=Self::MAX_LABEL_BYTES).contains(&label.len())
                && !label.starts_with('-')
                && label
                    .bytes()
                    .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'))
        };
        // `1.2.3`, `0x7f.1` and `127.1` are addresses to many programs.
        let number = |label: &str| {
            let digits = label.strip_prefix("0x").unwrap_or(label);
            digits.is_empty() || label.bytes().all(|b| b.is_ascii_digit()) || {
                digits.len() < label.len() && digits.bytes().all(|b| b.is_ascii_hexdigit())
            }
        };
        name.len() <= Self::MAX_BYTES
            && name.split('.').all(label)
            && !name.rsplit('.').next().is_some_and(number)
    }
}

impl FromStr for DomainName {
    type Err = DestParseError;

    fn from_str(text: &str) -> Result<Self, DestParseError> {
        if text.is_empty() {
            return Err(DestParseError::Empty);
        }
        let name = text.strip_suffix('.').unwrap_or(text).to_ascii_lowercase();
        if Self::is_valid(&name) {
            Ok(Self(name.into()))
        } else {
            Err(DestParseError::NotAddressOrName(DisplayText::new(text)))
        }
    }
}

impl fmt::Display for DomainName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl fmt::Debug for DomainName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: Option<&str>) {
        let shown = text.parse::<Target>().ok().map(|target| target.to_string());
        assert_eq!(shown.as_deref(), expected, "of {text:?}");
    }

    #[test]
    fn a_target_is_an_address_or_a_host_name() {
        check("203.0.113.7", Some("203.0.113.7"));
        check("2001:DB8::7", Some("2001:db8::7"));
        check("::ffff:203.0.113.7", Some("203.0.113.7"));
        check("API.Example.com.", Some("api.example.com"));
        check("_dmarc.example.com", Some("_dmarc.example.com"));
        check("localhost", Some("localhost"));
    }

    #[test]
    fn nothing_else_is_a_target() {
        for text in [
            "",
            ".",
            "..",
            "a..b",
            "-a.example",
            "--flag",
            "a b",
            "a\u{1b}b",
            "0.0.0.0/0",
            "*",
            "*.example.com",
            "203.0.113.7:443",
            "127.1",
            "0x7f.1",
            "0x7f000001",
            "2130706433",
            "1.2.3.4.5",
            "fe80::1%eth0",
            "[::1]",
            "ex\u{e4}mple.com",
            "a.0x",
        ] {
            check(text, None);
        }
        check(&format!("{}.com", "a".repeat(64)), None);
        check(&vec!["a"; 128].join("."), None);
    }

    #[test]
    fn a_dest_is_any_harmless_text_that_is_not_empty() {
        assert_eq!(Dest::new(""), Err(DestParseError::Empty));
        let odd = Dest::new("evil\u{1b}[2J.example").unwrap();
        assert_eq!(odd.as_str(), "evil [2J.example");
        assert!(odd.parse_target().is_err());
    }
}
