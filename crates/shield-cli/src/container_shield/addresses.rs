// SPDX-License-Identifier: Apache-2.0
//! `allow`, `deny` and `reset`.
//!
//! An allow changes the firewall first and the files afterwards, a deny the other way round: a
//! process that is killed in between leaves nothing that is more open than before.

use std::time::SystemTime;

use terok_clearance::DisplayText;

use super::{ChangedAddresses, ContainerShield};
use crate::audit_log::ShieldAuditEvent;
use crate::container_dnsmasq::restart_dnsmasq;
use crate::dns_tier::DnsTier;
use crate::element_plan::{
    ElementPlan, describe_refusal, find_not_allowed, find_not_denied, is_covered, plan_allow,
    plan_deny,
};
use crate::host_lookup::look_up_names;
use crate::namespace_firewall::{FirewallError, NamespaceFirewall};
use crate::policy_entry::{PolicyEntry, PolicySign};
use crate::ruleset_text::{ALLOW_SET, OVERRIDE_SET, TABLE, add_elements};
use crate::shield_address::ShieldAddress;
use crate::shield_error::ShieldVerbError;

/// A destination with its addresses.
struct FoundTarget {
    /// As given.
    text: String,
    /// The addresses, as given or found.
    addresses: Vec<ShieldAddress>,
    /// A name, which dnsmasq must know.
    is_name: bool,
}

impl ContainerShield {
    /// Allows every port of a name, address or network, in the running firewall and for later
    /// starts.
    pub async fn allow(
        &self,
        target: &str,
        now: SystemTime,
    ) -> Result<ChangedAddresses, ShieldVerbError> {
        let target = self.find_target(target, "allowed").await?;
        let firewall = self.open_firewall()?;
        let _lock = self.lock().await?;
        let table = firewall.read_table().await?;
        let plan = plan_allow(&table, &target.addresses);
        if let Err(error) = commit(&firewall, &plan).await {
            let error = ShieldVerbError::from(error);
            return Err(if error.is_timeout() {
                // The program may have been ended before or after the kernel's change.
                self.undo_allow(&firewall, &plan, &target, error).await
            } else {
                error
            });
        }
        match self.finish_allow(&firewall, &target).await {
            Ok(notes) => Ok(self.record_change("allowed", &target, notes, now)),
            Err(error) => Err(self.undo_allow(&firewall, &plan, &target, error).await),
        }
    }

    /// Verifies the sets, and records the allow for later starts. Returns remarks.
    async fn finish_allow(
        &self,
        firewall: &NamespaceFirewall,
        target: &FoundTarget,
    ) -> Result<Vec<String>, ShieldVerbError> {
        let table = firewall.read_table().await?;
        if let Some(address) = find_not_allowed(&table, &target.addresses) {
            return Err(not_verified(address, "allowed").into());
        }
        let previous = self
            .bundle
            .set_live(PolicySign::Allow, &self.live_targets(target))?;
        if let Err(error) = self.reload_names(firewall, target).await {
            self.bundle.restore_live(previous.as_deref())?;
            return Err(error);
        }
        let refused = target.addresses.iter().filter_map(|address| {
            let reason = describe_refusal(&table, *address)?;
            Some(format!("{address} stays refused: {reason}"))
        });
        Ok(refused.collect())
    }

    async fn undo_allow(
        &self,
        firewall: &NamespaceFirewall,
        plan: &ElementPlan,
        target: &FoundTarget,
        error: ShieldVerbError,
    ) -> ShieldVerbError {
        if plan.inverse.is_empty() {
            return error;
        }
        match firewall.commit(&plan.inverse).await {
            Ok(()) => error,
            Err(undo) => ShieldVerbError::NotUndone {
                target: target.text.clone(),
                undo: undo.to_string(),
                source: Box::new(error),
            },
        }
    }

    /// Denies every port of a name, address or network, in the running firewall and for later
    /// starts.
    pub async fn deny(
        &self,
        target: &str,
        now: SystemTime,
    ) -> Result<ChangedAddresses, ShieldVerbError> {
        let target = self.find_target(target, "denied").await?;
        let _lock = self.lock().await?;
        self.bundle
            .set_live(PolicySign::Deny, &self.live_targets(&target))?;
        match self.enforce_deny(&target).await {
            Ok(notes) => Ok(self.record_change("denied", &target, notes, now)),
            Err(source) => Err(ShieldVerbError::DenyRecorded {
                target: target.text,
                source: Box::new(source),
            }),
        }
    }

    async fn enforce_deny(&self, target: &FoundTarget) -> Result<Vec<String>, ShieldVerbError> {
        let firewall = self.open_firewall()?;
        let table = firewall.read_table().await?;
        commit(&firewall, &plan_deny(&table, &target.addresses)).await?;
        let table = firewall.read_table().await?;
        if let Some(address) = find_not_denied(&table, &target.addresses) {
            return Err(not_verified(address, "denied").into());
        }
        self.reload_names(&firewall, target).await?;
        let overridden = target.addresses.iter();
        let overridden = overridden.filter(|address| is_covered(&table, OVERRIDE_SET, **address));
        Ok(overridden
            .map(|address| format!("{address} stays allowed: the override file allows it"))
            .collect())
    }

