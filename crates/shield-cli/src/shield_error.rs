// SPDX-License-Identifier: Apache-2.0
//! The errors of the verbs.

use std::io;
use std::path::PathBuf;

use terok_clearance::DisplayText;

use crate::container_dnsmasq::DnsmasqError;
use crate::file_config::ShieldConfigError;
use crate::launch::LaunchError;
use crate::namespace_firewall::FirewallError;
use crate::oci_hook::OciHookError;
use crate::program_runner::ProgramError;
use crate::shield_container::{FindContainerError, ShieldContainerName};
use crate::shield_profiles::ShieldProfileError;
use crate::state_bundle::StateBundleError;

/// A verb failed. Unless the error says otherwise, nothing has changed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ShieldVerbError {
    /// The configuration cannot be used.
    #[error(transparent)]
    Config(#[from] ShieldConfigError),
    /// The container was not found.
    #[error(transparent)]
    Find(#[from] FindContainerError),
    /// The container does not run.
    #[error("container '{0}' does not run")]
    NotRunning(ShieldContainerName),
    /// The state directory does not say how names are looked up.
    #[error("container '{0}' has no DNS tier in its state directory: it was not prepared")]
    NotPrepared(ShieldContainerName),
    /// A file of the container cannot be used.
    #[error(transparent)]
    State(#[from] StateBundleError),
    /// A profile cannot be used.
    #[error(transparent)]
    Profile(#[from] ShieldProfileError),
    /// The firewall cannot be read or changed.
    #[error(transparent)]
    Firewall(#[from] FirewallError),
    /// dnsmasq was not restarted.
    #[error(transparent)]
    Dnsmasq(#[from] DnsmasqError),
    /// The container cannot be prepared or started.
    #[error(transparent)]
    Launch(#[from] LaunchError),
    /// A hook failed, or was not installed.
    #[error(transparent)]
    Hook(#[from] OciHookError),
    /// The target is no destination.
    #[error("{0:?} is neither a name, an address nor a network")]
    Target(DisplayText),
    /// A name with `*.` has no address of its own.
    #[error(
        "{name} stands for all names below it, which needs a dnsmasq that adds answers to the \
         sets; this container looks names up once ({tier})"
    )]
    Wildcard {
        /// The name.
        name: String,
        /// The tier of the container.
        tier: String,
    },
    /// The name has no addresses.
    #[error("No IPs {action} for {container}: {name} has no address")]
    NoAddress {
        /// `allowed` or `denied`.
        action: &'static str,
        /// The container.
        container: ShieldContainerName,
        /// The name.
        name: String,
    },
    /// An address was opened, and could not be closed after a later step failed.
    #[error("the allow failed and could not be undone ({undo}): deny {target} again")]
    NotUndone {
        /// The target.
        target: String,
        /// Why it was not undone.
        undo: String,
        /// The first failure.
        #[source]
        source: Box<Self>,
    },
    /// A deny is recorded, and the firewall that runs was not changed.
    #[error(
        "{target} is denied from the next `up` or start on, but the running firewall still has its \
         earlier rules"
    )]
    DenyRecorded {
        /// The target.
        target: String,
        /// The failure.
        #[source]
        source: Box<Self>,
    },
    /// Another verb changes the container.
    #[error("another program has been changing this container for too long")]
    Locked,
    /// The state directory cannot be locked.
    #[error("cannot lock {}", path.display())]
    Lock {
        /// The directory.
        path: PathBuf,
        /// The kernel error.
        #[source]
        source: io::Error,
    },
    /// The resolver of the container is not known.
    #[error("the resolver of container '{0}' is recorded neither in upstream.dns nor resolv.conf")]
    NoResolver(ShieldContainerName),
    /// A value of the state directory is not usable.
    #[error("{} has {found:?}, which is not {expected}", path.display())]
    Value {
        /// The file.
        path: PathBuf,
        /// The value.
        found: DisplayText,
        /// What is expected.
        expected: &'static str,
    },
    /// The record cannot be read.
    #[error("cannot read the record")]
    Record(#[source] io::Error),
    /// The output cannot be written.
    #[error("cannot write to standard output")]
    WriteOutput(#[source] io::Error),
}

impl ShieldVerbError {
    /// Returns `true` if a program was ended because it took too long.
    pub(crate) const fn is_timeout(&self) -> bool {
        matches!(
            self,
            Self::Firewall(FirewallError::Program(ProgramError::TimedOut { .. }))
        )
    }
}
