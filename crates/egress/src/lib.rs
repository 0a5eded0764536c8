// SPDX-License-Identifier: Apache-2.0
//! Turns an allowed connection of a sandbox into one dialed from outside.
//!
//! [`dial`] and [`proxy`] open the outside connection, [`relay`] moves its bytes, and
//! [`packet_build`] makes the packets that a sandbox sees: replayed SYNs, resets, ICMP errors and
//! datagrams. [`ping`] asks an address on behalf of a sandbox. [`server_name`] finds the name in
//! the first bytes of a connection. These modules know neither namespaces nor rules. [`publish`]
//! connects clients outside with servers in a sandbox.

#![cfg_attr(
    not(test),
    deny(
        clippy::arithmetic_side_effects,
        clippy::as_conversions,
        clippy::indexing_slicing,
        clippy::string_slice
    )
)]

pub mod dial;
mod engine;
mod flow_activity;
mod gateway_sockets;
mod held_connections;
mod hold_limit;
mod live_connections;
mod loopback_dns;
mod name_server;
pub mod packet_build;
pub mod ping;
mod policy;
pub mod proxy;
pub mod publish;
mod question_rate;
pub mod relay;
pub mod server_name;
#[cfg(test)]
mod test_parts;
mod told_notices;

pub use engine::{
    AheadAnswer, AheadQuery, EgressConfig, EgressEngine, EgressError, is_dialed_protocol,
};
pub use gateway_sockets::{EgressSockets, GatewaySockets, GatewaySocketsError};
pub use held_connections::MAX_HELD_CONNECTIONS;
pub use hold_limit::{HoldLimit, HoldLimitError};
pub use live_connections::{
    ClosedConnection, ConnectionEnd, DialedConnection, LiveConnection, LiveConnections,
};
pub use loopback_dns::LoopbackDns;
pub use policy::{
    AddressVerdict, EgressNotice, EgressPolicy, EgressQuestion, EgressSink, EgressVerdict,
    HeldCount, RuleTag,
};
pub use proxy::ProxySettings;
