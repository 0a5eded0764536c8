// SPDX-License-Identifier: Apache-2.0
//! The engine of every user interface: hub discovery, the inbox of questions, and answers.
//!
//! A [`Session`] combines hub discovery, the [`inbox`] and the sending of answers. [`prompt`] is
//! the line prompt, [`script`] the engine of commands without a prompt, [`phrases`] the wording of
//! all user interfaces, [`rules`] that of the rules in force, [`answer_guard`] decides which keys
//! and clicks are answers, and [`bell`] is the sign of a new question.

pub mod answer_guard;
mod answer_scope;
pub mod bell;
pub mod clock;
mod discovery;
pub mod inbox;
mod json;
pub mod phrases;
pub mod prompt;
pub mod rules;
pub mod script;
mod session;
mod text_wrap;

pub use answer_scope::{
    AnswerScope, ScopeChoice, ScopeDuration, ScopeDurationError, ScopeLifetime, ScopeLifetimeError,
    ScopeOverride, ScopeRefusal,
};
pub use session::{Session, SessionOptions};
pub use text_wrap::wrap_lines;

use tokio::task::JoinError;

/// Returns the result of a task, `None` if the task was cancelled. Propagates a panic.
pub fn join_result<T>(ended: Result<T, JoinError>) -> Option<T> {
    match ended {
        Ok(value) => Some(value),
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            Err(_cancelled) => None,
        },
    }
}
