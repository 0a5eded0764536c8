// SPDX-License-Identifier: Apache-2.0
//! Turns a command line of `podman run` or `podman create` into one whose container is guarded.
//! Pure.
//!
//! [`PodmanCommandLine::parse`] finds the image, [`PodmanCommandLine::check`] refuses what defeats
//! the guard, and [`GuardableCommand::guard`] adds the guard's arguments before all others: an
//! option that this module reads differently than podman does not move them behind the image. The
//! hook checks the container's configuration once more.

mod command_line;
mod mount_source;
mod option_table;
mod refusal;

use std::ffi::{OsStr, OsString};
use std::path::PathBuf;

use egress::publish::PublishSpec;

use crate::annotation_keys;
use crate::start_request::ContainerNetwork;

pub use command_line::{PodmanCommandLine, PodmanOption};
pub use refusal::{NetworkOptions, PodmanRefusal};

/// The command of podman.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PodmanVerb {
    /// `podman run`.
    Run,
    /// `podman create`.
    Create,
}

/// The pod of a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PodChoice {
    /// `--pod new:NAME`: podman makes it, with the network of the container.
    New,
    /// A pod that exists, and has a network already. The caller checks it.
    Existing(String),
}

/// A command line with nothing in it that defeats the guard.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GuardableCommand {
    verb: PodmanVerb,
    options: Vec<PodmanOption>,
    image: OsString,
    rest: Vec<OsString>,
    publish: Vec<PublishSpec>,
    pod: Option<PodChoice>,
    name: Option<String>,
    sets_http_proxy: bool,
    sets_meta_path: bool,
}

/// What the guard of a container needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GuardArguments {
    /// The way out.
    pub network: ContainerNetwork,
    /// The signed policy.
    pub policy: String,
    /// Directories of hooks for `--hooks-dir`; empty if podman's configuration names ours.
    pub hooks_directories: Vec<PathBuf>,
    /// The operator's environment names a proxy, which podman would pass on.
    pub has_proxy_variables: bool,
}

/// Arguments that the guard needs, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AddedArguments {
    /// The arguments.
    pub words: Vec<OsString>,
    /// The reason, for people.
    pub reason: &'static str,
}

/// The arguments of podman for a guarded container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GuardedCommand {
    /// All arguments.
    pub arguments: Vec<OsString>,
    /// What was added, in the order of the arguments.
    pub added: Vec<AddedArguments>,
}

impl PodmanVerb {
    /// Returns podman's name of the command.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Run => "run",
            Self::Create => "create",
        }
    }
}

impl GuardableCommand {
    /// Returns the ports that the supervisor publishes: podman would drop them.
    pub fn publish(&self) -> &[PublishSpec] {
        &self.publish
    }

    /// Returns the pod.
    pub const fn pod(&self) -> Option<&PodChoice> {
        self.pod.as_ref()
    }

    /// Returns the command for a pod whose containers have a network each.
    #[must_use]
    pub fn with_own_network(mut self) -> Self {
        self.pod = None;
        self
    }

    /// Returns the name of the container, `--name`.
    pub fn name(&self) -> Option<&str> {
        self.name.as_deref()
    }

    /// Returns the image.
    pub fn image(&self) -> &OsStr {
        &self.image
    }

    /// Returns the arguments of podman that start the guarded container.
    pub fn guard(&self, guard: &GuardArguments) -> GuardedCommand {
        let added = self.added_arguments(guard);
        let mut arguments = vec![OsString::from(self.verb.as_str())];
        arguments.extend(added.iter().flat_map(|added| added.words.iter().cloned()));
        let options = self.options.iter().flat_map(|option| &option.words);
        arguments.extend(options.cloned());
        if self.image.as_encoded_bytes().starts_with(b"-") {
            arguments.push("--".into());
        }
        arguments.push(self.image.clone());
        arguments.extend(self.rest.iter().cloned());
        GuardedCommand { arguments, added }
    }

    fn added_arguments(&self, guard: &GuardArguments) -> Vec<AddedArguments> {
        let mut added = Vec::new();
        let mut add = |words: Vec<OsString>, reason| added.push(AddedArguments { words, reason });
        if !matches!(self.pod, Some(PodChoice::Existing(_))) {
            let words = vec!["--network".into(), "none".into()];
            add(
                words,
                "no way out but the hook's: without the hook there is none",
            );
        }
        let words = vec!["--cap-drop".into(), "net_raw,net_admin".into()];
        add(
            words,
            "with these capabilities a process goes around the firewall",
        );
        for annotation in annotations(guard.network, &guard.policy, !self.sets_meta_path) {
            let words = vec!["--annotation".into(), annotation.text.into()];
            add(words, annotation.reason);
        }
        if guard.has_proxy_variables && !self.sets_http_proxy {
            add(
                vec!["--http-proxy=false".into()],
                "a proxy inside the container would be one destination for everything",
            );
        }
        if !guard.hooks_directories.is_empty() {
            let directories = guard.hooks_directories.iter();
            let words = directories.flat_map(|path| ["--hooks-dir".into(), path.into()]);
            add(
                words.collect(),
                "podman's configuration does not name the directory of the hooks",
            );
        }
        added
    }
}

/// An annotation that the guard needs, `KEY=VALUE`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GuardAnnotation {
    /// The annotation.
    pub text: String,
    /// The reason, for people.
    pub reason: &'static str,
}

/// Returns the annotations of a guarded container. Each key is set, so that no value of the image
/// counts.
pub fn annotations(
    network: ContainerNetwork,
    policy: &str,
    clears_meta_path: bool,
) -> Vec<GuardAnnotation> {
    let mut all = vec![
        GuardAnnotation {
            text: format!("{}={}", annotation_keys::NETWORK, network.as_str()),
            reason: "selects the hooks, and says how allowed connections leave",
        },
        GuardAnnotation {
            text: format!("{}={policy}", annotation_keys::POLICY),
            reason: "what is allowed from the start, signed with your key",
        },
    ];
    if clears_meta_path {
        all.push(GuardAnnotation {
            text: format!("{}=", annotation_keys::DOSSIER_META_PATH),
            reason: "no file that the image names describes the container",
        });
    }
    all
}

#[cfg(test)]
mod tests;
