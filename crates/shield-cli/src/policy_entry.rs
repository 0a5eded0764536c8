// SPDX-License-Identifier: Apache-2.0
//! The lines of policy files: `+` or `-`, a target, an optional port and markers.

use std::collections::BTreeMap;
use std::fmt;

use terok_clearance::DisplayText;

use crate::shield_address::ShieldAddress;
use crate::state_bundle::join_lines;

/// The target of the ports of the host's own loopback interface.
pub(crate) const LOCALHOST: &str = "localhost";

/// What a line does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PolicySign {
    /// `+`: allow.
    Allow,
    /// `-`: deny.
    Deny,
}

/// A line of a policy file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PolicyEntry {
    /// Allow or deny.
    pub sign: PolicySign,
    /// A name (with `*.` for all names below it), an address, a network, or `localhost`.
    pub target: String,
    /// The port.
    pub port: Option<u16>,
    /// The markers `%key=value`, in the order of their keys.
    pub markers: BTreeMap<String, String>,
}

/// A line of a policy file has an error.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {problem} ({text:?})")]
pub struct PolicyLineError {
    line: usize,
    problem: PolicyProblem,
    text: DisplayText,
}

/// The error in a line.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
enum PolicyProblem {
    #[error("a line starts with + (allow) or - (deny)")]
    NoSign,
    #[error("the target is missing")]
    NoTarget,
    #[error("{0:?} is neither a name, an address nor a network")]
    Target(DisplayText),
    #[error("{0:?} is no port from 1 to 65535")]
    Port(DisplayText),
    #[error("the bracket of an IPv6 address is not closed")]
    Bracket,
    #[error("`localhost` can only be allowed")]
    LocalhostDenied,
    #[error("`localhost` needs a port, as in +localhost:8000")]
    LocalhostPort,
    #[error("{0:?} is no marker: write %key=value")]
    Marker(DisplayText),
}

impl PolicyEntry {
    /// Parses one line without a comment.
    fn parse(body: &str) -> Result<Self, PolicyProblem> {
        let mut words = body.split_whitespace();
        let head = words.next().unwrap_or_default();
        let (sign, rest) = match (head.strip_prefix('+'), head.strip_prefix('-')) {
            (Some(rest), _) => (PolicySign::Allow, rest),
            (None, Some(rest)) => (PolicySign::Deny, rest),
            (None, None) => return Err(PolicyProblem::NoSign),
        };
        let (target, port) = split_port(rest)?;
        check_target(sign, target, port)?;
        let mut markers = BTreeMap::new();
        for word in words {
            let marker = || PolicyProblem::Marker(DisplayText::new(word));
            let (key, value) = word
                .strip_prefix('%')
                .and_then(|marker| marker.split_once('='))
                .filter(|(key, _)| !key.is_empty())
                .ok_or_else(marker)?;
            markers.insert(key.to_owned(), value.to_owned());
        }
        let target = target.to_owned();
        Ok(Self {
            sign,
            target,
            port,
            markers,
        })
    }

    /// Creates an entry for `target` without a port, as a verb adds it.
    pub(crate) fn of_target(sign: PolicySign, target: &str) -> Result<Self, PolicyLineError> {
        let entry = Self {
            sign,
            target: target.to_owned(),
            port: None,
            markers: BTreeMap::new(),
        };
        check_target(sign, target, None).map_err(|problem| PolicyLineError {
            line: 1,
            problem,
            text: DisplayText::new(target),
        })?;
        Ok(entry)
    }

    /// Returns the address or network of the target; `None` for a name.
    pub fn address(&self) -> Option<ShieldAddress> {
        self.target.parse().ok()
    }

    /// Returns `true` if the target is a name other than `localhost`.
    pub fn is_name(&self) -> bool {
        self.target != LOCALHOST && self.address().is_none()
    }
}

impl fmt::Display for PolicyEntry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = match self.sign {
            PolicySign::Allow => '+',
            PolicySign::Deny => '-',
        };
        match self.port {
            Some(port) if self.target.contains(':') => {
                write!(f, "{sign}[{}]:{port}", self.target)?;
            }
            Some(port) => write!(f, "{sign}{}:{port}", self.target)?,
            None => write!(f, "{sign}{}", self.target)?,
        }
        for (key, value) in &self.markers {
            write!(f, " %{key}={value}")?;
        }
        Ok(())
    }
}

/// Parses a policy file. Empty lines and comments (`#` to the end of the line) are skipped.
pub fn parse_policy(text: &str) -> Result<Vec<PolicyEntry>, PolicyLineError> {
    let mut entries = Vec::new();
    for (at, line) in text.lines().enumerate() {
        let body = line.split('#').next().unwrap_or_default().trim();
        if line.trim().is_empty() || line.trim_start().starts_with('#') {
            continue;
        }
        let entry = PolicyEntry::parse(body).map_err(|problem| PolicyLineError {
            line: at.saturating_add(1),
            problem,
            text: DisplayText::new(line),
        })?;
        entries.push(entry);
    }
    Ok(entries)
}

