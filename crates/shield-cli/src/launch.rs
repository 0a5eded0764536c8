// SPDX-License-Identifier: Apache-2.0
//! `prepare`, `run` and `resolve`: the state directory of a container that is about to start, and
//! the arguments for podman.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use crate::audit_log::{ShieldAuditEvent, ShieldAuditLog};
use crate::container_dnsmasq::{DnsmasqValues, LOOPBACK, dnsmasq_config};
use crate::container_shield::{SLIRP_DNS, ShieldHost};
use crate::containers_conf::slirp_gateways;
use crate::dns_tier::DnsTier;
use crate::effective_policy::EffectivePolicy;
use crate::environment_check::{detect_dns_tier, find_dnsmasq, find_hook_problem};
use crate::podman_host::PodmanHost;
use crate::resolve_cache::{MAX_CACHE_AGE, ResolvedTargets, resolve_targets};
use crate::ruleset_text::{
    ALLOW_SET, DENY_SET, OVERRIDE_SET, PASTA_DNS, PASTA_HOST, RulesetValues, add_elements,
};
use crate::shield_container::ShieldContainerName;
use crate::shield_error::ShieldVerbError;
use crate::shield_profiles::ShieldProfiles;
use crate::state_bundle::{
    BUNDLE_VERSION, PolicyTier, StateBundle, join_lines, remove_file, write_file,
};

/// A container that does not exist yet.
#[derive(Debug, Clone)]
pub struct ContainerLaunch {
    /// What all verbs need.
    pub host: ShieldHost,
    /// The name of the container.
    pub name: ShieldContainerName,
    /// The state directory.
    pub bundle: StateBundle,
    /// The profiles of the user.
    pub profiles: ShieldProfiles,
    /// The names of the profiles to use.
    pub profile_names: Vec<String>,
}

/// The arguments for podman, and remarks for the operator.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PreparedLaunch {
    /// The arguments.
    pub arguments: Vec<String>,
    /// Remarks.
    pub notes: Vec<String>,
}

/// A container cannot be prepared or started.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LaunchError {
    /// The hooks would not raise the firewall.
    #[error("{problem}; run `terok-shield setup`")]
    NoHooks {
        /// The problem.
        problem: String,
    },
    /// dnsmasq cannot be used.
    #[error("{0}")]
    Dnsmasq(String),
    /// A program is missing.
    #[error("{0} is not installed")]
    NoProgram(&'static str),
    /// Names with `*.` need a dnsmasq.
    #[error(
        "{names}: a name with `*.` needs a dnsmasq that adds answers to the sets; this host looks \
         names up once ({tier})"
    )]
    Wildcards {
        /// The names.
        names: String,
        /// The tier of this host.
        tier: DnsTier,
    },
    /// There is no image.
    #[error("No image specified. Usage: terok-shield run <container> -- <image> [cmd...]")]
    NoImage,
    /// An argument belongs to the firewall.
    #[error("Flag(s) managed by terok-shield, cannot override: {0}")]
    ManagedFlags(String),
}

impl ContainerLaunch {
    /// Looks the names of the profiles up and keeps their addresses in the state directory.
    pub async fn resolve(
        &self,
        is_forced: bool,
        now: SystemTime,
    ) -> Result<(Vec<String>, Vec<String>), ShieldVerbError> {
        let targets = self.profiles.compose(&self.profile_names)?;
        if targets.is_empty() {
            return Ok((Vec::new(), Vec::new()));
        }
        self.bundle.create_directories()?;
        let lines = join_lines(targets.iter().map(|target| format!("+{target}")));
        self.bundle.write_tier(PolicyTier::ProjectAllow, &lines)?;
        let policy = self.bundle.read_policy()?;
        let max_age = if is_forced {
            Duration::ZERO
        } else {
            MAX_CACHE_AGE
        };
        let path = self.bundle.resolved();
        let found = self
            .look_up(&policy.allow_targets(), path, max_age, now)
            .await?;
        let notes = notes_about(&found);
        Ok((found.addresses, notes))
    }

