// SPDX-License-Identifier: Apache-2.0
//! The commands of the program, one file each.
//!
//! The file of a command contains the arguments (`Args`) and the implementation (`perform`).
//! `perform` is not async, because some commands fork before starting a runtime. The other commands
//! call [`crate::block_on`].

pub mod answer;
pub mod bypass;
pub mod clearance;
pub mod completions;
pub mod config;
mod confirm;
pub mod container_supervisor;
pub mod demo;
pub mod doctor;
pub mod explain;
pub mod hook;
pub mod install_service;
mod kept_project;
pub mod list;
pub mod log;
pub mod man;
pub mod notifier;
pub mod notify;
pub mod oci_runtime;
pub mod podman;
pub mod preview;
pub mod profile;
pub mod reader;
pub mod request;
pub mod revoke;
pub mod rules;
pub mod run;
pub mod serve;
pub mod serve_verdict;
pub mod setup;
pub mod shield;
pub mod simple_clearance;
pub mod status;
pub mod supervise;
pub mod tui;
pub mod uninstall;
pub mod watch;

use clap::Subcommand;
use terok_clearance::Action;
use tracing::level_filters::LevelFilter;

use crate::{CommandContext, CommandError, CommandStatus};

/// The commands in alphabetical order; the help orders them by `display_order`.
#[derive(Debug, Subcommand)]
pub enum CliCommand {
    /// Allow the questions with these ids.
    #[command(display_order = 32, long_about = answer::ABOUT_ALLOW)]
    Allow(answer::Args),

    /// Open the whole internet to a sandbox for a time, without questions.
    #[command(display_order = 39, long_about = bypass::ABOUT)]
    Bypass(bypass::Args),

    /// Answer the questions of every sandbox at this terminal.
    #[command(display_order = 26, long_about = clearance::ABOUT)]
    Clearance(clearance::Args),

    /// Print the completions for a shell.
    #[command(display_order = 90, long_about = completions::ABOUT)]
    Completions(completions::Args),

    /// Show your configuration, check its files, or print an example.
    #[command(display_order = 82, long_about = config::ABOUT)]
    Config(config::Args),

    /// Supervise a container that a hook announces.
    #[command(hide = true, long_about = container_supervisor::ABOUT)]
    ContainerSupervisor(container_supervisor::Args),

    /// Show a packet's path to an answer, in private namespaces.
    #[command(display_order = 10)]
    Demo(demo::Args),

    /// Deny the questions with these ids.
    #[command(display_order = 33, long_about = answer::ABOUT_DENY)]
    Deny(answer::Args),

    /// The simulated internet of `demo`.
    #[command(hide = true)]
    DemoInternet(demo::InternetArgs),

    /// The program in the sandbox of `demo`.
    #[command(hide = true)]
    DemoProgram(demo::WorkloadArgs),

    /// Check what this host needs, each with the command that fixes it.
    #[command(display_order = 83, long_about = doctor::ABOUT)]
    Doctor(doctor::Args),

    /// Tries the kernel out for `doctor`.
    #[command(hide = true)]
    DoctorProbe(doctor::ProbeArgs),

    /// Say what the rules of a sandbox do with a destination, and why.
    #[command(display_order = 38, long_about = explain::ABOUT)]
    Explain(explain::Args),

    /// Guard a container that is about to start, as its OCI hook.
    #[command(hide = true, long_about = hook::ABOUT)]
    Hook(hook::Args),

    /// Install the systemd units of the classic hub, as releases up to 0.6 did.
    #[command(hide = true)]
    InstallService(install_service::Args),

    /// List the pending questions of every sandbox.
    #[command(display_order = 31, long_about = list::ABOUT)]
    List(list::Args),

    /// Show the record: questions, answers, rules and connections.
    #[command(display_order = 36, long_about = log::ABOUT)]
    Log(log::Args),

    /// Print a manual page.
    #[command(display_order = 91, long_about = man::ABOUT)]
    Man(man::Args),

    /// Ask the questions of every sandbox as popups on your desktop.
    #[command(display_order = 27, long_about = notifier::ABOUT)]
    Notifier(notifier::Args),

    /// Show a notification, and print the chosen action.
    #[command(display_order = 80, long_about = notify::ABOUT)]
    Notify(notify::Args),

    /// Run an OCI runtime with the hooks, for Docker and nerdctl.
    #[command(hide = true, long_about = oci_runtime::ABOUT)]
    OciRuntime(oci_runtime::Args),

