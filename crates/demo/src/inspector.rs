// SPDX-License-Identifier: Apache-2.0
//! Looks at sandbox and gateway in the kernel, independently of the supervisor.

use netns::gateway::GatewayNetns;
use netns::link::RtnetlinkSocket;
use netns::sandbox::Sandbox;
use netns::{NetnsRef, SocketSpec};

use crate::error::DemoError;

/// The links of a sandbox whose only way leads to its gateway.
const SANDBOX_LINKS: [&str; 2] = ["lo", "eth0"];
/// The links of a gateway without a way on.
const GATEWAY_LINKS: [&str; 2] = ["lo", "gw0"];

/// Looks at the network namespaces of a sandbox and its gateway.
#[derive(Debug)]
pub(crate) struct NetworkInspector {
    sandbox: NetnsRef,
    gateway: NetnsRef,
    has_ipv6: bool,
}

/// The links of a sandbox and of its gateway.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct InspectedLinks {
    /// The links of the sandbox.
    pub(crate) sandbox: Vec<String>,
    /// The links of the gateway.
    pub(crate) gateway: Vec<String>,
}

impl NetworkInspector {
    /// Opens both namespaces.
    pub(crate) fn new(sandbox: &Sandbox, gateway: &GatewayNetns) -> Result<Self, DemoError> {
        Ok(Self {
            sandbox: sandbox.netns_ref().map_err(DemoError::OpenSandbox)?,
            gateway: gateway.netns_ref().map_err(DemoError::OpenSandbox)?,
            has_ipv6: gateway.has_ipv6(),
        })
    }

    /// Compares the gateway's rules in the kernel with the intended ones.
    pub(crate) fn verify_rules(&self) -> Result<(), DemoError> {
        let socket = self.gateway.open_socket(SocketSpec::Netfilter);
        let socket = socket.map_err(DemoError::EnterSandbox)?;
        shield::verify_gateway(socket, self.has_ipv6).map_err(DemoError::VerifyFirewall)
    }

    /// Returns the links of both namespaces.
    pub(crate) fn list_links(&self) -> Result<InspectedLinks, DemoError> {
        let list = |netns: &NetnsRef| {
            let socket = netns.open_socket(SocketSpec::Route);
            let socket = socket.map_err(DemoError::EnterSandbox)?;
            let mut links = RtnetlinkSocket::from_socket(socket);
            links.list_links().map_err(DemoError::ListLinks)
        };
        Ok(InspectedLinks {
            sandbox: list(&self.sandbox)?,
            gateway: list(&self.gateway)?,
        })
    }
}

impl InspectedLinks {
    /// Returns a description of each link that could lead around the gateway, or on from it.
    pub(crate) fn problems(&self) -> Vec<String> {
        let unexpected = |place: &str, links: &[String], expected: [&str; 2]| {
            let is_same = links.iter().all(|link| expected.contains(&link.as_str()))
                && links.len() == expected.len();
            let found = links.join(", ");
            let expected = expected.join(", ");
            (!is_same).then(|| format!("the {place} has the links {found} instead of {expected}"))
        };
        [
            unexpected("sandbox", &self.sandbox, SANDBOX_LINKS),
            unexpected("gateway", &self.gateway, GATEWAY_LINKS),
        ]
        .into_iter()
        .flatten()
        .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_link_is_a_problem() {
        let check = |sandbox: &[&str], gateway: &[&str], count: usize| {
            let owned = |links: &[&str]| links.iter().map(|&link| link.to_owned()).collect();
            let links = InspectedLinks {
                sandbox: owned(sandbox),
                gateway: owned(gateway),
            };
            assert_eq!(links.problems().len(), count, "{:?}", links.problems());
        };
        check(&["lo", "eth0"], &["lo", "gw0"], 0);
        check(&["eth0", "lo"], &["gw0", "lo"], 0);
        check(&["lo", "eth0", "leak"], &["lo", "gw0"], 1);
        check(&["lo", "eth0"], &["lo", "gw0", "uplink"], 1);
        check(&["lo"], &[], 2);
    }
}
