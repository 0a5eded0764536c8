// SPDX-License-Identifier: Apache-2.0
//! Names of profiles.

use std::fmt;
use std::str::FromStr;

use terok_clearance::DisplayText;

/// Maximum bytes of a name.
const MAX_BYTES: usize = 64;

/// The name of a profile: 1 to 64 letters, digits, `-` and `_`, the first a letter or a digit.
///
/// ```
/// use terok_clearance_policy::ProfileName;
/// assert!("npm".parse::<ProfileName>().is_ok());
/// assert!("../npm".parse::<ProfileName>().is_err());
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ProfileName(String);

/// A text is not the name of a profile.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is no name of a profile: write letters, digits, - and _, at most {MAX_BYTES}, without \
     the ending of the file"
)]
pub struct ProfileNameError(DisplayText);

impl ProfileName {
    /// Returns the name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for ProfileName {
    type Err = ProfileNameError;

    fn from_str(text: &str) -> Result<Self, ProfileNameError> {
        let valid = text.len() <= MAX_BYTES
            && text.starts_with(|first: char| first.is_ascii_alphanumeric())
            && text
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'));
        if valid {
            Ok(Self(text.to_owned()))
        } else {
            Err(ProfileNameError(DisplayText::new(text)))
        }
    }
}

impl fmt::Display for ProfileName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_plain() {
        let longest = "a".repeat(MAX_BYTES);
        for valid in ["npm", "google-ai", "my_own", "7z", "X", longest.as_str()] {
            assert_eq!(valid.parse::<ProfileName>().unwrap().as_str(), valid);
        }
        let too_long = "a".repeat(MAX_BYTES + 1);
        for wrong in [
            "", "-x", "_x", ".", "..", "a/b", "a.rules", "a b", "a\0", "a\n", "\u{e4}", &too_long,
        ] {
            assert!(wrong.parse::<ProfileName>().is_err(), "{wrong:?}");
        }
    }
}
