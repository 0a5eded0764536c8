// SPDX-License-Identifier: Apache-2.0
//! Answers to questions by request id, and the outcomes.

use std::collections::BTreeMap;
use std::sync::Arc;

use terok_clearance::client::{AnswerError, Client, ProtocolVersion};
use terok_clearance::wire::clearance1::VerdictParameters;
use terok_clearance::{
    Action, ContainerId, Decision, Dest, DisplayText, RequestId, Scope, Timestamp,
};
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::PendingSnapshot;
use super::answer_outcome::{ScriptAnswer, ScriptOutcome};
use super::selector::{HubMatch, hub_sandbox_name};
use crate::answer_scope::ScopeOverride;
use crate::inbox::{
    HubId, OperatorAnswer, OperatorReply, RowNumber, RowRefusal, is_request_number,
};
use crate::phrases::{self, past_participle};

/// The expected properties of a question. A question with other properties is not answered.
#[derive(Debug, Clone, Default)]
pub struct ScriptExpectation {
    /// The destination.
    pub dest: Option<Dest>,
}

/// An answer to questions.
#[derive(Debug, Clone)]
pub struct ScriptAction {
    /// Allow or deny.
    pub action: Action,
    /// The differences from the scope that a question shows.
    pub scope: ScopeOverride,
    /// The expected properties of the questions.
    pub expected: ScriptExpectation,
}

/// The route by which an answer is sent.
enum AnswerRoute {
    /// The question is a row of the inbox, with this request id.
    Row(HubId, RowNumber, RequestId),
    /// The question may be pending at a Clearance1 hub, which checks sandbox and destination.
    Clearance1(HubId, VerdictParameters, Scope),
    /// The question was answered otherwise before; the new answer replaces that one.
    Change(HubId, Box<Decision>, Option<Scope>),
    /// The answer is not sent, for the reason in the outcome.
    NotSent(Option<HubId>, ScriptOutcome),
}

