// SPDX-License-Identifier: Apache-2.0
//! The prompt answers no question that it has not shown.

use serde_json::json;
use terok_clearance::wire::clearance2::Event;
use terok_clearance_operator::Session;
use terok_clearance_operator::prompt::{PromptOptions, run_prompt};
use test_support::fake_hub::{BOTH_INTERFACES, FakeHub, RunningHub};
use test_support::questions::question;

#[tokio::test]
async fn a_row_that_was_not_shown_is_not_answered() {
    let mut frames = Vec::new();
    for n in 1..=25 {
        let name = format!("host{n}.example");
        let about = json!({"dest": name});
        Event::Pending(question("web", n, &name, about)).append_frame(n, &mut frames);
    }
    Event::Synced.append_frame(26, &mut frames);
    let hub = FakeHub::silent(BOTH_INTERFACES).with_frames(frames);
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("run/hub.sock");
    let _running = RunningHub::start(&path, hub);
    let mut session = Session::at_socket(path).unwrap();
    while !session.is_synced() {
        session.next().await;
    }
    let mut output = Vec::new();
    run_prompt(
        session,
        "here",
        &b"a 21\nd 25\nl\nq\n"[..],
        &mut output,
        PromptOptions::default(),
        std::future::pending::<()>(),
    )
    .await
    .unwrap();
    let output = String::from_utf8(output).unwrap();
    assert!(output.contains("... and 5 more; l lists them"), "{output}");
    for row in [21, 25] {
        let refusal = format!("row {row} was not shown yet; l lists it; nothing was sent");
        assert!(output.contains(&refusal), "{output}");
    }
    assert!(output.contains("host25.example"), "{output}");
}
