// SPDX-License-Identifier: Apache-2.0
//! The verbs about one container.

mod addresses;
mod posture_change;

use std::ffi::OsStr;
use std::fs::File;
use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use rustix::fs::{FlockOperation, flock};
use terok_clearance::DisplayText;
use terok_clearance::socket::RuntimeDir;
use tokio::sync::oneshot;
use tokio::time::timeout;

use crate::audit_log::{ShieldAuditEvent, ShieldAuditLog};
use crate::containers_conf::{ContainersConfPaths, slirp_gateways};
use crate::dns_tier::DnsTier;
use crate::file_config::ShieldFileConfig;
use crate::namespace_firewall::{FirewallError, NamespaceFirewall, is_supervised};
use crate::podman_host::PodmanHost;
use crate::posture::ShieldPosture;
use crate::program_runner::ProgramRunner;
use crate::ruleset_text::RulesetValues;
use crate::shield_container::{
    FindContainerError, PodmanContainer, ShieldContainerName, annotated_state, inspect_container,
    state_below,
};
use crate::shield_error::ShieldVerbError;
use crate::state_bundle::{StateBundle, read_word};

/// The limit for another verb that changes the same container.
const LOCK_TIMEOUT: Duration = Duration::from_secs(5);

/// What all verbs need.
#[derive(Debug, Clone)]
pub struct ShieldHost {
    /// Runs the programs of the host.
    pub runner: ProgramRunner,
    /// The directory with the sockets of hubs.
    pub runtime: RuntimeDir,
    /// The settings of `config.yml`.
    pub config: ShieldFileConfig,
    /// The root of all state directories, in place of the annotations of containers.
    pub state_override: Option<PathBuf>,
    /// The configuration files of podman.
    pub containers_conf: ContainersConfPaths,
}

/// A container and its state directory.
#[derive(Debug)]
pub struct ContainerShield {
    host: ShieldHost,
    name: ShieldContainerName,
    podman: PodmanContainer,
    bundle: StateBundle,
    audit: ShieldAuditLog,
}

/// The addresses that a verb allowed or denied, and what to know about them.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ChangedAddresses {
    /// The addresses.
    pub addresses: Vec<String>,
    /// Remarks for the operator.
    pub notes: Vec<String>,
}

/// The rules of a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContainerRules {
    /// What they enforce.
    pub posture: ShieldPosture,
    /// Why the posture is `error`.
    pub fault: Option<String>,
    /// The rules as `nft` lists them; empty without any.
    pub text: String,
}

/// Holds the lock of a state directory.
#[derive(Debug)]
struct StateLock {
    _directory: File,
}

impl ContainerShield {
    /// Finds a container by its name or id.
    pub async fn find(
        host: ShieldHost,
        name: ShieldContainerName,
    ) -> Result<Self, ShieldVerbError> {
        let inspected = inspect_container(&host.runner, &name).await;
        let (podman, bundle) = match (&host.state_override, inspected) {
            (Some(root), inspected) => {
                // A container that podman does not know has no firewall, but may have files.
                let podman = inspected.unwrap_or_else(|error| {
                    tracing::debug!(%name, error = %error, "podman does not know the container");
                    PodmanContainer::default()
                });
                (podman, state_below(root, name.as_str()))
            }
            (None, Ok(podman)) => {
                let bundle = annotated_state(&name, &podman)?;
                (podman, bundle)
            }
            (None, Err(FindContainerError::Inspect { container, source })) => {
                return Err(FindContainerError::Inspect { container, source }.into());
            }
            (None, Err(error)) => return Err(error.into()),
        };
        let audit = ShieldAuditLog::new(&bundle, host.config.is_audit_enabled);
        Ok(Self {
            host,
            name,
            podman,
            bundle,
            audit,
        })
    }

    /// Returns the name.
    pub const fn name(&self) -> &ShieldContainerName {
        &self.name
    }

    /// Returns the state directory.
    pub const fn bundle(&self) -> &StateBundle {
        &self.bundle
    }

    /// Returns the first process, if the container runs.
    pub(crate) const fn pid(&self) -> Option<u32> {
        self.podman.pid
    }

    /// Reads the rules of the container. One that does not run has none.
    pub async fn read_rules(&self) -> Result<ContainerRules, ShieldVerbError> {
        let firewall = match self.open_firewall() {
            Ok(firewall) => firewall,
            Err(
                ShieldVerbError::NotRunning(_)
                | ShieldVerbError::Firewall(FirewallError::NoProcess { .. }),
            ) => return Ok(ContainerRules::offline()),
            Err(error) => return Err(error),
        };
        let Some(table) = firewall.read().await? else {
            return Ok(ContainerRules::offline());
        };
        if is_supervised(&table.listing) {
            let fault = Some(FirewallError::Supervised.to_string());
            return Ok(ContainerRules {
                posture: ShieldPosture::Error,
                fault,
                text: table.text,
            });
        }
        let (posture, fault) = ShieldPosture::of_listing(Some(&table.listing));
        Ok(ContainerRules {
            posture,
            fault: fault.map(|fault| fault.to_string()),
            text: table.text,
        })
    }

