// SPDX-License-Identifier: Apache-2.0
//! What becomes of sandboxes and their firewalls, for a notifier that has more than notifications.

use terok_clearance::{ContainerId, DisplayText};

/// Something that happened to a sandbox, whether or not a notification is shown for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SandboxLifecycle {
    /// It started.
    ContainerStarted(ContainerId),
    /// It ended; the text says how that is known, and may be empty.
    ContainerExited(ContainerId, DisplayText),
    /// Its firewall is up.
    ShieldUp(ContainerId),
    /// Its firewall is down: all but the private ranges passes.
    ShieldDown(ContainerId),
    /// Its firewall is off: everything passes.
    ShieldDisengaged(ContainerId),
}
