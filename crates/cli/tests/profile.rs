// SPDX-License-Identifier: Apache-2.0
//! The command `profile`.

#![expect(
    clippy::unwrap_used,
    reason = "a test fails by panicking, its helpers too"
)]

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

use record::{
    AuditConnection, AuditConnectionEnd, AuditEntry, AuditEvent, AuditSandbox, AuditSandboxEnd,
    AuditSandboxStart, ConnectionEndReason, FILE_NAME, RecordAppender, RecordConfig,
};
use serde_json::Value;
use tempfile::TempDir;
use terok_clearance::{Dest, Protocol, Timestamp};
use test_support::directory::private_directory;
use test_support::pseudo_terminal::PseudoTerminal;

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

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_terok-clearance"));
        command
            .arg("profile")
            .args(args)
            .env_clear()
            .env("HOME", self.home.path())
            .env("TZ", "UTC")
            .stdin(Stdio::null());
        command
    }

    fn run(&self, args: &[&str]) -> Output {
        self.command(args).output().unwrap()
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
    for command in ["", "list", "show", "check", "from"] {
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

/// Appends the entries of a run of `web` to the user's record.
fn record_run(user: &RuleUser, id: &str, dests: &[(&str, Option<&str>)]) {
    let sandbox = AuditSandbox {
        name: Some("web".into()),
        ..AuditSandbox::new(id.parse().unwrap())
    };
    let time = Timestamp::from_micros(1_795_255_384_000_001);
    let entry = |event| AuditEntry::new(time, Some(sandbox.clone()), event);
    let mut entries = vec![entry(AuditEvent::SandboxStarted(AuditSandboxStart {
        network: "dialed".into(),
        learn: true,
        profiles: Vec::new(),
        command: None,
    }))];
    for (number, (dest, process)) in (1_u64..).zip(dests) {
        let (connection, port) = (number, 443);
        let (dest, protocol): (Dest, _) = (dest.parse().unwrap(), Protocol::TCP);
        entries.push(entry(AuditEvent::Connected(AuditConnection {
            connection,
            dest: dest.clone(),
            port,
            protocol,
            address: None,
            rule: None,
            origin: None,
        })));
        let end = AuditEvent::Closed(AuditConnectionEnd {
            connection,
            dest,
            port,
            protocol,
            bytes_out: 10,
            bytes_in: 200,
            millis: 1,
            why: ConnectionEndReason::Finished,
            process: process.map(Into::into),
        });
        entries.push(entry(end));
    }
    entries.push(entry(AuditEvent::SandboxEnded(AuditSandboxEnd {
        status: Some(0),
        reason: None,
    })));
    let path = user.home.path().join(".local/state/terok-clearance");
    let mut appender = RecordAppender::new(RecordConfig::new(path.join(FILE_NAME)));
    appender.append(&entries).1.unwrap();
}

#[test]
fn a_profile_is_made_of_the_newest_run_with_a_name() {
    let user = RuleUser::new();
    let missing = user.run(&["from", "last"]);
    assert_eq!(missing.status.code(), Some(3));
    assert!(
        user.text(&missing.stderr)
            .contains("the record has no run last")
    );
    record_run(&user, "0123456789ab", &[("old.example", None)]);
    record_run(
        &user,
        "ba9876543210",
        &[
            ("a.example.com", Some("node")),
            ("b.example.com", None),
            ("a.example.com", Some("git")),
            ("169.254.169.254", None),
        ],
    );
    for run in ["last", "web", "ba9876543210"] {
        let shown = user.run(&["from", run]);
        assert!(shown.status.success());
        insta::assert_snapshot!("from-run", user.text(&shown.stdout));
        let warnings = user.text(&shown.stderr);
        let is_warned =
            warnings.contains("2 runs are called web: this is the newest, ba9876543210");
        assert_eq!(is_warned, run == "web", "{warnings}");
        assert_eq!(warnings.is_empty(), run != "web", "{warnings}");
    }
    let old = user.run(&["from", "0123456789ab"]);
    assert!(
        user.text(&old.stdout)
            .contains("\nold.example:443/tcp  # 1 connection, 10 bytes")
    );
    let other = user.run(&["from", "db"]);
    assert_eq!(other.status.code(), Some(3));
    record_run(&user, "000000000000", &[]);
    let idle = user.run(&["from", "last"]);
    assert_eq!(idle.status.code(), Some(1));
    assert!(
        user.text(&idle.stderr)
            .contains("the run web connected to nothing")
    );
}

#[test]
fn a_person_at_a_terminal_is_asked_before_a_profile_is_saved() {
    let user = RuleUser::new();
    record_run(&user, "0123456789ab", &[("a.example.com", None)]);
    let path = user
        .home
        .path()
        .join(".config/terok-clearance/profiles/web.rules");
    for (answer, status) in [("\n", 1), ("no\n", 1), ("y\n", 0)] {
        let mut terminal = PseudoTerminal::open(24, 100);
        terminal.master.write_all(answer.as_bytes()).unwrap();
        let mut command = user.command(&["from", "last", "--save", "web"]);
        let command = command.stdin(terminal.stdio()).stderr(terminal.stdio());
        let output = command.output().unwrap();
        let shown = user.text(&output.stdout);
        assert!(shown.contains("\na.example.com:443/tcp  # "), "{shown}");
        assert_eq!(output.status.code(), Some(status), "{answer:?}");
        assert_eq!(path.exists(), status == 0, "{answer:?}");
    }
}

#[test]
fn a_profile_of_a_run_is_saved_once_and_only_when_somebody_says_so() {
    let user = RuleUser::new();
    record_run(&user, "0123456789ab", &[("a.example.com", None)]);
    let path = user
        .home
        .path()
        .join(".config/terok-clearance/profiles/web.rules");
    let unasked = user.run(&["from", "last", "--save", "web"]);
    assert_eq!(unasked.status.code(), Some(1));
    assert!(
        user.text(&unasked.stderr)
            .contains("--yes saves it without a question")
    );
    assert!(!path.exists());
    let saved = user.run(&["from", "last", "--save", "web", "--yes"]);
    assert!(saved.status.success());
    assert_eq!(fs::read(&path).unwrap(), saved.stdout);
    assert!(
        user.text(&saved.stderr)
            .contains("`terok-clearance run --profile web` uses it")
    );
    assert_eq!(
        fs::metadata(&path).unwrap().permissions().mode() & 0o777,
        0o600
    );
    assert!(user.run(&["check"]).status.success());
    for (name, reason) in [("web", "exists already"), ("npm", "a bundled profile")] {
        let refused = user.run(&["from", "last", "--save", name, "--yes"]);
        assert_eq!(refused.status.code(), Some(1), "{name}");
        assert!(user.text(&refused.stderr).contains(reason), "{name}");
    }
    assert_eq!(fs::read(&path).unwrap(), saved.stdout);
    let json = objects(&user.run(&["from", "last", "--save", "two", "--yes", "--json"]));
    assert_eq!(json[0]["groups"][0]["owner"], "example.com");
    assert!(json[0]["path"].as_str().unwrap().ends_with("/two.rules"));
    for wrong in [
        &["from"][..],
        &["from", "last", "--yes"],
        &["from", "last", "--save", "a/b"],
    ] {
        assert_eq!(user.run(wrong).status.code(), Some(2), "{wrong:?}");
    }
}
