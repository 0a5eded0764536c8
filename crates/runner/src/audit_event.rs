// SPDX-License-Identifier: Apache-2.0
//! Makes entries of the record from the events of a supervisor, of both ways out.

use policy::{PolicyRule, RuleOrigin, RuleTerm};
use record::{
    AuditAnswer, AuditConnection, AuditConnectionEnd, AuditEvent, AuditNote, AuditOperator,
    AuditPosture, AuditQuestion, AuditRefusal, AuditRule, AuditRuleEnd, ConnectionEndReason,
    PostureChange, RefusalReason, RuleEndReason,
};
use supervisor::{
    ClosedConnection, ConnectionEnd, EgressNotice, LiveConnection, RuleEnd, TraceEvent,
};
use terok_clearance::{
    Action, Dest, DisplayText, NetworkZone, PacketDest, PacketHost, Protocol, RuleLifetime, Scope,
};

/// Returns the entry for an event; `None` for one that is not recorded.
pub(crate) fn to_audit_event(event: &TraceEvent<'_>) -> Option<AuditEvent> {
    Some(match event {
        TraceEvent::Asked(blocked) => AuditEvent::Asked(AuditQuestion {
            request: blocked.request.clone(),
            dest: blocked.dest().clone(),
            port: blocked.port,
            protocol: blocked.protocol,
            zone: blocked.zone,
            process: None,
            reason: blocked.reason.clone(),
        }),
        TraceEvent::Enforced {
            request,
            dest,
            action,
            scope,
            by,
            ..
        } => AuditEvent::Answered(AuditAnswer {
            request: Some((*request).clone()),
            dest: Some((*dest).clone()),
            pattern: Some(scope_text(scope)),
            keep: Some(scope.keep),
            seconds: scope.seconds,
            ok: true,
            reason: None,
            ..answer_by(*action, by)
        }),
        TraceEvent::Refused {
            request,
            dest,
            action,
            by,
            reason,
        } => AuditEvent::Answered(AuditAnswer {
            request: Some((*request).clone()),
            dest: Some((*dest).clone()),
            ok: false,
            reason: Some((*reason).clone()),
            ..answer_by(*action, by)
        }),
        TraceEvent::RuleAdded(rule) => AuditEvent::RuleAdded(AuditRule {
            rule: DisplayText::new(&rule.id.to_string()),
            pattern: DisplayText::new(&rule.spec.pattern.to_string()),
            action: rule.spec.action,
            origin: describe_origin(rule),
            keep: Some(rule_lifetime(rule)),
            seconds: None,
            by: (!rule.spec.by.is_empty()).then(|| parse_operator(&rule.spec.by)),
        }),
        TraceEvent::RuleEnded {
            rule,
            end,
            connections,
            by,
        } => AuditEvent::RuleEnded(AuditRuleEnd {
            connections_ended: u32::try_from(*connections).unwrap_or(u32::MAX),
            by: by.map(parse_operator),
            ..rule_end(&rule.rule, *end)
        }),
        TraceEvent::BypassOpened { by, seconds } => AuditEvent::Posture(AuditPosture {
            change: PostureChange::BypassOn,
            seconds: Some(*seconds),
            by: Some(parse_operator(by)),
        }),
        TraceEvent::BypassEnded(_) => AuditEvent::Posture(AuditPosture {
            change: PostureChange::BypassOff,
            seconds: None,
            by: None,
        }),
        TraceEvent::KeptUnreadable(reason) => AuditEvent::Note(AuditNote {
            text: DisplayText::new(&format!("a file of rules is not used: {reason}")),
        }),
        TraceEvent::Connected { connection, rule } => {
            AuditEvent::Connected(audit_connection(connection, *rule))
        }
        TraceEvent::Closed(closed) => AuditEvent::Closed(audit_end(closed)),
        TraceEvent::RuleRefused { dest, rule, count } => {
            let why = match rule.map(|rule| &rule.spec.origin) {
                Some(RuleOrigin::Organisation) => RefusalReason::OrganisationDeny,
                Some(_) => RefusalReason::Denied,
                None => RefusalReason::OrganisationCeiling,
            };
            AuditEvent::Refused(AuditRefusal {
                rule: rule.map(|rule| DisplayText::new(&rule.id.to_string())),
                detail: rule.map(describe_rule),
                count: u32::try_from(*count).unwrap_or(u32::MAX),
                ..refusal(dest, why)
            })
        }
        TraceEvent::Notice(notice) => return audit_notice(notice),
        _ => return None,
    })
}

