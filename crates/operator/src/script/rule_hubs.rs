// SPDX-License-Identifier: Apache-2.0
//! The hubs of selected sandboxes, for calls about their rules.

use std::collections::BTreeSet;

use terok_clearance::DisplayText;
use terok_clearance::client::Client;

use super::PendingSnapshot;
use super::selector::{HubMatch, SandboxSelector, hub_sandbox_name};
use crate::inbox::HubId;
use crate::rules::RuleSurvey;

/// Maximum names in a message.
const MAX_NAMES: usize = 6;

/// The hub of one sandbox.
#[derive(Debug, Clone)]
pub struct SandboxHub {
    /// The hub.
    pub hub: HubId,
    /// The name of its sandbox, or the id.
    pub sandbox: DisplayText,
    /// The client of the hub.
    pub client: Client,
}

/// The reason why a name does not select one sandbox.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SelectSandboxError {
    /// No sandbox has the name.
    #[error("no sandbox is called {name}; {there_are}")]
    Unknown {
        /// The name.
        name: String,
        /// The names that there are, in words.
        there_are: String,
    },
    /// Several sandboxes have the name.
    #[error("several sandboxes are called {name}: {ids}; give the id of one")]
    Ambiguous {
        /// The name.
        name: String,
        /// The ids of the sandboxes.
        ids: String,
    },
    /// The hub that may serve the sandbox did not respond.
    #[error("no sandbox that responds is called {name}; {gap}")]
    Unresponsive {
        /// The name.
        name: String,
        /// The hub, and the reason.
        gap: String,
    },
}

impl PendingSnapshot {
    /// Reads the rules of the selected sandboxes; without a selection, of all.
    pub async fn read_rules(
        &self,
        selected: &[SandboxSelector],
    ) -> Result<RuleSurvey, SelectSandboxError> {
        let mut chosen: BTreeSet<HubId> = BTreeSet::new();
        for selector in selected {
            let found = self.hubs_of(selector);
            if found.is_empty() {
                return Err(self.unknown_sandbox(selector));
            }
            chosen.extend(found);
        }
        let hubs = self.responding_hubs.keys();
        let hubs = hubs.filter(|hub| selected.is_empty() || chosen.contains(*hub));
        let clients = hubs.filter_map(|hub| Some((hub.clone(), self.session.client(hub)?)));
        Ok(RuleSurvey::read(clients.collect()).await)
    }

    /// Returns the hub of the one sandbox with this name or id.
    pub fn select_hub(&self, selector: &SandboxSelector) -> Result<SandboxHub, SelectSandboxError> {
        let hubs = self.hubs_of(selector);
        match hubs.as_slice() {
            [] => Err(self.unknown_sandbox(selector)),
            [hub] => {
                let client = self.session.client(hub);
                let client = client.ok_or_else(|| self.unknown_sandbox(selector))?;
                Ok(SandboxHub {
                    hub: hub.clone(),
                    sandbox: sandbox_name(hub),
                    client,
                })
            }
            several => {
                let ids = several.iter().take(MAX_NAMES).map(|hub| {
                    hub.sandbox()
                        .map_or_else(|| hub.to_string(), |id| DisplayText::new(id).to_string())
                });
                let ids: Vec<_> = ids.collect();
                Err(SelectSandboxError::Ambiguous {
                    name: selector.to_string(),
                    ids: ids.join(", "),
                })
            }
        }
    }

    /// Returns the hubs that responded and serve the sandbox: by the id or the recorded name, else
    /// by the name in a pending question.
    fn hubs_of(&self, selector: &SandboxSelector) -> Vec<HubId> {
        let serves = |hub: &&HubId| selector.match_hub(hub) == HubMatch::Serves;
        let by_hub: Vec<_> = self
            .responding_hubs
            .keys()
            .filter(serves)
            .cloned()
            .collect();
        if !by_hub.is_empty() {
            return by_hub;
        }
        let rows = self.session.inbox().rows();
        let asking = rows.filter(|row| selector.matches_row(row));
        let asking: BTreeSet<_> = asking.map(|row| row.hub().clone()).collect();
        asking.into_iter().collect()
    }

    fn unknown_sandbox(&self, selector: &SandboxSelector) -> SelectSandboxError {
        let name = selector.to_string();
        let may_serve =
            |(hub, _): &&(HubId, DisplayText)| selector.match_hub(hub) != HubMatch::ServesAnother;
        if let Some((hub, reason)) = self.unresponsive_hubs.iter().find(may_serve) {
            let hub = crate::phrases::describe_hub(hub);
            let gap = format!("{hub} did not respond: {reason}");
            return SelectSandboxError::Unresponsive { name, gap };
        }
        let names: BTreeSet<_> = self.responding_hubs.keys().map(sandbox_name).collect();
        let mut shown: Vec<_> = names
            .iter()
            .take(MAX_NAMES)
            .map(ToString::to_string)
            .collect();
        if let Some(rest @ 1..) = names.len().checked_sub(MAX_NAMES) {
            shown.push(format!("and {rest} more"));
        }
        let there_are = if shown.is_empty() {
            "no hub is running".to_owned()
        } else {
            format!("there are: {}", shown.join(", "))
        };
        SelectSandboxError::Unknown { name, there_are }
    }
}

fn sandbox_name(hub: &HubId) -> DisplayText {
    hub_sandbox_name(hub).unwrap_or_else(|| DisplayText::new(&hub.to_string()))
}