/// Returns the text of a policy file.
pub fn render_policy(entries: &[PolicyEntry]) -> String {
    join_lines(entries.iter().map(ToString::to_string))
}

fn split_port(spec: &str) -> Result<(&str, Option<u16>), PolicyProblem> {
    if let Some(inner) = spec.strip_prefix('[') {
        let (host, rest) = inner.split_once(']').ok_or(PolicyProblem::Bracket)?;
        return match rest.strip_prefix(':') {
            Some(port) => Ok((host, Some(parse_port(port)?))),
            None if rest.is_empty() => Ok((host, None)),
            None => Err(PolicyProblem::Port(DisplayText::new(rest))),
        };
    }
    match spec.rsplit_once(':') {
        // Several colons without brackets are an IPv6 address.
        Some((host, port)) if !host.contains(':') && is_number(port) => {
            Ok((host, Some(parse_port(port)?)))
        }
        _ => Ok((spec, None)),
    }
}

fn is_number(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|digit| digit.is_ascii_digit())
}

fn parse_port(text: &str) -> Result<u16, PolicyProblem> {
    let port = is_number(text).then(|| text.parse().ok()).flatten();
    port.filter(|port| *port > 0)
        .ok_or_else(|| PolicyProblem::Port(DisplayText::new(text)))
}

fn check_target(sign: PolicySign, target: &str, port: Option<u16>) -> Result<(), PolicyProblem> {
    if target.is_empty() {
        return Err(PolicyProblem::NoTarget);
    }
    if target == LOCALHOST {
        return match (sign, port) {
            (PolicySign::Deny, _) => Err(PolicyProblem::LocalhostDenied),
            (PolicySign::Allow, None) => Err(PolicyProblem::LocalhostPort),
            (PolicySign::Allow, Some(_)) => Ok(()),
        };
    }
    if target.parse::<ShieldAddress>().is_ok() || is_policy_name(target) {
        return Ok(());
    }
    Err(PolicyProblem::Target(DisplayText::new(target)))
}

/// Returns `true` for labels of letters, digits, `-` and `_`, with or without `*.` in front.
fn is_policy_name(target: &str) -> bool {
    let name = target.strip_prefix("*.").unwrap_or(target);
    let is_label = |label: &str| {
        !label.is_empty()
            && label
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
    };
    name.split('.').all(is_label)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn lines_are_parsed_and_rendered_in_their_canonical_form() {
        let check = |text: &str, expected: &str| {
            assert_eq!(
                render_policy(&parse_policy(text).unwrap()),
                expected,
                "{text}"
            );
        };
        check("", "");
        check("# nothing\n\n   \n", "");
        check("+pypi.org  # index\n", "+pypi.org\n");
        check("+*.pythonhosted.org", "+*.pythonhosted.org\n");
        check("+192.0.2.50:8080", "+192.0.2.50:8080\n");
        check("+[2001:db8::1]:443", "+[2001:db8::1]:443\n");
        check("+[2001:db8::1]", "+2001:db8::1\n");
        check("+2001:db8::1", "+2001:db8::1\n");
        check("+localhost:8000", "+localhost:8000\n");
        check("-a_b.example %x=1 %a=2=3", "-a_b.example %a=2=3 %x=1\n");
        check("  +198.51.100.0/24  ", "+198.51.100.0/24\n");
    }

    #[test]
    fn a_wrong_line_is_named_with_its_number() {
        let check = |text: &str, expected: &str| {
            let error = parse_policy(text).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        };
        check(
            "+a\nb.example",
            "line 2: a line starts with + (allow) or - (deny)",
        );
        check("+", "the target is missing");
        check("+a b", "\"b\" is no marker");
        check("+a %=b", "is no marker");
        check("+a:0", "\"0\" is no port");
        check("+a:65536", "\"65536\" is no port");
        check("+[::1", "bracket");
        check("+[::1]x", "is no port");
        check("-localhost:1", "can only be allowed");
        check("+localhost", "needs a port");
        check("+a..b", "neither a name");
        check("+a;b", "neither a name");
        check("+a\u{7}b", "neither a name");
        check("+# x", "the target is missing");
    }

    proptest! {
        #[test]
        fn parsing_what_was_rendered_changes_nothing(text in "([+-][a-z0-9.:*\\[\\]-]{0,12}( %[a-z]=[a-z])?\n){0,4}") {
            if let Ok(entries) = parse_policy(&text) {
                let rendered = render_policy(&entries);
                prop_assert_eq!(parse_policy(&rendered).unwrap(), entries);
            }
        }

        #[test]
        fn no_text_panics(text in ".*") {
            drop(parse_policy(&text));
        }
    }
}
