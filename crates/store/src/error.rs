// SPDX-License-Identifier: Apache-2.0
//! Errors of the store. Each names the file and what to do.

use std::io;
use std::path::{Path, PathBuf};

use policy::{ProfileName, RuleEditError, RuleFileError};

use crate::ProjectPathError;

/// A rule file cannot be read or written. Nothing was changed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RuleStoreError {
    /// A file or directory cannot be used.
    #[error("cannot use {}", path.display())]
    File {
        /// The path.
        path: PathBuf,
        /// What is wrong, and what to do.
        #[source]
        problem: FileProblem,
    },
    /// A path cannot be the directory of a project.
    #[error(transparent)]
    Project(#[from] ProjectPathError),
    /// A rule cannot be written.
    #[error("cannot change {}", path.display())]
    Edit {
        /// The path.
        path: PathBuf,
        /// The reason.
        #[source]
        source: RuleEditError,
    },
    /// No profile has this name.
    #[error(
        "there is no profile \"{name}\": `terok-clearance profile list` lists them; your own are \
         files {}/NAME.rules",
        directory.display()
    )]
    NoProfile {
        /// The name.
        name: ProfileName,
        /// The directory of the operator's profiles.
        directory: PathBuf,
    },
    /// No bundled profile has this name.
    #[error("there is no bundled profile \"{0}\": `terok-clearance profile list` lists them")]
    NoBundledProfile(ProfileName),
    /// A profile exists in both formats.
    #[error(
        "the profile {name} is both {} and {}: remove one of them",
        rules.display(),
        text.display()
    )]
    TwoProfiles {
        /// The name.
        name: ProfileName,
        /// The file of this program's format.
        rules: PathBuf,
        /// The file of terok-shield's format.
        text: PathBuf,
    },
}

/// What is wrong with a file or directory, and what to do.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FileProblem {
    /// The file or directory is a symbolic link.
    #[error("it is a symbolic link: replace it by what it leads to")]
    SymbolicLink,
    /// The file is a directory, a pipe or a device.
    #[error("it is not a regular file: move it away")]
    NotRegular,
    /// The path of a directory leads to something else.
    #[error("it is not a directory: move it away")]
    NotDirectory,
    /// Another user owns the file.
    #[error("user {owner} owns it: copy it, and replace it by your copy")]
    OtherOwner {
        /// The user id of the owner.
        owner: u32,
    },
    /// Other users may write the file.
    #[error("other users may change it (mode {mode:o}): look at its rules, then `chmod go-w` it")]
    OthersWrite {
        /// The permissions.
        mode: u32,
    },
    /// The file has wrong lines, or is too large.
    #[error(transparent)]
    Rules(#[from] RuleFileError),
    /// The first line of a project's file does not name the project.
    #[error(
        "its first line is not `{expected}`: it belongs to another project, or was changed; \
         correct the line, or move the file away"
    )]
    OtherProject {
        /// The first line that the file must have.
        expected: String,
    },
    /// The first line of a project's file does not fit to the file's name.
    #[error(
        "its first line does not name the project of this file: correct it, or move the file away"
    )]
    NoProject,
    /// Another program holds the lock.
    #[error("another program has been changing rules for {seconds} s: try again, or end it")]
    Locked {
        /// The time of the wait.
        seconds: u64,
    },
    /// The disk or the user's quota is full.
    #[error("no space is left, and nothing was changed: free some, and repeat the answer")]
    NoSpace(#[source] io::Error),
    /// A system call failed.
    #[error("{doing}: {source}")]
    Io {
        /// What was done.
        doing: &'static str,
        /// The error of the kernel.
        source: io::Error,
    },
}

impl FileProblem {
    pub(crate) fn io(doing: &'static str, error: impl Into<io::Error>) -> Self {
        let source = error.into();
        match source.kind() {
            io::ErrorKind::StorageFull
            | io::ErrorKind::QuotaExceeded
            | io::ErrorKind::FileTooLarge => Self::NoSpace(source),
            _ => Self::Io { doing, source },
        }
    }

    pub(crate) fn at(self, path: &Path) -> RuleStoreError {
        RuleStoreError::File {
            path: path.to_owned(),
            problem: self,
        }
    }
}

impl RuleStoreError {
    /// Returns the file or directory that the error is about.
    pub fn path(&self) -> Option<&Path> {
        match self {
            Self::File { path, .. } | Self::Edit { path, .. } => Some(path),
            Self::TwoProfiles { rules, .. } => Some(rules),
            Self::NoProfile { .. } | Self::NoBundledProfile(_) | Self::Project(_) => None,
        }
    }

    /// Returns the wrong lines of a file, if these are the error.
    pub fn rule_file_error(&self) -> Option<&RuleFileError> {
        match self {
            Self::File {
                problem: FileProblem::Rules(error),
                ..
            } => Some(error),
            _ => None,
        }
    }
}
