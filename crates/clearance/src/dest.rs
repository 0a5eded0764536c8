// SPDX-License-Identifier: Apache-2.0
//! Destinations of packets, as text and as the firewall can enforce them.
//!
//! The hub passes on every request of a reader, so that no question is lost: a [`Dest`] is any
//! display text. Only a [`Target`], an address or a host name, reaches a firewall.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;
use std::sync::Arc;

use idna::uts46::{AsciiDenyList, DnsLength, Hyphens, Uts46};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::DisplayText;

/// A destination as the question shows it: `203.0.113.7`, `2001:db8::7`, `api.example.com`.
///
/// An answer repeats the destination byte for byte, or the hub refuses the answer. The text is
/// [`DisplayText`] and never empty.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(transparent)]
pub struct Dest(DisplayText);

/// A destination that a firewall can open or close.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Target {
    /// One IP address.
    Address(IpAddr),
    /// One host name: its known addresses, and every address that a later lookup returns.
    Name(DomainName),
}

/// A host name in lower case, without a trailing dot.
///
/// Each label has 1 to 63 letters, digits, `-` and `_` and does not start with `-`; the whole name
/// has at most 253 bytes (RFC 1035 section 2.3.4; for the underscore RFC 8552). The last label is
/// not a number, so that no spelling of an address passes for a name.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct DomainName(Arc<str>);

/// An error in the text of a [`Dest`], a [`Target`] or a [`DomainName`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DestParseError {
    /// The text is empty.
    #[error("the destination is empty")]
    Empty,
    /// The text is neither an address nor a host name.
    #[error("{0:?} is neither an IP address nor a host name")]
    NotAddressOrName(DisplayText),
}

impl Dest {
    /// Creates a destination from `text`, sanitised like [`DisplayText`].
    pub fn new(text: &str) -> Result<Self, DestParseError> {
        Self::try_from(DisplayText::new(text))
    }

    /// Returns the destination as text.
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }

    /// Parses the destination as an address or a host name.
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
            // A packet to an IPv4-mapped address reaches the IPv4 host.
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

    /// Returns the name in lower case, without a trailing dot.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Parses a name that may be internationalised: `b\u{fc}cher.example` is
    /// `xn--bcher-kva.example` (UTS 46, without transitional forms).
    pub fn from_unicode(text: &str) -> Result<Self, DestParseError> {
        if text.is_ascii() {
            return text.parse();
        }
        Uts46::new()
            .to_ascii(
                text.as_bytes(),
                AsciiDenyList::EMPTY,
                Hyphens::Allow,
                DnsLength::Ignore,
            )
            .ok()
            .and_then(|ascii| ascii.parse().ok())
            .ok_or_else(|| DestParseError::NotAddressOrName(DisplayText::new(text)))
    }

    /// Returns the name with its internationalised labels decoded; `None` for a name without any,
    /// and for one that would not encode to this name again.
    ///
    /// The text is not ASCII: letters of other scripts may look like Latin ones and may run from
    /// right to left. It belongs beside the name, never in its place.
    pub fn display_unicode(&self) -> Option<String> {
        if !self.0.split('.').any(|label| label.starts_with("xn--")) {
            return None;
        }
        let (decoded, outcome) =
            Uts46::new().to_unicode(self.0.as_bytes(), AsciiDenyList::EMPTY, Hyphens::Allow);
        let same = outcome.is_ok()
            && !decoded.is_ascii()
            && !decoded.chars().any(char::is_control)
            && Self::from_unicode(&decoded).as_ref() == Ok(self);
        same.then(|| decoded.into_owned())
    }

    /// Returns `true` if the name is below `parent`; a name is not below itself.
    pub fn is_below(&self, parent: &Self) -> bool {
        self.0
            .strip_suffix(parent.as_str())
            .is_some_and(|labels| labels.ends_with('.'))
    }

    /// Iterates over the names above this one, the longest first.
    pub fn parents(&self) -> impl Iterator<Item = &str> {
        let mut rest = self.as_str();
        std::iter::from_fn(move || {
            let (_, parent) = rest.split_once('.')?;
            rest = parent;
            Some(parent)
        })
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

impl Serialize for DomainName {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for DomainName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?
            .parse()
            .map_err(serde::de::Error::custom)
    }
}

impl std::borrow::Borrow<str> for DomainName {
    fn borrow(&self) -> &str {
        &self.0
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
    fn other_texts_are_not_targets() {
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
    fn an_internationalised_name_has_one_form() {
        for text in [
            "b\u{fc}cher.example",
            "B\u{dc}CHER.Example.",
            "bu\u{308}cher.example",
            "b\u{fc}cher\u{3002}example",
            "XN--BCHER-KVA.example",
        ] {
            let name = DomainName::from_unicode(text).unwrap();
            assert_eq!(name.as_str(), "xn--bcher-kva.example", "of {text:?}");
            assert_eq!(
                name.display_unicode().as_deref(),
                Some("b\u{fc}cher.example")
            );
        }
    }

    #[test]
    fn a_name_that_maps_to_something_else_is_no_name() {
        // Fullwidth forms map to ASCII: to an address, a path, a port, a wildcard.
        for text in [
            "\u{ff11}\u{ff12}\u{ff17}.0.0.1",
            "\u{ff10}x7f000001",
            "\u{2460}",
            "\u{2100}.example",
            "a\u{ff1a}80",
            "\u{ff0a}.example",
            "a\u{202e}b.example",
            "\u{1f512}\u{0}.example",
            "\u{fffd}.example",
        ] {
            assert!(DomainName::from_unicode(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn a_name_without_a_valid_decoding_has_none() {
        for text in [
            "example.com",
            "xn--.example",
            "xn--a.example",
            "xn--zzzzzzzzzz99999.example",
            "xn--example-.com",
            // Encodes capital U with diaeresis, which no lookup of that text would give.
            "xn--bcher-2pa.example",
        ] {
            let name: DomainName = text.parse().unwrap();
            assert_eq!(name.display_unicode(), None, "of {text}");
        }
    }

    #[test]
    fn names_below_and_above() {
        let name: DomainName = "a.b.example.com".parse().unwrap();
        let parents: Vec<_> = name.parents().collect();
        assert_eq!(parents, ["b.example.com", "example.com", "com"]);
        for (parent, below) in [
            ("b.example.com", true),
            ("com", true),
            ("a.b.example.com", false),
            ("ample.com", false),
            ("example.org", false),
        ] {
            assert_eq!(name.is_below(&parent.parse().unwrap()), below, "{parent}");
        }
    }

    #[test]
    fn a_dest_is_any_display_text_that_is_not_empty() {
        assert_eq!(Dest::new(""), Err(DestParseError::Empty));
        let odd = Dest::new("evil\u{1b}[2J.example").unwrap();
        assert_eq!(odd.as_str(), "evil [2J.example");
        assert!(odd.parse_target().is_err());
    }
}
