// SPDX-License-Identifier: Apache-2.0
//! The operator's key for the policies of containers, kept over restarts.
//!
//! A key that others could have read or written is refused, and no key is made in its place: what
//! it has signed would silently count no longer, or count for others.

use std::fmt;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use hmac::{Hmac, KeyInit as _, Mac as _};
use rustix::fs::OFlags;
use sha2::Sha256;

/// The name of the file in the state directory.
pub const POLICY_KEY_FILE: &str = "containers.key";

const KEY_BYTES: usize = 32;
const MAC_BYTES: usize = 32;

/// The operator's key for the policies of containers.
#[derive(Clone)]
pub struct PolicyKey([u8; KEY_BYTES]);

/// A key cannot be used or made.
#[derive(Debug, thiserror::Error)]
#[error("cannot use the key of container policies, {}", path.display())]
pub struct PolicyKeyError {
    /// The file, or the directory above it.
    pub path: PathBuf,
    /// The reason.
    #[source]
    pub problem: PolicyKeyProblem,
}

/// The reason why a key cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PolicyKeyProblem {
    /// A system call failed.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// The key is a link, a pipe or a directory.
    #[error("it is no regular file")]
    NotFile,
    /// Another user owns it.
    #[error("it is owned by user {0}")]
    OtherOwner(u32),
    /// Others can read or write it.
    #[error(
        "others can read or write it (mode {0:o}): remove it, and start the containers that it has \
         signed for again"
    )]
    NotPrivate(u32),
    /// Others can replace files in its directory.
    #[error("others can write to its directory {} (mode {mode:o})", path.display())]
    Directory {
        /// The directory.
        path: PathBuf,
        /// The permissions.
        mode: u32,
    },
    /// The file has another size.
    #[error(
        "it has {0} bytes instead of {KEY_BYTES}: remove it, and start the containers that it has \
         signed for again"
    )]
    Size(u64),
}

impl PolicyKey {
    /// Returns the key of these bytes.
    pub const fn new(bytes: [u8; KEY_BYTES]) -> Self {
        Self(bytes)
    }

    /// Reads the key of `state_dir`; `None` if there is none, so that nothing is signed with it.
    pub fn load(state_dir: &Path) -> Result<Option<Self>, PolicyKeyError> {
        let path = state_dir.join(POLICY_KEY_FILE);
        let read = read_key(state_dir, &path);
        read.map_err(|problem| PolicyKeyError { path, problem })
    }

    /// Reads the key of `state_dir`, or creates one.
    pub fn load_or_create(state_dir: &Path) -> Result<Self, PolicyKeyError> {
        let path = state_dir.join(POLICY_KEY_FILE);
        let key = match read_key(state_dir, &path) {
            Ok(Some(key)) => Ok(key),
            Ok(None) => create_key(state_dir, &path),
            Err(problem) => Err(problem),
        };
        key.map_err(|problem| PolicyKeyError { path, problem })
    }

    /// Returns the HMAC-SHA256 of `message` in hexadecimal digits.
    pub(super) fn sign(&self, message: &[u8]) -> String {
        let mac = self.mac(message).map(|mac| mac.finalize().into_bytes());
        let digit = |half: u8| char::from_digit(half.into(), 16).unwrap_or_default();
        let mut text = String::with_capacity(MAC_BYTES * 2);
        for byte in mac.unwrap_or_default() {
            text.extend([digit(byte >> 4), digit(byte & 15)]);
        }
        text
    }

    /// Returns `true` if `mac` is the HMAC-SHA256 of `message`. The comparison takes the same time
    /// for every `mac` of the right form.
    pub(super) fn verify(&self, message: &[u8], mac: &str) -> bool {
        let Some(bytes) = parse_mac(mac) else {
            return false;
        };
        let expected = self.mac(message);
        expected.is_some_and(|expected| expected.verify_slice(&bytes).is_ok())
    }

    fn mac(&self, message: &[u8]) -> Option<Hmac<Sha256>> {
        // HMAC takes keys of every length.
        let mac = Hmac::<Sha256>::new_from_slice(&self.0).ok()?;
        Some(mac.chain_update(message))
    }
}

impl fmt::Debug for PolicyKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PolicyKey(..)")
    }
}

/// Parses lower-case hexadecimal digits.
fn parse_mac(text: &str) -> Option<[u8; MAC_BYTES]> {
    let digit = |byte: u8| match byte {
        b'0'..=b'9' => Some(byte.wrapping_sub(b'0')),
        b'a'..=b'f' => Some(byte.wrapping_sub(b'a').wrapping_add(10)),
        _ => None,
    };
    let (pairs, []) = text.as_bytes().as_chunks::<2>() else {
        return None;
    };
    let mut mac = [0; MAC_BYTES];
    if pairs.len() != mac.len() {
        return None;
    }
    for (byte, [high, low]) in mac.iter_mut().zip(pairs) {
        *byte = digit(*high)?.wrapping_shl(4) | digit(*low)?;
    }
    Some(mac)
}

