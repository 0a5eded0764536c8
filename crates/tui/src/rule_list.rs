// SPDX-License-Identifier: Apache-2.0
//! The rules of every hub, as each hub listed them last, and the selected one.
//!
//! The selection belongs to a rule, not to a line: it follows the rule when others appear or end.

use std::collections::BTreeMap;

use operator::inbox::HubId;
use operator::rules::{RuleRow, describe_rule};
use terok_clearance::wire::clearance2::ListedRule;
use terok_clearance::{DisplayText, Timestamp};

use crate::drawn::DrawnRules;
use crate::keys::CursorMove;
use crate::selection::target_index;

/// Maximum number of rules of a hub; further ones are not listed.
const MAX_LISTED_RULES: usize = 10_000;

#[derive(Debug, Default)]
pub(crate) struct RuleList {
    hubs: BTreeMap<HubId, LoadedHubRules>,
    selected: Option<RuleKey>,
    /// The index of the first line in the window.
    first_visible: usize,
    /// Number of lines of the window in the last frame.
    window_height: usize,
    /// The time of the last reply of a hub.
    listed_at: Option<Timestamp>,
}

/// The name of a rule among those of all hubs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RuleKey {
    pub(crate) hub: HubId,
    pub(crate) rule: DisplayText,
}

#[derive(Debug, Default)]
struct LoadedHubRules {
    listing: RuleListing,
    /// Whether the reply to a call is due.
    is_loading: bool,
    /// Whether the rules may have changed since that call.
    is_stale: bool,
    /// Whether the hub is disconnected: a late reply is no list then.
    is_away: bool,
}

#[derive(Debug, Default)]
enum RuleListing {
    /// The hub has not replied yet.
    #[default]
    Pending,
    /// The rules in the order of their additions.
    Listed(Vec<RuleEntry>),
    /// There is no list, for this reason.
    Failed(DisplayText),
}

/// A rule, and its words at the time of the reply.
#[derive(Debug)]
pub(crate) struct RuleEntry {
    pub(crate) rule: ListedRule,
    pub(crate) words: RuleRow,
}