    async fn look_up(
        &self,
        targets: &[String],
        path: PathBuf,
        max_age: Duration,
        now: SystemTime,
    ) -> Result<ResolvedTargets, ShieldVerbError> {
        let changed = self.bundle.policy_changed();
        let runner = &self.host.runner;
        Ok(resolve_targets(runner, targets, &path, max_age, changed, now).await?)
    }

    /// Writes the state directory and returns the arguments for `podman run` or `create`. The
    /// hooks in `hooks` load the rules at the start of the container.
    pub async fn prepare(
        &self,
        hooks: &std::path::Path,
        now: SystemTime,
    ) -> Result<PreparedLaunch, ShieldVerbError> {
        for program in ["podman", "nft", "nsenter"] {
            if self.host.runner.find(program).is_none() {
                return Err(LaunchError::NoProgram(program).into());
            }
        }
        if let Some(problem) = find_hook_problem(&self.host.containers_conf, hooks) {
            return Err(LaunchError::NoHooks { problem }.into());
        }
        let targets = self.profiles.compose(&self.profile_names)?;
        let podman = PodmanHost::inspect(&self.host.runner).await;
        self.bundle.create_directories()?;
        let configured = self.host.config.dnsmasq_path.as_deref();
        let dnsmasq = find_dnsmasq(&self.host.runner, configured).map_err(LaunchError::Dnsmasq)?;
        let detected =
            detect_dns_tier(&self.host.runner, dnsmasq.as_deref(), Some(&self.bundle)).await;
        let tier = detected.tier;
        let mut notes = Vec::new();
        if detected.is_confined {
            notes.push(format!(
                "dnsmasq may not read {}: allow it in its AppArmor profile",
                self.bundle.directory().display()
            ));
        }
        notes.extend(
            tier.limitation()
                .map(|limitation| format!("DNS tier {tier}: {limitation}")),
        );
        let values = self.ruleset_values(&podman.network_mode, tier)?;
        self.write_facts(&values, tier, &podman.network_mode, dnsmasq.as_deref())?;
        notes.extend(self.write_policy(&targets, tier, now).await?);
        self.write_ruleset(&values)?;
        self.write_dns_files(&values, tier)?;
        let audit = ShieldAuditLog::new(&self.bundle, self.host.config.is_audit_enabled);
        let detail = format!("profiles={}", self.profile_names.join(","));
        let event = ShieldAuditEvent {
            action: "setup",
            dest: None,
            detail: Some(&detail),
        };
        audit.append(self.name.as_str(), event, now);
        Ok(PreparedLaunch {
            arguments: self.podman_arguments(&values, tier, &podman.network_mode),
            notes,
        })
    }

    fn ruleset_values(&self, mode: &str, tier: DnsTier) -> Result<RulesetValues, ShieldVerbError> {
        let is_slirp = mode == "slirp4netns";
        Ok(RulesetValues {
            dns: if is_slirp {
                SLIRP_DNS.into()
            } else {
                PASTA_DNS.into()
            },
            loopback_ports: self.bundle.read_loopback_ports()?,
            gateways: is_slirp.then(|| slirp_gateways(&self.host.containers_conf)),
            is_live: tier.is_live(),
        })
    }

    /// Writes what later verbs need to know about the start.
    fn write_facts(
        &self,
        values: &RulesetValues,
        tier: DnsTier,
        mode: &str,
        dnsmasq: Option<&str>,
    ) -> Result<(), ShieldVerbError> {
        let bundle = &self.bundle;
        for (path, word) in [
            (bundle.upstream_dns(), values.dns.to_string()),
            (bundle.dns_tier(), tier.to_string()),
            (
                bundle.dnsmasq_command(),
                dnsmasq.unwrap_or_default().to_owned(),
            ),
            (bundle.network_mode(), mode.to_owned()),
        ] {
            write_file(&path, &format!("{word}\n"))?;
        }
        let ports = join_lines(values.loopback_ports.iter().map(ToString::to_string));
        Ok(write_file(&bundle.loopback_ports(), &ports)?)
    }

