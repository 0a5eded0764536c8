// SPDX-License-Identifier: Apache-2.0
//! Tests of the text output: snapshots, and properties of each line.

use terok_clearance::RuleLifetime;

use super::*;
use crate::checks::DemoVerdict;

fn steps() -> Vec<DemoStep> {
    [setting_up(), fetching(), other_ends()].concat()
}

fn setting_up() -> Vec<DemoStep> {
    vec![
        DemoStep::Sandbox {
            pid: 7,
            took_us: 8_431,
        },
        DemoStep::Internet {
            pid: 8,
            hosts: 6,
            without_v6: None,
            took_us: 15_600,
        },
        DemoStep::Internet {
            pid: 8,
            hosts: 6,
            without_v6: Some("no".into()),
            took_us: 999,
        },
        DemoStep::Firewall {
            resolver: "198.19.0.1".parse().unwrap(),
            verified: true,
            sandbox_links: vec!["lo".to_owned(), "eth0".to_owned()],
            gateway_links: vec!["lo".to_owned(), "gw0".to_owned()],
            socket: "/run/x/hub.sock".into(),
            took_us: 1_204,
        },
        DemoStep::Program {
            confinement: WorkloadConfinement {
                pid: 2,
                uid: 1000,
                capabilities: "0000000000000000".into(),
                no_new_privileges: true,
                seccomp: true,
            },
            took_us: 9_999,
        },
    ]
}

fn api_scope() -> Scope {
    Scope {
        dest: "api.example.com".parse().unwrap(),
        port: Some(80),
        protocol: Some(Protocol::TCP),
        keep: RuleLifetime::Sandbox,
        seconds: None,
    }
}

fn answer(answer: Option<Action>, by: &'static str) -> DemoStep {
    DemoStep::Answer {
        fetch: 1,
        answer,
        by,
        took_us: 1,
    }
}

fn rule(action: Action, protocol: Option<Protocol>, port: Option<u16>) -> DemoStep {
    DemoStep::Rule {
        fetch: 1,
        action,
        dest: "api.example.com".to_owned(),
        protocol,
        port,
        answer_to_rule_us: Some(112),
    }
}

fn refused(answer_to_refused_us: Option<u64>) -> DemoStep {
    DemoStep::Refused {
        fetch: 1,
        result: "Connection refused (os error 111)".into(),
        waited_us: Some(2_345),
        answer_to_refused_us,
    }
}

fn fetching() -> Vec<DemoStep> {
    vec![
        DemoStep::Fetch {
            fetch: 1,
            of: 6,
            url: "http://api.example.com/".to_owned(),
        },
        DemoStep::Packet {
            fetch: 1,
            address: "198.18.203.113:80".parse().unwrap(),
            lookup_us: Some(100),
            at: 1,
            held: true,
        },
        DemoStep::Event {
            fetch: 1,
            request: "c:1".parse().unwrap(),
            dest: "api.example.com".parse().unwrap(),
            at: 1,
            packet_to_log_us: Some(42),
            packet_to_event_us: 181,
        },
        DemoStep::Question {
            fetch: 1,
            request: "c:1".parse().unwrap(),
            scope: api_scope(),
            process: Some(terok_clearance::Process {
                pid: 31337,
                uid: 1000,
                name: "demo-program".into(),
                command: Vec::new(),
                directory: None,
                parents: Vec::new(),
                other_holders: 0,
            }),
        },
        answer(Some(Action::Allow), "--answer"),
        rule(Action::Allow, Some(Protocol::TCP), Some(80)),
        DemoStep::Connected {
            fetch: 1,
            address: "203.0.113.10:80".parse().unwrap(),
            answer_to_connect_us: Some(412),
        },
        DemoStep::Passed {
            fetch: 1,
            result: "hello from api.example.com".into(),
            waited_us: Some(1_500),
            took_us: 612,
        },
    ]
}

/// The steps of fetches that end otherwise.
fn other_ends() -> Vec<DemoStep> {
    vec![
        DemoStep::Packet {
            fetch: 1,
            address: "203.0.113.10:80".parse().unwrap(),
            lookup_us: None,
            at: 1,
            held: false,
        },
        DemoStep::Question {
            fetch: 1,
            request: "c:1".parse().unwrap(),
            scope: Scope::whole_dest(api_scope().dest),
            process: None,
        },
        answer(Some(Action::Deny), "stdin"),
        rule(Action::Deny, None, None),
        refused(Some(88)),
        answer(None, "stdin"),
        refused(None),
        DemoStep::Notice {
            fetch: 1,
            waited_us: Some(301),
        },
        DemoStep::Forged {
            fetch: 1,
            error: "request demo:1000004 is not pending".into(),
        },
        DemoStep::Skipped {
            fetch: 1,
            reason: "this machine has no IPv6".into(),
        },
    ]
}

fn summary(problems: &[&str], missing: &[&str]) -> DemoStep {
    let list = |words: &[&str]| words.iter().map(|&words| words.to_owned()).collect();
    DemoStep::Summary(DemoSummary {
        ok: problems.is_empty() && missing.is_empty(),
        verdict: DemoVerdict {
            asked: 5,
            allowed: 4,
            denied: 1,
            unanswered: 0,
            passed: 4,
            refused: 2,
            names: 4,
            looked_up: missing.is_empty().then_some(3),
            problems: list(problems),
            missing: list(missing),
        },
        packet_to_event_us: Some(181),
        answer_to_connect_us: Some(412),
        took_us: 1_234_567,
    })
}

fn page(colored: bool, steps: &[DemoStep]) -> String {
    let page = StepRenderer { colored };
    page.render_header()
        + &steps
            .iter()
            .map(|step| page.render_step(step))
            .collect::<String>()
}

#[test]
fn the_page_reads_well() {
    let mut steps = steps();
    let missing = "http://a.example/: no answer; it stays closed";
    let problem = "http://b.example/: it was allowed and did not pass";
    steps.extend([
        summary(&[], &[]),
        summary(&[], &[missing]),
        summary(&[problem], &[missing]),
    ]);
    insta::assert_snapshot!(page(false, &steps));
}

#[test]
fn no_line_is_wider_than_a_terminal() {
    let text = page(false, &steps()) + &StepRenderer { colored: false }.render_prompt();
    for line in text.lines() {
        assert!(line.len() <= MAX_COLUMNS, "{} columns: {line}", line.len());
    }
}

#[test]
fn colours_change_nothing_but_colours() {
    let colored = page(true, &steps());
    assert!(colored.contains("\x1b["));
    let mut plain = String::new();
    for piece in colored.split("\x1b[") {
        let digits = piece.find(|c: char| !c.is_ascii_digit()).unwrap_or(0);
        let is_code = digits > 0 && piece[digits..].starts_with('m');
        plain += if is_code { &piece[digits + 1..] } else { piece };
    }
    assert_eq!(plain, page(false, &steps()));
}

#[test]
fn durations_have_three_digits() {
    for (us, expected) in [
        (0, "0.00 ms"),
        (7, "0.00 ms"),
        (97, "0.09 ms"),
        (1_204, "1.20 ms"),
        (15_600, "15.6 ms"),
        (999_999, "999 ms"),
        (1_234_567, "1.23 s"),
    ] {
        assert_eq!(format_duration(us), expected);
    }
}
