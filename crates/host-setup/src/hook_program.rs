// SPDX-License-Identifier: Apache-2.0
//! The program that hooks and units name.

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{Access, access};

/// The absolute path of a program that hooks and units may execute.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HookProgram {
    path: PathBuf,
    text: String,
}

/// A program that hooks and units must not execute.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum HookProgramError {
    /// The path is relative.
    #[error("{} is not an absolute path", path.display())]
    Relative {
        /// The path.
        path: PathBuf,
    },
    /// Hook files have only text.
    #[error("{} is not UTF-8 or has a line break", path.display())]
    NotText {
        /// The path.
        path: PathBuf,
    },
    /// There is no such file, or it is not executable.
    #[error("{} is not an executable file", path.display())]
    NotExecutable {
        /// The path.
        path: PathBuf,
    },
    /// Another user can replace the program.
    #[error("other users can write to {}", path.display())]
    Writable {
        /// The program, or a directory above it.
        path: PathBuf,
    },
    /// Another user owns the program.
    #[error("{} belongs to user {owner}", path.display())]
    Owner {
        /// The program, or a directory above it.
        path: PathBuf,
        /// The owner.
        owner: u32,
    },
    /// The program is likely to be removed.
    #[error("{} is in a directory for temporary or built files", path.display())]
    Temporary {
        /// The program.
        path: PathBuf,
    },
}

/// The origin of a program's path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProgramOrigin {
    /// The program that runs.
    Running,
    /// The operator chose the path.
    Chosen,
}

const OTHERS_WRITE: u32 = 0o022;
const STICKY: u32 = 0o1000;
/// Directories whose files do not last, beside those of the environment.
const TEMPORARY_DIRECTORIES: [&str; 4] = ["/tmp", "/var/tmp", "/dev/shm", "/run"];
/// Files by which cargo marks its directories.
const BUILD_MARKS: [&str; 3] = ["CACHEDIR.TAG", ".cargo-lock", ".rustc_info.json"];

impl HookProgram {
    /// Checks a program for the user `uid`.
    ///
    /// The file and all directories above it must belong to this user or root and be writable by
    /// no other user, along the path as given and without its symbolic links. A program that runs
    /// from a directory for temporary or built files is refused unless the operator chose it.
    pub fn check(
        path: &Path,
        origin: ProgramOrigin,
        uid: u32,
        temporary: &[PathBuf],
    ) -> Result<Self, HookProgramError> {
        let owned = || path.to_owned();
        if !path.is_absolute() {
            return Err(HookProgramError::Relative { path: owned() });
        }
        let text = path.to_str().filter(|text| !text.contains(['\n', '\r']));
        let text = text.ok_or_else(|| HookProgramError::NotText { path: owned() })?;
        let resolved = path
            .canonicalize()
            .ok()
            .filter(|found| found.is_file() && access(found, Access::EXEC_OK).is_ok());
        let resolved = resolved.ok_or_else(|| HookProgramError::NotExecutable { path: owned() })?;
        for one in path.ancestors().skip(1).chain(resolved.ancestors()) {
            check_protection(one, uid)?;
        }
        if origin == ProgramOrigin::Running && is_short_lived(&resolved, temporary) {
            return Err(HookProgramError::Temporary { path: owned() });
        }
        Ok(Self {
            path: owned(),
            text: text.to_owned(),
        })
    }

    /// Returns the path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Returns the path as text.
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

fn check_protection(path: &Path, uid: u32) -> Result<(), HookProgramError> {
    let owned = || path.to_owned();
    let unreadable = |_| HookProgramError::NotExecutable { path: owned() };
    let found: Metadata = path.metadata().map_err(unreadable)?;
    if found.uid() != uid && found.uid() != 0 {
        return Err(HookProgramError::Owner {
            path: owned(),
            owner: found.uid(),
        });
    }
    // In a sticky directory others cannot replace the files of their owners.
    let is_sticky = found.is_dir() && found.mode() & STICKY != 0;
    if found.mode() & OTHERS_WRITE != 0 && !is_sticky {
        return Err(HookProgramError::Writable { path: owned() });
    }
    Ok(())
}

fn is_short_lived(program: &Path, temporary: &[PathBuf]) -> bool {
    let fixed = TEMPORARY_DIRECTORIES.iter().map(Path::new);
    let mut temporary = temporary.iter().map(PathBuf::as_path).chain(fixed);
    let is_temporary = temporary.any(|directory| program.starts_with(directory));
    let is_built = program.ancestors().skip(1).any(|directory| {
        let mut marks = BUILD_MARKS.iter();
        marks.any(|mark| directory.join(mark).is_file())
    });
    is_temporary || is_built
}

#[cfg(test)]
mod tests {
    use std::fs::{self, Permissions};
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use super::*;

    fn uid() -> u32 {
        rustix::process::geteuid().as_raw()
    }

    fn place() -> (tempfile::TempDir, PathBuf) {
        let place = tempfile::tempdir().unwrap();
        let program = place.path().join("bin/x");
        fs::create_dir(place.path().join("bin")).unwrap();
        fs::write(&program, "#!/bin/sh\n").unwrap();
        fs::set_permissions(&program, Permissions::from_mode(0o755)).unwrap();
        (place, program)
    }

    fn check(path: &Path) -> Result<HookProgram, HookProgramError> {
        HookProgram::check(path, ProgramOrigin::Chosen, uid(), &[])
    }

    #[test]
    fn an_executable_that_others_cannot_replace_is_accepted() {
        let (place, program) = place();
        assert_eq!(check(&program).unwrap().path(), program);
        let link = place.path().join("link");
        symlink(&program, &link).unwrap();
        assert_eq!(check(&link).unwrap().as_str(), link.to_str().unwrap());
    }

    #[test]
    fn what_others_can_replace_is_refused() {
        let (place, program) = place();
        for (path, mode) in [(program.clone(), 0o775), (place.path().join("bin"), 0o757)] {
            let before = path.metadata().unwrap().permissions();
            fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
            let expected = HookProgramError::Writable { path: path.clone() };
            assert_eq!(check(&program), Err(expected));
            fs::set_permissions(&path, before).unwrap();
        }
        fs::set_permissions(&program, Permissions::from_mode(0o644)).unwrap();
        for path in [&program, &place.path().join("none"), place.path()] {
            let refused = check(path).unwrap_err();
            assert!(matches!(refused, HookProgramError::NotExecutable { .. }));
        }
        let refused = check(Path::new("bin/x")).unwrap_err();
        assert!(matches!(refused, HookProgramError::Relative { .. }));
        let refused = HookProgram::check(&program, ProgramOrigin::Chosen, 4711, &[]);
        assert!(refused.is_err());
    }

    #[test]
    fn a_program_that_will_be_removed_is_refused_unless_chosen() {
        let (place, program) = place();
        let running = |temporary: &[PathBuf]| {
            HookProgram::check(&program, ProgramOrigin::Running, uid(), temporary)
        };
        let temporary = [place.path().to_owned()];
        let expected = HookProgramError::Temporary {
            path: program.clone(),
        };
        assert_eq!(running(&temporary), Err(expected.clone()));
        fs::write(place.path().join("CACHEDIR.TAG"), "").unwrap();
        assert_eq!(running(&[]), Err(expected));
        assert!(check(&program).is_ok());
    }
}
