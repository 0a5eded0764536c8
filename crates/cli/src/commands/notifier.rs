// SPDX-License-Identifier: Apache-2.0
//! `notifier`: the questions of every sandbox of this user as popups on the desktop.

use anyhow::Context as _;
use desktop::{NotifierLock, PopupDesktop};
use operator::Session;
use terok_clearance::socket::RuntimeDir;

use crate::desktop::popup_desktop_config;
use crate::{CommandContext, CommandError, CommandStatus, StopSignals, block_on};
use runner::raise_open_files_limit;

/// Long help.
pub(super) const ABOUT: &str = "Ask the questions of every sandbox as popups on your desktop.

Runs in your desktop session and shows each question with the buttons Allow and Deny; the popup \
says first, and exactly, what Allow opens. Where the desktop may cut that text, because the name \
is long, there is no such button, and the popup says how to answer. Only a click on a button is an \
answer: closing or losing a popup, and the end of this program, make no rule, and the question \
stays pending. A click within 0.6 s of a change of the popups is ignored, because the popup under \
the pointer may be a new one, and the popup is shown again. More than four questions share one \
popup, which lists them: Deny all denies those that it lists, and Open opens the screen \
(`terok-clearance tui`) in a terminal.";

/// Command-line arguments.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  terok-clearance notifier
  TEROK_CLEARANCE_NOTIFY_EVENTS='blocked verdict shield_down' terok-clearance notifier

All your hubs are included: the classic one and those of single sandboxes, now and later. The log is
on standard error.

Environment:
  TEROK_CLEARANCE_NOTIFY_EVENTS  kinds of popups, separated by commas or spaces: blocked, verdict,
                                 shield_up, shield_down, container_started, container_exited, all;
                                 empty: none; unset: events of [notify] in your config.toml, else
                                 blocked verdict
  DBUS_SESSION_BUS_ADDRESS       the desktop's bus; unset: bus in the runtime directory
  TERMINAL                       terminal emulator for Open; unset: xdg-terminal-exec or another
                                 known one; without one, or without a display, there is no Open

Exit status: 69 without a session bus, 75 if your notifier runs already, 130 after Ctrl-C and 143
after SIGTERM, when the popups are removed.")]
pub struct Args {}

/// Runs the command.
pub fn perform(_: Args, context: &CommandContext) -> Result<CommandStatus, CommandError> {
    let runtime = context.environment.private_runtime_dir()?;
    block_on(async {
        let mut stop = StopSignals::catch()?;
        // Connect before taking the lock, because a missing bus is the more useful error.
        let reached = tokio::select! {
            status = stop.wait() => return Ok(status),
            reached = PopupDesktop::connect_early(popup_desktop_config(context)?) => reached,
        };
        let desktop = reached?;
        let _only_one = NotifierLock::acquire(runtime)?;
        raise_open_files_limit();
        let session =
            Session::discover(RuntimeDir::new(runtime)).context("cannot watch for hubs")?;
        tracing::info!(
            directory = %runtime.display(),
            popups = %desktop.categories(),
            "popups started"
        );
        Ok(desktop.show_popups_until(session, stop.wait()).await)
    })
}