impl PendingSnapshot {
    /// Answers `requests` and returns the outcomes in the same order. Rows are answered
    /// concurrently, each row once. An earlier answer that differs is replaced.
    ///
    /// The answer is refused for a question that is not as expected, that does not offer the scope,
    /// or that several hubs have.
    pub async fn answer(
        &mut self,
        requests: &[RequestId],
        answer: &ScriptAction,
    ) -> Vec<ScriptAnswer> {
        let action = answer.action;
        let mut routes = Vec::new();
        for request in requests {
            routes.push(self.route_answer(request, answer).await);
        }
        let mut sending = JoinSet::new();
        let mut rows: BTreeMap<RowNumber, usize> = BTreeMap::new();
        let mut outcomes: BTreeMap<usize, ScriptOutcome> = BTreeMap::new();
        for (at, (route, request)) in routes.iter().zip(requests).enumerate() {
            match route {
                AnswerRoute::NotSent(_, outcome) => drop(outcomes.insert(at, outcome.clone())),
                // Several ids can belong to one row, which is answered once.
                AnswerRoute::Row(_, row, _) if rows.contains_key(row) => {}
                AnswerRoute::Row(hub, row, named) => {
                    rows.insert(*row, at);
                    let Some(shown) = self.session.inbox().row(*row) else {
                        continue;
                    };
                    let scope = answer.scope.scope_for(shown);
                    let opens = phrases::describe_effect(shown, action, &scope);
                    let answers = self.session.begin_answer(*row, action, &scope);
                    match (answers, self.session.client(hub)) {
                        (Ok(answers), Some(client)) => {
                            let named = named.clone();
                            sending.spawn(async move {
                                (at, send_row_answers(&client, answers, &named, opens).await)
                            });
                        }
                        (Err(refusal @ RowRefusal::HubDisconnected(..)), _) => {
                            let reason = DisplayText::new(&refusal.to_string());
                            outcomes.insert(at, ScriptOutcome::HubUnreachable(reason));
                        }
                        (Err(RowRefusal::Scope(_, refusal)), _) => {
                            let reason = DisplayText::from_program_output(&refusal.to_string());
                            outcomes.insert(at, ScriptOutcome::Refused(reason));
                        }
                        (Err(refusal), _) => {
                            let reason = DisplayText::new(&refusal.to_string());
                            outcomes.insert(at, ScriptOutcome::Refused(reason));
                        }
                        (Ok(_), None) => {}
                    }
                }
                AnswerRoute::Change(hub, earlier, scope) => {
                    if let Some(client) = self.session.client(hub) {
                        let (earlier, scope) = (earlier.clone(), scope.clone());
                        sending.spawn(async move {
                            (at, change_decision(&client, earlier, action, scope).await)
                        });
                    }
                }
                AnswerRoute::Clearance1(hub, verdict, scope) => {
                    if let Some(client) = self.session.client(hub) {
                        let verdict = verdict.clone();
                        let (scope, request) = (scope.clone(), request.clone());
                        sending.spawn(async move {
                            let sent = client.verdict(&verdict).await;
                            let decision = build_decision(&verdict, request, action, scope);
                            (at, to_clearance1_outcome(sent, decision))
                        });
                    }
                }
            }
        }
        outcomes.extend(sending.join_all().await);
        let same = |route: &AnswerRoute| match route {
            AnswerRoute::Row(_, row, _) => rows.get(row).and_then(|at| outcomes.get(at)).cloned(),
            AnswerRoute::Clearance1(..) | AnswerRoute::Change(..) | AnswerRoute::NotSent(..) => {
                None
            }
        };
        let each = routes.iter().zip(requests).enumerate();
        each.map(|(at, (route, request))| {
            let outcome = outcomes.get(&at).cloned().or_else(|| same(route));
            let hub = match route {
                AnswerRoute::Row(hub, ..)
                | AnswerRoute::Clearance1(hub, ..)
                | AnswerRoute::Change(hub, ..) => Some(hub.clone()),
                AnswerRoute::NotSent(hub, _) => hub.clone(),
            };
            ScriptAnswer {
                request: request.clone(),
                action,
                hub,
                outcome: outcome.unwrap_or_else(|| {
                    ScriptOutcome::HubUnreachable("the hub is not connected".into())
                }),
            }
        })
        .collect()
    }

    async fn route_answer(&self, request: &RequestId, answer: &ScriptAction) -> AnswerRoute {
        let none = |hub: Option<&HubId>, outcome| AnswerRoute::NotSent(hub.cloned(), outcome);
        let inbox = self.session.inbox();
        let asking = inbox.find_question(request.as_str());
        let asking = asking
            .into_iter()
            .filter_map(|(number, id)| Some((inbox.row(number)?, id)));
        let mut asking: Vec<_> = asking.filter(|(row, _)| self.includes(row)).collect();
        asking.sort_by(|(one, _), (other, _)| one.hub().cmp(other.hub()));
        match asking.as_slice() {
            [(row, id)] => match &answer.expected.dest {
                Some(dest) if !is_same_dest(dest, row.dest()) => {
                    let reason = format!("the question is for {}, not for {dest}", row.dest());
                    let refused = ScriptOutcome::Refused(DisplayText::new(&reason));
                    none(Some(row.hub()), refused)
                }
                _ => AnswerRoute::Row(row.hub().clone(), row.number(), id.clone()),
            },
            [] => self.route_unlisted(request, answer).await,
            several => {
                let asked = several.iter().map(|(row, id)| {
                    format!("{id} ({} at {})", phrases::describe_dest(row), row.hub())
                });
                let asked: Vec<_> = asked.collect();
                let reason = format!(
                    "{} questions have this id: {}; give the whole id, or select one with \
                     --socket or --container",
                    several.len(),
                    asked.join(", ")
                );
                none(
                    None,
                    ScriptOutcome::Refused(DisplayText::from_program_output(&reason)),
                )
            }
        }
    }

