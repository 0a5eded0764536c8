// SPDX-License-Identifier: Apache-2.0
//! A container's first connection waits for an answer, which lets that very connection pass or
//! refuses it.

use super::guarded::{Host, Running, WAYS, guarded};
use super::machine::{Account, told};
use super::podman::{SERVER, fetch};

fn are_answered(host: &Host) {
    let mut operator = host.operator();
    for &runtime in host.runtimes() {
        let podman = host.podman().with(runtime);
        for way in WAYS {
            let begin = |page: &str| {
                let words = format!("--rm {} bb:latest {}", guarded(way), fetch(page));
                eprintln!("{runtime}, {way}: {words}");
                Running::begin(podman, &words)
            };
            let before = host.machine.events();
            let mut container = begin("denied");
            let question = operator.asked(SERVER);
            assert_eq!(host.machine.events(), before, "nothing leaves unasked");
            assert!(container.runs());
            operator.decide(&question, 'd');
            let output = container.ends();
            assert!(
                told(&output).contains("onnection refused"),
                "{}",
                told(&output)
            );
            assert_eq!(host.machine.events(), before, "nothing leaves");

            let page = format!("{runtime}-{way}");
            let container = begin(&page);
            let question = operator.asked(SERVER);
            operator.decide(&question, 'a');
            let output = container.ends();
            assert_eq!(
                String::from_utf8_lossy(&output.stdout),
                format!("hello from {SERVER}\n"),
                "{}\n{}",
                told(&output),
                host.messages()
            );
            let asked = host.pages();
            assert_eq!(asked.iter().filter(|other| **other == page).count(), 1);
        }
    }
    let answered = host.runtimes().len() * WAYS.len();
    assert_eq!(host.machine.events_of("tcp").len(), answered);
    assert_eq!(host.questions().len(), 0);
}

#[test]
fn the_first_connection_waits_for_its_answer() {
    are_answered(&Host::set_up(Account::Operator));
}

#[test]
fn the_first_connection_of_roots_container_waits_for_its_answer() {
    are_answered(&Host::set_up(Account::Root));
}

#[test]
fn with_no_operator_a_connection_is_refused_at_once() {
    let host = Host::set_up(Account::Operator);
    for way in WAYS {
        let output = host.begin_fetch(way, way).ends();
        let told = told(&output);
        assert!(
            told.contains("onnection refused"),
            "{told}{}",
            host.messages()
        );
    }
    assert_eq!(host.machine.events().len(), 0);
}

#[test]
fn a_name_is_asked_about_and_no_lookup_leaves_before() {
    let host = Host::set_up(Account::Operator);
    let mut operator = host.operator();
    for way in WAYS {
        let before = host.machine.events();
        let words = format!(
            "--rm {} bb:latest wget -q -O - http://one.test/{way}",
            guarded(way)
        );
        let container = host.begin(&words);
        let question = operator.asked("one.test");
        assert_eq!(host.machine.events(), before, "nothing leaves unasked");
        operator.decide(&question, 'a');
        let output = container.ends();
        assert_eq!(
            String::from_utf8_lossy(&output.stdout),
            format!("hello from {SERVER}\n"),
            "{}\n{}",
            told(&output),
            host.messages()
        );
    }
    assert_eq!(host.pages(), WAYS);
}
