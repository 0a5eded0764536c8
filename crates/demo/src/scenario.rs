// SPDX-License-Identifier: Apache-2.0
//! The scenario. Each fetch passes through a packet, an event, a question, an answer, a set element
//! and a second attempt.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use shield::ListedElement;
use terok_clearance::varlink::{CallError, ReplyStream, VarlinkConnection};
use terok_clearance::wire::clearance2::{
    self, Clearance2SubscribeReply, DecideError, DecideParameters, DecideReply, Event, Request,
};
use terok_clearance::{Action, ContainerId, DecisionAction, DisplayText, RequestId, error_chain};

use crate::answers::{AnswerSource, DemoAnswer};
use crate::checks::FetchObservation;
use crate::clock::now_us;
use crate::error::{DemoError, DemoPartError};
use crate::outcome::DemoOutcome;
use crate::output::DemoOutput;
use crate::processes::{RulesetInspector, SupervisorThread, WORKLOAD_PART, WorkloadProcess};
use crate::protocol::{FetchAttempt, WorkloadMessage};
use crate::report::DemoStep;
use crate::topology::{self, FakeHost};

/// Maximum time until a question arrives; usually less than a millisecond.
const QUESTION_TIMEOUT: Duration = Duration::from_secs(5);

/// The operator: a client connected to the hub's socket.
#[derive(Debug)]
pub(crate) struct DemoOperator {
    events: ReplyStream,
    answers: VarlinkConnection,
}

impl DemoOperator {
    /// Connects to the hub and waits for the end of the snapshot.
    pub(crate) async fn connect(hub: &Path) -> Result<Self, DemoError> {
        let connect = || async {
            let connected = VarlinkConnection::connect(hub).await;
            connected.map_err(DemoError::ConnectHub)
        };
        let answering = clearance2::SubscribeParameters { answers: true };
        let subscribed = connect()
            .await?
            .call_more(clearance2::SUBSCRIBE, &answering)
            .await;
        let mut this = Self {
            events: subscribed.map_err(DemoError::ReadEvents)?,
            answers: connect().await?,
        };
        while this.next_event().await? != Some(Event::Synced) {}
        Ok(this)
    }

    /// Returns the next event; `None` for an event type unknown to this release.
    async fn next_event(&mut self) -> Result<Option<Event>, DemoError> {
        let reply = self.events.next().await.map_err(DemoError::ReadEvents)?;
        let reply: Clearance2SubscribeReply = reply.ok_or(DemoError::HubClosed)?;
        Ok(reply.event.event)
    }

    /// Waits for an effective decision about `request`. Adds other events to `others`.
    async fn wait_for_decision(
        &mut self,
        request: &RequestId,
        others: &mut Vec<Event>,
    ) -> Result<DecisionAction, DemoError> {
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

/// The parts of the scenario.
pub(crate) struct DemoScenario<'a> {
    /// The output for the steps.
    pub(crate) output: DemoOutput<'a>,
    /// The operator's client.
    pub(crate) operator: DemoOperator,
    /// The source of answers.
    pub(crate) answers: AnswerSource,
    /// The program in the sandbox.
    pub(crate) workload: &'a mut WorkloadProcess,
    /// The supervisor, which records the time of each step.
    pub(crate) supervisor: &'a SupervisorThread,
    /// Reads the kernel's sets, independently of the supervisor.
    pub(crate) inspector: &'a mut RulesetInspector,
    /// The sandbox's id.
    pub(crate) container: ContainerId,
    /// The reason, if IPv6 is missing.
    pub(crate) without_v6: Option<DisplayText>,
    /// The observations.
    pub(crate) outcome: &'a mut DemoOutcome,
}

/// A question that has arrived.
struct ArrivedQuestion {
    request: Arc<Request>,
    at: u64,
}

impl DemoScenario<'_> {
    /// Makes the program fetch every host.
    pub(crate) async fn run(&mut self) -> Result<(), DemoError> {
        for (index, host) in topology::HOSTS.iter().enumerate() {
            let fetch = index + 1;
            self.output.report(&DemoStep::Fetch {
                fetch,
                of: topology::HOSTS.len(),
                url: host.url(),
            })?;
            match &self.without_v6 {
                Some(reason) if host.address.is_ipv6() => {
                    self.output.report(&DemoStep::Skipped {
                        fetch,
                        reason: reason.clone(),
                    })?;
                }
                _ => self.fetch(index, host).await?,
            }
        }
        Ok(())
    }

