// SPDX-License-Identifier: Apache-2.0
//! The operator's key of the stand-in addresses, kept over runs.
//!
//! The same key gives a name the same stand-in address in each run, so that an address in the cache
//! of a program keeps its name.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::Path;

use names::StandInKey;

const KEY_FILE: &str = "stand-in.key";
const KEY_BYTES: usize = 16;

/// Reads the key of `state_dir`, or creates one.
///
/// A file with another size is replaced. Where no file can be written, the key is for this run
/// alone.
pub fn load_stand_in_key(state_dir: &Path) -> io::Result<StandInKey> {
    load_key(state_dir).map(StandInKey::new)
}

fn load_key(state_dir: &Path) -> io::Result<[u8; KEY_BYTES]> {
    let path = state_dir.join(KEY_FILE);
    if let Some(key) = read_key(&path) {
        return Ok(key);
    }
    let mut key = [0; KEY_BYTES];
    File::open("/dev/urandom")?.read_exact(&mut key)?;
    if let Err(error) = write_key(state_dir, &path, &key) {
        tracing::debug!(%error, "the key of the stand-in addresses is not kept");
        return Ok(key);
    }
    // Another run may have been first.
    Ok(read_key(&path).unwrap_or(key))
}

fn read_key(path: &Path) -> Option<[u8; KEY_BYTES]> {
    fs::read(path).ok()?.try_into().ok()
}

/// Writes the key under another name and renames it, so that no run reads a part.
fn write_key(state_dir: &Path, path: &Path, key: &[u8]) -> io::Result<()> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(state_dir)?;
    let temporary = path.with_extension(format!("{}.new", std::process::id()));
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&temporary)?;
    let written = file
        .write_all(key)
        .and_then(|()| fs::rename(&temporary, path));
    if written.is_err() {
        drop(fs::remove_file(&temporary)); // the error above is the one to report
    }
    written
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_key_is_kept_and_a_damaged_one_replaced() {
        let directory = tempfile::tempdir().unwrap();
        let state = directory.path().join("state");
        let first = load_key(&state).unwrap();
        assert_eq!(load_key(&state).unwrap(), first);
        fs::write(state.join(KEY_FILE), "short").unwrap();
        let second = load_key(&state).unwrap();
        assert_ne!(second, first);
        assert_eq!(load_key(&state).unwrap(), second);
        assert_eq!(fs::read_dir(&state).unwrap().count(), 1);
    }

    #[test]
    fn a_state_directory_that_cannot_be_written_costs_only_the_keeping() {
        let file = tempfile::NamedTempFile::new().unwrap();
        assert!(load_key(&file.path().join("state")).is_ok());
    }
}
