// SPDX-License-Identifier: Apache-2.0
//! Network links, addresses and routes over rtnetlink, without the `ip` program.
//!
//! The `ip` program may be missing, or not be found with an empty environment. The messages follow
//! `rtnetlink(7)` and `veth(4)`.

use std::fmt;
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::os::fd::{AsRawFd as _, BorrowedFd, OwnedFd};
use std::str::FromStr;

use rustix::io::Errno;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType};
use rustix::process::Pid;

/// An rtnetlink socket. Every change applies to the network namespace of the socket.
#[derive(Debug)]
pub struct RtnetlinkSocket {
    socket: OwnedFd,
    sequence: u32,
}

/// The kernel's number for a link, valid in the namespace of one [`RtnetlinkSocket`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct LinkIndex(NonZeroU32);

/// A link name: 1 to 15 bytes of printable ASCII without blanks, `/`, `:` and `%`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct LinkName(Box<str>);

/// A text is not a valid [`LinkName`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a valid name for a network link")]
pub struct LinkNameError(Box<str>);

/// The network namespace for the other end of a veth pair.
#[derive(Debug, Clone, Copy)]
pub enum VethPeerNetns<'fd> {
    /// The network namespace behind an open `/proc/<pid>/ns/net`.
    File(BorrowedFd<'fd>),
    /// The network namespace of a process, numbered as in the caller's pid namespace.
    Process(Pid),
}

/// An address with a prefix length, such as `203.0.113.0/24`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct IpNetwork {
    address: IpAddr,
    prefix_length: u8,
}

/// A text is not a valid [`IpNetwork`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a network: expected ADDRESS/PREFIX-LENGTH")]
pub struct IpNetworkError(Box<str>);

/// The kernel refused an rtnetlink request.
#[derive(Debug, thiserror::Error)]
#[error("{step} failed")]
pub struct LinkError {
    /// The failed operation, with its values.
    pub step: String,
    /// The kernel error.
    #[source]
    pub errno: Errno,
}

impl RtnetlinkSocket {
    /// Opens a socket in the network namespace of the calling thread.
    pub fn open() -> Result<Self, LinkError> {
        rustix::net::socket_with(
            AddressFamily::NETLINK,
            SocketType::RAW,
            SocketFlags::CLOEXEC,
            None, // NETLINK_ROUTE is protocol 0
        )
        .map(Self::from_socket)
        .map_err(|errno| LinkError {
            step: "opening an rtnetlink socket".to_owned(),
            errno,
        })
    }

    /// Wraps an open `NETLINK_ROUTE` socket, possibly one of another namespace.
    pub const fn from_socket(socket: OwnedFd) -> Self {
        Self {
            socket,
            sequence: 0,
        }
    }

    /// Returns the index of a link; `ENODEV` for an unknown name.
    pub fn find_link(&mut self, name: &LinkName) -> Result<LinkIndex, LinkError> {
        let mut message = RtnetlinkRequest::new(libc::RTM_GETLINK, 0, &link_header(None, false));
        message.push_attribute(libc::IFLA_IFNAME, &name.with_nul());
        let reply = self.send_request(message, || format!("finding the link {name}"))?;
        reply.ok_or_else(|| LinkError {
            step: format!("finding the link {name}"),
            errno: Errno::NODEV,
        })
    }

    /// Brings a link up. `lo` is down in every new network namespace.
    pub fn bring_up(&mut self, link: LinkIndex) -> Result<(), LinkError> {
        let message = RtnetlinkRequest::new(libc::RTM_NEWLINK, 0, &link_header(Some(link), true));
        self.send_request(message, || format!("bringing up link {link}"))?;
        Ok(())
    }

    /// Creates a veth pair: `name` in this namespace, `peer` in the other, where the caller needs
    /// `CAP_NET_ADMIN` as well. Returns the index of `name`. Both ends are down.
    pub fn add_veth(
        &mut self,
        name: &LinkName,
        peer: &LinkName,
        there: VethPeerNetns<'_>,
    ) -> Result<LinkIndex, LinkError> {
        let mut message =
            RtnetlinkRequest::new(libc::RTM_NEWLINK, CREATE_FLAGS, &link_header(None, false));
        message.push_attribute(libc::IFLA_IFNAME, &name.with_nul());
        message.push_nested(libc::IFLA_LINKINFO, |message| {
            message.push_attribute(libc::IFLA_INFO_KIND, b"veth");
            message.push_nested(libc::IFLA_INFO_DATA, |message| {
                message.push_nested(VETH_INFO_PEER, |message| {
                    message.bytes.extend(link_header(None, false));
                    message.push_attribute(libc::IFLA_IFNAME, &peer.with_nul());
                    let (kind, value) = match there {
                        VethPeerNetns::File(file) => (libc::IFLA_NET_NS_FD, file.as_raw_fd()),
                        VethPeerNetns::Process(pid) => {
                            (libc::IFLA_NET_NS_PID, pid.as_raw_nonzero().get())
                        }
                    };
                    message.push_attribute(kind, &value.to_ne_bytes());
                });
            });
        });
        self.send_request(message, || {
            format!("creating the veth pair {name} and {peer}")
        })?;
        self.find_link(name)
    }

