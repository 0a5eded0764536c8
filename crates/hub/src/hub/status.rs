// SPDX-License-Identifier: Apache-2.0
//! What a hub serves, for people who ask what is guarded.

use terok_clearance::wire::clearance2::HubStatus;
use terok_clearance::{DisplayText, ShieldState};

use super::{DecisionEnforcer, Hub};

/// The origin of the rule of a bypass.
const BYPASS_ORIGIN: &str = "bypass";

/// What the supervisor of a sandbox knows and the hub does not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HubDescription {
    /// The way out of the sandbox: [`HubStatus::DIALED`] or [`HubStatus::FILTERED`].
    pub way: &'static str,
    /// The published ports of the sandbox: `127.0.0.1:8080 -> 80/tcp`.
    pub published: Vec<DisplayText>,
}

impl<E: DecisionEnforcer> Hub<E> {
    /// Describes the sandbox of the hub. A second description is ignored.
    pub fn describe(&self, description: HubDescription) {
        drop(self.description.set(description));
    }

    /// Returns what the hub serves.
    pub fn status(&self) -> HubStatus {
        let description = self.description.get();
        let rules = self.enforcer().rules().ok();
        let is_open = rules.iter().flatten().any(|rule| {
            // A bypass that has ended is no rule in force.
            rule.origin.as_str() == BYPASS_ORIGIN && !rule.spent
        });
        let posture = match self.lock_state().shield {
            _ if !self.options().single_sandbox => None,
            Some(ShieldState::Down) => Some("down"),
            Some(ShieldState::Disengaged) => Some("disengaged"),
            _ if is_open => Some(HubStatus::BYPASS),
            _ => Some(HubStatus::GUARDED),
        };
        let count = |count: usize| u64::try_from(count).unwrap_or(u64::MAX);
        HubStatus {
            way: description.map(|description| DisplayText::new(description.way)),
            posture: posture.map(DisplayText::new),
            since: self.since,
            rules: rules.map(|rules| count(rules.len())),
            answerers: count(*self.answerers().borrow()),
            published: description
                .map(|description| description.published.clone())
                .unwrap_or_default(),
        }
    }
}
