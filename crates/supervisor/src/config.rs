// SPDX-License-Identifier: Apache-2.0
//! What a supervisor has to be told.

use netns::ProcessHandle;
use shield::Policy;
use terok_clearance::socket::RuntimeDir;
use terok_clearance::{ContainerId, Dest, Dossier, Scope, Target};

/// What a supervisor has to be told of its sandbox.
#[derive(Debug)]
pub struct SupervisorConfig {
    /// The sandbox's id; its first twelve characters name the sockets.
    pub container: ContainerId,
    /// What else is known of it: goes with every question.
    pub dossier: Dossier,
    /// A process in the sandbox's network namespace. The supervisor ends when it has ended.
    pub process: ProcessHandle,
    /// What the sandbox may reach before anybody is asked.
    pub policy: Policy,
    /// What is allowed from the start, for the sandbox's life.
    pub allowed_dests: Vec<AllowedDest>,
    /// The directory with `terok/clearance/…` and `terok/events/…`, the operator's own.
    pub runtime_dir: RuntimeDir,
}

/// A destination that is open from the start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AllowedDest {
    /// The destination.
    pub target: Target,
    /// Only this port, of every protocol that has ports; absent, the whole destination.
    pub port: Option<u16>,
}

impl From<Target> for AllowedDest {
    fn from(target: Target) -> Self {
        Self { target, port: None }
    }
}

impl AllowedDest {
    pub(crate) fn to_scope(&self) -> Scope {
        let dest = match &self.target {
            Target::Address(address) => Dest::from(*address),
            Target::Name(name) => Dest::from(name),
        };
        Scope {
            port: self.port,
            ..Scope::whole_dest(dest)
        }
    }
}
