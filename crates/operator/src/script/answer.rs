// SPDX-License-Identifier: Apache-2.0
//! Answers by a question's id: exactly what was shown, once, and an outcome for each.

use std::collections::BTreeMap;

use terok_clearance::client::{AnswerError, Client, ProtocolVersion};
use terok_clearance::wire::clearance1::VerdictParameters;
use terok_clearance::{Action, ContainerId, Decision, Dest, DisplayText, RequestId, Scope};
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::{Survey, is_same_container, may_serve};
use crate::inbox::{Answer, HubId, Reply, RowNumber};
use crate::lines::{Line, text};
use crate::words;

/// What a script takes a question to be, so that nothing else is answered.
#[derive(Debug, Clone, Default)]
pub struct Expectation {
    /// Where it wants to go.
    pub dest: Option<Dest>,
}

/// What became of the answer to one question.
#[derive(Debug, Clone)]
pub struct Answered {
    /// The question, as it was named.
    pub request: RequestId,
    /// The answer.
    pub action: Action,
    /// The hub that asks, where it is known.
    pub hub: Option<HubId>,
    /// What it became.
    pub outcome: Outcome,
}

/// What became of an answer.
#[derive(Debug, Clone)]
pub enum Outcome {
    /// It took effect; in words, what is now open or closed.
    Applied(Box<Decision>, String),
    /// It was answered before, or somebody else's answer is being carried out (`ok` is false
    /// then). Nothing was changed by ours.
    Already(Box<Decision>),
    /// No hub asks it: it never was asked, or it was withdrawn.
    Missing(DisplayText),
    /// Nothing was sent, for this reason.
    Refused(DisplayText),
    /// It took no effect, for this reason; the question stays.
    Failed(DisplayText),
    /// It was sent, and nobody said what became of it.
    Unsure(DisplayText),
    /// The hub that asks it, or may ask it, could not be reached; nothing was sent.
    Unheard(DisplayText),
}

/// How a named question is to be answered.
enum Way {
    /// As a row, whose answers these are.
    Row(HubId, RowNumber),
    /// Through an older hub, which itself compares sandbox and destination with what it asked.
    Older(HubId, VerdictParameters, Scope),
    /// Not at all.
    None(Option<HubId>, Outcome),
}

impl Survey {
    /// Answers each of `requests` with `action`, those of one row once, all at the same time, and
    /// returns what became of each, in their order.
    ///
    /// A question that is not what `expected` says, and one that several hubs ask, is refused.
    pub async fn answer(
        &mut self,
        requests: &[RequestId],
        action: Action,
        expected: &Expectation,
    ) -> Vec<Answered> {
        let mut ways = Vec::new();
        for request in requests {
            ways.push(self.way(request, action, expected).await);
        }
        let mut sending = JoinSet::new();
        let mut rows: BTreeMap<RowNumber, usize> = BTreeMap::new();
        let mut outcomes: BTreeMap<usize, Outcome> = BTreeMap::new();
        for (at, (way, request)) in ways.iter().zip(requests).enumerate() {
            match way {
                Way::None(_, outcome) => drop(outcomes.insert(at, outcome.clone())),
                // Several ids can name one row, which is answered once.
                Way::Row(_, row) if rows.contains_key(row) => {}
                Way::Row(hub, row) => {
                    rows.insert(*row, at);
                    let opens = self.inbox.row(*row).map(|row| match action {
                        Action::Allow => words::opens(row),
                        Action::Deny => {
                            let scope = row.scope();
                            format!("{} {}", words::reach(scope), words::keep(scope))
                        }
                    });
                    let answers = self.inbox.answer(*row, action);
                    match (answers, self.heard.get(hub)) {
                        (Ok(answers), Some((client, _))) => {
                            let client = client.clone();
                            let opens = opens.unwrap_or_default();
                            let named = request.clone();
                            sending.spawn(async move {
                                (at, send(&client, answers, &named, opens).await)
                            });
                        }
                        (Err(refusal), _) => {
                            let reason = DisplayText::new(&refusal.to_string());
                            outcomes.insert(at, Outcome::Refused(reason));
                        }
                        (Ok(_), None) => {}
                    }
                }
                Way::Older(hub, verdict, scope) => {
                    if let Some((client, _)) = self.heard.get(hub) {
                        let (client, verdict) = (client.clone(), verdict.clone());
                        let (scope, request) = (scope.clone(), request.clone());
                        sending.spawn(async move {
                            let sent = client.verdict(&verdict).await;
                            let decision = record(&verdict, request, action, scope);
                            (at, older_outcome(sent, decision))
                        });
                    }
                }
            }
        }
        outcomes.extend(sending.join_all().await);
        let same = |way: &Way| match way {
            Way::Row(_, row) => rows.get(row).and_then(|at| outcomes.get(at)).cloned(),
            Way::Older(..) | Way::None(..) => None,
        };
        let each = ways.iter().zip(requests).enumerate();
        each.map(|(at, (way, request))| {
            let outcome = outcomes.get(&at).cloned().or_else(|| same(way));
            let hub = match way {
                Way::Row(hub, _) | Way::Older(hub, ..) => Some(hub.clone()),
                Way::None(hub, _) => hub.clone(),
            };
            Answered {
                request: request.clone(),
                action,
                hub,
                outcome: outcome
                    .unwrap_or_else(|| Outcome::Unheard("there is no connection".into())),
            }
        })
        .collect()
    }

