// SPDX-License-Identifier: Apache-2.0
//! The interface to the firewall, and its replies.

use std::fmt;

use terok_clearance::wire::verdict1::ApplyReply;
use terok_clearance::{DisplayText, EnforcementOutcome, error_chain};

use crate::VerdictOrder;

/// Applies orders to a firewall.
pub trait VerdictBackend: Send + Sync + 'static {
    /// Returns `true` if ports, protocols and durations can be enforced. Other backends refuse
    /// them: their rules cover whole destinations until they are removed.
    fn supports_ports(&self) -> bool;

    /// Applies an order within the backend's own time limit.
    ///
    /// Failures are part of the reply. Dropping the future leaves no process behind.
    fn apply(&self, order: &VerdictOrder) -> impl Future<Output = VerdictReply> + Send;
}

/// The result of an order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerdictReply {
    /// `true` if the firewall accepted the order.
    pub ok: bool,
    /// The reason for a failure; for a program, its standard error.
    pub stderr: SanitizedStderr,
}

impl VerdictReply {
    /// Creates the reply for an order in force.
    pub fn applied() -> Self {
        Self {
            ok: true,
            stderr: SanitizedStderr::default(),
        }
    }

    /// Creates the reply for a failed order.
    pub fn failed(reason: &str) -> Self {
        Self {
            ok: false,
            stderr: SanitizedStderr::new(reason.as_bytes()),
        }
    }

    /// Creates a reply from an error and its causes.
    pub(crate) fn from_error(prefix: &str, error: &dyn std::error::Error) -> Self {
        Self::failed(&format!("{prefix}{}", error_chain(error)))
    }

    /// Creates the reply of a backend without support for narrow scopes.
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

/// A backend's error output: at most 512 bytes of printable ASCII.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SanitizedStderr(String);

impl SanitizedStderr {
    /// Maximum length in bytes.
    pub const MAX_BYTES: usize = 512;

    /// Truncates `bytes` to 512, at a character boundary, replaces unprintable characters by spaces
    /// and trims both ends.
    pub fn new(bytes: &[u8]) -> Self {
        let mut cut = bytes.get(..Self::MAX_BYTES).unwrap_or(bytes);
        if cut.len() < bytes.len() {
            // An incomplete last character is removed: its first byte is among the last three.
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

    /// Returns the text.
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
    fn stderr_is_short_and_printable() {
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
