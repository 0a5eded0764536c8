// SPDX-License-Identifier: Apache-2.0
//! Hostile text of a reader is harmless at the terminal and in JSON.

use serde_json::json;
use terok_clearance::DisplayText;

use super::{QuestionQueue, QueueMessage, QueuedQuestion, TypedAnswer, render_message};
use crate::hostile_table::{harmless, texts};

use harmless::{Harmless, all_tame};

/// Returns the output for a reader that reports `texts` in every field.
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
        // A script's answer to another request, whose id may come from another program.
        let answer = json!({"action": "allow", "request": format!("{text}.")});
        say(queue
            .resolve_input(TypedAnswer::parse(&answer.to_string(), true))
            .unwrap_err());
    }
    for text in texts {
        for became in [Err(DisplayText::from_program_output(text)), Ok(())] {
            let (_, action) = queue
                .resolve_input(TypedAnswer::parse("deny", json))
                .unwrap();
            say(queue.apply_result(action, became));
        }
    }
    assert!(queue.len() == 0);
    said
}

#[test]
fn reader_text_is_harmless() {
    let texts = texts::texts();
    // The request ids in the answers have one more character.
    let longer: Vec<_> = texts.iter().map(|text| format!("{text}.")).collect();
    let harmless = Harmless::new(&longer);
    let tame = all_tame(&texts);
    let checked = harmless.text(&said(&tame, false), &said(&texts, false));
    assert_eq!(checked, Ok(()));
    let checked = harmless.json(&said(&tame, true), &said(&texts, true));
    assert_eq!(checked, Ok(()));
}
