// SPDX-License-Identifier: Apache-2.0
//! How long answers last, what they cover, and how they are taken back.

use serde_json::Value;

use super::lab::{Lab, Sandbox, hello};
use super::user::{as_everybody, told};

pub(crate) const REFUSED: &str = "failed: ECONNREFUSED";

/// Runs a command of the program on the machine of the lab, and returns its output.
pub(crate) fn program(lab: &Lab<'_>, args: &[&str]) -> String {
    let output = lab.machine.program(lab.user, args).output().unwrap();
    assert!(output.status.success(), "{args:?}: {}", told(&output));
    String::from_utf8(output.stdout).unwrap()
}

/// Returns the rules of the sandbox.
pub(crate) fn rules(lab: &Lab<'_>) -> Vec<Value> {
    let lines = program(lab, &["rules", "--json"]);
    let events = lines
        .lines()
        .map(|line| serde_json::from_str(line).unwrap());
    events
        .filter(|event: &Value| event["event"] == "rule")
        .collect()
}

/// Begins a connection that stays, and waits until it exists.
pub(crate) fn linger(sandbox: &mut Sandbox, host: &str) {
    sandbox.shell.begins(&format!(
        "rm -f up; mkfifo up; python3 w.py linger {host} up > out & L=$!; cat up"
    ));
}

/// Waits for the end of that connection, and returns how it ended.
pub(crate) fn lingered(sandbox: &mut Sandbox) -> String {
    sandbox.shell.does("wait $L; cat out").1
}

#[test]
fn an_answer_for_once_is_for_the_connections_that_wait() {
    as_everybody(|user| {
        let lab = Lab::new(user);
        let mut sandbox = lab.sandbox(&[]);
        let mut operator = lab.operator();
        sandbox.begins("together plain.test plain.test plain.test");
        operator.asked("plain.test");
        let question = operator.waiting("plain.test", 3);
        let decision = operator.decide_with(&question, 'a', "once");
        assert_eq!(decision["scope"]["keep"], "once", "{decision}");
        let greeted = format!("plain.test {}\n", hello("198.51.100.41")).repeat(3);
        assert_eq!(sandbox.ends(), greeted.trim_end());
        // The next one is asked about again, and the question says how it was answered.
        sandbox.begins("greet plain.test");
        let again = operator.asked("plain.test");
        assert_eq!(again["previous"]["action"], "allow", "{again}");
        assert_eq!(again["previous"]["keep"], "once", "{again}");
        operator.decide(&again, 'd');
        assert_eq!(sandbox.ends(), REFUSED);
    });
}

#[test]
fn a_revoked_rule_ends_its_connections_at_once_and_no_others() {
    as_everybody(|user| {
        let lab = Lab::new(user);
        let mut sandbox = lab.sandbox(&["--allow", "other.test"]);
        let mut operator = lab.operator();
        sandbox
            .shell
            .begins("python3 w.py keep other.test go > kept & true");
        sandbox.ends();
        linger(&mut sandbox, "plain.test");
        let question = operator.answer("plain.test", 'a');
        sandbox.ends();
        let listed = rules(&lab);
        let answer = listed.iter().find(|rule| rule["origin"] == "decision");
        let answer = answer.unwrap();
        assert_eq!(answer["open"], 1, "{answer}");
        assert_eq!(answer["dest"], "plain.test:7001/tcp", "{answer}");
        let revoked = program(&lab, &["revoke", answer["name"].as_str().unwrap()]);
        assert!(revoked.contains("ended 1 connection"), "{revoked}");
        assert_eq!(lingered(&mut sandbox), "reset");
        // The other connection goes on, and what was revoked is asked about again.
        assert_eq!(
            sandbox.shell.does("touch go; wait; cat kept").1,
            "connected\nreceived 1"
        );
        sandbox.begins("greet plain.test 7001 5");
        let again = operator.asked("plain.test");
        assert_eq!(again["previous"]["revoked"], true, "{again}");
        assert_ne!(again["row"], question["row"]);
        operator.decide(&again, 'd');
        assert_eq!(sandbox.ends(), REFUSED);
    });
}

#[test]
fn a_rule_for_a_time_ends_with_its_connections() {
    as_everybody(|user| {
        let lab = Lab::new(user);
        let mut sandbox = lab.sandbox(&[]);
        let mut operator = lab.operator();
        linger(&mut sandbox, "plain.test");
        let question = operator.asked("plain.test");
        let decision = operator.decide_with(&question, 'a', "2s");
        assert_eq!(decision["scope"]["seconds"], 2, "{decision}");
        sandbox.ends();
        assert_eq!(lingered(&mut sandbox), "reset");
        assert!(rules(&lab).is_empty());
        sandbox.begins("greet plain.test 7001 5");
        operator.answer("plain.test", 'd');
        assert_eq!(sandbox.ends(), REFUSED);
    });
}

