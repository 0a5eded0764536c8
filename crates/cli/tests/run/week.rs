// SPDX-License-Identifier: Apache-2.0
//! A week of an agent in one project, in fast motion: what is answered lasts as long as it was said,
//! and the record explains what has left the machine.

use std::collections::BTreeSet;
use std::io::Write as _;
use std::process::Stdio;

use serde_json::Value;

use super::lab::{Lab, Sandbox, hello};
use super::user::{as_everybody, told};

const REFUSED: &str = "failed: ECONNREFUSED";

fn program(lab: &Lab<'_>, args: &[&str]) -> String {
    let output = lab.machine.program(lab.user, args).output().unwrap();
    assert!(output.status.success(), "{args:?}: {}", told(&output));
    String::from_utf8(output.stdout).unwrap()
}

/// Does what the agent's tools do, and returns how each of them went.
fn work(sandbox: &mut Sandbox) -> String {
    let hosts = "registry.npm.test files.pypi.test other.pypi.test git.test api.model.test";
    sandbox.does(&format!("together {hosts}"))
}

/// Returns the entries of the record.
fn record(lab: &Lab<'_>) -> Vec<Value> {
    let lines = program(lab, &["log", "--json"]);
    let entries = lines
        .lines()
        .map(|line| serde_json::from_str(line).unwrap());
    entries.collect()
}

/// Puts an organisation file in place, as root of the machine.
fn write_organisation_file(lab: &Lab<'_>, text: &str) {
    let [resolv, hosts] = ["resolv.conf", "hosts"].map(|file| lab.user.path(file));
    let script = format!(
        "mount -t tmpfs none /mnt && mkdir /mnt/upper /mnt/work && \
         mount -t overlay none -o lowerdir=/etc,upperdir=/mnt/upper,workdir=/mnt/work /etc && \
         mkdir -m 755 /etc/terok-clearance && cat > /etc/terok-clearance/policy.toml && \
         mount --bind {} /etc/resolv.conf && mount --bind {} /etc/hosts",
        resolv.display(),
        hosts.display()
    );
    let mut mount = lab.machine.root(lab.user, &["sh", "-c", &script]);
    let mut mount = mount.stdin(Stdio::piped()).spawn().unwrap();
    mount
        .stdin
        .take()
        .unwrap()
        .write_all(text.as_bytes())
        .unwrap();
    assert!(mount.wait().unwrap().success());
}

#[test]
fn a_week_of_an_agent_is_answered_once_and_explained_by_the_record() {
    as_everybody(|user| {
        let lab = Lab::new(user);
        let mut operator = lab.operator();
        let greeted =
            |host: &str, last: u8| format!("{host} {}", hello(&format!("198.51.100.{last}")));
        let all = [
            greeted("registry.npm.test", 144),
            greeted("files.pypi.test", 145),
            greeted("other.pypi.test", 146),
            greeted("git.test", 147),
            greeted("api.model.test", 148),
        ];

        // Monday: each is asked about, and answered for as long as it is useful.
        let mut monday = lab.sandbox(&["--name", "monday"]);
        monday.begins(
            "together registry.npm.test files.pypi.test other.pypi.test git.test api.model.test",
        );
        let asked = |operator: &mut super::operator::Operator, host: &str| operator.asked(host);
        let question = asked(&mut operator, "registry.npm.test");
        operator.decide_with(&question, 'a', "project");
        let question = asked(&mut operator, "files.pypi.test");
        operator.decide_with(&question, 'a', "as *.pypi.test project");
        let question = asked(&mut operator, "git.test");
        operator.decide_with(&question, 'a', "once");
        let question = asked(&mut operator, "api.model.test");
        operator.decide_with(&question, 'a', "always");
        assert_eq!(monday.ends(), all.join("\n"));
        // A grant for a time ends with its connection.
        monday
            .shell
            .begins("mkfifo up; python3 w.py linger tracker.test up > out & L=$!; cat up");
        let question = asked(&mut operator, "tracker.test");
        operator.decide_with(&question, 'a', "2s");
        monday.ends();
        assert_eq!(monday.shell.does("wait $L; cat out").1, "reset");
        monday.finish();
        // The neighbour may have been asked about before the wider answer.
        operator.forget_events();

        // Tuesday: nothing is asked but what was for once, and it says so.
        let mut tuesday = lab.sandbox(&["--name", "tuesday"]);
        tuesday.begins(
            "together registry.npm.test files.pypi.test other.pypi.test git.test api.model.test",
        );
        let question = asked(&mut operator, "git.test");
        operator.decide_with(&question, 'a', "project");
        assert_eq!(tuesday.ends(), all.join("\n"));
        assert_eq!(operator.other_questions(), Vec::<&str>::new());
        tuesday.finish();

        // Wednesday: no question at all; then the model's API is taken back.
        let mut wednesday = lab.sandbox(&["--name", "wednesday"]);
        assert_eq!(work(&mut wednesday), all.join("\n"));
        assert_eq!(operator.other_questions(), Vec::<&str>::new());
        program(
            &lab,
            &["revoke", &rule_for(&lab, "api.model.test:7004/tcp")],
        );
        wednesday.begins("greet api.model.test");
        let question = asked(&mut operator, "api.model.test");
        operator.decide_with(&question, 'd', "project");
        assert_eq!(wednesday.ends(), REFUSED);
        wednesday.finish();

        // Thursday: a run that learns makes a profile, with which the next one asks nothing.
        let mut thursday = lab.sandbox(&["--name", "thursday", "--learn"]);
        assert_eq!(thursday.does("greet plain.test"), hello("198.51.100.41"));
        assert_eq!(thursday.does("greet api.model.test"), REFUSED);
        let said = thursday.finish();
        assert!(
            said.contains("EVERYTHING on the internet is OPEN"),
            "{said}"
        );
        assert!(said.contains("plain.test:7004/tcp"), "{said}");
        user.directory("home/.config/terok-clearance/profiles");
        user.add_file(
            "home/.config/terok-clearance/profiles/mine.rules",
            "plain.test:7004/tcp\n",
        );
        let mut friday = lab.sandbox(&["--name", "friday", "--profile", "mine"]);
        assert_eq!(friday.does("greet plain.test"), hello("198.51.100.41"));
        friday.finish();

        // Saturday: the organisation denies what the project had allowed.
        let is_root = rustix::process::geteuid().is_root();
        if is_root {
            write_organisation_file(&lab, "[destinations]\ndeny = [\"*.pypi.test\"]\n");
            let mut saturday = lab.sandbox(&["--name", "saturday"]);
            assert_eq!(saturday.does("greet files.pypi.test"), REFUSED);
            assert_eq!(saturday.does("greet git.test"), hello("198.51.100.147"));
            saturday.finish();
        }
        assert_eq!(operator.other_questions(), Vec::<&str>::new());

        check_record(&lab, is_root);
    });
}

