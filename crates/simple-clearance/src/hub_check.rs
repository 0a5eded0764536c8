// SPDX-License-Identifier: Apache-2.0
//! Refuses to start while a hub serves the container, because both would answer its questions.
//!
//! The Python program checks only for a bus name that hubs no longer own since 0.5.13. Later hubs
//! have a socket, so this module also connects to each possible socket.

use std::path::PathBuf;
use std::time::Duration;

use terok_clearance::socket::{RuntimeDir, SocketConnectError, SocketLayout, connect};
use terok_clearance::{ContainerId, DisplayText};

use crate::container::ShieldContainer;
use crate::{ServingHubError, SimpleClearanceConfig, SimpleClearanceError};

/// Bus name of hubs up to 0.5.12.
const LEGACY_HUB_BUS_NAME: &str = "org.terok.Shield1";

/// Fails if a hub serves `container`.
pub(crate) async fn ensure_no_hub(
    container: &ShieldContainer,
    config: &SimpleClearanceConfig,
) -> Result<(), SimpleClearanceError> {
    for path in hub_socket_candidates(container, config) {
        let source = match connect(&path).await {
            Err(SocketConnectError::NoListener { .. } | SocketConnectError::PathTooLong { .. }) => {
                continue;
            }
            Ok((_, peer)) => {
                let process = std::fs::read_to_string(format!("/proc/{}/comm", peer.pid));
                let name = process.map_or_else(
                    |_| String::new(),
                    |name| format!(" ({})", DisplayText::new(name.trim_end())),
                );
                let process = DisplayText::new(&format!("{}{name}", peer.pid));
                ServingHubError::Serves { process, path }
            }
            // The socket exists, so a hub may be there.
            Err(error) => ServingHubError::Unreachable(error),
        };
        return Err(SimpleClearanceError::HubServes {
            container: container.name().clone(),
            source,
        });
    }
    if is_bus_name_owned(config).await {
        return Err(SimpleClearanceError::BusHubRuns);
    }
    if container.id().is_none() {
        let name = container.name();
        tracing::warn!(container = %name, "unknown id: only hubs of this name were checked");
    }
    Ok(())
}

/// Returns the possible hub sockets of `container` in all layouts.
fn hub_socket_candidates(
    container: &ShieldContainer,
    config: &SimpleClearanceConfig,
) -> Vec<PathBuf> {
    let runtime = RuntimeDir::new(&config.runtime_dir);
    let known = [container.id(), Some(container.name())];
    let mut names: Vec<&ContainerId> = known.into_iter().flatten().collect();
    names.dedup_by_key(|name| name.short());
    let of = |name: &ContainerId| {
        [SocketLayout::D, SocketLayout::C].map(|layout| runtime.sandbox_sockets(name, layout).hub)
    };
    let own = names.into_iter().flat_map(of);
    own.chain([runtime.shared_hub_sockets().hub]).collect()
}

/// Asks the session bus with `dbus-send`, if both exist, as the Python program does.
async fn is_bus_name_owned(config: &SimpleClearanceConfig) -> bool {
    let Some(program) = config
        .find_program("dbus-send")
        .filter(|_| config.has_session_bus)
    else {
        return false;
    };
    let mut asking = tokio::process::Command::new(program);
    asking
        .args([
            "--session",
            "--print-reply",
            "--dest=org.freedesktop.DBus",
            "/org/freedesktop/DBus",
            "org.freedesktop.DBus.NameHasOwner",
        ])
        .arg(format!("string:{LEGACY_HUB_BUS_NAME}"))
        .stdin(std::process::Stdio::null())
        .kill_on_drop(true);
    let answered = tokio::time::timeout(Duration::from_secs(2), asking.output()).await;
    matches!(answered, Ok(Ok(output)) if output.status.success()
        && String::from_utf8_lossy(&output.stdout).contains("boolean true"))
}
