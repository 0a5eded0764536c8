// SPDX-License-Identifier: Apache-2.0
//! The directory of a project, and the names that stand for it.

use std::ffi::OsString;
use std::fmt;
use std::hash::Hasher as _;
use std::io;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Component, Path, PathBuf};

use siphasher::sip::SipHasher24;
use terok_clearance::DisplayText;

/// The ending of rule files.
pub(crate) const RULES_ENDING: &str = ".rules";
/// What the first line of a project's file has before the path.
const HEADER: &str = "# project: ";
/// Maximum bytes of an escaped path, so that it fits into a line.
const MAX_ESCAPED_BYTES: usize = 1000;
/// Maximum bytes of the readable part of a file name.
const MAX_READABLE_BYTES: usize = 120;

/// The directory of a project: an absolute path without symbolic links when it was found.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ProjectPath(PathBuf);

/// A path cannot be the directory of a project.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ProjectPathError {
    /// The directory cannot be found.
    #[error("cannot find the directory {}", path.display())]
    Find {
        /// The path.
        path: PathBuf,
        /// The error of the kernel.
        #[source]
        source: io::Error,
    },
    /// The path does not lead to a directory.
    #[error("{} is not a directory: a project is a directory", .0.display())]
    NotDirectory(PathBuf),
    /// The path is too long for a file of rules.
    #[error("the path {} is too long to keep rules for it: use a shorter one", .0.display())]
    TooLong(PathBuf),
}

impl ProjectPath {
    /// Finds the directory of a path, following symbolic links.
    pub fn find(path: &Path) -> Result<Self, ProjectPathError> {
        let failed = |source| ProjectPathError::Find {
            path: path.to_owned(),
            source,
        };
        let directory = path.canonicalize().map_err(failed)?;
        if !directory.is_dir() {
            return Err(ProjectPathError::NotDirectory(directory));
        }
        Self::from_canonical(directory)
    }

    /// Accepts a path that has no symbolic links.
    pub(crate) fn from_canonical(path: PathBuf) -> Result<Self, ProjectPathError> {
        if escape_path(&path).len() > MAX_ESCAPED_BYTES {
            return Err(ProjectPathError::TooLong(path));
        }
        Ok(Self(path))
    }

    /// Returns the path.
    pub fn as_path(&self) -> &Path {
        &self.0
    }

    /// Returns the path as text.
    pub fn display_text(&self) -> DisplayText {
        DisplayText::name(&self.0.to_string_lossy())
    }

    /// Returns the name of the project's file: a readable part of the path, and its hash.
    pub(crate) fn file_name(&self) -> String {
        format!("{}{RULES_ENDING}", unique_name(&self.0))
    }

    /// Returns the first line of the project's file.
    pub(crate) fn header(&self) -> String {
        format!("{HEADER}{}", escape_path(&self.0))
    }

    /// Returns the project of a file with this first line.
    pub(crate) fn from_header(line: &str) -> Option<Self> {
        let path = PathBuf::from(unescape_path(line.strip_prefix(HEADER)?)?);
        let is_plain = path.is_absolute()
            && path.components().all(|part| part != Component::ParentDir)
            && path.components().collect::<PathBuf>().as_os_str() == path.as_os_str();
        let project = Self::from_canonical(path).ok().filter(|_| is_plain)?;
        (project.header() == line).then_some(project)
    }
}

impl fmt::Debug for ProjectPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Returns a name for a path that is readable and that no other path is likely to have.
pub(crate) fn unique_name(path: &Path) -> String {
    // The result must never change, because files have it as their name. A collision is found by
    // the header.
    let mut hasher = SipHasher24::new_with_keys(0, 0);
    hasher.write(path.as_os_str().as_bytes());
    let hash = hasher.finish();
    let text = path.to_string_lossy();
    let mut readable = String::new();
    // The end of a path tells projects apart.
    for c in text
        .trim_start_matches('/')
        .chars()
        .rev()
        .take(MAX_READABLE_BYTES)
    {
        readable.push(if c.is_ascii_alphanumeric() || matches!(c, '.' | '_') {
            c
        } else {
            '-'
        });
    }
    let readable: String = readable.chars().rev().collect();
    let readable = match readable.trim_start_matches(['.', '-']) {
        "" => "root",
        readable => readable,
    };
    format!("{readable}-{hash:016x}")
}