    /// Removes the addresses that dnsmasq added: the sets have those of the policy only.
    pub async fn reset(&self, now: SystemTime) -> Result<(), ShieldVerbError> {
        let firewall = self.open_firewall()?;
        let _lock = self.lock().await?;
        let seeds = self.bundle.read_policy()?.seeds(&self.bundle)?;
        let table = firewall.read_table().await?;
        let is_live = table.has_default_timeout(ALLOW_SET);
        let mut script =
            format!("flush set {TABLE} {ALLOW_SET}_v4\nflush set {TABLE} {ALLOW_SET}_v6\n");
        script.push_str(&add_elements(ALLOW_SET, &seeds.allowed, is_live));
        firewall.commit(&script).await?;
        let table = firewall.read_table().await?;
        let extra = table.elements(ALLOW_SET).find(|element| {
            !seeds
                .allowed
                .iter()
                .any(|seed| seed.covers(element.address))
        });
        // dnsmasq may have added an address meanwhile.
        if let Some(extra) = extra.filter(|_| !is_live) {
            return Err(not_verified(extra.address, "removed").into());
        }
        let event = ShieldAuditEvent {
            action: "shield_reset",
            dest: None,
            detail: None,
        };
        self.record(event, now);
        Ok(())
    }

    /// Returns the addresses of a target: its own, or those of the name.
    async fn find_target(
        &self,
        text: &str,
        action: &'static str,
    ) -> Result<FoundTarget, ShieldVerbError> {
        if let Ok(address) = text.parse::<ShieldAddress>() {
            return Ok(FoundTarget {
                text: text.to_owned(),
                addresses: vec![address],
                is_name: false,
            });
        }
        let entry = PolicyEntry::of_target(PolicySign::Allow, text);
        if entry.is_err() || text.starts_with('-') {
            return Err(ShieldVerbError::Target(DisplayText::new(text)));
        }
        if let Some(tier) = self.bundle.read_dns_tier()
            && text.starts_with("*.")
            && !tier.is_live()
        {
            return Err(ShieldVerbError::Wildcard {
                name: text.to_owned(),
                tier: tier.to_string(),
            });
        }
        let names = [text.to_owned()];
        let (found, _) = look_up_names(&self.host.runner, &names).await;
        if found.is_empty() {
            return Err(ShieldVerbError::NoAddress {
                action,
                container: self.name.clone(),
                name: text.to_owned(),
            });
        }
        Ok(FoundTarget {
            text: text.to_owned(),
            addresses: found.into_iter().map(ShieldAddress::Host).collect(),
            is_name: true,
        })
    }

    /// Returns the lines for `policy/live`: the addresses, and the name if a dnsmasq looks it up.
    fn live_targets(&self, target: &FoundTarget) -> Vec<String> {
        let mut targets: Vec<_> = target.addresses.iter().map(ToString::to_string).collect();
        if target.is_name && self.has_dnsmasq() {
            targets.push(target.text.clone());
        }
        targets
    }

    fn has_dnsmasq(&self) -> bool {
        let tier = self.bundle.read_dns_tier();
        tier.is_none_or(DnsTier::runs_dnsmasq)
    }

    /// Lets dnsmasq know a changed name.
    async fn reload_names(
        &self,
        firewall: &NamespaceFirewall,
        target: &FoundTarget,
    ) -> Result<(), ShieldVerbError> {
        if target.is_name && self.has_dnsmasq() {
            let policy = self.bundle.read_policy()?;
            restart_dnsmasq(&self.host.runner, firewall, &self.bundle, &policy).await?;
        }
        Ok(())
    }

    fn record_change(
        &self,
        action: &'static str,
        target: &FoundTarget,
        notes: Vec<String>,
        now: SystemTime,
    ) -> ChangedAddresses {
        let addresses: Vec<String> = if target.is_name {
            target.addresses.iter().map(ToString::to_string).collect()
        } else {
            vec![target.text.clone()]
        };
        let detail = format!("target={}", target.text);
        for address in &addresses {
            let event = ShieldAuditEvent {
                action,
                dest: Some(address),
                detail: Some(&detail),
            };
            self.record(event, now);
        }
        ChangedAddresses { addresses, notes }
    }
}

async fn commit(firewall: &NamespaceFirewall, plan: &ElementPlan) -> Result<(), FirewallError> {
    if plan.script.is_empty() {
        return Ok(());
    }
    firewall.commit(&plan.script).await
}

fn not_verified(address: ShieldAddress, expected: &'static str) -> FirewallError {
    FirewallError::ElementNotVerified {
        address: address.to_string(),
        expected,
    }
}
