// SPDX-License-Identifier: Apache-2.0
//! A destination that is blocked again and again is one row.
//!
//! Their terminal tool takes every popup that replaces one for the news of a verdict, and drops
//! the row: after three blocks of one destination it has had 1, 0, and 1 rows. No hub can spare it
//! that in the words it knows, see docs/decisions/0011: said once, every second packet drops the
//! row; said twice, the row stays and the count is wrong; not said, the popup of their desktop
//! notifier never comes back once it is closed. So ours says it once, as theirs does, keeps every
//! recent id answerable, and shows a prompt of its own what it is: one row with a count.

use serde_json::json;

use super::{CONTAINER, Whose, asked, event, heard, listed, prompt, terminal};
use crate::harness::{Place, Shield, pending};

const DEST: &str = "api.example.com";

fn block(n: usize) -> serde_json::Value {
    pending(&format!("{CONTAINER}:{n}"), DEST)
}

#[tokio::test]
async fn their_terminal_drops_every_second_row_of_either_hub() {
    for whose in Whose::BOTH {
        let place = Place::new();
        let _hub = whose.hub(&place).await;
        let shield = Shield::within(&place.path().join("bin"));
        let _helper = place.our_helper(&shield).await;
        let mut terminal = terminal(&place);
        heard(&place, &mut terminal, "Shield up").await;
        let (mut rows, mut number) = (Vec::new(), String::new());
        for n in 1..=3 {
            place.report(&[block(n)]).await;
            if n == 1 {
                number = asked(&mut terminal).await;
            } else {
                terminal.until(&format!("Blocked {n} times since")).await;
            }
            rows.push(listed(&mut terminal).await);
            if n == 2 {
                terminal.say(&format!("a {number}")).await;
                let gone = format!("No pending request [{number}]");
                terminal.until(&gone).await;
            }
        }
        assert_eq!(rows, [1, 0, 1], "{whose:?}");
        // What is there can be answered, by the id that the hub told last.
        terminal.say(&format!("a {number}")).await;
        terminal.until("Allowed: api.example.com").await;
        assert_eq!(shield.asked(), [format!("allow {CONTAINER} {DEST}")]);
    }
}

#[tokio::test]
async fn saying_it_twice_would_keep_their_row_and_count_wrong() {
    let place = Place::new();
    let _hub = Whose::Theirs.hub(&place).await;
    let mut terminal = terminal(&place);
    heard(&place, &mut terminal, "Shield up").await;
    place.report(&[block(1)]).await;
    terminal.until("Protocol: TCP").await;
    place.report(&[block(2), block(2)]).await;
    terminal.until("Blocked 3 times since").await;
    assert_eq!(listed(&mut terminal).await, 1);
}

#[tokio::test]
async fn our_prompt_keeps_one_row_with_either_hub() {
    for whose in Whose::BOTH {
        let place = Place::new();
        let _hub = whose.hub(&place).await;
        let shield = Shield::within(&place.path().join("bin"));
        let _helper = place.our_helper(&shield).await;
        let mut prompt = prompt(&place).await;
        for n in 1..=3 {
            place.report(&[block(n)]).await;
            let kind = if n == 1 { "pending" } else { "repeated" };
            let said = event(&mut prompt, kind).await;
            assert_eq!((&said["row"], &said["blocked"]), (&json!(1), &json!(n)));
            prompt.say("l").await;
            event(&mut prompt, "listed").await;
            let list = event(&mut prompt, "list").await;
            assert_eq!(list["rows"], 1, "{whose:?} after {n}");
        }
        prompt.say("a 1").await;
        let decided = event(&mut prompt, "decided").await;
        assert_eq!((&decided["row"], &decided["ok"]), (&json!(1), &json!(true)));
        assert_eq!(shield.asked(), [format!("allow {CONTAINER} {DEST}")]);
    }
}