fn read_key(state_dir: &Path, path: &Path) -> Result<Option<PolicyKey>, PolicyKeyProblem> {
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY;
    let flags = i32::try_from(flags.bits()).unwrap_or_default();
    let opened = OpenOptions::new().read(true).custom_flags(flags).open(path);
    let mut file = match opened {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) if error.raw_os_error() == Some(rustix::io::Errno::LOOP.raw_os_error()) => {
            return Err(PolicyKeyProblem::NotFile);
        }
        Err(error) => return Err(error.into()),
    };
    check_directory(state_dir)?;
    let found = file.metadata()?;
    if !found.is_file() {
        return Err(PolicyKeyProblem::NotFile);
    }
    let own = rustix::process::geteuid().as_raw();
    if found.uid() != own {
        return Err(PolicyKeyProblem::OtherOwner(found.uid()));
    }
    if found.mode() & 0o077 != 0 {
        return Err(PolicyKeyProblem::NotPrivate(found.mode() & 0o7777));
    }
    if found.len() != u64::try_from(KEY_BYTES).unwrap_or_default() {
        return Err(PolicyKeyProblem::Size(found.len()));
    }
    let mut key = [0; KEY_BYTES];
    file.read_exact(&mut key)?;
    Ok(Some(PolicyKey(key)))
}

/// Checks that no other user can replace the key.
fn check_directory(state_dir: &Path) -> Result<(), PolicyKeyProblem> {
    let found = fs::metadata(state_dir)?;
    let own = rustix::process::geteuid().as_raw();
    if found.uid() != own {
        return Err(PolicyKeyProblem::OtherOwner(found.uid()));
    }
    if found.mode() & 0o022 != 0 {
        return Err(PolicyKeyProblem::Directory {
            path: state_dir.to_owned(),
            mode: found.mode() & 0o7777,
        });
    }
    Ok(())
}

/// Writes a key under another name and links it to `path`, so that no process reads a part, and
/// that the first of several processes wins.
fn create_key(state_dir: &Path, path: &Path) -> Result<PolicyKey, PolicyKeyProblem> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(state_dir)?;
    check_directory(state_dir)?;
    let mut key = [0; KEY_BYTES];
    File::open("/dev/urandom")?.read_exact(&mut key)?;
    let temporary = path.with_extension(format!("{}.new", std::process::id()));
    // Of a process with the same number, which was killed.
    drop(fs::remove_file(&temporary));
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&temporary)?;
    let linked = file
        .write_all(&key)
        .and_then(|()| file.sync_all())
        .and_then(|()| fs::hard_link(&temporary, path));
    drop(fs::remove_file(&temporary)); // the error of the link is the one to report
    match linked {
        Ok(()) => Ok(PolicyKey(key)),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            let first = read_key(state_dir, path)?;
            first.ok_or_else(|| io::Error::from(io::ErrorKind::NotFound).into())
        }
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use super::*;

    fn problem(state: &Path) -> String {
        let error = PolicyKey::load_or_create(state).unwrap_err();
        assert!(PolicyKey::load(state).is_err());
        error.problem.to_string()
    }

    #[test]
    fn the_key_is_made_once_and_is_private() {
        let directory = tempfile::tempdir().unwrap();
        let state = directory.path().join("a/state");
        assert!(PolicyKey::load(&state).unwrap().is_none());
        let first = PolicyKey::load_or_create(&state).unwrap();
        assert_eq!(PolicyKey::load_or_create(&state).unwrap().0, first.0);
        assert_eq!(PolicyKey::load(&state).unwrap().unwrap().0, first.0);
        assert_ne!(first.0, [0; KEY_BYTES]);
        let mode = fs::metadata(state.join(POLICY_KEY_FILE)).unwrap().mode();
        assert_eq!(mode & 0o7777, 0o600);
        assert_eq!(fs::read_dir(&state).unwrap().count(), 1);
        assert!(!format!("{first:?}").contains(&first.0[0].to_string()));
    }

    #[test]
    fn a_key_that_others_could_know_is_an_error() {
        let directory = tempfile::tempdir().unwrap();
        let state = directory.path();
        let path = state.join(POLICY_KEY_FILE);
        PolicyKey::load_or_create(state).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        assert!(problem(state).contains("mode 640"));
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        fs::write(&path, "short").unwrap();
        assert!(problem(state).contains("5 bytes"));
        fs::rename(&path, state.join("other")).unwrap();
        symlink(state.join("other"), &path).unwrap();
        assert!(problem(state).contains("no regular file"));
        fs::remove_file(&path).unwrap();
        fs::create_dir(&path).unwrap();
        assert!(problem(state).contains("no regular file"));
        fs::remove_dir(&path).unwrap();
        PolicyKey::load_or_create(state).unwrap();
        fs::set_permissions(state, fs::Permissions::from_mode(0o777)).unwrap();
        assert!(problem(state).contains("its directory"));
    }

    #[test]
    fn processes_that_start_together_have_one_key() {
        let directory = tempfile::tempdir().unwrap();
        let state = directory.path();
        let path = state.join(POLICY_KEY_FILE);
        let first = create_key(state, &path).unwrap();
        assert_eq!(create_key(state, &path).unwrap().0, first.0);
        assert_eq!(fs::read_dir(state).unwrap().count(), 1);
    }

    #[test]
    fn the_signature_is_hmac_sha256() {
        // RFC 4231, test case 2 has a key of 4 bytes; a key shorter than a block is padded with 0.
        let mut bytes = [0; KEY_BYTES];
        bytes[..4].copy_from_slice(b"Jefe");
        let key = PolicyKey::new(bytes);
        let message = b"what do ya want for nothing?";
        let expected = "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843";
        assert_eq!(key.sign(message), expected);
        assert!(key.verify(message, expected));
        for wrong in [
            "",
            "5b",
            &expected[1..],
            &expected.to_uppercase(),
            &expected.replace('5', "6"),
        ] {
            assert!(!key.verify(message, wrong), "{wrong}");
        }
        assert!(!key.verify(b"what do ya want for nothing!", expected));
    }
}
