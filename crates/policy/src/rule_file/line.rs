// SPDX-License-Identifier: Apache-2.0
//! One line of a rule file.
//!
//! The lines of terok-shield's policy files begin with `+` or `-`. They are read as in its release
//! 0.9.0, except:
//!
//! - `+name` covers this name alone. There it covers all names below it, too, if the container's
//!   resolver is dnsmasq.
//! - `-name` and `-*.name` each cover the name and all names below it, as there, and every port,
//!   because a port has no effect there. `+dest:PORT` covers this port.
//! - `+*.name` covers the names below `name`. There it covers `name`, too.
//! - `+localhost:PORT`, a port of the machine, is read as `host.internal:PORT/tcp`.
//! - `%expires=…` is refused for an allow, because files have no rules that end. There it is kept,
//!   and has no effect. Other `%key=value` marks have no effect here either.
//! - A network with bits after its prefix is refused, and the error has the network to write.

use terok_clearance::{
    Action, DestPattern, DestPatternError, DisplayText, DomainName, HostPattern, PortRange,
    Protocol,
};

use super::{MAX_RULE_LINE_BYTES, RuleLineProblem};
use crate::HOST_NAME;

const BLANKS: [char; 2] = [' ', '\t'];
const LOCALHOST: &str = "localhost";

/// The parts of a line that states a rule. All parts together, in order, are the line.
#[derive(Debug, Clone, Copy)]
pub(super) struct LineParts<'a> {
    pub(super) indent: &'a str,
    pub(super) mark: RuleMark,
    pub(super) dest: &'a str,
    /// Blanks, marks of terok-shield and a comment.
    pub(super) tail: &'a str,
}

/// What is in front of a destination.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum RuleMark {
    /// Nothing: allow.
    None,
    /// `!`: deny.
    Not,
    /// `+`: allow in terok-shield's format.
    Plus,
    /// `-`: deny in terok-shield's format.
    Minus,
}

impl RuleMark {
    pub(super) const fn action(self) -> Action {
        match self {
            Self::None | Self::Plus => Action::Allow,
            Self::Not | Self::Minus => Action::Deny,
        }
    }

    pub(super) const fn is_of_shield(self) -> bool {
        matches!(self, Self::Plus | Self::Minus)
    }
}

/// Splits a line into its text and its ending, which may be empty.
pub(super) fn split_ending(line: &str) -> (&str, &str) {
    for ending in ["\r\n", "\n"] {
        if let Some(text) = line.strip_suffix(ending) {
            return (text, ending);
        }
    }
    (line, "")
}

/// Returns the parts of a line; `None` for an empty line or a comment.
pub(super) fn split_parts(text: &str) -> Option<LineParts<'_>> {
    let body = text.trim_start_matches(BLANKS);
    if body.is_empty() || body.starts_with('#') {
        return None;
    }
    let indent = text.strip_suffix(body).unwrap_or_default();
    let (mark, rest) = match body.split_at_checked(1) {
        Some(("!", rest)) => (RuleMark::Not, rest.trim_start_matches(BLANKS)),
        Some(("+", rest)) => (RuleMark::Plus, rest),
        Some(("-", rest)) => (RuleMark::Minus, rest),
        _ => (RuleMark::None, body),
    };
    let end = rest.find(|c| BLANKS.contains(&c) || (mark.is_of_shield() && c == '#'));
    let (dest, tail) = end
        .and_then(|end| rest.split_at_checked(end))
        .unwrap_or((rest, ""));
    Some(LineParts {
        indent,
        mark,
        dest,
        tail,
    })
}

