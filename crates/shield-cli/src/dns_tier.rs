// SPDX-License-Identifier: Apache-2.0
//! How the names of a policy reach the sets of the firewall.

use std::fmt;

/// How names become addresses. The best one that the host has programs for is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DnsTier {
    /// A dnsmasq in the container adds each answer to the sets.
    DnsmasqLive,
    /// A dnsmasq without that ability; names are looked up at the start of the container.
    DnsmasqStatic,
    /// Names are looked up at the start with `dig` or `drill`.
    Lookup,
    /// Names are looked up at the start with `getent`.
    Getent,
}

impl DnsTier {
    /// Parses the name in a state directory, including two names of earlier releases.
    pub fn parse(name: &str) -> Option<Self> {
        match name {
            "dnsmasq-live" | "dnsmasq" => Some(Self::DnsmasqLive),
            "dnsmasq-static" => Some(Self::DnsmasqStatic),
            "lookup" | "dig" => Some(Self::Lookup),
            "getent" => Some(Self::Getent),
            _ => None,
        }
    }

    /// Returns `true` if the sets follow the answers to the container's queries.
    pub const fn is_live(self) -> bool {
        matches!(self, Self::DnsmasqLive)
    }

    /// Returns `true` if the container has a dnsmasq.
    pub const fn runs_dnsmasq(self) -> bool {
        matches!(self, Self::DnsmasqLive | Self::DnsmasqStatic)
    }

    /// Describes what a tier other than the best lacks, and what to install.
    pub(crate) const fn limitation(self) -> Option<&'static str> {
        match self {
            Self::DnsmasqLive => None,
            Self::DnsmasqStatic => Some(
                "the installed dnsmasq cannot fill nftables sets, so names are looked up once, \
                 at the start; install a dnsmasq with nftset",
            ),
            Self::Lookup => Some(
                "there is no dnsmasq, so names are looked up once, at the start, and questions \
                 show addresses only; install a dnsmasq with nftset",
            ),
            Self::Getent => Some(
                "there is neither dnsmasq nor dig, so names are looked up once, at the start, \
                 with getent, and questions show addresses only; install a dnsmasq with nftset",
            ),
        }
    }
}

impl fmt::Display for DnsTier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::DnsmasqLive => "dnsmasq-live",
            Self::DnsmasqStatic => "dnsmasq-static",
            Self::Lookup => "lookup",
            Self::Getent => "getent",
        })
    }
}
