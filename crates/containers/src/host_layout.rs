// SPDX-License-Identifier: Apache-2.0
//! Names and places on a host that is set up for containers.

/// The socket at which a hook has a supervisor started, below the runtime directory (`/run` for the
/// machine's root).
pub const START_SOCKET: &str = "terok/containers/start.sock";

/// The messages of failed hooks, beside [`START_SOCKET`]: the runtimes show little or nothing of a
/// hook's standard error.
pub const HOOK_ERROR_LOG: &str = "terok/containers/hook-error.log";

/// systemd's unit with [`START_SOCKET`] (`Accept=yes`).
pub const SOCKET_UNIT: &str = "clearance-supervisor.socket";

/// systemd's template unit of the supervisor of one network namespace.
pub const SUPERVISOR_UNIT: &str = "clearance-supervisor@.service";

/// systemd's unit of the popups.
pub const NOTIFIER_UNIT: &str = "clearance-notifier.service";

/// File names of the hooks in a hooks directory, `oci-hooks(5)`.
pub const HOOK_FILES: [&str; 2] = [
    "terok-clearance-createRuntime.json",
    "terok-clearance-poststop.json",
];

/// The directory of the hooks, below the user's data directory (`$XDG_DATA_HOME`) or, for the
/// machine's root, below `/etc`.
pub const HOOKS_DIRECTORY: &str = "terok-clearance/hooks.d";
