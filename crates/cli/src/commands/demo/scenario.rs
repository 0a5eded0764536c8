// SPDX-License-Identifier: Apache-2.0
//! The story of each fetch: packet, event, question, answer, set element, and the next attempt.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use shield::ListedElement;
use terok_clearance::varlink::{CallError, ReplyStream, VarlinkConnection};
use terok_clearance::wire::clearance2::{
    self, Clearance2SubscribeReply, DecideError, DecideParameters, DecideReply, Event, Request,
};
use terok_clearance::{Action, ContainerId, DecisionAction, DisplayText, RequestId};

use super::DemoOutcome;
use super::answer_source::{DemoAnswer, DemoAnswerSource};
use super::checks::FetchObservation;
use super::clock::now_us;
use super::processes::{RulesetInspector, SupervisorThread, WorkloadProcess};
use super::protocol::{FetchAttempt, WorkloadMessage};
use super::render::StepRenderer;
use super::report::DemoStep;
use super::topology::{self, FakeHost};
use crate::StandardStreams;

/// How long a question may take to arrive. It takes well under a millisecond.
const QUESTION_TIMEOUT: Duration = Duration::from_secs(5);

/// Where the steps are told.
#[derive(Debug, Clone, Copy)]
pub(super) struct StepReporter {
    /// The door to standard output.
    pub(super) output: StandardStreams,
    /// For a person; nothing: one JSON object per line.
    pub(super) renderer: Option<StepRenderer>,
}

impl StepReporter {
    /// Tells a step.
    pub(super) fn report(self, step: &DemoStep) -> anyhow::Result<()> {
        match self.renderer {
            Some(page) => self.output.print(&page.render_step(step)),
            None => self.output.print_line(&serde_json::to_string(step)?),
        }
    }
}

/// The operator's side: a client on the hub's socket, as any other would be.
#[derive(Debug)]
pub(super) struct DemoOperator {
    events: ReplyStream,
    answers: VarlinkConnection,
}

impl DemoOperator {
    /// Connects to the hub and waits until nothing older is left to be said.
    pub(super) async fn connect(hub: &std::path::Path) -> anyhow::Result<Self> {
        let connect = || async {
            VarlinkConnection::connect(hub)
                .await
                .context("connecting to the hub")
        };
        let none = serde_json::Map::new();
        let subscribed = connect()
            .await?
            .call_more(clearance2::SUBSCRIBE, &none)
            .await;
        let mut this = Self {
            events: subscribed.context("subscribing to the hub")?,
            answers: connect().await?,
        };
        while this.next_event().await? != Some(Event::Synced) {}
        Ok(this)
    }

    /// Returns the next event; nothing for one that this release does not know.
    async fn next_event(&mut self) -> anyhow::Result<Option<Event>> {
        let received: Option<Clearance2SubscribeReply> =
            self.events.next().await.context("reading events")?;
        Ok(received.context("the hub is gone")?.event.event)
    }

    /// Waits until somebody has answered `request` and the kernel has it; puts what else is said
    /// meanwhile into `others`.
    async fn wait_for_decision(
        &mut self,
        request: &RequestId,
        others: &mut Vec<Event>,
    ) -> anyhow::Result<DecisionAction> {
        loop {
            match self.next_event().await? {
                Some(Event::Decided(decision)) if decision.request == *request && decision.ok => {
                    return Ok(decision.action);
                }
                event => others.extend(event),
            }
        }
    }

    async fn decide(&mut self, decide: &DecideParameters) -> Result<(), DisplayText> {
        let decided = self.answers.call(clearance2::DECIDE, decide).await;
        match decided {
            Ok(DecideReply { decision }) if decision.ok => Ok(()),
            Ok(DecideReply { decision }) => Err(decision.reason.unwrap_or_default()),
            Err(CallError::Refused(error)) => {
                let known: Option<DecideError> = error.decode();
                let words = known.map_or_else(|| error.to_string(), |known| known.to_string());
                Err(DisplayText::new(&words))
            }
            Err(error) => Err(DisplayText::new(&error.to_string())),
        }
    }
}

