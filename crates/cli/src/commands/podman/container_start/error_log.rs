// SPDX-License-Identifier: Apache-2.0
//! The messages of failed hooks: OCI runtimes show little or nothing of them.

use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};

use containers::host_layout::HOOK_ERROR_LOG;
use terok_clearance::DisplayText;

/// Maximum bytes that are read of the new lines.
const MAX_NEW_BYTES: u64 = 16 * 1024;

/// The log, and what was in it before a start.
#[derive(Debug)]
pub(super) struct HookErrorLog {
    path: PathBuf,
    length: u64,
}

impl HookErrorLog {
    /// Notes the length of the log.
    pub(super) fn open(runtime_dir: &Path) -> Self {
        let path = runtime_dir.join(HOOK_ERROR_LOG);
        let length = path.metadata().map_or(0, |found| found.len());
        Self { path, length }
    }

    /// Returns the lines that were added since.
    pub(super) fn new_lines(&self) -> Vec<DisplayText> {
        let Ok(mut file) = File::open(&self.path) else {
            return Vec::new();
        };
        // The log begins again when it is large.
        let length = file.metadata().map_or(0, |found| found.len());
        let from = if length < self.length { 0 } else { self.length };
        let mut bytes = Vec::new();
        let read = file
            .seek(SeekFrom::Start(from))
            .and_then(|_position| file.take(MAX_NEW_BYTES).read_to_end(&mut bytes));
        if let Err(error) = read {
            tracing::debug!(%error, "cannot read the log of failed hooks");
        }
        let text = String::from_utf8_lossy(&bytes);
        let lines = text.lines().filter(|line| !line.is_empty());
        lines.map(DisplayText::from_program_output).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn only_new_lines_are_shown() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join(HOOK_ERROR_LOG);
        let missing = HookErrorLog::open(place.path());
        assert!(missing.new_lines().is_empty());
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, "old\n").unwrap();
        assert_eq!(missing.new_lines(), ["old".into()]);
        let log = HookErrorLog::open(place.path());
        assert!(log.new_lines().is_empty());
        fs::write(&path, "old\nnew\x1b[2J\n\nother\n").unwrap();
        let lines = log.new_lines();
        assert_eq!(lines.len(), 2);
        assert!(lines[0].as_str().starts_with("new") && !lines[0].as_str().contains('\x1b'));
        fs::write(&path, "x\n").unwrap();
        assert_eq!(log.new_lines(), ["x".into()]);
    }
}
