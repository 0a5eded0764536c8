// SPDX-License-Identifier: Apache-2.0
//! What defeats the guard of a container, or has no effect with it.

use egress::publish::{PublishSpec, PublishSpecError};

use super::command_line::{PodmanCommandLine, PodmanOption};
use super::{GuardableCommand, PodChoice};
use crate::annotation_keys;

/// The arguments of podman are refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PodmanRefusal {
    /// There is no image.
    #[error("podman's arguments have no image; options come first, then IMAGE and its command")]
    NoImage,
    /// An option is not known, so that the image is not found with certainty.
    #[error(
        "podman's option --{0} is not known here, nor whether it takes a value: write \
         --{0}=VALUE (--{0}=true if it has none)"
    )]
    UnknownOption(String),
    /// An option of one letter is not known.
    #[error("podman's option -{0} is not known here: write it as --NAME=VALUE")]
    UnknownLetter(char),
    /// An option lacks its value.
    #[error("podman's option --{0} has no value")]
    MissingValue(&'static str),
    /// A value that decides is no text.
    #[error("the value of podman's option --{0} is not UTF-8")]
    NotText(&'static str),
    /// Another network.
    #[error(
        "--network {0} is not guarded: leave it out; the container starts with no network, and the \
         hook connects it (--via filtered gives it a connection of its own)"
    )]
    Network(String),
    /// A capability with which a process goes around the firewall.
    #[error("--cap-add {0} is refused: with {0} a process goes around the firewall; leave it out")]
    Capability(String),
    /// All capabilities.
    #[error(
        "--privileged is refused: such a container goes around the firewall; give it what it needs \
         with --cap-add and --device"
    )]
    Privileged,
    /// The processes of others.
    #[error(
        "--pid {0} is refused: through the processes of others a program can reach their network"
    )]
    ProcessNamespace(String),
    /// Other hooks.
    #[error(
        "--hooks-dir is refused: it replaces the directory of the guard's hooks; name yours in \
         hooks_dir of containers.conf"
    )]
    HooksDirectory,
    /// An annotation of the guard.
    #[error(
        "the annotation {0} is this program's: use --via, --allow, --deny, --profile and --hold"
    )]
    Annotation(&'static str),
    /// An OCI runtime of which nothing is known.
    #[error(
        "--runtime {0} is refused: it is not known whether it runs the hooks of a container; crun \
         and runc do"
    )]
    Runtime(String),
    /// An option about names.
    #[error(
        "--{0} is refused: the supervisor answers every lookup of the container, and podman has no \
         --{0} without a network"
    )]
    Dns(&'static str),
    /// An option about the container's address.
    #[error("--{0} is refused: the supervisor chooses the addresses of the container")]
    Address(&'static str),
    /// Ports of the image, whose numbers are not on the command line.
    #[error("--publish-all is refused: name each port, as in --publish 127.0.0.1:8080:80")]
    PublishAll,
    /// A port that cannot be published.
    #[error("cannot publish {value:?}: {source}")]
    Publish {
        /// The value.
        value: String,
        /// The reason.
        source: PublishSpecError,
    },
}

/// Capabilities with which a process goes around the firewall of its network namespace, or leaves
/// the namespace.
const REFUSED_CAPABILITIES: [&str; 5] = ["ALL", "NET_ADMIN", "NET_RAW", "SYS_ADMIN", "SYS_MODULE"];

/// OCI runtimes that run the hooks of a container in its life cycle.
const KNOWN_RUNTIMES: [&str; 2] = ["crun", "runc"];

/// What happens to options about networks that podman makes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NetworkOptions {
    /// They are refused, because they have no effect.
    Refuse,
    /// They are left out: a compose program writes them for every container.
    LeaveOut,
}

/// Networks that a container shares with others; they are never left out in silence.
const SHARED_NETWORKS: [&str; 3] = ["host", "container:", "ns:"];

impl PodmanCommandLine {
    /// Refuses options that defeat the guard, takes those out that are for the supervisor, and
    /// keeps all others.
    pub fn check(self, networks: NetworkOptions) -> Result<GuardableCommand, PodmanRefusal> {
        let mut command = GuardableCommand {
            verb: self.verb,
            options: Vec::new(),
            image: self.image,
            rest: self.rest,
            publish: Vec::new(),
            pod: None,
            name: None,
            sets_http_proxy: false,
            sets_meta_path: false,
        };
        for option in self.options {
            if command.take(&option, networks)? {
                continue;
            }
            command.options.push(option);
        }
        Ok(command)
    }
}

