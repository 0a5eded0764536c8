// SPDX-License-Identifier: Apache-2.0
//! Socket options and control messages of transparent sockets, which rustix does not have.

use std::io;
use std::mem::MaybeUninit;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::os::fd::{AsRawFd as _, BorrowedFd};
use std::ptr;

use crate::transparent::ReceivedDatagram;

/// Lets a socket bind to, and receive for, addresses that are not its host's (`IP_TRANSPARENT`).
pub(crate) fn set_transparent(socket: BorrowedFd<'_>, is_ipv6: bool) -> io::Result<()> {
    if is_ipv6 {
        set_flag(socket, libc::IPPROTO_IPV6, libc::IPV6_TRANSPARENT)
    } else {
        set_flag(socket, libc::IPPROTO_IP, libc::IP_TRANSPARENT)
    }
}

/// Adds the destination of each datagram to its control messages (`IP_RECVORIGDSTADDR`).
pub(crate) fn report_original_destination(socket: BorrowedFd<'_>, is_ipv6: bool) -> io::Result<()> {
    if is_ipv6 {
        set_flag(socket, libc::IPPROTO_IPV6, libc::IPV6_RECVORIGDSTADDR)
    } else {
        set_flag(socket, libc::IPPROTO_IP, libc::IP_RECVORIGDSTADDR)
    }
}

/// Gives every packet of a socket the mark `mark` in its namespace (`SO_MARK`).
pub(crate) fn set_mark(socket: BorrowedFd<'_>, mark: u32) -> io::Result<()> {
    set_option(socket, libc::SOL_SOCKET, libc::SO_MARK, mark.cast_signed())
}

fn set_flag(socket: BorrowedFd<'_>, level: i32, name: i32) -> io::Result<()> {
    set_option(socket, level, name, 1)
}

fn set_option(socket: BorrowedFd<'_>, level: i32, name: i32, value: i32) -> io::Result<()> {
    #[expect(unsafe_code, reason = "rustix does not have this socket option")]
    // SAFETY: the kernel reads `size_of::<i32>()` bytes of `value`, which outlives the call; the
    // descriptor is open.
    let done = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            level,
            name,
            (&raw const value).cast(),
            socket_length::<i32>(),
        )
    };
    if done == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// Space for one control message with a `sockaddr_in6`, aligned as a header.
#[repr(C)]
union DestinationControl {
    bytes: [u8; 64],
    _header: libc::cmsghdr,
}
const _: () = assert!(size_of::<DestinationControl>() == 64);

/// Receives a datagram without waiting, with its original destination.
pub(crate) fn receive_with_destination(
    socket: BorrowedFd<'_>,
    buffer: &mut [u8],
) -> io::Result<ReceivedDatagram> {
    let mut control = DestinationControl { bytes: [0; 64] };
    let mut source = MaybeUninit::<libc::sockaddr_storage>::zeroed();
    let mut slice = libc::iovec {
        iov_base: buffer.as_mut_ptr().cast(),
        iov_len: buffer.len(),
    };
    #[expect(unsafe_code, reason = "rustix does not have this control message")]
    // SAFETY: `message` points at `source`, `slice` and `control`, all alive until the end of the
    // block and of the stated sizes; the kernel writes at most these sizes. `source` is zeroed
    // before. The CMSG macros stay within msg_controllen as the kernel returned it, and the
    // addresses are read unaligned and only if the message has their whole size.
    unsafe {
        let mut message: libc::msghdr = std::mem::zeroed();
        message.msg_name = source.as_mut_ptr().cast();
        message.msg_namelen = socket_length::<libc::sockaddr_storage>();
        message.msg_iov = &raw mut slice;
        message.msg_iovlen = 1;
        message.msg_control = (&raw mut control).cast();
        // A literal, because the type of this length depends on the libc.
        message.msg_controllen = 64;
        let received = loop {
            let received = libc::recvmsg(socket.as_raw_fd(), &raw mut message, libc::MSG_DONTWAIT);
            if received >= 0 {
                break received.unsigned_abs();
            }
            let error = io::Error::last_os_error();
            if error.kind() != io::ErrorKind::Interrupted {
                return Err(error);
            }
        };
        let mut destination = None;
        let mut header = libc::CMSG_FIRSTHDR(&raw const message);
        while !header.is_null() {
            let length = u64::try_from((*header).cmsg_len).unwrap_or(0);
            match ((*header).cmsg_level, (*header).cmsg_type) {
                (libc::IPPROTO_IP, libc::IP_ORIGDSTADDR)
                    if length >= control_length::<libc::sockaddr_in>() =>
                {
                    let address: libc::sockaddr_in =
                        ptr::read_unaligned(libc::CMSG_DATA(header).cast());
                    destination = Some(from_sockaddr_in(&address));
                }
                (libc::IPPROTO_IPV6, libc::IPV6_ORIGDSTADDR)
                    if length >= control_length::<libc::sockaddr_in6>() =>
                {
                    let address: libc::sockaddr_in6 =
                        ptr::read_unaligned(libc::CMSG_DATA(header).cast());
                    destination = Some(from_sockaddr_in6(&address));
                }
                _ => {}
            }
            header = libc::CMSG_NXTHDR(&raw const message, header);
        }
        let source = source.assume_init();
        let source = match i32::from(source.ss_family) {
            libc::AF_INET => Some(from_sockaddr_in(&ptr::read((&raw const source).cast()))),
            libc::AF_INET6 => Some(from_sockaddr_in6(&ptr::read((&raw const source).cast()))),
            _ => None,
        };
        match (source, destination) {
            (Some(source), Some(destination)) => Ok(ReceivedDatagram {
                length: received,
                source,
                destination,
            }),
            _ => Err(io::ErrorKind::InvalidData.into()),
        }
    }
}

/// Returns the size of `T` in the type of the socket calls.
fn socket_length<T>() -> libc::socklen_t {
    // Only for types of some hundred bytes.
    libc::socklen_t::try_from(size_of::<T>()).unwrap_or(libc::socklen_t::MAX)
}

/// Returns the length of a control message with a `T`.
fn control_length<T>() -> u64 {
    #[expect(unsafe_code, reason = "libc marks this arithmetic unsafe")]
    // SAFETY: CMSG_LEN computes with its argument and touches no memory.
    let length = unsafe { libc::CMSG_LEN(socket_length::<T>()) };
    u64::from(length)
}

fn from_sockaddr_in(address: &libc::sockaddr_in) -> SocketAddr {
    let ip = Ipv4Addr::from(u32::from_be(address.sin_addr.s_addr));
    SocketAddrV4::new(ip, u16::from_be(address.sin_port)).into()
}

fn from_sockaddr_in6(address: &libc::sockaddr_in6) -> SocketAddr {
    let ip = Ipv6Addr::from(address.sin6_addr.s6_addr);
    SocketAddrV6::new(ip, u16::from_be(address.sin6_port), 0, 0).into()
}
