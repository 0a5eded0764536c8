// SPDX-License-Identifier: Apache-2.0
//! Program and arguments for the line `ExecStart=` of a systemd unit.

use std::fmt;
use std::path::Path;

/// A program and its first arguments, as written in a unit file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnitProgram {
    tokens: Vec<String>,
}

/// A program cannot be written in a unit file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum UnitProgramError {
    /// A line feed or carriage return would begin another line of the unit.
    #[error("{token:?} has a line break, which a unit file cannot hold")]
    LineBreak {
        /// The program or argument.
        token: String,
    },
    /// A path is not UTF-8.
    #[error("{token:?} is not UTF-8")]
    NotText {
        /// The readable parts of the path.
        token: String,
    },
    /// There is no program.
    #[error("no program is given")]
    Empty,
}

impl UnitProgram {
    /// Returns a program without arguments.
    pub fn new(program: &Path) -> Result<Self, UnitProgramError> {
        Self::with_arguments(program, &[])
    }

    /// Returns a program with arguments.
    pub fn with_arguments(program: &Path, arguments: &[&str]) -> Result<Self, UnitProgramError> {
        let program = program.to_str().ok_or_else(|| UnitProgramError::NotText {
            token: program.to_string_lossy().into_owned(),
        })?;
        let tokens = std::iter::once(program).chain(arguments.iter().copied());
        Self::from_tokens(tokens.map(str::to_owned).collect())
    }

    /// Returns the program that is the first of `tokens`; the others are its arguments.
    pub fn from_tokens(tokens: Vec<String>) -> Result<Self, UnitProgramError> {
        if tokens.first().is_none_or(String::is_empty) {
            return Err(UnitProgramError::Empty);
        }
        match tokens.iter().find(|token| token.contains(['\n', '\r'])) {
            Some(token) => Err(UnitProgramError::LineBreak {
                token: token.clone(),
            }),
            None => Ok(Self { tokens }),
        }
    }
}

/// The form of systemd.syntax(7): tokens with white space are quoted, and `\`, `"`, `%` and, in
/// arguments, `$` are escaped.
impl fmt::Display for UnitProgram {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, token) in self.tokens.iter().enumerate() {
            let mut escaped = token.replace('\\', "\\\\").replace('"', "\\\"");
            escaped = escaped.replace('%', "%%");
            if index > 0 {
                // systemd expands no variable in the path of the program.
                escaped = escaped.replace('$', "$$");
                f.write_str(" ")?;
            }
            if token.contains(char::is_whitespace) || token.is_empty() {
                write!(f, "\"{escaped}\"")?;
            } else {
                f.write_str(&escaped)?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_quoted_and_escaped() {
        let check = |tokens: &[&str], expected: &str| {
            let tokens = tokens.iter().map(|&token| token.to_owned()).collect();
            let program = UnitProgram::from_tokens(tokens).unwrap();
            assert_eq!(program.to_string(), expected);
        };
        check(&["/usr/bin/x"], "/usr/bin/x");
        check(&["/usr/bin/x", "-m", "a.b"], "/usr/bin/x -m a.b");
        check(&["/home/me/My Tools/x", "y"], "\"/home/me/My Tools/x\" y");
        check(&["/a\\b\"c"], "/a\\\\b\\\"c");
        check(&["/a \"b\""], "\"/a \\\"b\\\"\"");
        check(&["/50%/$HOME", "$HOME"], "/50%%/$HOME $$HOME");
        check(&["/x", ""], "/x \"\"");
    }

    #[test]
    fn line_breaks_and_nothing_are_refused() {
        for token in ["/a\nb", "/a\r", "\n"] {
            let refused = UnitProgram::new(Path::new(token)).unwrap_err();
            assert!(matches!(refused, UnitProgramError::LineBreak { .. }));
        }
        assert_eq!(
            UnitProgram::from_tokens(Vec::new()),
            Err(UnitProgramError::Empty)
        );
        assert_eq!(
            UnitProgram::new(Path::new("")),
            Err(UnitProgramError::Empty)
        );
    }
}