    fn open_firewall(&self) -> Result<NamespaceFirewall, ShieldVerbError> {
        let pid = self
            .podman
            .pid
            .ok_or_else(|| ShieldVerbError::NotRunning(self.name.clone()))?;
        Ok(NamespaceFirewall::open(self.host.runner.clone(), pid)?)
    }

    /// Waits until no other verb of this program changes the container.
    async fn lock(&self) -> Result<StateLock, ShieldVerbError> {
        self.bundle.create_directories()?;
        let path = self.bundle.directory().to_owned();
        let failed = |source| ShieldVerbError::Lock {
            path: path.clone(),
            source,
        };
        let directory = File::open(&path).map_err(failed)?;
        let (sender, locked) = oneshot::channel();
        // A thread of its own: one that waits for too long must not delay the end of the program.
        std::thread::spawn(move || {
            let result = flock(&directory, FlockOperation::LockExclusive);
            drop(sender.send(result.map(|()| directory)));
        });
        match timeout(LOCK_TIMEOUT, locked).await {
            Ok(Ok(Ok(directory))) => Ok(StateLock {
                _directory: directory,
            }),
            Ok(Ok(Err(errno))) => Err(failed(errno.into())),
            Ok(Err(_)) | Err(_) => Err(ShieldVerbError::Locked),
        }
    }

    fn record(&self, event: ShieldAuditEvent<'_>, now: SystemTime) {
        self.audit.append(self.name.as_str(), event, now);
    }

    /// Returns the values of the container's rulesets.
    async fn ruleset_values(&self) -> Result<RulesetValues, ShieldVerbError> {
        let gateways = match self.network_mode().await?.as_str() {
            "slirp4netns" => Some(slirp_gateways(&self.host.containers_conf)),
            _ => None,
        };
        Ok(RulesetValues {
            dns: self.resolver().await?,
            loopback_ports: self.bundle.read_loopback_ports()?,
            gateways,
            is_live: self.bundle.read_dns_tier().is_some_and(DnsTier::is_live),
        })
    }

    async fn network_mode(&self) -> Result<String, ShieldVerbError> {
        let path = self.bundle.network_mode();
        match read_word(&path)? {
            Some(mode) if matches!(mode.as_str(), "pasta" | "slirp4netns") => Ok(mode),
            Some(mode) => Err(ShieldVerbError::Value {
                path,
                found: DisplayText::new(&mode),
                expected: "pasta or slirp4netns",
            }),
            // Recorded since version 17 of the layout.
            None => Ok(PodmanHost::inspect(&self.host.runner).await.network_mode),
        }
    }

    /// Returns the recorded resolver, else the first one of the container's `/etc/resolv.conf`.
    async fn resolver(&self) -> Result<IpAddr, ShieldVerbError> {
        let path = self.bundle.upstream_dns();
        if let Some(word) = read_word(&path)? {
            return word.parse().map_err(|_invalid| ShieldVerbError::Value {
                path,
                found: DisplayText::new(&word),
                expected: "an address",
            });
        }
        let pid = self.podman.pid.unwrap_or_default();
        let file = format!("/proc/{pid}/root/etc/resolv.conf");
        let text = if let Ok(text) = std::fs::read_to_string(&file) {
            text
        } else {
            // A rootless container's files are reached from its user namespace.
            let arguments = ["unshare", "cat", &file].map(OsStr::new);
            let limit = Duration::from_secs(5);
            let output = self.host.runner.run("podman", &arguments, None, limit);
            output.await.unwrap_or_default()
        };
        let nameserver = text.lines().find_map(|line| {
            let mut words = line.split_whitespace();
            (words.next() == Some("nameserver"))
                .then(|| words.next())
                .flatten()
        });
        nameserver
            .and_then(|address| address.parse().ok())
            .ok_or_else(|| ShieldVerbError::NoResolver(self.name.clone()))
    }
}

impl ContainerRules {
    const fn offline() -> Self {
        Self {
            posture: ShieldPosture::Offline,
            fault: None,
            text: String::new(),
        }
    }
}

/// The address of the resolver of containers with slirp4netns.
pub(crate) const SLIRP_DNS: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 3);
