// SPDX-License-Identifier: Apache-2.0
//! Errors in rule files, with the form to write instead.

use std::fmt;

use terok_clearance::{DestPatternError, DisplayText};

use super::{MAX_FILE_RULES, MAX_RULE_FILE_BYTES, MAX_RULE_LINE_BYTES};

/// A text is not a rule file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RuleFileError {
    /// The text is too large.
    #[error(
        "{bytes} bytes; a rule file has at most {MAX_RULE_FILE_BYTES}: divide it into profiles"
    )]
    TooLarge {
        /// The size of the text.
        bytes: usize,
    },
    /// Lines are wrong; all of them, in the order of the file.
    #[error("{}", FirstOf(.0))]
    Lines(Vec<RuleLineError>),
}

/// A line of a rule file is wrong.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {problem}")]
pub struct RuleLineError {
    /// The number of the line, from 1.
    pub line: usize,
    /// The line.
    pub text: DisplayText,
    /// What is wrong, and what to write.
    pub problem: RuleLineProblem,
}

/// What is wrong with a line, and what to write instead.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RuleLineProblem {
    /// The line is not UTF-8.
    #[error("not UTF-8: save the file as UTF-8")]
    NotUtf8,
    /// The line is too long.
    #[error("the line has more than {MAX_RULE_LINE_BYTES} bytes: shorten its comment")]
    TooLong,
    /// The line has a control character or one that reorders text.
    #[error("a control character, U+{0:04X}: remove it, and end lines with a line feed")]
    ControlCharacter(u32),
    /// The file has too many rules.
    #[error("more than {MAX_FILE_RULES} rules: use wider patterns, or divide the file")]
    TooManyRules,
    /// The destination is wrong.
    #[error(transparent)]
    Destination(#[from] DestPatternError),
    /// An allow for destinations that nothing opens.
    #[error("link-local and metadata addresses are never opened: remove the line, or deny with !")]
    FloorAllowed,
    /// More than a destination.
    #[error("{0:?} follows the destination: write one destination a line, and comments after ` #`")]
    SecondWord(DisplayText),
    /// A comment without white space before it.
    #[error("write white space before the comment #")]
    AttachedComment,
    /// A `+` or `-` without a destination next to it.
    #[error(
        "write the destination next to + or -; in this format ! denies, and allows have no mark"
    )]
    DetachedMark,
    /// An allow with an end, which a file does not keep.
    #[error(
        "a file has no rules that end: remove the line, or the mark %expires to allow for good"
    )]
    Expires,
    /// `localhost`, which is the sandbox itself.
    #[error(
        "localhost is the sandbox itself: for a port of this machine write host.internal:PORT/tcp"
    )]
    Localhost,
}

impl RuleLineError {
    pub(super) fn new(line: usize, text: &str, problem: RuleLineProblem) -> Self {
        let text = DisplayText::new(text.trim());
        Self {
            line,
            text,
            problem,
        }
    }
}

impl RuleFileError {
    /// Returns the wrong lines; none if the whole file is refused.
    pub fn lines(&self) -> &[RuleLineError] {
        match self {
            Self::TooLarge { .. } => &[],
            Self::Lines(errors) => errors,
        }
    }
}

/// Formats the first error, and the number of the others.
struct FirstOf<'a>(&'a [RuleLineError]);

impl fmt::Display for FirstOf<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some((first, others)) = self.0.split_first() else {
            return f.write_str("no line is wrong");
        };
        first.fmt(f)?;
        match others.len() {
            0 => Ok(()),
            1 => f.write_str(" (and 1 more line is wrong)"),
            count => write!(f, " (and {count} more lines are wrong)"),
        }
    }
}
