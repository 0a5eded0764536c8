// SPDX-License-Identifier: Apache-2.0
//! The cost of a frame does not grow with the list: only visible rows are built.

use crate::harness::{TestUi, asks};

#[test]
fn maximum_number_of_questions_is_listed_and_drawn() {
    let mut ui = TestUi::up(80, 24);
    let one = asks(1, "h1.example");
    for n in 1..=131_072 {
        let mut next = terok_clearance::wire::clearance2::Request::clone(&one);
        next.id = format!("web:{n}").parse().unwrap();
        next.dest = format!("h{n}.example").parse().unwrap();
        next.scope.dest = next.dest.clone();
        next.domain = Some(next.dest.clone());
        next.address = std::net::IpAddr::from(u32::try_from(n).unwrap().to_be_bytes()).into();
        ui.asks(&next.into());
    }
    ui.wait(600);
    assert!(ui.screen().contains("131072 questions wait"));
    ui.press(crossterm::event::KeyCode::End);
    let screen = ui.screen();
    assert!(screen.contains("h131072.example"), "{screen}");
    // Laying out the whole list two thousand times would exceed the time limit of a test.
    for _ in 0..2000 {
        ui.press(crossterm::event::KeyCode::Up);
        ui.draw();
    }
    assert_eq!(ui.selected(), Some(131_072 - 2000));
}
