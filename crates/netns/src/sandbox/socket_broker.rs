// SPDX-License-Identifier: Apache-2.0
//! Connects and binds the sockets of a workload on its behalf, so that a unix socket leads to a
//! listener of the sandbox only.
//!
//! Unix sockets in the file system ignore every namespace, and the workload sees the operator's
//! files. A list of paths to hide is never whole: a socket can have several names, or get one
//! later. Therefore a system call filter hands each `connect` and `bind` to the init process, which
//! decides by origin: a workload may connect to a socket file that was created by a `bind` of the
//! same sandbox, or that the operator handed in. Sockets without a file (abstract names, IP) belong
//! to the sandbox's network namespace and need no decision; a filter cannot tell them apart.
//!
//! The call is never let through: another thread could exchange descriptor and address after the
//! decision. The broker copies both once, acts on its copies, and gives the result to the caller.
//! The loop never waits for a peer, so that a connect that hangs holds up no other.

mod bound_files;
mod call_address;
mod caller;
mod recent_outcomes;
mod waiting_connects;

use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::time::Instant;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{CWD, Mode, OFlags, fcntl_getfl, openat};
use rustix::io::{Errno, ioctl_fionbio};
use rustix::net::sockopt::{Timeout, socket_cookie, socket_domain, socket_timeout, socket_type};
use rustix::net::{AddressFamily, SocketType};
use rustix::process::{Resource, getrlimit, umask};

use self::bound_files::{BoundFiles, FileId, MAX_BOUND_FILES};
use self::call_address::{SocketPath, encode_socket_path, parse_socket_path};
use self::caller::{
    CallerDirectories, CallingThread, OwnContext, ThreadStatus, errno_of, require_inside,
};
use self::recent_outcomes::RecentOutcomes;
use self::waiting_connects::{
    ConnectTarget, SocketCookie, WaitingCall, WaitingConnect, WaitingConnects,
};
use super::init_channel::InitFault;
use crate::sys;
use crate::sys::seccomp::NotifiedCall;

/// Serves the calls of one sandbox. Dropping it makes all further ones fail.
#[derive(Debug)]
pub(super) struct SocketBroker {
    listener: OwnedFd,
    own: OwnContext,
    files: BoundFiles,
    waiting: WaitingConnects,
    recent: RecentOutcomes,
}

/// The inputs of a call, copied from the caller while it waited.
struct CopiedCall {
    call: NotifiedCall,
    socket: OwnedFd,
    cookie: SocketCookie,
    domain: AddressFamily,
    kind: SocketType,
    address: Vec<u8>,
    /// The rights of the caller, which count for unix sockets only.
    thread: Option<ThreadStatus>,
    /// The file that the address names, if it does.
    file: Option<NamedFile>,
}

struct NamedFile {
    directories: CallerDirectories,
    path: SocketPath,
}

/// A socket to connect.
struct ConnectSocket {
    socket: OwnedFd,
    cookie: SocketCookie,
    /// A connect of a stream waits for its peer, if the socket blocks.
    is_stream: bool,
    is_unix: bool,
}

/// Maximum new calls between two looks at the other events.
const MAX_CALLS_PER_TURN: usize = 32;
/// The answer of a call that succeeded.
const SUCCESS: i32 = 0;

impl SocketBroker {
    /// Creates the broker of the calls that arrive at `listener`. `handed_in` are socket files that
    /// the workload may connect to.
    pub(super) fn new(listener: OwnedFd, handed_in: Vec<OwnedFd>) -> Result<Self, Errno> {
        Ok(Self {
            listener,
            own: OwnContext::current()?,
            files: BoundFiles::new(handed_in, max_bound_files())?,
            waiting: WaitingConnects::new()?,
            recent: RecentOutcomes::default(),
        })
    }

    /// Returns the descriptors that become readable when there is something to do.
    pub(super) fn event_fds(&self) -> [BorrowedFd<'_>; 2] {
        [self.listener.as_fd(), self.waiting.as_fd()]
    }

