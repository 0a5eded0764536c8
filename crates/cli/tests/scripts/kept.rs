// SPDX-License-Identifier: Apache-2.0
//! `rules --kept`, `revoke --always` and `revoke --project`: the rules of files, without a sandbox.

use std::fs;
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::PathBuf;

use serde_json::Value;

use crate::harness::ScriptHarness;

impl ScriptHarness {
    /// Writes a file below the configuration directory.
    fn write_kept(&self, below: &str, text: &str) -> PathBuf {
        let path = self.path(".config/terok-clearance").join(below);
        let mut builder = fs::DirBuilder::new();
        let builder = builder.recursive(true).mode(0o700);
        builder.create(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        path
    }

    /// Keeps rules for a project by its first line, and returns the project's directory.
    fn keep_for_project(&self, name: &str, rules: &str) -> PathBuf {
        let project = self.path(name);
        fs::create_dir_all(&project).unwrap();
        let project = project.canonicalize().unwrap();
        let store = store::RuleStore::open(&self.path(".config/terok-clearance")).unwrap();
        let found = store::ProjectPath::find(&project).unwrap();
        let file = policy::RuleFile::parse(rules.as_bytes()).unwrap();
        let kept = store.edit_project(&found, |kept| {
            for rule in file.rules() {
                kept.add(rule.action, &rule.pattern, Some("web:1"))?;
            }
            Ok(())
        });
        kept.unwrap();
        project
    }

    /// Runs the commands about kept rules, and returns their lines.
    pub(crate) fn run_kept_commands(&self) -> Vec<Value> {
        self.write_kept("rules/always.rules", "a.example\n");
        self.write_kept("rules/projects/x.rules", "no project\n");
        let all = ["rules", "--kept", "--all-projects"];
        let (listed, status) = self.run_json(&all);
        assert_eq!(status, 1);
        let (removed, status) = self.run_json(&["revoke", "--always", "a.example"]);
        assert_eq!(status, 0);
        [listed, removed].concat()
    }
}

const ALWAYS: &str = "# mine\napi.example.com:443/tcp  # why\n\n!ads.example.com\n";

#[test]
fn kept_rules_are_listed_with_their_files_and_lines() {
    let harness = ScriptHarness::new();
    let always = harness.write_kept("rules/always.rules", ALWAYS);
    let project = harness.keep_for_project("web", "*.npm.example:443/tcp\n");
    let other = harness.keep_for_project("old", "b.example\n");
    let mut command = harness.command(&["rules", "--kept"]);
    // The nearest directory with kept rules is the project, as for `run`.
    fs::create_dir(project.join("src")).unwrap();
    let output = command.current_dir(project.join("src")).output().unwrap();
    let listed = String::from_utf8(output.stdout).unwrap();
    let lines: Vec<_> = listed.lines().collect();
    let heading = format!("always, in every sandbox: {}", always.display());
    assert_eq!(lines[0], heading);
    assert_eq!(lines[1], "    2  allow  api.example.com:443/tcp");
    assert_eq!(lines[2], "    4  deny   ads.example.com");
    let heading = format!("for the project {}: ", project.display());
    assert!(lines[3].starts_with(&heading), "{}", lines[3]);
    assert_eq!(lines[4], "    2  allow  *.npm.example:443/tcp");
    assert_eq!(lines.len(), 5);

    fs::remove_dir(&other).unwrap();
    let (lines, status) = harness.run_json(&["rules", "--kept", "--all-projects"]);
    assert_eq!(status, 0);
    let dests: Vec<_> = lines
        .iter()
        .filter_map(|line| line["dest"].as_str())
        .collect();
    assert_eq!(dests.len(), 4, "{dests:?}");
    assert_eq!(lines[0]["line"], 2);
    assert_eq!(lines[0]["place"], "always");
    assert_eq!(lines[1]["action"], "deny");
    assert_eq!(lines.last().unwrap()["rules"], 4);
    let of_other = lines
        .iter()
        .find(|line| line["dest"] == "b.example")
        .unwrap();
    assert_eq!(of_other["project"], other.to_str().unwrap());
    let text = harness.run(&["rules", "--kept", "--all-projects"]).stdout;
    assert!(text.contains("old (the directory is gone): "), "{text}");
}

#[test]
fn without_kept_rules_the_list_says_for_what() {
    let harness = ScriptHarness::new();
    let project = harness.path("web");
    fs::create_dir(&project).unwrap();
    let output = harness.run(&["rules", "--kept", "--project", project.to_str().unwrap()]);
    assert_eq!((output.stdout.as_str(), output.status), ("", 0));
    assert!(
        output
            .stderr
            .starts_with("no rules are kept for every sandbox or for the project /"),
        "{}",
        output.stderr
    );
    assert!(!harness.path(".config").exists());
    for wrong in [
        &["rules", "--all-projects"][..],
        &["rules", "--kept", "web"],
        &["revoke", "--always", "--project", "a.example"],
        &["revoke", "--always"],
    ] {
        assert_eq!(harness.run(wrong).status, 2, "{wrong:?}");
    }
}

#[test]
fn a_removed_rule_leaves_every_other_byte_of_its_file() {
    let harness = ScriptHarness::new();
    let always = harness.write_kept("rules/always.rules", ALWAYS);
    let output = harness.run(&["revoke", "--always", "api.example.com:443/tcp"]);
    assert_eq!((output.stderr.as_str(), output.status), ("", 0));
    let removed = format!(
        "removed allow api.example.com:443/tcp from {}:2\n",
        always.display()
    );
    assert!(output.stdout.starts_with(&removed), "{}", output.stdout);
    assert!(
        output
            .stdout
            .contains("connections that nothing else allows end")
    );
    let left = "# mine\n\n!ads.example.com\n";
    assert_eq!(fs::read_to_string(&always).unwrap(), left);

    let log = harness.run(&["log", "--json"]).stdout;
    let entries: Vec<Value> = log
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(entries.len(), 1, "{log}");
    assert_eq!(entries[0]["kind"], "rule_ended");
    assert_eq!(entries[0]["why"], "revoked");
    assert_eq!(entries[0]["origin"], "always");
    assert_eq!(entries[0]["pattern"], "api.example.com:443/tcp");
    assert_eq!(entries[0]["rule"], "line 2");

    // What is not there changes nothing, and says what there is.
    let output = harness.run(&["revoke", "--always", "ads.example.com:443"]);
    assert_eq!((output.stdout.as_str(), output.status), ("", 3));
    let output = harness.run(&["revoke", "--always", "b.example", "a/b"]);
    assert_eq!((output.stdout.as_str(), output.status), ("", 1));
    assert!(
        output
            .stderr
            .contains("b.example: there is no such rule; `terok-clearance rules")
    );
    assert_eq!(fs::read_to_string(&always).unwrap(), left);
    let config = harness.write_kept("config.toml", "[record]\nenabled = false\n");
    assert_eq!(
        harness
            .run(&["revoke", "--always", "!ads.example.com"])
            .status,
        0
    );
    assert_eq!(fs::read_to_string(&always).unwrap(), "# mine\n\n");
    assert_eq!(harness.run(&["log", "--json"]).stdout, log);

    // A removal is not undone because it cannot be recorded.
    fs::remove_file(config).unwrap();
    fs::write(&always, "c.example\n").unwrap();
    let record = harness.path(".local/state/terok-clearance/audit.jsonl");
    fs::set_permissions(&record, fs::Permissions::from_mode(0o666)).unwrap();
    let output = harness.run(&["revoke", "--always", "c.example"]);
    assert_eq!(output.status, 0);
    let warning = "warning: the record has no entry of what was removed";
    assert!(output.stderr.starts_with(warning), "{}", output.stderr);
    assert_eq!(fs::read_to_string(&always).unwrap(), "");
}

#[test]
fn rules_of_a_project_that_is_gone_can_be_removed() {
    let harness = ScriptHarness::new();
    let project = harness.keep_for_project("web", "a.example\nb.example\n");
    let mut command = harness.command(&["revoke", "--project", "a.example"]);
    let output = command.current_dir(&project).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(
        text.contains("sandboxes of this project that run notice"),
        "{text}"
    );
    fs::remove_dir(&project).unwrap();
    let directory = format!("--project={}", project.display());
    let (lines, status) = harness.run_json(&["revoke", &directory, "b.example"]);
    assert_eq!(status, 0);
    assert_eq!(lines[0]["rules"][0]["dest"], "b.example");
    assert_eq!(lines[0]["project"], project.to_str().unwrap());
    let gone = harness.run(&["revoke", "--project=/nonexistent", "b.example"]);
    assert_eq!(gone.status, 1);
    assert!(
        gone.stderr
            .contains("cannot find the directory /nonexistent"),
        "{}",
        gone.stderr
    );
}

#[test]
fn an_unusable_file_is_an_error_with_a_hint_and_is_not_changed() {
    let harness = ScriptHarness::new();
    let wrong = "a.example\nhttps://b.example/\n";
    let always = harness.write_kept("rules/always.rules", wrong);
    let project = harness.keep_for_project("web", "c.example\n");
    let list = ["rules", "--kept", "--project", project.to_str().unwrap()];
    let output = harness.run(&list);
    assert_eq!(output.status, 1);
    assert!(
        output.stdout.contains("  allow  c.example\n"),
        "{}",
        output.stdout
    );
    assert!(output.stderr.contains("profile check"), "{}", output.stderr);
    let output = harness.run(&["revoke", "--always", "a.example"]);
    assert_eq!((output.stdout.as_str(), output.status), ("", 1));
    assert!(output.stderr.contains("profile check"), "{}", output.stderr);
    assert_eq!(fs::read_to_string(&always).unwrap(), wrong);

    // A file that other users may change.
    harness.write_kept("rules/always.rules", "a.example\n");
    fs::set_permissions(&always, fs::Permissions::from_mode(0o666)).unwrap();
    let output = harness.run(&["revoke", "--always", "a.example"]);
    assert_eq!((output.stdout.as_str(), output.status), ("", 1));
    assert!(
        output.stderr.contains("then `chmod go-w` it"),
        "{}",
        output.stderr
    );
    let (lines, status) = {
        let output = harness.run(&["--json", "rules", "--kept"]);
        (crate::schema::lines(&output.stdout), output.status)
    };
    assert_eq!(status, 1);
    assert!(
        lines.iter().any(|line| line["event"] == "unusable_file"),
        "{lines:?}"
    );
}
