// SPDX-License-Identifier: Apache-2.0
//! `reader.pid`: the process id of a sandbox's reader.
//!
//! The Python hook writes the file with the id of the reader that it started, and ends that process
//! when the container stops. A reader started without the hook writes the file itself.

use std::fs;
use std::path::{Path, PathBuf};

/// A file with the id of this process, removed on drop.
#[derive(Debug)]
pub(super) struct PidFile(PathBuf);

impl PidFile {
    /// Writes the file, overwriting one of a killed reader. No other reader can be alive, because
    /// this process has its packet log.
    pub(super) fn create(state_dir: &Path) -> Option<Self> {
        let path = state_dir.join("reader.pid");
        let written = fs::write(&path, pid_file_text());
        if let Err(error) = written {
            // The file only serves to end this process; questions work without it.
            let path = path.display();
            tracing::warn!(%error, %path, "could not write the process id file");
            return None;
        }
        Some(Self(path))
    }
}

impl Drop for PidFile {
    fn drop(&mut self) {
        // A file of another process stays.
        if fs::read_to_string(&self.0).is_ok_and(|found| found == pid_file_text()) {
            drop(fs::remove_file(&self.0));
        }
    }
}

fn pid_file_text() -> String {
    format!("{}\n", std::process::id())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_contains_this_process_and_is_removed_on_drop() {
        let state = tempfile::tempdir().unwrap();
        let path = state.path().join("reader.pid");
        fs::write(&path, "1\n").unwrap();
        let pid_file = PidFile::create(state.path()).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), pid_file_text());
        drop(pid_file);
        assert!(!path.exists());
        let pid_file = PidFile::create(state.path()).unwrap();
        fs::write(&path, "1\n").unwrap();
        drop(pid_file);
        assert_eq!(fs::read_to_string(&path).unwrap(), "1\n");
        assert!(PidFile::create(Path::new("/nonexistent")).is_none());
    }
}
