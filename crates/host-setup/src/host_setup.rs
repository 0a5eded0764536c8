// SPDX-License-Identifier: Apache-2.0
//! Installs the parts on a host.

use std::path::{Path, PathBuf};

use containers::host_layout::SOCKET_UNIT;

use crate::apparmor::ApparmorParser;
use crate::classic_units::retire_legacy_unit;
use crate::containers_conf_change::{ConfPlan, plan_addition};
use crate::host_uninstall::{part_of, remove_entry};
use crate::installed_file::{DiskEntry, WriteMode, remove_leftover, write_file, write_link};
use crate::manifest::{InstallManifest, ItemContent, ManifestEntry, ManifestFile, decide};
use crate::setup_event::{EventSink, PathChange, SetupEvent, SetupPart};
use crate::setup_items::{ItemCollector, SetupAssets, SetupItem};
use crate::unit_files::is_stamped;
use crate::{
    HookProgram, HostDirectories, ItemDecision, ManifestError, SetupScope, Systemctl, UnitManager,
    UnitProgramError,
};

/// Whether the popups are installed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NotifierChoice {
    /// They are installed.
    Install,
    /// They are left as they are, for this reason.
    Leave {
        /// The reason.
        reason: String,
    },
    /// They are not installed, and removed if they are.
    Remove,
}

/// What a setup installs.
#[derive(Debug, Clone)]
pub struct SetupOptions {
    /// Only the steps are reported.
    pub dry_run: bool,
    /// Whether the popups are installed.
    pub notifier: NotifierChoice,
    /// Whether the classic hub and verdict helper are installed.
    pub is_classic: bool,
}

/// The host as setup and uninstall see it.
#[derive(Debug, Clone)]
pub struct HostContext {
    /// The places of the parts.
    pub directories: HostDirectories,
    /// The root directory of the machine, `/` but in tests.
    pub root: PathBuf,
    /// The directories in which a shell finds programs.
    pub search_path: Vec<PathBuf>,
    /// The program `systemctl`, if there is one.
    pub systemctl: Option<PathBuf>,
    /// The program `apparmor_parser`, if there is one.
    pub apparmor_parser: Option<PathBuf>,
}

impl HostContext {
    /// Returns the manager of the supervisor's units, if it runs.
    pub(crate) fn supervisor_manager(&self) -> Option<Systemctl> {
        let manager = match self.directories.scope {
            SetupScope::Machine => UnitManager::System,
            SetupScope::User => return self.running_user_manager(),
        };
        self.running_manager(manager)
    }

    /// Returns the caller's user manager, if it runs.
    pub fn running_user_manager(&self) -> Option<Systemctl> {
        let runtime_dir = self.directories.user_runtime.clone();
        self.running_manager(UnitManager::User { runtime_dir })
    }

    fn running_manager(&self, manager: UnitManager) -> Option<Systemctl> {
        let systemctl = Systemctl::new(self.systemctl.clone()?, manager);
        systemctl
            .is_manager_running(&self.root)
            .then_some(systemctl)
    }

    pub(crate) fn manager_of(&self, part: SetupPart) -> Option<Systemctl> {
        match part {
            SetupPart::Supervisor => self.supervisor_manager(),
            _ => self.running_user_manager(),
        }
    }
}

/// A setup or uninstall was not begun, or its list not written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HostSetupError {
    /// The list of installed files cannot be used.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    /// The program cannot be written in a unit file.
    #[error(transparent)]
    Program(#[from] UnitProgramError),
    /// A path of the host is not UTF-8.
    #[error("{} is not UTF-8", path.display())]
    NotText {
        /// The path.
        path: PathBuf,
    },
}

/// A setup of a host.
#[derive(Debug, Clone)]
pub struct HostSetup {
    /// The host.
    pub host: HostContext,
    /// The program that hooks and units execute.
    pub program: HookProgram,
    /// Completions, manual pages, icon and names.
    pub assets: SetupAssets,
    /// What is installed.
    pub options: SetupOptions,
}

