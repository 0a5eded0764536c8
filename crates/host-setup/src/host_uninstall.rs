// SPDX-License-Identifier: Apache-2.0
//! Removes what a setup has installed.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use containers::host_layout::{
    HOOK_ERROR_LOG, NOTIFIER_UNIT, SOCKET_UNIT, START_SOCKET, SUPERVISOR_UNIT,
};

use crate::apparmor::ApparmorParser;
use crate::containers_conf_change::{ConfRemoval, plan_removal};
use crate::host_setup::{HostContext, HostSetupError, remove_leftovers};
use crate::installed_file::{DiskEntry, remove_empty_directory, remove_file};
use crate::manifest::{ManifestEntry, ManifestFile};
use crate::setup_event::{EventSink, PathChange, SetupEvent, SetupPart};
use crate::{
    APPARMOR_PROFILE, CLASSIC_NOTIFIER_UNIT, HUB_UNIT, ManifestError, Systemctl, VERDICT_UNIT,
};

/// The targets that start units, and their directories of links.
const WANTS_DIRECTORIES: [&str; 2] = ["default.target.wants", "sockets.target.wants"];

/// The removal of an installation.
#[derive(Debug, Clone)]
pub struct HostUninstall {
    /// The host.
    pub host: HostContext,
    /// Only the steps are reported.
    pub dry_run: bool,
}

impl HostUninstall {
    /// Returns the supervisors that run, each the name of a unit or the path of a socket.
    pub fn running_supervisors(&self) -> Vec<String> {
        let Some(systemctl) = self.host.supervisor_manager() else {
            let socket = self.host.directories.runtime.join(START_SOCKET);
            let is_bound = is_socket_bound(&self.host.root, &socket);
            return is_bound
                .then(|| socket.display().to_string())
                .into_iter()
                .collect();
        };
        let pattern = SUPERVISOR_UNIT.replace('@', "@*");
        systemctl.list_running(&pattern).unwrap_or_else(|error| {
            tracing::warn!(%error, "cannot list the supervisors");
            Vec::new()
        })
    }

    /// Removes everything that was installed and not changed since. Returns `false` if nothing was
    /// installed.
    pub fn run(&self, events: EventSink<'_>) -> Result<bool, HostSetupError> {
        let mut list = ManifestFile::open(&self.host.directories)?;
        if !list.exists() {
            if !self.dry_run {
                list.remove_leftover()?;
            }
            return Ok(false);
        }
        if !self.dry_run {
            remove_leftovers(&list.manifest, events);
        }
        // The hooks first: containers that start from now on are not guarded, and say so.
        self.restore_containers_conf(&mut list, events)?;
        let mut entries = list.manifest.entries().to_vec();
        entries.reverse();
        for entry in &entries {
            remove_entry(&self.host, entry, self.dry_run, &mut list, events)?;
        }
        if self.dry_run {
            return Ok(true);
        }
        self.reload_managers(&entries, events);
        self.clear_runtime_dir(events);
        for path in list.finish_removal()? {
            tracing::debug!(path = %path.display(), "removed an empty directory");
        }
        Ok(true)
    }

    fn restore_containers_conf(
        &self,
        list: &mut ManifestFile,
        events: EventSink<'_>,
    ) -> Result<(), ManifestError> {
        let part = SetupPart::ContainersConf;
        let Some(entry) = list.manifest.containers_conf().cloned() else {
            return Ok(());
        };
        let removal = match plan_removal(&entry) {
            Ok(removal) => removal,
            Err(error) => {
                events(SetupEvent::failed(part, &error));
                return Ok(());
            }
        };
        if !self.dry_run {
            if let Err(error) = removal.apply(&entry.path) {
                events(SetupEvent::failed(part, &error));
                return Ok(());
            }
            list.manifest.set_containers_conf(None);
            list.save()?;
        }
        let change = match removal {
            ConfRemoval::Gone => PathChange::Unchanged,
            ConfRemoval::RemoveFile => PathChange::Removed,
            ConfRemoval::Write(_) => PathChange::Restored,
        };
        let path = entry.path;
        events(SetupEvent::Path { part, path, change });
        Ok(())
    }

    fn reload_managers(&self, entries: &[ManifestEntry], events: EventSink<'_>) {
        let mut parts: Vec<_> = entries
            .iter()
            .map(|entry| part_of(entry.path()))
            .filter(|part| unit_parts().contains(part))
            .collect();
        parts.sort();
        let mut reloaded: Vec<Systemctl> = Vec::new();
        for part in parts {
            let Some(systemctl) = self.host.manager_of(part) else {
                continue;
            };
            if reloaded.contains(&systemctl) {
                continue;
            }
            call(part, &systemctl, &["daemon-reload"], events);
            reloaded.push(systemctl);
        }
    }

    /// Removes the messages of the hooks and the directories of the start socket.
    fn clear_runtime_dir(&self, events: EventSink<'_>) {
        let runtime = &self.host.directories.runtime;
        let mut failed = |error| events(SetupEvent::failed(SetupPart::Bookkeeping, &error));
        if let Err(error) = remove_file(&runtime.join(HOOK_ERROR_LOG)) {
            failed(error);
        }
        let containers = runtime.join(HOOK_ERROR_LOG);
        for directory in containers
            .ancestors()
            .skip(1)
            .take_while(|one| *one != runtime)
        {
            if let Err(error) = remove_empty_directory(directory) {
                failed(error);
            }
        }
    }
}

