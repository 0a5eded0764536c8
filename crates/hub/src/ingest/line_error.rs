// SPDX-License-Identifier: Apache-2.0
//! The reasons why a line of a reader is dropped.

use std::fmt;

use terok_clearance::DisplayText;

/// The reason why a line is dropped.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EventLineError {
    /// The line exceeds the size limit.
    #[error("the line is longer than {} bytes", super::MAX_LINE_BYTES)]
    TooLong,
    /// The line is not UTF-8.
    #[error("the line is not UTF-8")]
    NotUtf8,
    /// The line is not a JSON object.
    #[error("the line is not a JSON object: {0}")]
    NotJsonObject(DisplayText),
    /// The event's type is unknown to this hub.
    #[error("unknown event type")]
    UnknownType,
    /// A field that the event's type requires is missing.
    #[error("missing field {0:?}")]
    MissingField(&'static str),
    /// The value of a field is invalid.
    #[error("invalid field {field:?}: {problem}")]
    InvalidField {
        /// The name of the field.
        field: &'static str,
        /// The reason.
        problem: DisplayText,
    },
}

pub(super) fn parse_field<T: std::str::FromStr<Err: fmt::Display>>(
    text: &str,
    field: &'static str,
) -> Result<T, EventLineError> {
    text.parse().map_err(invalid_field(field))
}

pub(super) fn invalid_field<E: fmt::Display>(
    field: &'static str,
) -> impl FnOnce(E) -> EventLineError {
    move |error| EventLineError::InvalidField {
        field,
        problem: DisplayText::new(&error.to_string()),
    }
}
