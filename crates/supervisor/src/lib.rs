// SPDX-License-Identifier: Apache-2.0
//! The complete service of one sandbox: reader, hub and shield in one process and one thread.
//!
//! Packets go from the reader to the hub, answers from the hub to the shield, and looked-up
//! addresses to both: in memory and in this order. If the process dies, the kernel keeps the
//! default-deny ruleset.
//!
//! [`serve_classic_hub`] is the hub of the releases up to 0.6: one for every sandbox, without
//! reader and shield.

mod boot_clock;
mod classic_hub;
mod config;
mod dialed;
mod dossier_source;
mod hold_switch;
mod hold_table;
mod name_server;
mod reader_sink;
mod rule_listing;
mod sandbox_lookup;
mod sandbox_resolvers;
mod sandbox_service;
mod served_names;
mod shield_enforcer;
mod state_journal;
mod supervisor;
mod trace;
mod waiting;
mod who_asks;

pub use classic_hub::serve_classic_hub;
pub use config::{AllowedDest, AllowedDestError, FilteredPolicy, NameAccess, SupervisorConfig};
pub use dialed::{
    ApproverConfig, DialedConfig, DialedPolicy, DialedStartError, DialedSupervisor, EarlierAnswer,
    KeptAnswers, KeptPlace, KeptRule, LongestAnswer,
};
pub use dossier_source::DossierSource;
pub use egress::dial::HostSockets;
pub use egress::proxy::{ProxySettings, ProxyUrlError, ProxyVariableError};
pub use egress::publish::{PublishError, PublishSpec, PublishSpecError, PublishedPort};
pub use egress::{ClosedConnection, ConnectionEnd, EgressNotice, HoldLimit, LiveConnection};
pub use name_server::NameServerBindError;
pub use sandbox_resolvers::{
    ResolverRefusal, SandboxResolvers, SandboxResolversError, find_sandbox_resolvers,
};
pub use served_names::{NameServerConfig, SandboxLookup};
pub use state_journal::{StateJournal, StateNotRestored};
pub use supervisor::{
    FirewallBypass, Supervisor, SupervisorExit, SupervisorServeError, SupervisorStartError,
};
pub use trace::{RuleEnd, TraceEvent, TraceObserver};
