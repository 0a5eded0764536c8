// SPDX-License-Identifier: Apache-2.0
//! `notifier`: the questions of every sandbox of this user as popups on the desktop.

use std::fs::{File, OpenOptions};
use std::io::{Read as _, Seek as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, anyhow};
use operator::Session;
use rustix::fs::FlockOperation;
use rustix::io::Errno;
use terok_clearance::DisplayText;
use terok_clearance::socket::RuntimeDir;

use crate::desktop::PopupDesktop;
use crate::runtime::raise_fd_limit;
use crate::{CommandContext, CommandFailure, CommandStatus, ErrorExt as _, StopSignals, block_on};

/// Long help.
pub(super) const ABOUT: &str = "Ask the questions of every sandbox as popups on your desktop.

Runs in your desktop session and shows each question with the buttons Allow and Deny; the popup \
says exactly what Allow opens. Only a click on one of them is an answer: closing or losing a \
popup, and the end of this program, make no rule, and the question stays pending. A click within \
0.6 s of a change of the popups is ignored, because the popup under the pointer may be a new one. \
More than four questions share one popup, which says where to answer them.";

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
                                 empty: none; unset: blocked verdict
  DBUS_SESSION_BUS_ADDRESS       the desktop's bus; unset: bus in the runtime directory

Exit status: 69 without a session bus, 75 if your notifier runs already, 130 after Ctrl-C and 143
after SIGTERM, when the popups are removed.")]
pub struct Args {}

/// Runs the command.
pub fn perform(_: Args, context: &CommandContext) -> Result<CommandStatus, CommandFailure> {
    let runtime = context.environment.private_runtime_dir()?;
    block_on(async {
        let mut stop = StopSignals::catch()?;
        // Connect before taking the lock, because a missing bus is the more useful error.
        let reached = tokio::select! {
            status = stop.wait() => return Ok(status),
            reached = PopupDesktop::connect(context, true) => reached,
        };
        let desktop = reached?;
        let _only_one = acquire_notifier_lock(&notifier_lock_path(runtime))?;
        raise_fd_limit();
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

/// Returns `true` if a notifier of this user runs and shows the questions of every sandbox with a
/// socket in `runtime`.
pub(super) fn is_running(runtime: &Path) -> bool {
    let locked = File::open(notifier_lock_path(runtime))
        .map(|file| rustix::fs::flock(&file, FlockOperation::NonBlockingLockShared));
    matches!(locked, Ok(Err(Errno::WOULDBLOCK)))
}

fn notifier_lock_path(runtime: &Path) -> PathBuf {
    runtime.join("terok-clearance-notifier.lock")
}

/// Locks the notifier's lock file until the file is closed, because two notifiers would show each
/// question twice.
fn acquire_notifier_lock(path: &Path) -> Result<File, CommandFailure> {
    let what = || format!("cannot lock {}", path.display());
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false);
    let mut file = options.mode(0o600).open(path).with_context(what)?;
    match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => {}
        Err(Errno::WOULDBLOCK) => {
            let mut owner = String::new();
            // The message has no process id if the file has none.
            drop((&file).take(20).read_to_string(&mut owner));
            let owner = DisplayText::new(owner.trim());
            return Err(anyhow!("your notifier runs already, as process {owner}"))
                .with_hint("it asks for every sandbox; end it first to start another one")
                .with_status(CommandStatus::RESOURCE_BUSY);
        }
        Err(error) => return Err(anyhow::Error::new(error).context(what()).into()),
    }
    let pid = rustix::process::getpid().as_raw_nonzero();
    file.set_len(0).with_context(what)?;
    file.rewind().with_context(what)?;
    writeln!(file, "{pid}").with_context(what)?;
    Ok(file)
}
