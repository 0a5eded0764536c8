// SPDX-License-Identifier: Apache-2.0
//! Waits for the default route of a network namespace, which a helper program adds.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use rustix::io::Errno;
use rustix::net::netlink::SocketAddrNetlink;
use rustix::net::{RecvFlags, bind, recv};

use crate::netlink::parse_messages;
use crate::{EnterError, NetnsRef, PollableFd, SocketSpec};

/// Watches for routes added to a network namespace after the creation of the watcher.
#[derive(Debug)]
pub struct RouteWatcher(PollableFd);

/// `RTMGRP_IPV4_ROUTE | RTMGRP_IPV6_ROUTE`.
const ROUTE_GROUPS: u32 = 0x40 | 0x400;

impl RouteWatcher {
    /// Starts to watch the routes of `netns`. Requires a tokio runtime.
    pub fn watch(netns: &NetnsRef) -> Result<Self, EnterError> {
        let failed = |source: io::Error| EnterError::Failed {
            step: crate::EnterStep::Socket,
            source,
        };
        let socket = netns.open_socket(SocketSpec::Route)?;
        bind(&socket, &SocketAddrNetlink::new(0, ROUTE_GROUPS))
            .map_err(|error| failed(error.into()))?;
        Ok(Self(PollableFd::new_readable(socket).map_err(failed)?))
    }

    /// Resolves when a default route of either family has been added.
    pub async fn wait_for_default_route(&self) -> io::Result<()> {
        let mut buffer = vec![0; 65536];
        loop {
            let got = self
                .0
                .read_with(|fd| match recv(fd, &mut buffer, RecvFlags::DONTWAIT) {
                    Ok((got, _)) => Ok(got),
                    // Lost messages: the route of the other family follows, or the caller times
                    // out.
                    Err(Errno::NOBUFS) => Ok(0),
                    Err(error) => Err(error.into()),
                });
            let got = got.await?;
            if buffer.get(..got).is_some_and(has_default_route) {
                return Ok(());
            }
        }
    }
}

impl AsFd for RouteWatcher {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Returns `true` if a batch of netlink messages contains an `RTM_NEWROUTE` for a unicast default
/// route in the main table.
fn has_default_route(batch: &[u8]) -> bool {
    let mut messages = parse_messages(batch).map_while(Result::ok);
    messages.any(|message| {
        // rtmsg: family, dst_len, src_len, tos, table, protocol, scope, type
        message.header.kind == libc::RTM_NEWROUTE
            && matches!(
                message.payload,
                [_, 0, _, _, libc::RT_TABLE_MAIN, _, _, libc::RTN_UNICAST, ..]
            )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(kind: u16, bits: u8, table: u8) -> Vec<u8> {
        let mut message = Vec::from(28_u32.to_ne_bytes());
        message.extend(kind.to_ne_bytes());
        message.extend([0; 10]);
        message.extend([2, bits, 0, 0, table, 4, 0, 1, 0, 0, 0, 0]);
        message
    }

    #[test]
    fn only_a_new_default_route_of_the_main_table_matches() {
        assert!(has_default_route(&message(24, 0, 254)));
        assert!(has_default_route(
            &[message(24, 24, 254), message(24, 0, 254)].concat()
        ));
        for other in [
            message(24, 24, 254),
            message(25, 0, 254),
            message(24, 0, 255),
            vec![1; 15],
        ] {
            assert!(!has_default_route(&other), "{other:?}");
        }
        let mut cut = message(24, 0, 254);
        cut.truncate(20);
        assert!(!has_default_route(&cut));
    }
}
