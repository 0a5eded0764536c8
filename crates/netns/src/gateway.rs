// SPDX-License-Identifier: Apache-2.0
//! The gateway: a network namespace at the far end of a sandbox's only link, without a way on.
//!
//! The sandbox has an ordinary interface `eth0` with an address and default routes. Its packets
//! arrive at the gateway, where every address is local: rules and sockets there see every
//! connection attempt, out of the workload's reach. No other link leads out of the gateway, so that
//! a missing rule connects the sandbox to nothing.

use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::io::Errno;
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{DumpableBehavior, WaitId, WaitIdOptions, set_dumpable_behavior, waitid};

use crate::link::{IpNetwork, LinkError, LinkIndex, LinkName, RtnetlinkSocket, VethPeerNetns};
use crate::sandbox::init_channel::{InitFault, InitReport};
use crate::sibling_netns::enter_owner_namespaces;
use crate::{NetnsRef, ProcessHandle, sys};

/// IPv4 address of the sandbox's interface, of the range for benchmarks (RFC 2544), which no
/// network routes.
pub const SANDBOX_V4: Ipv4Addr = Ipv4Addr::new(198, 19, 0, 2);
/// IPv4 address of the gateway: default gateway and name server of the sandbox.
pub const GATEWAY_V4: Ipv4Addr = Ipv4Addr::new(198, 19, 0, 1);
/// IPv6 address of the sandbox's interface, a unique local address (RFC 4193).
pub const SANDBOX_V6: Ipv6Addr = Ipv6Addr::new(0xfdc1, 0xea2c, 0x19, 0, 0, 0, 0, 2);
/// IPv6 address of the gateway.
pub const GATEWAY_V6: Ipv6Addr = Ipv6Addr::new(0xfdc1, 0xea2c, 0x19, 0, 0, 0, 0, 1);

/// TCP port of the gateway's socket for accepted connections of the sandbox.
pub const TCP_PORT: u16 = 15_001;
/// TCP port of the gateway's name server.
pub const DNS_PORT: u16 = 15_053;
/// UDP port of the gateway's socket for all datagrams of the sandbox.
pub const UDP_PORT: u16 = 15_002;
/// Packet mark of a repeated first packet, whose connection is accepted: a value that no other
/// software is known to use.
pub const REPLAY_MARK: u32 = 0x7465_726f;

const V4_PREFIX: u8 = 30;
const V6_PREFIX: u8 = 64;
/// The largest MTU of a veth: datagrams of any size pass in one packet, so that none is a fragment.
const MTU: u32 = 65_535;

/// The network namespace of a gateway. The open file keeps the namespace alive; when this file and
/// all sockets of the namespace are closed, the sandbox has no link any more.
#[derive(Debug)]
pub struct GatewayNetns {
    netns: OwnedFd,
    has_ipv6: bool,
}

/// A gateway could not be built. The sandbox has no link.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum GatewayBuildError {
    /// The calling process has more than one thread.
    #[error("a process with several threads cannot build a gateway")]
    Multithreaded,
    /// A step failed.
    #[error("{step} failed")]
    Step {
        /// The failed step.
        step: String,
        /// The kernel error.
        #[source]
        source: io::Error,
    },
    /// The helper process ended before the gateway was ready.
    #[error("the process that builds the gateway ended")]
    BuilderDied,
}

impl GatewayNetns {
    /// Builds the gateway of `sandbox`, the first process of a sandbox without links, and connects
    /// the two.
    ///
    /// Forks, and hence must be called before the process has threads.
    pub fn build(sandbox: &ProcessHandle) -> Result<Self, GatewayBuildError> {
        let at = |step: &str| {
            let step = step.to_owned();
            |source: io::Error| GatewayBuildError::Step { step, source }
        };
        let piping = |error: Errno| at("creating a pipe")(error.into());
        let (report, report_to) = pipe_with(PipeFlags::CLOEXEC).map_err(piping)?;
        let (when_opened, opened) = pipe_with(PipeFlags::CLOEXEC).map_err(piping)?;
        let parent_ends = [report.as_fd(), opened.as_fd()];
        let child = sys::clone::spawn_in_namespaces(0, || {
            // The copies would hide the end of the parent process.
            parent_ends.into_iter().for_each(sys::close_in_child);
            run_builder(sandbox, report_to, when_opened)
        });
        let child = child.map_err(|error| match error.raw_os_error() {
            Some(libc::EDEADLK) => GatewayBuildError::Multithreaded,
            _ => at("starting the process that builds the gateway")(error),
        })?;
        let built = Self::open(&child, report);
        drop(opened);
        while let Err(Errno::INTR) = waitid(WaitId::PidFd(child.as_fd()), WaitIdOptions::EXITED) {}
        built
    }

