// SPDX-License-Identifier: Apache-2.0
//! A hub of one sandbox whose firewall keeps its rules in a list, served by a thread.

use std::path::Path;
use std::sync::{Arc, Mutex, mpsc};
use std::thread::JoinHandle;

use hub::{Claim, DecisionEnforcer, Hub, HubOptions, ScopeOffer};
use serde_json::json;
use terok_clearance::socket::bind;
use terok_clearance::wire::clearance2::{
    BypassReply, ExplainParameters, ExplainReply, ExplainVerdict, ListedRule, RevokeReply,
    RuleCallError,
};
use terok_clearance::{
    Action, BlockedPacket, DisplayText, Dossier, EnforcementOutcome, NetworkZone, PreviousAnswer,
    Protocol, RuleLifetime, SandboxEvent, Timestamp,
};
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

const LIFETIMES: &[RuleLifetime] = &[
    RuleLifetime::Once,
    RuleLifetime::Sandbox,
    RuleLifetime::Project,
];

/// A firewall that remembers what it was told, and opens nothing.
#[derive(Debug, Default)]
struct ListedFirewall(Mutex<Vec<ListedRule>>);

impl ListedFirewall {
    fn add(&self, action: Action, dest: &str, changes: &serde_json::Value) -> ListedRule {
        let mut rules = self.0.lock().unwrap();
        let mut rule = json!({
            "rule": format!("r{}", rules.len() + 1), "action": action, "dest": dest,
            "keep": "sandbox", "origin": "decision", "by": "uid 1000",
            "since": Timestamp::now(), "uses": 2, "open": 2,
        });
        let fields = changes.as_object().unwrap().clone();
        rule.as_object_mut().unwrap().extend(fields);
        let rule: ListedRule = serde_json::from_value(rule).unwrap();
        rules.push(rule.clone());
        rule
    }
}

impl DecisionEnforcer for ListedFirewall {
    fn supports_ports(&self) -> bool {
        true
    }

    fn offered_scopes(&self) -> ScopeOffer {
        ScopeOffer {
            wider_names: true,
            lifetimes: LIFETIMES,
        }
    }

    async fn enforce(&self, claim: Claim) -> EnforcementOutcome {
        let request = DisplayText::new(claim.request().as_str());
        self.0
            .lock()
            .unwrap()
            .retain(|rule| rule.origin_name.as_ref() != Some(&request));
        let scope = claim.scope();
        let dest = format!("{}:{}/tcp", scope.dest, scope.port.unwrap());
        let changes = json!({
            "keep": scope.keep, "seconds_left": scope.seconds, "origin_name": request,
        });
        self.add(claim.action(), &dest, &changes);
        EnforcementOutcome::Applied
    }

    fn rules(&self) -> Result<Vec<ListedRule>, RuleCallError> {
        Ok(self.0.lock().unwrap().clone())
    }

    async fn revoke(
        &self,
        name: &DisplayText,
        _by: &DisplayText,
    ) -> Result<RevokeReply, RuleCallError> {
        let mut rules = self.0.lock().unwrap();
        let is_meant =
            |rule: &ListedRule| rule.rule == *name || rule.origin_name.as_ref() == Some(name);
        let (revoked, rest) = rules.drain(..).partition(is_meant);
        *rules = rest;
        let revoked: Vec<ListedRule> = revoked;
        if revoked.is_empty() {
            let rule = name.clone();
            return Err(RuleCallError::NoSuchRule { rule });
        }
        if revoked
            .iter()
            .any(|rule| rule.origin.as_str() == "organisation")
        {
            rules.extend(revoked);
            return Err(RuleCallError::refused("the organisation's rule stays"));
        }
        let ended = revoked.iter().map(|rule| rule.open).sum();
        Ok(RevokeReply {
            rules: revoked,
            ended,
        })
    }

    fn explain(&self, dest: &ExplainParameters) -> Result<ExplainReply, RuleCallError> {
        let text = format!("{}:{}/tcp", dest.dest, dest.port.unwrap_or(443));
        let mut covering: Vec<_> = self.0.lock().unwrap().clone();
        covering.retain(|rule| rule.dest.as_str() == text);
        covering.sort_by_key(|rule| rule.action == Action::Allow);
        let mut covering = covering.into_iter();
        let rule = covering.next();
        let verdict = match rule.as_ref().map(|rule| rule.action) {
            None => ExplainVerdict::Ask,
            Some(Action::Allow) => ExplainVerdict::Allow,
            Some(Action::Deny) => ExplainVerdict::Deny,
        };
        Ok(ExplainReply {
            verdict,
            zone: NetworkZone::Public,
            rule,
            others: covering.collect(),
        })
    }

