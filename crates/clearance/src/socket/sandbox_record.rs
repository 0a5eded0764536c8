// SPDX-License-Identifier: Apache-2.0
//! A file beside a hub's socket that says which sandbox the hub serves.
//!
//! A killed hub leaves its socket. The record tells a client whether such a hub can come back: a
//! sandbox that still runs may get a new supervisor, one that has ended never does. It also has the
//! sandbox's name, which the hub's interfaces report only with a question.

use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use serde::{Deserialize, Serialize};

use super::bind::SocketLock;
use super::paths::{has_listener, is_own_file};
use super::{HubSocket, RuntimeDir, SocketLayout};
use crate::DisplayText;

/// The name of the file, beside `hub.sock`.
const FILE_NAME: &str = ".sandbox.json";
/// The maximum length of a record; a longer file is not ours.
const MAX_RECORD_BYTES: u64 = 4096;

/// The sandbox of a hub: its name, and a process whose end is the sandbox's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SandboxRecord {
    /// The name in questions.
    name: Option<DisplayText>,
    pid: u32,
    /// The start of the process in clock ticks since boot: pids are reused.
    started: Option<u64>,
    /// The pid namespace in which `pid` counts.
    pid_namespace: Option<PathBuf>,
}

/// The file of a [`SandboxRecord`], removed on drop.
#[derive(Debug)]
pub struct SandboxRecordFile(PathBuf);

impl SandboxRecord {
    /// Describes a sandbox by a running process of it.
    pub fn new(name: Option<DisplayText>, pid: u32) -> Self {
        Self {
            name,
            pid,
            started: start_time(pid),
            pid_namespace: own_pid_namespace(),
        }
    }

    /// Writes the record beside the hub's socket, whose lock the caller holds.
    pub fn write(&self, hub_socket: &Path) -> io::Result<SandboxRecordFile> {
        let path = record_path(hub_socket).ok_or(io::ErrorKind::InvalidInput)?;
        let new = path.with_extension("new");
        fs::write(&new, serde_json::to_vec(self)?)?;
        // A reader never sees half of a record.
        fs::rename(&new, &path)?;
        Ok(SandboxRecordFile(path))
    }

    /// Returns the record beside the hub's socket; `None` if there is none, as with hubs of other
    /// releases.
    pub fn read(hub_socket: &Path) -> Option<Self> {
        let path = record_path(hub_socket)?;
        let found = fs::symlink_metadata(&path).ok()?;
        if !found.is_file() || !is_own_file(&found) || found.len() > MAX_RECORD_BYTES {
            return None;
        }
        serde_json::from_slice(&fs::read(path).ok()?).ok()
    }

    /// Returns the name in questions.
    pub const fn name(&self) -> Option<&DisplayText> {
        self.name.as_ref()
    }

    /// Returns `true` if the process of the sandbox has ended; `false` too if that is unknown.
    pub fn has_ended(&self) -> bool {
        matches!(self.open_process(), Err(rustix::io::Errno::SRCH))
    }

    /// Returns a pidfd of the sandbox's process, which is readable once the process has ended;
    /// `None` if it has ended already, or cannot be seen from here.
    pub fn pidfd(&self) -> Option<OwnedFd> {
        self.open_process().ok()
    }

    fn open_process(&self) -> rustix::io::Result<OwnedFd> {
        if self.pid_namespace.is_none() || self.pid_namespace != own_pid_namespace() {
            return Err(rustix::io::Errno::INVAL);
        }
        let pid = i32::try_from(self.pid).ok().and_then(Pid::from_raw);
        let process = pidfd_open(pid.ok_or(rustix::io::Errno::SRCH)?, PidfdFlags::empty())?;
        // Read after the open: the number belongs to this process until it has ended. Without
        // access to the file, the number has to do.
        let is_other = match (self.started, start_time(self.pid)) {
            (Some(expected), Some(found)) => expected != found,
            _ => false,
        };
        // A zombie still has its number, and its pidfd is readable.
        let now = Timespec::default();
        let ended = poll(&mut [PollFd::new(&process, PollFlags::IN)], Some(&now))? > 0;
        if is_other || ended {
            return Err(rustix::io::Errno::SRCH);
        }
        Ok(process)
    }
}