    /// Finds the outcome for a question that no responding hub has listed.
    async fn route_unlisted(&self, request: &RequestId, answer: &ScriptAction) -> AnswerRoute {
        let mut asking = JoinSet::new();
        for (hub, version) in &self.responding_hubs {
            if *version == ProtocolVersion::Clearance2
                && let Some(client) = self.session.client(hub)
            {
                let hub = hub.clone();
                asking.spawn(async move {
                    let history =
                        timeout(AnswerError::HUB_WAIT_TIMEOUT, client.history(Some(1000))).await;
                    (hub, history.ok().and_then(Result::ok).unwrap_or_default())
                });
            }
        }
        // The newest decision on each question that the id may mean.
        let mut decided: Vec<(HubId, Arc<Decision>)> = Vec::new();
        for (hub, history) in asking.join_all().await {
            for decision in history {
                let wanted = self.container.as_ref();
                let is_meant = decision.ok
                    && is_request(&decision, &hub, request)
                    && wanted.is_none_or(|selected| {
                        selected.matches_id(decision.container.as_str())
                            || selected.match_hub(&hub) == HubMatch::Serves
                    });
                if !is_meant {
                    continue;
                }
                match decided
                    .iter_mut()
                    .find(|(_, known)| known.request == decision.request)
                {
                    Some((_, known)) if known.at >= decision.at => {}
                    Some(known) => *known = (hub.clone(), decision),
                    None => decided.push((hub.clone(), decision)),
                }
            }
        }
        match decided.as_slice() {
            [] => {}
            [(hub, decision)] => {
                return route_change(hub.clone(), Decision::clone(decision), answer);
            }
            several => {
                let ids = several
                    .iter()
                    .map(|(_, decision)| format!("{} ({})", decision.request, decision.dest));
                let ids: Vec<_> = ids.collect();
                let reason = format!(
                    "{} answered questions have this id: {}; give the whole id",
                    ids.len(),
                    ids.join(", ")
                );
                let reason = DisplayText::from_program_output(&reason);
                return AnswerRoute::NotSent(None, ScriptOutcome::Refused(reason));
            }
        }
        if let [(hub, reason), ..] = self.unresponsive_hubs.as_slice() {
            let reason = format!(
                "the question may be pending at {}, which did not respond: {reason}",
                phrases::describe_hub(hub)
            );
            return AnswerRoute::NotSent(
                None,
                ScriptOutcome::HubUnreachable(DisplayText::from_program_output(&reason)),
            );
        }
        if let Some(unmatched) = self.describe_unmatched() {
            let reason = DisplayText::from_program_output(&unmatched);
            return AnswerRoute::NotSent(None, ScriptOutcome::NotPending(reason));
        }
        if !self.has_hubs() {
            return AnswerRoute::NotSent(
                None,
                ScriptOutcome::HubUnreachable("no hub is running".into()),
            );
        }
        self.route_to_clearance1(request, answer)
    }