/// Parses a line without its ending.
pub(super) fn parse_line(text: &str) -> Result<Vec<(Action, DestPattern)>, RuleLineProblem> {
    if text.len() > MAX_RULE_LINE_BYTES {
        return Err(RuleLineProblem::TooLong);
    }
    if let Some(wrong) = text.chars().find(|c| *c != '\t' && is_forbidden(*c)) {
        return Err(RuleLineProblem::ControlCharacter(wrong.into()));
    }
    let Some(parts) = split_parts(text) else {
        return Ok(Vec::new());
    };
    let action = parts.mark.action();
    if parts.mark.is_of_shield() && parts.dest.is_empty() {
        return Err(RuleLineProblem::DetachedMark);
    }
    check_tail(&parts)?;
    if parts.dest.contains('#') {
        return Err(RuleLineProblem::AttachedComment);
    }
    let pattern: DestPattern = parts.dest.parse()?;
    if action == Action::Allow && is_localhost(pattern.host()) {
        let host = match (parts.mark, pattern.ports()) {
            (RuleMark::Plus, Some(range)) if parts.dest.starts_with(LOCALHOST) => {
                port_of_host(range)
            }
            _ => None,
        };
        let host = host.ok_or(RuleLineProblem::Localhost)?;
        return Ok(vec![(action, host)]);
    }
    if action == Action::Allow && pattern.is_floor() {
        return Err(RuleLineProblem::FloorAllowed);
    }
    if parts.mark == RuleMark::Minus {
        return Ok(denies_of_shield(pattern.host())?);
    }
    Ok(vec![(action, pattern)])
}

/// Returns `true` for a control character, and for one that reorders or breaks the text of a line.
pub(super) fn is_forbidden(c: char) -> bool {
    c.is_control()
        || matches!(
            c,
            '\u{200e}' | '\u{200f}' | '\u{61c}' | '\u{2028}'..='\u{202e}'
        )
        || matches!(c, '\u{2066}'..='\u{2069}' | '\u{feff}')
}

/// Checks what follows the destination.
fn check_tail(parts: &LineParts<'_>) -> Result<(), RuleLineProblem> {
    let tail = if parts.mark.is_of_shield() {
        parts.tail.split('#').next().unwrap_or_default()
    } else {
        parts.tail
    };
    for word in tail.split(BLANKS).filter(|word| !word.is_empty()) {
        if word.starts_with('#') {
            break;
        }
        let key = word
            .strip_prefix('%')
            .filter(|_| parts.mark.is_of_shield())
            .and_then(|mark| mark.split_once('='));
        match key {
            Some(("expires", _)) if parts.mark.action() == Action::Allow => {
                return Err(RuleLineProblem::Expires);
            }
            Some((key, _)) if !key.is_empty() => {}
            _ => return Err(RuleLineProblem::SecondWord(DisplayText::new(word))),
        }
    }
    Ok(())
}

fn is_localhost(host: &HostPattern) -> bool {
    match host {
        HostPattern::Name(name) | HostPattern::Subdomains(name) => {
            name.as_str() == LOCALHOST || name.parents().any(|parent| parent == LOCALHOST)
        }
        HostPattern::Address(_) | HostPattern::Network(_) => false,
    }
}

/// Returns the pattern for a TCP port of the machine.
fn port_of_host(range: PortRange) -> Option<DestPattern> {
    let name: DomainName = HOST_NAME.parse().ok()?;
    DestPattern::new(HostPattern::Name(name), Some(range), Some(Protocol::TCP)).ok()
}

/// Returns what terok-shield's `-` denies.
fn denies_of_shield(host: &HostPattern) -> Result<Vec<(Action, DestPattern)>, DestPatternError> {
    let hosts = match host {
        HostPattern::Name(name) => {
            vec![host.clone(), HostPattern::Subdomains(name.clone())]
        }
        HostPattern::Subdomains(name) => vec![host.clone(), HostPattern::Name(name.clone())],
        HostPattern::Address(_) | HostPattern::Network(_) => vec![host.clone()],
    };
    let denies = hosts.into_iter().map(|host| {
        let pattern = DestPattern::new(host, None, None)?;
        Ok((Action::Deny, pattern))
    });
    denies.collect()
}