    /// Start podman's containers default-deny, and ask what they may reach.
    #[command(display_order = 21, long_about = podman::ABOUT)]
    Podman(podman::Args),

    /// Print the firewall rules of a sandbox in nft syntax.
    #[command(display_order = 40, long_about = preview::ABOUT)]
    Preview(preview::Args),

    /// List, show, check and make profiles, which are sets of allowed destinations.
    #[command(display_order = 41, long_about = profile::ABOUT)]
    Profile(profile::Args),

    /// Report to a hub each packet that the firewall of one sandbox refuses.
    #[command(display_order = 80, long_about = reader::ABOUT)]
    Reader(reader::Args),

    /// End rules, and the connections that they opened.
    #[command(display_order = 37, long_about = revoke::ABOUT)]
    Revoke(revoke::Args),

    /// List the rules in force of every sandbox.
    #[command(display_order = 36, long_about = rules::ABOUT)]
    Rules(rules::Args),
    /// Ask for a destination from inside a sandbox, ahead of a connection.
    #[command(display_order = 36, long_about = request::ABOUT)]
    Request(request::Args),

    /// Run a command in a sandbox that reaches only what you allow.
    #[command(display_order = 20)]
    Run(run::Args),

    /// Serve one hub for every sandbox, on the classic sockets.
    #[command(display_order = 60, long_about = serve::ABOUT)]
    Serve(serve::Args),

    /// Serve the verdict helper, which applies a hub's answers with `terok-shield`.
    #[command(display_order = 70, long_about = serve_verdict::ABOUT)]
    ServeVerdict(serve_verdict::Args),

    /// Set this host up: hooks of containers, systemd units, completions, manual pages.
    #[command(display_order = 72, long_about = setup::ABOUT)]
    Setup(setup::Args),

    /// Manage the firewall of podman containers, as `terok-shield` does.
    #[command(display_order = 55, long_about = shield::ABOUT)]
    Shield(shield::Args),

    /// Answer the questions of one container at this terminal, without a hub.
    #[command(display_order = 35, long_about = simple_clearance::ABOUT)]
    SimpleClearance(simple_clearance::Args),

    /// Show what is guarded now.
    #[command(display_order = 30, long_about = status::ABOUT)]
    Status(status::Args),

    /// Guard an existing network namespace, such as that of a rootless container.
    #[command(display_order = 50)]
    Supervise(supervise::Args),

    /// Answer the questions of every sandbox in full screen.
    #[command(display_order = 25, long_about = tui::ABOUT)]
    Tui(tui::Args),

    /// Take away what `setup` has installed.
    #[command(display_order = 73, long_about = uninstall::ABOUT)]
    Uninstall(uninstall::Args),

    /// Print the version.
    #[command(display_order = 92)]
    Version,

    /// Print the events of every hub.
    #[command(display_order = 34, long_about = watch::ABOUT)]
    Watch(watch::Args),
}

impl CliCommand {
    /// Runs the command and returns its exit status.
    pub fn perform(self, context: &CommandContext) -> Result<CommandStatus, CommandError> {
        match self {
            Self::Allow(args) => answer::perform(args, Action::Allow, context),

            Self::Bypass(args) => bypass::perform(args, context),

            Self::Clearance(args) => clearance::perform(args, context),

            Self::Completions(args) => completions::perform(&args, context),

            Self::Config(args) => config::perform(args, context),

            Self::ContainerSupervisor(args) => container_supervisor::perform(&args, context),

            Self::Demo(args) => demo::perform(args, context),

            Self::Deny(args) => answer::perform(args, Action::Deny, context),

            Self::DemoInternet(args) => Ok(demo::perform_internet(&args)),

            Self::DemoProgram(_) => demo::perform_workload(),

            Self::Doctor(args) => doctor::perform(args, context),

            Self::DoctorProbe(_) => doctor::perform_probe(context),

            Self::Explain(args) => explain::perform(args, context),

            Self::Hook(args) => hook::perform(&args, context),

            Self::InstallService(args) => install_service::perform(&args, context),

            Self::List(args) => list::perform(args, context),

            Self::Log(args) => log::perform(&args, context),

            Self::Man(args) => man::perform(&args, context),

            Self::Notifier(args) => notifier::perform(args, context),

            Self::Notify(args) => notify::perform(args, context),

            Self::OciRuntime(args) => oci_runtime::perform(&args, context),

            Self::Podman(args) => podman::perform(args, context),

            Self::Preview(args) => preview::perform(args, context),

            Self::Profile(args) => profile::perform(args, context),

            Self::Reader(args) => reader::perform(args, context),

            Self::Revoke(args) => revoke::perform(args, context),

            Self::Rules(args) => rules::perform(args, context),
            Self::Request(args) => request::perform(args, context),

            Self::Run(args) => run::perform(args, context),

            Self::Serve(args) => serve::perform(args, context),

            Self::ServeVerdict(args) => serve_verdict::perform(args, context),

            Self::Setup(args) => setup::perform(&args, context),

            Self::Shield(args) => shield::perform(args, context),

            Self::SimpleClearance(args) => simple_clearance::perform(args, context),

            Self::Status(args) => status::perform(&args, context),

            Self::Supervise(args) => supervise::perform(args, context),

            Self::Tui(args) => tui::perform(args, context),

            Self::Uninstall(args) => uninstall::perform(&args, context),

            Self::Version => {
                let version = env!("CARGO_PKG_VERSION");
                let line = if context.json {
                    serde_json::json!({ "version": version }).to_string()
                } else {
                    format!("terok-clearance {version}")
                };
                context.output.print_line(&line)?;
                Ok(CommandStatus::OK)
            }

            Self::Watch(args) => watch::perform(args, context),
        }
    }