impl HostSetup {
    /// Installs what is missing or outdated, and removes what an earlier setup has installed and
    /// this one does not. A step that fails is reported, and the others are taken.
    pub fn run(&self, events: EventSink<'_>) -> Result<(), HostSetupError> {
        let mut list = ManifestFile::open(&self.host.directories)?;
        let items = self.collect_items(&list.manifest, events)?;
        if !self.options.dry_run {
            // Makes the state directory, and with it the lock of this setup.
            list.save()?;
            remove_leftovers(&list.manifest, events);
        }
        retire_legacy_unit(
            &self.host.directories.user_units,
            self.host.running_user_manager().as_ref(),
            self.options.dry_run,
            events,
        );
        self.remove_stale(&items, &mut list, events)?;
        let is_last = |item: &&SetupItem| item.part == SetupPart::Hooks;
        let mut changed = Vec::new();
        let (hooks, others): (Vec<_>, Vec<_>) = items.iter().partition(is_last);
        for item in others {
            if let Some(change) = self.install(item, &mut list, events)? {
                changed.push((item, change));
            }
        }
        self.start_units(&items, &changed, events);
        self.load_apparmor(&changed, events);
        // The hooks last: they need all the rest.
        let mut are_hooks_right = true;
        for item in hooks {
            let mut watched = |event: SetupEvent| {
                are_hooks_right &= !event.is_problem();
                events(event);
            };
            self.install(item, &mut list, &mut watched)?;
        }
        if are_hooks_right {
            self.change_containers_conf(&mut list, events)?;
        } else {
            let reason = "the hooks are not in place".to_owned();
            let part = SetupPart::ContainersConf;
            events(SetupEvent::Skipped { part, reason });
        }
        Ok(())
    }

    fn collect_items(
        &self,
        manifest: &InstallManifest,
        events: EventSink<'_>,
    ) -> Result<Vec<SetupItem>, HostSetupError> {
        let mut collector = ItemCollector {
            directories: &self.host.directories,
            program: &self.program,
            root: &self.host.root,
            search_path: &self.host.search_path,
            manifest,
            events,
            items: Vec::new(),
        };
        collector.add_units(
            &self.options.notifier,
            self.options.is_classic,
            self.host.supervisor_manager().is_some(),
            self.host.running_user_manager().is_some(),
        )?;
        collector.add_program_names(&self.assets.program_names);
        collector.add_assets(&self.assets);
        collector.add_apparmor();
        collector.add_hooks();
        Ok(collector.items)
    }

    /// Installs a file or link. Returns what was done if it is this program's.
    fn install(
        &self,
        item: &SetupItem,
        list: &mut ManifestFile,
        events: EventSink<'_>,
    ) -> Result<Option<PathChange>, ManifestError> {
        let decision = match DiskEntry::at(&item.path) {
            Ok(found) => self.decide(item, &list.manifest, &found),
            Err(error) => {
                events(SetupEvent::failed(item.part, &error));
                return Ok(None);
            }
        };
        let write_mode = match decision {
            ItemDecision::Create => Some(WriteMode::New),
            ItemDecision::Replace => Some(WriteMode::Replace),
            _ => None,
        };
        if let (Some(mode), false) = (write_mode, self.options.dry_run) {
            if let Err(error) = list.make_directories(&item.path) {
                events(SetupEvent::failed(item.part, &error));
                return Ok(None);
            }
            list.manifest.add(&item.path, &item.content);
            list.save()?;
            let written = match &item.content {
                ItemContent::File(bytes) => write_file(&item.path, bytes, 0o644, mode),
                ItemContent::Link(target) => write_link(&item.path, target, mode),
            };
            if let Err(error) = written {
                events(SetupEvent::failed(item.part, &error));
                return Ok(None);
            }
            list.manifest.settle(&item.path);
            list.save()?;
        } else if decision == ItemDecision::Unchanged && !self.options.dry_run {
            list.manifest.settle(&item.path);
        }
        let change = PathChange::from(decision);
        events(SetupEvent::Path {
            part: item.part,
            path: item.path.clone(),
            change,
        });
        let is_kept = matches!(change, PathChange::KeptChanged | PathChange::KeptForeign);
        Ok((!is_kept).then_some(change))
    }

