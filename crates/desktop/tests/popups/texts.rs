// SPDX-License-Identifier: Apache-2.0
//! The texts of popups. `tests/hostile` covers misleading text of a sandbox.

use serde_json::{Value, json};
use terok_clearance::client::ProtocolVersion;
use terok_clearance::wire::clearance2::Event;
use terok_clearance_desktop::notifier::{
    Notification, NotificationAction, NotificationExpiry, NotificationUrgency, TextLimits,
};
use terok_clearance_desktop::popups::ClickOutcome;
use test_support::questions::NOON_MICROS;

use crate::harness::{PopupHarness, web_question};

#[test]
fn a_question_names_sandbox_destination_and_scope() {
    let check = |more: Value, title: &str, body: &str| {
        let mut harness = PopupHarness::connected();
        harness.receive(Event::Pending(web_question(1, "api.example.com", more)));
        let (_, _, popup) = harness.popup("");
        assert_eq!(popup.summary, title);
        assert_eq!(popup.body, body);
        let labels: Vec<_> = popup
            .actions
            .iter()
            .map(NotificationAction::label)
            .collect();
        assert_eq!(labels, ["Allow", "Deny"]);
        assert_eq!(popup.expiry, NotificationExpiry::Never);
        assert_eq!(popup.hints.urgency, Some(NotificationUrgency::Critical));
        assert!(popup.hints.resident && !popup.hints.transient);
    };
    let opens = "Allow opens api.example.com port 443/tcp, for this run (now 203.0.113.7)";
    check(
        json!({}),
        "Blocked: api.example.com:443",
        &format!("{opens}\nTask: warp/build-42 \u{b7} web\nProtocol: TCP"),
    );
    check(
        json!({"dossier": {"name": "builder"}, "count": 3}),
        "Blocked: api.example.com:443",
        &format!("{opens}\nContainer: builder\nProtocol: TCP\nBlocked 3 times since 12:42:08"),
    );
    check(
        json!({"dossier": {"name": "\u{65e5}\u{672c}\u{8a9e}\u{202e}"}}),
        "Blocked: api.example.com:443",
        &format!("{opens}\nContainer: \u{65e5}\u{672c}\u{8a9e} \nProtocol: TCP"),
    );
    check(
        json!({"dossier": {}, "process": {"pid": 7, "uid": 1000, "name": "curl", "command": []}}),
        "Blocked: api.example.com:443",
        &format!("{opens}\nContainer: web\nProtocol: TCP\nProcess: says it is curl (process 7)"),
    );
    check(
        json!({
            "dest": "2001:db8::7", "address": "2001:db8::7", "domain": null, "protocol": "udp",
            "scope": {"dest": "2001:db8::7", "port": 443, "protocol": "udp", "keep": "once"},
            "dossier": {"project": "warp", "task": "b"},
        }),
        "Blocked: [2001:db8::7]:443",
        "Allow opens 2001:db8::7 port 443/udp, once: the next connection within 60 s\n\
         Task: warp/b\nProtocol: UDP",
    );
    let unresolved = json!({
        "dest": "xn--bcher-kva.example", "address": "xn--bcher-kva.example", "waiting": 2,
        "waiting_since": NOON_MICROS, "dossier": {},
        "scope": {"dest": "xn--bcher-kva.example", "port": 443, "protocol": "tcp", "keep": "once"},
    });
    check(
        unresolved,
        "Blocked: xn--bcher-kva.example:443",
        "Allow opens xn--bcher-kva.example port 443/tcp, once: the connections that wait now\n\
         Container: web\nProtocol: TCP\nName: xn--bcher-kva.example (b\u{fc}cher.example)\n\
         Process: not known\nWaiting: 2 connections wait, since 12:42:07",
    );
    check(
        json!({
            "dest": "10.0.0.7", "address": "10.0.0.7", "domain": null, "zone": "local-network",
            "looked_up_as": "nas.example", "gave_up_after": 15, "dossier": {},
            "scope": {"dest": "10.0.0.7", "port": 443, "protocol": "tcp", "keep": "once"},
            "process": {
                "pid": 7, "uid": 1000, "name": "curl", "command": [], "directory": "/home/u",
                "parents": [{"pid": 5, "name": "bash"}], "other_holders": 1,
            },
        }),
        "Blocked: 10.0.0.7:443",
        "Allow opens 10.0.0.7 port 443/tcp (on your local network), once: the next connection \
         within 60 s\n\
         Container: web\nProtocol: TCP\nDestination: on your local network\n\
         Lookup: name nas.example leads there\n\
         Process: says it is curl (process 7, /home/u); started by: bash; 2 processes share the \
         socket\nWaiting: gave up after 15 s; an answer serves the next attempt",
    );
    check(
        json!({
            "dest": "192.0.2.7", "address": "192.0.2.7", "domain": null, "protocol": "icmp",
            "port": 0, "dossier": {"project": "p"},
            "scope": {"dest": "192.0.2.7", "protocol": "icmp", "keep": "always"},
        }),
        "Blocked: 192.0.2.7",
        "Allow opens all icmp of 192.0.2.7, always, in every sandbox\n\
         Container: web\nProtocol: icmp",
    );
}

