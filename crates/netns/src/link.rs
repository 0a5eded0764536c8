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

use crate::netlink::{
    AttributeBuilder, NLM_F_ACK, NLM_F_CREATE, NLM_F_DUMP, NLM_F_DUMP_INTR, NLM_F_EXCL,
    NLM_F_REQUEST, NLMSG_DONE, NLMSG_ERROR, NetlinkHeader, NetlinkMessage, append_message,
    find_attribute, parse_messages,
};

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
        let step = || format!("finding the link {name}");
        let request = RtnetlinkRequest {
            kind: libc::RTM_GETLINK,
            flags: 0,
            family_header: &link_header(None, false),
            attributes: AttributeBuilder::default().text(libc::IFLA_IFNAME, &name.0),
        };
        let reply = self.send_request(&request, step)?;
        reply.ok_or_else(|| LinkError {
            step: step(),
            errno: Errno::NODEV,
        })
    }

    /// Returns the names of all links, `lo` included, in the order of their numbers; `EINTR` if a
    /// link changed meanwhile.
    pub fn list_links(&mut self) -> Result<Vec<String>, LinkError> {
        let request = RtnetlinkRequest {
            kind: libc::RTM_GETLINK,
            flags: NLM_F_DUMP,
            family_header: &link_header(None, false),
            attributes: AttributeBuilder::default(),
        };
        let mut names = Vec::new();
        self.exchange(&request, |reply| names.extend(reported_name(reply)))
            .map_err(|errno| LinkError {
                step: "listing the links".to_owned(),
                errno,
            })?;
        Ok(names)
    }

    /// Brings a link up. `lo` is down in every new network namespace.
    pub fn bring_up(&mut self, link: LinkIndex) -> Result<(), LinkError> {
        let request = RtnetlinkRequest {
            kind: libc::RTM_NEWLINK,
            flags: 0,
            family_header: &link_header(Some(link), true),
            attributes: AttributeBuilder::default(),
        };
        self.send_request(&request, || format!("bringing up link {link}"))?;
        Ok(())
    }

    /// Sets the largest packet of a link in bytes.
    pub fn set_mtu(&mut self, link: LinkIndex, bytes: u32) -> Result<(), LinkError> {
        let request = RtnetlinkRequest {
            kind: libc::RTM_NEWLINK,
            flags: 0,
            family_header: &link_header(Some(link), false),
            attributes: AttributeBuilder::default().bytes(libc::IFLA_MTU, &bytes.to_ne_bytes()),
        };
        self.send_request(&request, || format!("setting the MTU of link {link}"))?;
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
        let (netns_kind, netns) = match there {
            VethPeerNetns::File(file) => (libc::IFLA_NET_NS_FD, file.as_raw_fd()),
            VethPeerNetns::Process(pid) => (libc::IFLA_NET_NS_PID, pid.as_raw_nonzero().get()),
        };
        // rtnetlink does not mark nested attributes, hence `bytes`.
        let peer_attributes = AttributeBuilder::default()
            .text(libc::IFLA_IFNAME, &peer.0)
            .bytes(netns_kind, &netns.to_ne_bytes());
        let peer_info = [&link_header(None, false), peer_attributes.as_bytes()].concat();
        let veth = AttributeBuilder::default().bytes(VETH_INFO_PEER, &peer_info);
        let link_info = AttributeBuilder::default()
            .bytes(libc::IFLA_INFO_KIND, b"veth")
            .bytes(libc::IFLA_INFO_DATA, veth.as_bytes());
        let request = RtnetlinkRequest {
            kind: libc::RTM_NEWLINK,
            flags: CREATE_FLAGS,
            family_header: &link_header(None, false),
            attributes: AttributeBuilder::default()
                .text(libc::IFLA_IFNAME, &name.0)
                .bytes(libc::IFLA_LINKINFO, link_info.as_bytes()),
        };
        let step = || format!("creating the veth pair {name} and {peer}");
        self.send_request(&request, step)?;
        self.find_link(name)
    }

    /// Assigns an address and its network to a link. IPv6 addresses skip duplicate address
    /// detection (`nodad`) and are usable at once.
    pub fn add_address(&mut self, link: LinkIndex, address: IpNetwork) -> Result<(), LinkError> {
        let mut header = [0; 8]; // struct ifaddrmsg
        header[0] = address_family(address.address);
        header[1] = address.prefix_length;
        header[2] = IFA_F_NODAD;
        header[4..].copy_from_slice(&link.0.get().to_ne_bytes());
        let octets = octets(address.address);
        let request = RtnetlinkRequest {
            kind: libc::RTM_NEWADDR,
            flags: CREATE_FLAGS,
            family_header: &header,
            attributes: AttributeBuilder::default()
                .bytes(libc::IFA_LOCAL, &octets)
                .bytes(libc::IFA_ADDRESS, &octets),
        };
        let step = || format!("assigning {address} to link {link}");
        self.send_request(&request, step)?;
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
        let scope = match via {
            Some(_) => libc::RT_SCOPE_UNIVERSE,
            None => libc::RT_SCOPE_LINK,
        };
        self.send_route(to, link, via, [scope, libc::RTN_UNICAST], step)
    }

    /// Makes every address of `to` an address of this machine, delivered through the link (`lo`).
    ///
    /// The route is in the table `main`, where longer prefixes take precedence.
    pub fn add_local_route(&mut self, to: IpNetwork, link: LinkIndex) -> Result<(), LinkError> {
        let step = || format!("making {to} local");
        self.send_route(to, link, None, [libc::RT_SCOPE_HOST, libc::RTN_LOCAL], step)
    }

    fn send_route(
        &mut self,
        to: IpNetwork,
        link: LinkIndex,
        via: Option<IpAddr>,
        [scope, kind]: [u8; 2],
        step: impl Fn() -> String,
    ) -> Result<(), LinkError> {
        let mut header = [0; 12]; // struct rtmsg
        header[0] = address_family(to.address);
        header[1] = to.prefix_length;
        header[4] = libc::RT_TABLE_MAIN;
        header[5] = libc::RTPROT_STATIC;
        header[6] = scope;
        header[7] = kind;
        let mut attributes = AttributeBuilder::default();
        if to.prefix_length > 0 {
            attributes = attributes.bytes(libc::RTA_DST, &octets(to.address));
        }
        if let Some(via) = via {
            attributes = attributes.bytes(libc::RTA_GATEWAY, &octets(via));
        }
        let request = RtnetlinkRequest {
            kind: libc::RTM_NEWROUTE,
            flags: CREATE_FLAGS,
            family_header: &header,
            attributes: attributes.bytes(libc::RTA_OIF, &link.0.get().to_ne_bytes()),
        };
        self.send_request(&request, step)?;
        Ok(())
    }

    /// Sends one request and reads up to its acknowledgement; returns the last reported link.
    fn send_request(
        &mut self,
        request: &RtnetlinkRequest<'_>,
        step: impl Fn() -> String,
    ) -> Result<Option<LinkIndex>, LinkError> {
        let mut reported = None;
        let exchanged = self.exchange(request, |reply| {
            reported = reported_link(reply).or(reported);
        });
        exchanged.map_err(|errno| LinkError {
            step: step(),
            errno,
        })?;
        Ok(reported)
    }

    /// Sends one request, and calls `on_reply` for each message up to the last one.
    fn exchange(
        &mut self,
        request: &RtnetlinkRequest<'_>,
        mut on_reply: impl FnMut(&NetlinkMessage<'_>),
    ) -> Result<(), Errno> {
        self.sequence = self.sequence.wrapping_add(1);
        let header = NetlinkHeader {
            kind: request.kind,
            flags: NLM_F_REQUEST | NLM_F_ACK | request.flags,
            sequence: self.sequence,
        };
        let mut bytes = Vec::new();
        append_message(
            &mut bytes,
            header,
            request.family_header,
            &request.attributes,
        );
        rustix::net::send(&self.socket, &bytes, SendFlags::empty())?;
        let mut buffer = vec![0; MAX_REPLY_BYTES];
        loop {
            let (received, _) = rustix::io::retry_on_intr(|| {
                rustix::net::recv(&self.socket, buffer.as_mut_slice(), RecvFlags::empty())
            })?;
            let replies = parse_messages(buffer.get(..received).unwrap_or_default());
            for reply in replies.map_while(Result::ok) {
                if reply.header.sequence != self.sequence {
                    continue;
                }
                if reply.header.flags & NLM_F_DUMP_INTR != 0 {
                    return Err(Errno::INTR);
                }
                match reply.header.kind {
                    NLMSG_DONE => return Ok(()),
                    NLMSG_ERROR => match reply.error_code() {
                        Some(0) => return Ok(()),
                        Some(code) => return Err(Errno::from_raw_os_error(code)),
                        None => return Err(Errno::BADMSG),
                    },
                    _ => on_reply(&reply),
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

    /// Creates a network; a prefix longer than the address counts as the whole address.
    pub const fn new(address: IpAddr, prefix_length: u8) -> Self {
        let longest = Self::host(address);
        if prefix_length < longest.prefix_length {
            Self {
                address,
                prefix_length,
            }
        } else {
            longest
        }
    }

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
/// A request that creates an object and fails if it exists.
const CREATE_FLAGS: u16 = NLM_F_CREATE | NLM_F_EXCL;
/// Exceeds any link description; rtnetlink sends no larger datagrams.
const MAX_REPLY_BYTES: usize = 32 * 1024;

const fn address_family(address: IpAddr) -> u8 {
    match address {
        IpAddr::V4(_) => 2,  // AF_INET
        IpAddr::V6(_) => 10, // AF_INET6
    }
}

/// Length of `struct ifinfomsg`.
const LINK_HEADER_BYTES: usize = 16;

/// `struct ifinfomsg`: family, padding, type, index, flags, mask of changed flags.
fn link_header(link: Option<LinkIndex>, up: bool) -> [u8; LINK_HEADER_BYTES] {
    const IFF_UP: u32 = 1;
    let flags = if up { IFF_UP } else { 0 };
    let mut header = [0; LINK_HEADER_BYTES];
    header[4..8].copy_from_slice(&link.map_or(0, |link| link.0.get()).to_ne_bytes());
    header[8..12].copy_from_slice(&flags.to_ne_bytes());
    header[12..].copy_from_slice(&flags.to_ne_bytes());
    header
}

/// An rtnetlink request without flags and sequence of every request.
struct RtnetlinkRequest<'a> {
    kind: u16,
    flags: u16,
    family_header: &'a [u8],
    attributes: AttributeBuilder,
}

fn reported_link(reply: &NetlinkMessage<'_>) -> Option<LinkIndex> {
    if reply.header.kind != libc::RTM_NEWLINK {
        return None;
    }
    let index = reply.payload.get(4..)?.first_chunk()?; // of struct ifinfomsg
    NonZeroU32::new(u32::from_ne_bytes(*index)).map(LinkIndex)
}

fn reported_name(reply: &NetlinkMessage<'_>) -> Option<String> {
    if reply.header.kind != libc::RTM_NEWLINK {
        return None;
    }
    let attributes = reply.payload.get(LINK_HEADER_BYTES..)?;
    let name = find_attribute(attributes, libc::IFLA_IFNAME)?.text()?;
    Some(name.to_owned())
}

fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(v4) => v4.octets().to_vec(),
        IpAddr::V6(v6) => v6.octets().to_vec(),
    }
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
}
