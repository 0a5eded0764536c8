// SPDX-License-Identifier: Apache-2.0
//! Identifiers of sandboxes and of requests.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// An error in the text of a [`ContainerId`] or a [`RequestId`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum IdParseError {
    /// The text is empty.
    #[error("the id is empty")]
    Empty,
    /// The text is too long.
    #[error("the id has {length} bytes, more than {limit}")]
    TooLong {
        /// Length of the text in bytes.
        length: usize,
        /// Maximum length in bytes.
        limit: usize,
    },
    /// The text contains a character that is not allowed in an id.
    #[error("the id has the character {found:?} at byte {at}")]
    InvalidCharacter {
        /// The character.
        found: char,
        /// Byte offset of the character.
        at: usize,
    },
}

/// A sandbox's name or id in the container engine.
///
/// The first character is an ASCII letter or digit, the others may also be `_`, `.` and `-`: the
/// names that podman and docker accept. An id is therefore never an option on a command line, and
/// never leads out of a directory. The maximum is 255 bytes, the length of a file name.
///
/// ```
/// use terok_clearance::ContainerId;
/// assert!("my-task.1".parse::<ContainerId>().is_ok());
/// assert!("--help".parse::<ContainerId>().is_err());
/// assert!("../up".parse::<ContainerId>().is_err());
/// ```
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ContainerId(Arc<str>);

/// A request's id: printable ASCII without spaces, at most 512 bytes.
///
/// The reader assigns `<container>:<n>` with a fresh `n`; for every other program the id is
/// opaque.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RequestId(Arc<str>);

impl ContainerId {
    const MAX_BYTES: usize = 255;
    /// Characters of an id in a socket's path, whose length is limited to 107 bytes.
    const SHORT_CHARS: usize = 12;

    /// Returns the first 12 characters, the form of an id in socket paths.
    pub fn short(&self) -> &str {
        self.0.get(..Self::SHORT_CHARS).unwrap_or(&self.0)
    }

    fn check(text: &str) -> Result<(), IdParseError> {
        check_length(text, Self::MAX_BYTES)?;
        for (at, found) in text.char_indices() {
            let inner = at > 0 && matches!(found, '_' | '.' | '-');
            if !found.is_ascii_alphanumeric() && !inner {
                return Err(IdParseError::InvalidCharacter { found, at });
            }
        }
        Ok(())
    }
}

impl RequestId {
    /// Returns the id that a reader gives the question with `number`.
    pub fn numbered(container: &ContainerId, number: u64) -> Self {
        // At most 276 bytes, all of them valid in an id.
        Self(format!("{container}:{number}").into())
    }

    const MAX_BYTES: usize = 512;

    fn check(text: &str) -> Result<(), IdParseError> {
        check_length(text, Self::MAX_BYTES)?;
        match text.char_indices().find(|(_, c)| !c.is_ascii_graphic()) {
            Some((at, found)) => Err(IdParseError::InvalidCharacter { found, at }),
            None => Ok(()),
        }
    }
}

const fn check_length(text: &str, limit: usize) -> Result<(), IdParseError> {
    match text.len() {
        0 => Err(IdParseError::Empty),
        length if length > limit => Err(IdParseError::TooLong { length, limit }),
        _ => Ok(()),
    }
}

/// Implements `FromStr` and `Deserialize`, both with the check, and the conversions to text.
macro_rules! checked_text {
    ($name:ident) => {
        impl $name {
            /// Returns the id as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = IdParseError;

            fn from_str(text: &str) -> Result<Self, IdParseError> {
                Self::check(text)?;
                Ok(Self(text.into()))
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                String::deserialize(deserializer)?
                    .parse()
                    .map_err(serde::de::Error::custom)
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(&self.0)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(&self.0, f)
            }
        }

        impl std::borrow::Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }
    };
}

checked_text!(ContainerId);
checked_text!(RequestId);

#[cfg(test)]
mod tests {
    use super::*;

    fn check_container(text: &str, expected: &Result<(), IdParseError>) {
        assert_eq!(
            &text.parse::<ContainerId>().map(|_| ()),
            expected,
            "of {text:?}"
        );
    }

    #[test]
    fn a_container_id_is_a_name_that_podman_accepts() {
        let character = |found, at| Err(IdParseError::InvalidCharacter { found, at });
        check_container("a", &Ok(()));
        check_container("3f2a9c0d1e4b", &Ok(()));
        check_container("my_task.1-x", &Ok(()));
        check_container("", &Err(IdParseError::Empty));
        check_container("-rf", &character('-', 0));
        check_container(".hidden", &character('.', 0));
        check_container("a/b", &character('/', 1));
        check_container("a b", &character(' ', 1));
        check_container("a\0", &character('\0', 1));
        check_container("caf\u{e9}", &character('\u{e9}', 3));
        check_container(&"a".repeat(255), &Ok(()));
        check_container(
            &"a".repeat(256),
            &Err(IdParseError::TooLong {
                length: 256,
                limit: 255,
            }),
        );
    }

    #[test]
    fn a_request_id_is_printable_without_spaces() {
        assert!("web:17".parse::<RequestId>().is_ok());
        assert_eq!("".parse::<RequestId>(), Err(IdParseError::Empty));
        for bad in ["a b", "a\n", "a\u{1b}", "\u{202e}"] {
            assert!(
                matches!(
                    bad.parse::<RequestId>(),
                    Err(IdParseError::InvalidCharacter { .. })
                ),
                "{bad:?}"
            );
        }
        assert!("x".repeat(513).parse::<RequestId>().is_err());
    }

    #[test]
    fn short_is_at_most_twelve_characters() {
        let short = |text: &str| text.parse::<ContainerId>().unwrap().short().to_owned();
        assert_eq!(short("web"), "web");
        assert_eq!(short("0123456789abcdef"), "0123456789ab");
    }

    #[test]
    fn json_is_checked_like_text() {
        assert!(serde_json::from_str::<ContainerId>("\"--help\"").is_err());
        assert!(serde_json::from_str::<RequestId>("\"a b\"").is_err());
    }
}
