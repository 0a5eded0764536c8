// SPDX-License-Identifier: Apache-2.0
//! The people's side: the inbox of questions and the prompts that show it.
//!
//! [`hubs`] finds the hubs and listens to them, [`inbox`] makes one numbered list of what they
//! ask, and [`prompt`] shows the list on a terminal or to a script and takes the answers; [`tui`]
//! does it on the whole screen. Where there is no hub, [`queue`] asks what one reader reports, one
//! question at a time.
//! [`script`] does without a prompt what scripts want done.

pub mod clock;
pub mod discovery;
pub mod inbox;
mod json;
pub mod phrases;
pub mod prompt;
pub mod queue;
pub mod script;
mod session;
pub mod tui;

pub use session::Session;

use terok_clearance::DisplayText;
use tokio::task::JoinError;

/// Returns an error with its causes, harmless to show.
pub fn error_chain(error: &dyn std::error::Error) -> DisplayText {
    let causes = std::iter::successors(Some(error), |error| error.source());
    let causes: Vec<_> = causes.map(ToString::to_string).collect();
    DisplayText::new(&causes.join(": "))
}

/// Returns what a task returned, nothing if it was cancelled; goes on panicking where it panicked.
pub fn join_result<T>(ended: Result<T, JoinError>) -> Option<T> {
    match ended {
        Ok(value) => Some(value),
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            Err(_cancelled) => None,
        },
    }
}
