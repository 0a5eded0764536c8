// SPDX-License-Identifier: Apache-2.0
//! A hub that is killed and started again, at each moment of an answer's way: the answer is carried
//! out once, or the person is told that it was not, or that nobody knows; the question stays.

use rustix::process::Signal;
use serde_json::json;
use terok_clearance::DecisionAction;
use terok_clearance::client::{AnswerError, Client, StreamUpdate};
use terok_clearance::wire::clearance2::{DecideError, Event};

use super::{CONTAINER, Whose, asked, event, heard, listed, prompt, terminal};
use crate::harness::{Place, Running, Shield, pending};

const DEST: &str = "api.example.com";

fn block(n: usize) -> serde_json::Value {
    pending(&format!("{CONTAINER}:{n}"), DEST)
}

fn allowed() -> Vec<String> {
    vec![format!("allow {CONTAINER} {DEST}")]
}

async fn kill(hub: Running) {
    hub.signal(Signal::KILL);
    hub.end().await;
}

/// Expects the prompt to say that row 1 waits for a hub that has forgotten it, to refuse an answer
/// to it, and to carry out exactly one when it is asked again.
async fn asked_again(place: &Place, prompt: &mut Running, shield: &Shield) {
    assert_eq!(
        event(prompt, "lapsed").await,
        json!({"event": "lapsed", "row": 1, "request": format!("{CONTAINER}:1")})
    );
    prompt.say("a 1").await;
    let refused = event(prompt, "refused").await;
    let reason = refused["reason"].as_str().unwrap();
    assert!(reason.contains("is stale"), "{reason}");
    prompt.say("l").await;
    assert_eq!(event(prompt, "listed").await["lapsed"], true);
    assert_eq!(shield.asked(), [""; 0]);
    // Heard first: their hub tells only those who listen.
    heard(place, prompt, r#""event":"shield""#).await;
    place.report(&[block(1)]).await;
    let again = event(prompt, "pending").await;
    assert_eq!((&again["row"], &again["blocked"]), (&json!(1), &json!(2)));
    prompt.say("a 1").await;
    assert_eq!(event(prompt, "decided").await["row"], 1);
    assert_eq!(shield.asked(), allowed());
}

#[tokio::test]
async fn between_question_and_answer_the_row_stays_and_is_asked_again() {
    for whose in Whose::BOTH {
        let place = Place::new();
        let shield = Shield::within(&place.path().join("bin"));
        let _helper = place.our_helper(&shield).await;
        let hub = whose.hub(&place).await;
        let mut prompt = prompt(&place).await;
        place.report(&[block(1)]).await;
        event(&mut prompt, "pending").await;
        kill(hub).await;
        // An answer in the gap is refused, and the row is still there.
        while event(&mut prompt, "hub").await["state"] != "down" {}
        prompt.say("a 1").await;
        let refused = event(&mut prompt, "refused").await;
        assert!(
            refused["reason"]
                .as_str()
                .unwrap()
                .contains("is disconnected"),
            "{refused}"
        );
        let _hub = whose.hub(&place).await;
        asked_again(&place, &mut prompt, &shield).await;
    }
}

#[tokio::test]
async fn between_answer_and_reply_it_is_carried_out_once_and_called_unsure() {
    for whose in Whose::BOTH {
        let place = Place::new();
        let shield = Shield::within(&place.path().join("bin"));
        // It waits until somebody writes to the pipe.
        let pipe = place.path().join("pipe");
        let made = std::process::Command::new("mkfifo").arg(&pipe).status();
        assert!(made.unwrap().success());
        shield.does(&format!("exec cat '{}'", pipe.display()));
        let _helper = place.our_helper(&shield).await;
        let hub = whose.hub(&place).await;
        let mut prompt = prompt(&place).await;
        place.report(&[block(1)]).await;
        event(&mut prompt, "pending").await;
        prompt.say("a 1").await;
        while shield.asked().is_empty() {
            tokio::task::yield_now().await;
        }
        kill(hub).await;
        let unsure = event(&mut prompt, "unsure").await;
        assert_eq!(
            (&unsure["row"], &unsure["action"]),
            (&json!(1), &json!("allow"))
        );
        let _hub = whose.hub(&place).await;
        event(&mut prompt, "lapsed").await;
        std::fs::write(&pipe, "").unwrap();
        // Nobody sends it a second time by themselves.
        heard(&place, &mut prompt, r#""event":"shield""#).await;
        assert_eq!(shield.asked(), allowed(), "{whose:?}");
    }
}

/// Kills our hub after it has asked, and returns the new one, and what a client that has asked
/// `question` then gets for its answer.
async fn answered_late(place: &Place, new: &[serde_json::Value]) -> AnswerError {
    let hub = place.our_hub(&[]).await;
    place.report(&[block(1)]).await;
    let socket = place.runtime().shared_hub_sockets().hub;
    let (client, mut events) = Client::start(socket).await.unwrap();
    let question = loop {
        if let StreamUpdate::Event(Event::Pending(question)) = events.next().await {
            break question;
        }
    };
    kill(hub).await;
    // The answer is given while nobody is there, and waits for the hub to return.
    let answer = client.decide(&question, DecisionAction::Allow, None);
    let restart = async {
        let hub = place.our_hub(&[]).await;
        place.report(new).await;
        hub
    };
    let (answer, _running) = tokio::join!(answer, restart);
    let early = answer.unwrap_err();
    // Sent once more by the program's own will, it is the same.
    match client.decide(&question, DecisionAction::Allow, None).await {
        Err(late) if new.is_empty() => assert_eq!(late.to_string(), early.to_string()),
        Err(late) => return late,
        Ok(decision) => panic!("{decision:?}"),
    }
    early
}

#[tokio::test]
async fn an_answer_never_meets_another_question() {
    let place = Place::new();
    let shield = Shield::within(&place.path().join("bin"));
    let _helper = place.our_helper(&shield).await;
    let forgotten = answered_late(&place, &[]).await;
    assert!(
        matches!(
            &forgotten,
            AnswerError::Refused(DecideError::NoSuchRequest { .. })
        ),
        "{forgotten:?}"
    );
    // A reader that starts anew gives the same id to what it sees first.
    let place = Place::new();
    let _helper = place.our_helper(&shield).await;
    let other = pending(&format!("{CONTAINER}:1"), "other.example.com");
    let another = answered_late(&place, &[other]).await;
    assert!(
        matches!(
            &another,
            AnswerError::Refused(DecideError::NotWhatWasAsked { .. })
        ),
        "{another:?}"
    );
    assert_eq!(shield.asked(), [""; 0]);
}

#[tokio::test]
async fn their_terminal_loses_an_answer_in_silence() {
    let place = Place::new();
    let shield = Shield::within(&place.path().join("bin"));
    let _helper = place.our_helper(&shield).await;
    let hub = Whose::Theirs.hub(&place).await;
    let mut terminal = terminal(&place);
    heard(&place, &mut terminal, "Shield up").await;
    place.report(&[block(1)]).await;
    let answer = format!("a {}", asked(&mut terminal).await);
    kill(hub).await;
    terminal.say(&answer).await;
    // It lists the row as before, and never says that the answer went nowhere.
    assert_eq!(listed(&mut terminal).await, 1);
    let _hub = Whose::Theirs.hub(&place).await;
    heard(&place, &mut terminal, "Shield up").await;
    terminal.say(&answer).await;
    assert_eq!(listed(&mut terminal).await, 1);
    let said = terminal.seen();
    assert!(
        !said.contains("llow failed") && !said.contains("Allowed"),
        "{said}"
    );
    assert_eq!(shield.asked(), [""; 0]);
}

#[tokio::test]
async fn a_person_reads_what_became_of_the_row() {
    let place = Place::new();
    let hub = Whose::Ours.hub(&place).await;
    place.report(&[block(1)]).await;
    let mut prompt = Running::start(&mut place.ours(&["clearance"]));
    prompt.until("[1] BLOCKED  api.example.com").await;
    kill(hub).await;
    prompt.until("its questions stay open").await;
    let _hub = Whose::Ours.hub(&place).await;
    let waits = "[1] STALE    the hub restarted; the next packet will ask again as [1]";
    prompt.until(waits).await;
    prompt.say("d 1").await;
    prompt.until("row 1 is stale").await;
    place.report(&[block(1)]).await;
    prompt.until("[1] BLOCKED  api.example.com").await;
    assert!(prompt.end().await.status.success());
}
