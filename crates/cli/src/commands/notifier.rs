// SPDX-License-Identifier: Apache-2.0
//! `notifier`: the questions of every sandbox of this person as popups on their desktop.

use std::fs::{File, OpenOptions};
use std::io::{Read as _, Seek as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context as _, anyhow};
use operator::hubs::Hubs;
use operator::identity::{IdentityResolver, PodmanInspector};
use operator::notifier::{DbusNotifier, Notifier as _, Session};
use operator::popups::{Categories, Options, converse};
use rustix::fs::FlockOperation;
use rustix::io::Errno;
use terok_clearance::DisplayText;
use terok_clearance::socket::RuntimeDir;

use super::tui::here;
use crate::runtime::take_descriptors;
use crate::{Advise as _, Context, Failure, Status, Stop, block_on};

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
pub fn perform(_: Args, context: &Context) -> Result<Status, Failure> {
    const HINT: &str =
        "start it in your desktop's session; `terok-clearance clearance` asks at a terminal";
    let environment = &context.environment;
    let Some(address) = environment.bus() else {
        return Err(anyhow!("there is no session bus to show popups on"))
            .hint(HINT)
            .status(Status::UNAVAILABLE);
    };
    let runtime = environment.private_runtime()?;
    let _only_one = lock(&runtime.join("terok-clearance-notifier.lock"))?;
    take_descriptors();
    block_on(async {
        let mut stop = Stop::catch()?;
        let hubs = Hubs::all(RuntimeDir::new(runtime)).context("watching for hubs")?;
        let connecting = DbusNotifier::connect_early(Session::new(&address, "terok-clearance"));
        let connected = tokio::select! {
            status = stop.wait() => return Ok(status),
            connected = connecting => connected,
        };
        let notifier = connected
            .context("using the desktop's notifications")
            .hint(HINT)
            .status(Status::UNAVAILABLE)?;
        let categories = categories(context);
        let options = Options {
            categories,
            zone: here(),
            icon: Some(icon(runtime)),
        };
        let podman = environment.find_program("podman");
        let resolver = IdentityResolver::new(podman.map(PodmanInspector::new));
        let place = runtime.display();
        tracing::info!(%place, popups = %categories, "asking by popups");
        if !notifier.answers() {
            tracing::warn!("this desktop shows no buttons: the popups say where to answer");
        }
        let status = converse(hubs, &notifier, Arc::new(resolver), options, stop.wait()).await;
        notifier.disconnect().await;
        Ok(status)
    })
}

/// Returns the kinds of popups that the environment asks for.
pub(super) fn categories(context: &Context) -> Categories {
    let Some(said) = context.environment.notify_events() else {
        return Categories::default();
    };
    let (categories, unknown) = Categories::read(said);
    for name in unknown {
        tracing::warn!(%name, "TEROK_CLEARANCE_NOTIFY_EVENTS: there is no such kind of popups");
    }
    categories
}

/// Takes the lock of the one notifier of this person, for as long as the file is open: two would
/// ask everything twice.
fn lock(path: &Path) -> Result<File, Failure> {
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
            .hint("end it first, or leave it to it: it asks for every sandbox")
            .status(Status::TAKEN);
        }
        Err(error) => return Err(anyhow::Error::new(error).context(what()).into()),
    }
    let pid = rustix::process::getpid().as_raw_nonzero();
    file.set_len(0).with_context(what)?;
    file.rewind().with_context(what)?;
    writeln!(file, "{pid}").with_context(what)?;
    Ok(file)
}

const ICON: &str = "terok-symbolic";
const DRAWING: &str = include_str!("notifier/icon.svg");

/// Returns the theme's icon if one is installed, else the address of our own drawing of it.
fn icon(runtime: &Path) -> String {
    let themes = ["/usr/share", "/usr/local/share"].iter().flat_map(|share| {
        ["symbolic", "scalable"].map(|size| format!("{share}/icons/hicolor/{size}/apps/{ICON}.svg"))
    });
    let mut themes = themes;
    if themes.any(|path| Path::new(&path).exists()) {
        return ICON.to_owned();
    }
    let drawing = runtime.join("terok-clearance.svg");
    match std::fs::write(&drawing, DRAWING) {
        Ok(()) => format!("file://{}", drawing.display()),
        Err(_) => ICON.to_owned(),
    }
}
