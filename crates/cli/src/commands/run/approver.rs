// SPDX-License-Identifier: Apache-2.0
//! The program of `--approver`: found, and checked to be out of the reach of every sandbox.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io::{self, Read as _};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use netns::sandbox::is_machine_root;
use netns::{find_program, find_protected_program};
use rustix::fs::{Access, access};

use crate::environment::UserEnvironment;

/// The program of `--approver` is not executed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ApproverProgramError {
    /// A command of root can write every program.
    #[error(
        "root's command could change every program of this machine, and so answer its own questions"
    )]
    OfRoot,
    /// There is no such program.
    #[error("there is no program {}", program.display())]
    NotFound {
        /// The program of the command line.
        program: PathBuf,
    },
    /// The file cannot be read or executed.
    #[error("cannot use {}", program.display())]
    Unusable {
        /// The path without links.
        program: PathBuf,
        /// The kernel error.
        #[source]
        source: io::Error,
    },
    /// A sandbox could write the program, and so would answer itself.
    #[error("a command in a sandbox could change {}, and so answer its own questions",
        program.display())]
    Unprotected {
        /// The path without links.
        program: PathBuf,
    },
    /// A sandbox could write the interpreter of the program.
    #[error("a command in a sandbox could change {}, which executes {}", interpreter.display(),
        program.display())]
    UnprotectedInterpreter {
        /// The path without links.
        program: PathBuf,
        /// The first words of its first line.
        interpreter: PathBuf,
    },
}

/// The directories of the programs that an approver calls by name.
const APPROVER_PATH: &str = "/usr/bin:/bin:/usr/sbin:/sbin";
/// Maximum bytes of the first line of a script, as in the kernel (execve(2)).
const MAX_INTERPRETER_BYTES: usize = 255;

/// Returns the program for a value of `--approver`: a path, or a name in `PATH`.
///
/// The program runs outside of the sandbox, as the operator. Accepted is a file in the
/// configuration directory, which no sandbox sees, or one that a program of this user cannot write
/// (see [`find_protected_program`]); the same holds for the interpreter of a script. For the
/// machine's root there is none: a command of root can write the libraries of every program.
pub(super) fn find_approver(
    program: &Path,
    environment: &UserEnvironment,
) -> Result<PathBuf, ApproverProgramError> {
    if is_machine_root() {
        return Err(ApproverProgramError::OfRoot);
    }
    find_approver_in(program, environment.config_dir(), environment.search_path())
}

fn find_approver_in(
    program: &Path,
    config_dir: &Path,
    search_path: &OsStr,
) -> Result<PathBuf, ApproverProgramError> {
    let not_found = || ApproverProgramError::NotFound {
        program: program.to_owned(),
    };
    let is_name = program.components().count() == 1 && !program.as_os_str().is_empty();
    if let Some(name) = program
        .to_str()
        .filter(|name| is_name && !name.contains('/'))
    {
        let Some(found) = find_protected_program(name, search_path) else {
            let unprotected = find_program(name, search_path);
            return Err(unprotected.map_or_else(not_found, |program| {
                ApproverProgramError::Unprotected { program }
            }));
        };
        check_interpreter(&found)?;
        return Ok(found);
    }
    let real = program.canonicalize().map_err(|_missing| not_found())?;
    let unusable = |source| ApproverProgramError::Unusable {
        program: real.clone(),
        source,
    };
    if !real.is_file() {
        return Err(not_found());
    }
    access(&real, Access::EXEC_OK).map_err(|errno| unusable(errno.into()))?;
    if !is_in_config_dir(&real, config_dir) && !is_protected(&real) {
        return Err(ApproverProgramError::Unprotected { program: real });
    }
    check_interpreter(&real)?;
    Ok(real)
}

/// Returns `true` for a file in the configuration directory that has no other name elsewhere, and
/// that only the user and root can change.
fn is_in_config_dir(program: &Path, config_dir: &Path) -> bool {
    let Ok(config_dir) = config_dir.canonicalize() else {
        return false;
    };
    let own = rustix::process::geteuid().as_raw();
    let is_private = |path: &Path| {
        path.metadata().is_ok_and(|found| {
            let is_ours = [0, own].contains(&found.uid());
            is_ours && found.mode() & 0o022 == 0 && (found.is_dir() || found.nlink() == 1)
        })
    };
    let within = program
        .ancestors()
        .take_while(|path| path.starts_with(&config_dir));
    program.starts_with(&config_dir) && within.into_iter().all(is_private)
}

