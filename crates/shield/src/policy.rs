// SPDX-License-Identifier: Apache-2.0
//! The initial policy of a sandbox: how it looks names up.

use std::net::IpAddr;

/// The input of a sandbox's ruleset.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    resolvers: Vec<IpAddr>,
    has_name_server: bool,
}

/// The port of the name server inside a sandbox, over UDP and TCP, at the loopback addresses
/// `127.0.0.1` and `::1`. It is outside of the range of which the kernel takes ports for clients.
pub const NAME_SERVER_PORT: u16 = 61_053;

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

/// The mark (`SO_MARK`) of the packets with which the name server of a sandbox asks the sandbox's
/// resolvers. A workload without `CAP_NET_ADMIN` and `CAP_NET_RAW` cannot set it.
pub const LOOKUP_MARK: u32 = 0x7465_726c;

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
        Ok(Self {
            resolvers,
            has_name_server: false,
        })
    }

    /// Creates a policy for a sandbox with a name server of its supervisor at
    /// [`NAME_SERVER_PORT`], to which every packet for port 53 is redirected. Only packets with the
    /// mark [`LOOKUP_MARK`] reach port 53 of `resolvers`.
    ///
    /// A stand-in address of a name (198.18.0.0/15) leads nowhere until an order allows the name
    /// and [`NftShield::map_stand_in`](crate::NftShield::map_stand_in) gives it an address.
    pub fn with_name_server(
        resolvers: impl IntoIterator<Item = IpAddr>,
    ) -> Result<Self, PolicyError> {
        Ok(Self {
            has_name_server: true,
            ..Self::new(resolvers)?
        })
    }

    /// Returns the distinct resolvers.
    pub fn resolvers(&self) -> &[IpAddr] {
        &self.resolvers
    }

    /// Returns `true` if the supervisor serves names in the sandbox.
    pub const fn has_name_server(&self) -> bool {
        self.has_name_server
    }
}
