// SPDX-License-Identifier: Apache-2.0
//! The command `profile`.

#![expect(
    clippy::unwrap_used,
    reason = "a test fails by panicking, its helpers too"
)]

use std::fs;
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

use serde_json::Value;
use tempfile::TempDir;
use test_support::directory::private_directory;

/// A user with rule files.
struct RuleUser {
    home: TempDir,
}

impl RuleUser {
    fn new() -> Self {
        Self {
            home: private_directory(),
        }
    }

    fn write(&self, below: &str, text: &str) -> PathBuf {
        let path = self.home.path().join(".config/terok-clearance").join(below);
        let mut builder = fs::DirBuilder::new();
        let directory = path.parent().unwrap();
        builder
            .recursive(true)
            .mode(0o700)
            .create(directory)
            .unwrap();
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        path
    }

    fn run(&self, args: &[&str]) -> Output {
        Command::new(env!("CARGO_BIN_EXE_terok-clearance"))
            .arg("profile")
            .args(args)
            .env_clear()
            .env("HOME", self.home.path())
            .stdin(Stdio::null())
            .output()
            .unwrap()
    }

    /// Returns the output with `HOME` for the home directory.
    fn text(&self, bytes: &[u8]) -> String {
        let text = std::str::from_utf8(bytes).unwrap();
        text.replace(self.home.path().to_str().unwrap(), "HOME")
    }
}

fn objects(output: &Output) -> Vec<Value> {
    let lines = std::str::from_utf8(&output.stdout).unwrap().lines();
    lines
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

#[test]
fn the_help_teaches() {
    let user = RuleUser::new();
    for command in ["", "list", "show", "check"] {
        let args = [command, "--help"];
        let args = if command.is_empty() {
            &args[1..]
        } else {
            &args
        };
        let help = user.run(args);
        assert!(help.status.success());
        let name = format!(
            "help-profile{}{command}",
            if command.is_empty() { "" } else { "-" }
        );
        insta::assert_snapshot!(name, user.text(&help.stdout));
    }
}

#[test]
fn own_profiles_are_listed_with_the_bundled_ones() {
    let user = RuleUser::new();
    user.write(
        "profiles/npm.rules",
        "# our registry\nnpm.example:443/tcp\n",
    );
    user.write("profiles/shield.txt", "+a.example\n+b.example\n");
    let listed = user.run(&["list"]);
    assert!(listed.status.success());
    let text = user.text(&listed.stdout);
    let line = |name: &str| text.lines().find(|line| line.starts_with(name)).unwrap();
    assert_eq!(
        line("npm"),
        "npm            1 rule   our registry (own, replaces the bundled one)"
    );
    assert_eq!(line("shield"), "shield         2 rules  (own)");
    assert!(line("cargo").ends_with(" (bundled)"), "{text}");
    let json = objects(&user.run(&["list", "--json"]));
    assert_eq!(json.len(), text.lines().count());
    let npm = json.iter().find(|object| object["name"] == "npm").unwrap();
    assert_eq!((&npm["origin"], &npm["rules"]), (&"own".into(), &1.into()));
}

#[test]
fn an_unusable_profile_is_listed_as_such() {
    let user = RuleUser::new();
    user.write("profiles/cargo.rules", "*\n");
    let listed = user.run(&["list"]);
    assert_eq!(listed.status.code(), Some(1));
    assert!(user.text(&listed.stdout).contains("npm "));
    insta::assert_snapshot!(user.text(&listed.stderr));
    let json = objects(&user.run(&["list", "--json"]));
    let cargo = json
        .iter()
        .find(|object| object["name"] == "cargo")
        .unwrap();
    assert!(cargo["error"].as_str().unwrap().contains("line 1"));
    let shown = user.run(&["show", "cargo"]);
    assert_eq!(shown.status.code(), Some(1));
    insta::assert_snapshot!("unusable-shown", user.text(&shown.stderr));
}

#[test]
fn a_profile_is_shown_as_it_is() {
    let user = RuleUser::new();
    let text = "# mine\r\n!a.example  # x\r\n";
    user.write("profiles/npm.rules", text);
    let shown = user.run(&["show", "npm"]);
    assert_eq!(user.text(&shown.stdout), text);
    assert!(
        user.text(&shown.stderr)
            .contains("replaces the bundled profile npm")
    );
    let json = objects(&user.run(&["show", "npm", "--json"]));
    assert_eq!(json[0]["rules"][0]["action"], "deny");
    assert_eq!(json[0]["rules"][0]["line"], 2);
    let missing = user.run(&["show", "none"]);
    assert_eq!(missing.status.code(), Some(1));
    insta::assert_snapshot!("missing", user.text(&missing.stderr));
    assert_eq!(user.run(&["show", "../x"]).status.code(), Some(2));
    let bundled = user.run(&["show", "npm", "--bundled"]);
    assert!(
        user.text(&bundled.stdout)
            .contains("\nregistry.npmjs.org:443/tcp\n")
    );
    let missing = user.run(&["show", "none", "--bundled"]);
    assert_eq!(missing.status.code(), Some(1));
    assert!(
        user.text(&missing.stderr)
            .contains("no bundled profile \"none\"")
    );
}

#[test]
fn every_wrong_line_of_every_file_is_reported() {
    let user = RuleUser::new();
    assert!(user.run(&["check"]).status.success());
    user.write("profiles/a.rules", "a.example\n!b.example\n");
    user.write("profiles/b.rules", "https://a.example/\nc.example\na b\n");
    let open = user.write("rules/always.rules", "a.example\n");
    fs::set_permissions(&open, fs::Permissions::from_mode(0o666)).unwrap();
    user.write("rules/projects/x-0123456789abcdef.rules", "# project: /x\n");
    let checked = user.run(&["check"]);
    assert_eq!(checked.status.code(), Some(1));
    insta::assert_snapshot!("check-passed", user.text(&checked.stdout));
    insta::assert_snapshot!("check-failed", user.text(&checked.stderr));
    let json = objects(&user.run(&["check", "--json"]));
    assert_eq!(json.len(), 4);
    assert_eq!(json[1]["errors"][1]["line"], 3);
    // A file that is named is checked as text, whoever may write it.
    let named = user.run(&["check", open.to_str().unwrap(), "/nonexistent"]);
    assert_eq!(named.status.code(), Some(1));
    assert!(user.text(&named.stdout).ends_with("always.rules: 1 rule\n"));
}
