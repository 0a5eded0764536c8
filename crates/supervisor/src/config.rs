// SPDX-License-Identifier: Apache-2.0
//! The configuration of a supervisor.

use egress::HoldLimit;
use netns::ProcessHandle;
use shield::Policy;
use terok_clearance::socket::RuntimeDir;
use terok_clearance::{ContainerId, Dest, Dossier, Scope, Target};

use crate::served_names::NameServerConfig;

/// The configuration of a supervisor and its sandbox.
#[derive(Debug)]
pub struct SupervisorConfig {
    /// The sandbox's id; its first twelve characters name the sockets.
    pub container: ContainerId,
    /// Context for operators, part of every question.
    pub dossier: Dossier,
    /// A process in the sandbox's network namespace. Its end is the end of the supervisor.
    pub process: ProcessHandle,
    /// How the sandbox looks names up.
    pub names: NameAccess,
    /// Destinations allowed from the start, for the sandbox's lifetime.
    pub allowed_dests: Vec<AllowedDest>,
    /// The time that a TCP connection waits for an answer, while an operator who answers is
    /// connected.
    pub hold: HoldLimit,
    /// `true` starts although a process of the sandbox can go around the firewall; see
    /// [`Supervisor::capability_holder`](crate::Supervisor::capability_holder).
    pub allow_capabilities: bool,
    /// The operator's runtime directory, with `terok/clearance/…` and `terok/events/…`.
    pub runtime_dir: RuntimeDir,
}

/// How a sandbox looks names up.
#[derive(Debug)]
pub enum NameAccess {
    /// At the resolvers of the policy, whose port 53 is open. Any lookup leaves. The names of
    /// addresses are learnt from the replies, so that two names of one address are confused.
    Resolvers(Policy),
    /// At a name server of the supervisor. No lookup leaves for a name that no rule allows, and
    /// each name has an address of its own.
    Server(NameServerConfig),
}

impl NameAccess {
    pub(crate) fn policy(&self) -> Policy {
        match self {
            Self::Resolvers(policy) => policy.clone(),
            Self::Server(_) => Policy::with_name_server(),
        }
    }
}

/// A destination allowed from the start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AllowedDest {
    /// The address or name.
    pub target: Target,
    /// Restricts the rule to this port, of every protocol with ports. `None` allows the whole
    /// destination.
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
