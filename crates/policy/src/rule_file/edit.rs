// SPDX-License-Identifier: Apache-2.0
//! Edits of a rule file that keep every other byte.

use terok_clearance::{Action, DestPattern};

use super::line::{LineParts, is_forbidden, parse_line, split_ending, split_parts};
use super::{
    MAX_FILE_RULES, MAX_RULE_FILE_BYTES, MAX_RULE_LINE_BYTES, ParsedRuleLine, RuleFile,
    RuleLineProblem,
};

/// What an edit changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RuleFileEdit {
    /// Rules that the file did not have before.
    pub added: usize,
    /// Rules that the file does not have any more.
    pub removed: usize,
}

impl RuleFileEdit {
    /// Returns `true` if the file is as before.
    pub const fn is_unchanged(self) -> bool {
        self.added == 0 && self.removed == 0
    }
}

/// A rule cannot be written into the file, which is unchanged.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RuleEditError {
    /// The rule is not valid in a file.
    #[error("the rule for {pattern} cannot be kept in a file: {problem}")]
    Rule {
        /// The rule's destinations.
        pattern: DestPattern,
        /// The reason.
        problem: RuleLineProblem,
    },
    /// The comment has a control character.
    #[error("the comment has a control character")]
    Comment,
    /// The file would be too large.
    #[error(
        "the file would have more than {MAX_RULE_FILE_BYTES} bytes or {MAX_FILE_RULES} rules: \
         remove rules that are not needed any more"
    )]
    Full,
}

impl RuleFile {
    /// Adds a rule at the end, with a comment, and removes the opposite rule for the same pattern.
    /// A rule that exists is not added again.
    pub fn add(
        &mut self,
        action: Action,
        pattern: &DestPattern,
        comment: Option<&str>,
    ) -> Result<RuleFileEdit, RuleEditError> {
        let text = new_line(action, pattern, comment)?;
        let mut edited = self.clone();
        let removed = edited.detach(opposite(action), pattern);
        let is_new = !edited.contains(action, pattern);
        if is_new {
            edited.append(text, (action, pattern.clone()));
        }
        let added = usize::from(is_new);
        self.replace_with(&edited, RuleFileEdit { added, removed })
    }

    /// Removes a rule. A line that states more than this rule keeps the others.
    pub fn remove(
        &mut self,
        action: Action,
        pattern: &DestPattern,
    ) -> Result<RuleFileEdit, RuleEditError> {
        let mut edited = self.clone();
        let removed = edited.detach(action, pattern);
        self.replace_with(&edited, RuleFileEdit { added: 0, removed })
    }

    /// Turns the opposite rule for the pattern into this one, in its place and with its comment.
    /// Without such a rule nothing is changed.
    pub fn set_action(
        &mut self,
        action: Action,
        pattern: &DestPattern,
    ) -> Result<RuleFileEdit, RuleEditError> {
        let old = (opposite(action), pattern.clone());
        if !self.contains(old.0, pattern) {
            return Ok(RuleFileEdit::default());
        }
        let plain = new_line(action, pattern, None)?;
        let existed = self.contains(action, pattern);
        let (mut edited, mut removed) = (self.clone(), 0_usize);
        for line in &mut edited.lines {
            let Some(index) = line.rules.iter().position(|rule| *rule == old) else {
                continue;
            };
            let (text, ending) = split_ending(&line.text);
            let parts = split_parts(text);
            let changed = match parts {
                Some(parts) if !parts.mark.is_of_shield() => {
                    let mark = mark_of(action);
                    format!("{}{mark}{}{}", parts.indent, parts.dest, parts.tail)
                }
                Some(parts) => own_line(&parts, action, pattern),
                None => plain.clone(),
            };
            let changed = if changed.len() > MAX_RULE_LINE_BYTES {
                plain.clone()
            } else {
                changed
            };
            let mut rest = line.rules.clone();
            rest.remove(index);
            let mut text = changed + ending;
            // A line of terok-shield that states two rules becomes two lines.
            for (action, pattern) in &rest {
                let ending = if ending.is_empty() { "\n" } else { ending };
                let kept = new_line(*action, pattern, None)?;
                text = format!("{kept}{ending}{text}");
            }
            *line = ParsedRuleLine {
                text,
                rules: Vec::new(),
            };
            removed = removed.saturating_add(1);
        }
        let added = usize::from(!existed);
        self.replace_with(&edited, RuleFileEdit { added, removed })
    }

