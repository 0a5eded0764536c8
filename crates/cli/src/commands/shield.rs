// SPDX-License-Identifier: Apache-2.0
//! `shield`, and the program `terok-shield`: the firewall of containers that its hooks prepare.

use std::ffi::OsString;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::SystemTime;

use anyhow::Context as _;
use shield_cli::{
    ChangedAddresses, ContainerLaunch, ContainerShield, EnvironmentReport, FullContainerId,
    PodmanHost, ProgramRunner, RulesetValues, ShieldContainerName, ShieldFileConfig, ShieldHost,
    ShieldPosture, ShieldProfiles, ShieldVerbError, StateBundle, check_podman_arguments,
    find_podman, quote_for_shell, read_logs, state_below, watch_container,
};
use terok_clearance::socket::RuntimeDir;

use super::simple_clearance;
use crate::{CommandContext, CommandError, CommandStatus, StopSignals, args, block_on};

/// Long help.
pub(super) const ABOUT: &str = "\
Manage the firewall of podman containers, as the program `terok-shield` does.

`prepare` and `run` start a container that reaches nothing but its profiles; its hooks load the \
rules before the first program runs. The other verbs look at the rules of a running container and \
change them. State directories and rules are those of the Python package `terok-shield`: each of \
the two programs manages the containers of the other.

A symbolic link called `terok-shield` to this program has these verbs as its commands.";

/// Command-line arguments.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  terok-clearance shield run my-task -- alpine sh    start a container with the default profiles
  terok-clearance shield status my-task              up, down, disengaged, quarantine, offline
  terok-clearance shield allow my-task 203.0.113.7   open one address, now and at later starts
  terok-clearance shield deny my-task a.example      close the addresses of a name
  terok-clearance shield rules my-task               list the rules
  terok-clearance shield down my-task --container-id \"$(podman inspect -f '{{.Id}}' my-task)\"
  terok-clearance shield quarantine my-task          drop everything, at once
  terok-clearance shield logs --container my-task    what was allowed, denied and blocked

The state directory of a container is that of its annotation `terok.shield.state_dir`; with
--state-dir it is DIR/containers/CONTAINER.

Exit status: 0 after success, 1 after a failure (the reason is on standard error), 2 for invalid
arguments. After a failure the firewall is never more open than before.

Environment:
  TEROK_SHIELD_STATE_DIR     root of the state directories [default: ~/.local/state/terok/shield]
  TEROK_SHIELD_CONFIG_DIR    directory of config.yml and profiles [default: ~/.config/terok/shield]")]
pub struct Args {
    /// Root of the state directories, in place of the annotations of containers
    #[arg(long, value_name = "DIR", global = true)]
    state_dir: Option<PathBuf>,
    /// Print the versions of this program and of podman
    #[arg(long)]
    version: bool,
    #[command(subcommand)]
    verb: Option<ShieldVerb>,
}

/// The verbs, in the order of the help.
#[derive(Debug, clap::Subcommand)]
enum ShieldVerb {
    /// Show the environment, or what the firewall of a container enforces.
    Status {
        /// Container; prints up, down, disengaged, quarantine, offline or error
        container: Option<String>,
    },
    /// Write the state directory of a new container, and print the arguments for podman.
    ///
    /// Example: eval "podman run $(terok-shield prepare my-task) alpine sh"
    Prepare {
        /// Name of the new container
        container: String,
        /// Profiles to use, separated by commas [default: those of config.yml]
        #[arg(long, value_delimiter = ',', value_name = "NAMES")]
        profiles: Option<Vec<String>>,
    },
    /// Start a container with a firewall: `run CONTAINER -- IMAGE COMMAND…`.
    Run {
        /// Name of the new container
        container: String,
        /// Profiles to use, separated by commas [default: those of config.yml]
        #[arg(long, value_delimiter = ',', value_name = "NAMES")]
        profiles: Option<Vec<String>>,
        /// Arguments for `podman run`: options, the image and its command
        #[arg(last = true, value_name = "PODMAN_ARGUMENTS")]
        podman_arguments: Vec<OsString>,
    },
    /// Look up the names of the default profiles, and keep their addresses.
    Resolve {
        /// Container
        container: String,
        /// Look them up again, even if the known addresses are young
        #[arg(long)]
        force: bool,
    },
    /// Allow a name, address or network, now and at later starts.
    Allow {
        /// Container
        container: String,
        /// Name, address or network
        target: String,
    },
    /// Deny a name, address or network, now and at later starts.
    Deny {
        /// Container
        container: String,
        /// Name, address or network
        target: String,
    },
    /// Accept and log everything but the denied, private networks and metadata addresses.
    Down {
        /// Container
        container: String,
        /// Id of the container, whose hub is told
        #[arg(long, value_name = "ID")]
        container_id: String,
        /// Enforce nothing: accept everything
        #[arg(long)]
        disengage: bool,
    },
    /// Refuse everything but the allowed again.
    Up {
        /// Container
        container: String,
        /// Id of the container, whose hub is told
        #[arg(long, value_name = "ID")]
        container_id: String,
    },
    /// Forget the addresses that dnsmasq added.
    Reset {
        /// Container
        container: String,
    },
    /// Drop everything, at once.
    Quarantine {
        /// Container
        container: String,
    },
    /// Show what the firewall enforces, and its rules as nft lists them.
    Rules {
        /// Container
        container: String,
    },
    /// Print the events of a container: one JSON object per line.
    Watch {
        /// Container
        container: String,
    },
    /// Answer the questions of a container at this terminal, without a hub.
    SimpleClearance {
        /// Container
        container: String,
    },
    /// Show the record of one or all containers: one JSON object per line.
    Logs {
        /// Only this container
        #[arg(long)]
        container: Option<String>,
        /// Number of the newest entries to show
        #[arg(
            short,
            default_value_t = 50,
            value_name = "COUNT",
            allow_negative_numbers = true
        )]
        n: i64,
    },
    /// List the profiles.
    Profiles,
    /// Install the hooks (not in this release: see docs/shield.md).
    Setup,
    /// Check podman, the hooks and the programs for names.
    CheckEnvironment,
    /// Show the rules of a firewall without loading them.
    Preview {
        /// Those of `down`
        #[arg(long)]
        down: bool,
        /// Those of `down --disengage`; needs --down
        #[arg(long)]
        disengage: bool,
    },
}