/// Returns the popup of a question with every lifetime, for a service with these limits.
fn popup_of(name: &str, limits: TextLimits, changes: Value) -> Notification {
    let mut harness = PopupHarness::connected();
    let now = harness.now();
    harness.model.set_limits(limits, now);
    // As of a hub that resolves a name after the answer.
    let mut question = json!({
        "address": name, "lifetimes": ["once", "sandbox", "project", "always"],
    });
    if let (Value::Object(all), Value::Object(changes)) = (&mut question, changes) {
        all.extend(changes);
    }
    harness.receive(Event::Pending(web_question(1, name, question)));
    harness.wait(2000);
    harness.popup("Blocked: ").2
}

/// Invariant 4: an action is there only with the line that says what it opens.
#[test]
fn further_actions_are_those_that_a_service_shows_whole() {
    let xfce = TextLimits {
        title_columns: 32,
        actions: 4,
        ..TextLimits::CONSERVATIVE
    };
    let check =
        |limits: TextLimits, name: &str, changes: Value, expected: &[&str], lines: &[&str]| {
            let popup = popup_of(name, limits, changes);
            assert_eq!(labels(&popup), expected, "{popup:?}");
            let shown: Vec<_> = popup.body.lines().skip(1).take(lines.len()).collect();
            assert_eq!(shown, lines);
            assert_eq!(popup.essential_lines, 1 + lines.len());
            assert!(
                !popup
                    .body
                    .lines()
                    .skip(1 + lines.len())
                    .any(|line| line.contains("llow"))
            );
        };
    let five = "Allow 5 min: same for 5 minutes";
    let once = "Allow once: only the next connection within 60 s";
    let two: &[&str] = &["Allow", "Deny"];
    check(TextLimits::CONSERVATIVE, "a.example", json!({}), two, &[]);
    check(xfce, "a.example", json!({"lifetimes": []}), two, &[]);
    let four = &["Allow", "Deny", "Allow 5 min", "Allow once"];
    check(xfce, "a.example", json!({}), four, &[five, once]);
    let waiting = json!({"waiting": 2, "lifetimes": ["once", "sandbox"]});
    let waits = "Allow once: only the connections that wait now";
    check(xfce, "a.example", waiting, four, &[five, waits]);
    // The lines for a longer name leave room for one of them, and then for none.
    let longer = format!("{}.example", "x".repeat(40));
    check(xfce, &longer, json!({}), &four[..3], &[five]);
    let longest = format!("{}.example", ["x".repeat(40), "x".repeat(40)].join("."));
    let popup = popup_of(&longest, xfce, json!({}));
    assert_eq!(popup.essential_lines, 1, "{popup:?}");
    let all = [
        "Allow",
        "Deny",
        "Allow 5 min",
        "Allow once",
        "Allow 1 h",
        "Always allow",
    ];
    let (hour, always) = (
        "Allow 1 h: same for 1 hour",
        "Always allow: same always, in every sandbox",
    );
    check(
        TextLimits::UNLIMITED,
        "a.example",
        json!({}),
        &all,
        &[five, once, hour, always],
    );
    // The lifetime of the question itself is that of Allow.
    let own = json!({"scope": {"dest": "a.example", "port": 443, "protocol": "tcp", "keep": "sandbox",
                               "seconds": 300}});
    let others = ["Allow", "Deny", "Allow once", "Allow 1 h", "Always allow"];
    check(
        TextLimits::UNLIMITED,
        "a.example",
        own,
        &others,
        &[once, hour, always],
    );
}

#[test]
fn the_answer_before_is_told_at_the_end() {
    let previous = json!({"previous": {
        "action": "deny", "by": "uid 1000", "at": NOON_MICROS, "keep": "sandbox", "revoked": true,
    }});
    let mut harness = PopupHarness::connected();
    harness.receive(Event::Pending(web_question(1, "a.example", previous)));
    let body = harness.body("Blocked");
    let before =
        "\nBefore: denied for this run, at 2026-11-22 12:42:07 by uid 1000; it was revoked";
    assert!(body.ends_with(before), "{body}");
}

#[test]
fn the_words_of_a_program_are_the_last_line() {
    let words = json!({"reason": "to upload the build", "approver": "not a registry"});
    let mut harness = PopupHarness::connected();
    harness.receive(Event::Pending(web_question(1, "a.example", words)));
    let body = harness.body("Blocked");
    let last = "\nNote: the approver says: not a registry\
                \nNote: the program says: to upload the build";
    assert!(body.ends_with(last), "{body}");
}

/// Invariant 4: a Clearance1 hub opens more than the blocked port, so the popup says so.
#[test]
fn the_scope_of_a_clearance1_hub_is_named_completely() {
    let mut harness = PopupHarness::with("all", ProtocolVersion::Clearance1);
    let whole = json!({"scope": {"dest": "a.example", "keep": "always"}});
    harness.receive(Event::Pending(web_question(1, "a.example", whole)));
    let body = harness.body("Blocked: a.example:443");
    assert!(
        body.contains("Allow opens EVERY port and protocol of a.example"),
        "{body}"
    );
}