/// Returns `true` for a path that no sandbox of this user can write.
fn is_protected(program: &Path) -> bool {
    let (Some(name), Some(directory)) = (program.file_name(), program.parent()) else {
        return false;
    };
    let name = name.to_str();
    let path = OsString::from(directory);
    // A directory with a colon would be two.
    let has_colon = path.as_bytes().contains(&b':');
    let found = name.and_then(|name| find_protected_program(name, &path));
    !has_colon && found.as_deref() == Some(program)
}

/// Checks the interpreter of a script: that of `#!`, and with `/usr/bin/env` the program behind it.
fn check_interpreter(program: &Path) -> Result<(), ApproverProgramError> {
    let unusable = |source| ApproverProgramError::Unusable {
        program: program.to_owned(),
        source,
    };
    let mut start = Vec::new();
    let limit = u64::try_from(MAX_INTERPRETER_BYTES).unwrap_or_default();
    let file = File::open(program);
    let read = file.and_then(|file| file.take(limit).read_to_end(&mut start));
    match read {
        Ok(_) => {}
        // An executable that cannot be read is no script of an interpreter.
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => return Ok(()),
        Err(error) => return Err(unusable(error)),
    }
    let Some(rest) = start.strip_prefix(b"#!") else {
        return Ok(());
    };
    let line = rest.split(|byte| *byte == b'\n').next().unwrap_or_default();
    let line = String::from_utf8_lossy(line);
    let mut words = line.split_ascii_whitespace();
    let interpreter = PathBuf::from(words.next().unwrap_or_default());
    let unprotected = |interpreter: &Path| ApproverProgramError::UnprotectedInterpreter {
        program: program.to_owned(),
        interpreter: interpreter.to_owned(),
    };
    let found = fs::canonicalize(&interpreter).map_err(unusable)?;
    if !interpreter.is_absolute() || !is_protected(&found) {
        return Err(unprotected(&interpreter));
    }
    if interpreter.file_name() != Some(OsStr::new("env")) {
        return Ok(());
    }
    // `env` looks the program up in the path that an approver gets. Variables and options of `env`
    // but -S could lead elsewhere.
    let name = words.find(|word| *word != "-S").unwrap_or_default();
    let path = OsStr::new(APPROVER_PATH);
    let first = find_program(name, path).and_then(|found| found.canonicalize().ok());
    let is_plain = !name.is_empty() && !name.contains(['=', '/']) && !name.starts_with('-');
    if !is_plain || first.is_none() || first != find_protected_program(name, path) {
        return Err(unprotected(Path::new(name)));
    }
    Ok(())
}

/// Returns the environment of an approver. None of it names a place that a sandbox can write:
/// programs look for code and settings in the home directory.
pub(super) fn approver_environment(environment: &UserEnvironment) -> Vec<(OsString, OsString)> {
    let variable = |name: &str, value: &OsStr| (OsString::from(name), value.to_owned());
    vec![
        variable("HOME", environment.config_dir().as_os_str()),
        variable("LANG", OsStr::new("C.UTF-8")),
        variable("PATH", OsStr::new(APPROVER_PATH)),
        variable("PYTHONNOUSERSITE", OsStr::new("1")),
    ]
}