    /// Finds the Clearance1 hub that may have the question. Such a hub does not list questions, but
    /// refuses a verdict with a destination that does not match the question.
    fn route_to_clearance1(&self, request: &RequestId, answer: &ScriptAction) -> AnswerRoute {
        let selected = self.container.as_ref().map(ToString::to_string);
        let asked = request.as_str().rsplit_once(':');
        let container = selected.or_else(|| asked.map(|(container, _)| container.to_owned()));
        let container: Option<ContainerId> = container.and_then(|id| id.parse().ok());
        let Some(container) = container else {
            return AnswerRoute::NotSent(
                None,
                ScriptOutcome::NotPending("no hub has this question".into()),
            );
        };
        let mut older = self.clearance1_hubs().filter(|hub| {
            // The path of a hub has the first 12 characters of its sandbox's id.
            let id = hub.sandbox();
            id.is_none_or(|id| id == container.as_str() || id == container.short())
        });
        match (older.next(), older.next(), &answer.expected.dest) {
            (None, ..) => AnswerRoute::NotSent(
                None,
                ScriptOutcome::NotPending("no hub has this question".into()),
            ),
            (Some(hub), _, None) => {
                let reason = "the hub is of an older release, which does not list its questions; \
                              name the destination with --expect DEST";
                AnswerRoute::NotSent(Some(hub.clone()), ScriptOutcome::Refused(reason.into()))
            }
            (Some(hub), ..) if !answer.scope.is_none() => {
                let reason = "the hub is of an older release, whose answers open or close the \
                              whole destination until that is removed from the firewall; answer \
                              it without a scope";
                AnswerRoute::NotSent(Some(hub.clone()), ScriptOutcome::Refused(reason.into()))
            }
            (Some(_), Some(_), _) => {
                let reason = "several hubs of older releases may have this question; \
                              select one with --socket";
                AnswerRoute::NotSent(None, ScriptOutcome::Refused(reason.into()))
            }
            (Some(hub), None, Some(dest)) => {
                let verdict = VerdictParameters {
                    container: container.to_string(),
                    request_id: request.to_string(),
                    dest: dest.to_string(),
                    action: answer.action.to_string(),
                };
                AnswerRoute::Clearance1(hub.clone(), verdict, Scope::until_removed(dest.clone()))
            }
        }
    }
}

/// Returns the route to a question that was answered before: the same answer changes nothing.
fn route_change(hub: HubId, earlier: Decision, answer: &ScriptAction) -> AnswerRoute {
    if let Some(dest) = &answer.expected.dest
        && !is_same_dest(dest, &earlier.dest)
    {
        let reason = format!("the question is for {}, not for {dest}", earlier.dest);
        let refused = ScriptOutcome::Refused(DisplayText::new(&reason));
        return AnswerRoute::NotSent(Some(hub), refused);
    }
    let scope = match answer.scope.scope_after(&earlier) {
        Ok(scope) => scope,
        Err(reason) => return AnswerRoute::NotSent(Some(hub), ScriptOutcome::Refused(reason)),
    };
    let is_same_scope = scope.is_none() || scope == earlier.scope;
    if earlier.action == answer.action.into() && is_same_scope {
        let outcome = ScriptOutcome::AlreadyDecided(Box::new(earlier));
        return AnswerRoute::NotSent(Some(hub), outcome);
    }
    AnswerRoute::Change(hub, Box::new(earlier), scope)
}

/// Replaces an earlier answer.
async fn change_decision(
    client: &Client,
    earlier: Box<Decision>,
    action: Action,
    scope: Option<Scope>,
) -> ScriptOutcome {
    let changed = client.change_decision(&earlier, action, scope).await;
    if matches!(&changed, Err(AnswerError::Other(_))) {
        // A hub of an earlier release has no such parameter, and has changed nothing.
        return ScriptOutcome::AlreadyDecided(earlier);
    }
    match to_script_outcome(changed, "") {
        ScriptOutcome::Applied(decision, _) => {
            let scope = decision.scope.as_ref();
            let reach = scope.map_or_else(
                || decision.dest.to_string(),
                phrases::describe_answered_scope,
            );
            ScriptOutcome::Changed(earlier, decision, reach)
        }
        ScriptOutcome::Failed(reason) => {
            let was = past_participle(earlier.action);
            let reason = format!("it is still {was}: {reason}");
            ScriptOutcome::Refused(DisplayText::from_program_output(&reason))
        }
        other => other,
    }
}

/// Returns `true` if the decision of `hub` is about the question `id`, a request id or its short
/// form.
fn is_request(decision: &Decision, hub: &HubId, id: &RequestId) -> bool {
    if decision.request == *id {
        return true;
    }
    let Some((name, number)) = id.as_str().rsplit_once(':') else {
        return false;
    };
    let whole = decision.request.as_str();
    let whole = whole
        .strip_prefix(decision.container.as_str())
        .and_then(|rest| rest.strip_prefix(':'));
    let is_sandbox = decision.container.as_str() == name
        || decision.container.short() == name
        || hub_sandbox_name(hub).is_some_and(|known| known.as_str() == name);
    is_sandbox && whole.is_some_and(|whole| is_request_number(whole, number))
}

