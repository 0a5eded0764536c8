// SPDX-License-Identifier: Apache-2.0

use super::*;

fn question(n: u8, domain: &str) -> QueuedQuestion {
    let line = format!(
        r#"{{"type":"pending","container":"web","id":"web:{n}","dest":"203.0.113.{n}","port":443,"proto":6,"domain":"{domain}"}}"#
    );
    QueuedQuestion::parse(&line).unwrap().unwrap()
}

fn screen(says: &[QueueMessage]) -> String {
    says.iter().map(|say| render_message(say, false)).collect()
}

/// Returns the screen after a line of input and the firewall's result.
fn typed(queue: &mut QuestionQueue, line: &str, result: Result<(), DisplayText>) -> String {
    match queue.resolve_input(TypedAnswer::parse(line, false)) {
        Ok((_, action)) => screen(&queue.apply_result(action, result)),
        Err(says) => screen(&says),
    }
}

#[test]
fn text_matches_the_python_tool() {
    let mut queue = QuestionQueue::default();
    let first = screen(&queue.push(question(1, "")));
    assert_eq!(first, "[BLOCKED] 203.0.113.1 :443 \u{2014} allow/deny? ");
    assert_eq!(
        screen(&queue.push(question(2, "b.example"))),
        "\n[BLOCKED] 203.0.113.2 (b.example) :443 (queued)\n\
         [BLOCKED] 203.0.113.1 :443 \u{2014} allow/deny? "
    );
    assert_eq!(
        typed(&mut queue, "yes", Ok(())),
        format!("  Unknown input. Type 'a' to allow or 'd' to deny.\n{first}")
    );
    assert_eq!(
        typed(&mut queue, "a", Err("no".into())),
        format!("  ! verdict failed for 203.0.113.1 (retry with a/d)\n{first}")
    );
    assert_eq!(
        typed(&mut queue, "allow", Ok(())),
        "  \u{2713} allowed 203.0.113.1\n\
         [BLOCKED] 203.0.113.2 (b.example) :443 \u{2014} allow/deny? "
    );
    assert_eq!(
        typed(&mut queue, " D \r", Ok(())),
        "  \u{2717} denied 203.0.113.2 (b.example)\n"
    );
    assert_eq!(typed(&mut queue, "a", Ok(())), "");
    assert_eq!(
        typed(&mut queue, "?", Ok(())),
        "  Unknown input. Type 'a' to allow or 'd' to deny.\n"
    );
}

#[test]
fn only_four_words_are_answers() {
    let check = |line: &str, expected: TypedAnswer| {
        assert_eq!(TypedAnswer::parse(line, false), expected, "{line:?}");
    };
    for word in ["a", "A", "allow", "  Allow\t", "allow\r"] {
        check(word, TypedAnswer::Answer(Action::Allow));
    }
    for word in ["d", "D", "deny", "DENY "] {
        check(word, TypedAnswer::Answer(Action::Deny));
    }
    check("", TypedAnswer::Empty);
    for word in [
        " ",
        "y",
        "aa",
        "a 1",
        "accept",
        "\u{1b}[A",
        "{\"action\":\"allow\"}",
    ] {
        check(word, TypedAnswer::Unknown);
    }
}

#[test]
fn script_can_name_the_request_it_answers() {
    let mut queue = QuestionQueue::default();
    queue.push(question(1, ""));
    let mut take = |line: &str| queue.resolve_input(TypedAnswer::parse(line, true));
    let other = take(r#"{"action":"allow","request":"web:2"}"#);
    assert_eq!(other, Err(vec![QueueMessage::NotAsked("web:2".into())]));
    assert!(take(r#"{"action":"allow","request":"web:1"}"#).is_ok());
    assert!(take(r#"{"action":"deny"}"#).is_ok());
    assert!(take("a").is_ok());
    for line in [
        "{",
        r#"{"action":"maybe"}"#,
        r#"{"action":"allow","all":true}"#,
    ] {
        assert!(
            matches!(take(line), Err(says) if says.first() == Some(&QueueMessage::Unknown)),
            "{line}"
        );
    }
}

#[test]
fn only_pending_events_with_an_address_are_questions() {
    let none = |line: &str| matches!(QueuedQuestion::parse(line), Ok(None));
    let refused = |line: &str| QueuedQuestion::parse(line).is_err();
    assert!(none(r#"{"type":"container_started","container":"web"}"#));
    assert!(refused("not json"));
    assert!(refused("[]"));
    assert!(refused(r#"{"dest":"203.0.113.1"}"#));
    assert!(refused(r#"{"type":"pending"}"#));
    assert!(refused(r#"{"type":"pending","dest":"","port":443}"#));
    assert!(refused(r#"{"type":"pending","dest":"--help","port":443}"#));
    assert!(refused(
        r#"{"type":"pending","dest":"a.example","port":443}"#
    ));
    assert!(refused(
        r#"{"type":"pending","dest":"203.0.113.1","port":70000}"#
    ));
    let short = QueuedQuestion::parse(r#"{"type":"pending","dest":"2001:db8::7"}"#);
    assert_eq!(short.unwrap().unwrap().port, 0);
}

#[test]
fn queued_question_is_not_repeated_until_answered() {
    let mut queue = QuestionQueue::default();
    queue.push(question(1, "a.example"));
    queue.push(question(2, "b.example"));
    assert!(queue.push(question(1, "a.example")).is_empty());
    assert!(queue.push(question(2, "b.example")).is_empty());
    assert_eq!(queue.len(), 2);
    queue.apply_result(Action::Deny, Ok(()));
    queue.apply_result(Action::Deny, Ok(()));
    assert!(queue.len() == 0);
    assert_eq!(queue.push(question(1, "a.example")).len(), 1);
}

#[test]
fn full_queue_is_announced_once() {
    let mut queue = QuestionQueue::default();
    let mut says = Vec::new();
    for n in 0..2 * QuestionQueue::MAX_QUESTIONS {
        let mut question = question(1, "");
        question.domain = format!("{n}.example").as_str().into();
        says = queue.push(question);
        if n == QuestionQueue::MAX_QUESTIONS {
            assert_eq!(says, [QueueMessage::Full]);
        }
    }
    assert_eq!(queue.len(), QuestionQueue::MAX_QUESTIONS);
    assert!(says.is_empty());
}

#[test]
fn json_reports_each_question_once() {
    let mut queue = QuestionQueue::default();
    let lines = |says: &[QueueMessage]| {
        says.iter()
            .map(|say| render_message(say, true))
            .collect::<String>()
    };
    assert_eq!(
        lines(&queue.push(question(1, ""))),
        "{\"event\":\"pending\",\"request\":\"web:1\",\"dest\":\"203.0.113.1\",\"port\":443,\
         \"protocol\":\"tcp\",\"domain\":\"\"}\n"
    );
    let queued = lines(&queue.push(question(2, "b.example")));
    assert_eq!(queued.matches("\"event\":\"queued\"").count(), 1);
    assert_eq!(
        queued.lines().count(),
        1,
        "the first is not said again: {queued}"
    );
    let settled = lines(&queue.apply_result(Action::Allow, Ok(())));
    let events: Vec<_> = settled
        .lines()
        .map(|line| line.contains("\"decided\""))
        .collect();
    assert_eq!(events, [true, false]);
    let failed = lines(&queue.apply_result(Action::Allow, Err("it said no".into())));
    assert!(failed.contains("\"reason\":\"it said no\""), "{failed}");
}