/// Parses a value of `--approver-timeout`: seconds, with an optional `s`.
pub(super) fn parse_timeout(text: &str) -> Result<Duration, String> {
    let number = text.strip_suffix('s').unwrap_or(text);
    let seconds = number
        .parse()
        .ok()
        .filter(|seconds| (1..=300).contains(seconds));
    let seconds = seconds.ok_or("write 1 to 300 seconds, such as 10 or 30s")?;
    Ok(Duration::from_secs(seconds))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use super::*;

    /// Directories of a user: configuration, and one that a sandbox can write.
    struct UserPlace(tempfile::TempDir);

    impl UserPlace {
        fn new() -> Self {
            let place = Self(tempfile::tempdir().unwrap());
            // Also for root, nothing below is protected by its place.
            set_mode(place.0.path(), 0o777);
            for name in ["config", "work"] {
                fs::create_dir(place.path(name)).unwrap();
                let mode = if name == "config" { 0o700 } else { 0o777 };
                set_mode(&place.path(name), mode);
            }
            place
        }

        fn path(&self, below: &str) -> PathBuf {
            self.0.path().canonicalize().unwrap().join(below)
        }

        fn script(&self, below: &str, text: &str) -> PathBuf {
            let path = self.path(below);
            fs::write(&path, text).unwrap();
            set_mode(&path, 0o755);
            path
        }

        fn find(&self, program: &Path) -> Result<PathBuf, ApproverProgramError> {
            let search = OsStr::new("/usr/bin:/bin");
            find_approver_in(program, &self.path("config"), search)
        }
    }

    fn set_mode(path: &Path, mode: u32) {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }

    const SCRIPT: &str = "#!/bin/sh\nexit 0\n";

    #[test]
    fn a_script_in_the_configuration_directory_is_accepted() {
        let place = UserPlace::new();
        let own = place.script("config/approve", SCRIPT);
        assert_eq!(place.find(&own).unwrap(), own);
        let env = place.script("config/env", "#!/usr/bin/env -S sh -e\n");
        assert_eq!(place.find(&env).unwrap(), env);
        assert!(place.find(Path::new("true")).is_ok());
        assert!(place.find(Path::new("/bin/true")).is_ok());
    }

    #[test]
    fn a_program_that_a_sandbox_could_write_is_refused() {
        use ApproverProgramError as Error;
        let place = UserPlace::new();
        let written = place.script("work/approve", SCRIPT);
        assert!(matches!(
            place.find(&written),
            Err(Error::Unprotected { .. })
        ));
        // A link leads out of the directory.
        let link = place.path("config/link");
        symlink(&written, &link).unwrap();
        assert!(matches!(place.find(&link), Err(Error::Unprotected { .. })));
        // A second name of the file is elsewhere.
        let twice = place.script("config/twice", SCRIPT);
        fs::hard_link(&twice, place.path("work/twice")).unwrap();
        assert!(matches!(place.find(&twice), Err(Error::Unprotected { .. })));
        // Everybody can write it.
        let open = place.script("config/open", SCRIPT);
        set_mode(&open, 0o777);
        assert!(matches!(place.find(&open), Err(Error::Unprotected { .. })));
        let missing = place.find(&place.path("config/missing"));
        assert!(matches!(missing, Err(Error::NotFound { .. })));
        assert!(matches!(
            place.find(Path::new("")),
            Err(Error::NotFound { .. })
        ));
    }

    #[test]
    fn an_interpreter_that_a_sandbox_could_write_is_refused() {
        use ApproverProgramError as Error;
        let place = UserPlace::new();
        let shell = place.script("work/sh", "");
        for (name, line) in [
            ("direct", format!("#!{}\n", shell.display())),
            ("relative", "#!sh\n".to_owned()),
            ("assigned", "#!/usr/bin/env PATH=/tmp sh\n".to_owned()),
            ("option", "#!/usr/bin/env -C /tmp sh\n".to_owned()),
            ("named", format!("#!/usr/bin/env {}\n", shell.display())),
            ("nothing", "#!/usr/bin/env\n".to_owned()),
            ("missing", "#!/usr/bin/env no-such-program\n".to_owned()),
        ] {
            let script = place.script(&format!("config/{name}"), &line);
            let found = place.find(&script);
            let is_refused = matches!(
                found,
                Err(Error::UnprotectedInterpreter { .. } | Error::Unusable { .. })
            );
            assert!(is_refused, "{line}: {found:?}");
        }
    }

    #[test]
    fn a_time_limit_has_bounds() {
        assert_eq!(parse_timeout("10"), Ok(Duration::from_secs(10)));
        assert_eq!(parse_timeout("300s"), Ok(Duration::from_secs(300)));
        for text in ["", "0", "301", "-1", "10m", "s"] {
            assert!(parse_timeout(text).is_err(), "{text}");
        }
    }
}
