// SPDX-License-Identifier: Apache-2.0
//! A private network namespace, and a sender of packets inside.

use std::fs::File;
use std::net::{IpAddr, Ipv4Addr, UdpSocket};
use std::os::fd::{AsFd as _, OwnedFd};
use std::process::{Command, ExitStatus};

use anyhow::{Context as _, bail};
use netns::link::{RtnetlinkSocket, VethPeerNetns};
use netns::{NetnsRef, SocketSpec};
use shield::Policy;

/// Runs this program with `arguments` as root of new user and network namespaces.
pub(crate) fn run_in_namespaces(arguments: &[String]) -> anyhow::Result<ExitStatus> {
    let ourselves = std::env::current_exe().context("finding the path of this program")?;
    Command::new("unshare")
        .args(["--user", "--map-root-user", "--net", "--"])
        .arg(ourselves)
        .args(arguments)
        .status()
        .context("creating namespaces with unshare")
}

/// Adds a default route that leads nowhere.
pub(crate) fn set_up_route() -> anyhow::Result<()> {
    let mut links = RtnetlinkSocket::open()?;
    let lo = links.find_link(&"lo".parse()?)?;
    links.bring_up(lo)?;
    let own = File::open("/proc/self/ns/net").context("opening the network namespace")?;
    let there = "in0".parse()?;
    let out = links.add_veth(&"out0".parse()?, &there, VethPeerNetns::File(own.as_fd()))?;
    links.add_address(out, "192.0.2.2/24".parse()?)?;
    let peer = links.find_link(&there)?;
    links.bring_up(peer)?;
    links.bring_up(out)?;
    links.add_route("0.0.0.0/0".parse()?, out, Some("192.0.2.1".parse()?))?;
    Ok(())
}

/// Returns the policy of all sandboxes in the benchmark.
pub(crate) fn bench_policy() -> anyhow::Result<Policy> {
    Ok(Policy::new(["192.0.2.53".parse::<IpAddr>()?])?)
}

/// Returns an unbound netlink socket for nftables and the packet log.
pub(crate) fn open_netfilter_socket() -> anyhow::Result<OwnedFd> {
    let mut opened = NetnsRef::Current.open_sockets(&[SocketSpec::Netfilter])?;
    opened.pop().context("the namespace returned no socket")
}

/// Sends packets that the firewall drops, each to another destination.
#[derive(Debug)]
pub(crate) struct PacketSender {
    socket: UdpSocket,
    sent: u32,
}

impl PacketSender {
    pub(crate) fn new() -> anyhow::Result<Self> {
        let socket = UdpSocket::bind("0.0.0.0:0").context("creating a socket")?;
        Ok(Self { socket, sent: 0 })
    }

    /// Returns the destination of the next packet.
    pub(crate) const fn next_dest(&self) -> (Ipv4Addr, u16) {
        let [_, _, high, low] = self.sent.to_be_bytes();
        (Ipv4Addr::new(203, 0, 113, low), 1024 + high as u16)
    }

    /// Sends the next packet. The firewall's refusal is expected as an error.
    pub(crate) fn send(&mut self) -> anyhow::Result<()> {
        let sent = self.socket.send_to(b"x", self.next_dest());
        self.sent += 1;
        match sent {
            Err(_) => Ok(()),
            Ok(_) => bail!("the firewall let a packet pass"),
        }
    }
}
