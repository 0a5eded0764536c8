// SPDX-License-Identifier: Apache-2.0
//! The identities of sandboxes, and the alerts about their firewalls that are on the screen.

use std::collections::HashMap;

use terok_clearance::{ContainerId, Dossier, ShieldState};

use super::PopupSlot;
use crate::notifier::ContainerIdentity;
use crate::popups::text;
use operator::inbox::HubId;

/// Maximum sandboxes. Beyond the limit, sandboxes without an alert are forgotten.
const MAX_KNOWN_SANDBOXES: usize = 4096;

/// The key of a sandbox. A hub that serves a single sandbox is a key alone, because container ids
/// in such a hub's events may vary.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct PopupSandboxKey(HubId, Option<ContainerId>);

impl PopupSandboxKey {
    fn new(hub: &HubId, container: &ContainerId) -> Self {
        let named = hub.sandbox().is_none();
        Self(hub.clone(), named.then(|| container.clone()))
    }
}

/// The sandboxes known from events and look-ups.
#[derive(Debug, Default)]
pub(super) struct SandboxDirectory {
    sandboxes: HashMap<PopupSandboxKey, KnownSandbox>,
    identities: HashMap<ContainerId, ContainerIdentity>,
}

#[derive(Debug, Default)]
struct KnownSandbox {
    dossier: Dossier,
    alert: Option<ShieldAlert>,
}

impl KnownSandbox {
    fn alert_slot(&self) -> Option<PopupSlot> {
        self.alert.as_ref().map(|alert| alert.slot)
    }
}

/// The alert about a firewall that is not up.
#[derive(Debug, Clone)]
pub(super) struct ShieldAlert {
    pub(super) slot: PopupSlot,
    pub(super) container: ContainerId,
    pub(super) state: ShieldState,
}

impl SandboxDirectory {
    /// Records the dossier of a question.
    pub(super) fn record_dossier(
        &mut self,
        hub: &HubId,
        container: &ContainerId,
        dossier: &Dossier,
    ) {
        if !dossier.is_empty() {
            self.entry(hub, container).dossier = Dossier::clone(dossier);
        }
    }

    /// Sets the identity of a sandbox. Returns the alerts whose text changes.
    pub(super) fn set_identity(
        &mut self,
        container: &ContainerId,
        identity: ContainerIdentity,
    ) -> Vec<(ShieldAlert, ContainerIdentity)> {
        let of_it = |(key, known): (&PopupSandboxKey, &KnownSandbox)| {
            let alert = known
                .alert
                .clone()
                .filter(|alert| alert.container == *container)?;
            let before = self.identity(&key.0, container);
            Some((key.0.clone(), alert, before))
        };
        let alerts: Vec<_> = self.sandboxes.iter().filter_map(of_it).collect();
        if self.identities.len() >= MAX_KNOWN_SANDBOXES {
            self.identities.clear();
        }
        self.identities.insert(container.clone(), identity);
        let changed = |(hub, alert, before)| {
            let identity = self.identity(&hub, container);
            (identity != before).then_some((alert, identity))
        };
        alerts.into_iter().filter_map(changed).collect()
    }

    /// Returns `true` if the identity is known or the look-up has ended without a result.
    pub(super) fn is_identified(&self, hub: &HubId, container: &ContainerId) -> bool {
        let known = self.sandboxes.get(&PopupSandboxKey::new(hub, container));
        self.identities.contains_key(container) || known.is_some_and(|it| !it.dossier.is_empty())
    }

    /// Returns the identity of a sandbox.
    pub(super) fn identity(&self, hub: &HubId, container: &ContainerId) -> ContainerIdentity {
        let found = self.identities.get(container).cloned().unwrap_or_default();
        let known = self.sandboxes.get(&PopupSandboxKey::new(hub, container));
        let nothing = Dossier::default();
        text::merge_identity(
            container,
            known.map_or(&nothing, |known| &known.dossier),
            &found,
        )
    }

    /// Replaces the alert about a firewall. Returns the slot of the former alert.
    pub(super) fn replace_alert(
        &mut self,
        hub: &HubId,
        container: &ContainerId,
        alert: Option<ShieldAlert>,
    ) -> Option<PopupSlot> {
        let before = std::mem::replace(&mut self.entry(hub, container).alert, alert);
        before.map(|alert| alert.slot)
    }

    /// Returns the slots of all alerts.
    pub(super) fn alert_slots(&self) -> impl Iterator<Item = PopupSlot> {
        self.sandboxes.values().filter_map(KnownSandbox::alert_slot)
    }

    /// Forgets a sandbox. Returns the slot of the sandbox's alert.
    pub(super) fn forget(&mut self, hub: &HubId, container: &ContainerId) -> Option<PopupSlot> {
        self.identities.remove(container);
        self.sandboxes
            .remove(&PopupSandboxKey::new(hub, container))?
            .alert_slot()
    }

    /// Forgets the sandboxes of a hub. Returns the slots of the alerts.
    pub(super) fn forget_hub(&mut self, hub: &HubId) -> Vec<PopupSlot> {
        let gone = self
            .sandboxes
            .extract_if(|PopupSandboxKey(of, _), _| of == hub);
        gone.filter_map(|(_, known)| known.alert_slot()).collect()
    }

    /// Removes the alert in `slot`.
    pub(super) fn remove_alert(&mut self, slot: PopupSlot) {
        for known in self.sandboxes.values_mut() {
            known.alert.take_if(|alert| alert.slot == slot);
        }
    }

    fn entry(&mut self, hub: &HubId, container: &ContainerId) -> &mut KnownSandbox {
        if self.sandboxes.len() >= MAX_KNOWN_SANDBOXES {
            self.sandboxes.retain(|_, known| known.alert.is_some());
        }
        self.sandboxes
            .entry(PopupSandboxKey::new(hub, container))
            .or_default()
    }
}
