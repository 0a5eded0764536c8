// SPDX-License-Identifier: Apache-2.0
//! Tests of the whole program with a configuration: which commands a bad file stops, what a value
//! changes, and the limits of an organisation.

#![expect(
    clippy::unwrap_used,
    reason = "a test fails by panicking, its helpers too"
)]

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

use serde_json::Value;
use settings::{ORGANISATION_KEYS, USER_KEYS};
use tempfile::TempDir;
use test_support::directory::private_directory;

const PROGRAM: &str = env!("CARGO_BIN_EXE_terok-clearance");

/// A user with a home directory.
struct User {
    home: TempDir,
}

impl User {
    fn new(config: &str) -> Self {
        let user = Self {
            home: private_directory(),
        };
        fs::create_dir_all(user.config().parent().unwrap()).unwrap();
        fs::write(user.config(), config).unwrap();
        fs::set_permissions(user.config(), fs::Permissions::from_mode(0o600)).unwrap();
        user
    }

    fn config(&self) -> PathBuf {
        self.home.path().join("config/terok-clearance/config.toml")
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command
            .env_clear()
            .env("PATH", "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin")
            .env("HOME", self.home.path())
            .env("XDG_CONFIG_HOME", self.home.path().join("config"))
            .env("XDG_RUNTIME_DIR", self.home.path())
            .stdin(Stdio::null());
        command
    }

    fn run(&self, args: &[&str]) -> Output {
        self.command(PROGRAM).args(args).output().unwrap()
    }

    /// Runs the program where `policy` is the organisation's file, of `mode`.
    fn run_with_policy(&self, policy: &str, mode: &str, args: &[&str]) -> Output {
        let script = "mount -t tmpfs -o mode=755 none /etc && mkdir /etc/terok-clearance && \
                      printf %s \"$1\" > /etc/terok-clearance/policy.toml && \
                      chmod $2 /etc/terok-clearance/policy.toml && shift 2 && exec \"$@\"";
        let mut command = self.command("unshare");
        command
            .args(["--user", "--map-root-user", "--mount", "sh", "-c", script])
            .args(["sh", policy, mode, PROGRAM])
            .args(args);
        command.output().unwrap()
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

#[track_caller]
fn assert_fails(output: &Output, status: i32, message: &str) {
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(status), "{said}");
    assert!(said.contains(message), "{said}");
}

#[test]
fn a_bad_file_stops_the_commands_that_have_settings_and_no_others() {
    let user = User::new("[run]\nholdd = '5m'\n");
    let message = "config.toml:2:1: unknown key `holdd` in [run]: did you mean `hold`?\n  \
                   2 | holdd = '5m'\nhint: ";
    assert_fails(&user.run(&["run", "--", "true"]), 125, message);
    assert_fails(&user.run(&["clearance"]), 1, message);
    assert_fails(&user.run(&["config", "show"]), 1, message);
    assert_fails(&user.run(&["config", "check"]), 1, message);
    for args in [
        &["list"][..],
        &["config", "path"],
        &["config", "example"],
        &["version"],
    ] {
        assert!(user.run(args).status.success(), "{args:?}");
    }
    // Under the name of the Python program, its file counts for nothing.
    let hub = user.home.path().join("terok-clearance-hub");
    std::os::unix::fs::symlink(PROGRAM, &hub).unwrap();
    let mut hub = user.command(hub.to_str().unwrap());
    let unavailable = hub.args(["clearance", "--socket", "/none"]).output();
    assert_fails(&unavailable.unwrap(), 1, "clearance hub unavailable");
    let json = user.run(&["--json", "run", "--", "true"]);
    let error: Value = serde_json::from_slice(&json.stderr).unwrap();
    assert_eq!(error["status"], 125);
}

#[test]
fn a_file_that_others_can_write_is_not_used() {
    let user = User::new("");
    assert!(user.run(&["config", "check"]).status.success());
    fs::set_permissions(user.config(), fs::Permissions::from_mode(0o620)).unwrap();
    assert_fails(&user.run(&["config", "check"]), 1, "chmod go-w");
    assert_fails(
        &user.run(&["run", "--", "true"]),
        125,
        "is writable by others",
    );
}

#[test]
fn the_example_is_a_file_without_errors_that_changes_nothing() {
    let user = User::new("");
    let before = text(&user.run(&["config", "show"]).stdout);
    let example = user.run(&["config", "example"]).stdout;
    fs::write(user.config(), example).unwrap();
    let checked = user.run(&["config", "check"]);
    assert!(checked.status.success(), "{}", text(&checked.stderr));
    assert_eq!(text(&user.run(&["config", "show"]).stdout), before);
    let draft = user.home.path().join("policy.toml");
    fs::write(
        &draft,
        user.run(&["config", "example", "--organisation"]).stdout,
    )
    .unwrap();
    let draft = draft.to_str().unwrap();
    let checked = user.run(&["config", "check", "--organisation", draft]);
    assert!(checked.status.success(), "{}", text(&checked.stderr));
}

/// A key without a row would be one that nobody finds.
#[test]
fn the_document_has_a_row_for_each_key_with_its_default() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/configuration.md");
    let document = fs::read_to_string(path).unwrap();
    let (user, organisation) = document.split_once("## The organisation's file").unwrap();
    for (keys, part) in [(USER_KEYS, user), (ORGANISATION_KEYS, organisation)] {
        for key in keys {
            let (_, table) = part
                .split_once(&format!("| **`[{}]`**", key.table))
                .unwrap();
            let table = table.split("| **").next().unwrap();
            let row = match key.default {
                Some(default) => format!("| `{}` | `{default}` |", key.name),
                None => format!("| `{}` | ", key.name),
            };
            assert!(table.contains(&row), "{row}");
        }
    }
}