const fn unit_parts() -> [SetupPart; 3] {
    [
        SetupPart::Supervisor,
        SetupPart::Notifier,
        SetupPart::ClassicHub,
    ]
}

/// Stops and removes an installed file or link, unless it was changed.
pub(crate) fn remove_entry(
    host: &HostContext,
    entry: &ManifestEntry,
    is_dry_run: bool,
    list: &mut ManifestFile,
    events: EventSink<'_>,
) -> Result<(), ManifestError> {
    let path = entry.path();
    let part = part_of(path);
    let found = match DiskEntry::at(path) {
        Ok(found) => found,
        Err(error) => {
            events(SetupEvent::failed(part, &error));
            return Ok(());
        }
    };
    if found != DiskEntry::Missing && !entry.matches(&found) {
        let change = PathChange::KeptChanged;
        let path = path.to_owned();
        events(SetupEvent::Path { part, path, change });
        return Ok(());
    }
    let unit = path.file_name().and_then(OsStr::to_str);
    if let Some(unit) = unit.filter(|_| unit_parts().contains(&part)) {
        stop_unit(host, part, unit, path, is_dry_run, events);
    }
    if part == SetupPart::Apparmor && found != DiskEntry::Missing {
        unload_apparmor(host, path, is_dry_run, events);
    }
    if !is_dry_run {
        if let Err(error) = remove_file(path) {
            events(SetupEvent::failed(part, &error));
            return Ok(());
        }
        list.manifest.remove(path);
        list.save()?;
    }
    let change = PathChange::Removed;
    let path = path.to_owned();
    events(SetupEvent::Path { part, path, change });
    Ok(())
}

/// Stops a unit, also if its file is missing: links to it may be left.
fn stop_unit(
    host: &HostContext,
    part: SetupPart,
    unit: &str,
    path: &Path,
    is_dry_run: bool,
    events: EventSink<'_>,
) {
    if unit.contains('@') {
        return;
    }
    if let Some(systemctl) = host.manager_of(part) {
        let arguments = ["disable", "--now", unit];
        if is_dry_run {
            let command = systemctl.describe(&arguments);
            events(SetupEvent::Command { part, command });
            return;
        }
        call(part, &systemctl, &arguments, events);
    }
    if is_dry_run {
        return;
    }
    for name in WANTS_DIRECTORIES {
        let directory = path.with_file_name(name);
        let link = directory.join(unit);
        let is_ours = std::fs::read_link(&link).is_ok_and(|target| target == path);
        if is_ours {
            let removed = remove_file(&link).and_then(|_| remove_empty_directory(&directory));
            if let Err(error) = removed {
                events(SetupEvent::failed(part, &error));
            }
        }
    }
}

fn unload_apparmor(host: &HostContext, path: &Path, is_dry_run: bool, events: EventSink<'_>) {
    let part = SetupPart::Apparmor;
    let Some(parser) = host.apparmor_parser.clone() else {
        return;
    };
    let command = format!("apparmor_parser --remove {}", path.display());
    if is_dry_run {
        events(SetupEvent::Command { part, command });
        return;
    }
    events(match ApparmorParser::new(parser).unload(path) {
        Ok(()) => SetupEvent::Command { part, command },
        Err(message) => SetupEvent::Failed {
            part,
            message: format!("`{command}` failed: {message}"),
        },
    });
}

fn call(part: SetupPart, systemctl: &Systemctl, arguments: &[&str], events: EventSink<'_>) {
    events(match systemctl.call(arguments) {
        Ok(()) => SetupEvent::Command {
            part,
            command: systemctl.describe(arguments),
        },
        Err(error) => SetupEvent::failed(part, &error),
    });
}

/// Returns the part of an installed file, by its name.
pub(crate) fn part_of(path: &Path) -> SetupPart {
    let name = path.file_name().and_then(OsStr::to_str).unwrap_or_default();
    let directory = path
        .parent()
        .and_then(Path::file_name)
        .and_then(OsStr::to_str);
    let extension = path.extension().and_then(OsStr::to_str).unwrap_or_default();
    match (name, directory.unwrap_or_default(), extension) {
        (SOCKET_UNIT | SUPERVISOR_UNIT, ..) => SetupPart::Supervisor,
        (NOTIFIER_UNIT | CLASSIC_NOTIFIER_UNIT, ..) => SetupPart::Notifier,
        (HUB_UNIT | VERDICT_UNIT, ..) => SetupPart::ClassicHub,
        (APPARMOR_PROFILE, "apparmor.d", _) => SetupPart::Apparmor,
        (_, "man1", _) => SetupPart::ManPages,
        (_, "hooks.d", _) => SetupPart::Hooks,
        (_, _, "svg") => SetupPart::Icon,
        (_, "completions" | "site-functions" | "vendor_completions.d", _) => SetupPart::Completions,
        _ => SetupPart::ProgramNames,
    }
}

/// Returns `true` if a process listens at `socket`, which is not connected to: that could start a
/// supervisor.
fn is_socket_bound(root: &Path, socket: &Path) -> bool {
    let table = std::fs::read_to_string(root.join("proc/net/unix")).unwrap_or_default();
    let is_same = |line: &str| {
        let path = line.split_once(" /").map(|(_, path)| format!("/{path}"));
        path.map(PathBuf::from).is_some_and(|path| path == socket)
    };
    table.lines().any(is_same)
}
