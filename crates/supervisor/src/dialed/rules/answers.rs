// SPDX-License-Identifier: Apache-2.0
//! Answers become rules, and rules are revoked.

use std::sync::Arc;

use hub::{Claim, DecisionEnforcer, ScopeOffer};
use policy::{
    BootInstant, PolicyRule, RuleId, RuleOrigin, RuleSpec, RuleTableFull, RuleTerm, RuleTier,
    RuleVerdict, TableRule,
};
use terok_clearance::wire::clearance2::{
    BypassReply, ExplainParameters, ExplainReply, ListedRule, RevokeReply, RuleCallError,
};
use terok_clearance::{
    Action, Dest, DestPattern, DestPatternError, DestZone, DisplayText, DomainName,
    EnforcementOutcome, HostPattern, PacketDest, PacketHost, PortRange, PreviousAnswer,
    RuleLifetime, Scope, Target, Timestamp, error_chain,
};
use tokio::time::Instant;

use super::{DialedRules, RulesState};
use crate::boot_clock::boot_now;
use crate::dialed::kept::{KeptPlace, KeptRule, LongestAnswer};
use crate::{RuleEnd, TraceEvent, rule_listing};

/// An answer that cannot become a rule.
#[derive(Debug, thiserror::Error)]
pub(super) enum RuleError {
    #[error("the destination is neither an address nor a name")]
    Dest(#[from] terok_clearance::DestParseError),
    #[error("the scope cannot be a rule")]
    Pattern(#[from] DestPatternError),
    #[error("port 0 cannot be opened")]
    Port,
    #[error("answers of this lifetime are not offered here")]
    UnsupportedKeep,
    #[error("the organisation's policy does not permit answers that last so long")]
    TooLong,
    #[error("rule {rule} ({origin}: !{pattern}) denies the destination; revoke it first")]
    Denied {
        rule: RuleId,
        origin: &'static str,
        pattern: DestPattern,
    },
    #[error("the organisation's policy does not permit the destination")]
    OutsideCeiling,
    #[error("nothing opens the destination")]
    Floor,
    #[error("the file of kept answers was not changed: {0}")]
    File(DisplayText),
    #[error(transparent)]
    Full(#[from] RuleTableFull),
}

/// What an answer changes.
struct PlannedRule {
    pattern: DestPattern,
    action: Action,
    keep: RuleLifetime,
    seconds: Option<u32>,
    dest: PacketDest,
    zone: DestZone,
}

impl PlannedRule {
    fn of_claim(claim: &Claim) -> Result<Self, RuleError> {
        let scope = claim.scope();
        Ok(Self {
            pattern: scope_pattern(scope)?,
            action: claim.action(),
            keep: scope.keep,
            seconds: scope.seconds,
            dest: PacketDest {
                host: match claim.dest().parse_target()? {
                    Target::Name(name) => PacketHost::Name(name),
                    Target::Address(address) => PacketHost::Address(address),
                },
                port: claim.port(),
                protocol: claim.protocol(),
            },
            zone: claim.zone().into(),
        })
    }

    fn place(&self) -> Option<KeptPlace> {
        KeptPlace::of_lifetime(self.keep)
    }

    /// Returns `true` for a rule that the new one replaces.
    fn replaces(&self, rule: &PolicyRule) -> bool {
        let spec = &rule.spec;
        let of_file = KeptPlace::of_origin(&spec.origin);
        spec.pattern == self.pattern
            && (matches!(spec.origin, RuleOrigin::Decision { .. })
                || (of_file.is_some() && of_file == self.place()))
    }

    /// Checks that an allow takes effect: a deny of higher rank would make it void.
    fn check_effect(&self, state: &RulesState, now: BootInstant) -> Result<(), RuleError> {
        if self.action == Action::Deny {
            return Ok(());
        }
        match state.table.decide(&self.dest, self.zone, now) {
            RuleVerdict::Floor => return Err(RuleError::Floor),
            RuleVerdict::OutsideCeiling => return Err(RuleError::OutsideCeiling),
            RuleVerdict::Allow(_) | RuleVerdict::Ask => return Ok(()),
            RuleVerdict::Deny(_) => {}
        }
        let covering = state.table.covering(&self.dest, now);
        let denies = |rule: &&Arc<PolicyRule>| {
            matches!(rule.tier(), RuleTier::OrganisationDeny | RuleTier::Deny)
        };
        let mut denies = covering.iter().filter(denies);
        match denies.find(|rule| !self.replaces(rule)) {
            None => Ok(()),
            Some(rule) => Err(RuleError::Denied {
                rule: rule.id,
                origin: rule.spec.origin.as_str(),
                pattern: rule.spec.pattern.clone(),
            }),
        }
    }
}

impl DialedRules {
    /// Makes the rule of an answer.
    async fn apply_claim(&self, claim: &Claim) -> Result<(), RuleError> {
        let planned = PlannedRule::of_claim(claim)?;
        let policy = &self.shared.policy;
        if !policy.longest_answer.permits(planned.keep, planned.seconds) {
            return Err(RuleError::TooLong);
        }
        planned.check_effect(&self.lock_state(), boot_now())?;
        let replaced = match planned.place() {
            None if planned.keep == RuleLifetime::UntilRemoved => {
                return Err(RuleError::UnsupportedKeep);
            }
            None => self.add_decision(claim, &planned)?,
            Some(place) => {
                let rule = KeptRule {
                    action: planned.action,
                    pattern: planned.pattern.clone(),
                };
                let comment = format!("{}, {}", claim.request(), claim.by());
                self.keep_rule(place, rule, comment).await?;
                let mut state = self.lock_state();
                state.table.remove_decisions(&planned.pattern)
            }
        };
        self.finish_rules(&replaced, RuleEnd::Replaced, Some(claim.by()));
        Ok(())
    }

    /// Adds the rule of an answer that does not outlast the sandbox. Returns the replaced rules.
    fn add_decision(
        &self,
        claim: &Claim,
        planned: &PlannedRule,
    ) -> Result<Vec<TableRule>, RuleError> {
        let scope = claim.scope();
        let (now, since) = (boot_now(), Timestamp::now());
        let spec = RuleSpec {
            pattern: planned.pattern.clone(),
            action: planned.action,
            term: RuleTerm::of_scope(scope, now),
            origin: RuleOrigin::Decision {
                request: claim.request().clone(),
            },
            by: claim.by().clone(),
            since,
        };
        let (replaced, added) = {
            let mut state = self.lock_state();
            let replaced = state.table.remove_decisions(&spec.pattern);
            let id = match state.table.add(spec) {
                Ok(id) => id,
                Err(error) => {
                    for rule in replaced {
                        state.table.add(rule.rule.spec.clone())?;
                    }
                    return Err(error.into());
                }
            };
            state.previous.remove(&planned.pattern);
            let answer = PreviousAnswer {
                action: planned.action,
                by: claim.by().clone(),
                at: since,
                keep: scope.keep,
                seconds: scope.seconds,
                revoked: false,
            };
            state.answers.insert(id, answer);
            let added = state.table.get(id).map(|entry| Arc::clone(&entry.rule));
            (replaced, added)
        };
        if let Some(rule) = added {
            self.emit_trace(TraceEvent::RuleAdded(&rule));
        }
        Ok(replaced)
    }

    /// Revokes the rules with a name, `r12` or the id of a question.
    async fn revoke_rules(
        &self,
        name: &DisplayText,
        by: &DisplayText,
    ) -> Result<RevokeReply, RuleCallError> {
        let is_named = |rule: &PolicyRule| match &rule.spec.origin {
            RuleOrigin::Decision { request } if request.as_str() == name.as_str() => true,
            _ => name.as_str().parse() == Ok(rule.id),
        };
        if let Some(reply) = self.revoke_bypass(name, by) {
            return Ok(reply);
        }
        let found: Vec<_> = {
            let state = self.lock_state();
            let rules = state.table.iter().map(|entry| Arc::clone(&entry.rule));
            rules.filter(|rule| is_named(rule)).collect()
        };
        let mut listed = Vec::new();
        let mut removed = Vec::new();
        for rule in &found {
            rule_listing::check_revocable(rule)?;
            let entry = match KeptPlace::of_origin(&rule.spec.origin) {
                Some(place) => {
                    let kept = KeptRule {
                        action: rule.spec.action,
                        pattern: rule.spec.pattern.clone(),
                    };
                    let forgotten = self.forget_rule(place, kept, rule.id).await;
                    forgotten.map_err(|error| RuleCallError::refused(&error.to_string()))?
                }
                None => self.lock_state().table.remove(rule.id),
            };
            listed.push(match &entry {
                Some(entry) => rule_listing::list_rule(entry, boot_now()),
                None => rule_listing::list_removed_rule(rule, boot_now()),
            });
            removed.extend(entry);
        }
        if found.is_empty() {
            return Err(RuleCallError::NoSuchRule { rule: name.clone() });
        }
        let ended = self.finish_rules(&removed, RuleEnd::Revoked, Some(by));
        tracing::info!(rule = %name, %by, ended, "a rule was revoked");
        Ok(RevokeReply {
            rules: listed,
            ended,
        })
    }

    fn revoke_bypass(&self, name: &DisplayText, by: &DisplayText) -> Option<RevokeReply> {
        let (bypass, listed) = {
            let mut state = self.lock_state();
            let bypass = state.table.bypass(boot_now())?;
            if name.as_str().parse() != Ok(bypass.id) {
                return None;
            }
            let listed = rule_listing::list_bypass(bypass, boot_now());
            (state.table.close_bypass()?, listed)
        };
        let ended = self.check_connections();
        tracing::info!(%by, ended, "the bypass was revoked");
        self.emit_trace(TraceEvent::BypassEnded(&bypass));
        Some(RevokeReply {
            rules: vec![listed],
            ended,
        })
    }

    fn change_bypass(&self, seconds: u32, by: &DisplayText) -> Result<BypassReply, RuleCallError> {
        if seconds == 0 {
            let name = {
                let state = self.lock_state();
                let bypass = state.table.bypass(boot_now());
                bypass.map(|bypass| DisplayText::new(&bypass.id.to_string()))
            };
            let revoked = name.and_then(|name| self.revoke_bypass(&name, by));
            return Ok(BypassReply {
                rule: None,
                ended: revoked.map_or(0, |revoked| revoked.ended),
            });
        }
        if !self.shared.policy.allows_bypass {
            let reason = "the organisation's policy does not permit to open the internet";
            return Err(RuleCallError::refused(reason));
        }
        let now = boot_now();
        let until = now.saturating_add(std::time::Duration::from_secs(seconds.into()));
        let listed = {
            let mut state = self.lock_state();
            let opened = state
                .table
                .open_bypass(Some(until), by.clone(), Timestamp::now());
            opened.map_err(|error| RuleCallError::refused(&error.to_string()))?;
            let bypass = state.table.bypass(now);
            bypass.map(|bypass| rule_listing::list_bypass(bypass, now))
        };
        tracing::warn!(%by, seconds, "the internet is open, except for what rules deny");
        self.emit_trace(TraceEvent::BypassOpened { by, seconds });
        self.check_connections();
        Ok(BypassReply {
            rule: listed,
            ended: 0,
        })
    }
}

/// Returns the destinations that a scope covers.
pub(super) fn scope_pattern(scope: &Scope) -> Result<DestPattern, RuleError> {
    let host = scope_host(&scope.dest)?;
    let ports = match scope.port {
        None => None,
        Some(port) => Some(PortRange::new(port, port).ok_or(RuleError::Port)?),
    };
    Ok(DestPattern::new(host, ports, scope.protocol)?)
}

/// Returns the hosts of a scope: a name, an address, or `*.NAME` for one of the wider names that
/// the hub offers.
fn scope_host(dest: &Dest) -> Result<HostPattern, RuleError> {
    if let Some(parent) = dest.as_str().strip_prefix("*.") {
        return Ok(HostPattern::Subdomains(parent.parse::<DomainName>()?));
    }
    Ok(match dest.parse_target()? {
        Target::Name(name) => HostPattern::Name(name),
        Target::Address(address) => HostPattern::Address(address),
    })
}

impl DecisionEnforcer for DialedRules {
    fn supports_ports(&self) -> bool {
        true
    }

    fn offered_scopes(&self) -> ScopeOffer {
        use RuleLifetime::{Always, Once, Project, Sandbox};
        let policy = &self.shared.policy;
        let lifetimes: &[_] = match (policy.longest_answer, &policy.kept) {
            (LongestAnswer::Once, _) => &[Once],
            (LongestAnswer::Seconds(_) | LongestAnswer::Run, _) | (_, None) => &[Once, Sandbox],
            (LongestAnswer::Project, Some(_)) => &[Once, Sandbox, Project],
            (LongestAnswer::Always, Some(_)) => &[Once, Sandbox, Project, Always],
        };
        ScopeOffer {
            wider_names: true,
            lifetimes,
        }
    }

    async fn enforce(&self, claim: Claim) -> EnforcementOutcome {
        let start = Instant::now();
        let applied = self.apply_claim(&claim).await;
        let duration = start.elapsed();
        match applied {
            Ok(()) => {
                self.emit_trace(TraceEvent::Enforced {
                    request: claim.request(),
                    dest: claim.dest(),
                    action: claim.action(),
                    scope: claim.scope(),
                    by: claim.by(),
                    duration,
                });
                EnforcementOutcome::Applied
            }
            Err(error) => {
                let reason: DisplayText = error_chain(&error);
                self.emit_trace(TraceEvent::Refused {
                    request: claim.request(),
                    dest: claim.dest(),
                    action: claim.action(),
                    by: claim.by(),
                    reason: &reason,
                });
                EnforcementOutcome::Failed(reason)
            }
        }
    }

    fn rules(&self) -> Result<Vec<ListedRule>, RuleCallError> {
        Ok(self.list_rules())
    }

    async fn revoke(
        &self,
        rule: &DisplayText,
        by: &DisplayText,
    ) -> Result<RevokeReply, RuleCallError> {
        self.revoke_rules(rule, by).await
    }

    fn explain(&self, dest: &ExplainParameters) -> Result<ExplainReply, RuleCallError> {
        self.explain_dest(dest)
    }

    fn bypass(&self, seconds: u32, by: &DisplayText) -> Result<BypassReply, RuleCallError> {
        self.change_bypass(seconds, by)
    }
}