    /// Returns the time at which [`Self::handle_events`] is to be called without an event.
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        self.waiting.next_deadline()
    }

    /// Handles everything that is due.
    ///
    /// An error means that the broker cannot go on; the sandbox must end.
    pub(super) fn handle_events(&mut self, now: Instant) -> Result<(), InitFault> {
        for (cookie, waiting) in self.waiting.take_due(now) {
            self.resume_connect(cookie, waiting, now)?;
        }
        for (call, errno) in self.waiting.take_expired(now) {
            self.answer(call.id, errno.raw_os_error());
        }
        for _ in 0..MAX_CALLS_PER_TURN {
            let listener = self.listener.as_fd();
            if !is_readable(listener) {
                break;
            }
            let received = sys::seccomp::receive_call(listener);
            let received = received.map_err(InitFault::at_step("receiving a system call"))?;
            if let Some(call) = received {
                self.handle_call(call, now)?;
            }
        }
        Ok(())
    }

    fn handle_call(&mut self, call: NotifiedCall, now: Instant) -> Result<(), InitFault> {
        let copied = self.copy_call(call);
        // What was copied is the caller's only if it still waits: otherwise another process may
        // have its number.
        if !self.is_waiting(call.id) {
            return Ok(());
        }
        let copied = match copied {
            Ok(copied) => copied,
            Err(errno) => {
                self.answer(call.id, errno.raw_os_error());
                return Ok(());
            }
        };
        if call.number == libc::SYS_bind {
            let errno = self.bind(&copied)?;
            self.finish(copied.cookie, call, errno);
            return Ok(());
        }
        self.connect(copied, now)
    }

    fn copy_call(&self, call: NotifiedCall) -> Result<CopiedCall, Errno> {
        let [fd, pointer, length, ..] = call.arguments;
        let caller = CallingThread::open(call.thread)?;
        if !self.is_waiting(call.id) {
            return Err(Errno::SRCH);
        }
        let socket = caller.duplicate_fd(lower_half(fd))?;
        require_inside(socket.as_fd())?;
        let address = caller.read_address(pointer, length)?;
        let domain = socket_domain(&socket)?;
        let is_unix = domain == AddressFamily::UNIX;
        let path = is_unix.then(|| parse_socket_path(&address)).flatten();
        let file = path.map(|path| {
            let mut directories = caller.directories()?;
            if let Some(base) = path.base_fd {
                directories.start_from(caller.duplicate_fd(base)?);
            }
            Ok::<_, Errno>(NamedFile { directories, path })
        });
        Ok(CopiedCall {
            call,
            cookie: SocketCookie(socket_cookie(&socket)?),
            kind: socket_type(&socket)?,
            socket,
            domain,
            address,
            thread: is_unix.then(|| caller.status()).transpose()?,
            file: file.transpose()?,
        })
    }

    /// Binds a socket, and keeps the file that it got. Returns the errno for the caller.
    fn bind(&mut self, copied: &CopiedCall) -> Result<i32, InitFault> {
        let CopiedCall { socket, thread, .. } = copied;
        let address = match &copied.file {
            Some(file) if file.path.base_fd.is_some() => {
                if file.path.path.is_empty() {
                    return Ok(Errno::ADDRINUSE.raw_os_error()); // the descriptor itself
                }
                encode_socket_path(&file.path.path)
            }
            _ => copied.address.clone(),
        };
        let directories = copied.file.as_ref().map(|file| &file.directories);
        let bound = self.own.act_as(thread.as_ref(), directories, || {
            let before = thread.as_ref().map(|thread| umask(thread.umask));
            let bound = sys::sockets::bind_to(socket.as_fd(), &address);
            before.map(umask);
            bound.map_err(|error| errno_of(&error))
        })?;
        let Err(errno) = bound.flatten() else {
            // By the socket, not by the path, which may lead elsewhere by now.
            if copied.file.is_some()
                && let Ok(file) = sys::sockets::bound_file(socket.as_fd())
                && let Err(error) = self.files.insert(file)
            {
                tracing::debug!(%error, "a socket file cannot be connected to");
            }
            return Ok(SUCCESS);
        };
        if errno == Errno::INVAL && self.recent.take(copied.cookie, copied.call) == Some(SUCCESS) {
            return Ok(SUCCESS); // a signal repeated the call
        }
        Ok(errno.raw_os_error())
    }

    fn connect(&mut self, copied: CopiedCall, now: Instant) -> Result<(), InitFault> {
        let target = match &copied.file {
            None => Ok(ConnectTarget::Address(copied.address.clone())),
            Some(file) => self.find_file(&copied, file)?.map(ConnectTarget::File),
        };
        let target = match target {
            Ok(target) => target,
            Err(errno) => {
                self.finish(copied.cookie, copied.call, errno.raw_os_error());
                return Ok(());
            }
        };
        let deadline = socket_timeout(&copied.socket, Timeout::Send)
            .ok()
            .flatten()
            .and_then(|limit| now.checked_add(limit));
        let call = copied.call;
        let waiting = WaitingConnect::new(
            target,
            copied.thread.clone(),
            vec![WaitingCall { call, deadline }],
        );
        let CopiedCall { socket, cookie, .. } = copied;
        let socket = ConnectSocket::new(socket, cookie, copied.domain, copied.kind);
        self.try_connect(&socket, waiting, now, false)
    }

    /// Finds the file of a connect. `EACCES` unless it is a socket of the sandbox or handed in.
    ///
    /// Not `ECONNREFUSED`: ssh and tmux remove a socket that refuses connections, and it is the
    /// operator's.
    fn find_file(
        &self,
        copied: &CopiedCall,
        file: &NamedFile,
    ) -> Result<Result<FileId, Errno>, InitFault> {
        let NamedFile { directories, path } = file;
        // Nothing is followed below a descriptor without a path.
        if path.path.is_empty() {
            return Ok(FileId::of_socket(directories.start()));
        }
        let flags = OFlags::PATH | OFlags::CLOEXEC;
        let open = || openat(CWD, path.path.as_slice(), flags, Mode::empty());
        let opened = self
            .own
            .act_as(copied.thread.as_ref(), Some(directories), open)?;
        Ok(opened.flatten().and_then(|file| FileId::of_socket(&file)))
    }

    /// Attempts a connect. `resumed` tells whether it is under way already.
    fn try_connect(
        &mut self,
        socket: &ConnectSocket,
        waiting: WaitingConnect,
        now: Instant,
        resumed: bool,
    ) -> Result<(), InitFault> {
        let address = match &waiting.target {
            ConnectTarget::Address(address) => address.clone(),
            ConnectTarget::File(id) => {
                let Some(path) = self.files.path_of(*id) else {
                    self.finish_all(socket.cookie, &waiting, Errno::ACCESS.raw_os_error());
                    return Ok(());
                };
                encode_socket_path(path.as_bytes())
            }
        };
        let is_blocking = fcntl_getfl(&socket.socket)
            .is_ok_and(|flags| socket.is_stream && !flags.contains(OFlags::NONBLOCK));
        let outcome = self.own.act_as(waiting.thread.as_ref(), None, || {
            // The flag belongs to the workload's socket, for some microseconds.
            if is_blocking {
                ioctl_fionbio(&socket.socket, true)?;
            }
            let connected = sys::sockets::connect_to(socket.socket.as_fd(), &address);
            if is_blocking {
                ioctl_fionbio(&socket.socket, false).ok(); // as above, which succeeded
            }
            connected.map_err(|error| errno_of(&error))
        })?;
        let recent = waiting.calls.first();
        let recent = recent.and_then(|first| self.recent.take(socket.cookie, first.call));
        let errno = match outcome.flatten() {
            Ok(()) => SUCCESS,
            Err(Errno::INPROGRESS | Errno::ALREADY) if is_blocking => {
                let fd = socket.socket.as_fd();
                let calls = waiting.calls.clone();
                match self.waiting.wait_for_peer(fd, socket.cookie, waiting) {
                    Ok(()) => self.sweep(),
                    Err(errno) => {
                        for waiting in calls {
                            self.answer(waiting.call.id, errno.raw_os_error());
                        }
                    }
                }
                return Ok(());
            }
            Err(Errno::AGAIN) if is_blocking && socket.is_unix => {
                self.waiting.wait_for_room(socket.cookie, waiting, now);
                self.sweep();
                return Ok(());
            }
            // Another thread took the result, or a signal repeated the call.
            Err(Errno::ISCONN) if resumed || recent == Some(SUCCESS) => SUCCESS,
            Err(Errno::ALREADY) if recent == Some(Errno::INPROGRESS.raw_os_error()) => {
                Errno::INPROGRESS.raw_os_error()
            }
            Err(errno) => errno.raw_os_error(),
        };
        self.finish_all(socket.cookie, &waiting, errno);
        Ok(())
    }

    /// Continues a connect whose peer has answered, or whose listener may have room now.
    fn resume_connect(
        &mut self,
        cookie: SocketCookie,
        mut waiting: WaitingConnect,
        now: Instant,
    ) -> Result<(), InitFault> {
        // Without a caller, which was interrupted or has ended, nothing is done: a repeated call
        // finds the connect as it is.
        while let Some(first) = waiting.calls.first().copied() {
            let reopened = ConnectSocket::reopen(first.call, cookie);
            if !self.is_waiting(first.call.id) {
                waiting.calls.remove(0);
                continue;
            }
            match reopened {
                Ok(socket) => return self.try_connect(&socket, waiting, now, true),
                Err(errno) => {
                    self.finish_all(cookie, &waiting, errno.raw_os_error());
                    break;
                }
            }
        }
        Ok(())
    }

    fn finish_all(&mut self, cookie: SocketCookie, waiting: &WaitingConnect, errno: i32) {
        for waiting in &waiting.calls {
            self.finish(cookie, waiting.call, errno);
        }
    }

    /// Answers a call that changed its socket.
    fn finish(&mut self, cookie: SocketCookie, call: NotifiedCall, errno: i32) {
        self.recent.insert(cookie, call, errno);
        self.answer(call.id, errno);
    }

    fn answer(&self, id: u64, errno: i32) {
        // Fails if the caller was interrupted or has ended.
        drop(sys::seccomp::answer_call(self.listener.as_fd(), id, errno));
    }

    fn is_waiting(&self, id: u64) -> bool {
        sys::seccomp::is_call_waiting(self.listener.as_fd(), id)
    }

    fn sweep(&mut self) {
        let listener = self.listener.as_fd();
        self.waiting
            .sweep(|id| sys::seccomp::is_call_waiting(listener, id));
    }
}

