// SPDX-License-Identifier: Apache-2.0
//! What carries orders out, and how it answers.

use std::fmt;

use terok_clearance::wire::verdict1::ApplyReply;
use terok_clearance::{DisplayText, EnforcementOutcome};

use crate::VerdictOrder;

/// A way to the firewall.
pub trait VerdictBackend: Send + Sync + 'static {
    /// Says whether it can enforce a port, a protocol or a time; one that cannot refuses them.
    fn supports_ports(&self) -> bool;

    /// Carries an order out, within a time limit of its own.
    ///
    /// It never fails but by its reply; dropped before it is done, it leaves no process behind.
    fn apply(&self, order: &VerdictOrder) -> impl Future<Output = VerdictReply> + Send;
}

/// What became of an order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerdictReply {
    /// Whether the firewall took it.
    pub ok: bool,
    /// Why not; with a program, what it wrote to its standard error.
    pub stderr: SanitizedStderr,
}

impl VerdictReply {
    /// The order is in force.
    pub fn applied() -> Self {
        Self {
            ok: true,
            stderr: SanitizedStderr::default(),
        }
    }

    /// The order is not in force, for this reason.
    pub fn failed(reason: &str) -> Self {
        Self {
            ok: false,
            stderr: SanitizedStderr::new(reason.as_bytes()),
        }
    }

    /// Makes a reply of an error and of what caused it.
    pub(crate) fn from_error(what: &str, error: &dyn std::error::Error) -> Self {
        let mut reason = format!("{what}{error}");
        let mut source = error.source();
        while let Some(cause) = source {
            reason = format!("{reason}: {cause}");
            source = cause.source();
        }
        Self::failed(&reason)
    }

    /// What a backend says that cannot enforce how narrow an order is.
    pub(crate) fn unsupported_scope() -> Self {
        Self::failed("cannot enforce a narrower scope than the whole destination")
    }
}

impl From<VerdictReply> for EnforcementOutcome {
    fn from(reply: VerdictReply) -> Self {
        if reply.ok {
            Self::Applied
        } else {
            Self::Failed(DisplayText::from_program_output(reply.stderr.as_str()))
        }
    }
}

impl From<VerdictReply> for ApplyReply {
    fn from(reply: VerdictReply) -> Self {
        Self {
            ok: reply.ok,
            stderr: reply.stderr.0,
        }
    }
}

/// What somebody said of an order: at most 512 bytes of printable ASCII.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SanitizedStderr(String);

impl SanitizedStderr {
    /// The most bytes of it that are kept.
    pub const MAX_BYTES: usize = 512;

    /// Cuts `bytes` to 512, between two characters, and makes every unprintable one of the rest a
    /// space; blanks at both ends go.
    pub fn new(bytes: &[u8]) -> Self {
        let mut cut = bytes.get(..Self::MAX_BYTES).unwrap_or(bytes);
        if cut.len() < bytes.len() {
            // A character that the cut goes through is left out: its first byte is among the
            // last three, and what follows it is too short.
            let begin = cut
                .iter()
                .rposition(|byte| byte & 0xc0 != 0x80)
                .unwrap_or_default();
            if let Some(last) = cut
                .get(begin..)
                .filter(|last| std::str::from_utf8(last).is_err())
            {
                cut = cut
                    .get(..cut.len().saturating_sub(last.len()))
                    .unwrap_or_default();
            }
        }
        let text = String::from_utf8_lossy(cut);
        let printable = |c: char| if matches!(c, ' '..='~') { c } else { ' ' };
        Self(
            text.chars()
                .map(printable)
                .collect::<String>()
                .trim()
                .to_owned(),
        )
    }

    /// Returns it as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for SanitizedStderr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(bytes: &[u8], expected: &str) {
        assert_eq!(SanitizedStderr::new(bytes).as_str(), expected);
    }

    #[test]
    fn what_was_said_is_short_and_printable() {
        check(b"", "");
        check(b" no such container\n", "no such container");
        check(b"\x1b]0;owned\x07 a\nb", "]0;owned  a b");
        check(b"\xff\xfe!", "!");
        check(&[b'x'; 513], &"x".repeat(512));
        let mut wide = vec![b'x'; 510];
        wide.extend("\u{2713} more".as_bytes());
        check(&wide, &"x".repeat(510));
        let mut exact = vec![b'x'; 509];
        exact.extend("\u{2713}y".as_bytes());
        check(&exact, &"x".repeat(509));
        check(&[0x80; 600], "");
    }
}
