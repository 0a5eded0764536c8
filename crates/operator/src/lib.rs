// SPDX-License-Identifier: Apache-2.0
//! The people's side: the inbox of questions and the prompts that show it.
//!
//! [`hubs`] finds the hubs and listens to them, [`inbox`] makes one numbered list of what they
//! ask, and [`prompt`] shows the list on a terminal or to a script and takes the answers. Where
//! there is no hub, [`queue`] asks what one reader reports, one question at a time.
//! [`script`] does without a prompt what scripts want done, and [`notifier`] is what shows a
//! question elsewhere, such as on a desktop.

pub mod hubs;
pub mod inbox;
mod lines;
pub mod notifier;
pub mod prompt;
pub mod queue;
pub mod script;
pub mod words;

use terok_clearance::DisplayText;

/// Returns an error with its causes, harmless to show.
fn whole_story(error: &dyn std::error::Error) -> DisplayText {
    let causes = std::iter::successors(Some(error), |error| error.source());
    let causes: Vec<_> = causes.map(ToString::to_string).collect();
    DisplayText::new(&causes.join(": "))
}

/// Returns the time in microseconds since the epoch.
#[expect(
    clippy::disallowed_methods,
    reason = "the edge: a person is told how long ago it was"
)]
fn now() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.map_or(0, |since| {
        u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
    })
}