    /// Returns the log level without `-v`: services log each step, other commands only problems.
    pub(crate) const fn default_log_level(&self) -> LevelFilter {
        match self {
            Self::ContainerSupervisor(_)
            | Self::Notifier(_)
            | Self::Serve(_)
            | Self::ServeVerdict(_)
            | Self::Supervise(_) => LevelFilter::INFO,
            Self::Reader(args) => args.log_level(),
            Self::Run(args) => args.log_level(),
            _ => LevelFilter::WARN,
        }
    }

    /// Returns `true` if the user's configuration counts for the command.
    pub(crate) const fn reads_settings(&self) -> bool {
        !matches!(
            self,
            Self::Completions(_)
                | Self::DemoInternet(_)
                | Self::DemoProgram(_)
                | Self::DoctorProbe(_)
                | Self::Hook(_)
                | Self::InstallService(_)
                | Self::Man(_)
                | Self::OciRuntime(_)
                | Self::Reader(_)
                | Self::Serve(_)
                | Self::ServeVerdict(_)
                | Self::Setup(_)
                | Self::Supervise(_)
                | Self::Uninstall(_)
                | Self::Version
        )
    }

    /// Returns the name of a command that prints nothing for programs, and so takes no `--json`.
    pub(crate) const fn without_json(&self) -> Option<&'static str> {
        match self {
            Self::Completions(_) => Some("completions"),
            Self::ContainerSupervisor(_) => Some("container-supervisor"),
            Self::Hook(_) => Some("hook"),
            Self::InstallService(_) => Some("install-service"),
            Self::Man(_) => Some("man"),
            Self::Notifier(_) => Some("notifier"),
            Self::OciRuntime(_) => Some("oci-runtime"),
            Self::Reader(_) => Some("reader"),
            Self::Serve(_) => Some("serve"),
            Self::ServeVerdict(_) => Some("serve-verdict"),
            Self::Shield(args) => args.without_json(),
            Self::DemoInternet(_) => Some("demo-internet"),
            Self::DemoProgram(_) => Some("demo-program"),
            Self::DoctorProbe(_) => Some("doctor-probe"),
            Self::Allow(_)
            | Self::Bypass(_)
            | Self::Clearance(_)
            | Self::Config(_)
            | Self::Demo(_)
            | Self::Deny(_)
            | Self::Doctor(_)
            | Self::Explain(_)
            | Self::List(_)
            | Self::Log(_)
            | Self::Notify(_)
            | Self::Podman(_)
            | Self::Preview(_)
            | Self::Profile(_)
            | Self::Revoke(_)
            | Self::Rules(_)
            | Self::Request(_)
            | Self::Run(_)
            | Self::Setup(_)
            | Self::SimpleClearance(_)
            | Self::Status(_)
            | Self::Supervise(_)
            | Self::Uninstall(_)
            // `tui` refuses it with another hint.
            | Self::Tui(_)
            | Self::Version
            | Self::Watch(_) => None,
        }
    }

    /// Returns `true` for a command whose terminal shows another program.
    pub(crate) const fn shows_other_output(&self) -> bool {
        matches!(self, Self::Run(_))
    }

    /// Returns `true` for a full-screen command, whose screen log lines would disturb.
    pub(crate) const fn is_full_screen(&self) -> bool {
        matches!(self, Self::Tui(_))
    }
}
