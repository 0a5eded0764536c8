// SPDX-License-Identifier: Apache-2.0
//! Runs that learn, and the profiles that are made of them.

use serde_json::Value;

use super::lab::{Lab, hello};
use super::rules::{REFUSED, linger, program};
use super::user::{as_everybody, told};

#[test]
fn a_learnt_profile_opens_what_the_run_reached_and_nothing_else() {
    as_everybody(|user| {
        let lab = Lab::new(user);
        let mut sandbox = lab.sandbox(&["--learn", "--deny", "other.test", "--name", "web"]);
        // The operator answers nothing but the question about the private address.
        let mut operator = lab.operator();
        for (host, at) in [("a", "42"), ("b", "43"), ("b", "43")] {
            let said = sandbox.does(&format!("greet {host}.wide.test"));
            assert_eq!(said, hello(&format!("198.51.100.{at}")));
        }
        assert_eq!(sandbox.does("greet 198.51.100.40"), hello("198.51.100.40"));
        linger(&mut sandbox, "plain.test");
        sandbox.ends();
        for closed in ["other.test", "metadata.test", "169.254.169.254"] {
            assert_eq!(
                sandbox.does(&format!("greet {closed}")),
                REFUSED,
                "{closed}"
            );
        }
        sandbox.begins("greet private.test");
        // Processes are searched for one after the other: the connection's has been found.
        let question =
            operator.until(|event| event["dest"] == "10.9.9.9" && !event["process"].is_null());
        assert_eq!(question["looked_up_as"], "private.test", "{question}");
        operator.decide(&question, 'd');
        assert_eq!(sandbox.ends(), REFUSED);
        assert_eq!(operator.other_questions(), ["10.9.9.9"]);
        sandbox.shell.does("kill $L");
        drop(operator);
        let messages = sandbox.finish();
        let loud = "WARNING: --learn: EVERYTHING on the internet is OPEN";
        assert!(messages.contains(loud), "{messages}");
        for line in [
            "learnt 4 destinations:",
            "  198.51.100.40\n    198.51.100.40:7004/tcp  1 connection, ",
            "  wide.test\n    a.wide.test:7004/tcp  1 connection, ",
            "    b.wide.test:7004/tcp  2 connections, ",
            "  plain.test\n    plain.test:7001/tcp  1 connection, ",
            "profile from last",
        ] {
            assert!(messages.contains(line), "{line}: {messages}");
        }
        let (_, of_plain) = messages.split_once("plain.test:7001/tcp").unwrap();
        let of_plain = of_plain.lines().next().unwrap();
        assert!(of_plain.contains(", by python3"), "{messages}");

        let shown = program(&lab, &["profile", "from", "web"]);
        assert!(shown.starts_with("# reached by web, 20"), "{shown}");
        assert!(
            shown.contains("\n#*.wide.test:7004/tcp  # wider: every name"),
            "{shown}"
        );
        let (_, of_plain) = shown.split_once("\nplain.test:7001/tcp  # ").unwrap();
        assert!(
            of_plain.lines().next().unwrap().contains(", by python3"),
            "{shown}"
        );
        // Nobody is there to ask.
        let args = ["profile", "from", "last", "--save", "web"];
        let unasked = lab.machine.program(user, &args).output().unwrap();
        assert_eq!(unasked.status.code(), Some(1), "{}", told(&unasked));
        let saved = program(&lab, &[&args[..], &["--yes"]].concat());
        assert_eq!(saved, shown);
        let again = lab.machine.program(user, &[&args[..], &["--yes"]].concat());
        let again = { again }.output().unwrap();
        assert_eq!(again.status.code(), Some(1), "{}", told(&again));
        assert!(told(&again).contains("exists already"), "{}", told(&again));

        // Without a record, an older run would be the last.
        let mut sandbox = lab.sandbox(&["--learn", "--no-record"]);
        sandbox.does("greet plain.test");
        let messages = sandbox.finish();
        assert!(messages.contains("this run has no record"), "{messages}");

        // The next run asks nothing that the first one needed, and opens nothing else.
        let mut sandbox = lab.sandbox(&["--profile", "web"]);
        let mut operator = lab.operator();
        for (host, at) in [
            ("a.wide.test", "42"),
            ("b.wide.test", "43"),
            ("198.51.100.40", "40"),
        ] {
            let said = sandbox.does(&format!("greet {host}"));
            assert_eq!(said, hello(&format!("198.51.100.{at}")));
        }
        linger(&mut sandbox, "plain.test");
        sandbox.ends();
        assert_eq!(operator.other_questions(), Vec::<&str>::new());
        for (host, port) in [("plain.test", "7004"), ("one.test", "7004")] {
            sandbox.begins(&format!("greet {host} {port}"));
            let question: Value = operator.answer(host, 'd');
            assert_eq!(question["port"], 7004, "{question}");
            assert_eq!(sandbox.ends(), REFUSED);
        }
    });
}