    /// Writes the policy file of the profiles, and the caches of addresses.
    async fn write_policy(
        &self,
        targets: &[String],
        tier: DnsTier,
        now: SystemTime,
    ) -> Result<Vec<String>, ShieldVerbError> {
        let bundle = &self.bundle;
        let lines = join_lines(targets.iter().map(|target| format!("+{target}")));
        bundle.write_tier(PolicyTier::ProjectAllow, &lines)?;
        let policy = bundle.read_policy()?;
        let mut notes = Vec::new();
        if tier.is_live() {
            remove_file(&bundle.resolved())?;
        } else {
            let wildcards = policy.wildcard_names();
            if !wildcards.is_empty() {
                let names = wildcards.join(", ");
                return Err(LaunchError::Wildcards { names, tier }.into());
            }
            let path = bundle.resolved();
            let found = self
                .look_up(&policy.allow_targets(), path, MAX_CACHE_AGE, now)
                .await?;
            notes.extend(notes_about(&found));
        }
        for (targets, path) in [
            (policy.override_targets(), bundle.override_resolved()),
            (policy.deny_targets(), bundle.deny_resolved()),
        ] {
            if targets.is_empty() {
                remove_file(&path)?;
            } else {
                let found = self.look_up(&targets, path, MAX_CACHE_AGE, now).await?;
                notes.extend(notes_about(&found));
            }
        }
        Ok(notes)
    }

    fn write_ruleset(&self, values: &RulesetValues) -> Result<(), ShieldVerbError> {
        let seeds = self.bundle.read_policy()?.seeds(&self.bundle)?;
        let ruleset = values.up()
            + &add_elements(ALLOW_SET, &seeds.allowed, values.is_live)
            + &add_elements(OVERRIDE_SET, &seeds.overrides, false)
            + &add_elements(DENY_SET, &seeds.denied, false);
        Ok(write_file(&self.bundle.ruleset(), &ruleset)?)
    }

    /// Writes the container's `resolv.conf`, and the configuration of its dnsmasq if it has one.
    fn write_dns_files(
        &self,
        values: &RulesetValues,
        tier: DnsTier,
    ) -> Result<(), ShieldVerbError> {
        let bundle = &self.bundle;
        let listen = LOOPBACK;
        let nameserver = if tier.runs_dnsmasq() {
            let policy: EffectivePolicy = bundle.read_policy()?;
            let dnsmasq = DnsmasqValues {
                upstream: values.dns,
                listen,
                logs_queries: true,
                fills_sets: tier.is_live(),
            };
            write_file(
                &bundle.dnsmasq_conf(),
                &dnsmasq_config(bundle, &policy, &dnsmasq),
            )?;
            listen
        } else {
            for path in [
                bundle.dnsmasq_conf(),
                bundle.dnsmasq_pid(),
                bundle.dnsmasq_log(),
            ] {
                remove_file(&path)?;
            }
            values.dns
        };
        let text = format!("nameserver {nameserver}\noptions ndots:0\n");
        Ok(write_file(&bundle.resolv_conf(), &text)?)
    }

    fn podman_arguments(&self, values: &RulesetValues, tier: DnsTier, mode: &str) -> Vec<String> {
        let mut words = Vec::new();
        if !self.host.containers_conf.is_root {
            let (network, host) = match values.gateways {
                Some((gateway, _)) if mode == "slirp4netns" => {
                    ("slirp4netns:allow_host_loopback=true".to_owned(), gateway)
                }
                _ => (
                    format!("pasta:--map-host-loopback,{PASTA_HOST}"),
                    PASTA_HOST,
                ),
            };
            words.extend(["--network".to_owned(), network]);
            words.push("--add-host".to_owned());
            words.push(format!("host.containers.internal:{host}"));
        }
        words.push("--volume".to_owned());
        let resolv_conf = self.bundle.resolv_conf();
        words.push(format!("{}:/etc/resolv.conf:ro,Z", resolv_conf.display()));
        for (key, value) in [
            ("profiles", self.profile_names.join(":")),
            ("name", self.name.to_string()),
            ("state_dir", self.bundle.directory().display().to_string()),
            ("version", BUNDLE_VERSION.to_string()),
            (
                "audit_enabled",
                self.host.config.is_audit_enabled.to_string(),
            ),
            ("upstream_dns", values.dns.to_string()),
            ("dns_tier", tier.to_string()),
        ] {
            words.push("--annotation".to_owned());
            words.push(format!("terok.shield.{key}={value}"));
        }
        for capability in ["NET_ADMIN", "NET_RAW"] {
            words.extend(["--cap-drop".to_owned(), capability.to_owned()]);
        }
        words.extend(["--name".to_owned(), self.name.to_string()]);
        words
    }