/// Returns a path in one line; `%` and unreadable bytes become `%` and two hexadecimal digits.
pub(crate) fn escape_path(path: &Path) -> String {
    let mut escaped = String::new();
    for chunk in path.as_os_str().as_bytes().utf8_chunks() {
        for c in chunk.valid().chars() {
            if c.is_alphanumeric() || (matches!(c, ' '..='~') && c != '%') {
                escaped.push(c);
            } else {
                push_bytes(&mut escaped, c.encode_utf8(&mut [0; 4]).as_bytes());
            }
        }
        push_bytes(&mut escaped, chunk.invalid());
    }
    // White space at the end of a line is easily lost.
    match escaped.strip_suffix(' ') {
        Some(start) => format!("{start}%20"),
        None => escaped,
    }
}

fn push_bytes(text: &mut String, bytes: &[u8]) {
    for byte in bytes {
        let digits = [byte >> 4, byte & 15].map(|digit| char::from_digit(digit.into(), 16));
        text.push('%');
        text.extend(digits.into_iter().flatten());
    }
}

fn unescape_path(text: &str) -> Option<OsString> {
    let mut parts = text.split('%');
    let mut bytes = parts.next()?.as_bytes().to_vec();
    for part in parts {
        let (digits, rest) = part.split_at_checked(2)?;
        bytes.push(u8::from_str_radix(digits, 16).ok()?);
        bytes.extend_from_slice(rest.as_bytes());
    }
    (!bytes.contains(&0)).then(|| OsString::from_vec(bytes))
}

#[cfg(test)]
mod tests {
    use std::ffi::OsStr;

    use proptest::prelude::*;

    use super::*;

    fn path(bytes: &[u8]) -> ProjectPath {
        ProjectPath::from_canonical(OsStr::from_bytes(bytes).into()).unwrap()
    }

    #[test]
    fn names_are_readable_and_never_change() {
        for (bytes, name, header) in [
            (
                &b"/home/jo/src/web"[..],
                "home-jo-src-web-20d5184c5ceac9ee.rules",
                "# project: /home/jo/src/web",
            ),
            (b"/", "root-", "# project: /"),
            (
                b"/a b\n%\xff/\xc3\xbc",
                "a-b-----",
                "# project: /a b%0a%25%ff/\u{fc}",
            ),
            (b"/.x/y ", "x-y--", "# project: /.x/y%20"),
        ] {
            let project = path(bytes);
            assert!(
                project.file_name().starts_with(name),
                "{}",
                project.file_name()
            );
            assert_eq!(project.header(), header);
            assert_eq!(ProjectPath::from_header(header), Some(project));
        }
        assert!(path("/\u{fc}/".repeat(80).as_bytes()).file_name().len() <= 255);
    }

    #[test]
    fn other_headers_name_no_project() {
        for wrong in [
            "",
            "# project:",
            "# project: ",
            "# project: a",
            "# project: /a/",
            "# project: /a/../b",
            "# project: /a/./b",
            "# project: /%zz",
            "# project: /%00",
            "# project: /%61",
            "# project: /a ",
            "#project: /a",
        ] {
            assert_eq!(ProjectPath::from_header(wrong), None, "{wrong}");
        }
        let long = OsStr::from_bytes(&[b'/'; 2000]).into();
        assert!(matches!(
            ProjectPath::from_canonical(long),
            Err(ProjectPathError::TooLong(_))
        ));
    }

    proptest! {
        #[test]
        fn a_header_is_one_line_and_names_its_path(bytes in prop::collection::vec(1_u8.., 0..60)) {
            let whole: PathBuf = Path::new("/").join(OsStr::from_bytes(&bytes));
            let plain: PathBuf = whole.components().collect();
            prop_assume!(!plain.components().any(|part| part.as_os_str() == ".."));
            let project = ProjectPath::from_canonical(plain).unwrap();
            let header = project.header();
            let file = policy::RuleFile::parse(header.as_bytes()).unwrap();
            prop_assert_eq!(file.first_line(), Some(header.as_str()));
            prop_assert_eq!(ProjectPath::from_header(&header), Some(project.clone()));
            let name = project.file_name();
            prop_assert!(!name.contains('/') && !name.starts_with('.') && name.len() <= 255);
        }
    }
}
