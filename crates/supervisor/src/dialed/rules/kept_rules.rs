// SPDX-License-Identifier: Apache-2.0
//! The rules of files: read at the start, after each change, and changed by answers.

use std::collections::BTreeSet;
use std::sync::Arc;

use policy::{RuleSpec, RuleTerm, TableRule};
use terok_clearance::{DisplayText, Timestamp};

use super::DialedRules;
use super::answers::RuleError;
use crate::dialed::kept::{KeptAnswers, KeptPlace, KeptRule};
use crate::{RuleEnd, TraceEvent};

impl DialedRules {
    /// Reads the files of kept answers. Called before the first packet: a failure must stop the
    /// start, because a deny could be missing.
    pub(in crate::dialed) fn load_kept(&self) -> Result<(), DisplayText> {
        let Some(kept) = &self.shared.policy.kept else {
            return Ok(());
        };
        for place in KeptPlace::ALL {
            let rules = kept.load(place)?;
            self.set_kept(place, rules)
                .map_err(|error| DisplayText::new(&error.to_string()))?;
        }
        Ok(())
    }

    /// Reads the files again whenever they may have changed. Never ends. A file that cannot be
    /// read changes nothing.
    pub(in crate::dialed) async fn follow_kept(&self) {
        let Some(kept) = &self.shared.policy.kept else {
            return std::future::pending().await;
        };
        loop {
            self.shared.kept_changed.notified().await;
            let _files = self.shared.files.lock().await;
            for place in KeptPlace::ALL {
                if let Err(reason) = self.reload(kept, place).await {
                    tracing::warn!(%reason, "a file of rules is not used; the old rules count");
                    self.emit_trace(TraceEvent::KeptUnreadable(&reason));
                }
            }
        }
    }

    /// Adds a rule to a file, and its rules to the table.
    pub(super) async fn keep_rule(
        &self,
        place: KeptPlace,
        rule: KeptRule,
        comment: String,
    ) -> Result<(), RuleError> {
        self.change_file(place, move |kept| kept.keep(place, &rule, &comment))
            .await
    }

    /// Removes a rule from a file and from the table.
    pub(super) async fn forget_rule(
        &self,
        place: KeptPlace,
        rule: KeptRule,
    ) -> Result<(), RuleError> {
        self.change_file(place, move |kept| kept.forget(place, &rule))
            .await
    }

    async fn change_file(
        &self,
        place: KeptPlace,
        change: impl FnOnce(&dyn KeptAnswers) -> Result<(), DisplayText> + Send + 'static,
    ) -> Result<(), RuleError> {
        let kept = self.shared.policy.kept.as_ref();
        let kept = Arc::clone(kept.ok_or(RuleError::UnsupportedKeep)?);
        let _files = self.shared.files.lock().await;
        let changed = {
            let kept = Arc::clone(&kept);
            tokio::task::spawn_blocking(move || change(&*kept)).await
        };
        let changed = changed.unwrap_or_else(|_panic| Err("the writer panicked".into()));
        changed.map_err(RuleError::File)?;
        self.reload(&kept, place).await.map_err(RuleError::File)
    }

    async fn reload(
        &self,
        kept: &Arc<dyn KeptAnswers>,
        place: KeptPlace,
    ) -> Result<(), DisplayText> {
        let kept = Arc::clone(kept);
        let loaded = tokio::task::spawn_blocking(move || kept.load(place)).await;
        let rules = loaded.unwrap_or_else(|_panic| Err("the reader panicked".into()))?;
        let set = self.set_kept(place, rules);
        set.map_err(|error| DisplayText::new(&error.to_string()))
    }

    /// Makes the rules of a file those of the table. Rules that stay keep their numbers and uses.
    fn set_kept(&self, place: KeptPlace, rules: Vec<KeptRule>) -> Result<(), RuleError> {
        let wanted: BTreeSet<_> = rules.into_iter().collect();
        let mut added = Vec::new();
        let mut removed: Vec<TableRule> = Vec::new();
        {
            let mut state = self.lock_state();
            let of_place =
                |entry: &&TableRule| KeptPlace::of_origin(&entry.rule.spec.origin) == Some(place);
            let known: Vec<_> = state.table.iter().filter(of_place).collect();
            let known: Vec<_> = known.into_iter().map(|e| Arc::clone(&e.rule)).collect();
            let mut present = BTreeSet::new();
            for rule in known {
                let kept = KeptRule {
                    action: rule.spec.action,
                    pattern: rule.spec.pattern.clone(),
                };
                if wanted.contains(&kept) {
                    present.insert(kept);
                } else {
                    removed.extend(state.table.remove(rule.id));
                }
            }
            let since = Timestamp::now();
            for kept in wanted.difference(&present) {
                let spec = RuleSpec {
                    pattern: kept.pattern.clone(),
                    action: kept.action,
                    term: RuleTerm::Kept,
                    origin: place.origin(),
                    by: DisplayText::default(),
                    since,
                };
                let id = state.table.add(spec)?;
                added.extend(state.table.get(id).map(|entry| Arc::clone(&entry.rule)));
            }
        }
        if added.is_empty() && removed.is_empty() {
            return Ok(());
        }
        for rule in &added {
            self.emit_trace(TraceEvent::RuleAdded(rule));
        }
        let ended = self.finish_rules(&removed, RuleEnd::FileChanged, None);
        let mut state = self.lock_state();
        state.ended_with_files = state.ended_with_files.saturating_add(ended);
        Ok(())
    }

    /// Returns the number of connections that ended because files were changed since the last call.
    pub(super) fn take_ended_with_files(&self) -> u64 {
        std::mem::take(&mut self.lock_state().ended_with_files)
    }
}
