// SPDX-License-Identifier: Apache-2.0
//! What a run knows of the runs before it, and kept rules that are removed while sandboxes run.

use serde_json::Value;

use super::lab::{Lab, Sandbox, hello};
use super::rules::{REFUSED, linger, lingered, program, rules};
use super::user::{as_everybody, told};

/// Asks about a host, answers the question, and returns it.
fn ask_and_answer(
    lab: &Lab<'_>,
    sandbox: &mut Sandbox,
    host: &str,
    (answer, scope): (char, &str),
) -> Value {
    let mut operator = lab.operator();
    sandbox.begins(&format!("greet {host}"));
    let question = operator.asked(host);
    operator.decide_with(&question, answer, scope);
    sandbox.ends();
    question
}

#[test]
fn a_question_of_a_later_run_says_how_it_was_answered() {
    as_everybody(|user| {
        let lab = Lab::new(user);
        let mut first = lab.sandbox(&[]);
        for (host, answer) in [("plain.test", ('a', "once")), ("one.test", ('d', "run"))] {
            let question = ask_and_answer(&lab, &mut first, host, answer);
            assert!(question["previous"].is_null(), "{question}");
        }
        first.finish();

        let mut second = lab.sandbox(&[]);
        let again = ask_and_answer(&lab, &mut second, "plain.test", ('d', "run"));
        let previous = &again["previous"];
        assert_eq!(previous["action"], "allow", "{again}");
        assert_eq!(previous["keep"], "once", "{again}");
        assert!(previous["at"].as_u64().unwrap() > 0, "{again}");
        let again = ask_and_answer(&lab, &mut second, "one.test", ('a', "always"));
        assert_eq!(again["previous"]["action"], "deny", "{again}");
        let fresh = ask_and_answer(&lab, &mut second, "two.test", ('d', "once"));
        assert!(fresh["previous"].is_null(), "{fresh}");
        second.finish();

        // The newest answer counts. A kept one says nothing while it is in force, and is a revoked
        // one once it is not.
        let mut third = lab.sandbox(&[]);
        let again = ask_and_answer(&lab, &mut third, "plain.test", ('d', "once"));
        assert_eq!(again["previous"]["action"], "deny", "{again}");
        assert_eq!(third.does("greet one.test"), hello("198.51.100.40"));
        program(&lab, &["revoke", "--always", "one.test:7004/tcp"]);
        let mut fourth = lab.sandbox(&["--name", "fourth"]);
        let again = ask_and_answer(&lab, &mut fourth, "one.test", ('d', "once"));
        assert_eq!(again["previous"]["action"], "allow", "{again}");
        assert_eq!(again["previous"]["revoked"], true, "{again}");
        fourth.finish();

        // Another project has answers of its own, and a damaged record is no failure of a run.
        user.directory("other");
        let other = user.path("other");
        let mut elsewhere = lab.sandbox(&["--project", other.to_str().unwrap(), "--name", "x"]);
        let asked = ask_and_answer(&lab, &mut elsewhere, "plain.test", ('d', "once"));
        assert!(asked["previous"].is_null(), "{asked}");
        elsewhere.finish();
        let record = user.path("home/.local/state/terok-clearance/audit.jsonl");
        let text = std::fs::read_to_string(&record).unwrap();
        user.add_file(
            "home/.local/state/terok-clearance/audit.jsonl",
            &text.replace("\"kind\":\"answered\"", "\"kind\":\"answ"),
        );
        let mut damaged = lab.sandbox(&["--name", "y"]);
        let asked = ask_and_answer(&lab, &mut damaged, "plain.test", ('d', "once"));
        assert!(asked["previous"].is_null(), "{asked}");
    });
}

#[test]
fn a_kept_rule_that_is_removed_from_its_file_ends_its_connections() {
    as_everybody(|user| {
        let lab = Lab::new(user);
        let mut sandbox = lab.sandbox(&[]);
        let mut operator = lab.operator();
        for scope in ["always", "project"] {
            linger(&mut sandbox, "plain.test");
            let question = operator.asked("plain.test");
            operator.decide_with(&question, 'a', scope);
            sandbox.ends();
            let listed = program(&lab, &["rules", "--kept", "--json"]);
            let kept = listed.lines().next().unwrap();
            let kept: Value = serde_json::from_str(kept).unwrap();
            let place = if scope == "always" {
                "always"
            } else {
                "project"
            };
            assert_eq!(kept["place"], place, "{listed}");
            assert_eq!(kept["dest"], "plain.test:7001/tcp", "{listed}");
            let place = format!("--{place}");
            let removed = program(&lab, &["revoke", &place, kept["dest"].as_str().unwrap()]);
            assert!(
                removed.starts_with("removed allow plain.test:7001/tcp from /"),
                "{removed}"
            );
            assert_eq!(lingered(&mut sandbox), "reset");
            assert!(rules(&lab).is_empty());
        }
        sandbox.begins("greet plain.test 7001 5");
        operator.answer("plain.test", 'd');
        assert_eq!(sandbox.ends(), REFUSED);
        // Nothing is left to remove.
        let args = ["revoke", "--project", "plain.test:7001/tcp"];
        let again = lab.machine.program(user, &args).output().unwrap();
        assert_eq!(again.status.code(), Some(3), "{}", told(&again));
    });
}
