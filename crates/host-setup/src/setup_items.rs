// SPDX-License-Identifier: Apache-2.0
//! The files and links of an installation.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use crate::manifest::{InstallManifest, ItemContent};
use crate::setup_event::{EventSink, SetupEvent, SetupPart};
use crate::{
    HookProgram, HostDirectories, NotifierChoice, SetupScope, UnitFile, UnitProgram,
    UnitProgramError, apparmor_profile, hook_files, restricts_user_namespaces,
};

/// Texts that the program makes of its command line and bundles.
#[derive(Debug, Clone, Default)]
pub struct SetupAssets {
    /// Completions of bash, zsh and fish.
    pub completions: [String; 3],
    /// File names of manual pages of section 1, and their texts.
    pub man_pages: Vec<(String, String)>,
    /// The file name of the icon, and its SVG text.
    pub icon: (String, String),
    /// The names by which the program can be called.
    pub program_names: Vec<String>,
}

/// A file or link of an installation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SetupItem {
    pub(crate) part: SetupPart,
    pub(crate) path: PathBuf,
    pub(crate) content: ItemContent,
}

/// Collects the items of a setup.
pub(crate) struct ItemCollector<'a> {
    pub(crate) directories: &'a HostDirectories,
    pub(crate) program: &'a HookProgram,
    pub(crate) root: &'a Path,
    pub(crate) search_path: &'a [PathBuf],
    pub(crate) manifest: &'a InstallManifest,
    pub(crate) events: EventSink<'a>,
    pub(crate) items: Vec<SetupItem>,
}