    fn decide(
        &self,
        item: &SetupItem,
        manifest: &InstallManifest,
        found: &DiskEntry,
    ) -> ItemDecision {
        let known = manifest.entry(&item.path);
        let decision = decide(&item.content, known, found);
        // A classic unit of the Python stack: its stamp says that a setup may replace it.
        let is_classic_unit = self.options.is_classic
            && matches!(item.part, SetupPart::ClassicHub | SetupPart::Notifier);
        match (decision, found) {
            (ItemDecision::KeepForeign, DiskEntry::File { bytes }) if is_classic_unit => {
                let unit = item.path.file_name().and_then(|name| name.to_str());
                let text = String::from_utf8_lossy(bytes);
                match unit {
                    Some(unit) if is_stamped(unit, &text) => ItemDecision::Replace,
                    _ => decision,
                }
            }
            _ => decision,
        }
    }

    /// Removes what an earlier setup has installed and this one does not.
    fn remove_stale(
        &self,
        items: &[SetupItem],
        list: &mut ManifestFile,
        events: EventSink<'_>,
    ) -> Result<(), ManifestError> {
        let is_left = |path: &Path| match (part_of(path), &self.options.notifier) {
            (SetupPart::Notifier, NotifierChoice::Leave { .. }) => true,
            // Without a manager, units cannot be stopped.
            (part @ (SetupPart::Supervisor | SetupPart::Notifier | SetupPart::ClassicHub), _) => {
                self.host.manager_of(part).is_none()
            }
            _ => false,
        };
        let entries = list.manifest.entries().to_vec();
        for entry in entries {
            let path = entry.path();
            if items.iter().any(|item| item.path == path) || is_left(path) {
                continue;
            }
            remove_entry(&self.host, &entry, self.options.dry_run, list, events)?;
        }
        Ok(())
    }

    /// Has systemd read the units and start them.
    fn start_units(
        &self,
        items: &[SetupItem],
        changed: &[(&SetupItem, PathChange)],
        events: EventSink<'_>,
    ) {
        let unit_name = |item: &SetupItem| {
            let is_unit = matches!(
                item.part,
                SetupPart::Supervisor | SetupPart::Notifier | SetupPart::ClassicHub
            );
            let name = item.path.file_name().and_then(|name| name.to_str());
            name.filter(|_| is_unit).map(str::to_owned)
        };
        let is_machine = self.host.directories.scope == SetupScope::Machine;
        let mut managers = vec![vec![SetupPart::Notifier, SetupPart::ClassicHub]];
        if is_machine {
            managers.push(vec![SetupPart::Supervisor]);
        } else if let Some(first) = managers.first_mut() {
            first.insert(0, SetupPart::Supervisor);
        }
        for parts in managers {
            let mut units = items
                .iter()
                .filter(|item| parts.contains(&item.part))
                .peekable();
            let Some(first) = units.peek().map(|item| item.part) else {
                continue;
            };
            let Some(systemctl) = self.host.manager_of(first) else {
                continue;
            };
            let change_of = |item: &SetupItem| {
                let found = changed.iter().find(|(one, _)| one.path == item.path);
                found.map(|(_, change)| *change)
            };
            let mut run = |part, arguments: &[&str]| {
                self.call_systemctl(part, &systemctl, arguments, events);
            };
            let units: Vec<_> = units.collect();
            let is_any_new = units.iter().any(|item| {
                matches!(
                    change_of(item),
                    Some(PathChange::Created | PathChange::Replaced)
                )
            });
            if is_any_new {
                run(first, &["daemon-reload"]);
            }
            for item in units {
                let (Some(unit), Some(change)) = (unit_name(item), change_of(item)) else {
                    continue;
                };
                if unit.contains('@') {
                    continue;
                }
                let is_new = change == PathChange::Created;
                if is_new || !systemctl.is_enabled(&unit) || !systemctl.is_active(&unit) {
                    run(item.part, &["enable", "--now", &unit]);
                }
                // The start socket stays bound: starts in progress are waiting at it.
                if change == PathChange::Replaced && unit != SOCKET_UNIT {
                    run(item.part, &["try-restart", &unit]);
                }
            }
        }
    }

