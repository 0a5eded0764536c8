// SPDX-License-Identifier: Apache-2.0
//! Reads from the record how destinations were answered in earlier runs of the project.

use std::collections::{BTreeSet, HashMap};
use std::path::Path;
use std::sync::Arc;

use record::{
    AuditAnswer, AuditEvent, AuditOperator, LastLines, ReadRecordError, RecordFilter,
    RuleEndReason, may_have_zone, parse_line, scan_pattern,
};
use store::ProjectPath;
use supervisor::EarlierAnswer;
use terok_clearance::{
    Action, DecisionAction, DestPattern, DisplayText, NetworkZone, PreviousAnswer, RequestId,
    RuleLifetime, Timestamp,
};

/// The part of the record that is read, from its end.
const MAX_BYTES: u64 = 8 << 20;
const MAX_LINES: usize = 20_000;
/// Maximum answers.
const MAX_ANSWERS: usize = 1_024;

/// Reads the last answers about each destination, the newest first. A record that cannot be read
/// has none.
pub(crate) fn read_earlier_answers(record: &Path, project: &ProjectPath) -> Vec<EarlierAnswer> {
    match LastLines::read(record, MAX_BYTES) {
        Ok(lines) => {
            let lines: Vec<_> = lines.newest_first().take(MAX_LINES).collect();
            collect_answers(&lines, project.as_path())
        }
        Err(ReadRecordError::Missing(_)) => Vec::new(),
        Err(error) => {
            tracing::warn!(%error, "earlier answers are not shown: the record cannot be read");
            Vec::new()
        }
    }
}

/// Returns the last answers about each destination from these lines, the newest first.
fn collect_answers(newest_first: &[&[u8]], project: &Path) -> Vec<EarlierAnswer> {
    let of_project = RecordFilter::default().project(&project.to_string_lossy());
    let answers = of_project.clone().kind("answered").kind("rule_ended");
    let questions = of_project.kind("asked");
    let mut found = FoundAnswers::default();
    // Most answers are about a few destinations, and only the last one of each counts.
    let mut known = BTreeSet::new();
    for line in newest_first {
        if found.answers.len() >= MAX_ANSWERS {
            break;
        }
        let is_wanted = if answers.selects(line) {
            scan_pattern(line).is_none_or(|pattern| !known.contains(pattern))
        } else {
            // Most questions are about the internet.
            may_have_zone(line) && questions.selects(line)
        };
        if !is_wanted {
            continue;
        }
        let Ok(entry) = parse_line(line) else {
            continue;
        };
        match entry.event {
            Some(AuditEvent::Answered(answer)) => {
                let is_last = found.push(answer, entry.time);
                known.extend(scan_pattern(line).filter(|_| is_last));
            }
            Some(AuditEvent::Asked(question)) if !question.zone.is_public() => {
                found.set_zone(&question.request, question.zone);
            }
            Some(AuditEvent::RuleEnded(end)) if end.why == RuleEndReason::Revoked => {
                let request = end.origin.as_str().strip_prefix("decision ");
                found.revoked.extend(request.map(str::to_owned));
            }
            _ => {}
        }
    }
    found.answers
}

#[derive(Default)]
struct FoundAnswers {
    answers: Vec<EarlierAnswer>,
    known: BTreeSet<DestPattern>,
    /// The place of the answer to each question.
    of_requests: HashMap<RequestId, usize>,
    /// The questions whose answers were revoked later.
    revoked: BTreeSet<String>,
}

impl FoundAnswers {
    /// Adds an answer, unless it made no rule. Returns `true` if older ones about the same
    /// destinations do not count.
    fn push(&mut self, answer: AuditAnswer, at: Timestamp) -> bool {
        let action = match answer.action {
            DecisionAction::Allow => Action::Allow,
            DecisionAction::Deny => Action::Deny,
            DecisionAction::Dismiss => return false,
        };
        let pattern = answer.pattern.and_then(|text| text.as_str().parse().ok());
        let (true, Some(pattern)) = (answer.ok, pattern) else {
            return false;
        };
        if !self.known.insert(DestPattern::clone(&pattern)) {
            return true;
        }
        let keep = answer.keep.unwrap_or_default();
        let request = answer.request;
        let was_revoked = request
            .as_ref()
            .is_some_and(|request| self.revoked.contains(request.as_str()));
        // A kept answer that is asked about again is in its file no more.
        let is_kept = matches!(keep, RuleLifetime::Project | RuleLifetime::Always);
        if let Some(request) = request {
            self.of_requests.insert(request, self.answers.len());
        }
        self.answers.push(EarlierAnswer {
            pattern,
            zone: NetworkZone::Public,
            answer: Arc::new(PreviousAnswer {
                action,
                by: describe_operator(&answer.by, answer.approver.as_ref()),
                at,
                keep,
                seconds: answer.seconds,
                revoked: was_revoked || is_kept,
            }),
        });
        true
    }

    fn set_zone(&mut self, request: &RequestId, zone: NetworkZone) {
        let answer = self.of_requests.get(request);
        if let Some(answer) = answer.and_then(|at| self.answers.get_mut(*at)) {
            answer.zone = zone;
        }
    }
}

/// Returns the operator, without a process id, which means nothing in a later run.
fn describe_operator(operator: &AuditOperator, approver: Option<&DisplayText>) -> DisplayText {
    if let Some(approver) = approver {
        return DisplayText::new(&format!("approver {approver}"));
    }
    let uid = operator.uid.map(|uid| format!("uid {uid}"));
    let program = operator.program.as_ref();
    let program = program.map(|program| format!("({program})"));
    let parts: Vec<_> = uid.into_iter().chain(program).collect();
    DisplayText::new(&parts.join(" "))
}

