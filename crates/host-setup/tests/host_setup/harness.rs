// SPDX-License-Identifier: Apache-2.0
//! A host in a temporary directory: a root directory, a user's home, a program, and a `systemctl`
//! that writes down how it was called.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use host_setup::{
    HookProgram, HostContext, HostDirectories, HostSetup, HostUninstall, NotifierChoice,
    PathChange, ProgramOrigin, SetupAssets, SetupEvent, SetupOptions, SetupPart, UserDirectories,
};

/// Paths with their kinds, modes and contents.
pub(crate) type Tree = BTreeMap<PathBuf, String>;

pub(crate) struct Host {
    place: tempfile::TempDir,
    pub(crate) context: HostContext,
    pub(crate) program: HookProgram,
    pub(crate) options: SetupOptions,
}

impl Host {
    /// Returns a host whose user manager runs.
    pub(crate) fn of_user() -> Self {
        Self::new(HostDirectories::of_user)
    }

    /// Returns a host of the machine's root whose managers run.
    pub(crate) fn of_machine() -> Self {
        Self::new(HostDirectories::of_machine)
    }

    fn new(directories: fn(&UserDirectories, &Path) -> HostDirectories) -> Self {
        let place = tempfile::tempdir().unwrap();
        let at = |path: &str| place.path().join(path);
        for directory in [
            "root/home/bin",
            "run/systemd/private",
            "root/run/systemd/system",
        ] {
            fs::create_dir_all(at(directory)).unwrap();
        }
        let calls = at("calls");
        let script = format!("#!/bin/sh\necho \"$*\" >>{}\n", calls.display());
        for (program, text) in [
            ("systemctl", script.as_str()),
            ("root/home/bin/terok-clearance", "#!/bin/sh\n"),
        ] {
            fs::write(at(program), text).unwrap();
            fs::set_permissions(at(program), fs::Permissions::from_mode(0o755)).unwrap();
        }
        let home = at("root/home");
        let user = UserDirectories {
            config: home.join(".config"),
            data: home.join(".local/share"),
            state: home.join(".local/state"),
            runtime: at("run"),
            home,
        };
        let root = at("root");
        let uid = rustix::process::geteuid().as_raw();
        let path = at("root/home/bin/terok-clearance");
        let program = HookProgram::check(&path, ProgramOrigin::Chosen, uid, &[]);
        Self {
            context: HostContext {
                directories: directories(&user, &root),
                root,
                search_path: vec![at("root/home/bin"), at("root/home/.local/bin")],
                systemctl: Some(at("systemctl")),
                apparmor_parser: None,
            },
            program: program.unwrap(),
            options: SetupOptions {
                dry_run: false,
                notifier: NotifierChoice::Install,
                is_classic: false,
            },
            place,
        }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.place.path().join("root").join(name)
    }

    pub(crate) fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        path
    }

    pub(crate) fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap()
    }

    /// Stops the managers.
    pub(crate) fn stop_managers(&self) {
        for directory in ["run/systemd/private", "root/run/systemd/system"] {
            fs::remove_dir(self.place.path().join(directory)).unwrap();
        }
    }

    /// Returns the calls of `systemctl` since the last time that change something.
    pub(crate) fn calls(&self) -> Vec<String> {
        let path = self.place.path().join("calls");
        let text = fs::read_to_string(&path).unwrap_or_default();
        drop(fs::remove_file(path));
        let changes = text.lines().filter(|line| !line.contains("is-"));
        changes.map(str::to_owned).collect()
    }

    /// Makes `systemctl` say that no unit is enabled.
    pub(crate) fn disable_units(&self) {
        let calls = self.place.path().join("calls");
        let script = format!(
            "#!/bin/sh\necho \"$*\" >>{}\ncase $* in *is-*) exit 1;; esac\n",
            calls.display()
        );
        fs::write(self.place.path().join("systemctl"), script).unwrap();
    }

    pub(crate) fn setup(&self) -> Vec<SetupEvent> {
        let assets = SetupAssets {
            completions: ["bash", "zsh", "fish"].map(str::to_owned),
            man_pages: vec![
                ("terok-clearance.1".to_owned(), "page".to_owned()),
                ("terok-clearance-run.1".to_owned(), "page".to_owned()),
            ],
            icon: ("terok-symbolic.svg".to_owned(), "<svg/>".to_owned()),
            program_names: ["terok-clearance", "terok-clearance-hub", "terok-shield"]
                .map(str::to_owned)
                .to_vec(),
        };
        let setup = HostSetup {
            host: self.context.clone(),
            program: self.program.clone(),
            assets,
            options: self.options.clone(),
        };
        let mut events = Vec::new();
        setup.run(&mut |event| events.push(event)).unwrap();
        events
    }

    pub(crate) fn uninstall(&self) -> Vec<SetupEvent> {
        let uninstall = HostUninstall {
            host: self.context.clone(),
            dry_run: self.options.dry_run,
        };
        let mut events = Vec::new();
        assert!(uninstall.run(&mut |event| events.push(event)).unwrap());
        events
    }

    /// Returns everything below the root directory.
    pub(crate) fn tree(&self) -> Tree {
        let mut tree = Tree::new();
        add_tree(&self.context.root, &mut tree);
        tree
    }
}

fn add_tree(directory: &Path, tree: &mut Tree) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        let found = path.symlink_metadata().unwrap();
        let mode = found.permissions().mode();
        let content = if found.is_symlink() {
            fs::read_link(&path).unwrap().display().to_string()
        } else if found.is_dir() {
            add_tree(&path, tree);
            String::new()
        } else {
            fs::read_to_string(&path).unwrap()
        };
        tree.insert(path, format!("{mode:o} {content}"));
    }
}

/// Returns the changes of paths, but for those that are as they should be.
pub(crate) fn changes(events: &[SetupEvent]) -> Vec<(PathBuf, PathChange)> {
    let changes = events.iter().filter_map(|event| match event {
        SetupEvent::Path { path, change, .. } if *change != PathChange::Unchanged => {
            Some((path.clone(), *change))
        }
        _ => None,
    });
    changes.collect()
}

/// Returns the parts that were skipped, with the reasons.
pub(crate) fn skipped(events: &[SetupEvent]) -> Vec<(SetupPart, String)> {
    let skipped = events.iter().filter_map(|event| match event {
        SetupEvent::Skipped { part, reason } => Some((*part, reason.clone())),
        _ => None,
    });
    skipped.collect()
}

pub(crate) fn assert_no_problem(events: &[SetupEvent]) {
    let problems: Vec<_> = events.iter().filter(|event| event.is_problem()).collect();
    assert!(problems.is_empty(), "{problems:?}");
}
