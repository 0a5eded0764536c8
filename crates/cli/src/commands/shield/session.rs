// SPDX-License-Identifier: Apache-2.0
//! Performs a verb and prints what the Python program prints.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::SystemTime;

use anyhow::Context as _;
use shield_cli::{
    ChangedAddresses, ContainerLaunch, ContainerShield, EnvironmentReport, FullContainerId,
    ProgramRunner, RulesetValues, ShieldContainerName, ShieldFileConfig, ShieldHost, ShieldPosture,
    ShieldProfiles, ShieldVerbError, StateBundle, check_podman_arguments, find_podman,
    quote_for_shell, state_below, watch_container,
};
use terok_clearance::socket::RuntimeDir;

use super::VERSION;
use super::verb::ShieldVerb;
use crate::{CommandContext, CommandError, CommandStatus, StopSignals};

/// A call of one verb.
pub(super) struct ShieldSession<'a> {
    context: &'a CommandContext,
    host: ShieldHost,
    profiles: ShieldProfiles,
    hooks: PathBuf,
}

impl<'a> ShieldSession<'a> {
    pub(super) fn new(
        context: &'a CommandContext,
        state_dir: Option<PathBuf>,
    ) -> Result<Self, CommandError> {
        let environment = &context.environment;
        let config_root = environment.shield_config_root();
        let config = ShieldFileConfig::read(&config_root).map_err(ShieldVerbError::from)?;
        let state_dir = state_dir.map(|root| {
            std::path::absolute(&root).with_context(|| format!("cannot find {}", root.display()))
        });
        Ok(Self {
            context,
            host: ShieldHost {
                runner: ProgramRunner::new(environment.search_path().clone()),
                runtime: RuntimeDir::new(environment.runtime_dir()),
                config,
                state_override: state_dir.transpose()?,
                containers_conf: environment.containers_conf(),
            },
            profiles: ShieldProfiles::new(config_root.join("profiles")),
            hooks: environment.shield_data_dir().join("hooks"),
        })
    }

    pub(super) async fn perform(&self, verb: ShieldVerb) -> Result<CommandStatus, CommandError> {
        let output = &self.context.output;
        let now = current_time();
        match verb {
            ShieldVerb::Status { container: None } => self.print_status().await?,
            ShieldVerb::Status {
                container: Some(container),
            } => {
                let rules = self.find(&container).await?.read_rules().await?;
                output.print_line(rules.posture.as_str())?;
                self.print_notes(rules.fault.as_slice());
            }
            ShieldVerb::Prepare {
                container,
                profiles,
            } => self.print_prepared(&container, profiles, now).await?,
            ShieldVerb::Resolve { container, force } => {
                let launch = self.launch(&container, None).await?;
                let (addresses, notes) = launch.resolve(force, now).await?;
                self.print_notes(&notes);
                let label = if force { " (forced)" } else { "" };
                let count = addresses.len();
                output.print_line(&format!("Resolved {count} IPs for {container}{label}"))?;
                for address in addresses {
                    output.print_line(&format!("  {address}"))?;
                }
            }
            ShieldVerb::Allow { container, target } => {
                let changed = self.find(&container).await?.allow(&target, now).await?;
                let addresses = self.changed(&changed);
                output.print_line(&format!("Allowed {target} -> {addresses} for {container}"))?;
            }
            ShieldVerb::Deny { container, target } => {
                let changed = self.find(&container).await?.deny(&target, now).await?;
                let addresses = self.changed(&changed);
                output.print_line(&format!("Denied {target} ({addresses}) for {container}"))?;
            }
            ShieldVerb::Down {
                container,
                container_id,
                disengage,
            } => {
                let id = parse_id(&container_id)?;
                self.find(&container)
                    .await?
                    .down(&id, disengage, now)
                    .await?;
                let label = if disengage { " (disengaged)" } else { "" };
                output.print_line(&format!("Shield down for {container}{label}"))?;
            }
            ShieldVerb::Up {
                container,
                container_id,
            } => {
                let id = parse_id(&container_id)?;
                self.find(&container).await?.up(&id, now).await?;
                output.print_line(&format!("Shield up for {container}"))?;
            }
            verb => return self.perform_other(verb, now).await,
        }
        Ok(CommandStatus::OK)
    }

