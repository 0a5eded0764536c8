// SPDX-License-Identifier: Apache-2.0
//! Questions and rules about names, and the addresses that names lead to.

use super::lab::{Lab, hello};
use super::user::as_everybody;

#[test]
fn two_names_on_one_address_have_questions_and_answers_of_their_own() {
    as_everybody(|user| {
        let lab = Lab::new(user);
        let mut sandbox = lab.sandbox(&[]);
        let mut operator = lab.operator();
        sandbox.begins("together one.test two.test");
        operator.answer("two.test", 'a');
        operator.answer("one.test", 'd');
        let shared = hello("198.51.100.40");
        assert_eq!(
            sandbox.ends(),
            format!("one.test ECONNREFUSED\ntwo.test {shared}")
        );
        // The answers last, in either order, and settle nothing about a third name or the address.
        for (deed, said) in [
            ("greet two.test", &*shared),
            ("greet one.test", "failed: ECONNREFUSED"),
            ("greet two.test", &*shared),
        ] {
            assert_eq!(sandbox.does(deed), said, "{deed}");
        }
        for dest in ["three.test", "198.51.100.40"] {
            sandbox.begins(&format!("greet {dest}"));
            let question = operator.answer(dest, 'a');
            assert_eq!(question["domain"], serde_json::Value::Null, "{question}");
            assert_eq!(sandbox.ends(), shared);
        }
        assert_eq!(
            sandbox.does("greet one.test"),
            "failed: ECONNREFUSED",
            "neither the address nor another name opens a denied name"
        );
        assert_eq!(operator.other_questions(), Vec::<&str>::new());
        assert_eq!(lab.names_asked(), ["three.test", "two.test"]);
    });
}

#[test]
fn three_names_on_one_address_at_once_are_three_questions() {
    as_everybody(|user| {
        let lab = Lab::new(user);
        let mut sandbox = lab.sandbox(&[]);
        let mut operator = lab.operator();
        sandbox.begins("together one.test two.test three.test");
        let names = ["one.test", "two.test", "three.test"];
        let questions = names.map(|name| operator.asked(name));
        for (question, answer) in questions.iter().zip(['a', 'd', 'a']) {
            operator.decide(question, answer);
        }
        let shared = hello("198.51.100.40");
        assert_eq!(
            sandbox.ends(),
            format!("one.test {shared}\ntwo.test ECONNREFUSED\nthree.test {shared}")
        );
        assert_eq!(operator.other_questions(), Vec::<&str>::new());
    });
}

#[test]
fn a_deny_is_for_its_name_alone_and_another_name_there_is_still_asked_about() {
    as_everybody(|user| {
        let lab = Lab::new(user);
        let mut sandbox = lab.sandbox(&[]);
        let mut operator = lab.operator();
        sandbox.begins("greet 198.51.100.40");
        operator.answer("198.51.100.40", 'd');
        assert_eq!(sandbox.ends(), "failed: ECONNREFUSED");
        sandbox.begins("greet one.test");
        operator.answer("one.test", 'a');
        // A deny of the address wins over the name: nothing leads there.
        assert_eq!(sandbox.ends(), "failed: ECONNREFUSED");
        assert_eq!(lab.packets_sent(), Vec::<String>::new());
    });
}

#[test]
fn what_the_program_names_is_what_the_question_names() {
    as_everybody(|user| {
        let lab = Lab::new(user);
        let mut sandbox = lab.sandbox(&["--hold", "0"]);
        let mut operator = lab.operator();
        // Case and a trailing dot are no difference.
        for same in ["PLAIN.Test", "plain.test."] {
            sandbox.does(&format!("greet {same}"));
        }
        operator.answer("plain.test", 'a');
        assert_eq!(sandbox.does("greet Plain.TEST."), hello("198.51.100.41"));
        // The address of one name under another name is the name of the address.
        let stand_in = sandbox.does("resolve one.test");
        sandbox.shell.does(&format!(
            "curl --resolve evil.test:80:{stand_in} http://evil.test/"
        ));
        operator.asked("one.test");
        // An address without a name is an address, of either family.
        for address in ["198.51.100.40", "2001:db8:0:41::41"] {
            sandbox.does(&format!("greet {address}"));
            let question = operator.answer(address, 'a');
            assert_eq!(question["address"], address);
            assert_eq!(sandbox.does(&format!("greet {address}")), hello(address));
        }
        sandbox.does("greet 2001:db8:0:41::42");
        operator.answer("2001:db8:0:41::42", 'd');
        let said = sandbox.does("greet 2001:db8:0:41::42");
        assert_eq!(said, "failed: ECONNREFUSED");
        assert_eq!(operator.other_questions(), Vec::<&str>::new());
    });
}

#[test]
fn options_allow_what_they_say_and_nothing_else() {
    as_everybody(|user| {
        let lab = Lab::new(user);
        let options = [
            "plain.test:7000-7004/tcp",
            "*.corp.test",
            "198.51.100.128/26:7004",
            "[2001:db8:0:41::41]:7004",
        ];
        let options = options.map(|pattern| ["--allow", pattern]).concat();
        let mut sandbox = lab.sandbox(&[&options[..], &["--hold", "0"]].concat());
        let refused = "failed: ECONNREFUSED";
        for (deed, said) in [
            ("greet plain.test", &*hello("198.51.100.41")),
            ("greet plain.test 80", refused),
            ("datagram plain.test hello", refused),
            ("greet search.corp.test", &*hello("198.51.100.130")),
            ("greet corp.test", refused),
            ("greet notcorp.test", refused),
            ("greet 198.51.100.191", &*hello("198.51.100.191")),
            ("greet 198.51.100.191 80", refused),
            ("greet 198.51.100.41", refused),
            ("greet 2001:db8:0:41::41", &*hello("2001:db8:0:41::41")),
            ("greet 2001:db8:0:41::42", refused),
            // A rule for addresses is none for names that lead there.
            ("greet other.test", refused),
        ] {
            assert_eq!(sandbox.does(deed), said, "{deed}");
        }
        assert_eq!(lab.names_asked(), ["plain.test", "search.corp.test"]);
    });
}

#[test]
fn a_name_is_reachable_by_any_of_its_addresses() {
    as_everybody(|user| {
        let lab = Lab::new(user);
        let mut sandbox = lab.sandbox(&["--allow", "*.test"]);
        // IPv6 alone, a dead first address, and more addresses than a datagram holds.
        assert_eq!(sandbox.does("greet v6.test"), hello("2001:db8:0:41::41"));
        assert_eq!(sandbox.does("datagram v6.test hello"), "hello");
        assert_eq!(
            sandbox.does("greet dead.test 7004 3"),
            hello("198.51.100.41")
        );
        for _ in 0..3 {
            let said = sandbox.does("greet many.test 7004 5");
            assert!(said.starts_with(&hello("198.51.100.1")), "{said}");
        }
        let over = |transport| {
            let wanted = ["dns", transport, "many.test", "A"];
            lab.events().contains(&serde_json::json!(wanted))
        };
        assert!(over("udp") && over("tcp"), "the answer was truncated");
    });
}
