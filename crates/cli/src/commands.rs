// SPDX-License-Identifier: Apache-2.0
//! What the program can do: one file per command, one line per command here.
//!
//! A command's file has its `Args` (what may be said) and `perform` (what is done). `perform` is
//! not async: some commands fork before there is a runtime; the others call [`crate::block_on`].

pub mod answer;
pub mod clearance;
pub mod demo;
pub mod install_service;
pub mod list;
pub mod notifier;
pub mod notify;
pub mod preview;
pub mod reader;
pub mod run;
pub mod serve;
pub mod serve_verdict;
pub mod simple_clearance;
pub mod supervise;
pub mod tui;
pub mod watch;

use clap::Subcommand;
use terok_clearance::Action;
use tracing::level_filters::LevelFilter;

use crate::{CommandContext, CommandFailure, CommandStatus};

/// What the program can do, in the alphabet's order; the help has the reader's (`display_order`).
#[derive(Debug, Subcommand)]
pub enum CliCommand {
    /// Allow what a question asks for, by its id.
    #[command(display_order = 32, long_about = answer::ABOUT_ALLOW)]
    Allow(answer::Args),

    /// Answer the questions of every sandbox at this terminal.
    #[command(display_order = 30, long_about = clearance::ABOUT)]
    Clearance(clearance::Args),

    /// Show the whole way of a packet to an answer, in namespaces of its own.
    #[command(display_order = 10)]
    Demo(demo::Args),

    /// Deny what a question asks for, by its id.
    #[command(display_order = 33, long_about = answer::ABOUT_DENY)]
    Deny(answer::Args),

    /// The pretend internet of `demo`.
    #[command(hide = true)]
    DemoInternet(demo::fake_internet::Args),

    /// The program in the sandbox of `demo`.
    #[command(hide = true)]
    DemoProgram(demo::workload::Args),

    /// Install systemd units, as releases up to 0.6 did.
    #[command(hide = true)]
    InstallService(install_service::Args),

    /// List what every sandbox asks right now.
    #[command(display_order = 31, long_about = list::ABOUT)]
    List(list::Args),

    /// Ask the questions of every sandbox as popups on your desktop.
    #[command(display_order = 32, long_about = notifier::ABOUT)]
    Notifier(notifier::Args),

    /// Show a notification, and wait for an answer.
    #[command(display_order = 80, long_about = notify::ABOUT)]
    Notify(notify::Args),

    /// Print the firewall rules a sandbox gets, in nft syntax.
    #[command(display_order = 40, long_about = preview::ABOUT)]
    Preview(preview::Args),

    /// Tell a hub of every packet that the firewall of one sandbox drops.
    #[command(display_order = 80, long_about = reader::ABOUT)]
    Reader(reader::Args),

    /// Run a command in a sandbox that reaches nothing until you allow it.
    #[command(display_order = 20)]
    Run(run::Args),

    /// Serve one hub for every sandbox, on the classic sockets.
    #[command(display_order = 60, long_about = serve::ABOUT)]
    Serve(serve::Args),

    /// Serve the verdict helper, which runs `terok-shield` for a hub.
    #[command(display_order = 70, long_about = serve_verdict::ABOUT)]
    ServeVerdict(serve_verdict::Args),

    /// Answer one container's questions at this terminal, without a hub.
    #[command(display_order = 35, long_about = simple_clearance::ABOUT)]
    SimpleClearance(simple_clearance::Args),

    /// Guard a network namespace that is there already, such as a rootless container's.
    #[command(display_order = 50)]
    Supervise(supervise::Args),

    /// Answer the questions of every sandbox on the whole screen.
    #[command(display_order = 25, long_about = tui::ABOUT)]
    Tui(tui::Args),

    /// Print what happens at every hub, as it happens.
    #[command(display_order = 34, long_about = watch::ABOUT)]
    Watch(watch::Args),
}

impl CliCommand {
    /// Does it, and returns the status to exit with.
    pub fn perform(self, context: &CommandContext) -> Result<CommandStatus, CommandFailure> {
        match self {
            Self::Allow(args) => answer::perform(args, Action::Allow, context),

            Self::Clearance(args) => clearance::perform(args, context),

            Self::Demo(args) => demo::perform(args, context),

            Self::Deny(args) => answer::perform(args, Action::Deny, context),

            Self::DemoInternet(args) => demo::fake_internet::perform(&args, context),

            Self::DemoProgram(args) => demo::workload::perform(args, context),

            Self::InstallService(args) => install_service::perform(&args),

            Self::List(args) => list::perform(args, context),

            Self::Notifier(args) => notifier::perform(args, context),

            Self::Notify(args) => notify::perform(args, context),

            Self::Preview(args) => preview::perform(args, context),

            Self::Reader(args) => reader::perform(args, context),

            Self::Run(args) => run::perform(args, context),

            Self::Serve(args) => serve::perform(args, context),

            Self::ServeVerdict(args) => serve_verdict::perform(args, context),

            Self::SimpleClearance(args) => simple_clearance::perform(args, context),

            Self::Supervise(args) => supervise::perform(args, context),

            Self::Tui(args) => tui::perform(args, context),

            Self::Watch(args) => watch::perform(args, context),
        }
    }

    /// Returns what it logs without a `-v`: services say what they do, the others only trouble.
    pub(crate) const fn default_log_level(&self) -> LevelFilter {
        match self {
            Self::Notifier(_) | Self::Serve(_) | Self::ServeVerdict(_) | Self::Supervise(_) => {
                LevelFilter::INFO
            }
            Self::Reader(args) => args.log_level(),
            _ => LevelFilter::WARN,
        }
    }

    /// Says whether it paints the whole terminal, which no line of a log must disturb.
    pub(crate) const fn is_full_screen(&self) -> bool {
        matches!(self, Self::Tui(_))
    }
}
