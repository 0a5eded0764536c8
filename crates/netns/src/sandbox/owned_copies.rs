// SPDX-License-Identifier: Apache-2.0
//! Copies of files that programs trust only if root or their user owns them.
//!
//! An ordinary user's sandbox has one user id. Files of root belong to the overflow user id there,
//! 65534, and ssh, for example, refuses such a configuration. A copy of the user's own is laid over
//! the file.

use std::fs::{self, File};
use std::io::Read as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use libc::MOUNT_ATTR_RDONLY;
use rustix::mount::mount_bind;
use rustix::process::geteuid;

use super::init_channel::InitFault;
use super::mount_plan::set_mode;
use super::mounts::restrict_at;

/// Maximum size of a file; a larger one stays as it is.
const MAX_BYTES: u64 = 1 << 20;

/// A copy of a file.
#[derive(Debug)]
pub(super) struct OwnedCopy {
    /// The file, without symbolic links in its path.
    path: PathBuf,
    mode: u32,
    text: Vec<u8>,
}

impl OwnedCopy {
    /// Reads the files among `paths` that another user owns. Root's sandbox needs none.
    pub(super) fn read_all(paths: &[PathBuf]) -> Vec<Self> {
        if geteuid().is_root() {
            return Vec::new();
        }
        paths.iter().filter_map(|path| Self::read(path)).collect()
    }

    fn read(path: &Path) -> Option<Self> {
        let path = path.canonicalize().ok()?;
        let found = fs::metadata(&path).ok()?;
        if !found.is_file() || found.uid() == geteuid().as_raw() || found.len() > MAX_BYTES {
            return None;
        }
        let mut text = Vec::new();
        let file = File::open(&path).ok()?; // what is unreadable here is so for the workload
        file.take(MAX_BYTES).read_to_end(&mut text).ok()?;
        Some(Self {
            path,
            mode: found.mode() & 0o777,
            text,
        })
    }

    /// Lays the copy over the file. `/run` is the sandbox's own already.
    pub(super) fn lay(&self) -> Result<(), InitFault> {
        let Self { path, mode, text } = self;
        let failed = || format!("laying a copy over {}", path.display());
        let copy = Path::new("/run/terok-copy");
        fs::write(copy, text).map_err(InitFault::at_step(failed()))?;
        set_mode(copy, *mode).map_err(InitFault::at_step(failed()))?;
        match mount_bind(copy, path) {
            Ok(()) => restrict_at(path, MOUNT_ATTR_RDONLY, false)?,
            // Hidden since it was read.
            Err(rustix::io::Errno::NOENT) => {}
            Err(error) => return Err(InitFault::at_step(failed())(error)),
        }
        fs::remove_file(copy).map_err(InitFault::at_step(failed()))
    }
}
