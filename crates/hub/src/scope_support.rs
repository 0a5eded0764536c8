// SPDX-License-Identifier: Apache-2.0
//! The scopes that answers may have at a firewall.

use policy::wider_patterns;
use terok_clearance::{BlockedPacket, Dest, DomainName, NetworkZone, RuleLifetime, Scope, Target};

/// What an answer may have besides the default scope of its question.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ScopeOffer {
    /// Wider names, up to the registrable domain.
    pub wider_names: bool,
    /// The lifetimes that the firewall enforces, the shortest first. Empty: the hub offers none,
    /// and leaves the lifetime of an answer to the firewall.
    pub lifetimes: &'static [RuleLifetime],
}

/// The scopes that a firewall enforces.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ScopeSupport {
    /// The firewall can open a single port for the sandbox's life.
    pub ports: bool,
    /// What is offered besides.
    pub offer: ScopeOffer,
}

impl ScopeSupport {
    /// Returns the support of single ports, without offers.
    pub const fn with_ports(ports: bool) -> Self {
        Self {
            ports,
            offer: ScopeOffer {
                wider_names: false,
                lifetimes: &[],
            },
        }
    }

    /// Returns the scope of an answer without an explicit scope.
    pub(crate) fn default_scope(self, blocked: &BlockedPacket) -> Scope {
        let whole = self.whole_dest(blocked.dest());
        if self.ports && blocked.port != 0 {
            Scope {
                port: Some(blocked.port),
                protocol: Some(blocked.protocol),
                ..whole
            }
        } else {
            whole
        }
    }

    /// Returns the scope of a whole destination, with the lifetime that the firewall enforces.
    pub(crate) fn whole_dest(self, dest: &Dest) -> Scope {
        if self.ports {
            Scope::whole_dest(dest.clone())
        } else {
            Scope::until_removed(dest.clone())
        }
    }

    /// Returns the wider names that an answer may be for, the narrowest first. A rule for names
    /// reaches the internet only.
    pub(crate) fn wider_names(self, blocked: &BlockedPacket) -> Vec<Dest> {
        if !self.offer.wider_names || blocked.zone != NetworkZone::Public {
            return Vec::new();
        }
        let Ok(Target::Name(name)) = blocked.dest().parse_target() else {
            return Vec::new();
        };
        let patterns = wider_patterns(&name);
        let names = patterns.iter().map(ToString::to_string);
        names.filter_map(|name| name.parse().ok()).collect()
    }
}

/// Returns `true` if the destination of a scope covers a destination: both are equal, or the scope
/// is for `*.NAME`, above the destination.
pub(crate) fn scope_covers_dest(of_scope: &Dest, dest: &Dest) -> bool {
    if of_scope == dest {
        return true;
    }
    let Some(parent) = of_scope.as_str().strip_prefix("*.") else {
        return false;
    };
    match (parent.parse::<DomainName>(), dest.parse_target()) {
        (Ok(parent), Ok(Target::Name(name))) => name.is_below(&parent),
        _ => false,
    }
}