    async fn fetch(&mut self, index: usize, host: &FakeHost) -> Result<(), DemoError> {
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
        self.observation_mut(place).passed_unasked = passed;
        if passed {
            // A fault; the checks report it.
            self.observation_mut(place).passed = true;
            self.observation_mut(place).is_complete = true;
            return self.report_result(fetch, &first);
        }
        self.output.report(&DemoStep::Packet {
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
        self.observation_mut(place).passed = next.result.is_ok();
        self.observation_mut(place).is_complete = true;
        self.report_result(fetch, &next)
    }

    fn report_result(&self, fetch: usize, attempt: &FetchAttempt) -> Result<(), DemoError> {
        let took_us = attempt.done_at.saturating_sub(attempt.connect_at);
        let result = attempt_text(attempt);
        self.output.report(&match attempt.result {
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

    /// Makes the first attempt of a fetch. Also returns the question that follows.
    async fn first_attempt(
        &mut self,
        index: usize,
        host: &FakeHost,
    ) -> Result<(FetchAttempt, Option<ArrivedQuestion>), DemoError> {
        self.start_attempt(index).await?;
        let (mut attempt, mut arrived) = (None, None);
        let question_timeout = tokio::time::sleep(QUESTION_TIMEOUT);
        tokio::pin!(question_timeout);
        loop {
            let refused = attempt
                .as_ref()
                .is_some_and(|a: &FetchAttempt| a.result.is_err());
            if attempt.is_some() && (arrived.is_some() || !host.may_be_asked || !refused) {
                break;
            }
            tokio::select! {
                message = self.workload.next_message(), if attempt.is_none() => {
                    attempt = Some(expect_attempt(message?)?);
                }
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
                () = &mut question_timeout => break,
            }
        }
        let no_reply = || DemoPartError::of(WORKLOAD_PART)(DemoPartError::NoReply);
        Ok((attempt.ok_or_else(no_reply)?, arrived))
    }

    /// Records an event. Returns the question if the event contains one.
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
                    "the question about {} was withdrawn ({reason})",
                    request.dest
                ));
            }
            _ => {}
        }
        None
    }

    /// Records a question about a host that is not being fetched.
    fn record_unexpected_question(&mut self, request: &Request) {
        let about = (request.address.as_str().parse().ok(), request.port);
        let seen = self.outcome.observations.iter_mut().find(|seen| {
            let host = seen.host.map(|host| (Some(host.ip()), host.port()));
            host == Some(about)
        });
        match seen {
            Some(seen) => seen.asked = true,
            None => self.outcome.problems.push(format!(
                "a question about {} came without a fetch",
                request.dest
            )),
        }
    }