/// Returns `true` if both spellings mean the same destination.
fn is_same_dest(one: &Dest, other: &Dest) -> bool {
    match (one.parse_target(), other.parse_target()) {
        (Ok(one), Ok(other)) => one == other,
        _ => one == other,
    }
}

/// Sends the answers of a row, starting with the named question, and returns the outcome.
async fn send_row_answers(
    client: &Client,
    mut answers: Vec<OperatorAnswer>,
    named: &RequestId,
    opens: String,
) -> ScriptOutcome {
    answers.sort_by_key(|answer| answer.request.id != *named);
    let mut applied: Option<Box<Decision>> = None;
    for answer in answers {
        let scope = Some(answer.scope.clone());
        let action = answer.action.into();
        let outcome =
            to_script_outcome(client.decide(&answer.request, action, scope).await, &opens);
        match (outcome, &applied) {
            (ScriptOutcome::Applied(decision, _), None) => applied = Some(decision),
            // The first answer's rule settles the other questions, so the hub may have ended those.
            (
                ScriptOutcome::Applied(..)
                | ScriptOutcome::AlreadyDecided(_)
                | ScriptOutcome::NotPending(_),
                Some(_),
            ) => {}
            (other, _) => return other,
        }
    }
    match applied {
        Some(decision) => ScriptOutcome::Applied(decision, opens),
        None => ScriptOutcome::NotPending("the question is no longer pending".into()),
    }
}

fn to_script_outcome(decided: Result<Decision, AnswerError>, opens: &str) -> ScriptOutcome {
    if let Err(error @ AnswerError::NoHub(_)) = &decided {
        return ScriptOutcome::HubUnreachable(terok_clearance::error_chain(error));
    }
    match OperatorReply::from(decided) {
        OperatorReply::Decided(decision) if decision.ok => {
            ScriptOutcome::Applied(Box::new(decision), opens.to_owned())
        }
        OperatorReply::Decided(decision) => {
            ScriptOutcome::Failed(decision.reason.unwrap_or_default())
        }
        OperatorReply::AlreadyDecided(decision) => {
            ScriptOutcome::AlreadyDecided(Box::new(decision))
        }
        OperatorReply::NoSuchRequest => {
            ScriptOutcome::NotPending("the question is no longer pending".into())
        }
        OperatorReply::EnforcementFailed(reason) | OperatorReply::Failed(reason) => {
            ScriptOutcome::Failed(reason)
        }
        OperatorReply::ResultUnknown(reason) => ScriptOutcome::ResultUnknown(reason),
    }
}

fn to_clearance1_outcome(
    sent: Result<(), AnswerError>,
    decision: Option<Decision>,
) -> ScriptOutcome {
    let Some(decision) = decision else {
        return ScriptOutcome::ResultUnknown("the record of the answer is invalid".into());
    };
    let opens = decision
        .scope
        .as_ref()
        .map(phrases::describe_answered_scope);
    let opens = opens.unwrap_or_default();
    match to_script_outcome(sent.map(|()| decision), &opens) {
        // A Clearance1 hub does not distinguish answered from unknown questions.
        ScriptOutcome::NotPending(_) => ScriptOutcome::NotPending(
            "the hub has no such question, or it was answered already".into(),
        ),
        other => other,
    }
}

/// Builds the record of an answer to a Clearance1 hub, because such a hub keeps no records.
fn build_decision(
    verdict: &VerdictParameters,
    request: RequestId,
    action: Action,
    scope: Scope,
) -> Option<Decision> {
    Some(Decision {
        request,
        container: verdict.container.parse().ok()?,
        dest: scope.dest.clone(),
        action: action.into(),
        scope: Some(scope),
        by: "us".into(),
        at: Timestamp::now(),
        ok: true,
        reason: None,
    })
}
