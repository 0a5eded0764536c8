// SPDX-License-Identifier: Apache-2.0
//! The verbs and their arguments.

use std::ffi::OsString;

/// The verbs, in the order of the help.
#[derive(Debug, clap::Subcommand)]
pub(super) enum ShieldVerb {
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
    /// Start a container with a firewall: `run CONTAINER -- IMAGE COMMAND...`.
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
    /// Install the hooks that load the rules of containers as they start.
    Setup,
    /// What podman's runtime calls as a hook.
    #[command(hide = true)]
    Hook {
        /// rules or reader
        #[arg(value_parser = ["rules", "reader"])]
        role: String,
        /// createRuntime or poststop
        #[arg(value_parser = ["createRuntime", "poststop"])]
        stage: String,
    },
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
