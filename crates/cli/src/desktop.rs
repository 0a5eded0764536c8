// SPDX-License-Identifier: Apache-2.0
//! Popups on the desktop of this user.

use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, anyhow};
use desktop::identity::{IdentityResolver, PodmanInspector};
use desktop::notifier::{DbusNotifier, DesktopSession, Notifier as _};
use desktop::popups::{Categories, PopupOptions, run_popups};
use operator::Session;
use tokio_util::sync::CancellationToken;

use crate::timezone::system_time_zone;
use crate::{CommandContext, CommandFailure, CommandStatus, ErrorExt as _};

const DESKTOP_HINT: &str =
    "start it in your desktop session; `terok-clearance clearance` asks at a terminal";
/// Maximum time for the session bus to reply; afterwards a command starts without popups.
const PROBE_TIMEOUT: Duration = Duration::from_secs(1);
/// The name of the program that desktops show.
const APP_NAME: &str = "terok-clearance";

/// A desktop that can show popups.
#[derive(Debug)]
pub(crate) struct PopupDesktop {
    notifier: DbusNotifier,
    options: PopupOptions,
    resolver: Arc<IdentityResolver<Option<PodmanInspector>>>,
}

impl PopupDesktop {
    /// Connects to the desktop of this session. Without `wait`, fails if no notification service
    /// runs and none can be started.
    pub(crate) async fn connect(
        context: &CommandContext,
        wait: bool,
    ) -> Result<Self, CommandFailure> {
        let session = bus_session(context)?;
        let connected = if wait {
            DbusNotifier::connect_early(session).await
        } else {
            DbusNotifier::connect(session).await
        };
        let notifier = connected
            .context("cannot use the desktop's notifications")
            .with_hint(DESKTOP_HINT)
            .with_status(CommandStatus::UNAVAILABLE)?;
        if !notifier.capabilities().actions {
            tracing::warn!("this desktop shows no buttons; the popups tell where to answer");
        }
        let options = PopupOptions {
            categories: popup_categories(context),
            zone: system_time_zone(),
            icon: Some(resolve_icon(context.environment.private_runtime_dir()?)),
        };
        let podman = context.environment.find_program("podman");
        Ok(Self {
            notifier,
            options,
            resolver: Arc::new(IdentityResolver::new(podman.map(PodmanInspector::new))),
        })
    }

    /// Connects to the desktop of this session if a notification service runs.
    pub(crate) async fn connect_if_running(context: &CommandContext) -> Option<Self> {
        let session = DesktopSession {
            call_timeout: PROBE_TIMEOUT,
            ..bus_session(context).ok()?
        };
        match DbusNotifier::is_service_running(&session).await {
            Ok(true) => match Self::connect(context, false).await {
                Ok(desktop) => Some(desktop),
                Err(failure) => {
                    tracing::warn!(reason = failure.message(), "cannot show popups");
                    None
                }
            },
            Ok(false) => None,
            Err(error) => {
                let reason = anyhow::Error::new(error);
                tracing::info!(reason = format!("{reason:#}"), "no desktop was found");
                None
            }
        }
    }

    /// Returns the kinds of popups.
    pub(crate) const fn categories(&self) -> Categories {
        self.options.categories
    }

    /// Prepares popups for the questions of `session`; [`BackgroundPopups::run`] shows the popups.
    pub(crate) fn start_popups(self, session: Session) -> BackgroundPopups {
        let done = CancellationToken::new();
        let asking = Box::pin(self.show_popups_until(session, done.clone().cancelled_owned()));
        BackgroundPopups {
            popup_loop: asking,
            stop: done,
        }
    }

    /// Shows popups for the questions of `session` until `stop` resolves, and then removes the
    /// popups. Removal is no answer.
    pub(crate) async fn show_popups_until<T>(
        self,
        session: Session,
        stop: impl Future<Output = T>,
    ) -> T {
        let Self {
            notifier,
            options,
            resolver,
        } = self;
        let stopped = run_popups(session, &notifier, resolver, options, stop).await;
        notifier.disconnect().await;
        stopped
    }
}

/// Popups for the questions of a session, shown by a future next to other work.
pub(crate) struct BackgroundPopups {
    popup_loop: Pin<Box<dyn Future<Output = ()>>>,
    stop: CancellationToken,
}

impl BackgroundPopups {
    /// Shows the popups. Never ends; cancel safe.
    pub(crate) async fn run(&mut self) {
        self.popup_loop.as_mut().await;
        // The loop has been stopped and must not be polled again.
        std::future::pending::<()>().await;
    }

    /// Removes the popups.
    pub(crate) async fn close(self) {
        self.stop.cancel();
        self.popup_loop.await;
    }
}

fn bus_session(context: &CommandContext) -> Result<DesktopSession, CommandFailure> {
    match context.environment.session_bus_address() {
        Some(address) => Ok(DesktopSession::new(&address, APP_NAME)),
        None => Err(anyhow!("there is no session bus for popups"))
            .with_hint(DESKTOP_HINT)
            .with_status(CommandStatus::UNAVAILABLE),
    }
}

/// Returns the kinds of popups according to the environment.
pub(crate) fn popup_categories(context: &CommandContext) -> Categories {
    let Some(said) = context.environment.notify_events() else {
        return Categories::default();
    };
    let (categories, unknown) = Categories::parse(said);
    for name in unknown {
        tracing::warn!(%name, "TEROK_CLEARANCE_NOTIFY_EVENTS: unknown kind of popups");
    }
    categories
}

const ICON_NAME: &str = "terok-symbolic";
const ICON_SVG: &str = include_str!("desktop/icon.svg");

/// Returns the name of the theme's icon if installed, otherwise the URL of a copy in the runtime
/// directory.
fn resolve_icon(runtime: &Path) -> String {
    let themes = ["/usr/share", "/usr/local/share"].iter().flat_map(|share| {
        ["symbolic", "scalable"]
            .map(|size| format!("{share}/icons/hicolor/{size}/apps/{ICON_NAME}.svg"))
    });
    let mut themes = themes;
    if themes.any(|path| Path::new(&path).exists()) {
        return ICON_NAME.to_owned();
    }
    let drawing = runtime.join("terok-clearance.svg");
    match std::fs::write(&drawing, ICON_SVG) {
        Ok(()) => format!("file://{}", drawing.display()),
        Err(_) => ICON_NAME.to_owned(),
    }
}
