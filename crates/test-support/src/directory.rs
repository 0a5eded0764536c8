// SPDX-License-Identifier: Apache-2.0
//! Temporary directories.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;

use tempfile::TempDir;

/// Returns a directory with mode 0700, as required for `XDG_RUNTIME_DIR`.
pub fn private_directory() -> TempDir {
    tempfile::Builder::new()
        .permissions(Permissions::from_mode(0o700))
        .tempdir()
        .unwrap()
}