    /// Removes the lines of a rule; of a line with more rules, only this one.
    fn detach(&mut self, action: Action, pattern: &DestPattern) -> usize {
        let (mut removed, mut kept) = (0_usize, Vec::with_capacity(self.lines.len()));
        for mut line in std::mem::take(&mut self.lines) {
            let before = line.rules.len();
            line.rules
                .retain(|(own, covered)| *own != action || covered != pattern);
            let gone = before.saturating_sub(line.rules.len());
            removed = removed.saturating_add(gone);
            if gone == 0 {
                kept.push(line);
                continue;
            }
            let (text, ending) = split_ending(&line.text);
            let Some(((action, rest), parts)) = line.rules.first().zip(split_parts(text)) else {
                continue;
            };
            let mut changed = own_line(&parts, *action, rest);
            if changed.len() > MAX_RULE_LINE_BYTES {
                changed = format!("{}{rest}", mark_of(*action));
            }
            line.text = changed + ending;
            kept.push(line);
        }
        self.lines = kept;
        removed
    }

    fn append(&mut self, text: String, rule: (Action, DestPattern)) {
        let ending = match self.lines.first().map(|line| split_ending(&line.text).1) {
            Some("\r\n") => "\r\n",
            _ => "\n",
        };
        if let Some(last) = self.lines.last_mut()
            && split_ending(&last.text).1.is_empty()
        {
            last.text.push_str(ending);
        }
        self.lines.push(ParsedRuleLine {
            text: text + ending,
            rules: vec![rule],
        });
    }

    /// Takes over an edited file if it is a valid one.
    fn replace_with(
        &mut self,
        edited: &Self,
        edit: RuleFileEdit,
    ) -> Result<RuleFileEdit, RuleEditError> {
        if !edit.is_unchanged() {
            let text = edited.render();
            *self = Self::parse(text.as_bytes()).map_err(|_limits| RuleEditError::Full)?;
        }
        Ok(edit)
    }
}

const fn opposite(action: Action) -> Action {
    match action {
        Action::Allow => Action::Deny,
        Action::Deny => Action::Allow,
    }
}

const fn mark_of(action: Action) -> &'static str {
    match action {
        Action::Allow => "",
        Action::Deny => "!",
    }
}

/// Returns the line for a rule, without an ending, if it would be read as this rule.
fn new_line(
    action: Action,
    pattern: &DestPattern,
    comment: Option<&str>,
) -> Result<String, RuleEditError> {
    let comment = comment.map(str::trim).filter(|comment| !comment.is_empty());
    if comment.is_some_and(|comment| comment.chars().any(is_forbidden)) {
        return Err(RuleEditError::Comment);
    }
    let comment = comment.map(|comment| format!("  # {}", comment.trim_start_matches(['#', ' '])));
    let line = format!(
        "{}{pattern}{}",
        mark_of(action),
        comment.unwrap_or_default()
    );
    let refused = |problem| RuleEditError::Rule {
        pattern: pattern.clone(),
        problem,
    };
    parse_line(&line).map_err(refused)?;
    Ok(line)
}

/// Rewrites a line of terok-shield in this format. Its marks become part of the comment.
fn own_line(parts: &LineParts<'_>, action: Action, pattern: &DestPattern) -> String {
    let tail = parts.tail.trim();
    let space = match tail.bytes().next() {
        None => "",
        Some(b'#') => "  ",
        Some(_) => "  # ",
    };
    let (indent, mark) = (parts.indent, mark_of(action));
    format!("{indent}{mark}{pattern}{space}{tail}")
}
