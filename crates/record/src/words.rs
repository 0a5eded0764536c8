// SPDX-License-Identifier: Apache-2.0
//! Words of the record, which a newer version may extend.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use terok_clearance::DisplayText;

/// Defines an enum of known words and `Other`, with conversions from and to text.
macro_rules! record_words {
    ($(#[$about:meta])* $name:ident {
        $($(#[$variant_about:meta])* $variant:ident = $word:literal,)+
    }) => {
        $(#[$about])*
        ///
        /// Convert a text with `From<&str>`, which prefers the known words.
        #[derive(Debug, Clone, PartialEq, Eq, Hash)]
        pub enum $name {
            $($(#[$variant_about])* $variant,)+
            /// A word that this version does not know.
            Other(DisplayText),
        }

        impl $name {
            /// Returns the word, as in the record.
            pub fn as_str(&self) -> &str {
                match self {
                    $(Self::$variant => $word,)+
                    Self::Other(word) => word.as_str(),
                }
            }
        }

        impl From<&str> for $name {
            fn from(word: &str) -> Self {
                match word {
                    $($word => Self::$variant,)+
                    _ => Self::Other(DisplayText::new(word)),
                }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(self.as_str())
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(self.as_str())
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                DisplayText::deserialize(deserializer).map(|word| word.as_str().into())
            }
        }
    };
}

record_words! {
    /// The reason for which a rule ended.
    RuleEndReason {
        /// Its time was over.
        Expired = "expired",
        /// An operator took it back.
        Revoked = "revoked",
        /// The run for which it was made ended.
        RunEnded = "run-ended",
        /// Its only connection was made.
        Used = "used",
        /// Another rule took its place.
        Replaced = "replaced",
    }
}

record_words! {
    /// The reason for which a connection was refused.
    RefusalReason {
        /// A rule denies the destination.
        Denied = "denied",
        /// No answer can open the destination.
        Floor = "floor",
        /// No operator was there to answer.
        NobodyThere = "nobody-there",
        /// The connection waited for its whole time without an answer.
        HoldEnded = "hold-ended",
        /// The organisation denies the destination.
        OrganisationDeny = "organisation-deny",
        /// The destination is outside of what the organisation allows.
        OrganisationCeiling = "organisation-ceiling",
        /// The destination is private, and no rule names it.
        PrivateAddress = "private-address",
        /// The protocol is not supported.
        UnsupportedProtocol = "unsupported-protocol",
        /// A limit of this program was reached.
        LimitReached = "limit-reached",
        /// The sandbox is quarantined.
        Quarantine = "quarantine",
        /// The destination was allowed, and the connection to it failed.
        DialFailed = "dial-failed",
    }
}

record_words! {
    /// The reason for which a connection ended.
    ConnectionEndReason {
        /// Both sides closed it.
        Finished = "finished",
        /// One side reset it, or it failed.
        Reset = "reset",
        /// It was idle for too long.
        IdleTimeout = "idle-timeout",
        /// Its rule was taken back or expired.
        RuleEnded = "rule-ended",
        /// The sandbox ended.
        SandboxEnded = "sandbox-ended",
    }
}

record_words! {
    /// A change of what a sandbox may do apart from rules.
    PostureChange {
        /// The bypass began: everything but the floor passes.
        BypassOn = "bypass-on",
        /// The bypass ended.
        BypassOff = "bypass-off",
        /// Default-deny is in force.
        ShieldUp = "shield-up",
        /// All packets pass except those to private ranges.
        ShieldDown = "shield-down",
        /// All packets pass.
        ShieldDisengaged = "shield-disengaged",
        /// Nothing passes.
        Quarantined = "quarantined",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_word_is_kept() {
        let word: RefusalReason = serde_json::from_str("\"moon\\u001bphase\"").unwrap();
        assert_eq!(word, RefusalReason::Other("moon phase".into()));
        assert_eq!(serde_json::to_string(&word).unwrap(), "\"moon phase\"");
        assert_eq!(RefusalReason::from("denied"), RefusalReason::Denied);
        assert_eq!(RuleEndReason::RunEnded.to_string(), "run-ended");
    }
}
