// SPDX-License-Identifier: Apache-2.0
//! Looks programs up in a search path.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use rustix::fs::{Access, access};

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
}