    fn call_systemctl(
        &self,
        part: SetupPart,
        systemctl: &Systemctl,
        arguments: &[&str],
        events: EventSink<'_>,
    ) {
        let command = systemctl.describe(arguments);
        if self.options.dry_run {
            events(SetupEvent::Command { part, command });
            return;
        }
        events(match systemctl.call(arguments) {
            Ok(()) => SetupEvent::Command { part, command },
            Err(error) => SetupEvent::failed(part, &error),
        });
    }

    fn load_apparmor(&self, changed: &[(&SetupItem, PathChange)], events: EventSink<'_>) {
        let part = SetupPart::Apparmor;
        let profile = changed
            .iter()
            .find(|(item, change)| item.part == part && *change != PathChange::Unchanged);
        let Some((profile, _)) = profile else {
            return;
        };
        let Some(parser) = self.host.apparmor_parser.clone() else {
            let reason = "there is no apparmor_parser to load the profile: restart the host";
            let reason = reason.to_owned();
            events(SetupEvent::Skipped { part, reason });
            return;
        };
        let command = format!("apparmor_parser --replace {}", profile.path.display());
        if self.options.dry_run {
            events(SetupEvent::Command { part, command });
            return;
        }
        events(match ApparmorParser::new(parser).load(&profile.path) {
            Ok(()) => SetupEvent::Command { part, command },
            Err(message) => SetupEvent::Failed {
                part,
                message: format!("`{command}` failed: {message}"),
            },
        });
    }

    fn change_containers_conf(
        &self,
        list: &mut ManifestFile,
        events: EventSink<'_>,
    ) -> Result<(), HostSetupError> {
        let part = SetupPart::ContainersConf;
        let hooks = &self.host.directories.hooks;
        let hooks = hooks.to_str().ok_or_else(|| HostSetupError::NotText {
            path: hooks.clone(),
        })?;
        let plan = match plan_addition(&self.host.directories, hooks) {
            Ok(plan) => plan,
            Err(error) => {
                events(SetupEvent::failed(part, &error));
                return Ok(());
            }
        };
        let (path, change) = match plan {
            ConfPlan::Present(path) => (path, PathChange::Unchanged),
            ConfPlan::Change(planned) => {
                let change = match planned.entry.before {
                    Some(_) => PathChange::Replaced,
                    None => PathChange::Created,
                };
                if !self.options.dry_run {
                    if let Err(error) = list.make_directories(&planned.entry.path) {
                        events(SetupEvent::failed(part, &error));
                        return Ok(());
                    }
                    let entry = planned.entry.clone();
                    list.manifest.set_containers_conf(Some(entry));
                    list.save()?;
                    if let Err(error) = planned.apply() {
                        events(SetupEvent::failed(part, &error));
                        return Ok(());
                    }
                }
                (planned.entry.path, change)
            }
        };
        events(SetupEvent::Path { part, path, change });
        if !self.options.dry_run {
            list.save()?;
        }
        Ok(())
    }
}

/// Removes what interrupted writes have left beside the installed files.
pub(crate) fn remove_leftovers(manifest: &InstallManifest, events: EventSink<'_>) {
    let conf = manifest.containers_conf().map(|entry| entry.path.as_path());
    let paths = manifest.entries().iter().map(ManifestEntry::path);
    for path in paths.chain(conf) {
        if let Err(error) = remove_leftover(path) {
            events(SetupEvent::failed(SetupPart::Bookkeeping, &error));
        }
    }
}
