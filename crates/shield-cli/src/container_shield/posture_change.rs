// SPDX-License-Identifier: Apache-2.0
//! `up`, `down` and `quarantine`: the whole ruleset in one transaction, verified afterwards.

use std::time::SystemTime;

use super::ContainerShield;
use crate::audit_log::ShieldAuditEvent;
use crate::effective_policy::SetSeeds;
use crate::element_plan::{is_covered, restore_elements};
use crate::hub_report::report_posture;
use crate::namespace_firewall::{FirewallError, NamespaceFirewall, is_supervised};
use crate::posture::ShieldPosture;
use crate::program_runner::ProgramError;
use crate::ruleset_text::{
    ALLOW_SET, DENY_SET, OVERRIDE_SET, add_elements, quarantine_ruleset, remove_table,
};
use crate::shield_address::ShieldAddress;
use crate::shield_container::FullContainerId;
use crate::shield_error::ShieldVerbError;
use crate::table_listing::{SetElement, TableListing};

impl ContainerShield {
    /// Refuses everything but the allowed. The addresses that dnsmasq added stay allowed for the
    /// time that they had left.
    pub async fn up(&self, id: &FullContainerId, now: SystemTime) -> Result<(), ShieldVerbError> {
        self.rebuild(ShieldPosture::Up, now).await?;
        self.report(id, "shield_up").await;
        Ok(())
    }

    /// Accepts everything but the denied, the private and the floor; with `disengaged`
    /// everything.
    pub async fn down(
        &self,
        id: &FullContainerId,
        disengaged: bool,
        now: SystemTime,
    ) -> Result<(), ShieldVerbError> {
        let (posture, event) = if disengaged {
            (ShieldPosture::Disengaged, "shield_disengaged")
        } else {
            (ShieldPosture::Down, "shield_down")
        };
        self.rebuild(posture, now).await?;
        self.report(id, event).await;
        Ok(())
    }

    /// Drops everything. Reads no settings and waits for no other verb.
    pub async fn quarantine(&self, now: SystemTime) -> Result<(), ShieldVerbError> {
        let firewall = self.open_firewall()?;
        commit_posture(&firewall, &(remove_table() + &quarantine_ruleset())).await?;
        firewall.verify(ShieldPosture::Quarantine).await?;
        self.record(posture_event("shield_quarantine", None), now);
        Ok(())
    }

    async fn rebuild(
        &self,
        posture: ShieldPosture,
        now: SystemTime,
    ) -> Result<(), ShieldVerbError> {
        let firewall = self.open_firewall()?;
        let _lock = self.lock().await?;
        let values = self.ruleset_values().await?;
        let seeds = self.bundle.read_policy()?.seeds(&self.bundle)?;
        let previous = read_previous(&firewall).await?;
        let mut script = remove_table();
        let (action, detail) = match posture {
            ShieldPosture::Up => {
                script.push_str(&values.up());
                script.push_str(&add_elements(ALLOW_SET, &seeds.allowed, values.is_live));
                ("shield_up", None)
            }
            ShieldPosture::Disengaged => {
                script.push_str(&values.disengaged());
                ("shield_down", Some("disengaged=True"))
            }
            _ => {
                script.push_str(&values.down());
                ("shield_down", None)
            }
        };
        let kept = elements_to_keep(&previous, posture, &seeds);
        script.push_str(&restore_elements(ALLOW_SET, &kept, values.is_live));
        if posture != ShieldPosture::Disengaged {
            script.push_str(&add_elements(DENY_SET, &seeds.denied, false));
            script.push_str(&add_elements(OVERRIDE_SET, &seeds.overrides, false));
        }
        commit_posture(&firewall, &script).await?;
        let table = firewall.verify(posture).await?;
        if posture != ShieldPosture::Disengaged {
            verify_seeds(&table, DENY_SET, &seeds.denied, "denied")?;
            verify_seeds(&table, OVERRIDE_SET, &seeds.overrides, "allowed")?;
        }
        self.record(posture_event(action, detail), now);
        Ok(())
    }

    async fn report(&self, id: &FullContainerId, event: &'static str) {
        report_posture(&self.host.runtime, &self.bundle, &self.name, id, event).await;
    }
}

/// Applies a ruleset, whose verification follows. A program that was ended may have applied it: the
/// verification tells.
async fn commit_posture(firewall: &NamespaceFirewall, script: &str) -> Result<(), FirewallError> {
    match firewall.commit(script).await {
        Err(FirewallError::Program(ProgramError::TimedOut { .. })) => Ok(()),
        committed => committed,
    }
}

/// Returns the present table; none is the same as an empty one.
async fn read_previous(firewall: &NamespaceFirewall) -> Result<TableListing, FirewallError> {
    let listed = firewall.read().await?.map(|table| table.listing);
    let listing = listed.unwrap_or_default();
    if is_supervised(&listing) {
        return Err(FirewallError::Supervised);
    }
    Ok(listing)
}

/// Returns the allowed addresses of the previous table that the new one keeps. With `Up` those
/// that the policy denies are dropped, and those that it allows are added again.
fn elements_to_keep(
    previous: &TableListing,
    posture: ShieldPosture,
    seeds: &SetSeeds,
) -> Vec<SetElement> {
    let is_kept = |element: &&SetElement| {
        let mut own = seeds.allowed.iter().chain(&seeds.denied);
        posture != ShieldPosture::Up || !own.any(|seed| seed.overlaps(element.address))
    };
    previous
        .elements(ALLOW_SET)
        .filter(is_kept)
        .cloned()
        .collect()
}

fn verify_seeds(
    table: &TableListing,
    set: &str,
    seeds: &[ShieldAddress],
    expected: &'static str,
) -> Result<(), FirewallError> {
    let missing = seeds.iter().find(|seed| !is_covered(table, set, **seed));
    missing.map_or(Ok(()), |address| {
        Err(FirewallError::ElementNotVerified {
            address: address.to_string(),
            expected,
        })
    })
}

const fn posture_event<'a>(action: &'static str, detail: Option<&'a str>) -> ShieldAuditEvent<'a> {
    ShieldAuditEvent {
        action,
        dest: None,
        detail,
    }
}
