// SPDX-License-Identifier: Apache-2.0
//! The line prompt in each output format: every line is one of its own.

use std::io;

use serde_json::Value;
use terok_clearance::client::ProtocolVersion;
use terok_clearance_operator::Session;
use terok_clearance_operator::prompt::{OutputFormat, PromptOptions, run_prompt};
use test_support::fake_hub::{AnswerReply, CLEARANCE1_ONLY, CLEARANCE2_ONLY, FakeHub, RunningHub};
use tokio::io::AsyncWriteExt as _;
use tokio::sync::watch;

use crate::harmless::{Harmless, all_tame};
use crate::hub;
use crate::texts;

/// Returns a hub whose sandboxes have these texts.
///
/// A Clearance1 hub forwards every message of a reader unchecked.
fn hostile_hub(texts: &[String], version: ProtocolVersion) -> FakeHub {
    let (interfaces, events, reply): (_, _, fn(usize, &str) -> Value) = match version {
        ProtocolVersion::Clearance1 => {
            (CLEARANCE1_ONLY, hub::older_events(texts), hub::older_reply)
        }
        ProtocolVersion::Clearance2 => (CLEARANCE2_ONLY, hub::events(texts), hub::reply),
    };
    let frames: String = events.iter().map(hub::frame).collect();
    let texts = texts.to_owned();
    FakeHub::silent(interfaces)
        .with_frames(frames.into())
        .with_reply(move |answer| {
            let number: usize = answer.request.rsplit_once(':').unwrap().1.parse().unwrap();
            AnswerReply::Json(reply(number, &texts[hub::place_of(number).0]))
        })
}

/// The output of the prompt so far.
struct PromptOutput(watch::Sender<String>);

impl io::Write for PromptOutput {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let text = std::str::from_utf8(bytes).unwrap();
        self.0.send_modify(|output| output.push_str(text));
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Returns the whole output of a prompt with a hub whose sandboxes have these texts: questions,
/// events, the list, the help, and the replies of the hub to answers.
async fn prompt_output(texts: &[String], version: ProtocolVersion, format: OutputFormat) -> String {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("run/terok-clearance.sock");
    let _hub = RunningHub::start(&path, hostile_hub(texts, version));
    let texts = texts.len();
    let (sender, mut output) = watch::channel(String::new());
    let (mut keyboard, input) = tokio::io::duplex(1 << 16);
    let person = async move {
        let received = output.wait_for(|output| output.contains(hub::LAST)).await;
        drop(received.unwrap());
        // A Clearance1 hub reports no times: the age in the list depends on the test's duration.
        let list: &[u8] = if version == ProtocolVersion::Clearance1 && format != OutputFormat::Json
        {
            b"h\n"
        } else {
            b"l\nh\n"
        };
        keyboard.write_all(list).await.unwrap();
        for text in 0..texts {
            for place in hub::ANSWERED {
                let number = hub::number(text, place);
                let before = output.borrow().len();
                let row = row(&output.borrow(), number, format);
                let answer = format!("d {row}\n");
                keyboard.write_all(answer.as_bytes()).await.unwrap();
                let done = |output: &String| has_result(&output[before..], row, number, format);
                drop(output.wait_for(done).await.unwrap());
            }
        }
        keyboard.write_all(b"q\n").await.unwrap();
        let ended = std::future::pending::<()>();
        ended.await;
    };
    let options = PromptOptions {
        format,
        ..PromptOptions::default()
    };
    let session = Session::at_socket(path).unwrap();
    let output = sender.subscribe();
    run_prompt(
        session,
        "here",
        input,
        PromptOutput(sender),
        options,
        person,
    )
    .await
    .unwrap();
    let here = directory.path().to_str().unwrap();
    output.borrow().replace(here, "")
}

/// Returns the row of a question.
fn row(output: &str, number: usize, format: OutputFormat) -> u64 {
    let (named, before, after) = if format == OutputFormat::Json {
        (format!("\"id\":\"{}\"", hub::id(number)), "\"row\":", ',')
    } else {
        (hub::host(number), "[", ']')
    };
    let at = output.find(&named).expect(&named);
    let (_, row) = output[..at].rsplit_once(before).unwrap();
    row.split_once(after).unwrap().0.parse().unwrap()
}

/// Returns `true` if the output contains the result of the answer to a question.
fn has_result(output: &str, row: u64, number: usize, format: OutputFormat) -> bool {
    match format {
        // The first line reports that the answer was sent.
        OutputFormat::Json => output.matches(&format!("\"row\":{row},")).count() > 1,
        OutputFormat::Text => output.contains(&format!("[{row}] ")),
        OutputFormat::Compat => {
            output.contains(&hub::host(number)) || output.contains(&format!("[{row}] "))
        }
    }
}

async fn check_all_texts(format: OutputFormat) {
    let check = |harmless: &Harmless, plain: &str, shown: &str| match format {
        OutputFormat::Json => harmless.json(plain, shown),
        OutputFormat::Text | OutputFormat::Compat => harmless.text(plain, shown),
    };
    let texts = texts::texts();
    let plain = prompt_output(&all_tame(&texts), ProtocolVersion::Clearance2, format).await;
    let shown = prompt_output(&texts, ProtocolVersion::Clearance2, format).await;
    assert_eq!(check(&Harmless::new(&texts), &plain, &shown), Ok(()));
    // The prompt shows only a few questions of a Clearance1 hub at once, so each text has its own.
    for (case, text) in texts::all() {
        let text = [text];
        let plain = prompt_output(&all_tame(&text), ProtocolVersion::Clearance1, format).await;
        let shown = prompt_output(&text, ProtocolVersion::Clearance1, format).await;
        let checked = check(&Harmless::new(&text), &plain, &shown);
        assert_eq!(checked, Ok(()), "{case}");
    }
}

#[tokio::test]
async fn messages_of_hubs_are_harmless_in_text() {
    check_all_texts(OutputFormat::Text).await;
}

#[tokio::test]
async fn messages_of_hubs_are_harmless_in_compatible_text() {
    check_all_texts(OutputFormat::Compat).await;
}

#[tokio::test]
async fn messages_of_hubs_are_harmless_in_json() {
    check_all_texts(OutputFormat::Json).await;
}
