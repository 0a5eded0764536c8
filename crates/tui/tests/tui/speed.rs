// SPDX-License-Identifier: Apache-2.0
//! What a frame costs does not grow with the list: only the lines of the window are made.

use crate::rig::{Rig, asks};

#[test]
fn as_many_questions_as_a_hub_may_have_are_listed_and_drawn() {
    let mut rig = Rig::up(80, 24);
    let one = asks(1, "h1.example");
    for n in 1..=131_072 {
        let mut next = terok_clearance::wire::clearance2::Request::clone(&one);
        next.id = format!("web:{n}").parse().unwrap();
        next.dest = format!("h{n}.example").parse().unwrap();
        next.scope.dest = next.dest.clone();
        next.domain = Some(next.dest.clone());
        next.address = std::net::IpAddr::from(u32::try_from(n).unwrap().to_be_bytes()).into();
        rig.asks(&next.into());
    }
    rig.wait(600);
    assert!(rig.screen().contains("131072 questions wait"));
    rig.press(crossterm::event::KeyCode::End);
    let screen = rig.screen();
    assert!(screen.contains("h131072.example"), "{screen}");
    // Bounded by what a window shows, not by the list: a whole list laid out two thousand times
    // would not end within the time that a test has.
    for _ in 0..2000 {
        rig.press(crossterm::event::KeyCode::Up);
        rig.draw();
    }
    assert_eq!(rig.selected(), Some(131_072 - 2000));
}