    async fn handle_question(
        &mut self,
        fetch: usize,
        place: usize,
        first: &FetchAttempt,
        arrived: &ArrivedQuestion,
    ) -> Result<(), DemoError> {
        let request = &arrived.request;
        let packet_to_event_us = arrived.at.saturating_sub(first.connect_at);
        let read_at = self.supervisor.question_timestamps(&request.id).read_at;
        self.outcome.packet_to_event_us.push(packet_to_event_us);
        self.output.report(&DemoStep::Event {
            fetch,
            request: request.id.clone(),
            dest: request.dest.clone(),
            at: arrived.at,
            packet_to_log_us: read_at.map(|at| at.saturating_sub(first.connect_at)),
            packet_to_event_us,
        })?;
        self.output.report(&DemoStep::Question {
            fetch,
            request: request.id.clone(),
            scope: request.scope.clone(),
            process: request.process.as_deref().cloned(),
        })?;
        let seen = self.observation_mut(place);
        seen.asked = true;

        let Some((action, sent_at)) = self.obtain_decision(fetch, place, request).await? else {
            return Ok(());
        };
        let listed = self.inspector.list_elements();
        let read_back_at = now_us();
        let taken_at = self.supervisor.question_timestamps(&request.id).set_at;
        let elements = listed.unwrap_or_else(|error| {
            self.outcome.problems.push(error_chain(&error).to_string());
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
            self.observation_mut(place).is_set = true;
            self.outcome.answer_to_set_us.extend(answer_to_set_us);
            self.output.report(&DemoStep::Set {
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

    /// Obtains the answer to a question, and the time when the demo sent the answer. The time is
    /// `None` if a user interface sent the answer. Returns `None` without an answer.
    async fn obtain_decision(
        &mut self,
        fetch: usize,
        place: usize,
        request: &Request,
    ) -> Result<Option<(Action, Option<u64>)>, DemoError> {
        if self.answers.ui().is_some() {
            let action = self.await_ui_decision(fetch, place, request).await?;
            return Ok(action.map(|action| (action, None)));
        }
        let echoed = self.answers.is_echoed();
        let page = self
            .output
            .renderer()
            .map(|renderer| (self.output, renderer));
        let answered = self.answers.next_answer(page).await?;
        self.observation_mut(place).answer = answered.action;
        if !echoed || page.is_none() || answered.action.is_none() {
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

    /// Waits until a user interface has sent an answer to the hub.
    async fn await_ui_decision(
        &mut self,
        fetch: usize,
        place: usize,
        request: &Request,
    ) -> Result<Option<Action>, DemoError> {
        let Some(ui) = self.answers.ui() else {
            return Ok(None);
        };
        let by = ui.name();
        if let Some((renderer, hint)) = self.output.renderer().zip(ui.hint()) {
            self.output.print(&renderer.render_ui_hint(hint))?;
        }
        let asked_at = now_us();
        let mut others = Vec::new();
        let resolution = tokio::select! {
            decided = self.operator.wait_for_decision(&request.id, &mut others) => Some(decided?),
            left = ui.run() => {
                left.map_err(|source| DemoError::Ui { ui: by, source })?;
                None
            }
        };
        ui.hide();
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
        self.observation_mut(place).answer = action;
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

    fn report_answer(&self, fetch: usize, answered: DemoAnswer) -> Result<(), DemoError> {
        self.output.report(&DemoStep::Answer {
            fetch,
            answer: answered.action,
            by: answered.by,
            took_us: answered.took_us,
        })
    }

    /// Sends an answer to a question that was never asked, like a program that tries to escape.
    async fn send_forged_answer(
        &mut self,
        fetch: usize,
        place: usize,
        host: &FakeHost,
    ) -> Result<(), DemoError> {
        let decide = DecideParameters {
            request: format!("{}:{}", self.container, 1_000_000 + fetch).parse()?,
            container: self.container.clone(),
            dest: host.dest().parse()?,
            action: DecisionAction::Allow,
            scope: None,
        };
        match self.operator.decide(&decide).await {
            Ok(()) => self.observation_mut(place).forgery_accepted = true,
            Err(error) => self.output.report(&DemoStep::Forged { fetch, error })?,
        }
        Ok(())
    }

    async fn attempt(&mut self, index: usize) -> Result<FetchAttempt, DemoError> {
        self.start_attempt(index).await?;
        let message =
            tokio::time::timeout(2 * QUESTION_TIMEOUT, self.workload.next_message()).await;
        let no_reply = |_elapsed| DemoPartError::of(WORKLOAD_PART)(DemoPartError::NoReply);
        expect_attempt(message.map_err(no_reply)??)
    }

    async fn start_attempt(&mut self, index: usize) -> Result<(), DemoError> {
        let line = format!("{index}\n");
        self.workload.write_line(line.as_bytes()).await
    }

    /// Returns the observation at `place`, added by [`Self::fetch`].
    fn observation_mut(&mut self, place: usize) -> &mut FetchObservation {
        &mut self.outcome.observations[place]
    }
}

fn expect_attempt(message: WorkloadMessage) -> Result<FetchAttempt, DemoError> {
    match message {
        WorkloadMessage::Tried(attempt) => Ok(attempt),
        WorkloadMessage::Ready(_) => Err(DemoPartError::of(WORKLOAD_PART)(
            DemoPartError::UnexpectedMessage,
        )),
    }
}

fn attempt_text(attempt: &FetchAttempt) -> DisplayText {
    match &attempt.result {
        Ok(words) | Err(words) => words.clone(),
    }
}