#[cfg(test)]
mod tests {
    use record::{AuditEntry, AuditQuestion, AuditRuleEnd, AuditSandbox, ChainHash, encode_line};
    use terok_clearance::Protocol;

    use super::*;

    const PROJECT: &str = "/home/u/web";

    fn line(project: &str, micros: u64, event: AuditEvent) -> Vec<u8> {
        let sandbox = AuditSandbox {
            project: Some(DisplayText::name(project)),
            ..AuditSandbox::new("0123456789ab".parse().unwrap())
        };
        let time = Timestamp::from_micros(micros);
        let entry = AuditEntry::new(time, Some(sandbox), event);
        encode_line(&entry, micros, ChainHash::START)
    }

    fn answer(request: &str, pattern: &str, action: DecisionAction) -> AuditAnswer {
        AuditAnswer {
            request: Some(request.parse().unwrap()),
            dest: None,
            action,
            pattern: Some(pattern.into()),
            keep: Some(RuleLifetime::Once),
            seconds: None,
            by: AuditOperator {
                uid: Some(1000),
                pid: Some(7),
                program: Some("tui".into()),
            },
            approver: None,
            approver_reason: None,
            ok: true,
            reason: None,
        }
    }

    fn collect(mut lines: Vec<Vec<u8>>) -> Vec<EarlierAnswer> {
        lines.reverse();
        let lines: Vec<_> = lines.iter().map(Vec::as_slice).collect();
        collect_answers(&lines, Path::new(PROJECT))
    }

    fn answered(answer: AuditAnswer) -> AuditEvent {
        AuditEvent::Answered(answer)
    }

    #[test]
    fn the_last_answer_of_the_project_counts() {
        use DecisionAction::{Allow, Deny, Dismiss};
        let one = |action| answered(answer("web:1", "a.example:443/tcp", action));
        let failed = AuditAnswer {
            ok: false,
            ..answer("web:2", "a.example:443/tcp", Allow)
        };
        let earlier = collect(vec![
            line(PROJECT, 1, one(Allow)),
            line(PROJECT, 2, one(Deny)),
            line(PROJECT, 3, answered(failed)),
            line("/home/u/other", 4, one(Allow)),
            line(PROJECT, 5, answered(answer("web:3", "b.example", Dismiss))),
            line(PROJECT, 6, answered(answer("web:4", "no/pattern", Allow))),
            b"no entry".to_vec(),
        ]);
        assert_eq!(earlier.len(), 1, "{earlier:?}");
        assert_eq!(earlier[0].pattern.to_string(), "a.example:443/tcp");
        let PreviousAnswer {
            action,
            by,
            at,
            revoked,
            ..
        } = &*earlier[0].answer;
        assert_eq!(*action, Action::Deny);
        assert_eq!(by.as_str(), "uid 1000 (tui)");
        assert_eq!(at.as_micros(), 2);
        assert!(!revoked);
    }

    #[test]
    fn zones_and_revocations_are_found_with_their_answers() {
        let question = AuditEvent::Asked(AuditQuestion {
            request: "web:1".parse().unwrap(),
            dest: "nas.test".parse().unwrap(),
            port: 443,
            protocol: Protocol::TCP,
            zone: NetworkZone::LocalNetwork,
            process: None,
            reason: None,
        });
        let end = |request: &str, why| {
            AuditEvent::RuleEnded(AuditRuleEnd {
                rule: "r1".into(),
                pattern: "b.example".into(),
                action: Action::Allow,
                origin: DisplayText::new(&format!("decision {request}")),
                why,
                connections_ended: 0,
                by: None,
            })
        };
        let allow = |request, pattern| answered(answer(request, pattern, DecisionAction::Allow));
        let kept = AuditAnswer {
            keep: Some(RuleLifetime::Always),
            approver: Some("check.py".into()),
            ..answer("web:4", "d.example", DecisionAction::Allow)
        };
        let earlier = collect(vec![
            line(PROJECT, 1, question),
            line(PROJECT, 2, allow("web:1", "nas.test:443/tcp")),
            line(PROJECT, 3, allow("web:2", "b.example")),
            line(PROJECT, 4, end("web:2", RuleEndReason::Revoked)),
            line(PROJECT, 5, allow("web:3", "c.example")),
            line(PROJECT, 6, end("web:3", RuleEndReason::Expired)),
            line(PROJECT, 7, answered(kept)),
        ]);
        let shown: Vec<_> = earlier
            .iter()
            .map(|one| (one.pattern.to_string(), one.zone, one.answer.revoked))
            .collect();
        let public = NetworkZone::Public;
        assert_eq!(
            shown,
            [
                ("d.example".to_owned(), public, true),
                ("c.example".to_owned(), public, false),
                ("b.example".to_owned(), public, true),
                (
                    "nas.test:443/tcp".to_owned(),
                    NetworkZone::LocalNetwork,
                    false
                ),
            ]
        );
        assert_eq!(earlier[0].answer.by.as_str(), "approver check.py");
    }

    #[test]
    fn an_unreadable_record_has_no_answers() {
        let directory = tempfile::tempdir().unwrap();
        let project = ProjectPath::find(directory.path()).unwrap();
        let path = directory.path().join("audit.jsonl");
        assert!(read_earlier_answers(&path, &project).is_empty());
        std::fs::create_dir(&path).unwrap();
        assert!(read_earlier_answers(&path, &project).is_empty());
    }
}