impl GuardableCommand {
    /// Returns `true` for an option that podman does not get.
    fn take(
        &mut self,
        option: &PodmanOption,
        networks: NetworkOptions,
    ) -> Result<bool, PodmanRefusal> {
        match option.name {
            "network" => {
                let network = option.text()?;
                let is_shared = SHARED_NETWORKS.iter().any(|kind| network.starts_with(kind));
                if network == "none" || (networks == NetworkOptions::LeaveOut && !is_shared) {
                    return Ok(true);
                }
                return Err(PodmanRefusal::Network(network.to_owned()));
            }
            "dns" | "dns-option" | "dns-search" | "ip" | "ip6" | "mac-address"
            | "network-alias"
                if networks == NetworkOptions::LeaveOut =>
            {
                return Ok(true);
            }
            "publish" => {
                let values = option.text()?.split(',');
                for value in values {
                    let spec: Result<PublishSpec, _> = value.parse();
                    let spec = spec.map_err(|source| PodmanRefusal::Publish {
                        value: value.to_owned(),
                        source,
                    })?;
                    self.publish.push(spec);
                }
                return Ok(true);
            }
            "publish-all" if option.is_on()? => return Err(PodmanRefusal::PublishAll),
            "privileged" if option.is_on()? => return Err(PodmanRefusal::Privileged),
            "cap-add" => check_capabilities(option.text()?)?,
            "pid" => match option.text()? {
                "" | "private" => {}
                other => return Err(PodmanRefusal::ProcessNamespace(other.to_owned())),
            },
            "hooks-dir" => return Err(PodmanRefusal::HooksDirectory),
            "annotation" => self.note_annotation(option.text()?)?,
            "runtime" => check_runtime(option.text()?)?,
            "dns" | "dns-option" | "dns-search" => return Err(PodmanRefusal::Dns(option.name)),
            "ip" | "ip6" | "mac-address" | "network-alias" => {
                return Err(PodmanRefusal::Address(option.name));
            }
            "http-proxy" => self.sets_http_proxy = true,
            "pod" => {
                let pod = option.text()?;
                self.pod = Some(match pod.strip_prefix("new:") {
                    Some(_) => PodChoice::New,
                    None => PodChoice::Existing(pod.to_owned()),
                });
            }
            "name" => self.name = Some(option.text()?.to_owned()),
            _ => {}
        }
        Ok(false)
    }

    fn note_annotation(&mut self, value: &str) -> Result<(), PodmanRefusal> {
        // podman 4 takes several annotations in one value, as a line of CSV.
        let has = |key: &str| {
            let mut parts = value.split([',', '\n']);
            parts.any(|part| part.trim_start_matches('"').starts_with(key))
        };
        for key in [annotation_keys::NETWORK, annotation_keys::POLICY] {
            if has(key) {
                return Err(PodmanRefusal::Annotation(key));
            }
        }
        if has(annotation_keys::DOSSIER_META_PATH) {
            self.sets_meta_path = true;
        }
        Ok(())
    }
}

impl PodmanOption {
    fn text(&self) -> Result<&str, PodmanRefusal> {
        let value = self.value.as_ref().map(|value| value.to_str());
        match value {
            Some(Some(text)) => Ok(text),
            Some(None) => Err(PodmanRefusal::NotText(self.name)),
            None => Err(PodmanRefusal::MissingValue(self.name)),
        }
    }

    /// Returns `false` only for a value that switches the option off, in Go's notation.
    fn is_on(&self) -> Result<bool, PodmanRefusal> {
        const OFF: [&str; 6] = ["0", "f", "F", "false", "FALSE", "False"];
        match &self.value {
            None => Ok(true),
            Some(_) => Ok(!OFF.contains(&self.text()?)),
        }
    }
}

fn check_capabilities(list: &str) -> Result<(), PodmanRefusal> {
    for name in list.split(',') {
        let upper = name.trim().trim_matches('"').to_ascii_uppercase();
        let short = upper.strip_prefix("CAP_").unwrap_or(&upper);
        if REFUSED_CAPABILITIES.contains(&short) {
            return Err(PodmanRefusal::Capability(short.to_owned()));
        }
    }
    Ok(())
}

fn check_runtime(path: &str) -> Result<(), PodmanRefusal> {
    let name = path.rsplit('/').next().unwrap_or_default();
    if KNOWN_RUNTIMES.contains(&name) {
        Ok(())
    } else {
        Err(PodmanRefusal::Runtime(path.to_owned()))
    }
}