    /// Assigns an address and its network to a link. IPv6 addresses skip duplicate address
    /// detection (`nodad`) and are usable at once.
    pub fn add_address(&mut self, link: LinkIndex, address: IpNetwork) -> Result<(), LinkError> {
        let step = || format!("assigning {address} to link {link}");
        let mut header = [0; 8]; // struct ifaddrmsg
        header[0] = address_family(address.address);
        header[1] = address.prefix_length;
        header[2] = IFA_F_NODAD;
        header[4..].copy_from_slice(&link.0.get().to_ne_bytes());
        let mut message = RtnetlinkRequest::new(libc::RTM_NEWADDR, CREATE_FLAGS, &header);
        message.push_address(libc::IFA_LOCAL, address.address);
        message.push_address(libc::IFA_ADDRESS, address.address);
        self.send_request(message, step)?;
        Ok(())
    }

    /// Routes `to` through the link: to the gateway `via` if given, else directly.
    pub fn add_route(
        &mut self,
        to: IpNetwork,
        link: LinkIndex,
        via: Option<IpAddr>,
    ) -> Result<(), LinkError> {
        let step = || match via {
            Some(via) => format!("routing {to} via {via} through link {link}"),
            None => format!("routing {to} through link {link}"),
        };
        let mut header = [0; 12]; // struct rtmsg
        header[0] = address_family(to.address);
        header[1] = to.prefix_length;
        header[4] = libc::RT_TABLE_MAIN;
        header[5] = libc::RTPROT_STATIC;
        header[6] = match via {
            Some(_) => libc::RT_SCOPE_UNIVERSE,
            None => libc::RT_SCOPE_LINK,
        };
        header[7] = libc::RTN_UNICAST;
        let mut message = RtnetlinkRequest::new(libc::RTM_NEWROUTE, CREATE_FLAGS, &header);
        if to.prefix_length > 0 {
            message.push_address(libc::RTA_DST, to.address);
        }
        if let Some(via) = via {
            message.push_address(libc::RTA_GATEWAY, via);
        }
        message.push_attribute(libc::RTA_OIF, &link.0.get().to_ne_bytes());
        self.send_request(message, step)?;
        Ok(())
    }

    /// Sends one request and reads up to its acknowledgement; returns the last reported link.
    fn send_request(
        &mut self,
        message: RtnetlinkRequest,
        step: impl Fn() -> String,
    ) -> Result<Option<LinkIndex>, LinkError> {
        self.sequence = self.sequence.wrapping_add(1);
        self.send_and_receive(message).map_err(|errno| LinkError {
            step: step(),
            errno,
        })
    }

    fn send_and_receive(&self, message: RtnetlinkRequest) -> Result<Option<LinkIndex>, Errno> {
        let bytes = message.finish(self.sequence);
        rustix::net::send(&self.socket, &bytes, SendFlags::empty())?;
        let mut reported = None;
        let mut buffer = vec![0; MAX_REPLY_BYTES];
        loop {
            let (received, _) = rustix::io::retry_on_intr(|| {
                rustix::net::recv(&self.socket, buffer.as_mut_slice(), RecvFlags::empty())
            })?;
            let mut rest = buffer.get(..received).unwrap_or_default();
            while let Some((reply, after)) = RtnetlinkReply::split_first(rest) {
                rest = after;
                if reply.sequence != self.sequence {
                    continue;
                }
                match reply.ack_code() {
                    Some(0) => return Ok(reported),
                    Some(code) => return Err(Errno::from_raw_os_error(code.wrapping_neg())),
                    None => reported = reply.link_index().or(reported),
                }
            }
        }
    }
}

impl fmt::Display for LinkIndex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl LinkName {
    fn with_nul(&self) -> Vec<u8> {
        [self.0.as_bytes(), &[0]].concat()
    }
}

impl FromStr for LinkName {
    type Err = LinkNameError;

    fn from_str(text: &str) -> Result<Self, LinkNameError> {
        let plain = |b: u8| b.is_ascii_graphic() && !matches!(b, b'/' | b':' | b'%');
        if (1..=15).contains(&text.len())
            && text.bytes().all(plain)
            && !matches!(text, "." | ".." | "all" | "default")
        {
            Ok(Self(text.into()))
        } else {
            Err(LinkNameError(text.into()))
        }
    }
}

