// SPDX-License-Identifier: Apache-2.0
//! Looks programs up in a search path.

use std::ffi::OsStr;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{Access, access};
use rustix::process::geteuid;

use crate::sandbox::is_machine_root;

/// Returns the program `name` in the first directory of `path`, a `PATH`, that has it.
///
/// Only absolute directories count, so that the result does not depend on the working directory.
pub fn find_program(name: &str, path: &OsStr) -> Option<PathBuf> {
    std::env::split_paths(path).find_map(|directory| find_program_in(name, &directory))
}

/// Returns the program `name` in `directory`: a regular file that the caller may execute.
///
/// Returns `None` for a relative directory.
pub fn find_program_in(name: &str, directory: &Path) -> Option<PathBuf> {
    let program = directory.join(name);
    let found =
        directory.is_absolute() && program.is_file() && access(&program, Access::EXEC_OK).is_ok();
    found.then_some(program)
}

/// As [`find_program`], but without the programs that a sandbox of the calling user could have
/// written: the file and each directory above must be out of the user's reach.
///
/// For the machine's root, who reaches everything, they must be root's and of no group or other
/// user. Returns the path without symbolic links.
pub fn find_protected_program(name: &str, path: &OsStr) -> Option<PathBuf> {
    std::env::split_paths(path).find_map(|directory| {
        let found = find_program_in(name, &directory)?.canonicalize().ok()?;
        let is_protected = found.ancestors().all(is_out_of_reach);
        if !is_protected {
            let program = found.display();
            tracing::warn!(%program, "not executed: a sandbox of yours could have written it");
        }
        is_protected.then_some(found)
    })
}

/// Bits of a mode: writable by group or others, sticky.
const OTHERS_WRITE: u32 = 0o022;
const STICKY: u32 = 0o1000;

fn is_out_of_reach(path: &Path) -> bool {
    let Ok(found) = path.metadata() else {
        return false;
    };
    let is_callers = found.uid() == geteuid().as_raw();
    if is_machine_root() {
        return is_callers && (found.mode() & OTHERS_WRITE == 0 || found.mode() & STICKY != 0);
    }
    !is_callers && access(path, Access::WRITE_OK).is_err()
}

#[cfg(test)]
mod tests {
    use std::fs::{self, Permissions};
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn only_executable_files_in_absolute_directories_are_found() {
        let [first, second] = [(); 2].map(|()| tempfile::tempdir().unwrap());
        let path = std::env::join_paths(["bin".as_ref(), first.path(), second.path()]).unwrap();
        let find = || find_program("tool", &path);
        assert_eq!(find(), None);
        fs::create_dir(first.path().join("tool")).unwrap();
        assert_eq!(find(), None, "a directory");
        let program = second.path().join("tool");
        fs::write(&program, "").unwrap();
        assert_eq!(find(), None, "not executable");
        fs::set_permissions(&program, Permissions::from_mode(0o755)).unwrap();
        assert_eq!(find(), Some(program));
        assert_eq!(find_program("tool", "".as_ref()), None);
        assert_eq!(find_program_in("tool", Path::new("relative")), None);
    }

    #[test]
    fn a_program_that_a_sandbox_could_write_is_not_found() {
        let place = tempfile::tempdir().unwrap();
        let writable = place.path().join("bin");
        fs::create_dir(&writable).unwrap();
        fs::write(writable.join("sh"), "").unwrap();
        fs::set_permissions(writable.join("sh"), Permissions::from_mode(0o755)).unwrap();
        fs::set_permissions(&writable, Permissions::from_mode(0o777)).unwrap();
        let system = find_program("sh", "/bin".as_ref()).unwrap();
        let system = system.canonicalize().unwrap();
        let path = std::env::join_paths([writable.as_path(), Path::new("/bin")]).unwrap();
        assert_eq!(find_program("sh", &path), Some(writable.join("sh")));
        assert_eq!(find_protected_program("sh", &path), Some(system));
        // A link to it is no way around.
        let links = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink(writable.join("sh"), links.path().join("sh")).unwrap();
        assert_eq!(find_protected_program("sh", links.path().as_os_str()), None);
    }
}
