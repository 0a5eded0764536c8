// SPDX-License-Identifier: Apache-2.0
//! Checks of directories and files: sockets, the record, the configuration.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use rustix::fs::{Access, access, statvfs};

use crate::HostDescription;
use crate::finding::{Check, Finding};

const RUNTIME_DIRECTORY: Check = Check::of_commands("runtime-directory");
const RECORD: Check = Check::of_commands("record");
const CONFIGURATION: Check = Check::of_commands("configuration");
const ORGANISATION: Check = Check::of_commands("organisation");

/// Free space at which the record soon fails, and at which it may.
const LITTLE_SPACE_BYTES: u64 = 16 << 20;
const LOW_SPACE_BYTES: u64 = 256 << 20;

/// Checks that the directory of the sockets is private to the user.
pub(crate) fn check_runtime_directory(host: &HostDescription) -> Finding {
    let path = &host.runtime_dir;
    let shown = path.display();
    let found = match fs::metadata(path) {
        Ok(found) => found,
        // The directory in the shared temporary directory is made at the first need.
        Err(_) if path.parent() == Some(Path::new("/tmp")) => {
            return RUNTIME_DIRECTORY.pass(&format!("{shown} is made at the first need"));
        }
        Err(error) => {
            let fix = "log in over a session of systemd, or set XDG_RUNTIME_DIR to a directory \
                       of yours with mode 0700";
            return RUNTIME_DIRECTORY.failure(&format!("{shown}: {error}"), fix);
        }
    };
    if !found.is_dir() || found.uid() != host.uid {
        return RUNTIME_DIRECTORY.failure(
            &format!(
                "{shown} is no directory of yours, but of user {}",
                found.uid()
            ),
            "set XDG_RUNTIME_DIR to a directory of yours with mode 0700",
        );
    }
    let mode = found.mode() & 0o777;
    if mode & 0o077 != 0 {
        let fix = format!("chmod 700 {shown}");
        let found = format!("{shown} is open to others: mode {mode:04o}");
        return RUNTIME_DIRECTORY.failure(&found, &fix);
    }
    RUNTIME_DIRECTORY.pass(&format!("{shown}, mode {mode:04o}"))
}

/// Checks that the record can be written.
pub(crate) fn check_records(host: &HostDescription) -> Vec<Finding> {
    if host.records.is_empty() {
        return vec![RECORD.pass("none is kept, as your configuration says")];
    }
    host.records.iter().map(|path| check_record(path)).collect()
}

fn check_record(path: &Path) -> Finding {
    let shown = path.display();
    // What does not exist is created below the first ancestor that does.
    let Some(existing) = path.ancestors().find(|ancestor| ancestor.exists()) else {
        return RECORD.failure(&format!("{shown} has no directory"), "create its directory");
    };
    let at = existing.display();
    let wanted = if existing == path || !existing.is_dir() {
        Access::WRITE_OK
    } else {
        Access::WRITE_OK | Access::EXEC_OK
    };
    if let Err(error) = access(existing, wanted) {
        let fix = format!("make {at} writable for you, or disable the record in config.toml");
        return RECORD.failure(&format!("{shown} cannot be written: {at}: {error}"), &fix);
    }
    let Ok(space) = statvfs(existing) else {
        return RECORD.warning(
            &format!("the space at {at} is unknown"),
            &format!("df {at}"),
        );
    };
    let free = space.f_bavail.saturating_mul(space.f_frsize);
    let megabytes = free >> 20;
    let found = format!("{shown}: {megabytes} MiB free");
    let fix = format!("free some space at {at}");
    if free < LITTLE_SPACE_BYTES {
        RECORD.failure(&found, &fix)
    } else if free < LOW_SPACE_BYTES {
        RECORD.warning(&found, &fix)
    } else {
        RECORD.pass(&found)
    }
}

/// Reports whether the files of the configuration can be used.
pub(crate) fn check_configuration(host: &HostDescription) -> Vec<Finding> {
    let files = &host.configuration;
    let judge = |check: Check, path: &Path, read: &Result<bool, String>, fix: &str| {
        let shown = path.display();
        match read {
            Ok(true) => check.pass(&format!("{shown}: no errors")),
            Ok(false) => check.pass(&format!("{shown} does not exist: defaults count")),
            Err(error) => check.failure(error, fix),
        }
    };
    vec![
        judge(
            CONFIGURATION,
            &files.user_path,
            &files.user,
            "terok-clearance config check; terok-clearance config example",
        ),
        judge(
            ORGANISATION,
            &files.organisation_path,
            &files.organisation,
            "ask your administrator: terok-clearance config check",
        ),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::CheckStatus;

    #[test]
    fn a_record_is_judged_by_the_directory_in_which_it_will_be() {
        let place = tempfile::tempdir().unwrap();
        let finding = check_record(&place.path().join("state/new/audit.jsonl"));
        assert_ne!(finding.status, CheckStatus::Failure, "{finding:?}");
        let file = place.path().join("file");
        fs::write(&file, "").unwrap();
        // Nothing can be created below a read-only file system.
        let finding = check_record(Path::new("/proc/none/audit.jsonl"));
        assert_eq!(finding.status, CheckStatus::Failure, "{finding:?}");
    }
}