#[test]
fn an_answer_is_changed_in_one_step() {
    as_everybody(|user| {
        let lab = Lab::new(user);
        let mut sandbox = lab.sandbox(&[]);
        let mut operator = lab.operator();
        sandbox.begins("greet plain.test");
        let question = operator.answer("plain.test", 'd');
        assert_eq!(sandbox.ends(), REFUSED);
        let id = question["id"].as_str().unwrap();
        let allowed = program(&lab, &["allow", id]);
        assert!(allowed.contains("denied"), "{allowed}");
        assert_eq!(sandbox.does("greet plain.test"), hello("198.51.100.41"));
        assert_eq!(rules(&lab).len(), 1);
        // The other way round, with a connection that exists.
        linger(&mut sandbox, "plain.test");
        let question = operator.answer("plain.test", 'a');
        sandbox.ends();
        program(&lab, &["deny", question["id"].as_str().unwrap()]);
        assert_eq!(lingered(&mut sandbox), "reset");
        assert_eq!(sandbox.does("greet plain.test 7001 5"), REFUSED);
    });
}

#[test]
fn a_wider_name_covers_its_neighbours_and_nothing_above() {
    as_everybody(|user| {
        let lab = Lab::new(user);
        let mut sandbox = lab.sandbox(&[]);
        let mut operator = lab.operator();
        sandbox.begins("greet a.wide.test");
        let question = operator.asked("a.wide.test");
        assert_eq!(question["wider"], serde_json::json!(["*.wide.test"]));
        let decision = operator.decide_with(&question, 'a', "as *.wide.test");
        assert_eq!(decision["scope"]["dest"], "*.wide.test", "{decision}");
        assert_eq!(sandbox.ends(), hello("198.51.100.42"));
        assert_eq!(sandbox.does("greet b.wide.test"), hello("198.51.100.43"));
        // Another port and another owner are questions.
        sandbox.begins("greet plain.test");
        operator.answer("plain.test", 'd');
        assert_eq!(sandbox.ends(), REFUSED);
        sandbox.begins("greet b.wide.test 7001 5");
        operator.answer("b.wide.test", 'd');
        assert_eq!(sandbox.ends(), REFUSED);
        let explained = program(&lab, &["explain", "sh", "b.wide.test:7004"]);
        assert!(explained.contains("is allowed by sh:r"), "{explained}");
    });
}

#[test]
fn an_open_internet_is_closed_again_with_its_connections() {
    as_everybody(|user| {
        let lab = Lab::new(user);
        let mut sandbox = lab.sandbox(&["--deny", "other.test"]);
        let opened = program(&lab, &["bypass", "sh", "--for", "10m"]);
        assert!(opened.to_lowercase().contains("internet"), "{opened}");
        assert_eq!(sandbox.does("greet plain.test"), hello("198.51.100.41"));
        assert_eq!(sandbox.does("greet other.test"), REFUSED);
        linger(&mut sandbox, "plain.test");
        sandbox.ends();
        program(&lab, &["bypass", "sh", "--end"]);
        assert_eq!(lingered(&mut sandbox), "reset");
        assert!(!rules(&lab).iter().any(|rule| rule["origin"] == "bypass"));
    });
}

#[test]
fn kept_answers_count_in_the_next_run_until_they_are_revoked() {
    as_everybody(|user| {
        let lab = Lab::new(user);
        let mut sandbox = lab.sandbox(&[]);
        let mut operator = lab.operator();
        for (host, scope) in [("plain.test", "project"), ("one.test", "always")] {
            sandbox.begins(&format!("greet {host}"));
            let question = operator.asked(host);
            operator.decide_with(&question, 'a', scope);
            sandbox.ends();
        }
        sandbox.begins("greet two.test");
        let question = operator.asked("two.test");
        operator.decide_with(&question, 'd', "project");
        assert_eq!(sandbox.ends(), REFUSED);
        sandbox.finish();

        // Nothing is asked on the second day.
        let mut sandbox = lab.sandbox(&[]);
        assert_eq!(sandbox.does("greet plain.test"), hello("198.51.100.41"));
        assert_eq!(sandbox.does("greet one.test"), hello("198.51.100.40"));
        assert_eq!(sandbox.does("greet two.test"), REFUSED);
        // What is revoked is gone from the file, and from a run that goes on at the same time.
        let mut other = lab.sandbox(&["--name", "second"]);
        assert_eq!(other.does("greet plain.test"), hello("198.51.100.41"));
        linger(&mut other, "plain.test");
        let asked_again = operator.answer("plain.test", 'a');
        assert_eq!(asked_again["port"], 7001);
        other.ends();
        let listed = rules(&lab);
        let kept = listed.iter().find(|rule| {
            rule["origin"] == "project"
                && rule["action"] == "allow"
                && rule["name"].as_str().unwrap().starts_with("sh:")
        });
        let kept = kept.unwrap()["name"].as_str().unwrap();
        program(&lab, &["revoke", kept]);
        sandbox.begins("greet plain.test");
        operator.answer("plain.test", 'd');
        assert_eq!(sandbox.ends(), REFUSED);
        let mut third = lab.sandbox(&["--name", "third"]);
        third.begins("greet plain.test");
        operator.answer("plain.test", 'd');
        assert_eq!(third.ends(), REFUSED);
    });
}
