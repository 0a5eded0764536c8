// SPDX-License-Identifier: Apache-2.0
//! Changes of sandboxes and their firewalls, for a notifier that shows more than notifications.

use terok_clearance::{ContainerId, DisplayText};

/// A change of a sandbox. Reported for every change, with or without a notification.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SandboxLifecycle {
    /// The sandbox started.
    ContainerStarted(ContainerId),
    /// The sandbox ended. The text names the source of the report, and may be empty.
    ContainerExited(ContainerId, DisplayText),
    /// The firewall is up.
    ShieldUp(ContainerId),
    /// The firewall is down: traffic passes except to private ranges.
    ShieldDown(ContainerId),
    /// The firewall is off: all traffic passes.
    ShieldDisengaged(ContainerId),
}
