// SPDX-License-Identifier: Apache-2.0
//! The forked child that enters namespaces and opens sockets there.
//!
//! The child shares the descriptor table of its parent (`CLONE_FILES`) and reports the numbers.
//! Descriptors in messages count towards a limit of the user, which a workload of the same user can
//! exhaust.
//!
//! The caller may have threads, so between fork and exit the child only makes system calls on
//! prepared memory: no allocation, no lock, no formatting, no panic.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd};
use std::ptr;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::{AddressFamily, RecvFlags, SocketFlags, SocketType, socketpair};
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, waitid};

use crate::enter_error::{EnterError, EnterStep};
use crate::process::ProcessHandle;

/// Maximum number of sockets per call.
const MAX_SOCKETS: usize = 16;
/// `__WALL`: wait for children without an exit signal, too.
const WAIT_ALL: u32 = 0x4000_0000;

/// The namespaces to enter.
#[derive(Clone, Copy, Debug)]
pub(crate) struct NamespaceFds<'a> {
    /// The user namespace to enter first.
    pub(crate) user: Option<BorrowedFd<'a>>,
    /// The network namespace.
    pub(crate) net: BorrowedFd<'a>,
}

/// Opens `sockets`, each `[domain, type and flags, protocol]`, inside the namespaces of `entry`.
pub(crate) fn open_inside(
    entry: NamespaceFds<'_>,
    sockets: &[[i32; 3]],
    limit: Duration,
) -> Result<Vec<OwnedFd>, EnterError> {
    if sockets.len() > MAX_SOCKETS {
        return Err(EnterError::TooManySockets(sockets.len()));
    }
    let failed = |step| move |source: io::Error| EnterError::Failed { step, source };
    let (ours, theirs) = socketpair(
        AddressFamily::UNIX,
        SocketType::SEQPACKET,
        SocketFlags::CLOEXEC,
        None,
    )
    .map_err(|error| failed(EnterStep::Fork)(error.into()))?;

    let job = EnterJob {
        user: entry.user.map_or(-1, |fd| fd.as_raw_fd()),
        net: entry.net.as_raw_fd(),
        reply_fd: theirs.as_raw_fd(),
        sockets,
    };
    let child = spawn_child(&job).map_err(failed(EnterStep::Fork))?;
    let answer = receive_sockets(&ours, &child, limit, sockets.len());
    if answer.is_err() {
        drop(child.send_signal(Signal::KILL)); // ESRCH: it has ended already
    }
    reap(&child);
    drop(theirs); // not earlier: the child uses the same number
    answer
}

fn receive_sockets(
    ours: &OwnedFd,
    child: &ProcessHandle,
    limit: Duration,
    wanted: usize,
) -> Result<Vec<OwnedFd>, EnterError> {
    use std::os::fd::AsFd as _;
    let failed = |error: rustix::io::Errno| EnterError::Failed {
        step: EnterStep::ReturnSockets,
        source: error.into(),
    };
    let pidfd = child.as_fd();
    let mut fds = [
        PollFd::new(ours, PollFlags::IN),
        PollFd::new(&pidfd, PollFlags::IN),
    ];
    let limit_spec = Timespec::try_from(limit).map_err(|_never| EnterError::TimedOut(limit))?;
    loop {
        match poll(&mut fds, Some(&limit_spec)) {
            Ok(0) => return Err(EnterError::TimedOut(limit)),
            Ok(_) => break,
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(failed(error)),
        }
    }

    let mut report = [0_u8; REPORT_BYTES];
    // Without a report, the child was killed.
    let received = match rustix::net::recv(ours, &mut report, RecvFlags::DONTWAIT) {
        Ok((length, _)) => length,
        Err(rustix::io::Errno::AGAIN) => return Err(EnterError::BadReply),
        Err(error) => return Err(failed(error)),
    };
    let Some((status, numbers)) = report.split_first_chunk::<STATUS_BYTES>() else {
        return Err(EnterError::BadReply);
    };
    let [step, errno @ ..] = *status;
    if received != REPORT_BYTES {
        return Err(EnterError::BadReply);
    }
    match decode_status(step) {
        None => {
            let (numbers, _) = numbers.as_chunks();
            let numbers = numbers.iter().take(wanted).copied();
            numbers.map(adopt_socket).collect()
        }
        Some(step) => {
            let source = io::Error::from_raw_os_error(i32::from_ne_bytes(errno));
            Err(EnterError::Failed { step, source })
        }
    }
}

/// Takes over a descriptor that the child opened in the shared table.
fn adopt_socket(number: [u8; 4]) -> Result<OwnedFd, EnterError> {
    let number = i32::from_ne_bytes(number);
    if number < 0 {
        return Err(EnterError::BadReply);
    }
    #[expect(
        unsafe_code,
        reason = "the descriptor was opened by a child that shares the table"
    )]
    // SAFETY: the number comes from the child's own `socket` call on the table that both share, and
    // the child neither closes it after a success nor reports it twice. No other code of this
    // process knows the number, so that it is open and has no owner.
    unsafe {
        Ok(OwnedFd::from_raw_fd(number))
    }
}

/// Reaps the child, which has replied and exits, or was killed.
fn reap(child: &ProcessHandle) {
    use std::os::fd::AsFd as _;
    let options = WaitIdOptions::EXITED | WaitIdOptions::from_bits_retain(WAIT_ALL);
    while let Err(rustix::io::Errno::INTR) = waitid(WaitId::PidFd(child.as_fd()), options) {}
}