    /// Waits for the builder's report and opens the builder's network namespace.
    fn open(builder: &ProcessHandle, report: OwnedFd) -> Result<Self, GatewayBuildError> {
        let at = |step: &str| {
            let step = step.to_owned();
            |source| GatewayBuildError::Step { step, source }
        };
        let mut packet = [0; 512];
        let length = File::from(report)
            .read(&mut packet)
            .map_err(at("reading the report about the gateway"))?;
        match packet.get(..length).unwrap_or_default() {
            [HAS_IPV6_REPORT, has_ipv6] => {
                let path = format!("/proc/{}/ns/net", builder.pid());
                let netns = File::open(path).map_err(at("opening the gateway's namespace"))?;
                Ok(Self {
                    netns: netns.into(),
                    has_ipv6: *has_ipv6 != 0,
                })
            }
            fault => match InitReport::decode(fault) {
                Some(InitReport::Failed(InitFault { step, errno })) => {
                    let source = io::Error::from_raw_os_error(errno);
                    Err(GatewayBuildError::Step { step, source })
                }
                _ => Err(GatewayBuildError::BuilderDied),
            },
        }
    }

    /// Wraps the network namespace of a gateway that an earlier process has built.
    ///
    /// `has_ipv6` is what [`GatewayNetns::has_ipv6`] returned there. A descriptor of anything else
    /// fails where sockets are opened in it.
    pub const fn from_fd(netns: OwnedFd, has_ipv6: bool) -> Self {
        Self { netns, has_ipv6 }
    }

    /// Returns a reference to the gateway's network namespace.
    pub fn netns_ref(&self) -> io::Result<NetnsRef> {
        Ok(NetnsRef::NamespaceFile(self.netns.try_clone()?))
    }

    /// Returns `true` if the link has IPv6 addresses: the kernel may have IPv6 disabled.
    pub const fn has_ipv6(&self) -> bool {
        self.has_ipv6
    }
}

impl AsFd for GatewayNetns {
    /// Returns the network namespace, to store it where it outlives this process.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.netns.as_fd()
    }
}

/// First byte of the success report; the second byte is 1 if the link has IPv6. Failures are
/// [`InitReport::Failed`].
const HAS_IPV6_REPORT: u8 = b'6';

/// Builds the gateway in the calling process and waits until the parent has opened its namespace.
fn run_builder(sandbox: &ProcessHandle, report_to: OwnedFd, when_opened: OwnedFd) -> u8 {
    let report = match build_link(sandbox) {
        Ok(has_ipv6) => vec![HAS_IPV6_REPORT, has_ipv6.into()],
        Err(fault) => InitReport::Failed(fault).encode(),
    };
    // An error means that the parent process is gone.
    // The parent opens a file of this process, which a process with new rights forbids by default.
    if let Err(error) = set_dumpable_behavior(DumpableBehavior::Dumpable) {
        tracing::debug!(%error, "the gateway's namespace may be out of reach");
    }
    if File::from(report_to).write_all(&report).is_ok() {
        drop(File::from(when_opened).read(&mut [0]));
    }
    0
}

fn build_link(sandbox: &ProcessHandle) -> Result<bool, InitFault> {
    enter_owner_namespaces(sandbox).map_err(|error| InitFault {
        errno: innermost_errno(&error),
        step: error.to_string(),
    })?;
    let link_fault = |error: LinkError| InitFault::at_step(error.step)(error.errno);
    let mut sandbox_links = RtnetlinkSocket::open().map_err(link_fault)?;
    write_optional(&SANDBOX_SETTINGS);
    sys::unshare_netns().map_err(InitFault::at_step("creating the gateway's namespace"))?;
    let mut links = RtnetlinkSocket::open().map_err(link_fault)?;
    let has_ipv6 = Path::new("/proc/sys/net/ipv6").exists();
    for (name, value) in GATEWAY_SETTINGS {
        write_setting(name, value)
            .map_err(InitFault::at_step(format!("setting {name} in the gateway")))?;
    }
    connect(&mut links, &mut sandbox_links, sandbox, has_ipv6).map_err(link_fault)?;
    for (name, value) in GATEWAY_LINK_SETTINGS {
        write_setting(name, value)
            .map_err(InitFault::at_step(format!("setting {name} in the gateway")))?;
    }
    Ok(has_ipv6)
}

