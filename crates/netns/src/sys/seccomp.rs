// SPDX-License-Identifier: Apache-2.0
//! The notifications of a system call filter: seccomp(2), `SECCOMP_RET_USER_NOTIF`.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd};

use seccompiler::sock_filter;

/// `SECCOMP_IOCTL_NOTIF_RECV`, `_IOWR('!', 0, struct seccomp_notif)` of `linux/seccomp.h`.
const NOTIF_RECV: libc::Ioctl = 0xc050_2100_u32 as libc::Ioctl;
/// `SECCOMP_IOCTL_NOTIF_SEND`, `_IOWR('!', 1, struct seccomp_notif_resp)`.
const NOTIF_SEND: libc::Ioctl = 0xc018_2101_u32 as libc::Ioctl;
/// `SECCOMP_IOCTL_NOTIF_ID_VALID`, `_IOW('!', 2, __u64)`.
const NOTIF_ID_VALID: libc::Ioctl = 0x4008_2102;

/// A system call that waits for an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct NotifiedCall {
    /// The notification, which the kernel never uses twice.
    pub(crate) id: u64,
    /// The calling thread, in the pid namespace of the receiver.
    pub(crate) thread: u32,
    /// The number of the system call.
    pub(crate) number: i64,
    /// The arguments.
    pub(crate) arguments: [u64; 6],
}

/// Applies `program` to the calling thread and all of its descendants. Returns the descriptor at
/// which the calls arrive that `program` answers with `SECCOMP_RET_USER_NOTIF`.
///
/// `EBUSY` if a filter of the thread has such a descriptor already, `EOPNOTSUPP` if the kernel's
/// notifications are larger than the ones that are known here.
pub(crate) fn apply_notifying_filter(program: &[sock_filter]) -> io::Result<OwnedFd> {
    let mut sizes = libc::seccomp_notif_sizes {
        seccomp_notif: 0,
        seccomp_notif_resp: 0,
        seccomp_data: 0,
    };
    let length = u16::try_from(program.len()).map_err(|_long| rustix::io::Errno::TOOBIG)?;
    let filter = libc::sock_fprog {
        len: length,
        filter: program.as_ptr().cast_mut().cast(),
    };
    #[expect(
        unsafe_code,
        reason = "neither rustix nor seccompiler has these operations"
    )]
    // SAFETY: the first call writes one seccomp_notif_sizes to its argument. The second one reads
    // `len` instructions from `filter`, which outlives the call and is not written to in spite of
    // the pointer's type; seccompiler's instruction has the layout of the kernel's (it is passed in
    // the same way by seccompiler itself). A result that is not negative is a new, unowned
    // descriptor.
    unsafe {
        let asked = libc::syscall(
            libc::SYS_seccomp,
            libc::SECCOMP_GET_NOTIF_SIZES,
            0,
            &raw mut sizes,
        );
        if asked < 0 {
            return Err(io::Error::last_os_error());
        }
        let known = (
            size_of::<libc::seccomp_notif>(),
            size_of::<libc::seccomp_notif_resp>(),
        );
        if (
            usize::from(sizes.seccomp_notif),
            usize::from(sizes.seccomp_notif_resp),
        ) != known
        {
            return Err(rustix::io::Errno::OPNOTSUPP.into());
        }
        let fd = libc::syscall(
            libc::SYS_seccomp,
            libc::SECCOMP_SET_MODE_FILTER,
            libc::SECCOMP_FILTER_FLAG_NEW_LISTENER,
            &raw const filter,
        );
        match i32::try_from(fd) {
            Ok(fd) if fd >= 0 => Ok(OwnedFd::from_raw_fd(fd)),
            _ => Err(io::Error::last_os_error()),
        }
    }
}

/// Returns the next call. `None` if its thread is gone, or if a signal interrupted the wait.
///
/// Blocks unless `listener` is readable.
pub(crate) fn receive_call(listener: BorrowedFd<'_>) -> io::Result<Option<NotifiedCall>> {
    #[expect(unsafe_code, reason = "no safe wrapper of this ioctl exists")]
    // SAFETY: the kernel reads and writes one seccomp_notif, whose size the number of the request
    // states; it demands zeroes, which are valid values of all fields. The value is read after the
    // kernel has filled it in.
    let received = unsafe {
        let mut call = MaybeUninit::<libc::seccomp_notif>::zeroed();
        if libc::ioctl(listener.as_raw_fd(), NOTIF_RECV, call.as_mut_ptr()) < 0 {
            Err(io::Error::last_os_error())
        } else {
            Ok(call.assume_init())
        }
    };
    match received {
        Ok(call) => Ok(Some(NotifiedCall {
            id: call.id,
            thread: call.pid,
            number: call.data.nr.into(),
            arguments: call.data.args,
        })),
        Err(error) => match error.raw_os_error() {
            Some(libc::ENOENT | libc::EINTR) => Ok(None),
            _ => Err(error),
        },
    }
}

/// Returns `true` while the call waits for its answer. The number of its thread, and what was read
/// from it before, is the caller's as long as it does.
pub(crate) fn is_call_waiting(listener: BorrowedFd<'_>, id: u64) -> bool {
    #[expect(unsafe_code, reason = "no safe wrapper of this ioctl exists")]
    // SAFETY: the kernel reads one u64, which outlives the call.
    unsafe {
        libc::ioctl(listener.as_raw_fd(), NOTIF_ID_VALID, &raw const id) == 0
    }
}

/// Answers a call: 0, or the errno of its failure. `ENOENT` if it waits no more.
pub(crate) fn answer_call(listener: BorrowedFd<'_>, id: u64, errno: i32) -> io::Result<()> {
    let mut answer = libc::seccomp_notif_resp {
        id,
        val: 0,
        error: errno.saturating_neg(),
        flags: 0,
    };
    #[expect(unsafe_code, reason = "no safe wrapper of this ioctl exists")]
    // SAFETY: the kernel reads one seccomp_notif_resp, whose size the number of the request states
    // and which outlives the call.
    let sent = unsafe { libc::ioctl(listener.as_raw_fd(), NOTIF_SEND, &raw mut answer) };
    if sent < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}