impl fmt::Display for LinkName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl IpNetwork {
    /// The destination of an IPv4 default route.
    pub const DEFAULT_V4: Self = Self {
        address: IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED),
        prefix_length: 0,
    };
    /// The destination of an IPv6 default route.
    pub const DEFAULT_V6: Self = Self {
        address: IpAddr::V6(std::net::Ipv6Addr::UNSPECIFIED),
        prefix_length: 0,
    };

    /// Returns the network of a single address.
    pub const fn host(address: IpAddr) -> Self {
        let length = match address {
            IpAddr::V4(_) => 32,
            IpAddr::V6(_) => 128,
        };
        Self {
            address,
            prefix_length: length,
        }
    }
}

impl FromStr for IpNetwork {
    type Err = IpNetworkError;

    fn from_str(text: &str) -> Result<Self, IpNetworkError> {
        let parse = || {
            let (address, length) = text.split_once('/')?;
            let (address, length) = (address.parse().ok()?, length.parse().ok()?);
            (length <= Self::host(address).prefix_length).then_some(Self {
                address,
                prefix_length: length,
            })
        };
        parse().ok_or_else(|| IpNetworkError(text.into()))
    }
}

impl fmt::Display for IpNetwork {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix_length)
    }
}

/// `linux/veth.h`
const VETH_INFO_PEER: u16 = 1;
/// `linux/if_addr.h`
const IFA_F_NODAD: u8 = 0x02;
/// `linux/netlink.h`: `NLM_F_CREATE` and `NLM_F_EXCL`.
const CREATE_FLAGS: u16 = 0x400 | 0x200;
/// `linux/netlink.h`: `NLM_F_REQUEST` and `NLM_F_ACK`.
const REQUEST_FLAGS: u16 = 0x01 | 0x04;
/// `linux/netlink.h`: `NLMSG_ERROR`, the acknowledgement if its code is 0.
const ERROR: u16 = 2;
const HEADER_BYTES: usize = 16;
/// Exceeds any link description; rtnetlink sends no larger datagrams.
const MAX_REPLY_BYTES: usize = 32 * 1024;

const fn address_family(address: IpAddr) -> u8 {
    match address {
        IpAddr::V4(_) => 2,  // AF_INET
        IpAddr::V6(_) => 10, // AF_INET6
    }
}

/// `struct ifinfomsg`: family, padding, type, index, flags, mask of changed flags.
fn link_header(link: Option<LinkIndex>, up: bool) -> [u8; 16] {
    const IFF_UP: u32 = 1;
    let flags = if up { IFF_UP } else { 0 };
    let mut header = [0; 16];
    header[4..8].copy_from_slice(&link.map_or(0, |link| link.0.get()).to_ne_bytes());
    header[8..12].copy_from_slice(&flags.to_ne_bytes());
    header[12..].copy_from_slice(&flags.to_ne_bytes());
    header
}

/// An rtnetlink request: `struct nlmsghdr`, fixed part, attributes.
struct RtnetlinkRequest {
    bytes: Vec<u8>,
}

impl RtnetlinkRequest {
    fn new(kind: u16, flags: u16, fixed: &[u8]) -> Self {
        let mut bytes = vec![0; HEADER_BYTES];
        bytes[4..6].copy_from_slice(&kind.to_ne_bytes());
        bytes[6..8].copy_from_slice(&(REQUEST_FLAGS | flags).to_ne_bytes());
        bytes.extend(fixed);
        Self { bytes }
    }

    fn push_attribute(&mut self, kind: u16, value: &[u8]) {
        self.push_nested(kind, |message| message.bytes.extend(value));
    }

    fn push_address(&mut self, kind: u16, address: IpAddr) {
        match address {
            IpAddr::V4(v4) => self.push_attribute(kind, &v4.octets()),
            IpAddr::V6(v6) => self.push_attribute(kind, &v6.octets()),
        }
    }

    /// Appends an attribute whose value `write_value` appends. The message is padded to a multiple
    /// of four bytes; the length field excludes the padding.
    fn push_nested(&mut self, kind: u16, write_value: impl FnOnce(&mut Self)) {
        let start = self.bytes.len();
        self.bytes.extend([0; 2]);
        self.bytes.extend(kind.to_ne_bytes());
        write_value(self);
        let length = u16::try_from(self.bytes.len() - start).unwrap_or(u16::MAX);
        self.bytes[start..start + 2].copy_from_slice(&length.to_ne_bytes());
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }

