// SPDX-License-Identifier: Apache-2.0
//! Answers the DNS queries of a sandbox without a lookup that no rule allows.
//!
//! Lookups are a way out of a sandbox, because labels carry data. A query for a name that no rule
//! allows is therefore answered on this machine, with a stand-in address that belongs to that name
//! alone. The workload connects to it, and the connection becomes a question about the name.
//!
//! | part | contents |
//! |---|---|
//! | [`DnsForwarder`] | queries to replies; pure, except for the lookups it asks the caller for |
//! | [`StandInTable`] | names to stand-in addresses and back |
//! | [`DnsStreamDecoder`], [`serve_dns_stream`] | DNS messages in a TCP stream |
//! | [`NameLookup`] | lookups outside: by the host ([`HostResolver`]), at given name servers
//! ([`DnsResolver`]), by a map ([`StaticHosts`]) |
//! | [`read_search_domains`] | the search domains of a `resolv.conf` |
//!
//! `dns` alone handles bytes chosen by a sandbox: it does no I/O, never panics, and never allocates
//! by a length field.

#![cfg_attr(
    not(test),
    deny(
        clippy::arithmetic_side_effects,
        clippy::as_conversions,
        clippy::indexing_slicing,
        clippy::string_slice
    )
)]

mod dns;
mod dns_client;
mod dns_resolver;
mod forwarder;
mod host_resolver;
mod lookup;
mod resolv_conf;
mod stand_in;
mod stream_server;

pub use dns::stream::{DnsStreamDecoder, DnsStreamError, encode_stream_message};
pub use dns::{DNS_PORT, DnsTransport};
pub use dns_resolver::{DnsResolver, LookupSockets};
pub use forwarder::{
    DnsForwarder, ForwarderConfig, ForwarderNotice, NamePolicy, PendingLookup, QueryPlan,
};
pub use hickory_proto::rr::{Record, RecordType};
pub use host_resolver::{HostResolver, read_host_labels};
pub use lookup::{LookupFailure, LookupOutcome, LookupRequest, NameLookup, StaticHosts};
pub use resolv_conf::{parse_server_addresses, read_search_domains};
pub use stand_in::{StandInKey, StandInObserver, StandInTable, StandInsExhausted};
pub use stream_server::serve_dns_stream;