    async fn perform_other(
        &self,
        verb: ShieldVerb,
        now: SystemTime,
    ) -> Result<CommandStatus, CommandError> {
        let output = &self.context.output;
        match verb {
            ShieldVerb::Reset { container } => {
                self.find(&container).await?.reset(now).await?;
                let what = "learned allow state forgotten";
                output.print_line(&format!("Shield reset for {container} — {what}"))?;
            }
            ShieldVerb::Quarantine { container } => {
                self.find(&container).await?.quarantine(now).await?;
                let what = "all traffic dropped";
                output.print_line(&format!("Shield QUARANTINED for {container} — {what}"))?;
            }
            ShieldVerb::Rules { container } => {
                let rules = self.find(&container).await?.read_rules().await?;
                output.print_line(&format!("State: {}", rules.posture))?;
                if rules.posture == ShieldPosture::Offline {
                    output.print_line(&format!("No rules found for {container}"))?;
                } else {
                    output.print_line(&rules.text)?;
                }
                self.print_notes(rules.fault.as_slice());
            }
            ShieldVerb::Watch { container } => return self.watch(&container).await,
            ShieldVerb::Profiles => {
                for name in self.profiles.list().map_err(ShieldVerbError::from)? {
                    output.print_line(&name)?;
                }
            }
            ShieldVerb::CheckEnvironment => {
                let report = self.check_environment().await;
                output.print_line(&format!("podman_version={}", report.podman.version))?;
                output.print_line(&format!("hooks={}", report.hooks()))?;
                output.print_line(&format!("health={}", report.health()))?;
                self.print_issues(&report)?;
            }
            ShieldVerb::Preview { down, disengage } => self.print_preview(down, disengage)?,
            _ => return Err(anyhow::anyhow!("this verb is not performed here").into()),
        }
        Ok(CommandStatus::OK)
    }

    async fn find(&self, container: &str) -> Result<ContainerShield, CommandError> {
        let name = parse_name(container)?;
        Ok(ContainerShield::find(self.host.clone(), name).await?)
    }

    /// Returns a container that may not exist yet: its state directory is then the default one.
    async fn launch(
        &self,
        container: &str,
        profiles: Option<Vec<String>>,
    ) -> Result<ContainerLaunch, CommandError> {
        let name = parse_name(container)?;
        let default_root = self.context.environment.shield_state_root();
        let bundle: StateBundle = match &self.host.state_override {
            Some(root) => state_below(root, container),
            None => match ContainerShield::find(self.host.clone(), name.clone()).await {
                Ok(found) => found.bundle().clone(),
                Err(_) => state_below(&default_root, container),
            },
        };
        let profile_names = profiles.map(|names| {
            let names = names.into_iter().map(|name| name.trim().to_owned());
            names.filter(|name| !name.is_empty()).collect()
        });
        Ok(ContainerLaunch {
            profile_names: profile_names
                .unwrap_or_else(|| self.host.config.default_profiles.clone()),
            host: self.host.clone(),
            name,
            bundle,
            profiles: self.profiles.clone(),
        })
    }

    async fn print_prepared(
        &self,
        container: &str,
        profiles: Option<Vec<String>>,
        now: SystemTime,
    ) -> Result<(), CommandError> {
        let launch = self.launch(container, profiles).await?;
        let prepared = launch.prepare(&self.hooks, now).await?;
        self.print_notes(&prepared.notes);
        let line = if self.context.json {
            let words = prepared
                .arguments
                .iter()
                .map(|word| serde_json::json!(word).to_string());
            format!("[{}]", words.collect::<Vec<_>>().join(", "))
        } else {
            let words = prepared.arguments.iter().map(|word| quote_for_shell(word));
            words.collect::<Vec<_>>().join(" ")
        };
        Ok(self.context.output.print_line(&line)?)
    }

