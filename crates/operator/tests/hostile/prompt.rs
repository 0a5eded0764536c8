// SPDX-License-Identifier: Apache-2.0
//! The prompt, in each of its manners: lines of its own, and none that a sandbox has written.

use std::io;

use serde_json::Value;
use terok_clearance::wire::{clearance1, clearance2};
use terok_clearance_operator::Session;
use terok_clearance_operator::prompt::{OutputFormat, PromptOptions, run_prompt};
use tokio::io::AsyncWriteExt as _;
use tokio::sync::watch;

use crate::fakes::{Hub, Running};
use crate::harmless::{Harmless, all_tame};
use crate::hub;
use crate::texts;

/// Returns a hub whose sandboxes have these texts; one that passes on what it hears, if `older`.
pub(crate) fn talking(texts: &[String], older: bool) -> Hub {
    let (hub, events, reply): (_, _, fn(usize, &str) -> Value) = if older {
        let hub = Hub::silent(&[clearance1::INTERFACE]);
        (hub, hub::older_events(texts), hub::older_reply)
    } else {
        let hub = Hub::silent(&[clearance2::INTERFACE]);
        (hub, hub::events(texts), hub::reply)
    };
    let frames: String = events.iter().map(hub::frame).collect();
    let texts = texts.to_owned();
    hub.saying(frames.into()).replying(move |id| {
        let number: usize = id.rsplit_once(':').unwrap().1.parse().unwrap();
        reply(number, &texts[hub::place_of(number).0])
    })
}

/// What the prompt has said so far.
struct Said(watch::Sender<String>);

impl io::Write for Said {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let text = std::str::from_utf8(bytes).unwrap();
        self.0.send_modify(|said| said.push_str(text));
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Returns all that a prompt says of a hub whose sandboxes have these texts: what it asks, what
/// becomes of it, the list, the help, and what the hub replies to answers.
async fn said(texts: &[String], older: bool, manner: OutputFormat) -> String {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("run/terok-clearance.sock");
    let mut running = Running::default();
    let _stop = running.start(&path, talking(texts, older));
    let texts = texts.len();
    let (tell, mut seen) = watch::channel(String::new());
    let (mut keyboard, input) = tokio::io::duplex(1 << 16);
    let person = async move {
        let heard = seen.wait_for(|said| said.contains(hub::LAST)).await;
        drop(heard.unwrap());
        // What an older hub asks is as old as this process, and the list says it in seconds.
        let list: &[u8] = if older && manner != OutputFormat::Json {
            b"h\n"
        } else {
            b"l\nh\n"
        };
        keyboard.write_all(list).await.unwrap();
        for text in 0..texts {
            for place in hub::ANSWERED {
                let number = hub::number(text, place);
                let before = seen.borrow().len();
                let row = row(&seen.borrow(), number, manner);
                let answer = format!("d {row}\n");
                keyboard.write_all(answer.as_bytes()).await.unwrap();
                let done = |said: &String| is_told(&said[before..], row, number, manner);
                drop(seen.wait_for(done).await.unwrap());
            }
        }
        keyboard.write_all(b"q\n").await.unwrap();
        let ended = std::future::pending::<()>();
        ended.await;
    };
    let options = PromptOptions {
        format: manner,
        ..PromptOptions::default()
    };
    let session = Session::at_socket(path).unwrap();
    let said = tell.subscribe();
    run_prompt(session, "here", input, Said(tell), options, person)
        .await
        .unwrap();
    let here = directory.path().to_str().unwrap();
    said.borrow().replace(here, "")
}

/// Returns the row of a question.
fn row(said: &str, number: usize, manner: OutputFormat) -> u64 {
    let (named, before, after) = if manner == OutputFormat::Json {
        (format!("\"id\":\"{}\"", hub::id(number)), "\"row\":", ',')
    } else {
        (hub::host(number), "[", ']')
    };
    let at = said.find(&named).expect(&named);
    let (_, row) = said[..at].rsplit_once(before).unwrap();
    row.split_once(after).unwrap().0.parse().unwrap()
}

/// Says whether the prompt has told what became of the answer to a question.
fn is_told(said: &str, row: u64, number: usize, manner: OutputFormat) -> bool {
    match manner {
        // The first one says that the answer is on its way.
        OutputFormat::Json => said.matches(&format!("\"row\":{row},")).count() > 1,
        OutputFormat::Text => said.contains(&format!("[{row}] ")),
        OutputFormat::Compat => {
            said.contains(&hub::host(number)) || said.contains(&format!("[{row}] "))
        }
    }
}

async fn everything_is_harmless(manner: OutputFormat) {
    let check = |harmless: &Harmless, plain: &str, shown: &str| match manner {
        OutputFormat::Json => harmless.json(plain, shown),
        OutputFormat::Text | OutputFormat::Compat => harmless.text(plain, shown),
    };
    let texts = texts::texts();
    let plain = said(&all_tame(&texts), false, manner).await;
    let shown = said(&texts, false, manner).await;
    assert_eq!(check(&Harmless::new(&texts), &plain, &shown), Ok(()));
    // An older hub passes on what it hears. Of its questions a person is shown so many at once.
    for (case, text) in texts::all() {
        let text = [text];
        let plain = said(&all_tame(&text), true, manner).await;
        let shown = said(&text, true, manner).await;
        let checked = check(&Harmless::new(&text), &plain, &shown);
        assert_eq!(checked, Ok(()), "{case}");
    }
}

#[tokio::test]
async fn everything_that_hubs_say_is_harmless_in_words() {
    everything_is_harmless(OutputFormat::Text).await;
}

#[tokio::test]
async fn everything_that_hubs_say_is_harmless_in_the_classic_words() {
    everything_is_harmless(OutputFormat::Compat).await;
}

#[tokio::test]
async fn everything_that_hubs_say_is_harmless_to_a_program() {
    everything_is_harmless(OutputFormat::Json).await;
}
