// SPDX-License-Identifier: Apache-2.0
//! A compact index from hashes to question numbers.
//!
//! Keys are stored only in the questions, so that each id and address is in memory once.

use hashbrown::HashTable;

/// A multimap from hashes to question numbers; callers compare the keys behind a hash.
///
/// A pair takes 8 bytes, so that the table of a full ledger fits the CPU cache: half of the hash,
/// and the lower half of the number. The upper half follows from the newest number, because no
/// question stays pending while four billion others arrive.
#[derive(Debug, Default)]
pub(super) struct QuestionIndex {
    table: HashTable<(u32, u32)>,
    newest_number: u64,
}

impl QuestionIndex {
    /// Adds a pair that is not in the index. `number` is the newest so far, or belongs to a pending
    /// question.
    pub(super) fn insert(&mut self, hash: u32, number: u64) {
        self.newest_number = self.newest_number.max(number);
        self.table.insert_unique(
            spread_hash(hash),
            (hash, lower_half(number)),
            |(hash, _)| spread_hash(*hash),
        );
    }

    /// Removes the pair, if present.
    pub(super) fn remove(&mut self, hash: u32, number: u64) {
        let pair = (hash, lower_half(number));
        if let Ok(found) = self
            .table
            .find_entry(spread_hash(hash), |other| *other == pair)
        {
            found.remove();
        }
    }

    /// Returns the number with this hash for which `is_it` returns `true`.
    pub(super) fn find(&self, hash: u32, mut is_it: impl FnMut(u64) -> bool) -> Option<u64> {
        self.table
            .find(spread_hash(hash), |(other, number)| {
                *other == hash && is_it(self.expand_number(*number))
            })
            .map(|(_, number)| self.expand_number(*number))
    }

    /// Returns every number with this hash.
    pub(super) fn find_all(&self, hash: u32) -> impl Iterator<Item = u64> {
        self.table
            .iter_hash(spread_hash(hash))
            .filter(move |(other, _)| *other == hash)
            .map(|(_, number)| self.expand_number(*number))
    }

    /// Returns the number of pairs.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.table.len()
    }

    /// Returns the newest number up to `newest_number` with these lower 32 bits.
    fn expand_number(&self, number: u32) -> u64 {
        let behind = lower_half(self.newest_number).wrapping_sub(number);
        self.newest_number.saturating_sub(u64::from(behind))
    }
}

/// Spreads 32 bits over the 64 bits that `HashTable` expects.
fn spread_hash(hash: u32) -> u64 {
    u64::from(hash).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

fn lower_half(number: u64) -> u32 {
    u32::try_from(number & u64::from(u32::MAX)).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_over_32_bits_are_restored() {
        let mut index = QuestionIndex::default();
        let start = (7_u64 << 32) - 3;
        for number in start..start + 6 {
            index.insert(9, number);
        }
        let mut all: Vec<_> = index.find_all(9).collect();
        all.sort_unstable();
        assert_eq!(all, (start..start + 6).collect::<Vec<_>>());
        index.remove(9, start);
        assert_eq!(index.find(9, |number| number == start), None);
        assert_eq!(index.find(9, |number| number > start + 4), Some(start + 5));
    }
}
