// SPDX-License-Identifier: Apache-2.0
//! The ruleset in force: engaged, verified, and given its orders.

use std::io;
use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use terok_clearance::{Action, DomainName, Protocol, Scope, Target};

use crate::Policy;

/// The firewall of one sandbox.
///
/// It owns a netlink socket of the sandbox's network namespace; every method is one or a few
/// system calls that do not wait, so it may be called from an async task.
#[derive(Debug)]
pub struct Shield {
    #[expect(dead_code, reason = "the netlink half lands next")]
    socket: OwnedFd,
}

/// One thing that is open or closed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Element {
    /// Whether packets pass or are refused.
    pub action: Action,
    /// Where to.
    pub address: IpAddr,
    /// Only this protocol; absent, every protocol.
    pub protocol: Option<Protocol>,
    /// Only this port; absent, every port.
    pub port: Option<u16>,
    /// The name for which it was opened or closed, if the order was about a name.
    pub name: Option<DomainName>,
    /// What is left of its time; absent, it stays as long as the sandbox.
    pub remaining: Option<Duration>,
}

/// What became of addresses that were learnt for a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Learnt {
    /// How many were opened or closed, because an order on the name stands.
    pub placed: usize,
    /// How many an order would have opened, but which no order can open.
    pub refused: usize,
}

/// Why the ruleset is not in force.
#[derive(Debug, thiserror::Error)]
pub enum ShieldError {
    /// The kernel could not be asked.
    #[error("the kernel could not be asked over netlink")]
    Netlink(#[source] io::Error),
}

/// Why an order was not carried out. Nothing was opened.
#[derive(Debug, thiserror::Error)]
pub enum OrderError {
    /// The address can never be opened: link-local, cloud metadata, multicast, reserved.
    #[error("{0} is never opened: link-local, cloud metadata, multicast or reserved")]
    Floor(IpAddr),
    /// The address is in a private range.
    #[error("{0} is in a private range, which no verdict opens")]
    Private(IpAddr),
    /// The scope is about another destination than the order.
    #[error("the scope is about another destination")]
    OtherDest,
    /// The scope holds for more than this sandbox.
    #[error("a sandbox's shield cannot keep an order for a project or for always")]
    Keep,
    /// The scope names a port of a protocol that has none.
    #[error("{0} has no ports")]
    NoPorts(Protocol),
    /// There is no room for more.
    #[error("the shield holds as many orders as it can")]
    Full,
    /// The kernel refused.
    #[error("the kernel refused")]
    Netlink(#[source] io::Error),
}

/// Why the elements could not be listed.
#[derive(Debug, thiserror::Error)]
#[error("the elements could not be listed")]
pub struct ListError(#[source] pub io::Error);

impl Shield {
    /// Puts `policy` in force in the network namespace of `socket` (`AF_NETLINK`,
    /// `NETLINK_NETFILTER`), in place of what was in force, and verifies it.
    ///
    /// After an error the sandbox must not start: what was in force before still is.
    pub fn engage(socket: OwnedFd, policy: &Policy) -> Result<Self, ShieldError> {
        let _policy = policy;
        Ok(Self { socket })
    }

    /// Takes over a ruleset that is in force, say after a restart of the supervisor, verified;
    /// orders on names are taken up again as far as the kernel knows addresses of them.
    pub fn attach(socket: OwnedFd, policy: &Policy, now: Instant) -> Result<Self, ShieldError> {
        let _ = now;
        Self::engage(socket, policy)
    }

    /// Compares what the kernel holds with what is meant.
    pub fn verify(&mut self) -> Result<(), ShieldError> {
        Ok(())
    }

    /// Carries out one order: see [`Shield::allow`] and [`Shield::deny`].
    pub fn order(
        &mut self,
        action: Action,
        target: &Target,
        scope: &Scope,
        now: Instant,
    ) -> Result<(), OrderError> {
        match action {
            Action::Allow => self.allow(target, scope, now),
            Action::Deny => self.deny(target, scope, now),
        }
    }

    /// Lets packets to `target` pass, as far as `scope` reaches, in place of an order to refuse
    /// them. A name opens the addresses learnt for it so far and from now on.
    pub fn allow(
        &mut self,
        target: &Target,
        scope: &Scope,
        now: Instant,
    ) -> Result<(), OrderError> {
        let _ = (target, scope, now);
        Ok(())
    }

    /// Refuses packets to `target` without asking, as far as `scope` reaches, in place of an
    /// order to let them pass.
    pub fn deny(&mut self, target: &Target, scope: &Scope, now: Instant) -> Result<(), OrderError> {
        let _ = (target, scope, now);
        Ok(())
    }

    /// Takes back every order on `target`: the next packet asks again.
    pub fn forget(&mut self, target: &Target) -> Result<(), OrderError> {
        let _ = target;
        Ok(())
    }

    /// Notes that `name` was answered with `addresses`, and opens or closes them if an order on
    /// the name stands.
    pub fn learn(
        &mut self,
        name: &DomainName,
        addresses: &[IpAddr],
        now: Instant,
    ) -> Result<Learnt, OrderError> {
        let _ = (name, addresses, now);
        Ok(Learnt::default())
    }

    /// Returns everything that orders have opened and closed.
    pub fn list(&mut self) -> Result<Vec<Element>, ListError> {
        Ok(Vec::new())
    }
}