#[test]
fn a_repeated_question_is_one_popup() {
    let mut harness = PopupHarness::connected();
    harness.receive_question(1, "a.example");
    for n in 2..100 {
        let more = json!({"id": format!("web:{n}"), "count": n, "last_seen": NOON_MICROS + n});
        harness.receive(Event::Repeated(web_question(1, "a.example", more)));
        harness.wait(10);
    }
    harness.wait(2000);
    assert_eq!(harness.titles(), ["Blocked: a.example:443"]);
    let body = harness.body("Blocked");
    assert!(body.ends_with("Blocked 99 times since 12:42:08"), "{body}");
    assert!(harness.posts <= 4, "{} posts", harness.posts);
}

fn labels(popup: &Notification) -> Vec<&str> {
    let actions = popup.actions.iter();
    actions.map(NotificationAction::label).collect()
}

/// Invariant 4: what a service may cut cannot be allowed.
#[test]
fn a_name_that_may_be_cut_has_no_allow() {
    let letters = "x".repeat(63);
    let label = |count: usize| letters[..count].to_owned();
    for (name, allowed) in [
        ("objects.githubusercontent.com".to_owned(), true),
        (format!("{}.example", label(50)), true),
        (format!("{}.{}.example", label(60), label(20)), false),
        (
            format!(
                "www.bank.example.{l}.{l}.{}.evil.example",
                label(52),
                l = label(63)
            ),
            false,
        ),
        (
            format!("{}evil.example", "www.bank.example.".repeat(10)),
            false,
        ),
        // No host name, but a hub passes on what a reader wrote.
        (
            format!("www.bank.example{}evil.example", " ".repeat(180)),
            false,
        ),
    ] {
        let mut harness = PopupHarness::connected();
        harness.receive_question(1, &name);
        harness.wait(2000);
        let (slot, _, popup) = harness.popup("Blocked: ");
        if allowed {
            assert_eq!(labels(&popup), ["Allow", "Deny"], "{name}");
            assert!(
                popup
                    .body
                    .starts_with(&format!("Allow opens {name} port 443/tcp, for this run ("))
            );
            continue;
        }
        assert!(popup.actions.is_empty(), "{popup:?}");
        let click = { &mut harness }.click_key(slot, "allow");
        assert_eq!(click, ClickOutcome::Ignored);
        let (first, rest) = popup.body.split_once('\n').unwrap();
        for text in [
            popup.summary.trim_end_matches(":443"),
            first.split(" port ").next().unwrap(),
        ] {
            let (start, end) = text.split_once('\u{2026}').unwrap();
            assert!(text.contains(&name[..8]) && start.len() > 12, "{text}");
            assert!(end.len() > 10 && name.ends_with(end), "{text}");
        }
        assert!(rest.starts_with("To answer, type: terok-clearance allow web:1 (or deny)\n"));
        // With a terminal, the screen can be opened.
        let now = harness.now();
        harness.model.set_can_open_screen(true, now);
        harness.wait(2000);
        assert_eq!(labels(&harness.popup("Blocked: ").2), ["Open"]);
        // A notifier that shows all of it offers all of it.
        let now = harness.now();
        harness.model.set_limits(TextLimits::UNLIMITED, now);
        harness.wait(2000);
        let (.., whole) = harness.popup("Blocked: ");
        assert_eq!(labels(&whole), ["Allow", "Deny"]);
        assert_eq!(whole.summary, format!("Blocked: {name}:443"));
    }
}

/// The command is one that a person can type, and a shell reads as it is meant.
#[test]
fn the_line_how_to_answer_names_the_id_if_it_can_be_typed() {
    let v2 = ProtocolVersion::Clearance2;
    let by_id = "To answer, type: terok-clearance allow web:17 (or deny)";
    let on_screen = "Answer in a terminal: terok-clearance tui";
    for (version, id, dest, expected) in [
        (v2, "web:17", "a.example", by_id),
        (v2, "web:17;reboot", "a.example", on_screen),
        (v2, "$(reboot)", "a.example", on_screen),
        (v2, "--help", "a.example", on_screen),
        (v2, &"w".repeat(60), "a.example", on_screen),
        (
            ProtocolVersion::Clearance1,
            "web:17",
            "a.example",
            "To answer, type: terok-clearance allow web:17 --expect a.example (or deny)",
        ),
        (
            ProtocolVersion::Clearance1,
            "web:17",
            "a; reboot",
            on_screen,
        ),
    ] {
        let mut harness = PopupHarness::with("all", version);
        let asked = web_question(1, dest, json!({ "id": id }));
        harness.receive(Event::Pending(asked));
        let (.., popup) = harness.popup("Blocked: ");
        assert_eq!(
            popup.buttonless_hint.as_deref(),
            Some(expected),
            "{id} {dest}"
        );
    }
}
