// SPDX-License-Identifier: Apache-2.0
//! Waits until a network namespace is connected, which a helper program does in its own time.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use rustix::io::Errno;
use rustix::net::netlink::SocketAddrNetlink;
use rustix::net::{RecvFlags, bind, recv};

use crate::{EnterError, NetnsRef, PollableFd, SocketSpec};

/// The routes that are added in a network namespace, from the moment of the making on.
#[derive(Debug)]
pub struct RouteWatcher(PollableFd);

/// `RTMGRP_IPV4_ROUTE | RTMGRP_IPV6_ROUTE`.
const ROUTE_GROUPS: u32 = 0x40 | 0x400;

impl RouteWatcher {
    /// Listens to the routes of `place`. Call it within a tokio runtime.
    pub fn watch(place: &NetnsRef) -> Result<Self, EnterError> {
        let failed = |source: io::Error| EnterError::Failed {
            step: crate::EnterStep::Socket,
            source,
        };
        let socket = place.open_socket(SocketSpec::Route)?;
        bind(&socket, &SocketAddrNetlink::new(0, ROUTE_GROUPS))
            .map_err(|error| failed(error.into()))?;
        Ok(Self(PollableFd::new_readable(socket).map_err(failed)?))
    }

    /// Returns when a default route of either family has been added.
    pub async fn wait_for_default_route(&self) -> io::Result<()> {
        let mut buffer = vec![0; 65536];
        loop {
            let got = self
                .0
                .read_with(|fd| match recv(fd, &mut buffer, RecvFlags::DONTWAIT) {
                    Ok((got, _)) => Ok(got),
                    // Messages were dropped: what matters comes again with the other family, or the
                    // caller's time runs out.
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

/// Whether a batch of netlink messages holds an `RTM_NEWROUTE` for all destinations: a unicast
/// route with a destination of no bits, in the main table.
fn has_default_route(mut batch: &[u8]) -> bool {
    const NEW_ROUTE: u16 = 24;
    while let Some((header, rest)) = batch.split_first_chunk::<16>() {
        let [a, b, c, d, kind_low, kind_high, ..] = *header;
        let length = usize::try_from(u32::from_ne_bytes([a, b, c, d])).unwrap_or(0);
        let Some(body) = length.checked_sub(16).and_then(|length| rest.get(..length)) else {
            return false;
        };
        // rtmsg: family, destination's bits, source's bits, service, table, protocol, scope, type
        if u16::from_ne_bytes([kind_low, kind_high]) == NEW_ROUTE
            && let [_, 0, _, _, 254, _, _, 1, ..] = body
        {
            return true;
        }
        let next = body.len().next_multiple_of(4);
        batch = rest.get(next..).unwrap_or_default();
    }
    false
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
    fn only_a_new_default_route_of_the_main_table_counts() {
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
