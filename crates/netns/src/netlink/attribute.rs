// SPDX-License-Identifier: Apache-2.0
//! Netlink attributes: length, kind, value, padded to four bytes; values may be nested attributes.

/// Flag of a kind: the value consists of attributes.
const NESTED_FLAG: u16 = 0x8000;
/// Mask of the kind's number.
const KIND_MASK: u16 = 0x3fff;
const HEADER_BYTES: usize = 4;

/// A writer of attributes.
#[derive(Debug, Default)]
pub(crate) struct AttributeBuilder {
    bytes: Vec<u8>,
}

impl AttributeBuilder {
    pub(crate) fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }

    pub(crate) fn bytes(mut self, kind: u16, value: &[u8]) -> Self {
        self.append(kind, value);
        self
    }

    /// Writes text with a trailing NUL.
    pub(crate) fn text(self, kind: u16, value: &str) -> Self {
        let mut bytes = value.as_bytes().to_vec();
        bytes.push(0);
        self.bytes(kind, &bytes)
    }

    pub(crate) fn u16(self, kind: u16, value: u16) -> Self {
        self.bytes(kind, &value.to_be_bytes())
    }

    pub(crate) fn u32(self, kind: u16, value: u32) -> Self {
        self.bytes(kind, &value.to_be_bytes())
    }

    pub(crate) fn u64(self, kind: u16, value: u64) -> Self {
        self.bytes(kind, &value.to_be_bytes())
    }

    pub(crate) fn nest(mut self, kind: u16, inner: &Self) -> Self {
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
pub(crate) struct NetlinkAttribute<'a> {
    pub(crate) kind: u16,
    pub(crate) nested: bool,
    pub(crate) value: &'a [u8],
}

impl<'a> NetlinkAttribute<'a> {
    pub(crate) fn children(self) -> impl Iterator<Item = Self> {
        read_attributes(self.value)
    }

    pub(crate) fn find(self, kind: u16) -> Option<Self> {
        find_attribute(self.value, kind)
    }

    /// Returns the text before the NUL, if it is valid UTF-8.
    pub(crate) fn text(self) -> Option<&'a str> {
        let text = self.value.split(|byte| *byte == 0).next()?;
        std::str::from_utf8(text).ok()
    }

    pub(crate) fn u32(self) -> Option<u32> {
        self.value.try_into().ok().map(u32::from_be_bytes)
    }

    pub(crate) fn u64(self) -> Option<u64> {
        self.value.try_into().ok().map(u64::from_be_bytes)
    }
}

/// Parses attributes up to the end or to the first malformed one.
pub(crate) fn read_attributes(mut bytes: &[u8]) -> impl Iterator<Item = NetlinkAttribute<'_>> {
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
pub(crate) fn find_attribute(bytes: &[u8], kind: u16) -> Option<NetlinkAttribute<'_>> {
    read_attributes(bytes).find(|attribute| attribute.kind == kind)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_survive_a_round_trip() {
        let inner = AttributeBuilder::default().u16(2, 7).text(1, "abc");
        let bytes = AttributeBuilder::default()
            .nest(4, &inner)
            .u32(9, 5)
            .into_bytes();
        let all: Vec<_> = read_attributes(&bytes).collect();
        assert_eq!(all.len(), 2);
        assert!(all[0].nested && all[0].kind == 4);
        assert_eq!(all[0].find(1).and_then(NetlinkAttribute::text), Some("abc"));
        assert_eq!(all[1].u32(), Some(5));
        assert_eq!(find_attribute(&bytes, 1), None);
    }

    proptest::proptest! {
        #[test]
        fn parsing_arbitrary_bytes_terminates(bytes in proptest::collection::vec(0u8.., 0..200)) {
            assert!(read_attributes(&bytes).count() <= bytes.len() / HEADER_BYTES);
        }
    }
}
