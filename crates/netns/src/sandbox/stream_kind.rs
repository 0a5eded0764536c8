// SPDX-License-Identifier: Apache-2.0
//! What a workload can do with a file that it got as a standard stream.

use std::fmt;
use std::os::fd::BorrowedFd;

use rustix::fs::{FileType, fstat, fstatfs, major, minor};
use rustix::net::{SocketType, sockopt::socket_type};
use rustix::termios::isatty;

/// The kind of an open file, by what it allows beyond the transfer of bytes.
///
/// A socket can be connected to another peer, a directory leads to every file below it, a device
/// takes orders.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum StreamKind {
    /// A regular file.
    File,
    /// A pipe or FIFO.
    Pipe,
    /// `/dev/null`, or another device of the kernel that only gives or takes bytes.
    Memory,
    /// Closed: the descriptor is of no file.
    Closed,
    /// A terminal.
    Terminal,
    /// A connected socket of a stream, whose bytes can be copied.
    StreamSocket,
    /// Another socket.
    Socket,
    /// A directory.
    Directory,
    /// A device.
    Device,
    /// A file of the kernel, such as a namespace or a process.
    Kernel,
}

/// The device numbers of `null`, `zero`, `full`, `random`, `urandom`: `devices.txt` of the kernel.
const MEMORY_DEVICES: [(u32, u32); 5] = [(1, 3), (1, 5), (1, 7), (1, 8), (1, 9)];

/// File systems whose regular files are interfaces of the kernel (`linux/magic.h`).
const KERNEL_FILESYSTEMS: [u64; 11] = [
    0x9fa0,      // proc
    0x6265_6572, // sysfs
    0x6e73_6673, // nsfs
    0x5049_4446, // pidfs
    0x0027_e0eb, // cgroup
    0x6367_7270, // cgroup2
    0xcafe_4a11, // bpf
    0x6462_6720, // debugfs
    0x7472_6163, // tracefs
    0x7363_6673, // securityfs
    0x6265_6570, // configfs
];

impl StreamKind {
    /// Returns the kind of an open file.
    pub fn of(fd: BorrowedFd<'_>) -> Self {
        let Ok(about) = fstat(fd) else {
            return Self::Closed;
        };
        match FileType::from_raw_mode(about.st_mode) {
            FileType::RegularFile => match fstatfs(fd) {
                Ok(system) if !is_kernel_filesystem(system.f_type) => Self::File,
                _ => Self::Kernel,
            },
            FileType::Fifo => Self::Pipe,
            FileType::Socket => match socket_type(fd) {
                Ok(SocketType::STREAM) if rustix::net::getpeername(fd).is_ok() => {
                    Self::StreamSocket
                }
                _ => Self::Socket,
            },
            FileType::Directory => Self::Directory,
            FileType::CharacterDevice => {
                let number = (major(about.st_rdev), minor(about.st_rdev));
                if MEMORY_DEVICES.contains(&number) {
                    Self::Memory
                } else if isatty(fd) {
                    Self::Terminal
                } else {
                    Self::Device
                }
            }
            FileType::BlockDevice => Self::Device,
            // Anonymous files, such as those of epoll, and links opened as such.
            FileType::Symlink | FileType::Unknown => Self::Kernel,
        }
    }

    /// Returns `true` if a workload can only transfer bytes with the file.
    pub const fn is_harmless(self) -> bool {
        matches!(self, Self::File | Self::Pipe | Self::Memory | Self::Closed)
    }
}

fn is_kernel_filesystem<T: TryInto<i64>>(number: T) -> bool {
    let number = number.try_into().unwrap_or_default();
    let known = KERNEL_FILESYSTEMS.map(u64::cast_signed);
    // The number is a signed one of 32 bits on some architectures.
    known
        .iter()
        .any(|known| known & 0xffff_ffff == number & 0xffff_ffff)
}

impl fmt::Display for StreamKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::File => "a file",
            Self::Pipe => "a pipe",
            Self::Memory => "a device without abilities",
            Self::Closed => "closed",
            Self::Terminal => "a terminal",
            Self::StreamSocket => "a connected socket",
            Self::Socket => "a socket",
            Self::Directory => "a directory",
            Self::Device => "a device",
            Self::Kernel => "a file of the kernel",
        })
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::net::{TcpListener, TcpStream, UdpSocket};
    use std::os::fd::{AsFd, OwnedFd};
    use std::os::unix::net::{UnixDatagram, UnixStream};

    use rustix::fs::OFlags;
    use rustix::pty::{OpenptFlags, openpt};

    use super::*;

    #[test]
    fn each_kind_of_file_is_told_apart() {
        let check = |file: &dyn AsFd, expected: StreamKind, harmless: bool| {
            let kind = StreamKind::of(file.as_fd());
            assert_eq!(kind, expected);
            assert_eq!(kind.is_harmless(), harmless, "{kind}");
        };
        let open = |path: &str| File::open(path).unwrap();
        check(&tempfile::tempfile().unwrap(), StreamKind::File, true);
        let (read, write) = std::io::pipe().unwrap();
        check(&read, StreamKind::Pipe, true);
        check(&write, StreamKind::Pipe, true);
        for device in ["null", "zero", "full", "random", "urandom"] {
            check(&open(&format!("/dev/{device}")), StreamKind::Memory, true);
        }
        check(&open("/"), StreamKind::Directory, false);
        for path in [
            "/proc/self/ns/net",
            "/proc/self/status",
            "/sys/kernel/notes",
        ] {
            check(&open(path), StreamKind::Kernel, false);
        }
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        check(&master, StreamKind::Terminal, false);
        let event = rustix::event::eventfd(0, rustix::event::EventfdFlags::empty()).unwrap();
        check(&event, StreamKind::Kernel, false);
        let link = rustix::fs::open(
            "/proc/self/exe",
            OFlags::PATH | OFlags::NOFOLLOW,
            rustix::fs::Mode::empty(),
        );
        check(&link.unwrap(), StreamKind::Kernel, false);
    }

    #[test]
    fn only_a_connected_stream_can_be_copied() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let stream = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (pair, _other) = UnixStream::pair().unwrap();
        let (datagrams, _peer) = UnixDatagram::pair().unwrap();
        let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
        udp.connect("127.0.0.1:9").unwrap();
        let sockets: [(OwnedFd, StreamKind); 5] = [
            (stream.into(), StreamKind::StreamSocket),
            (pair.into(), StreamKind::StreamSocket),
            (listener.into(), StreamKind::Socket),
            (datagrams.into(), StreamKind::Socket),
            (udp.into(), StreamKind::Socket),
        ];
        for (socket, expected) in sockets {
            assert_eq!(StreamKind::of(socket.as_fd()), expected);
            assert!(!expected.is_harmless());
        }
    }
}
