// SPDX-License-Identifier: Apache-2.0
//! The sandboxes as popups name them, and whose firewall has an alert on the screen.

use std::collections::HashMap;

use terok_clearance::{ContainerId, Dossier, ShieldState};

use super::Slot;
use crate::inbox::HubId;
use crate::notifier::Identity;
use crate::popups::text;

/// The sandboxes that are remembered; of more, those without an alert are forgotten.
const LIMIT: usize = 4096;

/// A sandbox. The hub of one sandbox is about that one, whatever its events call it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Key(HubId, Option<ContainerId>);

impl Key {
    fn of(hub: &HubId, container: &ContainerId) -> Self {
        let named = hub.sandbox().is_none();
        Self(hub.clone(), named.then(|| container.clone()))
    }
}

/// What is known of every sandbox.
#[derive(Debug, Default)]
pub(super) struct Sandboxes {
    known: HashMap<Key, Known>,
    identities: HashMap<ContainerId, Identity>,
}

#[derive(Debug, Default)]
struct Known {
    dossier: Dossier,
    alert: Option<Alert>,
}

impl Known {
    /// Where its alert is.
    fn slot(&self) -> Option<Slot> {
        self.alert.as_ref().map(|alert| alert.slot)
    }
}

/// What is said of a firewall that is not up.
#[derive(Debug, Clone)]
pub(super) struct Alert {
    pub(super) slot: Slot,
    pub(super) container: ContainerId,
    pub(super) state: ShieldState,
}

impl Sandboxes {
    /// Remembers what a question said of its sandbox.
    pub(super) fn learn(&mut self, hub: &HubId, container: &ContainerId, dossier: &Dossier) {
        if !dossier.is_empty() {
            self.known(hub, container).dossier = Dossier::clone(dossier);
        }
    }

    /// Remembers who a sandbox is, and returns the alerts that say something else by now.
    pub(super) fn identify(
        &mut self,
        container: &ContainerId,
        identity: Identity,
    ) -> Vec<(Alert, Identity)> {
        let of_it = |(key, known): (&Key, &Known)| {
            let alert = known
                .alert
                .clone()
                .filter(|alert| alert.container == *container)?;
            let before = self.identity(&key.0, container);
            Some((key.0.clone(), alert, before))
        };
        let alerts: Vec<_> = self.known.iter().filter_map(of_it).collect();
        if self.identities.len() >= LIMIT {
            self.identities.clear();
        }
        self.identities.insert(container.clone(), identity);
        let changed = |(hub, alert, before)| {
            let identity = self.identity(&hub, container);
            (identity != before).then_some((alert, identity))
        };
        alerts.into_iter().filter_map(changed).collect()
    }

    /// Says whether more than the id was found out of a sandbox, or that there is no more.
    pub(super) fn is_known(&self, hub: &HubId, container: &ContainerId) -> bool {
        let known = self.known.get(&Key::of(hub, container));
        self.identities.contains_key(container) || known.is_some_and(|it| !it.dossier.is_empty())
    }

    /// Returns who a sandbox is.
    pub(super) fn identity(&self, hub: &HubId, container: &ContainerId) -> Identity {
        let found = self.identities.get(container).cloned().unwrap_or_default();
        let known = self.known.get(&Key::of(hub, container));
        let nothing = Dossier::default();
        text::identity(
            container,
            known.map_or(&nothing, |known| &known.dossier),
            &found,
        )
    }

    /// Notes the alert about a firewall, and returns where the former one was.
    pub(super) fn alert(
        &mut self,
        hub: &HubId,
        container: &ContainerId,
        alert: Option<Alert>,
    ) -> Option<Slot> {
        let before = std::mem::replace(&mut self.known(hub, container).alert, alert);
        before.map(|alert| alert.slot)
    }

    /// Returns where alerts are.
    pub(super) fn alerts(&self) -> impl Iterator<Item = Slot> {
        self.known.values().filter_map(Known::slot)
    }

    /// Forgets a sandbox, and returns where its alert is.
    pub(super) fn forget(&mut self, hub: &HubId, container: &ContainerId) -> Option<Slot> {
        self.identities.remove(container);
        self.known.remove(&Key::of(hub, container))?.slot()
    }

    /// Forgets the sandboxes of a hub, and returns where their alerts are.
    pub(super) fn forget_hub(&mut self, hub: &HubId) -> Vec<Slot> {
        let gone = self.known.extract_if(|Key(of, _), _| of == hub);
        gone.filter_map(|(_, known)| known.slot()).collect()
    }

    /// Notes that an alert is no longer there, if that is what was there.
    pub(super) fn closed(&mut self, slot: Slot) {
        for known in self.known.values_mut() {
            known.alert.take_if(|alert| alert.slot == slot);
        }
    }

    fn known(&mut self, hub: &HubId, container: &ContainerId) -> &mut Known {
        if self.known.len() >= LIMIT {
            self.known.retain(|_, known| known.alert.is_some());
        }
        self.known.entry(Key::of(hub, container)).or_default()
    }
}
