// SPDX-License-Identifier: Apache-2.0
//! The prompt: plain lines of its own, and none that a sandbox has written.

use std::sync::Arc;

use operator::hubs::Hubs;
use operator::prompt::{Manner, Options, converse};
use terok_clearance::socket::{self, Peer};
use terok_clearance::varlink::{self, Call, Closed, Info, Replies, Service};
use terok_clearance::wire::clearance2;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::cases;

/// A hub that says what it is given, unchecked.
struct Hub(String);

impl Service for Hub {
    fn info(&self) -> Info {
        Info {
            vendor: "terok",
            product: "test",
            version: "1",
            url: "https://example.com",
            interfaces: &[clearance2::INTERFACE],
        }
    }

    async fn call(
        &self,
        _call: Call<'_>,
        _peer: Peer,
        replies: &mut Replies<'_>,
    ) -> Result<(), Closed> {
        let frame =
            |event: &str| format!("{{\"parameters\":{{\"event\":{event}}},\"continues\":true}}\0");
        let pending = format!("{{\"seq\":1,\"kind\":\"pending\",\"request\":{}}}", self.0);
        let frames = frame(&pending) + &frame("{\"seq\":2,\"kind\":\"synced\"}");
        replies.frames(frames.as_bytes()).await?;
        let (_writer, mut hang_up) = replies.split();
        Err(hang_up.wait().await)
    }
}

/// Returns what the prompt says when a hub asks `question`, listed once more.
async fn said(question: String, manner: Manner) -> String {
    let private = std::os::unix::fs::PermissionsExt::from_mode(0o700);
    let directory = tempfile::Builder::new().permissions(private).tempdir();
    let directory = directory.unwrap();
    let path = directory.path().join("hub.sock");
    let listener = socket::bind(&path).unwrap();
    let stop = CancellationToken::new();
    let mut tasks = JoinSet::new();
    let served = varlink::serve(listener, Arc::new(Hub(question)), stop.clone());
    tasks.spawn(async move { served.await.unwrap() });
    let mut output = Vec::new();
    let options = Options {
        manner,
        ..Options::default()
    };
    let hubs = Hubs::one(path).unwrap();
    let never = std::future::pending::<()>();
    let input = "l\nh\nq\n".as_bytes();
    converse(hubs, "here", input, &mut output, options, never)
        .await
        .unwrap();
    stop.cancel();
    String::from_utf8(output).unwrap()
}

#[tokio::test]
async fn whatever_a_question_says_is_plain_text_on_lines_of_ours() {
    let benign = said(cases::pending(1, "quiet"), Manner::Words).await;
    assert!(benign.contains("[1] BLOCKED"), "{benign}");
    let lines = benign.lines().count();
    for (case, text) in cases::all() {
        let shown = said(cases::pending(1, &text), Manner::Words).await;
        let plain = |byte: u8| byte == b'\n' || (b' '..=b'~').contains(&byte);
        assert!(shown.bytes().all(plain), "{case}: {shown:?}");
        assert_eq!(shown.lines().count(), lines, "{case}: {shown}");
        let asked = shown.lines().filter(|line| line.starts_with('['));
        let ours = asked.filter(|line| line.starts_with("[1] BLOCKED  host1.example port 443"));
        assert_eq!(ours.count(), 2, "{case}: {shown}");
    }
}

#[tokio::test]
async fn whatever_a_destination_is_the_output_is_plain() {
    for (case, text) in cases::all() {
        for manner in [Manner::Words, Manner::Json, Manner::Classic] {
            let shown = said(cases::about(1, &text), manner).await;
            // The classic prompt's own first line has a dash.
            let plain = |c: char| matches!(c, '\n' | '\u{2014}' | ' '..='~');
            assert!(shown.chars().all(plain), "{case}: {shown:?}");
            if manner == Manner::Json {
                let whole = |line: &str| serde_json::from_str::<serde_json::Value>(line).is_ok();
                assert!(shown.lines().all(whole), "{case}: {shown}");
            }
        }
    }
}
