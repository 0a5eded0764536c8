// SPDX-License-Identifier: Apache-2.0
//! `reader.pid`: which process reads the packets of a sandbox.
//!
//! The Python hook writes it with the id of what it started, which is us, and ends what it names
//! when the container stops. We write it for whoever starts us without the hook.

use std::fs;
use std::path::{Path, PathBuf};

/// A file that names this process, and goes with it.
#[derive(Debug)]
pub(super) struct PidFile(PathBuf);

impl PidFile {
    /// Writes it; what a reader left that was killed is overwritten. None can be alive: its packet
    /// log is ours.
    pub(super) fn create(state_dir: &Path) -> Option<Self> {
        let path = state_dir.join("reader.pid");
        let written = fs::write(&path, pid_file_text());
        if let Err(error) = written {
            // Nobody finds us by it then; the questions are asked all the same.
            tracing::warn!(%error, path = %path.display(), "could not write the record");
            return None;
        }
        Some(Self(path))
    }
}

impl Drop for PidFile {
    fn drop(&mut self) {
        // Another's record stays.
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
    fn the_record_is_ours_and_goes_with_us() {
        let state = tempfile::tempdir().unwrap();
        let path = state.path().join("reader.pid");
        fs::write(&path, "1\n").unwrap();
        let record = PidFile::create(state.path()).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), pid_file_text());
        drop(record);
        assert!(!path.exists());
        let record = PidFile::create(state.path()).unwrap();
        fs::write(&path, "1\n").unwrap();
        drop(record);
        assert_eq!(fs::read_to_string(&path).unwrap(), "1\n");
        assert!(PidFile::create(Path::new("/nonexistent")).is_none());
    }
}
