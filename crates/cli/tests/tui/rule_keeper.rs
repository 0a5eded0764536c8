// SPDX-License-Identifier: Apache-2.0
//! A live hub whose firewall keeps a list of rules.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};

use hub::{Claim, DecisionEnforcer, Hub, HubOptions, ScopeOffer};
use serde_json::json;
use terok_clearance::socket::{self, RuntimeDir, SocketLayout};
use terok_clearance::wire::clearance2::{ListedRule, RevokeReply, RuleCallError};
use terok_clearance::{
    BlockedPacket, DisplayText, EnforcementOutcome, NetworkZone, Protocol, RuleLifetime,
    SandboxEvent,
};
use tokio_util::sync::CancellationToken;

use crate::session::Session;

/// A firewall that offers every scope. Two connections exist because of each rule.
#[derive(Debug, Default, Clone)]
pub(crate) struct RuleKeeper {
    rules: Arc<Mutex<Vec<ListedRule>>>,
}

impl RuleKeeper {
    /// Returns the rules in force.
    pub(crate) fn rules_in_force(&self) -> Vec<ListedRule> {
        self.rules.lock().unwrap().clone()
    }
}

impl DecisionEnforcer for RuleKeeper {
    fn supports_ports(&self) -> bool {
        true
    }

    fn offered_scopes(&self) -> ScopeOffer {
        ScopeOffer {
            wider_names: true,
            lifetimes: &[
                RuleLifetime::Once,
                RuleLifetime::Sandbox,
                RuleLifetime::Project,
                RuleLifetime::Always,
            ],
        }
    }

    async fn enforce(&self, claim: Claim) -> EnforcementOutcome {
        let scope = claim.scope();
        let rule = json!({
            "rule": "r1", "action": claim.action(), "dest": format!("{}:443/tcp", scope.dest),
            "keep": scope.keep, "seconds_left": scope.seconds, "origin": "decision",
            "origin_name": claim.request(), "by": claim.by(), "since": 1_795_351_327_000_000_u64,
            "uses": 2, "open": 2,
        });
        let rule = serde_json::from_value(rule).unwrap();
        self.rules.lock().unwrap().push(rule);
        EnforcementOutcome::Applied
    }

    fn rules(&self) -> Result<Vec<ListedRule>, RuleCallError> {
        Ok(self.rules_in_force())
    }

    async fn revoke(
        &self,
        name: &DisplayText,
        _by: &DisplayText,
    ) -> Result<RevokeReply, RuleCallError> {
        let mut rules = self.rules.lock().unwrap();
        let ends = |rule: &mut ListedRule| rule.rule == *name;
        let rules: Vec<_> = rules.extract_if(.., ends).collect();
        match rules.as_slice() {
            [] => Err(RuleCallError::NoSuchRule { rule: name.clone() }),
            _ => Ok(RevokeReply {
                ended: rules.iter().map(|rule| rule.open).sum(),
                rules,
            }),
        }
    }
}

/// Returns the report of a blocked packet.
pub(crate) fn blocked(number: u32, name: &str, address: &str) -> SandboxEvent {
    let known = [("project", "warp"), ("task", "build-42"), ("name", "web")];
    let known: BTreeMap<_, _> = known.map(|(key, value)| (key.into(), value.into())).into();
    SandboxEvent::Blocked(BlockedPacket {
        container: "web".parse().unwrap(),
        request: format!("web:{number}").parse().unwrap(),
        address: address.parse::<IpAddr>().unwrap().into(),
        port: 443,
        protocol: Protocol::TCP,
        domain: Some(name.parse().unwrap()),
        dossier: Arc::new(known),
        process: None,
        zone: NetworkZone::Public,
        looked_up_as: None,
        previous: None,
        reason: None,
    })
}

/// A hub of the sandbox `web`, served by a thread until dropped.
pub(crate) struct LiveHub {
    stop: CancellationToken,
    serving: Option<JoinHandle<()>>,
}

impl LiveHub {
    /// Starts a hub with these questions, in the runtime directory of the session.
    pub(crate) fn start(session: &Session, keeper: RuleKeeper, asked: Vec<SandboxEvent>) -> Self {
        let runtime = RuntimeDir::new(session.runtime());
        let stop = CancellationToken::new();
        let halt = stop.clone();
        let (tell, told) = std::sync::mpsc::channel();
        let serving = thread::spawn(move || {
            let tokio = tokio::runtime::Builder::new_current_thread();
            let tokio = { tokio }.enable_all().build().unwrap();
            tokio.block_on(async {
                let path = runtime
                    .sandbox_sockets(&"web".parse().unwrap(), SocketLayout::D)
                    .hub;
                let listener = socket::bind(&path).unwrap();
                let hub = Hub::new(keeper, HubOptions::default());
                hub.report_all(asked);
                tell.send(()).unwrap();
                hub::serve(hub, listener, halt).await.unwrap();
            });
        });
        told.recv().unwrap();
        Self {
            stop,
            serving: Some(serving),
        }
    }
}

impl Drop for LiveHub {
    fn drop(&mut self) {
        self.stop.cancel();
        let ended = self.serving.take().map(JoinHandle::join);
        assert!(thread::panicking() || ended.is_none_or(|ended| ended.is_ok()));
    }
}
