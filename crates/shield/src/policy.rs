// SPDX-License-Identifier: Apache-2.0
//! What a sandbox may reach before anybody is asked: its resolvers, and nothing else.

use std::net::IpAddr;

/// What the ruleset of one sandbox is made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    resolvers: Vec<IpAddr>,
}

/// Why a policy cannot be put in force.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PolicyError {
    /// The address is no host on the network: loopback, unspecified, multicast or broadcast.
    #[error("{0} cannot be the resolver of a sandbox")]
    Resolver(IpAddr),
    /// More resolvers than any resolver library asks.
    #[error("{0} resolvers are more than {limit}", limit = Policy::MAX_RESOLVERS)]
    TooManyResolvers(usize),
}

impl Policy {
    /// The most resolvers that a policy holds.
    pub const MAX_RESOLVERS: usize = 16;

    /// Makes the policy that lets DNS to `resolvers` pass, port 53 over UDP and TCP, and that
    /// believes names from nobody else.
    ///
    /// A resolver may stand in a private or link-local range; only its port 53 is open then.
    pub fn new(resolvers: impl IntoIterator<Item = IpAddr>) -> Result<Self, PolicyError> {
        let mut resolvers: Vec<_> = resolvers.into_iter().map(|ip| ip.to_canonical()).collect();
        resolvers.sort_unstable();
        resolvers.dedup();
        let nobody = |ip: &IpAddr| {
            ip.is_loopback()
                || ip.is_unspecified()
                || ip.is_multicast()
                || matches!(ip, IpAddr::V4(ip) if ip.octets()[0] == 0 || ip.octets()[0] >= 240)
        };
        if let Some(ip) = resolvers.iter().copied().find(nobody) {
            return Err(PolicyError::Resolver(ip));
        }
        if resolvers.len() > Self::MAX_RESOLVERS {
            return Err(PolicyError::TooManyResolvers(resolvers.len()));
        }
        Ok(Self { resolvers })
    }

    /// Returns the resolvers, each once.
    pub fn resolvers(&self) -> &[IpAddr] {
        &self.resolvers
    }
}