/// Everything a story needs.
pub(super) struct DemoScenario<'a> {
    /// Who is told.
    pub(super) reporter: StepReporter,
    /// The operator's client.
    pub(super) operator: DemoOperator,
    /// Who answers.
    pub(super) answers: DemoAnswerSource,
    /// The program in the sandbox.
    pub(super) workload: &'a mut WorkloadProcess,
    /// The supervisor, for the times.
    pub(super) supervisor: &'a SupervisorThread,
    /// A second pair of eyes on the kernel's sets.
    pub(super) inspector: &'a mut RulesetInspector,
    /// The sandbox's id.
    pub(super) container: ContainerId,
    /// Whether there is no IPv6.
    pub(super) without_v6: Option<DisplayText>,
    /// What was seen.
    pub(super) outcome: &'a mut DemoOutcome,
}

/// A question that has arrived.
struct ArrivedQuestion {
    request: Arc<Request>,
    at: u64,
}

impl DemoScenario<'_> {
    /// Has every host fetched.
    pub(super) async fn run(&mut self) -> anyhow::Result<()> {
        for (index, host) in topology::HOSTS.iter().enumerate() {
            let fetch = index + 1;
            self.reporter.report(&DemoStep::Fetch {
                fetch,
                of: topology::HOSTS.len(),
                url: host.url(),
            })?;
            match &self.without_v6 {
                Some(reason) if host.address.is_ipv6() => {
                    self.reporter.report(&DemoStep::Skipped {
                        fetch,
                        reason: reason.clone(),
                    })?;
                }
                _ => self.fetch(index, host).await?,
            }
        }
        Ok(())
    }

    async fn fetch(&mut self, index: usize, host: &FakeHost) -> anyhow::Result<()> {
        let fetch = index + 1;
        let place = self.outcome.observations.len();
        self.outcome.observations.push(FetchObservation {
            url: host.url(),
            may_be_asked: host.may_be_asked,
            host: Some(host.socket_address()),
            ..FetchObservation::default()
        });
        let (first, arrived) = self.first_attempt(index, host).await?;
        let passed = first.result.is_ok();
        self.observation_mut(place)?.passed_unasked = passed;
        if passed {
            // There is nothing to ask any more; the judge will have a word to say.
            self.observation_mut(place)?.passed = true;
            self.observation_mut(place)?.is_complete = true;
            return self.report_result(fetch, &first);
        }
        self.reporter.report(&DemoStep::Packet {
            fetch,
            address: first.address,
            lookup_us: first.lookup_us,
            at: first.connect_at,
            took_us: first.done_at.saturating_sub(first.connect_at),
            result: attempt_text(&first),
        })?;
        match arrived {
            Some(arrived) => self.handle_question(fetch, place, &first, &arrived).await?,
            None if host.may_be_asked => {}
            None => self.send_forged_answer(fetch, place, host).await?,
        }
        let next = self.attempt(index).await?;
        self.observation_mut(place)?.passed = next.result.is_ok();
        self.observation_mut(place)?.is_complete = true;
        self.report_result(fetch, &next)
    }

    fn report_result(&self, fetch: usize, attempt: &FetchAttempt) -> anyhow::Result<()> {
        let took_us = attempt.done_at.saturating_sub(attempt.connect_at);
        let result = attempt_text(attempt);
        self.reporter.report(&match attempt.result {
            Ok(_) => DemoStep::Passed {
                fetch,
                result,
                took_us,
            },
            Err(_) => DemoStep::Refused {
                fetch,
                result,
                took_us,
            },
        })
    }

    /// Has the program try for the first time; returns the question that came of it, too.
    async fn first_attempt(
        &mut self,
        index: usize,
        host: &FakeHost,
    ) -> anyhow::Result<(FetchAttempt, Option<ArrivedQuestion>)> {
        self.start_attempt(index).await?;
        let (mut attempt, mut arrived) = (None, None);
        let patience = tokio::time::sleep(QUESTION_TIMEOUT);
        tokio::pin!(patience);
        loop {
            let refused = attempt
                .as_ref()
                .is_some_and(|a: &FetchAttempt| a.result.is_err());
            if attempt.is_some() && (arrived.is_some() || !host.may_be_asked || !refused) {
                break;
            }
            tokio::select! {
                told = self.workload.next_message(), if attempt.is_none() => attempt = Some(expect_attempt(told?)?),
                event = self.operator.next_event() => {
                    let at = now_us();
                    if let Some(request) = self.take_question(event?) {
                        let about = (request.address.as_str().parse().ok(), request.port);
                        if about == (Some(host.address), host.port) {
                            arrived = Some(ArrivedQuestion { request, at });
                        } else {
                            self.record_unexpected_question(&request);
                        }
                    }
                }
                () = &mut patience => break,
            }
        }
        let attempt = attempt.context("the program in the sandbox does not answer")?;
        Ok((attempt, arrived))
    }

    /// Takes note of an event; returns the question that it brings, if it does.
    fn take_question(&mut self, event: Option<Event>) -> Option<Arc<Request>> {
        match event? {
            Event::Pending(request) => return Some(request),
            Event::Lost { lost, reason } => {
                self.outcome
                    .problems
                    .push(format!("{lost} packets or events were lost ({reason})"));
            }
            Event::Withdrawn { request, reason } => {
                self.outcome.problems.push(format!(
                    "the question about {} is void ({reason})",
                    request.dest
                ));
            }
            _ => {}
        }
        None
    }

    /// Takes note of a question that was not to be expected now.
    fn record_unexpected_question(&mut self, request: &Request) {
        let about = (request.address.as_str().parse().ok(), request.port);
        let seen = self.outcome.observations.iter_mut().find(|seen| {
            let host = seen.host.map(|host| (Some(host.ip()), host.port()));
            host == Some(about)
        });
        match seen {
            Some(seen) => seen.asked = true,
            None => self
                .outcome
                .problems
                .push(format!("nobody had reached for {}", request.dest)),
        }
    }

    async fn handle_question(
        &mut self,
        fetch: usize,
        place: usize,
        first: &FetchAttempt,
        arrived: &ArrivedQuestion,
    ) -> anyhow::Result<()> {
        let request = &arrived.request;
        let packet_to_event_us = arrived.at.saturating_sub(first.connect_at);
        let read_at = self.supervisor.question_timestamps(&request.id).read_at;
        self.outcome.packet_to_event_us.push(packet_to_event_us);
        self.reporter.report(&DemoStep::Event {
            fetch,
            request: request.id.clone(),
            dest: request.dest.clone(),
            at: arrived.at,
            packet_to_log_us: read_at.map(|at| at.saturating_sub(first.connect_at)),
            packet_to_event_us,
        })?;
        self.reporter.report(&DemoStep::Question {
            fetch,
            request: request.id.clone(),
            scope: request.scope.clone(),
            process: request.process.as_deref().cloned(),
        })?;
        let seen = self.observation_mut(place)?;
        seen.asked = true;

        let Some((action, sent_at)) = self.obtain_decision(fetch, place, request).await? else {
            return Ok(());
        };
        let listed = self.inspector.list_elements();
        let read_back_at = now_us();
        let taken_at = self.supervisor.question_timestamps(&request.id).set_at;
        let elements = listed.unwrap_or_else(|error| {
            self.outcome.problems.push(format!("{error:#}"));
            Vec::new()
        });
        let address = first.address.map(|address| address.ip());
        let holds = |element: &&ListedElement| {
            Some(element.address) == address
                && element.action == action
                && element.port.is_none_or(|port| port == request.port)
                && element
                    .protocol
                    .is_none_or(|protocol| protocol == request.protocol)
        };
        if let Some((element, taken_at)) = elements.iter().find(holds).zip(taken_at) {
            let answer_to_set_us = sent_at.map(|at| taken_at.saturating_sub(at));
            let answer_to_read_back_us = sent_at.map(|at| read_back_at.saturating_sub(at));
            self.observation_mut(place)?.is_set = true;
            self.outcome.answer_to_set_us.extend(answer_to_set_us);
            self.reporter.report(&DemoStep::Set {
                fetch,
                action,
                address: element.address,
                protocol: element.protocol,
                port: element.port,
                answer_to_set_us,
                answer_to_read_back_us,
            })?;
        }
        Ok(())
    }

    /// Has a question answered. Returns the answer, and when the demo sent it, if it did; nothing
    /// if nobody answered.
    async fn obtain_decision(
        &mut self,
        fetch: usize,
        place: usize,
        request: &Request,
    ) -> anyhow::Result<Option<(Action, Option<u64>)>> {
        if self.answers.frontend().is_some() {
            let action = self.await_frontend_decision(fetch, place, request).await?;
            return Ok(action.map(|action| (action, None)));
        }
        let echoed = self.answers.is_echoed();
        let prompt = self
            .reporter
            .renderer
            .map(|page| (self.reporter.output, page));
        let answered = self.answers.next_answer(prompt).await?;
        self.observation_mut(place)?.answer = answered.action;
        if !echoed || prompt.is_none() || answered.action.is_none() {
            self.report_answer(fetch, answered)?;
        }
        let Some(action) = answered.action else {
            return Ok(None);
        };
        let decide = DecideParameters {
            request: request.id.clone(),
            container: request.container.clone(),
            dest: request.dest.clone(),
            action: DecisionAction::from(action),
            scope: None,
        };
        let sent_at = now_us();
        if let Err(reason) = self.operator.decide(&decide).await {
            self.outcome.problems.push(format!(
                "the answer about {} was refused: {reason}",
                request.dest
            ));
        }
        Ok(Some((action, Some(sent_at))))
    }

    /// Has a person answer on a UI, which tells the hub by itself.
    async fn await_frontend_decision(
        &mut self,
        fetch: usize,
        place: usize,
        request: &Request,
    ) -> anyhow::Result<Option<Action>> {
        let Some((front, by)) = self.answers.frontend() else {
            return Ok(None);
        };
        if let Some(page) = self.reporter.renderer {
            self.reporter.output.print(&page.render_frontend_hint(by))?;
        }
        let asked_at = now_us();
        let mut others = Vec::new();
        let resolution = tokio::select! {
            decided = self.operator.wait_for_decision(&request.id, &mut others) => Some(decided?),
            left = front.run_until_closed() => {
                left?;
                None
            }
        };
        front.hide();
        let action = match resolution {
            Some(DecisionAction::Allow) => Some(Action::Allow),
            Some(DecisionAction::Deny) => Some(Action::Deny),
            Some(DecisionAction::Dismiss) | None => None,
        };
        if resolution.is_none() {
            self.answers.close().await;
        }
        for other in others {
            if let Some(request) = self.take_question(Some(other)) {
                self.record_unexpected_question(&request);
            }
        }
        self.observation_mut(place)?.answer = action;
        let took_us = now_us() - asked_at;
        self.report_answer(
            fetch,
            DemoAnswer {
                action,
                by,
                took_us,
            },
        )?;
        Ok(action)
    }

    fn report_answer(&self, fetch: usize, answered: DemoAnswer) -> anyhow::Result<()> {
        self.reporter.report(&DemoStep::Answer {
            fetch,
            answer: answered.action,
            by: answered.by,
            took_us: answered.took_us,
        })
    }

    /// Answers a question that was never asked, as a program would that wants to be let out.
    async fn send_forged_answer(
        &mut self,
        fetch: usize,
        place: usize,
        host: &FakeHost,
    ) -> anyhow::Result<()> {
        let decide = DecideParameters {
            request: format!("{}:{}", self.container, 1_000_000 + fetch).parse()?,
            container: self.container.clone(),
            dest: host.dest().parse()?,
            action: DecisionAction::Allow,
            scope: None,
        };
        match self.operator.decide(&decide).await {
            Ok(()) => self.observation_mut(place)?.forgery_accepted = true,
            Err(error) => self.reporter.report(&DemoStep::Forged { fetch, error })?,
        }
        Ok(())
    }

    async fn attempt(&mut self, index: usize) -> anyhow::Result<FetchAttempt> {
        self.start_attempt(index).await?;
        let told = tokio::time::timeout(2 * QUESTION_TIMEOUT, self.workload.next_message()).await;
        expect_attempt(told.context("the program in the sandbox does not answer")??)
    }

    async fn start_attempt(&mut self, index: usize) -> anyhow::Result<()> {
        let line = format!("{index}\n");
        self.workload.write_line(line.as_bytes()).await
    }

    fn observation_mut(&mut self, place: usize) -> anyhow::Result<&mut FetchObservation> {
        self.outcome
            .observations
            .get_mut(place)
            .context("a fetch that was not begun")
    }
}

fn expect_attempt(told: WorkloadMessage) -> anyhow::Result<FetchAttempt> {
    match told {
        WorkloadMessage::Tried(attempt) => Ok(attempt),
        WorkloadMessage::Ready(_) => bail!("the program in the sandbox began anew"),
    }
}

fn attempt_text(attempt: &FetchAttempt) -> DisplayText {
    match &attempt.result {
        Ok(words) | Err(words) => words.clone(),
    }
}
