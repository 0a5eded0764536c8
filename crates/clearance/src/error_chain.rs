// SPDX-License-Identifier: Apache-2.0
//! An error together with its causes, as one text.

use std::error::Error;

use crate::DisplayText;

/// Returns `error` and its sources, outermost first, joined by `: `.
///
/// The text is cut to 512 characters, the length of program output: the last cause often names
/// the reason.
///
/// ```
/// use terok_clearance::{error_chain, socket::SocketConnectError};
/// let error = SocketConnectError::Io {
///     path: "/run/hub.sock".into(),
///     source: std::io::Error::other("out of memory"),
/// };
/// let text = error_chain(&error);
/// assert_eq!(text.as_str(), "cannot connect to /run/hub.sock: out of memory");
/// ```
pub fn error_chain(error: &dyn Error) -> DisplayText {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    DisplayText::from_program_output(&text)
}
