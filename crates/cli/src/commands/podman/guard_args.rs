// SPDX-License-Identifier: Apache-2.0
//! The options of a guarded container, and its signed policy.

use clap::ValueEnum;
use containers::ContainerNetwork;
use containers::policy_annotation::{ContainerPolicy, PolicyKey};
use policy::ProfileName;
use runner::{HoldLimit, PublishSpec};
use store::RuleStore;
use terok_clearance::{DestPattern, DisplayText};

use super::PodmanCommandError;
use crate::commands::run::parse_allowed;
use crate::settings_files::read_organisation;
use crate::{CommandContext, CommandError};

/// The options of a guarded container.
#[derive(Debug, Clone, clap::Args)]
pub(super) struct GuardArgs {
    /// How allowed connections leave: `dialed`, the supervisor makes each of them; or `filtered`,
    /// the container has a connection of its own behind firewall rules
    #[arg(long, value_enum, default_value_t = ViaArg::Dialed, value_name = "HOW")]
    via: ViaArg,
    /// Open from the start: NAME, *.NAME, ADDRESS or NETWORK/BITS, with :PORT or :LOW-HIGH, and
    /// with /tcp, /udp or /icmp; repeat for more
    #[arg(long, value_name = "DEST", value_parser = parse_allowed)]
    allow: Vec<DestPattern>,
    /// Refuse without a question, before anything that allows it; repeat for more
    #[arg(long, value_name = "DEST")]
    deny: Vec<DestPattern>,
    /// Allow what a profile lists, and deny what it denies (`terok-clearance profile list`); repeat
    /// for more
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    profile: Vec<ProfileName>,
    /// How long a connection waits for an answer: 30s, 5m, forever, or 0 to refuse it at once
    /// [default: as your configuration says]
    #[arg(long, value_name = "TIME")]
    hold: Option<HoldLimit>,
    /// Refuse connections to a name that ask its servers for a name that is not allowed
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true,
        default_missing_value = "true", default_value_t = false)]
    check_sni: bool,
}

/// The option about mounts.
#[derive(Debug, Clone, Copy, clap::Args)]
pub(super) struct MountArgs {
    /// Mount also what lets the container answer its own questions, such as your home directory
    #[arg(long)]
    pub(super) trust_mounts: bool,
}

/// The values of `--via`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum ViaArg {
    /// The supervisor makes each allowed connection.
    Dialed,
    /// A connection of the container's own.
    Filtered,
}

/// A policy with its signature.
#[derive(Debug, Clone)]
pub(super) struct SignedPolicy {
    /// The way out.
    pub(super) network: ContainerNetwork,
    /// The value of the annotation.
    pub(super) value: String,
}

impl GuardArgs {
    /// Returns the options as arguments, for another call of this program.
    pub(super) fn arguments(&self) -> Vec<String> {
        let Self {
            via,
            allow,
            deny,
            profile,
            hold,
            check_sni,
        } = self;
        let via = match via {
            ViaArg::Dialed => "dialed",
            ViaArg::Filtered => "filtered",
        };
        let mut arguments = vec![format!("--via={via}")];
        arguments.extend(allow.iter().map(|dest| format!("--allow={dest}")));
        arguments.extend(deny.iter().map(|dest| format!("--deny={dest}")));
        arguments.extend(profile.iter().map(|name| format!("--profile={name}")));
        arguments.extend(hold.iter().map(|hold| format!("--hold={hold}")));
        arguments.push(format!("--check-sni={check_sni}"));
        arguments
    }

    /// Returns the signed policy of a container.
    pub(super) fn sign(
        self,
        name: Option<&str>,
        publish: Vec<PublishSpec>,
        context: &CommandContext,
    ) -> Result<SignedPolicy, CommandError> {
        let Self {
            via,
            allow,
            deny,
            profile,
            hold,
            check_sni,
        } = self;
        // The supervisor knows these limits, too; here they are a message at the right place.
        if let Some(organisation) = read_organisation()? {
            for dest in &allow {
                organisation.check_allowed(dest)?;
            }
        }
        let store = RuleStore::open(context.environment.config_dir())?;
        for name in &profile {
            store.load_profile(name)?;
        }
        let network = match via {
            ViaArg::Dialed => ContainerNetwork::Dialed,
            ViaArg::Filtered => ContainerNetwork::Filtered,
        };
        let policy = ContainerPolicy {
            allow,
            deny,
            profiles: profile,
            hold,
            publish,
            name: name.map(DisplayText::new),
            checks_server_names: check_sni,
        };
        let key = PolicyKey::load_or_create(context.environment.state_dir());
        let key = key.map_err(PodmanCommandError::Key)?;
        let value = policy
            .sign(network, &key)
            .map_err(PodmanCommandError::Policy)?;
        Ok(SignedPolicy { network, value })
    }
}