/// `setup` is not part of this release.
#[derive(Debug, thiserror::Error)]
#[error(
    "`setup` installs no hooks yet: install those of the Python package once, with \
     `pip install terok-shield` and its `terok-shield setup`; the verbs of this program use them"
)]
pub struct SetupMissingError;

impl Args {
    /// Returns the name of the command with a verb that prints nothing for programs. `prepare` has
    /// arguments as JSON, and the records are JSON anyway.
    pub(crate) const fn without_json(&self) -> Option<&'static str> {
        match &self.verb {
            Some(
                ShieldVerb::Prepare { .. }
                | ShieldVerb::Logs { .. }
                | ShieldVerb::Watch { .. }
                | ShieldVerb::SimpleClearance { .. },
            ) => None,
            _ => Some("shield"),
        }
    }
}

/// Runs the command.
pub fn perform(args: Args, context: &CommandContext) -> Result<CommandStatus, CommandError> {
    let verb = match args.verb {
        _ if args.version => return block_on(print_version(context)),
        None => {
            context
                .output
                .print(&args::shield_help(context.program_name))?;
            return Ok(CommandStatus::OK);
        }
        Some(verb) => verb,
    };
    match verb {
        ShieldVerb::SimpleClearance { container } => {
            let args = simple_clearance::Args::for_container(container, args.state_dir);
            simple_clearance::perform(args, context)
        }
        ShieldVerb::Setup => Err(anyhow::Error::new(SetupMissingError).into()),
        ShieldVerb::Logs { container, n } => print_logs(context, args.state_dir, container, n),
        ShieldVerb::Run {
            container,
            profiles,
            podman_arguments,
        } => {
            let session = ShieldSession::new(context, args.state_dir)?;
            let mut command =
                block_on(session.prepare_run(&container, profiles, &podman_arguments))?;
            let error = command.exec();
            Err(anyhow::Error::new(error)
                .context("cannot execute podman")
                .into())
        }
        verb => {
            let session = ShieldSession::new(context, args.state_dir)?;
            block_on(session.perform(verb))
        }
    }
}

async fn print_version(context: &CommandContext) -> Result<CommandStatus, CommandError> {
    let runner = ProgramRunner::new(context.environment.search_path().clone());
    let podman = PodmanHost::installed_version(&runner).await;
    let podman = podman.unwrap_or_else(|| "not found".to_owned());
    let has_nft = context.environment.find_program("nft").is_some();
    let nft = if has_nft { "found" } else { "not found" };
    context.output.print(&format!(
        "terok-shield {VERSION}\npodman {podman}\nnft {nft}\n"
    ))?;
    Ok(CommandStatus::OK)
}

/// The version, and the program that it is one of.
const VERSION: &str = concat!(env!("CARGO_PKG_VERSION"), " (terok-clearance)");

fn print_logs(
    context: &CommandContext,
    state_dir: Option<PathBuf>,
    container: Option<String>,
    count: i64,
) -> Result<CommandStatus, CommandError> {
    let root = state_dir.unwrap_or_else(|| context.environment.shield_state_root());
    let container = container.map(|name| name.parse()).transpose();
    let container: Option<ShieldContainerName> = container.map_err(anyhow::Error::new)?;
    let count = usize::try_from(count).unwrap_or_default();
    let lines = read_logs(&root, container.as_ref(), count).map_err(ShieldVerbError::Record)?;
    if lines.is_empty() && container.is_none() {
        context.output.print_line("No audit logs found.")?;
    }
    for line in lines {
        context.output.print_line(&line)?;
    }
    Ok(CommandStatus::OK)
}

/// A call of one verb.
struct ShieldSession<'a> {
    context: &'a CommandContext,
    host: ShieldHost,
    profiles: ShieldProfiles,
    hooks: PathBuf,
}

impl<'a> ShieldSession<'a> {
    fn new(context: &'a CommandContext, state_dir: Option<PathBuf>) -> Result<Self, CommandError> {
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

    async fn perform(&self, verb: ShieldVerb) -> Result<CommandStatus, CommandError> {
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

    async fn prepare_run(
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
