// SPDX-License-Identifier: Apache-2.0
//! From a hash to the numbers of the questions that have it.
//!
//! It keeps no key of its own, so that an id or an address is in memory once, in its question.

use hashbrown::HashTable;

/// A multimap from a hash to question numbers; whoever asks compares what the hash was made of.
#[derive(Debug, Default)]
pub(super) struct Index {
    table: HashTable<(u64, u64)>,
}

impl Index {
    /// Adds the pair; to be called once for each.
    pub(super) fn insert(&mut self, hash: u64, number: u64) {
        self.table
            .insert_unique(hash, (hash, number), |(hash, _)| *hash);
    }

    /// Removes the pair, if it is there.
    pub(super) fn remove(&mut self, hash: u64, number: u64) {
        if let Ok(found) = self.table.find_entry(hash, |pair| *pair == (hash, number)) {
            found.remove();
        }
    }

    /// Returns the number with this hash that `is_it` recognises.
    pub(super) fn find(&self, hash: u64, mut is_it: impl FnMut(u64) -> bool) -> Option<u64> {
        self.table
            .find(hash, |(other, number)| *other == hash && is_it(*number))
            .map(|(_, number)| *number)
    }

    /// Returns every number with this hash.
    pub(super) fn all(&self, hash: u64) -> impl Iterator<Item = u64> {
        self.table
            .iter_hash(hash)
            .filter(move |(other, _)| *other == hash)
            .map(|(_, number)| *number)
    }

    /// Returns how many pairs there are.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.table.len()
    }
}
