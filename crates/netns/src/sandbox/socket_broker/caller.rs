// SPDX-License-Identifier: Apache-2.0
//! The thread that made a system call: its descriptors, memory, directories and ids.

use std::fs;
use std::os::fd::{BorrowedFd, OwnedFd};

use rustix::fs::{CWD, Mode, OFlags, openat};
use rustix::io::Errno;
use rustix::process::{
    Gid, Pid, PidfdFlags, PidfdGetfdFlags, RawPid, Uid, chroot, fchdir, getegid, geteuid,
    getgroups, pidfd_getfd, pidfd_open,
};
use rustix::thread::{
    CapabilitySet, CapabilitySets, capabilities, set_capabilities, set_thread_groups,
    set_thread_res_gid, set_thread_res_uid,
};

use super::call_address::MAX_ADDRESS_BYTES;
use crate::sandbox::init_channel::InitFault;
use crate::sys;

/// `PIDFD_THREAD` of `linux/pidfd.h` (Linux 6.9): a descriptor of one thread.
const PIDFD_THREAD: PidfdFlags = PidfdFlags::from_bits_retain(OFlags::EXCL.bits());

/// A thread whose system call waits. Valid as long as the call does: the caller of these functions
/// checks it afterwards.
#[derive(Debug)]
pub(super) struct CallingThread {
    thread: u32,
    pidfd: OwnedFd,
}

impl CallingThread {
    pub(super) fn open(thread: u32) -> Result<Self, Errno> {
        let pid = |number: u32| RawPid::try_from(number).ok().and_then(Pid::from_raw);
        let number = pid(thread).ok_or(Errno::SRCH)?;
        let pidfd = match pidfd_open(number, PIDFD_THREAD) {
            // An older kernel knows the first thread of a process only. All threads have the same
            // descriptors, unless a program goes out of its way.
            Err(Errno::INVAL) => {
                let first = ThreadStatus::read(thread)?.process;
                pidfd_open(pid(first).ok_or(Errno::SRCH)?, PidfdFlags::empty())
            }
            opened => opened,
        }?;
        Ok(Self { thread, pidfd })
    }

    /// Returns a copy of the thread's descriptor `number`.
    pub(super) fn duplicate_fd(&self, number: i32) -> Result<OwnedFd, Errno> {
        if number < 0 {
            return Err(Errno::BADF);
        }
        pidfd_getfd(&self.pidfd, number, PidfdGetfdFlags::empty())
    }

    /// Returns the address at `pointer`, read once.
    pub(super) fn read_address(&self, pointer: u64, length: u64) -> Result<Vec<u8>, Errno> {
        // The kernel takes the lower half of the register, a signed number.
        let [a, b, c, d, ..] = length.to_le_bytes();
        let length = usize::try_from(i32::from_le_bytes([a, b, c, d]));
        let length = length.map_err(|_negative| Errno::INVAL)?;
        if length > MAX_ADDRESS_BYTES {
            return Err(Errno::INVAL);
        }
        let mut address = vec![0; length];
        if length > 0 {
            sys::sockets::read_memory(self.thread, pointer, &mut address)
                .map_err(|error| errno_of(&error))?;
        }
        Ok(address)
    }

    /// Returns the directories that the thread's paths start from.
    pub(super) fn directories(&self) -> Result<CallerDirectories, Errno> {
        let open = |name: &str| {
            let path = format!("/proc/{}/{name}", self.thread);
            let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
            openat(CWD, path, flags, Mode::empty())
        };
        Ok(CallerDirectories {
            root: open("root")?,
            current: open("cwd")?,
        })
    }

    /// Returns the ids of the thread, and the mode bits that it takes from new files.
    pub(super) fn status(&self) -> Result<ThreadStatus, Errno> {
        ThreadStatus::read(self.thread)
    }
}

/// The directories that the paths of a thread start from.
#[derive(Debug)]
pub(super) struct CallerDirectories {
    root: OwnedFd,
    current: OwnedFd,
}

impl CallerDirectories {
    /// Makes relative paths start from `directory`, which may be another file.
    pub(super) fn start_from(&mut self, directory: OwnedFd) {
        self.current = directory;
    }

    /// Returns the file that relative paths start from.
    pub(super) const fn start(&self) -> &OwnedFd {
        &self.current
    }
}

/// The parts of `/proc/<thread>/status` (`proc_pid_status(5)`) that decide about access to files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ThreadStatus {
    /// The number of the process.
    process: u32,
    /// The bits that are taken from the mode of new files.
    pub(super) umask: Mode,
    user: u32,
    group: u32,
    groups: Vec<u32>,
}

impl ThreadStatus {
    fn read(thread: u32) -> Result<Self, Errno> {
        let text = fs::read_to_string(format!("/proc/{thread}/status"));
        let text = text.map_err(|error| match error.raw_os_error() {
            Some(errno) => Errno::from_raw_os_error(errno),
            None => Errno::IO,
        })?;
        Self::parse(&text).ok_or(Errno::IO)
    }

