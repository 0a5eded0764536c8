// SPDX-License-Identifier: Apache-2.0
//! Rule files: one destination a line, edited without a change to any other byte.
//!
//! ```text
//! # what npm needs
//! registry.npmjs.org:443/tcp      # packages
//! !telemetry.example.com          # denied
//! ```
//!
//! A line is empty, a comment, or a rule: `!` in front denies, else the rule allows. Lines of
//! terok-shield's policy files (`+` allows, `-` denies) are read as well; [`line`] has the
//! differences. Every reading of a line opens at most what the line says.

use terok_clearance::{Action, DestPattern, DisplayText};

mod edit;
mod error;
mod line;

pub use edit::{RuleEditError, RuleFileEdit};
pub use error::{RuleFileError, RuleLineError, RuleLineProblem};

use line::{parse_line, split_ending};

/// Maximum bytes of a rule file.
pub const MAX_RULE_FILE_BYTES: usize = 1024 * 1024;
/// Maximum rules of a rule file.
pub const MAX_FILE_RULES: usize = 65_536;
/// Maximum bytes of a line, without its ending.
pub const MAX_RULE_LINE_BYTES: usize = 1024;

const BYTE_ORDER_MARK: &str = "\u{feff}";

/// A rule of a [`RuleFile`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileRule {
    /// Allow or deny.
    pub action: Action,
    /// The covered destinations.
    pub pattern: DestPattern,
    /// The number of the line, from 1.
    pub line: usize,
}

/// The lines of a rule file. Every line of a value is valid.
///
/// ```
/// use terok_clearance_policy::RuleFile;
/// use terok_clearance::Action;
/// let mut file = RuleFile::parse(b"# mine\nexample.com:443/tcp\n").unwrap();
/// let deny = "ads.example.com".parse().unwrap();
/// file.add(Action::Deny, &deny, Some("by hand")).unwrap();
/// let text = "# mine\nexample.com:443/tcp\n!ads.example.com  # by hand\n";
/// assert_eq!(file.render(), text);
/// assert!(RuleFile::parse(b"https://example.com/x\n").is_err());
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RuleFile {
    has_byte_order_mark: bool,
    lines: Vec<ParsedRuleLine>,
}

/// A line with its ending, and the rules that it states.
#[derive(Debug, Clone, PartialEq, Eq)]
struct ParsedRuleLine {
    text: String,
    rules: Vec<(Action, DestPattern)>,
}

impl RuleFile {
    /// Parses a file. An error contains the errors of all lines.
    pub fn parse(bytes: &[u8]) -> Result<Self, RuleFileError> {
        if bytes.len() > MAX_RULE_FILE_BYTES {
            return Err(RuleFileError::TooLarge { bytes: bytes.len() });
        }
        let (mut file, mut errors, mut count) = (Self::default(), Vec::new(), 0_usize);
        for (index, line) in bytes.split_inclusive(|byte| *byte == b'\n').enumerate() {
            let number = index.saturating_add(1);
            let Ok(mut text) = std::str::from_utf8(line) else {
                let shown = String::from_utf8_lossy(line);
                errors.push(RuleLineError::new(number, &shown, RuleLineProblem::NotUtf8));
                continue;
            };
            if let (0, Some(rest)) = (index, text.strip_prefix(BYTE_ORDER_MARK)) {
                file.has_byte_order_mark = true;
                text = rest;
                if text.is_empty() {
                    break;
                }
            }
            match parse_line(split_ending(text).0) {
                Ok(rules) => {
                    count = count.saturating_add(rules.len());
                    let text = text.to_owned();
                    file.lines.push(ParsedRuleLine { text, rules });
                }
                Err(problem) => errors.push(RuleLineError::new(number, text, problem)),
            }
            if count > MAX_FILE_RULES {
                errors.push(RuleLineError::new(
                    number,
                    text,
                    RuleLineProblem::TooManyRules,
                ));
                break;
            }
        }
        if errors.is_empty() {
            Ok(file)
        } else {
            Err(RuleFileError::Lines(errors))
        }
    }

    /// Returns the text of the file. It parses to the same value.
    pub fn render(&self) -> String {
        let mark = if self.has_byte_order_mark {
            BYTE_ORDER_MARK
        } else {
            ""
        };
        let lines = self.lines.iter().map(|line| line.text.as_str());
        std::iter::once(mark).chain(lines).collect()
    }

    /// Iterates over the rules in the order of the file.
    pub fn rules(&self) -> impl Iterator<Item = FileRule> {
        let numbered = self.lines.iter().enumerate();
        numbered.flat_map(|(index, line)| {
            line.rules.iter().map(move |(action, pattern)| FileRule {
                action: *action,
                pattern: pattern.clone(),
                line: index.saturating_add(1),
            })
        })
    }

    /// Returns the number of rules.
    pub fn rule_count(&self) -> usize {
        self.lines.iter().map(|line| line.rules.len()).sum()
    }

    /// Returns `true` if the file has this rule.
    pub fn contains(&self, action: Action, pattern: &DestPattern) -> bool {
        let mut rules = self.lines.iter().flat_map(|line| &line.rules);
        rules.any(|(own, covered)| *own == action && covered == pattern)
    }

    /// Returns the first line without its ending.
    pub fn first_line(&self) -> Option<&str> {
        Some(split_ending(&self.lines.first()?.text).0)
    }

    /// Returns the text of the first comment line, which tells the purpose of a profile; `None` if
    /// a rule comes first.
    pub fn purpose(&self) -> Option<DisplayText> {
        let lines = self.lines.iter().map(|line| line.text.trim());
        let mut words = lines.map(|line| (line, line.trim_start_matches('#').trim()));
        let (line, comment) =
            words.find(|(_, words)| !words.is_empty() && !words.starts_with("SPDX-"))?;
        line.starts_with('#').then(|| DisplayText::new(comment))
    }
}

#[cfg(test)]
mod tests;