/// Returns the end of a rule, without its connections and the operator.
fn rule_end(rule: &PolicyRule, end: RuleEnd) -> AuditRuleEnd {
    AuditRuleEnd {
        rule: DisplayText::new(&rule.id.to_string()),
        pattern: DisplayText::new(&rule.spec.pattern.to_string()),
        action: rule.spec.action,
        origin: describe_origin(rule),
        why: match end {
            RuleEnd::Expired => RuleEndReason::Expired,
            RuleEnd::Revoked => RuleEndReason::Revoked,
            RuleEnd::Used => RuleEndReason::Used,
            RuleEnd::Replaced => RuleEndReason::Replaced,
            other => RuleEndReason::from(other.as_str()),
        },
        connections_ended: 0,
        by: None,
    }
}

/// Returns an answer of an operator, without its scope and result.
fn answer_by(action: Action, by: &DisplayText) -> AuditAnswer {
    let approver = by.as_str().strip_prefix("approver ");
    let (approver, reason) = match approver.map(|text| text.split_once(": ").unwrap_or((text, "")))
    {
        None => (None, None),
        Some((name, reason)) => (
            Some(DisplayText::new(name)),
            (!reason.is_empty()).then(|| DisplayText::new(reason)),
        ),
    };
    AuditAnswer {
        request: None,
        dest: None,
        action: action.into(),
        pattern: None,
        keep: None,
        seconds: None,
        by: parse_operator(by),
        approver,
        approver_reason: reason,
        ok: false,
        reason: None,
    }
}

/// Reads the description of an operator, `uid 1000 pid 4321 (tui)`, as the hub writes it.
fn parse_operator(by: &DisplayText) -> AuditOperator {
    let mut words = by.as_str().split(' ');
    let mut number = |name: &str| {
        let mut rest = words.clone();
        if rest.next() != Some(name) {
            return None;
        }
        let number = rest.next()?.parse().ok()?;
        words = rest;
        Some(number)
    };
    let (uid, pid) = (number("uid"), number("pid"));
    let rest: Vec<_> = words.collect();
    let program = rest.join(" ");
    let program = program.trim_start_matches('(').trim_end_matches(')');
    AuditOperator {
        uid,
        pid,
        program: (!program.is_empty()).then(|| DisplayText::new(program)),
    }
}

fn describe_origin(rule: &PolicyRule) -> DisplayText {
    let word = rule.spec.origin.as_str();
    match &rule.spec.origin {
        RuleOrigin::Profile { name } => DisplayText::new(&format!("{word} {name}")),
        RuleOrigin::Decision { request } => DisplayText::new(&format!("{word} {request}")),
        _ => DisplayText::new(word),
    }
}

/// Returns the origin and the pattern of a rule: `profile npm: registry.npmjs.org:443/tcp`.
fn describe_rule(rule: &PolicyRule) -> DisplayText {
    let origin = describe_origin(rule);
    DisplayText::new(&format!("{origin}: {}", rule.spec.pattern))
}

const fn rule_lifetime(rule: &PolicyRule) -> RuleLifetime {
    match (&rule.spec.origin, rule.spec.term) {
        (RuleOrigin::Project, _) => RuleLifetime::Project,
        (RuleOrigin::Always, _) => RuleLifetime::Always,
        (_, RuleTerm::Once { .. }) => RuleLifetime::Once,
        _ => RuleLifetime::Sandbox,
    }
}

/// Returns a scope in the form of a pattern.
fn scope_text(scope: &Scope) -> DisplayText {
    let dest = scope.dest.as_str();
    let host = match (scope.port, dest.contains(':')) {
        (Some(_), true) => format!("[{dest}]"),
        _ => dest.to_owned(),
    };
    let port = scope
        .port
        .map_or_else(String::new, |port| format!(":{port}"));
    let protocol = scope.protocol;
    let protocol = protocol.map_or_else(String::new, |protocol| format!("/{protocol}"));
    DisplayText::new(&(host + &port + &protocol))
}

fn audit_connection(connection: &LiveConnection, rule: Option<&PolicyRule>) -> AuditConnection {
    let dialed = &connection.dialed;
    AuditConnection {
        connection: connection.id,
        dest: dest_of(&dialed.dest),
        port: dialed.dest.port,
        protocol: dialed.dest.protocol,
        address: (!dialed.is_proxied).then(|| dialed.address.ip()),
        rule: Some(DisplayText::new(&format!("r{}", dialed.rule.0))),
        origin: Some(rule.map_or_else(|| DisplayText::new("bypass"), describe_rule)),
    }
}

