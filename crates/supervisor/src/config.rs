// SPDX-License-Identifier: Apache-2.0
//! What a supervisor has to be told.

use netns::Process;
use shield::Policy;
use terok_clearance::socket::RuntimeDir;
use terok_clearance::{ContainerId, Dossier, Target};

/// What a supervisor has to be told of its sandbox.
#[derive(Debug)]
pub struct Config {
    /// The sandbox's id; its first twelve characters name the sockets.
    pub container: ContainerId,
    /// What else is known of it: goes with every question.
    pub dossier: Dossier,
    /// A process in the sandbox's network namespace. The supervisor ends when it has ended.
    pub process: Process,
    /// What the sandbox may reach before anybody is asked.
    pub policy: Policy,
    /// What is allowed from the start, the whole of it, for the sandbox's life.
    pub allowed: Vec<Target>,
    /// The directory with `terok/clearance/…` and `terok/events/…`, the operator's own.
    pub runtime: RuntimeDir,
}
