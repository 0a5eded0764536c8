// SPDX-License-Identifier: Apache-2.0
//! Checks of the desktop: the session bus, the notification service, the notifier.

use std::time::Duration;

use containers::host_layout::NOTIFIER_UNIT;
use desktop::NotifierLock;
use desktop::notifier::{
    DesktopSession, NotificationServiceInfo, NotificationServiceState, query_notification_service,
};
use terok_clearance::error_chain;
use tokio::time::timeout;

use crate::HostDescription;
use crate::finding::{Check, Finding};
use crate::package_manager::SystemPackage;
use crate::setup_checks::has_notifier_unit;

const SESSION_BUS: Check = Check::of_popups("session-bus");
const SERVICE: Check = Check::of_popups("notification-service");
const NOTIFIER: Check = Check::of_popups("notifier");

/// The time limit of a call: a service that hangs leaves time to say so.
const CALL_TIMEOUT: Duration = Duration::from_secs(1);
/// The name with which this program asks.
const APP_NAME: &str = "terok-clearance";

/// Checks the session bus and what is on it. Without a bus, nothing else is looked at.
pub(crate) async fn check_desktop(host: &HostDescription) -> Vec<Finding> {
    let install = |package| host.package_manager().install_command(&[package], host);
    // Without a display, nothing can be shown, and a terminal asks.
    let judge = |check: Check, found: &str, fix: &str| {
        if host.has_display {
            check.failure(found, fix)
        } else {
            check.warning(found, fix)
        }
    };
    let Some(address) = &host.session_bus else {
        let found = "none: no popups; `tui` and `clearance` ask at a terminal";
        let fix = format!("{}; then log in again", install(SystemPackage::SessionBus));
        return vec![judge(SESSION_BUS, found, &fix)];
    };
    let session = DesktopSession {
        call_timeout: CALL_TIMEOUT,
        ..DesktopSession::new(address, APP_NAME)
    };
    let asked = timeout(host.time_limit, query_notification_service(&session)).await;
    let state = match asked {
        Ok(Ok(state)) => state,
        Ok(Err(error)) => {
            let fix = format!("{}; then log in again", install(SystemPackage::SessionBus));
            return vec![judge(SESSION_BUS, error_chain(&error).as_str(), &fix)];
        }
        Err(_) => {
            let found = format!("the session bus at {address} does not answer");
            return vec![judge(SESSION_BUS, &found, "log in again")];
        }
    };
    let mut findings = vec![SESSION_BUS.pass(&format!("connected to {address}"))];
    let install = install(SystemPackage::NotificationService);
    findings.push(match &state {
        NotificationServiceState::Running(info) => judge_service(info, &install),
        NotificationServiceState::Activatable => {
            SERVICE.pass("none runs; the bus starts one for the first popup")
        }
        NotificationServiceState::Absent => {
            judge(SERVICE, "none runs, and the bus cannot start one", &install)
        }
        _ => judge(
            SERVICE,
            "the notification service does not answer",
            "log in again",
        ),
    });
    if matches!(state, NotificationServiceState::Absent) && !host.has_display {
        return findings;
    }
    findings.push(check_notifier(host));
    findings
}

fn judge_service(info: &NotificationServiceInfo, install: &str) -> Finding {
    let names: Vec<_> = info.capabilities.iter().map(ToString::to_string).collect();
    let NotificationServiceInfo {
        name,
        vendor,
        version,
        ..
    } = info;
    let found = format!("{name} {version} of {vendor}: {}", names.join(", "));
    if info.has_buttons {
        SERVICE.pass(&found)
    } else {
        let found = format!("{found}; no buttons: a popup says where to answer");
        SERVICE.warning(&found, install)
    }
}

fn check_notifier(host: &HostDescription) -> Finding {
    if NotifierLock::is_held(&host.runtime_dir) {
        return NOTIFIER.pass("runs");
    }
    let fix = if has_notifier_unit(host) {
        format!("systemctl --user enable --now {NOTIFIER_UNIT}")
    } else {
        "terok-clearance notifier".to_owned()
    };
    NOTIFIER.warning(
        "does not run: `run` shows its own popups, containers have none",
        &fix,
    )
}
