// SPDX-License-Identifier: Apache-2.0
//! Five hundred questions in one second, from fifty sandboxes with a live hub each.

use crate::crowd::{Crowd, QUESTIONS, SANDBOXES, Share, last, names, orders, questions};
use crate::session::Session;
use crate::window::Window;

/// A window height with room for all questions and for the confirmation of two hundred answers.
const TALL: u16 = 600;

/// Returns the names of the listed questions, sorted.
fn listed(screen: &str) -> Vec<String> {
    let lines = screen
        .lines()
        .skip_while(|line| !line.contains("wants to reach"));
    let rows = lines.skip(1).take_while(|line| !line.is_empty());
    let name = |row: &str| {
        let mut words = row.split_whitespace();
        // A partially painted row has no name yet.
        let name = words.find(|word| word.ends_with(".example"));
        name.unwrap_or_default().to_owned()
    };
    let mut names: Vec<_> = rows.map(name).collect();
    names.sort();
    names
}

/// Waits until the screen lists exactly these questions, each once. tmux may show a partially
/// painted screen.
fn lists(window: &Window, expected: &[String]) {
    window.until_that("all of them, once", |screen| listed(screen) == expected);
}

#[test]
fn the_screen_has_each_question_once_until_it_is_answered() {
    let session = Session::new();
    let crowd = Crowd::serve(session.runtime());
    let window = Window::open(&session, 140, TALL);
    window.tui("", "");
    window.until(&format!("{SANDBOXES} hubs"));
    crowd.ask();
    window.until(&format!(
        "{QUESTIONS} questions wait  {SANDBOXES} sandboxes"
    ));
    lists(&window, &names(&questions(), |_| true));

    for (share, key, verb, left) in [
        (Share::Allow, "a", "ALLOW", "300 questions wait"),
        (Share::Deny, "d", "DENY", "100 questions wait"),
    ] {
        window.press(&["/"]);
        window.until("filter:");
        window.line_raw(&format!(".{}.example", share.word()));
        window.press(&["Enter"]);
        window.until_not("filter:");
        lists(
            &window,
            &names(&questions(), |question| question.share == share),
        );
        window.press(&["*"]);
        window.until("200 marked");
        window.press(&[key]);
        window.until(&format!("{verb} these 200 questions?"));
        window.press_until("y", left);
        // The filter, which matches no question any more.
        window.press(&["Escape"]);
        window.until_not("with \"");
    }
    // A duplicate would come before the last question of each hub.
    crowd.ask_the_last();
    window.until("150 questions wait");
    let left = [questions(), last()].concat();
    let left = names(&left, |question| question.share == Share::Wait);
    lists(&window, &left);
    window.press(&["q"]);
    window.until_over(0);
    crowd.were_told(orders(&questions()));
}