/// Returns the name of the rule with this pattern.
fn rule_for(lab: &Lab<'_>, pattern: &str) -> String {
    let lines = program(lab, &["rules", "--json"]);
    let mut rules = lines
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap());
    let rule = rules.find(|rule| rule["dest"] == pattern);
    rule.unwrap()["name"].as_str().unwrap().to_owned()
}

/// Compares the record with what has reached the outside.
fn check_record(lab: &Lab<'_>, with_organisation: bool) {
    let entries = record(lab);
    let of_kind = |kind: &str| {
        let kind = kind.to_owned();
        entries.iter().filter(move |entry| entry["kind"] == kind)
    };
    // Every packet that has left belongs to a connection of the record, which names its rule.
    let recorded: BTreeSet<String> = of_kind("connected")
        .map(|entry| {
            assert!(
                entry["rule"].is_string() && entry["origin"].is_string(),
                "{entry}"
            );
            format!("6 {} {}", entry["address"].as_str().unwrap(), entry["port"])
        })
        .collect();
    let sent: BTreeSet<String> = lab.packets_sent().into_iter().collect();
    assert_eq!(sent, recorded);
    // And every name that was looked up outside.
    let names: BTreeSet<&str> = of_kind("connected")
        .map(|entry| entry["dest"].as_str().unwrap())
        .collect();
    for name in lab.names_asked() {
        assert!(names.contains(name.as_str()), "{name} {names:?}");
    }
    // Each connection has its end, with its bytes.
    let ended: BTreeSet<_> = of_kind("closed")
        .map(|entry| (entry["sandbox"].as_str(), entry["connection"].as_u64()))
        .collect();
    for entry in of_kind("connected") {
        let key = (entry["sandbox"].as_str(), entry["connection"].as_u64());
        assert!(ended.contains(&key), "{entry}");
    }
    let has = |kind: &str, key: &str, value: &str| {
        assert!(
            of_kind(kind).any(|entry| entry[key].as_str() == Some(value)),
            "no {kind} with {key} {value} in {entries:#?}"
        );
    };
    has("rule_ended", "why", "expired");
    has("rule_ended", "why", "revoked");
    has("closed", "why", "rule-ended");
    has("answered", "pattern", "*.pypi.test:7004/tcp");
    has("refused", "why", "denied");
    if with_organisation {
        has("refused", "why", "organisation-deny");
    }
    // Nothing of the environment is in it, and nobody has changed it.
    let text = program(lab, &["log", "--json"]);
    assert!(!text.contains("XDG_RUNTIME_DIR"));
    program(lab, &["log", "--verify"]);
}