/// Connects the sandbox's `eth0` with the gateway's `gw0`, and makes every address local there.
fn connect(
    links: &mut RtnetlinkSocket,
    sandbox_links: &mut RtnetlinkSocket,
    sandbox: &ProcessHandle,
    has_ipv6: bool,
) -> Result<(), LinkError> {
    let gateway_link = links.add_veth(
        &link_name("gw0")?,
        &link_name("eth0")?,
        VethPeerNetns::Process(sandbox.raw_pid()),
    )?;
    let loopback = links.find_link(&link_name("lo")?)?;
    let sandbox_link = sandbox_links.find_link(&link_name("eth0")?)?;
    links.set_mtu(gateway_link, MTU)?;
    sandbox_links.set_mtu(sandbox_link, MTU)?;
    links.bring_up(loopback)?;
    let address = |at: &mut RtnetlinkSocket, link: LinkIndex, ip: IpAddr| {
        let length = if ip.is_ipv4() { V4_PREFIX } else { V6_PREFIX };
        at.add_address(link, IpNetwork::new(ip, length))
    };
    address(links, gateway_link, GATEWAY_V4.into())?;
    address(sandbox_links, sandbox_link, SANDBOX_V4.into())?;
    if has_ipv6 {
        address(links, gateway_link, GATEWAY_V6.into())?;
        address(sandbox_links, sandbox_link, SANDBOX_V6.into())?;
    }
    links.bring_up(gateway_link)?;
    sandbox_links.bring_up(sandbox_link)?;
    links.add_local_route(IpNetwork::DEFAULT_V4, loopback)?;
    sandbox_links.add_route(IpNetwork::DEFAULT_V4, sandbox_link, Some(GATEWAY_V4.into()))?;
    if has_ipv6 {
        links.add_local_route(IpNetwork::DEFAULT_V6, loopback)?;
        sandbox_links.add_route(IpNetwork::DEFAULT_V6, sandbox_link, Some(GATEWAY_V6.into()))?;
    }
    Ok(())
}

/// Settings of the sandbox's network, best effort: a held connection repeats its first packet every
/// second and for two minutes (Linux 6.5), ended connections keep no port busy for a minute, ping
/// sockets need no rights, and the link-local address is complete at once. The detection of
/// duplicates would complete it up to two seconds after the start, and a browser aborts what it
/// loads when an address appears.
const SANDBOX_SETTINGS: [(&str, &str); 6] = [
    ("ipv4/tcp_syn_retries", "127"),
    ("ipv4/tcp_syn_linear_timeouts", "127"),
    ("ipv4/tcp_tw_reuse", "1"),
    ("ipv4/ping_group_range", "0 0"),
    ("ipv6/conf/all/accept_dad", "0"),
    ("ipv6/conf/default/accept_dad", "0"),
];

/// Settings of the gateway: nothing is forwarded, packets with any source reach its rules, and
/// ended connections keep no port busy.
const GATEWAY_SETTINGS: [(&str, &str); 4] = [
    ("ipv4/ip_forward", "0"),
    ("ipv4/conf/all/rp_filter", "0"),
    ("ipv4/conf/default/rp_filter", "0"),
    ("ipv4/tcp_max_tw_buckets", "0"),
];

/// Settings of existing links: the kernel takes the stricter of these and `all`.
const GATEWAY_LINK_SETTINGS: [(&str, &str); 2] = [
    ("ipv4/conf/lo/rp_filter", "0"),
    ("ipv4/conf/gw0/rp_filter", "0"),
];

fn write_setting(name: &str, value: &str) -> io::Result<()> {
    fs::write(Path::new("/proc/sys/net").join(name), value)
}

fn write_optional(settings: &[(&str, &str)]) {
    for (name, value) in settings {
        if let Err(error) = write_setting(name, value) {
            tracing::debug!(name, %error, "a network setting of the sandbox is not available");
        }
    }
}

fn link_name(name: &str) -> Result<LinkName, LinkError> {
    name.parse().map_err(|_never| LinkError {
        step: format!("naming the link {name}"),
        errno: Errno::INVAL,
    })
}

fn innermost_errno(error: &(dyn std::error::Error + 'static)) -> i32 {
    let causes = std::iter::successors(Some(error), |error| error.source());
    causes
        .filter_map(|cause| cause.downcast_ref::<io::Error>()?.raw_os_error())
        .last()
        .unwrap_or(libc::EIO)
}