fn audit_end(closed: &ClosedConnection) -> AuditConnectionEnd {
    let dest = &closed.connection.dialed.dest;
    AuditConnectionEnd {
        connection: closed.connection.id,
        dest: dest_of(dest),
        port: dest.port,
        protocol: dest.protocol,
        bytes_out: closed.bytes_out,
        bytes_in: closed.bytes_in,
        millis: u64::try_from(closed.duration.as_millis()).unwrap_or(u64::MAX),
        why: match closed.end {
            ConnectionEnd::Closed if dest.protocol == Protocol::UDP => {
                ConnectionEndReason::IdleTimeout
            }
            ConnectionEnd::Closed => ConnectionEndReason::Finished,
            ConnectionEnd::Broken => ConnectionEndReason::Reset,
            ConnectionEnd::Revoked => ConnectionEndReason::RuleEnded,
            ConnectionEnd::SandboxEnded => ConnectionEndReason::SandboxEnded,
            other => ConnectionEndReason::from(other.as_str()),
        },
        process: None,
    }
}

/// Returns the entry for a refusal without a question.
fn audit_notice(notice: &EgressNotice) -> Option<AuditEvent> {
    let refused = |dest, why| Some(AuditEvent::Refused(refusal(dest, why)));
    let other = |dest, why: &str| refused(dest, RefusalReason::from(why));
    match notice {
        EgressNotice::Floor(dest) => refused(dest, RefusalReason::Floor),
        EgressNotice::OperatorProxy(dest) => other(dest, "operator-proxy"),
        EgressNotice::NobodyAnswers(dest) => refused(dest, RefusalReason::NobodyThere),
        EgressNotice::HoldEnded(dest) => refused(dest, RefusalReason::HoldEnded),
        EgressNotice::OutOfSockets(dest) => refused(dest, RefusalReason::LimitReached),
        EgressNotice::ServerNameUnreadable(dest) => other(dest, "server-name-unreadable"),
        EgressNotice::ServerNameMismatch { dest, found } => {
            Some(AuditEvent::Refused(AuditRefusal {
                detail: Some(found.clone()),
                ..refusal(dest, RefusalReason::from("server-name-mismatch"))
            }))
        }
        EgressNotice::RecordRefused { name, record_type } => {
            let dest = PacketDest {
                host: PacketHost::Name(name.clone()),
                port: 0,
                protocol: Protocol::UDP,
            };
            Some(AuditEvent::Refused(AuditRefusal {
                detail: Some(DisplayText::new(record_type)),
                ..refusal(&dest, RefusalReason::from("lookup-refused"))
            }))
        }
        _ => None,
    }
}

fn refusal(dest: &PacketDest, why: RefusalReason) -> AuditRefusal {
    AuditRefusal {
        dest: dest_of(dest),
        port: dest.port,
        protocol: dest.protocol,
        zone: NetworkZone::Public,
        address: None,
        why,
        rule: None,
        detail: None,
        count: 1,
    }
}

fn dest_of(dest: &PacketDest) -> Dest {
    match &dest.host {
        PacketHost::Name(name) => Dest::from(name),
        PacketHost::Address(address) => Dest::from(*address),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_operator_is_read_as_the_hub_writes_it() {
        let check = |text: &str, uid, pid, program: Option<&str>| {
            let expected = AuditOperator {
                uid,
                pid,
                program: program.map(DisplayText::new),
            };
            assert_eq!(parse_operator(&text.into()), expected, "{text}");
        };
        check("uid 1000 pid 7 (tui)", Some(1000), Some(7), Some("tui"));
        check("uid 0 pid 7", Some(0), Some(7), None);
        check("uid 1000", Some(1000), None, None);
        check(
            "approver check.py: known host",
            None,
            None,
            Some("approver check.py: known host"),
        );
        check("", None, None, None);
    }

    #[test]
    fn an_approver_and_its_reason_are_told_apart() {
        let answer = answer_by(Action::Deny, &"approver check.py: a tracker".into());
        assert_eq!(answer.approver, Some("check.py".into()));
        assert_eq!(answer.approver_reason, Some("a tracker".into()));
        assert_eq!(answer_by(Action::Deny, &"uid 1".into()).approver, None);
    }

    #[test]
    fn a_scope_has_the_form_of_a_pattern() {
        let scope = |dest: &str, port, protocol| Scope {
            port,
            protocol,
            ..Scope::whole_dest(dest.parse().unwrap())
        };
        let tcp = Some(Protocol::TCP);
        for (scope, expected) in [
            (scope("*.a.example", Some(443), tcp), "*.a.example:443/tcp"),
            (
                scope("2001:db8::1", Some(443), tcp),
                "[2001:db8::1]:443/tcp",
            ),
            (scope("2001:db8::1", None, None), "2001:db8::1"),
        ] {
            assert_eq!(scope_text(&scope).as_str(), expected);
        }
    }
}
