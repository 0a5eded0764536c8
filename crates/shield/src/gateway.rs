// SPDX-License-Identifier: Apache-2.0
//! Loads the ruleset of a gateway and verifies it.

use std::os::fd::OwnedFd;

use crate::ShieldError;
use crate::netlink::socket::NftSocket;
use crate::netlink::{encode, verify};
use crate::ruleset::Ruleset;

/// Loads the ruleset of a gateway in the network namespace of `socket` (`AF_NETLINK`,
/// `NETLINK_NETFILTER`) and compares the kernel's state with it.
///
/// The ruleset of an earlier process stays as it is, or is replaced in one transaction: no packet
/// passes without a ruleset.
///
/// After an error the sandbox must not start.
pub fn engage_gateway(socket: OwnedFd, has_ipv6: bool) -> Result<(), ShieldError> {
    let mut netlink = NftSocket::new(socket);
    let ruleset = Ruleset::of_gateway(has_ipv6);
    // Refused where an earlier process has created the chains: then its ruleset is looked at.
    drop(netlink.commit_transaction(&encode::create_ruleset(&ruleset), None));
    if verify(&mut netlink, &ruleset).is_ok() {
        return Ok(());
    }
    netlink.commit_transaction(&encode::replace_ruleset(&ruleset), None)?;
    verify(&mut netlink, &ruleset)
}

/// Compares the kernel's ruleset in the network namespace of `socket` with that of a gateway.
pub fn verify_gateway(socket: OwnedFd, has_ipv6: bool) -> Result<(), ShieldError> {
    verify(&mut NftSocket::new(socket), &Ruleset::of_gateway(has_ipv6))
}

fn verify(netlink: &mut NftSocket, ruleset: &Ruleset) -> Result<(), ShieldError> {
    match verify::verify_ruleset(netlink, ruleset)? {
        Some(difference) => Err(difference.into()),
        None => Ok(()),
    }
}

/// Returns the ruleset of a gateway in the syntax of `nft -f`.
pub fn preview_gateway(has_ipv6: bool) -> String {
    Ruleset::of_gateway(has_ipv6).to_string()
}