    /// Returns the arguments of podman that start the container with `podman_arguments`, which
    /// begin with options or the image.
    pub fn run_arguments(
        prepared: &PreparedLaunch,
        podman_arguments: &[OsString],
    ) -> Vec<OsString> {
        let mut arguments = vec![OsString::from("run")];
        arguments.extend(prepared.arguments.iter().map(OsString::from));
        arguments.extend(podman_arguments.iter().cloned());
        arguments
    }
}

/// Options that are the firewall's.
const MANAGED_FLAGS: [&str; 6] = [
    "--annotation",
    "--cap-add",
    "--cap-drop",
    "--hooks-dir",
    "--name",
    "--network",
];

/// Checks the arguments after `--` of `run`: an image, and no option that is the firewall's.
pub fn check_podman_arguments(arguments: &[OsString]) -> Result<(), LaunchError> {
    if arguments.is_empty() {
        return Err(LaunchError::NoImage);
    }
    let flag = |argument: &OsString| {
        let name = argument.to_str()?.split('=').next()?;
        let name = if name == "--net" { "--network" } else { name };
        MANAGED_FLAGS.iter().find(|flag| **flag == name).copied()
    };
    let mut found: Vec<_> = arguments.iter().filter_map(flag).collect();
    found.sort_unstable();
    found.dedup();
    if found.is_empty() {
        Ok(())
    } else {
        Err(LaunchError::ManagedFlags(found.join(", ")))
    }
}

fn notes_about(found: &ResolvedTargets) -> Vec<String> {
    found
        .unknown
        .iter()
        .map(|name| format!("No address for {name}."))
        .collect()
}

/// Quotes a word for a shell if it needs it, as Python's `shlex.quote` does.
pub fn quote_for_shell(word: &str) -> String {
    let is_safe = |c: char| c.is_ascii_alphanumeric() || "@%+=:,./-_".contains(c);
    if !word.is_empty() && word.chars().all(is_safe) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', "'\"'\"'"))
}

/// Returns the path of podman.
pub fn find_podman(host: &ShieldHost) -> Result<PathBuf, LaunchError> {
    let podman = host.runner.find("podman");
    podman.ok_or(LaunchError::NoProgram("podman"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_firewalls_options_cannot_be_given_to_podman() {
        let check = |line: &str| {
            let words: Vec<OsString> = line.split_whitespace().map(Into::into).collect();
            check_podman_arguments(&words).map_err(|error| error.to_string())
        };
        assert_eq!(check("alpine sh -c x"), Ok(()));
        assert_eq!(check("-it --rm alpine"), Ok(()));
        assert!(check("").unwrap_err().starts_with("No image specified"));
        assert_eq!(
            check("--net=host --cap-add NET_ADMIN --network=none alpine").unwrap_err(),
            "Flag(s) managed by terok-shield, cannot override: --cap-add, --network"
        );
    }

    #[test]
    fn words_are_quoted_as_python_does() {
        for (word, expected) in [
            ("a-b_c=1:2,3@4%5+6/7.", "a-b_c=1:2,3@4%5+6/7."),
            ("", "''"),
            ("a b", "'a b'"),
            ("it's", "'it'\"'\"'s'"),
            ("ä", "'ä'"),
        ] {
            assert_eq!(quote_for_shell(word), expected);
        }
    }
}
