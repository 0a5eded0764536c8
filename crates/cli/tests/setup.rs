// SPDX-License-Identifier: Apache-2.0
//! The commands `setup`, `uninstall` and `install-service` of the whole program, in the home of a
//! user who is not root and has no systemd.

#![expect(
    clippy::unwrap_used,
    reason = "a test fails by panicking, its helpers too"
)]

use std::collections::BTreeMap;
use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::Value;
use tempfile::TempDir;
use test_support::directory::private_directory;

/// The user of tests that are run by root: setup for the machine would change it.
const NOBODY: u32 = 65_534;

struct Home(TempDir);

impl Home {
    fn new() -> Self {
        let home = Self(private_directory());
        fs::create_dir(home.path("bin")).unwrap();
        fs::create_dir(home.path("run")).unwrap();
        // Where a test is built, others may not read.
        let program = home.path("bin/terok-clearance");
        fs::copy(env!("CARGO_BIN_EXE_terok-clearance"), &program).unwrap();
        for (path, mode) in [
            ("bin/terok-clearance", 0o755),
            ("run", 0o700),
            ("bin", 0o755),
        ] {
            fs::set_permissions(home.path(path), Permissions::from_mode(mode)).unwrap();
            home.give(path);
        }
        home.give("");
        home
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Makes a file the user's.
    fn give(&self, name: &str) {
        if rustix::process::geteuid().is_root() {
            chown(self.path(name), Some(NOBODY), Some(NOBODY)).unwrap();
        }
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(self.path("bin/terok-clearance"));
        if rustix::process::geteuid().is_root() {
            command.uid(NOBODY).gid(NOBODY);
        }
        command
            .args(args)
            .env_clear()
            .env("PATH", "/usr/bin:/bin")
            .env("HOME", self.0.path())
            .env("XDG_RUNTIME_DIR", self.path("run"))
            .current_dir("/")
            .stdin(Stdio::null());
        command
    }

    fn run(&self, args: &[&str]) -> Output {
        self.command(args).output().unwrap()
    }

    fn setup(&self, more: &[&str]) -> Output {
        let program = self.path("bin/terok-clearance");
        let bin_path = ["setup", "--bin-path", program.to_str().unwrap()];
        self.run(&[&bin_path, more].concat())
    }

    /// Returns all files, links and directories, but for the program.
    fn tree(&self) -> BTreeMap<PathBuf, String> {
        let mut tree = BTreeMap::new();
        let mut directories = vec![self.0.path().to_owned()];
        while let Some(directory) = directories.pop() {
            // Directories come and go while a setup runs.
            for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
                let path = entry.path();
                let content = match fs::read_link(&path) {
                    Ok(target) => target.display().to_string(),
                    Err(_) if path.is_dir() => {
                        directories.push(path.clone());
                        "directory".to_owned()
                    }
                    Err(_) if path == self.path("bin/terok-clearance") => continue,
                    Err(_) => fs::read_to_string(&path).unwrap_or_default(),
                };
                tree.insert(path, content);
            }
        }
        tree
    }
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

fn assert_success(output: &Output) {
    assert!(output.status.success(), "{output:?}");
}

#[test]
fn a_host_is_set_up_and_left_as_it_was() {
    let home = Home::new();
    let before = home.tree();
    let planned = home.setup(&["--dry-run"]);
    assert_success(&planned);
    assert_eq!(home.tree(), before);
    assert!(text(&planned.stdout).ends_with("this was a dry run\n"));
    let done = home.setup(&[]);
    assert_success(&done);
    let created = text(&done.stdout).matches("\ncreated ").count();
    let would = text(&planned.stdout).matches("\nwould create ").count();
    assert_eq!(created, would, "{planned:?} {done:?}");
    let installed = home.tree();
    for name in [
        ".local/share/terok-clearance/hooks.d/terok-clearance-createRuntime.json",
        ".local/share/man/man1/terok-clearance.1",
        ".local/share/man/man1/terok-clearance-setup.1",
        ".local/bin/terok-clearance-hub",
        ".config/containers/containers.conf",
    ] {
        assert!(installed.contains_key(&home.path(name)), "no {name}");
    }
    let again = home.setup(&[]);
    assert_success(&again);
    assert!(text(&again.stdout).contains("there is nothing to do"));
    assert_eq!(home.tree(), installed);
    // The links are the programs that they name.
    let hub = Command::new(home.path(".local/bin/terok-clearance-hub"))
        .arg("--version")
        .output()
        .unwrap();
    assert!(text(&hub.stdout).starts_with("terok-clearance-hub "));
    assert_success(&home.run(&["uninstall"]));
    assert_eq!(home.tree(), before);
    let nothing = home.run(&["uninstall"]);
    assert_success(&nothing);
    assert!(text(&nothing.stdout).starts_with("nothing is installed for you"));
}

#[test]
fn each_step_is_an_object_with_json() {
    let home = Home::new();
    let setup = home.setup(&["--json"]);
    let uninstall = home.run(&["uninstall", "--json"]);
    for (output, change) in [(setup, "created"), (uninstall, "removed")] {
        assert_success(&output);
        assert!(output.stderr.is_empty());
        let lines = text(&output.stdout).lines();
        let events: Vec<Value> = lines
            .map(|line| serde_json::from_str(line).unwrap())
            .collect();
        let of = |part: &str| {
            let mut found = events.iter().filter(|event| event["part"] == part);
            found
                .next()
                .unwrap_or_else(|| panic!("no {part} in {events:#?}"))
        };
        assert_eq!(of("hooks")["change"], change);
        assert_eq!(of("containers-conf")["event"], "path");
    }
}

#[test]
fn a_program_that_will_not_stay_is_refused() {
    let home = Home::new();
    let before = home.tree();
    for args in [
        &["setup"][..],
        &["setup", "--json"],
        &["setup", "--dry-run"],
    ] {
        let refused = home.run(args);
        assert_eq!(refused.status.code(), Some(1), "{refused:?}");
        let said = text(&refused.stderr);
        assert!(said.contains("temporary or built files"), "{said}");
        assert!(said.contains("--bin-path"), "{said}");
    }
    let relative = home.run(&["setup", "--bin-path", "terok-clearance"]);
    assert_eq!(relative.status.code(), Some(1));
    fs::set_permissions(home.path("bin"), Permissions::from_mode(0o777)).unwrap();
    let writable = home.setup(&[]);
    assert_eq!(writable.status.code(), Some(1));
    assert!(text(&writable.stderr).contains("chmod go-w"));
    assert_eq!(home.tree(), before);
}

#[test]
fn a_setup_that_is_killed_is_finished_or_removed() {
    let reference = Home::new();
    let before = reference.tree().len();
    assert_success(&reference.setup(&[]));
    let all = reference.tree().len();
    for (turn, entries) in (before + 1..all).step_by(31).enumerate() {
        let home = Home::new();
        let untouched = home.tree();
        let program = home.path("bin/terok-clearance");
        let mut command = home.command(&["setup", "--bin-path", program.to_str().unwrap()]);
        let mut setup = command.stdout(Stdio::null()).spawn().unwrap();
        while home.tree().len() < entries && setup.try_wait().unwrap().is_none() {}
        setup.kill().unwrap();
        setup.wait().unwrap();
        if turn % 2 == 0 {
            assert_success(&home.setup(&[]));
            let names = |tree: BTreeMap<PathBuf, String>, home: &Path| {
                let paths = tree.into_keys();
                let paths = paths.map(|path| path.strip_prefix(home).unwrap().to_owned());
                paths.collect::<Vec<_>>()
            };
            let expected = names(reference.tree(), reference.0.path());
            assert_eq!(names(home.tree(), home.0.path()), expected);
        }
        let removed = home.run(&["uninstall"]);
        assert_success(&removed);
        let left = home.tree();
        // Nothing is known of a state directory without a list.
        let states = [".local", ".local/state", ".local/state/terok-clearance"];
        let states = states.map(|name| home.path(name));
        let left = left.into_iter().filter(|(path, _)| !states.contains(path));
        assert_eq!(
            left.collect::<BTreeMap<_, _>>(),
            untouched,
            "killed at {entries}"
        );
    }
}

#[test]
fn install_service_writes_the_classic_units() {
    let home = Home::new();
    let installed = home.run(&["install-service", "--bin-path", "/opt/my tools/hub"]);
    assert_success(&installed);
    let units = home.path(".config/systemd/user");
    let hub = units.join("terok-clearance-hub.service");
    let expected = format!(
        "Installed {}\nInstalled {}\n",
        hub.display(),
        units.join("terok-clearance-verdict.service").display()
    );
    assert_eq!(text(&installed.stdout), expected);
    let unit = fs::read_to_string(hub).unwrap();
    assert!(
        unit.contains("\nExecStart=\"/opt/my tools/hub\" serve\n"),
        "{unit}"
    );
    for (wrong, status) in [("", 2), ("/a\nb", 1)] {
        let refused = home.run(&["install-service", "--bin-path", wrong]);
        assert_eq!(refused.status.code(), Some(status), "{refused:?}");
    }
}