    async fn way(&self, request: &RequestId, action: Action, expected: &Expectation) -> Way {
        let none = |hub: Option<&HubId>, outcome| Way::None(hub.cloned(), outcome);
        let asking: Vec<_> = self
            .heard
            .keys()
            .filter_map(|hub| Some((hub, self.inbox.find(hub, request.as_str())?)))
            .filter_map(|(hub, row)| Some((hub, self.inbox.row(row)?)))
            .filter(|(_, row)| {
                let wanted = self.container.as_ref();
                wanted.is_none_or(|id| is_same_container(id, row.container()))
            })
            .collect();
        match asking.as_slice() {
            [(hub, row)] => match &expected.dest {
                Some(dest) if !is_same(dest, row.dest()) => {
                    let reason = format!("it asks for {}, not for {dest}", row.dest());
                    let refused = Outcome::Refused(DisplayText::new(&reason));
                    none(Some(hub), refused)
                }
                _ => Way::Row((*hub).clone(), row.number()),
            },
            [] => self.unasked(request, action, expected).await,
            several => {
                let asked = several.iter().map(|(hub, row)| {
                    format!("{hub} (sandbox {}, for {})", row.container(), row.dest())
                });
                let asked: Vec<_> = asked.collect();
                let reason = format!(
                    "{} hubs ask it: {}; say which with --socket or --container",
                    several.len(),
                    asked.join(", ")
                );
                none(
                    None,
                    Outcome::Refused(DisplayText::from_program_output(&reason)),
                )
            }
        }
    }

    /// Finds out about a question that no hub that was heard says is pending.
    async fn unasked(&self, request: &RequestId, action: Action, expected: &Expectation) -> Way {
        let mut asking = JoinSet::new();
        for (hub, (client, speaks)) in &self.heard {
            if *speaks == ProtocolVersion::Clearance2 {
                let (hub, client) = (hub.clone(), client.clone());
                asking.spawn(async move {
                    let history =
                        timeout(AnswerError::HUB_WAIT_TIMEOUT, client.history(Some(1000))).await;
                    (hub, history.ok().and_then(Result::ok).unwrap_or_default())
                });
            }
        }
        let mut decided: Option<(HubId, Decision)> = None;
        for (hub, history) in asking.join_all().await {
            let found = history.into_iter().find(|decision| {
                let wanted = self.container.as_ref();
                decision.ok
                    && decision.request == *request
                    && wanted.is_none_or(|id| is_same_container(id, &decision.container))
            });
            if let Some(found) = found
                && decided
                    .as_ref()
                    .is_none_or(|(_, known)| known.at < found.at)
            {
                decided = Some((hub, (*found).clone()));
            }
        }
        if let Some((hub, decision)) = decided {
            return Way::None(Some(hub), Outcome::Already(Box::new(decision)));
        }
        if let [(hub, reason), ..] = self.unheard.as_slice() {
            let reason = format!("it may be of {}: {reason}", words::hub(hub));
            return Way::None(
                None,
                Outcome::Unheard(DisplayText::from_program_output(&reason)),
            );
        }
        if !self.has_hubs() {
            return Way::None(None, Outcome::Unheard("there is no hub".into()));
        }
        self.of_older(request, action, expected)
    }

