// SPDX-License-Identifier: Apache-2.0
//! systemd, as the manager of this process: `sd_notify(3)`, and the descriptors that it passes and
//! keeps, `sd_listen_fds(3)`, `sd_pid_notify_with_fds(3)`.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use sd_notify::NotifyState;

/// The descriptors that the service manager has passed to this process, with their names.
#[derive(Debug, Default)]
pub(crate) struct PassedFiles(Vec<(String, OwnedFd)>);

impl PassedFiles {
    /// Takes the descriptors over, before this process opens files of its own; empty without a
    /// service manager.
    pub(crate) fn take_over() -> io::Result<Self> {
        let passed: Vec<_> = sd_notify::listen_fds_with_names()?.collect();
        let numbers: Vec<_> = passed.iter().map(|(number, _)| *number).collect();
        let files = netns::adopt_inherited_fds(&numbers)?;
        let names = passed.into_iter().map(|(_, name)| name);
        Ok(Self(names.zip(files).collect()))
    }

    /// Removes and returns the first descriptor with this name.
    pub(crate) fn take(&mut self, name: &str) -> Option<OwnedFd> {
        let at = self.0.iter().position(|(known, _)| known == name)?;
        Some(self.0.swap_remove(at).1)
    }

    /// Removes and returns all descriptors with this name.
    pub(crate) fn take_all(&mut self, name: &str) -> Vec<OwnedFd> {
        std::iter::from_fn(|| self.take(name)).collect()
    }
}

/// Has the service manager keep a copy of `file` for a process that it starts after this one has
/// failed. Nothing is kept without a service manager.
pub(crate) fn keep_file(name: &str, file: impl AsFd) -> io::Result<()> {
    // A descriptor without something to wait for, such as of a namespace, is kept as well.
    let state = [NotifyState::FdStore, NotifyState::FdName(name)];
    sd_notify::notify_with_fds(&state, &[file.as_fd()])
}

/// Reports that the process serves; nothing without a service manager.
pub(crate) fn report_ready(status: &str) -> io::Result<()> {
    let state = [NotifyState::Ready, NotifyState::Status(status)];
    sd_notify::notify(&state)
}