impl Drop for SandboxRecordFile {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_file(&self.0) {
            tracing::debug!(%error, "cannot remove the record of a sandbox");
        }
    }
}

impl HubSocket {
    /// Returns `true` if the socket is what a killed hub has left of a sandbox that has ended.
    ///
    /// `false` for hubs of other programs, which keep no record of their sandbox.
    pub fn is_leftover(&self) -> bool {
        SandboxRecord::read(&self.path).is_some_and(|record| record.has_ended())
            && !has_listener(&self.path)
    }
}

impl RuntimeDir {
    /// Removes what killed hubs have left of sandboxes that have ended, and returns the number of
    /// these sandboxes.
    pub fn remove_leftovers(&self) -> usize {
        let mut removed = 0_usize;
        for socket in self.hub_sockets() {
            // The lock of its hub is free, and keeps a new hub of this name from starting now.
            if let Some(container) = &socket.container
                && socket.is_leftover()
                && let Ok(lock) = SocketLock::acquire(&socket.path)
                && socket.is_leftover()
            {
                let paths = self.sandbox_sockets(container, SocketLayout::D);
                if let Ok(ingester_lock) = SocketLock::acquire(&paths.ingester) {
                    drop(fs::remove_file(&paths.ingester));
                    drop(ingester_lock);
                }
                drop(record_path(&socket.path).map(fs::remove_file));
                drop(fs::remove_file(&socket.path));
                drop(lock);
                for path in [&paths.hub, &paths.ingester] {
                    // Only an empty directory is removed.
                    drop(path.parent().map(fs::remove_dir));
                }
                removed = removed.saturating_add(1);
            }
        }
        removed
    }
}

/// Returns the path of the record; `None` for a socket that shares its directory with others.
fn record_path(hub_socket: &Path) -> Option<PathBuf> {
    let own_directory = hub_socket
        .file_name()
        .is_some_and(|name| name == "hub.sock");
    own_directory.then(|| hub_socket.with_file_name(FILE_NAME))
}

/// Returns the start time of a process (`proc_pid_stat(5)`, field 22).
fn start_time(pid: u32) -> Option<u64> {
    let stat = fs::read(format!("/proc/{pid}/stat")).ok()?;
    // The name, in parentheses, may contain anything.
    let end = stat.iter().rposition(|byte| *byte == b')')?;
    let fields = std::str::from_utf8(stat.get(end.saturating_add(2)..)?).ok()?;
    fields.split(' ').nth(19)?.parse().ok()
}

