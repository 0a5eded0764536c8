// SPDX-License-Identifier: Apache-2.0
//! `notifier`: the questions of every sandbox of this person as popups on their desktop.

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

/// What it does, at length.
pub(super) const ABOUT: &str = "Ask the questions of every sandbox as popups on your desktop.

It runs in your desktop's session and shows each question with Allow and Deny; the popup says exactly \
what Allow opens. Only a click on one of the two is an answer: closing a popup, its end, or the end \
of this writes no rule, and the question stays asked everywhere else. A click within 0.6 s of a \
change of the popups does not count, so that nothing is clicked through that has just come up or \
moved. More than four questions are one popup, which says where to answer them.";

/// What may be said to it.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  terok-clearance notifier
  TEROK_CLEARANCE_NOTIFY_EVENTS='blocked verdict shield_down' terok-clearance notifier

Every hub of yours is listened to, the classic one and those of single sandboxes, also those that
come later. The log on standard error says what it does.

Environment:
  TEROK_CLEARANCE_NOTIFY_EVENTS  which popups: names with commas or spaces between them of blocked,
                                 verdict, shield_up, shield_down, container_started,
                                 container_exited; or all; empty for none; unset: blocked verdict
  DBUS_SESSION_BUS_ADDRESS       the desktop's bus; unset: bus in the runtime directory

Exit status: 69 without a session bus, 75 if one of yours runs already, 130 at Ctrl-C, 143 at
SIGTERM; in these two its popups are taken away.")]
pub struct Args {}

/// Does it.
pub fn perform(_: Args, context: &CommandContext) -> Result<CommandStatus, CommandFailure> {
    let runtime = context.environment.private_runtime_dir()?;
    block_on(async {
        let mut stop = StopSignals::catch()?;
        // Before the lock: without a bus that is what there is to say.
        let reached = tokio::select! {
            status = stop.wait() => return Ok(status),
            reached = PopupDesktop::connect(context, true) => reached,
        };
        let desktop = reached?;
        let _only_one = acquire_notifier_lock(&notifier_lock_path(runtime))?;
        raise_fd_limit();
        let session = Session::discover(RuntimeDir::new(runtime)).context("watching for hubs")?;
        tracing::info!(place = %runtime.display(), popups = %desktop.categories(), "asking by popups");
        Ok(desktop.show_popups_until(session, stop.wait()).await)
    })
}

/// Says whether a notifier of this person runs, which asks for every sandbox whose sockets are in
/// `runtime`.
pub(super) fn is_running(runtime: &Path) -> bool {
    let locked = File::open(notifier_lock_path(runtime))
        .map(|file| rustix::fs::flock(&file, FlockOperation::NonBlockingLockShared));
    matches!(locked, Ok(Err(Errno::WOULDBLOCK)))
}

fn notifier_lock_path(runtime: &Path) -> PathBuf {
    runtime.join("terok-clearance-notifier.lock")
}

/// Takes the lock of the one notifier of this person, for as long as the file is open: two would
/// ask everything twice.
fn acquire_notifier_lock(path: &Path) -> Result<File, CommandFailure> {
    let what = || format!("using the lock {}", path.display());
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false);
    let mut file = options.mode(0o600).open(path).with_context(what)?;
    match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => {}
        Err(Errno::WOULDBLOCK) => {
            let mut owner = String::new();
            // What is not there is not said.
            drop((&file).take(20).read_to_string(&mut owner));
            let owner = DisplayText::new(owner.trim());
            return Err(anyhow!(
                "a notifier of yours runs already, as process {owner}"
            ))
            .with_hint("end it first, or leave it to it: it asks for every sandbox")
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
