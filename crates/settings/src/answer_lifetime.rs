// SPDX-License-Identifier: Apache-2.0
//! How long an answer lasts, in the words of the files.

use std::fmt;
use std::str::FromStr;

use terok_clearance::DisplayText;

use crate::TimeSpan;

/// How long an answer lasts, in ascending order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum AnswerLifetime {
    /// This connection.
    Once,
    /// A span of time, within the run.
    For(TimeSpan),
    /// This run.
    Run,
    /// Every run in the project.
    Project,
    /// Every run.
    Always,
}

/// A text is not an [`AnswerLifetime`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not how long an answer lasts: write once, 5m, 1h, run, project or always")]
pub struct AnswerLifetimeError(DisplayText);

impl FromStr for AnswerLifetime {
    type Err = AnswerLifetimeError;

    fn from_str(text: &str) -> Result<Self, AnswerLifetimeError> {
        match text {
            "once" => Ok(Self::Once),
            "run" => Ok(Self::Run),
            "project" => Ok(Self::Project),
            "always" => Ok(Self::Always),
            span => match span.parse::<TimeSpan>() {
                Ok(span) if !span.duration().is_zero() => Ok(Self::For(span)),
                Ok(_) | Err(_) => Err(AnswerLifetimeError(DisplayText::new(text))),
            },
        }
    }
}

impl fmt::Display for AnswerLifetime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Once => f.write_str("once"),
            Self::For(span) => span.fmt(f),
            Self::Run => f.write_str("run"),
            Self::Project => f.write_str("project"),
            Self::Always => f.write_str("always"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_words_ascend_from_once_to_always() {
        let words = ["once", "30s", "5m", "1h", "run", "project", "always"];
        let parsed = words.map(|word| word.parse::<AnswerLifetime>().unwrap());
        assert!(parsed.is_sorted_by(|short, long| short < long));
        assert_eq!(parsed.map(|lifetime| lifetime.to_string()), words);
        for wrong in ["", "Once", "forever", "0s", "5", "sandbox"] {
            assert!(wrong.parse::<AnswerLifetime>().is_err(), "{wrong}");
        }
    }
}