    fn bypass(&self, seconds: u32, _by: &DisplayText) -> Result<BypassReply, RuleCallError> {
        if seconds == 0 {
            let rules = &mut self.0.lock().unwrap();
            let before = rules.len();
            rules.retain(|rule| rule.origin.as_str() != "bypass");
            return if before == rules.len() {
                Err(RuleCallError::refused("there is no bypass"))
            } else {
                Ok(BypassReply {
                    rule: None,
                    ended: 3,
                })
            };
        }
        let changes = json!({"origin": "bypass", "seconds_left": seconds});
        Ok(BypassReply {
            rule: Some(self.add(Action::Allow, "*", &changes)),
            ended: 0,
        })
    }
}

/// A hub that is served until this is dropped.
pub(crate) struct ScopedHub {
    hub: Arc<Hub<Arc<ListedFirewall>>>,
    firewall: Arc<ListedFirewall>,
    handle: tokio::runtime::Handle,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl ScopedHub {
    /// Serves a hub at the socket of a sandbox below a runtime directory.
    pub(crate) fn start(runtime: &Path, sandbox: &str) -> Self {
        let path = runtime.join(format!("terok/clearance/{sandbox}/hub.sock"));
        let firewall = Arc::new(ListedFirewall::default());
        let options = HubOptions {
            single_sandbox: true,
            ..HubOptions::default()
        };
        let hub = Hub::new(Arc::clone(&firewall), options);
        let served = Arc::clone(&hub);
        let (stop, stopped) = oneshot::channel();
        let (announce, ready) = mpsc::channel();
        let thread = std::thread::spawn(move || {
            let mut runtime = tokio::runtime::Builder::new_current_thread();
            let runtime = runtime.enable_all().build().unwrap();
            runtime.block_on(async {
                let listener = bind(&path).unwrap();
                announce.send(tokio::runtime::Handle::current()).unwrap();
                tokio::select! {
                    ended = hub::serve(served, listener, CancellationToken::new()) => {
                        ended.unwrap();
                    }
                    _ = stopped => {}
                }
            });
        });
        let handle = ready.recv().unwrap();
        Self {
            hub,
            firewall,
            handle,
            stop: Some(stop),
            thread: Some(thread),
        }
    }

    /// Asks a question about TCP port 443 of a name, as `web:NUMBER`.
    pub(crate) fn ask(&self, number: u32, name: &str, previous: Option<PreviousAnswer>) {
        let _inside = self.handle.enter();
        self.hub.report(SandboxEvent::Blocked(BlockedPacket {
            container: "web".parse().unwrap(),
            request: format!("web:{number}").parse().unwrap(),
            address: "203.0.113.7".parse().unwrap(),
            port: 443,
            protocol: Protocol::TCP,
            domain: Some(name.parse().unwrap()),
            dossier: Dossier::default(),
            process: None,
            zone: NetworkZone::Public,
            looked_up_as: None,
            previous: previous.map(Arc::new),
            reason: None,
        }));
    }

    /// Adds a rule that no answer made.
    pub(crate) fn add_rule(&self, action: Action, dest: &str, changes: &serde_json::Value) {
        self.firewall.add(action, dest, changes);
    }

    /// Returns each rule as `NAME ACTION DEST KEEP [SECONDS]`.
    pub(crate) fn rules(&self) -> Vec<String> {
        let rules = self.firewall.0.lock().unwrap();
        let describe = |rule: &ListedRule| {
            let seconds = rule.seconds_left.map(|left| format!(" {left}"));
            let (name, dest) = (&rule.rule, &rule.dest);
            format!(
                "{name} {} {dest} {}{}",
                rule.action,
                rule.keep,
                seconds.unwrap_or_default()
            )
        };
        rules.iter().map(describe).collect()
    }
}

impl Drop for ScopedHub {
    fn drop(&mut self) {
        self.stop = None;
        let served = self.thread.take().map(JoinHandle::join);
        assert!(std::thread::panicking() || matches!(served, Some(Ok(()))));
    }
}
