// SPDX-License-Identifier: Apache-2.0
//! The initial policy of a sandbox: its resolvers.

use std::net::IpAddr;

/// The input of a sandbox's ruleset.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    resolvers: Vec<IpAddr>,
}

/// A policy is invalid.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PolicyError {
    /// The address is not a network host: loopback, unspecified, multicast or broadcast.
    #[error("{0} cannot be the resolver of a sandbox")]
    Resolver(IpAddr),
    /// The number of resolvers exceeds the limit.
    #[error("{0} resolvers exceed the limit of {limit}", limit = Policy::MAX_RESOLVERS)]
    TooManyResolvers(usize),
}

impl Policy {
    /// Maximum number of resolvers.
    pub const MAX_RESOLVERS: usize = 16;

    /// Creates a policy that allows DNS to `resolvers` (port 53 over UDP and TCP) and learns names
    /// only from them.
    ///
    /// Resolvers may have private or link-local addresses; only their port 53 is open.
    pub fn new(resolvers: impl IntoIterator<Item = IpAddr>) -> Result<Self, PolicyError> {
        let mut resolvers: Vec<_> = resolvers.into_iter().map(|ip| ip.to_canonical()).collect();
        resolvers.sort_unstable();
        resolvers.dedup();
        let unusable = |ip: &IpAddr| {
            ip.is_loopback()
                || ip.is_unspecified()
                || ip.is_multicast()
                || matches!(ip, IpAddr::V4(ip) if ip.octets()[0] == 0 || ip.octets()[0] >= 240)
        };
        if let Some(ip) = resolvers.iter().copied().find(unusable) {
            return Err(PolicyError::Resolver(ip));
        }
        if resolvers.len() > Self::MAX_RESOLVERS {
            return Err(PolicyError::TooManyResolvers(resolvers.len()));
        }
        Ok(Self { resolvers })
    }

    /// Returns the distinct resolvers.
    pub fn resolvers(&self) -> &[IpAddr] {
        &self.resolvers
    }
}
