// SPDX-License-Identifier: Apache-2.0
//! The configuration of a supervisor.

use std::net::IpAddr;
use std::str::FromStr;

use egress::HoldLimit;
use netns::SandboxProcesses;
use policy::RuleSpec;
use shield::{Policy, PolicyError};
use terok_clearance::socket::RuntimeDir;
use terok_clearance::{
    ContainerId, DestPattern, DestPatternError, HostPattern, PortRange, Protocol, Target,
};

use crate::served_names::NameServerConfig;
use crate::{DossierSource, LongestAnswer, StateJournal};

/// The configuration of a supervisor and its sandbox.
#[derive(Debug)]
pub struct SupervisorConfig {
    /// The sandbox's id; its first twelve characters name the sockets.
    pub container: ContainerId,
    /// Context for operators, part of every question.
    pub dossier: DossierSource,
    /// Processes in the sandbox's network namespace. The end of the last one is the end of the
    /// supervisor.
    pub processes: SandboxProcesses,
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
    /// What a supervisor of this sandbox finds after this one was killed, and what this one finds
    /// of an earlier one. The rules of the firewall outlast a supervisor without it; which answers
    /// they are does not.
    pub journal: Option<StateJournal>,
}

/// The rules of a sandbox in the filtered way, besides its destinations allowed from the start.
#[derive(Debug, Default)]
pub struct FilteredPolicy {
    /// The rules of options, profiles and the organisation.
    pub rules: Vec<RuleSpec>,
    /// The organisation has a ceiling, whose rules are among `rules`.
    pub has_ceiling: bool,
    /// The longest that an answer may last.
    pub longest_answer: LongestAnswer,
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
    pub(crate) fn policy(&self) -> Result<Policy, PolicyError> {
        match self {
            Self::Resolvers(policy) => Ok(policy.clone()),
            Self::Server(config) => Policy::with_name_server(config.resolvers.iter().copied()),
        }
    }
}

/// A destination allowed from the start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AllowedDest {
    /// The address or name.
    pub target: Target,
    /// Restricts the rule to this port; without a protocol, of every protocol with ports.
    pub port: Option<u16>,
    /// Restricts the rule to this protocol.
    pub protocol: Option<Protocol>,
}

/// A text is no destination that can be allowed from the start.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AllowedDestError {
    /// The text is not a pattern of destinations.
    #[error(transparent)]
    Pattern(#[from] DestPatternError),
    /// Nothing opens the destination.
    #[error(
        "link-local, cloud metadata, multicast and reserved addresses are never opened: leave this \
         option out"
    )]
    Floor,
    /// The pattern covers more than one name or address.
    #[error(
        "a container's own connection is opened for one name or address at a time: repeat the \
             option for each"
    )]
    ManyHosts,
    /// The pattern covers more than one port.
    #[error(
        "a container's own connection is opened for one port or for all ports: repeat the \
             option for each port"
    )]
    ManyPorts,
}

impl From<Target> for AllowedDest {
    fn from(target: Target) -> Self {
        Self {
            target,
            port: None,
            protocol: None,
        }
    }
}

impl AllowedDest {
    /// Returns the pattern of the destination alone.
    pub fn to_pattern(&self) -> Result<DestPattern, DestPatternError> {
        let host = match &self.target {
            Target::Name(name) => HostPattern::Name(name.clone()),
            Target::Address(address) => HostPattern::Address(*address),
        };
        let ports = self.port.and_then(|port| PortRange::new(port, port));
        DestPattern::new(host, ports, self.protocol)
    }
}

impl FromStr for AllowedDest {
    type Err = AllowedDestError;

    /// Parses a [`DestPattern`] of one host.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let pattern: DestPattern = text.parse()?;
        if pattern.is_floor() {
            return Err(AllowedDestError::Floor);
        }
        let target = match pattern.host() {
            HostPattern::Name(name) => Target::Name(name.clone()),
            HostPattern::Address(address) => Target::Address(*address),
            HostPattern::Subdomains(_) | HostPattern::Network(_) => {
                return Err(AllowedDestError::ManyHosts);
            }
        };
        let port = match pattern.ports() {
            None => None,
            Some(ports) if ports.low() == ports.high() => Some(ports.low()),
            Some(_) => return Err(AllowedDestError::ManyPorts),
        };
        let protocol = match (pattern.protocol(), &target) {
            (Some(Protocol::ICMP), Target::Address(IpAddr::V6(_))) => Some(Protocol::ICMPV6),
            (protocol, _) => protocol,
        };
        Ok(Self {
            target,
            port,
            protocol,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_of_one_host_becomes_one_rule() {
        let parse = str::parse::<AllowedDest>;
        let check = |text: &str, target: &str, port, protocol| {
            let expected = AllowedDest {
                target: target.parse().unwrap(),
                port,
                protocol,
            };
            assert_eq!(parse(text), Ok(expected), "of {text}");
        };
        check("a.example", "a.example", None, None);
        check("A.example.:443", "a.example", Some(443), None);
        check(
            "a.example:53/udp",
            "a.example",
            Some(53),
            Some(Protocol::UDP),
        );
        check("203.0.113.7/tcp", "203.0.113.7", None, Some(Protocol::TCP));
        check("[2001:db8::7]:443", "2001:db8::7", Some(443), None);
        check(
            "2001:db8::7/icmp",
            "2001:db8::7",
            None,
            Some(Protocol::ICMPV6),
        );
        for (text, error) in [
            ("*.a.example", AllowedDestError::ManyHosts),
            ("203.0.113.0/24", AllowedDestError::ManyHosts),
            ("a.example:1-2", AllowedDestError::ManyPorts),
            ("169.254.169.254", AllowedDestError::Floor),
            ("169.254.0.0/16", AllowedDestError::Floor),
        ] {
            assert_eq!(parse(text), Err(error), "of {text}");
        }
    }
}