    /// Finds the older hub that may ask it: that does not say what is pending, but refuses what
    /// it did not ask, if it is told the destination.
    fn of_older(&self, request: &RequestId, action: Action, expected: &Expectation) -> Way {
        let container: Option<ContainerId> = match &self.container {
            Some(container) => Some(container.clone()),
            None => request
                .as_str()
                .rsplit_once(':')
                .and_then(|(container, _)| container.parse().ok()),
        };
        let Some(container) = container else {
            return Way::None(None, Outcome::Missing("nobody asks it".into()));
        };
        let mut older = self.older().filter(|hub| may_serve(hub, &container));
        match (older.next(), older.next(), &expected.dest) {
            (None, ..) => Way::None(None, Outcome::Missing("nobody asks it".into())),
            (Some(hub), _, None) => {
                let reason = "its hub, of an older release, does not say what it asks: \
                              --expect DEST answers it";
                Way::None(Some(hub.clone()), Outcome::Refused(reason.into()))
            }
            (Some(_), Some(_), _) => {
                let reason = "several hubs of older releases may ask it: say which with --socket";
                Way::None(None, Outcome::Refused(reason.into()))
            }
            (Some(hub), None, Some(dest)) => {
                let verdict = VerdictParameters {
                    container: container.to_string(),
                    request_id: request.to_string(),
                    dest: dest.to_string(),
                    action: action.to_string(),
                };
                Way::Older(hub.clone(), verdict, Scope::whole_dest(dest.clone()))
            }
        }
    }
}

/// Says whether two spellings are the same destination.
fn is_same(one: &Dest, other: &Dest) -> bool {
    match (one.parse_target(), other.parse_target()) {
        (Ok(one), Ok(other)) => one == other,
        _ => one == other,
    }
}

/// Sends the answers of a row, the named question's first, and returns what became of the row.
async fn send(
    client: &Client,
    mut answers: Vec<Answer>,
    named: &RequestId,
    opens: String,
) -> Outcome {
    answers.sort_by_key(|answer| answer.request.id != *named);
    let mut applied: Option<Box<Decision>> = None;
    for answer in answers {
        let scope = Some(answer.scope.clone());
        let action = answer.action.into();
        let outcome = outcome(client.decide(&answer.request, action, scope).await, &opens);
        match (outcome, &applied) {
            (Outcome::Applied(decision, _), None) => applied = Some(decision),
            // The first one's rule answers the others, too: the hub may have done so by itself.
            (Outcome::Applied(..) | Outcome::Already(_) | Outcome::Missing(_), Some(_)) => {}
            (other, _) => return other,
        }
    }
    match applied {
        Some(decision) => Outcome::Applied(decision, opens),
        None => Outcome::Missing("nobody asks it any more".into()),
    }
}

fn outcome(decided: Result<Decision, AnswerError>, opens: &str) -> Outcome {
    if let Err(error @ AnswerError::NoHub(_)) = &decided {
        return Outcome::Unheard(crate::whole_story(error));
    }
    match Reply::from(decided) {
        Reply::Decided(decision) if decision.ok => {
            Outcome::Applied(Box::new(decision), opens.to_owned())
        }
        Reply::Decided(decision) => Outcome::Failed(decision.reason.unwrap_or_default()),
        Reply::AlreadyDecided(decision) => Outcome::Already(Box::new(decision)),
        Reply::NoSuchRequest => Outcome::Missing("nobody asks it any more".into()),
        Reply::EnforcementFailed(reason) | Reply::Failed(reason) => Outcome::Failed(reason),
        Reply::Unsure(reason) => Outcome::Unsure(reason),
    }
}