fn own_pid_namespace() -> Option<PathBuf> {
    fs::read_link("/proc/self/ns/pid").ok()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;
    use std::process::{Child, Command, Stdio};

    use super::*;
    use crate::socket::bind;

    fn runtime() -> (tempfile::TempDir, RuntimeDir) {
        let directory = tempfile::tempdir().unwrap();
        fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o700)).unwrap();
        let runtime = RuntimeDir::new(directory.path());
        (directory, runtime)
    }

    fn process() -> Child {
        let mut command = Command::new("cat");
        command.stdin(Stdio::piped()).stdout(Stdio::null());
        command.spawn().unwrap()
    }

    fn end(mut process: Child) {
        process.kill().unwrap();
        process.wait().unwrap();
    }

    /// Leaves what a killed hub leaves: sockets without a listener, locks and the record.
    fn leave(runtime: &RuntimeDir, id: &str, record: &SandboxRecord) -> PathBuf {
        let paths = runtime.sandbox_sockets(&id.parse().unwrap(), SocketLayout::D);
        drop((bind(&paths.hub).unwrap(), bind(&paths.ingester).unwrap()));
        for path in [&paths.hub, &paths.ingester] {
            drop(std::os::unix::net::UnixListener::bind(path).unwrap());
            let name = path.file_name().unwrap().to_str().unwrap();
            fs::write(path.with_file_name(format!(".{name}.lock")), "").unwrap();
        }
        std::mem::forget(record.write(&paths.hub).unwrap());
        paths.hub
    }

    #[tokio::test]
    async fn a_sandbox_has_ended_when_its_process_has() {
        let (_directory, runtime) = runtime();
        let cat = process();
        let record = SandboxRecord::new(Some(DisplayText::new("web")), cat.id());
        let hub = leave(&runtime, "web", &record);
        let read = SandboxRecord::read(&hub).unwrap();
        assert_eq!(read, record);
        assert_eq!(read.name().unwrap().as_str(), "web");
        assert!(!read.has_ended() && read.pidfd().is_some());
        // Another process with the same number.
        let earlier = SandboxRecord {
            started: Some(1),
            ..record
        };
        assert!(earlier.has_ended() && earlier.pidfd().is_none());
        // A number of another pid namespace says nothing here.
        let foreign = SandboxRecord {
            pid_namespace: Some("pid:[1]".into()),
            ..earlier
        };
        assert!(!foreign.has_ended());
        let mut zombie = process();
        let record = SandboxRecord::new(None, zombie.id());
        zombie.kill().unwrap();
        while !record.has_ended() {}
        assert!(record.pidfd().is_none());
        zombie.wait().unwrap();
        end(cat);
        assert!(read.has_ended() && read.pidfd().is_none());
    }

    #[tokio::test]
    async fn only_leftovers_of_ended_sandboxes_are_removed() {
        let (_directory, runtime) = runtime();
        let (running, ended) = (process(), process());
        let lives = SandboxRecord::new(None, running.id());
        let gone = SandboxRecord::new(None, ended.id());
        end(ended);
        // The hub of a running sandbox was killed; a new supervisor may take its place.
        let kept = leave(&runtime, "kept", &lives);
        leave(&runtime, "old", &gone);
        // A hub that still listens, of a sandbox that has just ended.
        let served = runtime.sandbox_sockets(&"served".parse().unwrap(), SocketLayout::D);
        let _listener = bind(&served.hub).unwrap();
        let _record = gone.write(&served.hub).unwrap();
        // A hub of another program.
        let foreign = runtime.sandbox_sockets(&"foreign".parse().unwrap(), SocketLayout::D);
        fs::create_dir_all(foreign.hub.parent().unwrap()).unwrap();
        drop(std::os::unix::net::UnixListener::bind(&foreign.hub).unwrap());

        assert_eq!(runtime.remove_leftovers(), 1);
        let left: Vec<_> = runtime.hub_sockets().into_iter().map(|s| s.path).collect();
        assert_eq!(left, [foreign.hub, kept, served.hub]);
        let directory = |name: &str| runtime.path().join("terok").join(name).join("old");
        assert!(!directory("clearance").exists() && !directory("events").exists());
        assert_eq!(runtime.remove_leftovers(), 0);
        end(running);
        assert_eq!(runtime.remove_leftovers(), 1);
    }

    #[test]
    fn a_record_that_is_not_one_is_ignored() {
        let (directory, _) = runtime();
        let hub = directory.path().join("hub.sock");
        assert_eq!(SandboxRecord::read(&hub), None);
        for text in ["", "{}", "[1]", &"x".repeat(5000)] {
            fs::write(directory.path().join(FILE_NAME), text).unwrap();
            assert_eq!(SandboxRecord::read(&hub), None, "{text}");
        }
        let shared = directory.path().join("terok-clearance.sock");
        assert!(SandboxRecord::new(None, 1).write(&shared).is_err());
    }
}
