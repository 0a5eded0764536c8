// SPDX-License-Identifier: Apache-2.0
//! What the question at the command's own terminal says, and the summary in the end, is harmless,
//! whatever the command wants.

use std::path::Path;
use std::time::Duration;

use operator::inbox::{HubId, InboxEvent, OperatorReply};
use supervisor::TraceEvent;
use terok_clearance::client::ProtocolVersion;
use terok_clearance::wire::clearance2::{Event, NumberedEvent, Request};
use terok_clearance::{Action, DisplayText};
use tokio::time::Instant;

use super::super::summary::RunSummary;
use super::{ConsoleAction, InlinePrompt};

#[path = "../../../../../../tests/hostile/harmless.rs"]
#[expect(dead_code, reason = "there are no popups here")]
mod harmless;
#[path = "../../../../../../tests/hostile/hub.rs"]
#[expect(dead_code, reason = "the replies are made here")]
mod hub;
#[path = "../../../../../../tests/hostile/texts.rs"]
#[expect(dead_code, reason = "each text is asked about alone here")]
mod texts;

use harmless::{Harmless, tame};

/// Returns what is said at the terminal, each time followed by a line of its own.
fn words(acts: impl IntoIterator<Item = ConsoleAction>) -> String {
    let words = acts.into_iter().map(|act| match act {
        ConsoleAction::Open(words) => format!("{words}open\n"),
        ConsoleAction::Print(words) => format!("{words}said\n"),
        ConsoleAction::Close(words) => format!("{words}closed\n"),
        ConsoleAction::Notice(questions) => format!("{questions} noticed\n"),
        ConsoleAction::SendAnswers(answers) => format!("{} sent\n", answers.len()),
        ConsoleAction::ForwardKeys | ConsoleAction::Ignore => "nothing\n".to_owned(),
    });
    words.collect()
}

/// Returns all that is said of a sandbox that has this text.
fn said(text: &str) -> String {
    let hub = HubId::new(Path::new("/h"));
    let (mut ask, mut now) = (InlinePrompt::default(), Instant::now());
    let mut said = words(ask.apply_event(&hub, InboxEvent::Up(ProtocolVersion::Clearance2), now));
    let events = hub::events(&[text.to_owned()]).into_iter();
    // A client skips what is no event.
    let read =
        events.filter_map(|event| serde_json::from_value::<NumberedEvent>(event).ok()?.event);
    let (asked, more): (Vec<_>, Vec<_>) =
        read.partition(|event| matches!(event, Event::Pending(_)));
    for event in asked {
        said += &words(ask.apply_event(&hub, InboxEvent::Received(event), now));
    }
    said += &words([ask.handle_keys(b"\x1d", now)]);
    // Round all of them, and on to the one that is withdrawn.
    let withdrawn = hub::host(hub::number(0, "key"));
    let mut shown = String::new();
    for step in 0.. {
        if step > hub::PLACES.len() && shown.contains(&withdrawn) {
            break;
        }
        shown = words([ask.handle_keys(b"n", now)]);
        said += &shown;
    }
    for event in more {
        said += &words(ask.apply_event(&hub, InboxEvent::Received(event), now));
    }
    let reason = DisplayText::from_program_output(text);
    let failed = [
        OperatorReply::Failed(reason.clone()),
        OperatorReply::ResultUnknown(reason),
    ];
    for reply in failed.map(Some).into_iter().chain([None]) {
        now += Duration::from_secs(1);
        let ConsoleAction::SendAnswers(answers) = ask.handle_keys(b"d", now) else {
            panic!("no answer")
        };
        let reply = reply.unwrap_or_else(|| {
            let request = serde_json::to_value(&*answers[0].request).unwrap();
            let decision = hub::decision(&request, text, true);
            OperatorReply::Decided(serde_json::from_value(decision).unwrap())
        });
        said += &words(ask.apply_reply(&answers[0], reply, now));
    }
    said += &words(ask.apply_event(&hub, InboxEvent::Down(text.into()), now));
    said + &words([ask.handle_keys(b"a", now + Duration::from_secs(1))])
}

#[test]
fn everything_that_is_said_at_the_terminal_is_harmless() {
    for (case, text) in texts::all() {
        let harmless = Harmless::new(std::slice::from_ref(&text));
        let shown = said(&text);
        assert_eq!(harmless.text(&said(&tame(&text)), &shown), Ok(()), "{case}");
        for what in [
            "  deny failed: ",
            ": denied\n",
            "the hub withdrew it: ",
            "effect, or not: ",
            "is away",
        ] {
            assert!(shown.contains(what), "{what}: {shown}");
        }
    }
}

#[test]
fn everything_that_is_said_in_the_end_is_harmless() {
    let notes = |text: &str| {
        let summary = RunSummary::default();
        let mut observe = summary.observer();
        let request = hub::question(hub::number(0, "dest"), text);
        let request: Request = serde_json::from_value(request).unwrap();
        observe(TraceEvent::Enforced {
            request: &request.id,
            dest: &request.dest,
            action: Action::Allow,
            duration: Duration::ZERO,
        });
        (summary.text().unwrap(), summary.json().to_string())
    };
    for (case, text) in texts::all() {
        if text.is_empty() {
            // That is no destination.
            continue;
        }
        let harmless = Harmless::new(std::slice::from_ref(&text));
        let (plain, shown) = (notes(&tame(&text)), notes(&text));
        assert_eq!(harmless.text(&plain.0, &shown.0), Ok(()), "{case}");
        assert_eq!(harmless.json(&plain.1, &shown.1), Ok(()), "{case}");
    }
}