impl ConnectSocket {
    /// Opens the socket of a waiting call once more. `EBADF` if the descriptor is another one now.
    fn reopen(call: NotifiedCall, cookie: SocketCookie) -> Result<Self, Errno> {
        let [fd, ..] = call.arguments;
        let socket = CallingThread::open(call.thread)?.duplicate_fd(lower_half(fd))?;
        if SocketCookie(socket_cookie(&socket)?) != cookie {
            return Err(Errno::BADF);
        }
        let (domain, kind) = (socket_domain(&socket)?, socket_type(&socket)?);
        Ok(Self::new(socket, cookie, domain, kind))
    }

    fn new(socket: OwnedFd, cookie: SocketCookie, domain: AddressFamily, kind: SocketType) -> Self {
        Self {
            socket,
            cookie,
            is_stream: [SocketType::STREAM, SocketType::SEQPACKET].contains(&kind),
            is_unix: domain == AddressFamily::UNIX,
        }
    }
}

/// Returns the number of files to keep: the other half of the open files is for the calls.
fn max_bound_files() -> usize {
    let open_files = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    usize::try_from(open_files / 2).map_or(MAX_BOUND_FILES, |half| half.min(MAX_BOUND_FILES))
}

fn is_readable(fd: BorrowedFd<'_>) -> bool {
    let at_once = Timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    let mut fds = [PollFd::from_borrowed_fd(fd, PollFlags::IN)];
    matches!(poll(&mut fds, Some(&at_once)), Ok(1..))
        && fds.iter().any(|fd| fd.revents().contains(PollFlags::IN))
}

/// Returns the number in the lower half of a register, as the kernel takes a descriptor.
fn lower_half(register: u64) -> i32 {
    let [a, b, c, d, ..] = register.to_le_bytes();
    i32::from_le_bytes([a, b, c, d])
}