#[test]
fn show_names_the_source_of_each_value() {
    let user = User::new("[run]\nhold = '5m'\nhotkey = 'f7'\n");
    let mut show = user.command(PROGRAM);
    show.args(["--json", "config", "show"])
        .env("TEROK_CLEARANCE_HOTKEY", "f9");
    let shown = text(&show.output().unwrap().stdout);
    let lines: Vec<Value> = shown
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let row = |key: &str| lines.iter().find(|row| row["key"] == key).unwrap();
    let config = user.config();
    assert_eq!(row("run.hold")["value"], "5m");
    assert_eq!(row("run.hold")["path"], config.to_str().unwrap());
    assert_eq!(row("run.hold")["line"], 2);
    assert_eq!(row("run.hotkey")["value"], "F9");
    assert_eq!(row("run.hotkey")["variable"], "TEROK_CLEARANCE_HOTKEY");
    assert_eq!(row("run.ui")["source"], "default");
}

#[test]
fn a_value_of_the_file_counts_for_the_command_and_a_flag_before_it() {
    let user = User::new("[run]\nopen_files = 99\n");
    let limits = ["--", "grep", "open files", "/proc/self/limits"];
    let limit = |flags: &[&str]| {
        let output = user.run(&[&["run"], flags, &limits[..]].concat());
        let shown = text(&output.stdout);
        let hard = shown.split_whitespace().nth(4).map(str::to_owned);
        hard.unwrap_or_else(|| text(&output.stderr))
    };
    assert_eq!(limit(&[]), "99");
    assert_eq!(limit(&["--open-files", "77"]), "77");
}

#[test]
fn colours_of_the_file_come_after_a_variable_and_a_flag() {
    let user = User::new("[ui]\ncolor = 'always'\n");
    let colored = |args: &[&str], variable: Option<&str>| {
        let mut command = user.command(PROGRAM);
        command.args(args).args(["clearance", "--socket", "/none"]);
        command.envs(variable.map(|name| (name, "1")));
        command.output().unwrap().stderr.contains(&0x1b)
    };
    assert!(colored(&[], None));
    assert!(!colored(&[], Some("NO_COLOR")));
    assert!(!colored(&["--color=never"], None));
}

#[test]
fn the_organisation_limits_a_run() {
    let user = User::new("[run]\nhold = 'forever'\n");
    let policy = "[destinations]\nceiling = ['*.a.example']\n[answers]\nmax_hold = '5m'\n";
    let limited = |mode: &str, args: &[&str]| user.run_with_policy(policy, mode, args);
    let run = ["run", "--allow", "b.example", "--", "true"];
    if !rustix::process::geteuid().is_root() {
        // The root directory belongs to no user of this namespace: the file is not provably root's.
        assert_fails(
            &limited("644", &run),
            125,
            "/ is owned by user 65534, not by root",
        );
        return;
    }
    let refusal = "your organisation does not permit b.example: it is outside of `ceiling` of \
                   [destinations] (/etc/terok-clearance/policy.toml:2)";
    assert_fails(&limited("644", &run), 125, refusal);
    let shown = text(&limited("644", &["config", "show"]).stdout);
    let hold = shown
        .lines()
        .find(|line| line.starts_with("run.hold"))
        .unwrap();
    assert!(hold.contains("\"300s\""), "{hold}");
    assert!(
        hold.ends_with("/etc/terok-clearance/policy.toml:4"),
        "{hold}"
    );
    let shortened = limited("644", &["run", "--hold", "1h", "--", "true"]);
    assert!(text(&shortened.stderr).contains("your organisation limits --hold"));
    assert_fails(
        &limited("646", &["run", "--", "true"]),
        125,
        "is writable by others",
    );
    let bad = user.run_with_policy("x = 1", "644", &["run", "--", "true"]);
    assert_fails(
        &bad,
        125,
        "/etc/terok-clearance/policy.toml:1:1: unknown table [x]",
    );
}
