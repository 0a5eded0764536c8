// SPDX-License-Identifier: Apache-2.0
//! What setup and uninstall report.

use std::error::Error;
use std::path::PathBuf;

use crate::ItemDecision;

/// A part of an installation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum SetupPart {
    /// A unit of releases before 0.6.
    LegacyUnit,
    /// The start socket and the supervisors.
    Supervisor,
    /// The popups.
    Notifier,
    /// The classic hub and its verdict helper.
    ClassicHub,
    /// Other names of the program.
    ProgramNames,
    /// Completions of shells.
    Completions,
    /// Manual pages.
    ManPages,
    /// The icon of the popups.
    Icon,
    /// The `AppArmor` profile.
    Apparmor,
    /// The OCI hooks.
    Hooks,
    /// The hooks directory in podman's configuration.
    ContainersConf,
    /// Directories, and the list of what was installed.
    Bookkeeping,
}

impl SetupPart {
    /// Returns the name for programs.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::LegacyUnit => "legacy-unit",
            Self::Supervisor => "supervisor",
            Self::Notifier => "notifier",
            Self::ClassicHub => "classic-hub",
            Self::ProgramNames => "program-names",
            Self::Completions => "completions",
            Self::ManPages => "man-pages",
            Self::Icon => "icon",
            Self::Apparmor => "apparmor",
            Self::Hooks => "hooks",
            Self::ContainersConf => "containers-conf",
            Self::Bookkeeping => "bookkeeping",
        }
    }

    /// Returns `true` if containers are not guarded, or nothing asks, without this part.
    pub const fn is_required(self) -> bool {
        !matches!(
            self,
            Self::ProgramNames | Self::Completions | Self::ManPages | Self::Icon
        )
    }
}

/// What happened to a file, link or directory, or would happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PathChange {
    /// It was written, and did not exist.
    Created,
    /// It was replaced.
    Replaced,
    /// It is as it should be.
    Unchanged,
    /// It was removed.
    Removed,
    /// One entry was removed from it.
    Restored,
    /// The user has changed it since it was installed: it stays.
    KeptChanged,
    /// Another program or the user wrote it: it stays.
    KeptForeign,
}

impl PathChange {
    /// Returns the name for programs.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Replaced => "replaced",
            Self::Unchanged => "unchanged",
            Self::Removed => "removed",
            Self::Restored => "restored",
            Self::KeptChanged => "kept-changed",
            Self::KeptForeign => "kept-foreign",
        }
    }
}

impl From<ItemDecision> for PathChange {
    fn from(decision: ItemDecision) -> Self {
        match decision {
            ItemDecision::Create => Self::Created,
            ItemDecision::Replace => Self::Replaced,
            ItemDecision::Unchanged => Self::Unchanged,
            ItemDecision::KeepChanged => Self::KeptChanged,
            ItemDecision::KeepForeign => Self::KeptForeign,
        }
    }
}

/// One step of a setup or uninstall. In a dry run, the step that would be taken.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum SetupEvent {
    /// A file, link or directory.
    Path {
        /// The part.
        part: SetupPart,
        /// The path.
        path: PathBuf,
        /// What happened.
        change: PathChange,
    },
    /// A command of another program that succeeded.
    Command {
        /// The part.
        part: SetupPart,
        /// The command.
        command: String,
    },
    /// A part was left out.
    Skipped {
        /// The part.
        part: SetupPart,
        /// The reason.
        reason: String,
    },
    /// A step failed; the others were taken all the same.
    Failed {
        /// The part.
        part: SetupPart,
        /// The error with its causes.
        message: String,
    },
}

impl SetupEvent {
    pub(crate) fn failed(part: SetupPart, error: &dyn Error) -> Self {
        let causes = std::iter::successors(Some(error), |error| Error::source(*error));
        let texts: Vec<_> = causes.map(ToString::to_string).collect();
        Self::Failed {
            part,
            message: texts.join(": "),
        }
    }

    /// Returns the part.
    pub const fn part(&self) -> SetupPart {
        match self {
            Self::Path { part, .. }
            | Self::Command { part, .. }
            | Self::Skipped { part, .. }
            | Self::Failed { part, .. } => *part,
        }
    }

    /// Returns `true` if something is not as it should be: a step failed, or a file that the
    /// parts need is another program's.
    pub fn is_problem(&self) -> bool {
        match self {
            Self::Failed { .. } => true,
            Self::Path { part, change, .. } => {
                let is_kept = matches!(change, PathChange::KeptChanged | PathChange::KeptForeign);
                is_kept && part.is_required()
            }
            Self::Command { .. } | Self::Skipped { .. } => false,
        }
    }
}

/// Receives the steps.
pub type EventSink<'a> = &'a mut dyn FnMut(SetupEvent);