/// A line of the list.
#[derive(Debug)]
pub(crate) enum RuleLine<'a> {
    /// The sandbox of the lines below, with the number of its rules.
    Heading(&'a HubId, usize),
    /// A rule.
    Rule(&'a HubId, &'a RuleEntry),
    /// A remark in the place of the rules.
    Note(&'a str),
}

impl RuleList {
    /// Returns the hubs whose rules must be listed now, each at most once at a time. Forgets the
    /// hubs that are gone; the flag is `true` for a connected hub.
    pub(crate) fn reload_all(&mut self, hubs: &BTreeMap<&HubId, bool>) -> Vec<HubId> {
        self.update(|list| list.retain(|hub, _| hubs.contains_key(hub)));
        let mut to_list = Vec::new();
        for (hub, is_connected) in hubs {
            if !is_connected {
                self.set_away(hub);
            } else if self.reload(hub) {
                to_list.push(HubId::clone(hub));
            }
        }
        to_list
    }

    /// Forgets all rules. Replies to calls are still due.
    pub(crate) fn forget_listings(&mut self) {
        self.update(|hubs| {
            for rules in hubs.values_mut() {
                rules.listing = RuleListing::Pending;
            }
        });
    }

    /// Returns `true` if the rules of a hub must be listed now. During a call, the reply leads to
    /// the next one.
    pub(crate) fn reload(&mut self, hub: &HubId) -> bool {
        let rules = self.hubs.entry(hub.clone()).or_default();
        rules.is_stale = rules.is_loading;
        rules.is_away = false;
        !std::mem::replace(&mut rules.is_loading, true)
    }

    /// Records that a hub is disconnected.
    pub(crate) fn set_away(&mut self, hub: &HubId) {
        self.update(|hubs| {
            let rules = hubs.entry(hub.clone()).or_default();
            rules.listing = RuleListing::Failed("the hub is away".into());
            rules.is_away = true;
        });
    }

    /// Forgets a hub.
    pub(crate) fn remove_hub(&mut self, hub: &HubId) {
        self.update(|hubs| drop(hubs.remove(hub)));
    }

    /// Applies the reply of a hub. Returns `true` if the hub must be asked again.
    pub(crate) fn apply(
        &mut self,
        hub: &HubId,
        rules: Result<Vec<ListedRule>, DisplayText>,
        now: Timestamp,
    ) -> bool {
        // A hub that is gone has no entry.
        if !self.hubs.contains_key(hub) {
            return false;
        }
        self.listed_at = Some(now);
        let listing = match rules {
            Ok(rules) => {
                let rules = rules.into_iter().take(MAX_LISTED_RULES);
                let entries = rules.map(|rule| RuleEntry {
                    words: describe_rule(&rule, now),
                    rule,
                });
                RuleListing::Listed(entries.collect())
            }
            Err(reason) => RuleListing::Failed(reason),
        };
        self.update(|hubs| {
            if let Some(rules) = hubs.get_mut(hub) {
                rules.is_loading = false;
                if !rules.is_away {
                    rules.listing = listing;
                }
            }
        });
        let rules = self.hubs.get_mut(hub);
        rules.is_some_and(|rules| std::mem::take(&mut rules.is_stale)) && self.reload(hub)
    }

    /// Changes the rules. The selected rule stays on its line of the screen, or the next one takes
    /// that line.
    fn update(&mut self, change: impl FnOnce(&mut BTreeMap<HubId, LoadedHubRules>)) {
        let at = self.position();
        let line = self.selected_line().unwrap_or(self.first_visible);
        let line = line.saturating_sub(self.first_visible);
        change(&mut self.hubs);
        if self.position().is_none() {
            let count = self.rules().count();
            let at = at.unwrap_or(0).min(count.saturating_sub(1));
            let next = self.rules().nth(at);
            self.selected = next.map(|(hub, entry)| key_of(hub, entry));
        }
        let selected = self.selected_line().unwrap_or(0);
        self.first_visible = selected.saturating_sub(line);
    }

    fn rules(&self) -> impl Iterator<Item = (&HubId, &RuleEntry)> {
        self.hubs.iter().flat_map(|(hub, rules)| {
            let entries = match &rules.listing {
                RuleListing::Listed(entries) => entries.as_slice(),
                RuleListing::Pending | RuleListing::Failed(_) => &[],
            };
            entries.iter().map(move |entry| (hub, entry))
        })
    }

    /// Returns the number of rules.
    pub(crate) fn len(&self) -> usize {
        self.rules().count()
    }

    /// Returns the index of the selected rule among the rules.
    pub(crate) fn position(&self) -> Option<usize> {
        let selected = self.selected.as_ref()?;
        self.rules()
            .position(|(hub, entry)| selected.is(hub, entry))
    }

    /// Returns the selected rule.
    pub(crate) fn selected(&self) -> Option<(&HubId, &RuleEntry)> {
        self.find(self.selected.as_ref()?)
    }

    /// Returns the rule of this name.
    pub(crate) fn find(&self, key: &RuleKey) -> Option<(&HubId, &RuleEntry)> {
        self.rules().find(|(hub, entry)| key.is(hub, entry))
    }

    /// Returns the time of the last reply of a hub.
    pub(crate) const fn listed_at(&self) -> Option<Timestamp> {
        self.listed_at
    }

    pub(crate) fn navigate(&mut self, to: CursorMove) {
        let Some(last) = self.len().checked_sub(1) else {
            return;
        };
        let at = target_index(self.position().unwrap_or(0), to, self.window_height, last);
        let next = self.rules().nth(at);
        self.selected = next.map(|(hub, entry)| key_of(hub, entry));
        self.first_visible = self.scrolled_to_selected(self.window_height);
    }

    /// Selects the rule on a line, if there is one.
    pub(crate) fn select_line(&mut self, line: usize) {
        let rule = match self.lines().into_iter().nth(line) {
            Some(RuleLine::Rule(hub, entry)) => Some(key_of(hub, entry)),
            _ => None,
        };
        self.selected = rule.or_else(|| self.selected.take());
    }

    /// Returns all lines: a heading for each hub, and its rules.
    fn lines(&self) -> Vec<RuleLine<'_>> {
        let mut lines = Vec::new();
        for (hub, rules) in &self.hubs {
            let entries = match &rules.listing {
                RuleListing::Listed(entries) => entries.as_slice(),
                RuleListing::Pending | RuleListing::Failed(_) => &[],
            };
            lines.push(RuleLine::Heading(hub, entries.len()));
            match &rules.listing {
                RuleListing::Pending => lines.push(RuleLine::Note("listing the rules ...")),
                RuleListing::Failed(reason) => lines.push(RuleLine::Note(reason.as_str())),
                RuleListing::Listed(entries) if entries.is_empty() => {
                    lines.push(RuleLine::Note("no rule: every connection is a question"));
                }
                RuleListing::Listed(entries) => {
                    lines.extend(entries.iter().map(|entry| RuleLine::Rule(hub, entry)));
                }
            }
        }
        lines
    }

    fn selected_line(&self) -> Option<usize> {
        let selected = self.selected.as_ref()?;
        let mut lines = self.lines().into_iter();
        lines.position(|line| match line {
            RuleLine::Rule(hub, entry) => selected.is(hub, entry),
            RuleLine::Heading(..) | RuleLine::Note(_) => false,
        })
    }

    /// Returns the index of the first line of a window that contains the selected rule. The
    /// heading above the first rule is shown with it.
    fn scrolled_to_selected(&self, window: usize) -> usize {
        let Some(at) = self.selected_line() else {
            return self.first_visible;
        };
        let lowest = at.saturating_add(1).saturating_sub(window.max(1));
        let highest = if at == 1 && window > 1 { 0 } else { at };
        self.first_visible.clamp(lowest.min(highest), highest)
    }

    /// Returns the lines in a window of `height` lines, and the index of the first.
    pub(crate) fn window(&self, height: usize) -> (usize, Vec<RuleLine<'_>>) {
        let lines = self.lines();
        let first = self.scrolled_to_selected(height);
        let first = first.min(lines.len().saturating_sub(height));
        (first, lines.into_iter().skip(first).take(height).collect())
    }

    /// Returns `true` for the selected rule.
    pub(crate) fn is_selected(&self, hub: &HubId, entry: &RuleEntry) -> bool {
        let selected = self.selected.as_ref();
        selected.is_some_and(|selected| selected.is(hub, entry))
    }

    /// Records the window that a frame showed.
    pub(crate) const fn record_drawn(&mut self, drawn: DrawnRules) {
        self.first_visible = drawn.first_visible;
        self.window_height = drawn.height;
    }
}

impl RuleKey {
    fn is(&self, hub: &HubId, entry: &RuleEntry) -> bool {
        self.hub == *hub && self.rule == entry.rule.rule
    }
}

fn key_of(hub: &HubId, entry: &RuleEntry) -> RuleKey {
    RuleKey {
        hub: hub.clone(),
        rule: entry.rule.rule.clone(),
    }
}
