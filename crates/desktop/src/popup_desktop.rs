// SPDX-License-Identifier: Apache-2.0
//! Popups on the desktop of one user: notifier, popups and the names of containers together.

use std::fmt;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use operator::Session;
use operator::clock::TimeZone;
use terok_clearance::error_chain;
use tokio_util::sync::CancellationToken;

use crate::identity::{IdentityResolver, PodmanInspector};
use crate::notifier::{DbusConnectError, DbusNotifier, DesktopSession, Notifier as _};
use crate::popups::{Categories, PopupOptions, ScreenCommand, run_popups};

/// Maximum time for the session bus to reply, after which a command starts without popups.
const PROBE_TIMEOUT: Duration = Duration::from_secs(1);
/// Name of the program for desktops.
const APP_NAME: &str = "terok-clearance";

/// The configuration of a [`PopupDesktop`].
#[derive(Debug, Clone)]
pub struct PopupDesktopConfig {
    /// The address of the session bus; `None` if the session has no bus.
    pub bus_address: Option<String>,
    /// The kinds of popups.
    pub categories: Categories,
    /// The time zone of the operator.
    pub zone: TimeZone,
    /// The operator's runtime directory, for a copy of the icon if no icon theme has it.
    pub runtime_dir: PathBuf,
    /// The podman program, which names the containers.
    pub podman: Option<PathBuf>,
    /// The command that opens the screen with all questions in a terminal window, if there is one.
    pub open_screen: Option<ScreenCommand>,
}

/// No popups can be shown.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PopupDesktopError {
    /// The session has no bus.
    #[error("there is no session bus for popups")]
    NoSessionBus,
    /// The notification service cannot be used.
    #[error("cannot use the desktop's notifications")]
    Connect(#[source] DbusConnectError),
}

/// A desktop that can show popups.
#[derive(Debug)]
pub struct PopupDesktop {
    notifier: DbusNotifier,
    options: PopupOptions,
    resolver: Arc<IdentityResolver<Option<PodmanInspector>>>,
}

impl PopupDesktop {
    /// Connects to the desktop. Fails if no program shows popups there or can be started for that.
    pub async fn connect(config: PopupDesktopConfig) -> Result<Self, PopupDesktopError> {
        let connected = DbusNotifier::connect(bus_session(&config)?).await;
        Ok(Self::new(
            connected.map_err(PopupDesktopError::Connect)?,
            config,
        ))
    }

    /// Connects to the desktop even if no program shows popups there yet.
    pub async fn connect_early(config: PopupDesktopConfig) -> Result<Self, PopupDesktopError> {
        let connected = DbusNotifier::connect_early(bus_session(&config)?).await;
        Ok(Self::new(
            connected.map_err(PopupDesktopError::Connect)?,
            config,
        ))
    }

    /// Connects to the desktop if a program shows popups there already.
    pub async fn connect_if_running(config: PopupDesktopConfig) -> Option<Self> {
        let session = DesktopSession {
            call_timeout: PROBE_TIMEOUT,
            ..bus_session(&config).ok()?
        };
        match DbusNotifier::is_service_running(&session).await {
            Ok(true) => match Self::connect(config).await {
                Ok(desktop) => Some(desktop),
                Err(error) => {
                    tracing::warn!(reason = error_chain(&error).as_str(), "cannot show popups");
                    None
                }
            },
            Ok(false) => None,
            Err(error) => {
                tracing::info!(
                    reason = error_chain(&error).as_str(),
                    "no desktop was found"
                );
                None
            }
        }
    }

    fn new(notifier: DbusNotifier, config: PopupDesktopConfig) -> Self {
        if !notifier.capabilities().actions {
            tracing::warn!("this desktop shows no buttons; the popups tell where to answer");
        }
        let options = PopupOptions {
            categories: config.categories,
            zone: config.zone,
            icon: Some(resolve_icon(&config.runtime_dir)),
            open_screen: config.open_screen,
        };
        Self {
            notifier,
            options,
            resolver: Arc::new(IdentityResolver::new(
                config.podman.map(PodmanInspector::new),
            )),
        }
    }

    /// Returns the kinds of popups.
    pub const fn categories(&self) -> Categories {
        self.options.categories
    }

    /// Returns popups for the questions of `session`, which [`BackgroundPopups::run`] shows.
    pub fn start_popups(self, session: Session) -> BackgroundPopups {
        let stop = CancellationToken::new();
        let popup_loop = Box::pin(self.show_popups_until(session, stop.clone().cancelled_owned()));
        BackgroundPopups { popup_loop, stop }
    }

    /// Shows popups for the questions of `session` until `stop` resolves, and then removes them,
    /// which answers none of them.
    pub async fn show_popups_until<T>(self, session: Session, stop: impl Future<Output = T>) -> T {
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

/// Popups for the questions of a session, shown while other work goes on.
pub struct BackgroundPopups {
    popup_loop: Pin<Box<dyn Future<Output = ()>>>,
    stop: CancellationToken,
}

impl fmt::Debug for BackgroundPopups {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BackgroundPopups").finish_non_exhaustive()
    }
}

impl BackgroundPopups {
    /// Shows the popups. Never ends; cancel safe.
    pub async fn run(&mut self) {
        self.popup_loop.as_mut().await;
        // The loop ends only when stopped, and must not be polled again.
        std::future::pending::<()>().await;
    }

    /// Removes the popups.
    pub async fn close(self) {
        self.stop.cancel();
        self.popup_loop.await;
    }
}

fn bus_session(config: &PopupDesktopConfig) -> Result<DesktopSession, PopupDesktopError> {
    let address = config.bus_address.as_deref();
    let address = address.ok_or(PopupDesktopError::NoSessionBus)?;
    Ok(DesktopSession::new(address, APP_NAME))
}

/// The name of the popups' icon in an icon theme.
pub const ICON_NAME: &str = "terok-symbolic";
/// The icon as SVG, for hosts whose theme does not have it.
pub const ICON_SVG: &str = include_str!("popup_desktop/icon.svg");

/// Returns the name of the theme's icon if it is installed, else the URL of a copy of our own.
fn resolve_icon(runtime: &Path) -> String {
    let mut themes = ["/usr/share", "/usr/local/share"].iter().flat_map(|share| {
        ["symbolic", "scalable"]
            .map(|size| format!("{share}/icons/hicolor/{size}/apps/{ICON_NAME}.svg"))
    });
    if themes.any(|path| Path::new(&path).exists()) {
        return ICON_NAME.to_owned();
    }
    let drawing = runtime.join("terok-clearance.svg");
    match std::fs::write(&drawing, ICON_SVG) {
        Ok(()) => format!("file://{}", drawing.display()),
        Err(_) => ICON_NAME.to_owned(),
    }
}
