// SPDX-License-Identifier: Apache-2.0
//! The rules of one sandbox, shared by the hub (answers) and the engine (connections).

use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use egress::{EgressPolicy, EgressVerdict};
use hub::{Claim, DecisionEnforcer};
use policy::{RuleSource, RuleTable, RuleTableFull, RuleVerdict};
use terok_clearance::{
    Action, DestPattern, DestZone, DisplayText, DomainName, EnforcementOutcome, HostPattern,
    PacketDest, PacketHost, PortRange, Protocol, RuleLifetime, Scope, Target, error_chain,
};
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::{TraceEvent, TraceObserver};

/// The rules of one sandbox. Clones share them.
#[derive(Debug, Clone)]
pub(super) struct DialedRules {
    state: Arc<Mutex<RulesState>>,
    changed: Arc<Notify>,
}

struct RulesState {
    table: RuleTable,
    observer: Option<TraceObserver>,
}

impl std::fmt::Debug for RulesState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { table, observer } = self;
        f.debug_struct("RulesState")
            .field("table", table)
            .field("observed", &observer.is_some())
            .finish()
    }
}

/// An answer that cannot become a rule.
#[derive(Debug, thiserror::Error)]
enum RuleError {
    #[error("the destination is neither an address nor a name")]
    Dest(#[from] terok_clearance::DestParseError),
    #[error("the scope cannot be a rule")]
    Pattern(#[from] terok_clearance::DestPatternError),
    #[error("the scope has another destination than the question")]
    DestMismatch,
    #[error("port 0 cannot be opened")]
    Port,
    #[error("a sandbox cannot keep a rule for a project or for always")]
    UnsupportedKeep,
    #[error(transparent)]
    Full(#[from] RuleTableFull),
}

impl DialedRules {
    /// Creates the rules of a sandbox from what is allowed at the start.
    pub(super) fn new(allowed: Vec<DestPattern>) -> Result<Self, RuleTableFull> {
        let mut table = RuleTable::new();
        for pattern in allowed {
            table.add(pattern, Action::Allow, None, RuleSource::Flag)?;
        }
        Ok(Self {
            state: Arc::new(Mutex::new(RulesState {
                table,
                observer: None,
            })),
            changed: Arc::new(Notify::new()),
        })
    }

    pub(super) fn set_observer(&self, observer: TraceObserver) {
        self.lock_state().observer = Some(observer);
    }

    pub(super) fn emit_trace(&self, event: TraceEvent<'_>) {
        if let Some(observer) = &mut self.lock_state().observer {
            observer(event);
        }
    }

    /// Returns the signal that the rules have changed.
    pub(super) fn changed(&self) -> Arc<Notify> {
        Arc::clone(&self.changed)
    }

    fn apply_claim(&self, claim: &Claim) -> Result<(), RuleError> {
        let scope = claim.scope();
        if scope.dest != *claim.dest() {
            return Err(RuleError::DestMismatch);
        }
        let pattern = scope_pattern(scope)?;
        let now = Instant::now().into_std();
        let expires = match (scope.keep, scope.seconds) {
            (RuleLifetime::Once, seconds) => Some(seconds.unwrap_or(Scope::ONCE_SECONDS)),
            (RuleLifetime::Sandbox, seconds) => seconds,
            (RuleLifetime::UntilRemoved | RuleLifetime::Project | RuleLifetime::Always, _) => {
                return Err(RuleError::UnsupportedKeep);
            }
        };
        let expires = expires.map(|seconds| now + Duration::from_secs(seconds.into()));
        let source = RuleSource::Decision {
            request: claim.request().clone(),
        };
        let mut state = self.lock_state();
        drop(state.table.expire(now));
        state.table.add(pattern, claim.action(), expires, source)?;
        Ok(())
    }

    fn lock_state(&self) -> MutexGuard<'_, RulesState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Returns the destinations that a scope covers.
fn scope_pattern(scope: &Scope) -> Result<DestPattern, RuleError> {
    let host = match scope.dest.parse_target()? {
        Target::Name(name) => HostPattern::Name(name),
        Target::Address(address) => HostPattern::Address(address),
    };
    let ports = match scope.port {
        None => None,
        Some(port) => Some(PortRange::new(port, port).ok_or(RuleError::Port)?),
    };
    Ok(DestPattern::new(host, ports, scope.protocol)?)
}

impl DecisionEnforcer for DialedRules {
    fn supports_ports(&self) -> bool {
        true
    }

    async fn enforce(&self, claim: Claim) -> EnforcementOutcome {
        let start = Instant::now();
        let (request, dest, action) = (claim.request(), claim.dest(), claim.action());
        match self.apply_claim(&claim) {
            Ok(()) => {
                self.emit_trace(TraceEvent::Enforced {
                    request,
                    dest,
                    action,
                    duration: start.elapsed(),
                });
                self.changed.notify_one();
                EnforcementOutcome::Applied
            }
            Err(error) => {
                let reason: DisplayText = error_chain(&error);
                self.emit_trace(TraceEvent::Refused {
                    request,
                    dest,
                    reason: &reason,
                });
                EnforcementOutcome::Failed(reason)
            }
        }
    }
}

impl EgressPolicy for DialedRules {
    fn decide(&self, dest: &PacketDest, zone: DestZone) -> EgressVerdict {
        let now = Instant::now().into_std();
        to_egress_verdict(self.lock_state().table.decide(dest, zone, now))
    }

    fn decide_address(
        &self,
        name: &DomainName,
        address: IpAddr,
        port: u16,
        protocol: Protocol,
        zone: DestZone,
    ) -> EgressVerdict {
        let now = Instant::now().into_std();
        let state = self.lock_state();
        let at = SocketAddr::new(address, port);
        if state.table.covers_address(name, at, protocol, zone, now) {
            return EgressVerdict::Allow;
        }
        let dest = PacketDest {
            host: PacketHost::Address(address),
            port,
            protocol,
        };
        to_egress_verdict(state.table.decide(&dest, zone, now))
    }

    fn allows_name(&self, name: &DomainName) -> bool {
        let now = Instant::now().into_std();
        self.lock_state().table.allows_name(name, now)
    }
}

const fn to_egress_verdict(verdict: RuleVerdict) -> EgressVerdict {
    match verdict {
        RuleVerdict::Allow(_) => EgressVerdict::Allow,
        RuleVerdict::Deny(_) => EgressVerdict::Deny,
        RuleVerdict::Ask => EgressVerdict::Ask,
        RuleVerdict::Floor => EgressVerdict::Floor,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scope_becomes_the_pattern_of_its_destination_alone() {
        let check = |dest: &str, port, protocol, expected: Option<&str>| {
            let scope = Scope {
                port,
                protocol,
                ..Scope::whole_dest(dest.parse().unwrap())
            };
            let pattern = scope_pattern(&scope)
                .ok()
                .map(|pattern| pattern.to_string());
            assert_eq!(pattern.as_deref(), expected, "{dest} {port:?}");
        };
        let tcp = Some(Protocol::TCP);
        check("a.example", Some(443), tcp, Some("a.example:443/tcp"));
        check("a.example", None, None, Some("a.example"));
        check("203.0.113.7", Some(53), None, Some("203.0.113.7:53"));
        check("2001:db8::7", Some(1), tcp, Some("[2001:db8::7]:1/tcp"));
        check(
            "a.example",
            None,
            Some(Protocol::ICMP),
            Some("a.example/icmp"),
        );
        check("a.example", Some(0), tcp, None);
        check("*.example", Some(443), tcp, None);
        check("10.0.0.0/8", None, None, None);
    }
}