/// Layout of the child's status: one byte for the step (0: success), four for the errno.
const STATUS_BYTES: usize = 5;
/// Layout of the child's report: the status, then the numbers of the sockets.
const REPORT_BYTES: usize = STATUS_BYTES + MAX_SOCKETS * size_of::<i32>();
const STATUS_ENTER_USER: u8 = 1;
const STATUS_ENTER_NET: u8 = 2;
const STATUS_SOCKET: u8 = 3;

fn decode_status(byte: u8) -> Option<EnterStep> {
    match byte {
        0 => None,
        STATUS_ENTER_USER => Some(EnterStep::EnterUser),
        STATUS_ENTER_NET => Some(EnterStep::EnterNet),
        STATUS_SOCKET => Some(EnterStep::Socket),
        _ => Some(EnterStep::ReturnSockets),
    }
}

/// The child's inputs, prepared before the fork.
struct EnterJob<'a> {
    user: i32,
    net: i32,
    reply_fd: i32,
    sockets: &'a [[i32; 3]],
}

/// Starts the child. It sends no exit signal, so that signal handlers of the host process do not
/// mistake it for one of its children, and runs with all signals blocked, so that no handler writes
/// into shared state.
fn spawn_child(job: &EnterJob<'_>) -> io::Result<ProcessHandle> {
    let mut pidfd: i32 = -1;
    let flags = libc::c_ulong::from((libc::CLONE_PIDFD | libc::CLONE_FILES).unsigned_abs());
    #[expect(unsafe_code, reason = "fork, and a child that may not allocate")]
    // SAFETY: `everything` and `before` are initialised by sigfillset and pthread_sigmask before
    // they are read. The raw clone shares no memory (no CLONE_VM): the child runs on its own copy
    // of this stack (a null stack pointer keeps the current one), so its writes never reach the
    // caller's memory. The caller may have threads, whose locks are copied in an arbitrary state;
    // `run_child` therefore makes system calls only and never returns. The third argument is where
    // the kernel stores the pidfd, on every architecture that clone(2) lists for Linux with
    // CLONE_BACKWARDS or without; `pidfd` outlives the call. On success `pidfd` is a new, unowned
    // descriptor.
    unsafe {
        let mut everything = MaybeUninit::<libc::sigset_t>::uninit();
        let mut before = MaybeUninit::<libc::sigset_t>::uninit();
        libc::sigfillset(everything.as_mut_ptr());
        libc::pthread_sigmask(libc::SIG_SETMASK, everything.as_ptr(), before.as_mut_ptr());
        let pid = libc::syscall(
            libc::SYS_clone,
            flags,
            ptr::null_mut::<libc::c_void>(),
            &raw mut pidfd,
            ptr::null_mut::<libc::c_void>(),
            ptr::null_mut::<libc::c_void>(),
        );
        if pid == 0 {
            run_child(job);
        }
        let error = io::Error::last_os_error();
        libc::pthread_sigmask(libc::SIG_SETMASK, before.as_ptr(), ptr::null_mut());
        match i32::try_from(pid).ok().and_then(Pid::from_raw) {
            Some(pid) if pid.as_raw_nonzero().get() > 0 => {
                Ok(ProcessHandle::from_parts(pid, OwnedFd::from_raw_fd(pidfd)))
            }
            _ => Err(error),
        }
    }
}

#[expect(
    unsafe_code,
    reason = "runs after fork, where only system calls are allowed"
)]
/// The child's code.
///
/// # Safety
///
/// To be called only in a forked child, which it ends.
unsafe fn run_child(job: &EnterJob<'_>) -> ! {
    // SAFETY: setns, socket, close, send and _exit are async-signal-safe system calls with integer
    // arguments, apart from send: `report` is alive on this stack and of the given size. `zip`
    // keeps every index in bounds without a panic path. The descriptors that are closed were opened
    // here.
    unsafe {
        let mut opened = [-1_i32; MAX_SOCKETS];
        let mut status = [0_u8; STATUS_BYTES];
        if job.user >= 0 && libc::setns(job.user, libc::CLONE_NEWUSER) != 0 {
            status = failure_status(STATUS_ENTER_USER);
        } else if libc::setns(job.net, libc::CLONE_NEWNET) != 0 {
            status = failure_status(STATUS_ENTER_NET);
        } else {
            for (slot, [domain, kind, protocol]) in opened.iter_mut().zip(job.sockets) {
                *slot = libc::socket(*domain, *kind, *protocol);
                if *slot < 0 {
                    status = failure_status(STATUS_SOCKET);
                    break;
                }
            }
        }
        if status[0] != 0 {
            for socket in opened {
                if socket >= 0 {
                    libc::close(socket);
                }
            }
        }
        let mut report = [0_u8; REPORT_BYTES];
        for (byte, value) in report.iter_mut().zip(status) {
            *byte = value;
        }
        let (_, numbers) = report.split_at_mut(STATUS_BYTES);
        for (bytes, number) in numbers.chunks_exact_mut(4).zip(opened) {
            for (byte, value) in bytes.iter_mut().zip(number.to_ne_bytes()) {
                *byte = value;
            }
        }
        libc::send(
            job.reply_fd,
            report.as_ptr().cast(),
            REPORT_BYTES,
            libc::MSG_NOSIGNAL,
        );
        libc::_exit(0)
    }
}

#[expect(unsafe_code, reason = "errno after a raw system call in the child")]
/// Encodes the failure of `step` with the current `errno`.
///
/// # Safety
///
/// Reads the thread's `errno`, which always exists.
unsafe fn failure_status(step: u8) -> [u8; STATUS_BYTES] {
    // SAFETY: __errno_location returns a valid pointer into the calling thread's own storage.
    let errno = unsafe { *libc::__errno_location() };
    let [a, b, c, d] = errno.to_ne_bytes();
    [step, a, b, c, d]
}
