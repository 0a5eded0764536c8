// SPDX-License-Identifier: Apache-2.0
//! The rules as operators see them, and the explanation of a verdict.

use policy::{
    BootInstant, BypassRule, PolicyRule, RuleOrigin, RuleTable, RuleTerm, RuleUsage, RuleVerdict,
    TableRule,
};
use terok_clearance::wire::clearance2::{
    ExplainParameters, ExplainReply, ExplainVerdict, ListedRule, RuleCallError,
};
use terok_clearance::{
    Action, Dest, DestZone, DisplayText, PacketDest, PacketHost, Protocol, RuleLifetime, Target,
    classify_destination,
};

/// The port that is explained if none is given.
const DEFAULT_PORT: u16 = 443;

/// Returns the rules in the order of their additions.
pub(crate) fn list_rules(table: &RuleTable, now: BootInstant) -> Vec<ListedRule> {
    let rules = table
        .iter()
        .filter(|entry| entry.is_spent || entry.rule.is_live(now));
    let listed = rules.map(|entry| list_rule(entry, now));
    let bypass = table.bypass(now).map(|bypass| list_bypass(bypass, now));
    listed.chain(bypass).collect()
}

/// Checks that an operator may end a rule: those of the organisation are above all operators.
pub(crate) fn check_revocable(rule: &PolicyRule) -> Result<(), RuleCallError> {
    match rule.spec.origin {
        RuleOrigin::Organisation | RuleOrigin::Ceiling => {
            let reason = "the rule is the organisation's: only its policy file changes it";
            Err(RuleCallError::refused(reason))
        }
        _ => Ok(()),
    }
}

/// A destination to explain.
#[derive(Debug)]
pub(crate) struct ExplainedDest {
    pub(crate) dest: PacketDest,
    pub(crate) zone: DestZone,
}

impl ExplainedDest {
    /// Parses the parameters of a call.
    pub(crate) fn parse(asked: &ExplainParameters) -> Result<Self, RuleCallError> {
        let refused = |_error| {
            RuleCallError::refused("the destination is neither an address nor a host name")
        };
        let dest = Dest::new(asked.dest.as_str()).map_err(refused)?;
        let host = match dest.parse_target().map_err(refused)? {
            Target::Name(name) => PacketHost::Name(name),
            Target::Address(address) => PacketHost::Address(address),
        };
        let protocol = asked.protocol.unwrap_or(Protocol::TCP);
        let zone = match &host {
            PacketHost::Address(address) => classify_destination(*address, |_| false),
            PacketHost::Name(_) => DestZone::Public,
        };
        let dest = PacketDest {
            host,
            port: match protocol {
                Protocol::ICMP | Protocol::ICMPV6 => 0,
                _ => asked.port.unwrap_or(DEFAULT_PORT),
            },
            protocol,
        };
        Ok(Self { dest, zone })
    }

    /// Returns what the rules do with the destination.
    pub(crate) fn explain(&self, table: &RuleTable, now: BootInstant) -> ExplainReply {
        let Self { dest, zone } = self;
        let (verdict, deciding) = match table.decide(dest, *zone, now) {
            RuleVerdict::Allow(rule) => (ExplainVerdict::Allow, Some(rule)),
            RuleVerdict::Deny(rule) => (ExplainVerdict::Deny, Some(rule)),
            RuleVerdict::OutsideCeiling => (ExplainVerdict::OutsideCeiling, None),
            RuleVerdict::Ask => (ExplainVerdict::Ask, None),
            RuleVerdict::Floor => (ExplainVerdict::Floor, None),
        };
        let rule = deciding.and_then(|id| {
            let bypass = table.bypass(now).filter(|bypass| bypass.id == id);
            let of_table = table.get(id).map(|entry| list_rule(entry, now));
            of_table.or_else(|| bypass.map(|bypass| list_bypass(bypass, now)))
        });
        let covering = table.covering(dest, now).into_iter();
        let others = covering.filter(|rule| Some(rule.id) != deciding);
        let others = others.filter_map(|rule| Some(list_rule(table.get(rule.id)?, now)));
        ExplainReply {
            verdict,
            zone: zone.question_zone(),
            rule,
            others: others.collect(),
        }
    }
}

/// Returns a rule as operators see it.
pub(crate) fn list_rule(entry: &TableRule, now: BootInstant) -> ListedRule {
    ListedRule {
        uses: Some(entry.usage.count),
        last_used: entry.usage.last,
        open: entry.usage.open,
        spent: entry.is_spent,
        ..list_removed_rule(&entry.rule, now)
    }
}

/// Returns a rule as operators see it, without its uses.
pub(crate) fn list_removed_rule(rule: &PolicyRule, now: BootInstant) -> ListedRule {
    let spec = &rule.spec;
    let RuleUsage { count, last, open } = RuleUsage::default();
    ListedRule {
        rule: DisplayText::new(&rule.id.to_string()),
        action: spec.action,
        dest: DisplayText::new(&spec.pattern.to_string()),
        keep: lifetime(&spec.origin, spec.term),
        seconds_left: spec.term.end().map(|end| seconds_to(end, now)),
        origin: DisplayText::new(spec.origin.as_str()),
        origin_name: match &spec.origin {
            RuleOrigin::Profile { name } => Some(name.clone()),
            RuleOrigin::Decision { request } => Some(DisplayText::new(request.as_str())),
            _ => None,
        },
        by: spec.by.clone(),
        since: spec.since,
        uses: Some(count),
        last_used: last,
        open,
        spent: false,
    }
}

/// Returns the bypass as operators see it.
pub(crate) fn list_bypass(bypass: &BypassRule, now: BootInstant) -> ListedRule {
    ListedRule {
        rule: DisplayText::new(&bypass.id.to_string()),
        action: Action::Allow,
        dest: DisplayText::new("*"),
        keep: RuleLifetime::Sandbox,
        seconds_left: bypass.until.map(|end| seconds_to(end, now)),
        origin: DisplayText::new("bypass"),
        origin_name: None,
        by: bypass.by.clone(),
        since: bypass.since,
        uses: Some(bypass.usage.count),
        last_used: bypass.usage.last,
        open: bypass.usage.open,
        spent: false,
    }
}

const fn lifetime(origin: &RuleOrigin, term: RuleTerm) -> RuleLifetime {
    match (origin, term) {
        (RuleOrigin::Project, _) => RuleLifetime::Project,
        (RuleOrigin::Always, _) => RuleLifetime::Always,
        (_, RuleTerm::Once { .. }) => RuleLifetime::Once,
        _ => RuleLifetime::Sandbox,
    }
}

/// Returns the seconds to `end`, rounded up.
fn seconds_to(end: BootInstant, now: BootInstant) -> u64 {
    let left = end.saturating_since(now);
    let part = u64::from(left.subsec_nanos() > 0);
    left.as_secs().saturating_add(part)
}