    pub(super) async fn prepare_run(
        &self,
        container: &str,
        profiles: Option<Vec<String>>,
        podman_arguments: &[OsString],
    ) -> Result<Command, CommandError> {
        check_podman_arguments(podman_arguments).map_err(ShieldVerbError::from)?;
        let podman = find_podman(&self.host).map_err(ShieldVerbError::from)?;
        let launch = self.launch(container, profiles).await?;
        let prepared = launch.prepare(&self.hooks, current_time()).await?;
        self.print_notes(&prepared.notes);
        let mut command = Command::new(podman);
        command.args(ContainerLaunch::run_arguments(&prepared, podman_arguments));
        Ok(command)
    }

    async fn watch(&self, container: &str) -> Result<CommandStatus, CommandError> {
        let shield = self.find(container).await?;
        let mut stop = StopSignals::catch()?;
        let mut print = |line: &str| self.context.output.write(&format!("{line}\n"));
        tokio::select! {
            _ = stop.wait() => Ok(CommandStatus::OK),
            ended = watch_container(&shield, current_time, &mut print) => {
                ended?;
                Ok(CommandStatus::OK)
            }
        }
    }

    async fn check_environment(&self) -> EnvironmentReport {
        let dnsmasq: Option<&Path> = self.host.config.dnsmasq_path.as_deref();
        let conf = &self.host.containers_conf;
        EnvironmentReport::check(&self.host.runner, conf, &self.hooks, dnsmasq).await
    }

    async fn print_status(&self) -> Result<(), CommandError> {
        let report = self.check_environment().await;
        let profiles = self
            .profiles
            .list()
            .map_err(ShieldVerbError::from)?
            .join(", ");
        let audit = if self.host.config.is_audit_enabled {
            "enabled"
        } else {
            "disabled"
        };
        let output = &self.context.output;
        for (label, value) in [
            ("Version:  ", VERSION),
            ("Podman:   ", &report.podman.version),
            ("Mode:     ", "hook"),
            ("Hooks:    ", report.hooks()),
            ("Health:   ", report.health()),
            ("Audit:    ", audit),
            ("Profiles: ", &profiles),
        ] {
            output.print_line(&format!("{label}{value}"))?;
        }
        self.print_issues(&report)
    }

    fn print_issues(&self, report: &EnvironmentReport) -> Result<(), CommandError> {
        let output = &self.context.output;
        if !report.issues.is_empty() {
            output.print_line("")?;
        }
        for issue in &report.issues {
            output.print_line(&format!("  {issue}"))?;
        }
        if !report.has_hooks {
            output.print_line("")?;
            output.print_line("Run 'terok-shield setup' to install the hooks.")?;
        }
        Ok(())
    }

    fn print_preview(&self, down: bool, disengage: bool) -> Result<(), CommandError> {
        let values = RulesetValues::default();
        let (label, ruleset) = match (down, disengage) {
            (false, true) => return Err(anyhow::anyhow!("--disengage requires --down").into()),
            (false, false) => ("up", values.up()),
            (true, false) => ("down", values.down()),
            (true, true) => ("disengaged", values.disengaged()),
        };
        let output = &self.context.output;
        output.print_line(&format!("# Ruleset preview ({label}):"))?;
        Ok(output.print_line(&ruleset)?)
    }

    fn changed(&self, changed: &ChangedAddresses) -> String {
        self.print_notes(&changed.notes);
        changed.addresses.join(", ")
    }

    fn print_notes(&self, notes: &[String]) {
        for note in notes {
            self.context.output.print_error_line(note);
        }
    }
}

fn parse_name(container: &str) -> Result<ShieldContainerName, CommandError> {
    Ok(container.parse().map_err(anyhow::Error::new)?)
}

fn parse_id(id: &str) -> Result<FullContainerId, CommandError> {
    Ok(id.parse().map_err(anyhow::Error::new)?)
}

#[expect(
    clippy::disallowed_methods,
    reason = "the edge of the program reads the clock for the record"
)]
fn current_time() -> SystemTime {
    SystemTime::now()
}
