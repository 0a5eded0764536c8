// SPDX-License-Identifier: Apache-2.0
//! The configuration of an engine.

use std::sync::Arc;

use names::ForwarderConfig;
use tokio::sync::{Notify, mpsc, watch};

use super::AheadQuery;
use crate::hold_limit::HoldLimit;
use crate::{LiveConnections, ProxySettings};

/// The parts and settings of an engine.
#[derive(Debug)]
pub struct EgressConfig<P, N, D, S> {
    /// The rules.
    pub policy: Arc<P>,
    /// Notified when a rule was added or removed.
    pub rules_changed: Arc<Notify>,
    /// The lookup of allowed names.
    pub lookup: Arc<N>,
    /// The sockets outside.
    pub sockets: Arc<D>,
    /// The proxy of the operator's network.
    pub proxy: Option<ProxySettings>,
    /// The name server's settings.
    pub forwarder: ForwarderConfig,
    /// The time that connections wait for an answer.
    pub hold: HoldLimit,
    /// Connections to names are checked for the server name that they ask for.
    pub check_server_names: bool,
    /// The number of connected operators that answer.
    pub answerers: watch::Receiver<usize>,
    /// The number of questions that the operator's approver decides at the moment. A new question
    /// counts from the return of [`EgressSink::ask`](crate::EgressSink::ask).
    pub approver: Option<watch::Receiver<usize>>,
    /// Queries of programs in the sandbox.
    pub ahead: Option<mpsc::Receiver<AheadQuery>>,
    /// An operator is about to connect: connections of the first seconds wait for it.
    pub expects_operator: bool,
    /// The connections that exist outside.
    pub connections: LiveConnections,
    /// Receives questions and notices.
    pub sink: S,
}
