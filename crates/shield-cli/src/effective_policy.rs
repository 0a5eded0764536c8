// SPDX-License-Identifier: Apache-2.0
//! The policy files of a container put together.

use std::collections::HashSet;

use crate::policy_entry::{LOCALHOST, PolicyEntry, PolicySign};
use crate::shield_address::ShieldAddress;
use crate::state_bundle::{StateBundle, StateBundleError, read_cache};

/// The entries of all policy files, in the order of their authority.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct EffectivePolicy {
    /// Allowed above every deny.
    pub overrides: Vec<PolicyEntry>,
    /// Denied.
    pub security_deny: Vec<PolicyEntry>,
    /// Allowed for the program in the container.
    pub provider_allow: Vec<PolicyEntry>,
    /// Allowed by profiles and the project.
    pub project_allow: Vec<PolicyEntry>,
    /// Answers and verbs.
    pub live: Vec<PolicyEntry>,
}

/// The addresses that a rebuilt firewall starts with.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct SetSeeds {
    /// Allowed above every deny.
    pub(crate) overrides: Vec<ShieldAddress>,
    /// Denied.
    pub(crate) denied: Vec<ShieldAddress>,
    /// Allowed.
    pub(crate) allowed: Vec<ShieldAddress>,
}

impl EffectivePolicy {
    /// Returns the denying entries of the deny file and of `live`.
    fn denies(&self) -> impl Iterator<Item = &PolicyEntry> {
        let entries = self.security_deny.iter().chain(&self.live);
        entries.filter(|entry| entry.sign == PolicySign::Deny)
    }

    fn allowing_overrides(&self) -> impl Iterator<Item = &PolicyEntry> {
        let entries = self.overrides.iter();
        entries.filter(|entry| entry.sign == PolicySign::Allow)
    }

    /// Returns the allowing entries whose target no entry denies.
    fn allows(&self) -> impl Iterator<Item = &PolicyEntry> {
        let denied: HashSet<&str> = self.denies().map(|entry| entry.target.as_str()).collect();
        let entries = self
            .provider_allow
            .iter()
            .chain(&self.project_allow)
            .chain(&self.live);
        entries.filter(move |entry| {
            entry.sign == PolicySign::Allow && !denied.contains(entry.target.as_str())
        })
    }

    /// Returns the allowed names.
    pub(crate) fn allowed_names(&self) -> Vec<String> {
        distinct(self.allows().filter(|entry| entry.is_name()).collect())
    }

    /// Returns the denied names.
    pub(crate) fn denied_names(&self) -> Vec<String> {
        distinct(self.denies().filter(|entry| entry.is_name()).collect())
    }

    /// Returns the names that are allowed above every deny.
    pub(crate) fn override_names(&self) -> Vec<String> {
        distinct(
            self.allowing_overrides()
                .filter(|entry| entry.is_name())
                .collect(),
        )
    }

    /// Returns the allowed names and addresses that are looked up for the sets.
    pub(crate) fn allow_targets(&self) -> Vec<String> {
        distinct(
            self.allows()
                .filter(|entry| entry.target != LOCALHOST)
                .collect(),
        )
    }

    /// Returns the denied names and addresses that are looked up for the sets.
    pub(crate) fn deny_targets(&self) -> Vec<String> {
        distinct(
            self.denies()
                .filter(|entry| entry.target != LOCALHOST)
                .collect(),
        )
    }

    /// Returns the names and addresses that are allowed above every deny.
    pub(crate) fn override_targets(&self) -> Vec<String> {
        distinct(
            self.allowing_overrides()
                .filter(|entry| entry.target != LOCALHOST)
                .collect(),
        )
    }

    /// Returns the allowed entries that stand for all names below a name.
    pub(crate) fn wildcard_names(&self) -> Vec<String> {
        let mut names = self.allowed_names();
        names.retain(|name| name.starts_with("*."));
        names
    }

    /// Returns the addresses for the sets: those of the files and of the caches of lookups.
    pub(crate) fn seeds(&self, bundle: &StateBundle) -> Result<SetSeeds, StateBundleError> {
        let denied_here: Vec<_> = self.denies().filter_map(PolicyEntry::address).collect();
        let resolved = read_cache(&bundle.resolved())?;
        let allowed = resolved
            .into_iter()
            .chain(self.allows().filter_map(PolicyEntry::address))
            .filter(|address| !denied_here.contains(address));
        let overrides = self
            .allowing_overrides()
            .filter_map(PolicyEntry::address)
            .chain(read_cache(&bundle.override_resolved())?);
        let denied = denied_here
            .iter()
            .copied()
            .chain(read_cache(&bundle.deny_resolved())?);
        Ok(SetSeeds {
            overrides: deduplicated(overrides),
            denied: deduplicated(denied),
            allowed: deduplicated(allowed),
        })
    }
}

fn distinct(entries: Vec<&PolicyEntry>) -> Vec<String> {
    let mut seen = HashSet::new();
    entries
        .into_iter()
        .filter(|entry| seen.insert(entry.target.as_str()))
        .map(|entry| entry.target.clone())
        .collect()
}

fn deduplicated(addresses: impl Iterator<Item = ShieldAddress>) -> Vec<ShieldAddress> {
    let mut seen = HashSet::new();
    addresses.filter(|address| seen.insert(*address)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy_entry::parse_policy;

    fn policy(project: &str, deny: &str, live: &str) -> EffectivePolicy {
        EffectivePolicy {
            security_deny: parse_policy(deny).unwrap(),
            project_allow: parse_policy(project).unwrap(),
            live: parse_policy(live).unwrap(),
            ..EffectivePolicy::default()
        }
    }

    #[test]
    fn a_denied_target_is_not_allowed() {
        let policy = policy(
            "+a.example\n+b.example\n+203.0.113.7\n+a.example\n+localhost:80\n",
            "-b.example\n",
            "-203.0.113.7\n+c.example\n",
        );
        assert_eq!(policy.allowed_names(), ["a.example", "c.example"]);
        assert_eq!(policy.denied_names(), ["b.example"]);
        assert_eq!(policy.allow_targets(), ["a.example", "c.example"]);
        assert_eq!(policy.deny_targets(), ["b.example", "203.0.113.7"]);
    }

    #[test]
    fn the_sets_start_with_the_files_and_the_caches() {
        let place = tempfile::tempdir().unwrap();
        let bundle = StateBundle::new(place.path());
        let write = |path: std::path::PathBuf, text: &str| std::fs::write(path, text).unwrap();
        write(bundle.resolved(), "203.0.113.1\n203.0.113.7\n");
        write(bundle.deny_resolved(), "203.0.113.9\n");
        write(bundle.override_resolved(), "10.0.0.1\n");
        let policy = policy("+203.0.113.2\n", "", "-203.0.113.7\n");
        let seeds = policy.seeds(&bundle).unwrap();
        let texts = |addresses: &[ShieldAddress]| {
            let texts: Vec<_> = addresses.iter().map(ToString::to_string).collect();
            texts.join(" ")
        };
        assert_eq!(texts(&seeds.allowed), "203.0.113.1 203.0.113.2");
        assert_eq!(texts(&seeds.denied), "203.0.113.7 203.0.113.9");
        assert_eq!(texts(&seeds.overrides), "10.0.0.1");
    }
}
