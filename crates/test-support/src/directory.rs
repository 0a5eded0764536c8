// SPDX-License-Identifier: Apache-2.0
//! Temporary directories, and programs in them.

use std::fs::{OpenOptions, Permissions};
use std::io::Write as _;
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use tempfile::TempDir;

/// Returns a directory with mode 0700, as required for `XDG_RUNTIME_DIR`.
pub fn private_directory() -> TempDir {
    tempfile::Builder::new()
        .permissions(Permissions::from_mode(0o700))
        .tempdir()
        .unwrap()
}

/// Writes an executable shell script that does not exist yet, and returns its path.
pub fn write_script(directory: &Path, name: &str, lines: &str) -> PathBuf {
    let path = directory.join(name);
    let mut file = OpenOptions::new()
        .create_new(true)
        .write(true)
        .mode(0o755)
        .open(&path)
        .unwrap();
    file.write_all(format!("#!/bin/sh\n{lines}\n").as_bytes())
        .unwrap();
    path
}
