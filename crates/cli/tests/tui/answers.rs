// SPDX-License-Identifier: Apache-2.0
//! From a blocked packet to the order that `terok-shield` receives.

use crate::session::Session;
use crate::window::Window;

#[test]
fn questions_come_and_are_answered_by_keys() {
    let session = Session::served(true);
    let window = Window::open(&session, 100, 30);
    window.tui("", "");
    window.until("Nothing waits for you");
    session.report(&["one.example", "two.example", "three.example"]);
    let screen = window.until("3 questions wait");
    assert!(
        screen.contains("opens EVERY port and protocol of one.example"),
        "{screen}"
    );
    window.press_until("a", "[1] ALLOWED  EVERY port and protocol of one.example");
    assert_eq!(session.ordered(), "allow 0123456789ab one.example\n");
    window.until("2 questions wait");
    window.press_until("x", "[2] DENIED");
    window.until("1 question waits");
    let orders = "allow 0123456789ab one.example\ndeny 0123456789ab two.example\n";
    assert_eq!(session.ordered(), orders);
    // Without an answer the question stays, also for the next user interface.
    window.press(&["q"]);
    window.until_over(0);
    window.tui("", "");
    window.until("three.example port 443/tcp");
    assert_eq!(session.ordered(), orders);
    window.press(&["C-c"]);
    window.until_over(130);
}

#[test]
fn several_are_marked_and_answered_together() {
    let session = Session::served(true);
    session.report(&["one.example", "two.example", "three.example"]);
    let window = Window::open(&session, 80, 24);
    window.tui("", "");
    window.until("3 questions wait");
    window.press(&["Space"]);
    window.until("1 marked");
    window.press(&["G"]);
    window.until(">    3");
    window.press(&["Space"]);
    window.until("2 marked");
    window.press(&["d"]);
    window.until("DENY these 2 questions?");
    window.press_until("y", "1 question waits");
    let mut orders: Vec<_> = session.ordered().lines().map(str::to_owned).collect();
    orders.sort();
    assert_eq!(
        orders,
        [
            "deny 0123456789ab one.example",
            "deny 0123456789ab three.example"
        ]
    );
}

#[test]
fn a_failure_is_reported_and_the_question_stays() {
    let session = Session::served(false);
    session.report(&["one.example"]);
    let window = Window::open(&session, 120, 30);
    window.tui("NO_COLOR=1", "");
    window.until("1 question waits");
    let screen = window.press_until("a", "took no effect; the question is still open");
    assert!(screen.contains("1 question waits"), "{screen}");
    assert!(screen.contains(">    1"), "{screen}");
}

#[test]
fn a_click_selects_and_does_not_answer() {
    let session = Session::served(true);
    session.report(&["one.example", "two.example", "three.example"]);
    let window = Window::open(&session, 80, 24);
    window.tui("", "");
    window.until("3 questions wait");
    // A press and a release on the third line, as a terminal sends them (SGR, mode 1006).
    window.line_raw("\x1b[<0;20;6M\x1b[<0;20;6m");
    window.until(">    3");
    window.line_raw("\x1b[<0;20;4M\x1b[<0;20;4m\x1b[<0;20;4M\x1b[<0;20;4m");
    window.until(">    1");
    window.press(&["?"]);
    window.until("Keys");
    assert_eq!(session.ordered(), "");
}

#[test]
fn pasted_text_is_not_taken_for_keys() {
    let session = Session::served(true);
    session.report(&["one.example"]);
    let window = Window::open(&session, 80, 24);
    window.tui("", "");
    window.until("1 question waits");
    window.paste("aaa");
    window.until("pasted text is ignored");
    assert_eq!(session.ordered(), "");
}

#[test]
fn text_that_is_pasted_without_a_word_is_no_answer() {
    let session = Session::served(true);
    session.report(&["one.example"]);
    let window = Window::open(&session, 80, 24);
    window.tui("", "");
    window.until("1 question waits");
    // The text has been read.
    std::thread::park_timeout(std::time::Duration::from_millis(600));
    // As in a terminal without bracketed paste, such as screen(1). The `s` opens another page.
    window.line_raw("apt install xd");
    window.until("waiting  firewall sandbox");
    window.press(&["?"]);
    window.until("Keys");
    assert_eq!(session.ordered(), "");
}

#[test]
fn a_restarted_hub_is_reported_and_found_again() {
    let mut session = Session::served(true);
    session.report(&["one.example"]);
    let window = Window::open(&session, 100, 30);
    window.tui("", "");
    window.until("1 question waits");
    session.kill_last();
    let screen = window.until("1 AWAY");
    assert!(
        screen.contains("is disconnected; its questions"),
        "{screen}"
    );
    session.serve();
    window.until_not("AWAY");
    session.report(&["one.example", "two.example"]);
    window.until("2 questions wait");
    window.press_until("a", "ALLOWED");
    assert_eq!(session.ordered(), "allow 0123456789ab one.example\n");
}

#[test]
fn fifty_sandboxes_ask_at_once_and_no_question_is_lost_or_doubled() {
    let session = Session::served(true);
    let window = Window::open(&session, 100, 30);
    window.tui("", "");
    window.until("Nothing waits for you");
    session.storm(50, 500);
    let screen = window.until("500 questions wait");
    assert!(screen.contains("50 sandboxes"), "{screen}");
    window.press(&["*"]);
    window.until("500 marked");
    window.press(&["G"]);
    window.until("500 of 500");
}
