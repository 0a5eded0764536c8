// SPDX-License-Identifier: Apache-2.0
//! Files of environment variables, in podman's format: lines `KEY=VALUE`, or `KEY` alone for the
//! value of the caller; `#` begins a comment line. Values are taken as they are, with quotes.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Read as _};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Path, PathBuf};

/// Maximum bytes of a file.
const MAX_FILE_BYTES: u64 = 1 << 20;

/// A file of environment variables cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EnvFileError {
    /// The file cannot be read.
    #[error("cannot read the variables in {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// The file is longer than 1 MiB.
    #[error("{} is longer than 1 MiB", path.display())]
    TooLong {
        /// The file.
        path: PathBuf,
    },
    /// A line is wrong.
    #[error("{} line {line}: {problem}", path.display())]
    Line {
        /// The file.
        path: PathBuf,
        /// The number of the line, from 1.
        line: usize,
        /// What is wrong.
        problem: EnvLineProblem,
    },
}

/// What is wrong with a line of a file of environment variables.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum EnvLineProblem {
    /// There is no name before the equals sign.
    #[error("there is no name before `=`")]
    NoName,
    /// The line is one of a shell script.
    #[error("leave out `export`: a line is KEY=VALUE")]
    Export,
    /// The name has a space.
    #[error("the name has a space: a line is KEY=VALUE")]
    Space,
    /// The name is a pattern.
    #[error("`*` stands for no names here: write each name on a line")]
    Pattern,
    /// The line has a NUL character.
    #[error("the line has a NUL character")]
    Nul,
}

/// Returns the variables in a file. `own` are those of the caller.
pub(super) fn read_env_file(
    path: &Path,
    own: &[(OsString, OsString)],
) -> Result<Vec<(OsString, OsString)>, EnvFileError> {
    let mut bytes = Vec::new();
    let read = File::open(path).and_then(|file| {
        file.take(MAX_FILE_BYTES.saturating_add(1))
            .read_to_end(&mut bytes)
    });
    match read {
        Err(source) => Err(EnvFileError::Read {
            path: path.to_owned(),
            source,
        }),
        Ok(length) if u64::try_from(length).is_ok_and(|length| length <= MAX_FILE_BYTES) => {
            parse_variables(&bytes, own).map_err(|(line, problem)| EnvFileError::Line {
                path: path.to_owned(),
                line,
                problem,
            })
        }
        Ok(_) => Err(EnvFileError::TooLong {
            path: path.to_owned(),
        }),
    }
}

/// Returns the variables in the lines of a file, or the number of a wrong line.
fn parse_variables(
    bytes: &[u8],
    own: &[(OsString, OsString)],
) -> Result<Vec<(OsString, OsString)>, (usize, EnvLineProblem)> {
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    let mut variables = Vec::new();
    for (number, line) in (1..).zip(bytes.split(|byte| *byte == b'\n')) {
        let line = line.strip_suffix(b"\r").unwrap_or(line).trim_ascii_start();
        if line.is_empty() || line.starts_with(b"#") {
            continue;
        }
        let variable = parse_variable(line, own).map_err(|problem| (number, problem))?;
        variables.extend(variable);
    }
    Ok(variables)
}

/// Returns the variable of a line; `None` if the caller has none of the name.
fn parse_variable(
    line: &[u8],
    own: &[(OsString, OsString)],
) -> Result<Option<(OsString, OsString)>, EnvLineProblem> {
    let mut parts = line.splitn(2, |byte| *byte == b'=');
    let name = parts.next().unwrap_or_default();
    let value = parts.next();
    let name = match value {
        Some(_) => name,
        None => name.trim_ascii_end(),
    };
    if line.contains(&0) {
        Err(EnvLineProblem::Nul)
    } else if name.is_empty() {
        Err(EnvLineProblem::NoName)
    } else if name.starts_with(b"export ") {
        Err(EnvLineProblem::Export)
    } else if name.iter().any(u8::is_ascii_whitespace) {
        Err(EnvLineProblem::Space)
    } else if name.ends_with(b"*") {
        Err(EnvLineProblem::Pattern)
    } else {
        let owned = |bytes: &[u8]| OsString::from_vec(bytes.to_vec());
        Ok(if let Some(value) = value {
            Some((owned(name), owned(value)))
        } else {
            let name = OsStr::from_bytes(name);
            own.iter().find(|(known, _)| known == name).cloned()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pairs(pairs: &[(&str, &str)]) -> Vec<(OsString, OsString)> {
        let pairs = pairs.iter();
        pairs
            .map(|(name, value)| (OsString::from(name), OsString::from(value)))
            .collect()
    }

    #[test]
    fn the_format_is_podmans() {
        let own = pairs(&[("MINE", "x=y"), ("OTHER", "1")]);
        let check = |text: &str, expected: &[(&str, &str)]| {
            let found = parse_variables(text.as_bytes(), &own);
            assert_eq!(found, Ok(pairs(expected)), "{text:?}");
        };
        check("", &[]);
        check("A=1\nB=2", &[("A", "1"), ("B", "2")]);
        check("A=1\r\nB=2\r\n", &[("A", "1"), ("B", "2")]);
        check("\u{feff}A=1", &[("A", "1")]);
        check("# comment\n\n  # comment\n  A=1", &[("A", "1")]);
        check("A=", &[("A", "")]);
        check("A=b=c # d ", &[("A", "b=c # d ")]);
        check("A=\"quoted\"", &[("A", "\"quoted\"")]);
        check("MINE\nMISSING\nMINE ", &[("MINE", "x=y"), ("MINE", "x=y")]);
        check("A.b-c=1", &[("A.b-c", "1")]);
    }

    #[test]
    fn a_wrong_line_has_its_number() {
        let check = |text: &str, line: usize, problem: EnvLineProblem| {
            let found = parse_variables(text.as_bytes(), &[]);
            assert_eq!(found, Err((line, problem)), "{text:?}");
        };
        check("A=1\n=2", 2, EnvLineProblem::NoName);
        check("\n#\nexport A=1", 3, EnvLineProblem::Export);
        check("A =1", 1, EnvLineProblem::Space);
        check("A B", 1, EnvLineProblem::Space);
        check("A*", 1, EnvLineProblem::Pattern);
        check("A=\0", 1, EnvLineProblem::Nul);
    }

    #[test]
    fn an_error_names_the_file() {
        let check = |path: &Path, expected: &str| {
            let error = read_env_file(path, &[]).unwrap_err();
            assert_eq!(error.to_string(), expected);
        };
        let missing = Path::new("/nonexistent/env");
        check(missing, "cannot read the variables in /nonexistent/env");
        let file = tempfile::NamedTempFile::new().unwrap();
        let shown = file.path().display();
        std::fs::write(&file, "A=1\nB C=2\n").unwrap();
        let wrong = format!("{shown} line 2: the name has a space: a line is KEY=VALUE");
        check(file.path(), &wrong);
        std::fs::write(&file, vec![b'#'; (1 << 20) + 1]).unwrap();
        check(file.path(), &format!("{shown} is longer than 1 MiB"));
    }
}
