// SPDX-License-Identifier: Apache-2.0
//! Reads a file as a process of a sandbox sees it.

use std::fs::File;
use std::io::{self, ErrorKind, Read as _};
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{CWD, FileType, Mode, OFlags, ResolveFlags, fstat, openat, openat2};
use rustix::io::Errno;

use crate::ProcessHandle;

/// Reads at most `limit` bytes of the regular file at `path`, in the root directory of `process`.
///
/// Links lead to files below that root only: the sandbox cannot name a file of the host. Reading
/// may block if the sandbox mounted a file system of its own.
pub fn read_process_file(process: &ProcessHandle, path: &str, limit: u64) -> io::Result<Vec<u8>> {
    let root = openat(
        CWD,
        format!("/proc/{}/root", process.pid()),
        OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC,
        Mode::empty(),
    )?;
    if !process.is_alive() {
        return Err(Errno::SRCH.into()); // the number may have been reused
    }
    read_below(&root, path, limit)
}

/// Reads at most `limit` bytes of the regular file at `path`, in the root directory `root` of a
/// container; see [`read_process_file`].
pub fn read_file_in_root(root: &Path, path: &str, limit: u64) -> io::Result<Vec<u8>> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    read_below(&openat(CWD, root, flags, Mode::empty())?, path, limit)
}

fn read_below(root: &OwnedFd, path: &str, limit: u64) -> io::Result<Vec<u8>> {
    let file = openat2(
        root,
        path,
        // Without O_NONBLOCK, a pipe at the path would block.
        OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC,
        Mode::empty(),
        ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS,
    )?;
    if FileType::from_raw_mode(fstat(&file)?.st_mode) != FileType::RegularFile {
        return Err(io::Error::new(
            ErrorKind::InvalidInput,
            "not a regular file",
        ));
    }
    let mut bytes = Vec::new();
    File::from(file).take(limit).read_to_end(&mut bytes)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;
    use std::process::Command;

    use super::*;

    #[test]
    fn only_a_bounded_part_of_a_regular_file_is_read() {
        let own = ProcessHandle::current().unwrap();
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name).to_str().unwrap().to_owned();
        std::fs::write(path("file"), "nameserver 192.0.2.1\n").unwrap();
        symlink("file", path("link")).unwrap();
        symlink("/proc/self/root/etc", path("magic")).unwrap();
        let made = Command::new("mkfifo").arg(path("pipe")).status().unwrap();
        assert!(made.success());
        let read = |name: &str| read_process_file(&own, &path(name), 10);
        assert_eq!(read("file").unwrap(), b"nameserver");
        assert_eq!(read("link").unwrap(), b"nameserver");
        assert_eq!(read("missing").unwrap_err().kind(), ErrorKind::NotFound);
        assert_eq!(read("pipe").unwrap_err().kind(), ErrorKind::InvalidInput);
        assert_eq!(read("").unwrap_err().kind(), ErrorKind::InvalidInput);
        read("magic/passwd").unwrap_err();
    }
}