    fn finish(mut self, sequence: u32) -> Vec<u8> {
        let length = u32::try_from(self.bytes.len()).unwrap_or(u32::MAX);
        self.bytes[..4].copy_from_slice(&length.to_ne_bytes());
        self.bytes[8..12].copy_from_slice(&sequence.to_ne_bytes());
        self.bytes
    }
}

/// One rtnetlink message from the kernel.
struct RtnetlinkReply<'bytes> {
    kind: u16,
    sequence: u32,
    body: &'bytes [u8],
}

impl<'bytes> RtnetlinkReply<'bytes> {
    /// Splits off the first message; `None` if no complete message is left.
    fn split_first(bytes: &'bytes [u8]) -> Option<(Self, &'bytes [u8])> {
        let length = usize::try_from(u32_at(bytes, 0)?).ok()?;
        let kind = u16::from_ne_bytes(bytes.get(4..6)?.try_into().ok()?);
        let reply = Self {
            kind,
            sequence: u32_at(bytes, 8)?,
            body: bytes.get(HEADER_BYTES..length)?,
        };
        let after = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((reply, after))
    }

    /// Returns the code of an acknowledgement: 0 or a negated errno.
    fn ack_code(&self) -> Option<i32> {
        (self.kind == ERROR).then(|| u32_at(self.body, 0).map_or(-libc::EBADMSG, u32::cast_signed))
    }

    fn link_index(&self) -> Option<LinkIndex> {
        let index = (self.kind == libc::RTM_NEWLINK).then(|| u32_at(self.body, 4))??;
        NonZeroU32::new(index).map(LinkIndex)
    }
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    let four = bytes.get(at..)?.first_chunk()?;
    Some(u32::from_ne_bytes(*four))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn link_names_follow_the_kernel_rules() {
        for name in ["lo", "eth0", "internet", "a.b-c_d@e", "123456789012345"] {
            assert_eq!(name.parse::<LinkName>().unwrap().to_string(), name);
        }
        for name in [
            "",
            ".",
            "..",
            "all",
            "a b",
            "a/b",
            "a:b",
            "a%d",
            "1234567890123456",
            "\u{e9}",
            "a\0",
        ] {
            assert!(name.parse::<LinkName>().is_err(), "{name:?}");
        }
    }

    #[test]
    fn networks_are_an_address_and_a_prefix_length() {
        for text in ["203.0.113.0/24", "0.0.0.0/0", "2001:db8::1/128", "::/0"] {
            assert_eq!(text.parse::<IpNetwork>().unwrap().to_string(), text);
        }
        for text in [
            "",
            "203.0.113.0",
            "203.0.113.0/33",
            "::/129",
            "a/1",
            "::/-1",
            "1.2.3.4/ 8",
        ] {
            assert!(text.parse::<IpNetwork>().is_err(), "{text:?}");
        }
        assert_eq!("0.0.0.0/0".parse(), Ok(IpNetwork::DEFAULT_V4));
        assert_eq!("::/0".parse(), Ok(IpNetwork::DEFAULT_V6));
    }

    #[test]
    fn attributes_are_padded_and_nested_lengths_count_the_padding() {
        let mut message = RtnetlinkRequest::new(libc::RTM_NEWLINK, CREATE_FLAGS, &[]);
        message.push_nested(18, |message| {
            message.push_attribute(1, b"veth\0");
            message.push_attribute(2, &[7]);
        });
        let bytes = message.finish(9);
        assert_eq!(u32_at(&bytes, 0), Some(40));
        assert_eq!(u32_at(&bytes, 8), Some(9));
        let outer = u16::from_ne_bytes(bytes[16..18].try_into().unwrap());
        let inner = u16::from_ne_bytes(bytes[20..22].try_into().unwrap());
        assert_eq!((outer, inner), (24 - 3 + 3, 9));
        assert_eq!(bytes.len(), 40);
    }

    #[test]
    fn truncated_and_mislabelled_replies_are_rejected() {
        let whole = RtnetlinkRequest::new(ERROR, 0, &0_u32.to_ne_bytes()).finish(1);
        let (reply, after) = RtnetlinkReply::split_first(&whole).unwrap();
        assert_eq!((reply.ack_code(), after.len()), (Some(0), 0));
        for length in 0..whole.len() {
            assert!(
                RtnetlinkReply::split_first(&whole[..length]).is_none(),
                "{length} bytes"
            );
        }
        for length in [0_u32, 15, 21, u32::MAX] {
            let mut mislabelled = whole.clone();
            mislabelled[..4].copy_from_slice(&length.to_ne_bytes());
            assert!(
                RtnetlinkReply::split_first(&mislabelled).is_none(),
                "a length of {length}"
            );
        }
    }
}