fn older_outcome(sent: Result<(), AnswerError>, decision: Option<Decision>) -> Outcome {
    let Some(decision) = decision else {
        return Outcome::Unsure("the answer cannot be put into words".into());
    };
    let opens = decision.scope.as_ref().map(words::reach);
    let opens = format!(
        "{} until the firewall's keeper removes it",
        opens.unwrap_or_default()
    );
    match outcome(sent.map(|()| decision), &opens) {
        // It forgets a question with its answer, and so cannot tell the two apart.
        Outcome::Missing(_) => Outcome::Missing("its hub does not ask it, or no longer".into()),
        other => other,
    }
}

/// Returns the record of an answer that an older hub took, and keeps none of.
fn record(
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
        at: crate::prompt::now(),
        ok: true,
        reason: None,
    })
}

impl Answered {
    /// Returns it as a line of JSON.
    pub fn json(&self) -> String {
        let request = &self.request;
        let hub = self
            .hub
            .as_ref()
            .map(ToString::to_string)
            .unwrap_or_default();
        text(&match &self.outcome {
            Outcome::Applied(decision, reach) => Line::Decided {
                row: None,
                hub,
                reach: Some(reach),
                decision,
            },
            Outcome::Already(decision) => Line::Already { hub, decision },
            Outcome::Missing(reason) => Line::Missing { request, reason },
            Outcome::Unheard(reason) => Line::Unheard { request, reason },
            Outcome::Refused(reason) => Line::Refused {
                row: None,
                request: Some(request),
                reason: reason.clone(),
            },
            Outcome::Failed(reason) => Line::Failed {
                row: None,
                request: Some(request),
                action: self.action,
                reason,
            },
            Outcome::Unsure(reason) => Line::Unsure {
                row: None,
                request: Some(request),
                action: self.action,
                reason,
            },
        })
    }

    /// Returns it in words, one line without its end.
    pub fn words(&self) -> String {
        let request = &self.request;
        let what = match &self.outcome {
            Outcome::Applied(_, reach) => match self.action {
                Action::Allow => format!("allowed: {reach}"),
                Action::Deny => format!("denied: {reach}"),
            },
            Outcome::Already(decision) => already(decision),
            Outcome::Missing(reason) | Outcome::Unheard(reason) => reason.to_string(),
            Outcome::Refused(reason) => format!("refused: {reason}"),
            Outcome::Failed(reason) if reason.is_empty() => {
                format!("{} took no effect, it is still asked", self.action)
            }
            Outcome::Failed(reason) => {
                format!(
                    "{} took no effect, it is still asked: {reason}",
                    self.action
                )
            }
            Outcome::Unsure(reason) => {
                format!("{} may have taken effect, or not: {reason}", self.action)
            }
        };
        format!("{request}: {what}")
    }
}

/// Says by whom and how a question was answered that we wanted to answer.
fn already(decision: &Decision) -> String {
    use terok_clearance::DecisionAction;
    let what = match (decision.action, decision.ok) {
        (DecisionAction::Allow, true) => "it was allowed already",
        (DecisionAction::Deny, true) => "it was denied already",
        (DecisionAction::Dismiss, _) => "it was put away already",
        (DecisionAction::Allow, false) => "it is being allowed already",
        (DecisionAction::Deny, false) => "it is being denied already",
    };
    let reach = decision.scope.as_ref().map(|scope| {
        let (reach, keep) = (words::reach(scope), words::keep(scope));
        format!(" ({reach} {keep})")
    });
    let by = match decision.by.as_str() {
        "" => String::new(),
        by => format!(" by {by}"),
    };
    format!("{what}{by}{}", reach.unwrap_or_default())
}