    fn parse(text: &str) -> Option<Self> {
        let field = |name: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(name));
            Some(line?.strip_prefix(':')?.trim())
        };
        // Real, effective, saved, file system.
        let effective = |name: &str| field(name)?.split_whitespace().nth(1)?.parse().ok();
        let groups = field("Groups")?.split_whitespace();
        Some(Self {
            process: field("Tgid")?.parse().ok()?,
            umask: Mode::from_raw_mode(u32::from_str_radix(field("Umask")?, 8).ok()?),
            user: effective("Uid")?,
            group: effective("Gid")?,
            groups: groups.map(str::parse).collect::<Result<_, _>>().ok()?,
        })
    }
}

/// The directories, ids and capabilities of the broker itself.
#[derive(Debug)]
pub(super) struct OwnContext {
    root: OwnedFd,
    capabilities: CapabilitySets,
    user: Uid,
    group: Gid,
    groups: Vec<Gid>,
}

impl OwnContext {
    pub(super) fn current() -> Result<Self, Errno> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok(Self {
            root: openat(CWD, c"/", flags, Mode::empty())?,
            capabilities: capabilities(None)?,
            user: geteuid(),
            group: getegid(),
            groups: getgroups()?,
        })
    }

    /// Calls `act` without capabilities, and, if they are given, with the user and groups of a
    /// thread and with its directories. Requires a process of one thread.
    ///
    /// The inner error means that the rights could not be taken on; `act` was not called then. The
    /// outer one means that the broker did not get its own back, and must end.
    pub(super) fn act_as<T>(
        &self,
        thread: Option<&ThreadStatus>,
        directories: Option<&CallerDirectories>,
        act: impl FnOnce() -> T,
    ) -> Result<Result<T, Errno>, InitFault> {
        let other_ids = thread.filter(|thread| self.has_other_ids(thread));
        let done = self.take_on(other_ids, directories).map(|()| act());
        self.restore(other_ids.is_some(), directories.is_some())
            .map_err(InitFault::at_step(
                "restoring the rights of the init process",
            ))?;
        Ok(done)
    }

    fn take_on(
        &self,
        other_ids: Option<&ThreadStatus>,
        directories: Option<&CallerDirectories>,
    ) -> Result<(), Errno> {
        if let Some(CallerDirectories { root, current }) = directories {
            fchdir(root)?;
            chroot(c".")?;
            fchdir(current)?;
        }
        if let Some(thread) = other_ids {
            let groups: Vec<_> = thread.groups.iter().copied().map(Gid::from_raw).collect();
            set_thread_groups(&groups)?;
            set_thread_res_gid(None, Gid::from_raw(thread.group), None)?;
            set_thread_res_uid(None, Uid::from_raw(thread.user), None)?;
        }
        set_capabilities(
            None,
            CapabilitySets {
                effective: CapabilitySet::empty(),
                ..self.capabilities
            },
        )
    }

    fn restore(&self, other_ids: bool, moved: bool) -> Result<(), Errno> {
        if other_ids {
            set_thread_res_uid(None, self.user, None)?;
        }
        set_capabilities(None, self.capabilities)?;
        if other_ids {
            set_thread_res_gid(None, self.group, None)?;
            set_thread_groups(&self.groups)?;
        }
        if moved {
            fchdir(&self.root)?;
            chroot(c".")?;
        }
        Ok(())
    }

    /// Returns `true` if the ids of `thread` differ. In the sandbox of an ordinary user there is
    /// one user only.
    fn has_other_ids(&self, thread: &ThreadStatus) -> bool {
        thread.user != self.user.as_raw() || thread.group != self.group.as_raw()
    }
}

/// Fails with `EPERM` unless a socket belongs to a network namespace of the sandbox or of one
/// nested in it: those that the init process has capabilities over. `ENOTSOCK` for another file.
pub(super) fn require_inside(socket: BorrowedFd<'_>) -> Result<(), Errno> {
    match sys::sockets::socket_netns(socket) {
        Ok(_netns) => Ok(()),
        Err(error) => Err(match errno_of(&error) {
            Errno::NOTTY => Errno::NOTSOCK,
            errno => errno,
        }),
    }
}

pub(super) fn errno_of(error: &std::io::Error) -> Errno {
    Errno::from_io_error(error).unwrap_or(Errno::IO)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_status_of_a_thread_is_parsed() {
        let text = "Name:\tx\nUmask:\t0027\nState:\tS\nTgid:\t7\nPid:\t9\n\
            Uid:\t1000\t33\t1000\t33\nGid:\t100\t34\t100\t34\nFDSize:\t64\nGroups:\t4 24 \nNStgid:\t7\n";
        let status = ThreadStatus::parse(text).unwrap();
        assert_eq!(
            status,
            ThreadStatus {
                process: 7,
                umask: Mode::from_raw_mode(0o027),
                user: 33,
                group: 34,
                groups: vec![4, 24],
            }
        );
        let without = |name: &str| {
            let kept = text.lines().filter(|line| !line.starts_with(name));
            kept.collect::<Vec<_>>().join("\n")
        };
        for name in ["Umask", "Tgid", "Uid", "Gid", "Groups"] {
            assert_eq!(ThreadStatus::parse(&without(name)), None, "{name}");
        }
    }

    #[test]
    fn the_status_of_the_calling_thread_is_read() {
        let own = ThreadStatus::read(std::process::id()).unwrap();
        assert_eq!(own.process, std::process::id());
        assert_eq!(own.user, geteuid().as_raw());
    }
}
