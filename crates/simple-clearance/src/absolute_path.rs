// SPDX-License-Identifier: Apache-2.0
//! Absolute paths for programs that run in another directory.

use std::path::{Path, PathBuf};

use crate::SimpleClearanceError;

/// Returns the absolute path of `path`.
pub(crate) fn absolute_path(path: &Path) -> Result<PathBuf, SimpleClearanceError> {
    std::path::absolute(path).map_err(|source| SimpleClearanceError::FindPath {
        path: path.to_owned(),
        source,
    })
}
