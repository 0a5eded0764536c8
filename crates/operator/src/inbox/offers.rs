// SPDX-License-Identifier: Apache-2.0
//! What the questions of a row offer, and how they were answered before.

use terok_clearance::wire::clearance2::Request;
use terok_clearance::{Dest, PreviousAnswer, RuleLifetime};

use super::row::Row;

impl Row {
    /// Returns the wider names that an answer may have, the narrowest first; empty if the questions
    /// of the row do not agree.
    pub fn offered_names(&self) -> &[Dest] {
        let shortest = self.requests().min_by_key(|request| request.wider.len());
        let names = shortest.map_or(&[] as &[Dest], |request| &request.wider);
        let offers_all = |request: &Request| names.iter().all(|name| request.wider.contains(name));
        if self.requests().all(offers_all) {
            names
        } else {
            &[]
        }
    }

    /// Returns the lifetimes that an answer may have, the shortest first: those that every question
    /// of the row offers, and the row's own.
    pub fn offered_lifetimes(&self) -> Vec<RuleLifetime> {
        let own = self.scope().keep;
        let mut lifetimes = self.request().lifetimes.clone();
        lifetimes.retain(|keep| *keep == own || self.offers_lifetime(*keep));
        if !lifetimes.contains(&own) {
            lifetimes.insert(0, own);
        }
        lifetimes
    }

    /// Returns `true` if every question of the row offers the lifetime, with or without seconds.
    pub(crate) fn offers_lifetime(&self, keep: RuleLifetime) -> bool {
        self.requests()
            .all(|request| request.lifetimes.contains(&keep))
    }

    /// Returns `true` if the hub offers lifetimes. Otherwise an answer has the row's own one.
    pub(crate) fn offers_lifetimes(&self) -> bool {
        self.requests().all(|request| !request.lifetimes.is_empty())
    }

    /// Returns the last answer before, if its rule has ended.
    pub fn previous(&self) -> Option<&PreviousAnswer> {
        let answers = self
            .requests()
            .filter_map(|request| request.previous.as_deref());
        answers.max_by_key(|previous| previous.at)
    }

    fn requests(&self) -> impl Iterator<Item = &Request> {
        self.entries.values().map(|entry| &*entry.request)
    }
}
