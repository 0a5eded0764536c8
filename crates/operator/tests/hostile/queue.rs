// SPDX-License-Identifier: Apache-2.0
//! The terminal fallback, which asks what one reader reports.

use serde_json::json;
use terok_clearance::DisplayText;
use terok_clearance_operator::queue::{
    QuestionQueue, QueueMessage, QueuedQuestion, Typed, render_message,
};

use crate::harmless::{Harmless, all_tame};
use crate::texts;

/// Returns all that it says of a reader whose sandbox has these texts.
fn said(texts: &[String], json: bool) -> String {
    let mut said = String::new();
    let mut say = |says: Vec<QueueMessage>| {
        said.extend(says.iter().map(|say| render_message(say, json)));
    };
    let mut queue = QuestionQueue::default();
    say(vec![QueueMessage::Watching]);
    for (port, text) in texts.iter().enumerate() {
        let named = json!({
            "type": "pending", "container": text, "id": text, "dest": "203.0.113.7",
            "port": port, "proto": 6, "domain": text, "dossier": {text: text},
        });
        let addressed = json!({"type": "pending", "id": "a", "dest": text, "port": 1, "proto": 6});
        let other = json!({"type": text, "id": text, "dest": text});
        for line in [named, addressed, other] {
            match QueuedQuestion::parse(&line.to_string()) {
                Ok(Some(question)) => say(queue.push(question)),
                Ok(None) => {}
                Err(error) => assert!(!error.to_string().contains(char::is_control)),
            }
        }
        // A script's answer to what is not asked, which another program may have told it.
        let answer = json!({"action": "allow", "request": format!("{text}.")});
        say(queue
            .resolve_input(Typed::parse(&answer.to_string(), true))
            .unwrap_err());
    }
    for text in texts {
        for became in [Err(DisplayText::from_program_output(text)), Ok(())] {
            let (_, action) = queue.resolve_input(Typed::parse("deny", json)).unwrap();
            say(queue.apply_result(action, became));
        }
    }
    assert!(queue.is_empty());
    said
}

#[test]
fn everything_that_a_reader_reports_is_harmless() {
    let texts = texts::texts();
    // What a request is called has one more character.
    let longer: Vec<_> = texts.iter().map(|text| format!("{text}.")).collect();
    let harmless = Harmless::new(&longer);
    let tame = all_tame(&texts);
    let checked = harmless.text(&said(&tame, false), &said(&texts, false));
    assert_eq!(checked, Ok(()));
    let checked = harmless.json(&said(&tame, true), &said(&texts, true));
    assert_eq!(checked, Ok(()));
}
