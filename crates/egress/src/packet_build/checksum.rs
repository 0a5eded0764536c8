// SPDX-License-Identifier: Apache-2.0
//! The Internet checksum (RFC 1071).

use std::net::IpAddr;

use terok_clearance::Protocol;

/// Sum of 16-bit words, not yet folded. Only the last piece may have an odd length.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct ChecksumSum(u64);

impl ChecksumSum {
    pub(super) fn add(self, bytes: &[u8]) -> Self {
        // A packet has at most 64 KiB: the sum cannot overflow.
        let sum = bytes.chunks(2).fold(self.0, |sum, word| {
            let word = match *word {
                [high, low] => u16::from_be_bytes([high, low]),
                [high] => u16::from_be_bytes([high, 0]),
                _ => 0,
            };
            sum.wrapping_add(u64::from(word))
        });
        Self(sum)
    }

    /// Adds the pseudo-header of a segment; `None` for addresses of different families.
    pub(super) fn add_pseudo_header(
        self,
        (source, destination): (IpAddr, IpAddr),
        protocol: Protocol,
        length: usize,
    ) -> Option<Self> {
        let sum = match (source, destination) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => {
                self.add(&source.octets()).add(&destination.octets())
            }
            (IpAddr::V6(source), IpAddr::V6(destination)) => {
                self.add(&source.octets()).add(&destination.octets())
            }
            _ => return None,
        };
        let length = u32::try_from(length).ok()?;
        Some(sum.add(&length.to_be_bytes()).add(&[0, protocol.0]))
    }

    pub(super) fn finish(self) -> u16 {
        let mut sum = self.0;
        while let high @ 1.. = sum >> 16 {
            sum = (sum & 0xffff).wrapping_add(high);
        }
        !u16::try_from(sum).unwrap_or(0)
    }
}
