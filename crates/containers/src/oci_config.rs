// SPDX-License-Identifier: Apache-2.0
//! Decides by a container's configuration whether the container can be guarded (OCI runtime
//! specification, `config.json`). Pure.

use std::path::{Path, PathBuf};

use serde::Deserialize;

/// Maximum bytes of a configuration. Podman writes some 20 KiB.
pub(crate) const MAX_CONFIG_BYTES: u64 = 8 * 1024 * 1024;

/// The parts of a configuration that decide.
#[derive(Debug, Default, Deserialize)]
pub struct OciConfig {
    #[serde(default)]
    process: Option<OciProcess>,
    #[serde(default)]
    linux: Option<OciLinux>,
    #[serde(default)]
    root: Option<OciRoot>,
    #[serde(default)]
    mounts: Option<Vec<OciMount>>,
}

#[derive(Debug, Default, Deserialize)]
struct OciProcess {
    #[serde(default)]
    capabilities: Option<OciCapabilities>,
}

/// The capability sets, `capabilities(7)`.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct OciCapabilities {
    bounding: Option<Vec<String>>,
    effective: Option<Vec<String>>,
    inheritable: Option<Vec<String>>,
    permitted: Option<Vec<String>>,
    ambient: Option<Vec<String>>,
}

#[derive(Debug, Default, Deserialize)]
struct OciLinux {
    #[serde(default)]
    namespaces: Option<Vec<OciNamespace>>,
}

#[derive(Debug, Deserialize)]
struct OciNamespace {
    #[serde(rename = "type")]
    kind: String,
}

#[derive(Debug, Deserialize)]
struct OciRoot {
    path: PathBuf,
}

#[derive(Debug, Deserialize)]
struct OciMount {
    destination: PathBuf,
    #[serde(default)]
    source: Option<PathBuf>,
}

/// The capabilities with which a process goes around the firewall of its network namespace.
const FIREWALL_CAPABILITIES: [&str; 2] = ["CAP_NET_RAW", "CAP_NET_ADMIN"];

/// A container that cannot be guarded.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum UnguardableContainer {
    /// The container shares the host's network.
    #[error(
        "the container has the network of the host, where it cannot be guarded: start it with \
         --network none"
    )]
    HostNetwork,
    /// A process of the container could go around the rules.
    #[error(
        "the container has {0}, with which it could go around the firewall: start it with \
         --cap-drop NET_RAW,NET_ADMIN, and without --privileged"
    )]
    Capability(&'static str),
}

impl OciConfig {
    /// Parses a configuration.
    pub fn parse(json: &[u8]) -> serde_json::Result<Self> {
        serde_json::from_slice(json)
    }

    /// Returns an error for a container that cannot be guarded.
    pub fn check_guardable(&self) -> Result<(), UnguardableContainer> {
        let namespaces = self.linux.iter().flat_map(|linux| &linux.namespaces);
        let mut namespaces = namespaces.flatten();
        if !namespaces.any(|namespace| namespace.kind == "network") {
            return Err(UnguardableContainer::HostNetwork);
        }
        let process = self.process.as_ref();
        let Some(capabilities) = process.and_then(|process| process.capabilities.as_ref()) else {
            return Ok(()); // a container without capabilities
        };
        for capability in FIREWALL_CAPABILITIES {
            if capabilities.contain(capability) {
                return Err(UnguardableContainer::Capability(capability));
            }
        }
        Ok(())
    }

    /// Returns the directory with the container's files; a relative path is one below the bundle.
    pub fn root(&self) -> Option<&Path> {
        self.root.as_ref().map(|root| root.path.as_path())
    }

    /// Returns the file that is mounted at `destination`, if any; of several the last counts.
    pub fn mount_source(&self, destination: &Path) -> Option<&Path> {
        let mut mounts = self.mounts.iter().flatten().rev();
        mounts
            .find(|mount| mount.destination == destination)?
            .source
            .as_deref()
    }
}

impl OciCapabilities {
    fn contain(&self, capability: &str) -> bool {
        let Self {
            bounding,
            effective,
            inheritable,
            permitted,
            ambient,
        } = self;
        let sets = [bounding, effective, inheritable, permitted, ambient];
        let mut all = sets.into_iter().flatten().flatten();
        all.any(|known| known.eq_ignore_ascii_case(capability))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(json: &str) -> Result<(), UnguardableContainer> {
        OciConfig::parse(json.as_bytes()).unwrap().check_guardable()
    }

    #[test]
    fn a_container_with_a_network_namespace_and_ordinary_capabilities_is_guarded() {
        let json = r#"{"linux":{"namespaces":[{"type":"pid"},{"type":"network"}]},
            "process":{"capabilities":{"bounding":["CAP_CHOWN"],"effective":["CAP_CHOWN"]}}}"#;
        assert_eq!(check(json), Ok(()));
        assert_eq!(
            check(r#"{"linux":{"namespaces":[{"type":"network","path":"/run/netns/x"}]}}"#),
            Ok(())
        );
    }

    #[test]
    fn the_network_of_the_host_is_refused() {
        for json in [
            "{}",
            r#"{"linux":{}}"#,
            r#"{"linux":{"namespaces":null}}"#,
            r#"{"linux":{"namespaces":[{"type":"pid"}]}}"#,
        ] {
            assert_eq!(
                check(json),
                Err(UnguardableContainer::HostNetwork),
                "{json}"
            );
        }
    }

    #[test]
    fn each_set_of_capabilities_counts() {
        for set in [
            "bounding",
            "effective",
            "inheritable",
            "permitted",
            "ambient",
        ] {
            for capability in FIREWALL_CAPABILITIES {
                let json = format!(
                    r#"{{"linux":{{"namespaces":[{{"type":"network"}}]}},
                    "process":{{"capabilities":{{"{set}":["CAP_CHOWN","{capability}"]}}}}}}"#
                );
                let refused = Err(UnguardableContainer::Capability(capability));
                assert_eq!(check(&json), refused, "{json}");
            }
        }
    }
}