impl ItemCollector<'_> {
    fn file(&mut self, part: SetupPart, path: PathBuf, text: &str) {
        self.items.push(SetupItem {
            part,
            path,
            content: ItemContent::File(text.as_bytes().to_vec()),
        });
    }

    fn skip(&mut self, part: SetupPart, reason: String) {
        (self.events)(SetupEvent::Skipped { part, reason });
    }

    /// Adds the units for which a manager runs.
    pub(crate) fn add_units(
        &mut self,
        notifier: &NotifierChoice,
        is_classic: bool,
        has_supervisor_manager: bool,
        has_user_manager: bool,
    ) -> Result<(), UnitProgramError> {
        let program = UnitProgram::new(self.program.path())?;
        if has_supervisor_manager {
            let directory = self.directories.supervisor_units.clone();
            for unit in UnitFile::of_supervisors(&program, self.directories.scope) {
                let path = directory.join(unit.name);
                self.file(SetupPart::Supervisor, path, &unit.text);
            }
        } else {
            let reason = match self.directories.scope {
                SetupScope::User => {
                    "no systemd user manager runs: the commands `terok-clearance podman` start \
                     what the units would start"
                }
                SetupScope::Machine => {
                    "systemd does not run: the commands `terok-clearance podman` start what the \
                     units would start"
                }
            };
            self.skip(SetupPart::Supervisor, reason.to_owned());
        }
        let directory = self.directories.user_units.clone();
        let no_manager = "no systemd user manager runs";
        if is_classic && has_user_manager {
            for unit in UnitFile::of_classic_pair(&program) {
                self.file(SetupPart::ClassicHub, directory.join(unit.name), &unit.text);
            }
        } else if is_classic {
            self.skip(SetupPart::ClassicHub, no_manager.to_owned());
        }
        match notifier {
            NotifierChoice::Leave { reason } => self.skip(SetupPart::Notifier, reason.clone()),
            NotifierChoice::Remove => {}
            NotifierChoice::Install if !has_user_manager => {
                self.skip(SetupPart::Notifier, no_manager.to_owned());
            }
            NotifierChoice::Install => {
                let unit = if is_classic {
                    let path = self.program.path();
                    let program = UnitProgram::with_arguments(path, &["notifier"])?;
                    UnitFile::of_classic_notifier(&program)
                } else {
                    UnitFile::of_notifier(&program)
                };
                self.file(SetupPart::Notifier, directory.join(unit.name), &unit.text);
            }
        }
        Ok(())
    }

    /// Adds the links for the other names of the program.
    pub(crate) fn add_program_names(&mut self, names: &[String]) {
        let directory = self.links_directory();
        let resolved = self.program.path().canonicalize().ok();
        let mut is_any_linked = false;
        for name in names {
            let path = directory.join(name);
            let is_ours = self.manifest.entry(&path).is_some();
            let others = self
                .search_path
                .iter()
                .map(|directory| directory.join(name));
            let found = others
                .filter(|other| *other != path)
                .find(|other| other.exists());
            match found {
                Some(other) if !is_ours => {
                    if other.canonicalize().ok() != resolved {
                        let reason =
                            format!("{} has this name: {name} is not linked", other.display());
                        self.skip(SetupPart::ProgramNames, reason);
                    }
                    continue;
                }
                _ => {}
            }
            if path == self.program.path() || path.canonicalize().ok() == resolved && !is_ours {
                continue;
            }
            is_any_linked = true;
            self.items.push(SetupItem {
                part: SetupPart::ProgramNames,
                path,
                content: ItemContent::Link(self.program.path().to_owned()),
            });
        }
        if is_any_linked && !self.search_path.contains(&directory) {
            let reason = format!("{} is not in PATH yet", directory.display());
            self.skip(SetupPart::ProgramNames, reason);
        }
    }

    /// Returns the usual directory of the user's programs, or the program's own if only that is in
    /// the search path and the user can write there.
    fn links_directory(&self) -> PathBuf {
        let usual = &self.directories.programs;
        let own = self.program.path().parent();
        let is_writable = |directory: &&Path| {
            rustix::fs::access(*directory, rustix::fs::Access::WRITE_OK).is_ok()
        };
        let is_found = |directory: &Path| self.search_path.iter().any(|one| one == directory);
        match own.filter(|own| is_found(own) && !is_found(usual)) {
            Some(own) if self.directories.scope == SetupScope::User && is_writable(&own) => {
                own.to_owned()
            }
            _ => usual.clone(),
        }
    }

    /// Adds completions, manual pages and the icon, unless a package has installed them.
    pub(crate) fn add_assets(&mut self, assets: &SetupAssets) {
        let directories = self.directories;
        let [bash, zsh, fish] = &assets.completions;
        let completions = [
            (directories.bash_completions.join("terok-clearance"), bash),
            (directories.zsh_completions.join("_terok-clearance"), zsh),
            (
                directories.fish_completions.join("terok-clearance.fish"),
                fish,
            ),
        ];
        let packaged = ["bash-completion/completions/terok-clearance"];
        if !self.is_packaged(SetupPart::Completions, &packaged) {
            for (path, text) in completions {
                self.file(SetupPart::Completions, path, text);
            }
        }
        let packaged = [
            "man/man1/terok-clearance.1",
            "man/man1/terok-clearance.1.gz",
        ];
        if !self.is_packaged(SetupPart::ManPages, &packaged) {
            for (name, text) in &assets.man_pages {
                self.file(SetupPart::ManPages, directories.man_pages.join(name), text);
            }
        }
        let (name, svg) = &assets.icon;
        let packaged = format!("icons/hicolor/symbolic/apps/{name}");
        if !self.is_packaged(SetupPart::Icon, &[&packaged]) {
            self.file(SetupPart::Icon, directories.icons.join(name), svg);
        }
    }

    /// Returns `true` if the package of the program has one of `files` in `share`.
    fn is_packaged(&mut self, part: SetupPart, files: &[&str]) -> bool {
        let bin = self.program.path().parent();
        let bin = bin.filter(|bin| bin.file_name() == Some(OsStr::new("bin")));
        let Some(prefix) = bin.and_then(Path::parent) else {
            return false;
        };
        let files = files.iter().map(|file| prefix.join("share").join(file));
        let is_foreign = |path: &PathBuf| path.exists() && self.manifest.entry(path).is_none();
        let Some(found) = files.into_iter().find(is_foreign) else {
            return false;
        };
        let reason = format!(
            "the program's package has them, such as {}",
            found.display()
        );
        self.skip(part, reason);
        true
    }

    /// Adds the `AppArmor` profile if the host needs one.
    pub(crate) fn add_apparmor(&mut self) {
        if !restricts_user_namespaces(self.root) {
            return;
        }
        if let Some(directory) = &self.directories.apparmor {
            let text = apparmor_profile(self.program.as_str());
            let path = directory.join(crate::APPARMOR_PROFILE);
            self.file(SetupPart::Apparmor, path, &text);
        } else {
            let reason = "AppArmor keeps user namespaces from this program, and only root can \
                          install a profile: docs/setup.md has the commands";
            self.skip(SetupPart::Apparmor, reason.to_owned());
        }
    }

    /// Adds the hook files.
    pub(crate) fn add_hooks(&mut self) {
        // The hooks of the machine know theirs.
        let is_user = self.directories.scope == SetupScope::User;
        let runtime = self.directories.runtime.to_str().filter(|_| is_user);
        for (name, text) in hook_files(self.program.as_str(), runtime) {
            let path = self.directories.hooks.join(name);
            self.file(SetupPart::Hooks, path, &text);
        }
    }
}
