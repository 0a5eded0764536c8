// SPDX-License-Identifier: Apache-2.0
//! Netlink attributes: length, kind, value, padded to four bytes; values may be nested attributes.

/// Flag of a kind: the value consists of attributes.
const NESTED_FLAG: u16 = 0x8000;
/// Mask of the kind's number.
const KIND_MASK: u16 = 0x3fff;
const HEADER_BYTES: usize = 4;

/// A writer of attributes, in order of the calls.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AttributeBuilder {
    bytes: Vec<u8>,
}

impl AttributeBuilder {
    /// Returns the encoded attributes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Adds an attribute with a given value.
    #[must_use]
    pub fn bytes(mut self, kind: u16, value: &[u8]) -> Self {
        self.append(kind, value);
        self
    }

    /// Adds text with a trailing NUL.
    #[must_use]
    pub fn text(self, kind: u16, value: &str) -> Self {
        let mut bytes = value.as_bytes().to_vec();
        bytes.push(0);
        self.bytes(kind, &bytes)
    }

    /// Adds a big-endian number.
    #[must_use]
    pub fn u16_be(self, kind: u16, value: u16) -> Self {
        self.bytes(kind, &value.to_be_bytes())
    }

    /// Adds a big-endian number.
    #[must_use]
    pub fn u32_be(self, kind: u16, value: u32) -> Self {
        self.bytes(kind, &value.to_be_bytes())
    }

    /// Adds a big-endian number.
    #[must_use]
    pub fn u64_be(self, kind: u16, value: u64) -> Self {
        self.bytes(kind, &value.to_be_bytes())
    }

    /// Adds nested attributes, marked as such.
    #[must_use]
    pub fn nest(mut self, kind: u16, inner: &Self) -> Self {
        self.append(kind | NESTED_FLAG, &inner.bytes);
        self
    }

    fn append(&mut self, kind: u16, value: &[u8]) {
        // Attributes stay far below the limit, because long messages are split before.
        let length = u16::try_from(HEADER_BYTES.saturating_add(value.len())).unwrap_or(u16::MAX);
        self.bytes.extend(length.to_ne_bytes());
        self.bytes.extend(kind.to_ne_bytes());
        self.bytes.extend(value);
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }
}

/// A parsed attribute.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NetlinkAttribute<'a> {
    /// The kind, without flags.
    pub kind: u16,
    /// `true` if the value is marked as nested attributes.
    pub nested: bool,
    /// The value without padding.
    pub value: &'a [u8],
}

impl<'a> NetlinkAttribute<'a> {
    /// Iterates over the nested attributes.
    pub fn children(self) -> impl Iterator<Item = Self> {
        parse_attributes(self.value)
    }

    /// Returns the first nested attribute of a kind.
    pub fn find(self, kind: u16) -> Option<Self> {
        find_attribute(self.value, kind)
    }

    /// Returns the text before the NUL, if it is valid UTF-8.
    pub fn text(self) -> Option<&'a str> {
        let text = self.value.split(|byte| *byte == 0).next()?;
        std::str::from_utf8(text).ok()
    }

    /// Returns a big-endian number, if the size matches.
    pub fn u32_be(self) -> Option<u32> {
        self.value.try_into().ok().map(u32::from_be_bytes)
    }

    /// Returns a big-endian number, if the size matches.
    pub fn u64_be(self) -> Option<u64> {
        self.value.try_into().ok().map(u64::from_be_bytes)
    }
}

/// Parses attributes up to the end or to the first malformed one.
pub fn parse_attributes(mut bytes: &[u8]) -> impl Iterator<Item = NetlinkAttribute<'_>> {
    std::iter::from_fn(move || {
        let ([a, b, c, d], _) = bytes.split_first_chunk::<HEADER_BYTES>()?;
        let length = usize::from(u16::from_ne_bytes([*a, *b]));
        let kind = u16::from_ne_bytes([*c, *d]);
        let value = bytes.get(HEADER_BYTES..length)?;
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some(NetlinkAttribute {
            kind: kind & KIND_MASK,
            nested: kind & NESTED_FLAG != 0,
            value,
        })
    })
}

/// Returns the first attribute of a kind.
pub fn find_attribute(bytes: &[u8], kind: u16) -> Option<NetlinkAttribute<'_>> {
    parse_attributes(bytes).find(|attribute| attribute.kind == kind)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_survive_a_round_trip() {
        let inner = AttributeBuilder::default().u16_be(2, 7).text(1, "abc");
        let bytes = AttributeBuilder::default()
            .nest(4, &inner)
            .u32_be(9, 5)
            .as_bytes()
            .to_vec();
        let all: Vec<_> = parse_attributes(&bytes).collect();
        assert_eq!(all.len(), 2);
        assert!(all[0].nested && all[0].kind == 4);
        assert_eq!(all[0].find(1).and_then(NetlinkAttribute::text), Some("abc"));
        assert_eq!(all[1].u32_be(), Some(5));
        assert_eq!(find_attribute(&bytes, 1), None);
    }

    #[test]
    fn attributes_are_padded_and_nested_lengths_count_the_padding() {
        let inner = AttributeBuilder::default()
            .bytes(1, b"veth\0")
            .bytes(2, &[7]);
        let outer = AttributeBuilder::default().bytes(18, inner.as_bytes());
        let length =
            |at: usize| u16::from_ne_bytes([outer.as_bytes()[at], outer.as_bytes()[at + 1]]);
        assert_eq!((length(0), length(4)), (24, 9));
        assert_eq!(outer.as_bytes().len(), 24);
    }

    proptest::proptest! {
        #[test]
        fn parsing_arbitrary_bytes_terminates(bytes in proptest::collection::vec(0u8.., 0..200)) {
            assert!(parse_attributes(&bytes).count() <= bytes.len() / HEADER_BYTES);
        }
    }
}
