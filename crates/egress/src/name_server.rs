// SPDX-License-Identifier: Apache-2.0
//! The name server of a sandbox: the forwarder behind the gateway's sockets of port 53.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use names::{
    DnsForwarder, DnsTransport, ForwarderConfig, ForwarderNotice, LookupFailure, LookupOutcome,
    LookupRequest, NameLookup, NamePolicy, PendingLookup, QueryPlan, serve_dns_stream,
};
use terok_clearance::DomainName;
use tokio::net::TcpStream;

use crate::EgressPolicy;
use crate::dial::DialSockets;
use crate::engine::dialing::Dialer;

/// Answers the DNS queries of one sandbox.
#[derive(Debug)]
pub(crate) struct NameServer<P, N, D> {
    forwarder: Mutex<DnsForwarder>,
    dialer: Arc<Dialer<P, N, D>>,
    /// Set when a lookup failed because this process has too many open files.
    is_out_of_sockets: AtomicBool,
}

/// The rules, as the forwarder sees them.
struct AllowedNames<'a, P>(&'a P);

impl<P: EgressPolicy> NamePolicy for AllowedNames<'_, P> {
    fn is_allowed(&self, name: &DomainName) -> bool {
        self.0.allows_name(name)
    }
}

impl<P: EgressPolicy, N: NameLookup, D: DialSockets> NameServer<P, N, D> {
    pub(crate) fn new(config: ForwarderConfig, dialer: Arc<Dialer<P, N, D>>) -> Self {
        Self {
            forwarder: Mutex::new(DnsForwarder::new(config)),
            dialer,
            is_out_of_sockets: AtomicBool::new(false),
        }
    }

    /// Returns what to do with a query.
    pub(crate) fn plan(&self, query: &[u8], transport: DnsTransport) -> QueryPlan {
        let policy = AllowedNames(&*self.dialer.policy);
        self.lock_forwarder().plan(query, transport, &policy)
    }

    /// Runs a lookup and returns the reply.
    pub(crate) async fn finish(&self, pending: PendingLookup) -> Vec<u8> {
        let outcome = match pending.request() {
            // The proxy resolves the name; this network may not be able to.
            LookupRequest::Addresses(name) if self.dialer.is_proxied(name) => {
                LookupOutcome::Addresses(Ok(vec![Ipv4Addr::UNSPECIFIED.into()]))
            }
            request => {
                let outcome = request.resolve(&*self.dialer.lookup).await;
                self.check_sockets(outcome)
            }
        };
        self.lock_forwarder().finish(pending, outcome)
    }

    /// Returns the name that `address` stands in for.
    pub(crate) fn name_of(&self, address: IpAddr) -> Option<DomainName> {
        self.lock_forwarder().stand_ins().name_of(address).cloned()
    }

    /// Removes and returns the forwarder's notices.
    pub(crate) fn take_notices(&self) -> Vec<ForwarderNotice> {
        self.lock_forwarder().take_notices()
    }

    /// Returns `true` if a lookup has failed since the last call because this process has too many
    /// open files.
    pub(crate) fn take_out_of_sockets(&self) -> bool {
        self.is_out_of_sockets.swap(false, Ordering::Relaxed)
    }

    /// Returns a failure of the lookup, and notes it, if there was no socket for it: then it does
    /// not show that the name does not exist.
    fn check_sockets(&self, outcome: LookupOutcome) -> LookupOutcome {
        let has_failed = match &outcome {
            LookupOutcome::Addresses(found) => found.is_err(),
            LookupOutcome::Records(found) => found.is_err(),
        };
        if !has_failed || !self.dialer.is_out_of_sockets() {
            return outcome;
        }
        self.is_out_of_sockets.store(true, Ordering::Relaxed);
        let failure = LookupFailure::failed("too many open files");
        match outcome {
            LookupOutcome::Addresses(_) => LookupOutcome::Addresses(Err(failure)),
            LookupOutcome::Records(_) => LookupOutcome::Records(Err(failure)),
        }
    }

    /// Answers the queries of one TCP connection until its end, an error, or a pause.
    pub(crate) async fn serve_stream(self: Arc<Self>, stream: TcpStream) {
        serve_dns_stream(stream, |query| {
            let server = Arc::clone(&self);
            async move {
                match server.plan(&query, DnsTransport::Tcp) {
                    QueryPlan::Reply(reply) => Some(reply),
                    QueryPlan::Lookup(pending) => Some(server.finish(pending).await),
                    QueryPlan::Ignore => None,
                }
            }
        })
        .await;
    }

    fn lock_forwarder(&self) -> MutexGuard<'_, DnsForwarder> {
        self.forwarder
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests;
