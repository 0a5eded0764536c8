// SPDX-License-Identifier: Apache-2.0
//! Changes of sandboxes and their firewalls, for a notifier that shows more than notifications.

use terok_clearance::{ContainerId, DisplayText};

/// A change of a sandbox, whether or not a notification is shown for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SandboxLifecycle {
    /// The sandbox started.
    ContainerStarted(ContainerId),
    /// The sandbox ended; the text says how that is known, and may be empty.
    ContainerExited(ContainerId, DisplayText),
    /// The firewall is up.
    ShieldUp(ContainerId),
    /// The firewall is down: all but the private ranges passes.
    ShieldDown(ContainerId),
    /// The firewall is off: everything passes.
    ShieldDisengaged(ContainerId),
}
