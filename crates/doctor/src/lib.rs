// SPDX-License-Identifier: Apache-2.0
//! Checks what a host needs, each requirement with the command that fixes it.
//!
//! [`examine`] runs every check of a [`HostDescription`] at the same time, each with a time limit,
//! and changes nothing on the host. [`probe_kernel`] builds a sandbox without a command and a
//! gateway, as `run` does, and so belongs into a process of its own, which [`examine`] starts.
//!
//! Nothing here reads the environment: directories, user ids and addresses are arguments.

#![cfg_attr(
    not(test),
    deny(
        clippy::arithmetic_side_effects,
        clippy::as_conversions,
        clippy::indexing_slicing,
        clippy::string_slice
    )
)]

mod container_checks;
mod containers_conf;
mod desktop_checks;
mod examination;
mod file_checks;
mod finding;
mod host_description;
mod kernel_checks;
mod kernel_probe;
mod package_manager;
mod program_output;
mod setup_checks;
mod stack_checks;
mod systemd_checks;
mod unit_states;

pub use examination::{DoctorReport, examine};
pub use finding::{CheckStatus, Finding, RequirementGroup};
pub use host_description::{ConfigurationState, HostDescription};
pub use kernel_probe::{PROBE_COMMAND, probe_kernel};
pub use unit_states::{ServiceUnitState, read_unit_states};
