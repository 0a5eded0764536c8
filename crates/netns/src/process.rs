// SPDX-License-Identifier: Apache-2.0
//! A process identified by its pidfd, which is never reused, unlike its pid.

use std::fs;
use std::io;
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, getpid, pidfd_open, pidfd_send_signal};

use crate::PollableFd;

/// A process, held by its pidfd. The handle keeps neither process nor namespaces alive.
#[derive(Debug)]
pub struct ProcessHandle {
    pid: Pid,
    pidfd: OwnedFd,
}

impl ProcessHandle {
    /// Returns the process with the number `pid`; `ESRCH` if none exists or `pid` is not positive.
    pub fn open(pid: u32) -> io::Result<Self> {
        let pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
        let pid = pid.ok_or(rustix::io::Errno::SRCH)?;
        Ok(Self {
            pid,
            pidfd: pidfd_open(pid, PidfdFlags::empty())?,
        })
    }

    /// Returns the calling process.
    pub fn current() -> io::Result<Self> {
        let pid = getpid();
        Ok(Self {
            pid,
            pidfd: pidfd_open(pid, PidfdFlags::empty())?,
        })
    }

    /// Wraps a pidfd, such as one that another process has passed. Fails with `ESRCH` if the
    /// process has ended or is not visible from here, with `EBADF` for another descriptor.
    pub fn from_pidfd(pidfd: OwnedFd) -> io::Result<Self> {
        // Its line `Pid:` is the pid as seen from here (proc_pid_fdinfo(5)).
        let info = fs::read_to_string(format!("/proc/self/fdinfo/{}", pidfd.as_raw_fd()))?;
        let pid = info.lines().find_map(|line| line.strip_prefix("Pid:"));
        let pid: i32 = pid
            .and_then(|pid| pid.trim().parse().ok())
            .ok_or(rustix::io::Errno::BADF)?;
        // 0: not visible here; -1: it has ended.
        let pid = (pid > 0).then(|| Pid::from_raw(pid)).flatten();
        Ok(Self {
            pid: pid.ok_or(rustix::io::Errno::SRCH)?,
            pidfd,
        })
    }

    /// Wraps a pidfd that the kernel returned together with the pid.
    pub(crate) fn from_parts(pid: Pid, pidfd: OwnedFd) -> Self {
        Self { pid, pidfd }
    }

    /// Returns the pid, as seen from the pid namespace of the caller.
    pub fn pid(&self) -> u32 {
        self.pid.as_raw_nonzero().get().unsigned_abs()
    }

    /// Returns the pid in the form of the system calls.
    pub(crate) const fn raw_pid(&self) -> Pid {
        self.pid
    }

    /// Returns a second handle for the same process.
    pub fn try_clone(&self) -> io::Result<Self> {
        Ok(Self {
            pid: self.pid,
            pidfd: self.pidfd.try_clone()?,
        })
    }

    /// Returns `true` until the process has ended.
    pub fn is_alive(&self) -> bool {
        let mut fds = [PollFd::new(&self.pidfd, PollFlags::IN)];
        let now = Timespec {
            tv_sec: 0,
            tv_nsec: 0,
        };
        matches!(poll(&mut fds, Some(&now)), Ok(0))
    }

    /// Sends a signal; `ESRCH` if the process has ended.
    pub fn send_signal(&self, signal: Signal) -> io::Result<()> {
        Ok(pidfd_send_signal(&self.pidfd, signal)?)
    }

    /// Resolves when the process has ended.
    ///
    /// Holders of sockets inside its namespaces drop them then: an open socket keeps a network
    /// namespace and its configuration alive after the last process.
    pub async fn wait_for_exit(&self) -> io::Result<()> {
        PollableFd::new_readable(self.pidfd.try_clone()?)?
            .wait_readable()
            .await
    }
}

impl AsFd for ProcessHandle {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn the_calling_process_is_alive_and_has_its_number() {
        let me = ProcessHandle::current().unwrap();
        assert_eq!(me.pid(), std::process::id());
        assert!(me.is_alive());
    }

    #[test]
    fn a_passed_pidfd_is_the_process_that_it_refers_to() {
        let me = ProcessHandle::current().unwrap();
        let passed = me.as_fd().try_clone_to_owned().unwrap();
        assert_eq!(ProcessHandle::from_pidfd(passed).unwrap().pid(), me.pid());
        let mut child = Command::new("true").spawn().unwrap();
        let ended = ProcessHandle::open(child.id()).unwrap();
        child.wait().unwrap();
        let ended = ProcessHandle::from_pidfd(ended.pidfd).unwrap_err();
        assert_eq!(ended.raw_os_error(), Some(libc::ESRCH));
        let other = fs::File::open("/dev/null").unwrap();
        let other = ProcessHandle::from_pidfd(other.into()).unwrap_err();
        assert_eq!(other.raw_os_error(), Some(libc::EBADF));
    }

    #[test]
    fn pids_without_a_process_are_refused() {
        for pid in [0, u32::MAX, 0x7fff_ffff] {
            assert_eq!(
                ProcessHandle::open(pid).unwrap_err().raw_os_error(),
                Some(libc::ESRCH),
                "{pid}"
            );
        }
    }

    #[tokio::test]
    async fn the_end_of_a_process_is_reported() {
        let mut child = Command::new("cat")
            .stdin(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        let process = ProcessHandle::open(child.id()).unwrap();
        assert!(process.is_alive());
        drop(child.stdin.take());
        process.wait_for_exit().await.unwrap();
        assert!(!process.is_alive());
        child.wait().unwrap();
        assert_eq!(
            process
                .send_signal(Signal::TERM)
                .unwrap_err()
                .raw_os_error(),
            Some(libc::ESRCH),
            "the handle never refers to another process"
        );
    }
}
