// SPDX-License-Identifier: Apache-2.0
//! An idle user interface never wakes up.

use crate::session::Session;
use crate::window::Window;

/// Returns the number of times that each thread of a process went to sleep; each wake-up adds one.
fn sleeps(pid: u32) -> Vec<(String, String)> {
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    let mut sleeps: Vec<_> = tasks
        .map(|task| {
            let path = task.unwrap().path();
            let status = std::fs::read_to_string(path.join("status")).unwrap();
            let line = |name: &str| {
                let found = status.lines().find(|line| line.starts_with(name));
                found.unwrap().to_owned()
            };
            let voluntary = line("voluntary_ctxt_switches");
            (path.display().to_string(), voluntary)
        })
        .collect();
    sleeps.sort();
    sleeps
}

#[test]
fn an_idle_ui_does_not_wake_while_others_work() {
    let session = Session::served(true);
    session.report(&["one.example", "two.example"]);
    let idle = Window::open(&session, 80, 24);
    idle.tui("", "");
    idle.until("2 questions wait");
    // All pending work is done when the reaction to a key is painted.
    idle.press(&["j"]);
    idle.until(">    2");
    let elsewhere = Session::served(true);
    let pid = idle.pid();
    let mut before = sleeps(pid);
    // The kernel may count the last sleep a moment later.
    loop {
        elsewhere.report(&["settle.example"]);
        let now = sleeps(pid);
        if now == before {
            break;
        }
        before = now;
    }
    // Other programs communicate with the hub meanwhile.
    let busy = Window::open(&elsewhere, 80, 24);
    busy.tui("", "");
    busy.until("1 question waits");
    busy.press_until("a", "ALLOWED");
    busy.press(&["q"]);
    busy.until_over(0);
    assert_eq!(sleeps(pid), before);
}
