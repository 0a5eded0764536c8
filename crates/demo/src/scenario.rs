// SPDX-License-Identifier: Apache-2.0
//! The scenario. Each fetch passes through a packet, an event, a question, an answer, a rule, and
//! the end of the program's wait: a connection or a refusal.

use std::sync::Arc;
use std::time::Duration;

use terok_clearance::wire::clearance2::{DecideParameters, Event, Request};
use terok_clearance::{Action, ContainerId, DecisionAction, DisplayText, Scope};
use tokio::time::timeout;

use crate::answers::{AnswerSource, DemoAnswer};
use crate::checks::FetchObservation;
use crate::clock::now_us;
use crate::demo_operator::DemoOperator;
use crate::error::{DemoError, DemoPartError};
use crate::outcome::DemoOutcome;
use crate::output::DemoOutput;
use crate::processes::{SupervisorThread, WORKLOAD_PART, WorkloadProcess};
use crate::protocol::{FetchAttempt, GIVE_UP_COMMAND, SentPacket, WorkloadMessage};
use crate::report::DemoStep;
use crate::topology::{self, FakeHost};

/// Maximum time until a question arrives; usually less than a millisecond.
const QUESTION_TIMEOUT: Duration = Duration::from_secs(5);
/// Maximum time from an answer until the program's wait ends; usually about a millisecond.
const RELEASE_TIMEOUT: Duration = Duration::from_secs(10);
/// Time for which the kernel repeats a first packet every second. Later ones come seldom, so that
/// the supervisor takes the program for gone.
const HOLD_TIME_US: u64 = 120_000_000;
/// Maximum time from an answer after [`HOLD_TIME_US`] until the program tries again.
const LATE_RELEASE_TIMEOUT: Duration = Duration::from_secs(1);

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

/// The begin of a fetch: up to the question, or up to the end of the attempt.
#[derive(Default)]
struct BegunFetch {
    sent: Option<SentPacket>,
    question: Option<ArrivedQuestion>,
    attempt: Option<FetchAttempt>,
}

/// An answer that reached the hub.
struct SentAnswer {
    /// The scope of the rule.
    scope: Option<Scope>,
    /// Time when the demo sent the answer; `None` for the answer of a user interface.
    sent_at: Option<u64>,
}

impl BegunFetch {
    /// Returns `true` if there is nothing more to wait for before an answer.
    fn is_complete(&self, host: &FakeHost) -> bool {
        match &self.attempt {
            None => self.sent.is_some() && self.question.is_some(),
            // A question may arrive after a refusal, but not without a packet.
            Some(attempt) => {
                attempt.result.is_ok()
                    || attempt.sent.is_none()
                    || self.question.is_some()
                    || !host.may_be_asked
            }
        }
    }
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
        let observation = FetchObservation::of_host(*host);
        self.outcome.observations.push(observation);
        let begun = self.begin_fetch(index, host).await?;
        if let Some(sent) = begun.sent {
            self.output.report(&DemoStep::Packet {
                fetch,
                address: sent.address,
                lookup_us: sent.lookup_us,
                at: sent.at,
                held: begun.attempt.is_none(),
            })?;
        }
        let mut answer_to_refused_us = None;
        let attempt = match begun {
            // A fault; the checks report it.
            BegunFetch {
                attempt: Some(passed),
                question,
                ..
            } if passed.result.is_ok() => {
                let seen = self.observation_mut(place);
                (seen.passed_unasked, seen.asked) = (true, question.is_some());
                passed
            }
            BegunFetch {
                sent: Some(sent),
                question: Some(arrived),
                attempt,
            } => {
                let (attempt, sent_at) = self
                    .handle_question(index, place, host, sent, &arrived, attempt)
                    .await?;
                answer_to_refused_us = sent_at.map(|at| attempt.done_at.saturating_sub(at));
                attempt
            }
            BegunFetch {
                attempt: Some(refused),
                ..
            } if !host.may_be_asked => self.handle_floor(index, place, host, &refused).await?,
            BegunFetch {
                attempt: Some(refused),
                ..
            } => refused,
            BegunFetch { attempt: None, .. } => self.wait_for_attempt(Duration::ZERO).await?,
        };
        let seen = &mut self.outcome.observations[place];
        seen.add_trace(self.supervisor.trace());
        seen.passed = attempt.result.is_ok();
        seen.is_complete = true;
        self.report_result(fetch, &attempt, answer_to_refused_us)
    }

    fn report_result(
        &self,
        fetch: usize,
        attempt: &FetchAttempt,
        answer_to_refused_us: Option<u64>,
    ) -> Result<(), DemoError> {
        let (result, waited_us) = (attempt.text(), attempt.waited_us());
        self.output
            .report(&match (&attempt.result, attempt.connected_at) {
                (Ok(_), connected_at) => DemoStep::Passed {
                    fetch,
                    result,
                    waited_us,
                    took_us: connected_at.map_or(0, |at| attempt.done_at.saturating_sub(at)),
                },
                (Err(_), _) => DemoStep::Refused {
                    fetch,
                    result,
                    waited_us,
                    answer_to_refused_us,
                },
            })
    }

    /// Makes the program begin a fetch. Also returns the question that follows.
    async fn begin_fetch(
        &mut self,
        index: usize,
        host: &FakeHost,
    ) -> Result<BegunFetch, DemoError> {
        self.start_attempt(index).await?;
        let mut begun = BegunFetch::default();
        let question_timeout = tokio::time::sleep(QUESTION_TIMEOUT);
        tokio::pin!(question_timeout);
        while !begun.is_complete(host) {
            tokio::select! {
                message = self.workload.next_message(), if begun.attempt.is_none() => {
                    match message? {
                        WorkloadMessage::Connecting(sent) => begun.sent = Some(sent),
                        WorkloadMessage::Tried(attempt) => begun.attempt = Some(attempt),
                        WorkloadMessage::Ready(_) => return Err(unexpected_message()),
                    }
                }
                event = self.operator.next_event() => {
                    let at = now_us();
                    if let Some(request) = self.take_question(event?) {
                        if is_about(&request, host) {
                            begun.question = Some(ArrivedQuestion { request, at });
                        } else {
                            self.record_unexpected_question(&request);
                        }
                    }
                }
                () = &mut question_timeout => break,
            }
        }
        Ok(begun)
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
        let seen = self
            .outcome
            .observations
            .iter_mut()
            .find(|seen| seen.host.is_some_and(|host| is_about(request, &host)));
        match seen {
            Some(seen) => seen.asked = true,
            None => self.outcome.problems.push(format!(
                "a question about {} came without a fetch",
                request.dest
            )),
        }
    }

    /// Shows a question, its answer and the effects. Returns the attempt, and the time when the
    /// demo sent the answer.
    async fn handle_question(
        &mut self,
        index: usize,
        place: usize,
        host: &FakeHost,
        sent: SentPacket,
        arrived: &ArrivedQuestion,
        attempt: Option<FetchAttempt>,
    ) -> Result<(FetchAttempt, Option<u64>), DemoError> {
        let fetch = index + 1;
        let request = &arrived.request;
        self.observation_mut(place).asked = true;
        self.report_question(fetch, sent, arrived)?;
        let Some(answer) = self.obtain_decision(fetch, place, request).await? else {
            let attempt = match attempt {
                Some(ended) => ended,
                None => self.wait_for_attempt(Duration::ZERO).await?,
            };
            return Ok((attempt, None));
        };
        let rule = self.supervisor.trace().rule_of(&request.id);
        if let Some(rule) = &rule {
            let scope = answer.scope.as_ref();
            self.output.report(&DemoStep::Rule {
                fetch,
                action: rule.action,
                dest: rule.dest.clone(),
                protocol: scope.and_then(|scope| scope.protocol),
                port: scope.and_then(|scope| scope.port),
                answer_to_rule_us: answer.sent_at.map(|at| rule.at.saturating_sub(at)),
            })?;
        }
        let answered_at = rule.map_or_else(now_us, |rule| rule.at);
        let is_late = answered_at.saturating_sub(sent.at) > HOLD_TIME_US;
        let limit = if is_late {
            LATE_RELEASE_TIMEOUT
        } else {
            RELEASE_TIMEOUT
        };
        let mut attempt = match attempt {
            Some(ended) => ended,
            None => self.wait_for_attempt(limit).await?,
        };
        let ended_early = attempt.done_at < answered_at;
        if attempt.result.is_err() && (is_late || ended_early) {
            // After a long wait, any program tries again.
            self.observation_mut(place).refused_early = !is_late;
            self.start_attempt(index).await?;
            attempt = self.wait_for_attempt(RELEASE_TIMEOUT).await?;
        }
        let made = self.supervisor.trace().connections_to(host);
        if let Some((connected_at, address)) = attempt.connected_at.zip(made.last().copied()) {
            let answer_to_connect_us = answer.sent_at.map(|at| connected_at.saturating_sub(at));
            self.outcome
                .answer_to_connect_us
                .extend(answer_to_connect_us);
            self.output.report(&DemoStep::Connected {
                fetch,
                address,
                answer_to_connect_us,
            })?;
        }
        Ok((attempt, answer.sent_at))
    }

    fn report_question(
        &mut self,
        fetch: usize,
        sent: SentPacket,
        arrived: &ArrivedQuestion,
    ) -> Result<(), DemoError> {
        let request = &arrived.request;
        let packet_to_event_us = arrived.at.saturating_sub(sent.at);
        let read_at = self.supervisor.trace().asked_at(&request.id);
        self.outcome.packet_to_event_us.push(packet_to_event_us);
        self.output.report(&DemoStep::Event {
            fetch,
            request: request.id.clone(),
            dest: request.dest.clone(),
            at: arrived.at,
            packet_to_log_us: read_at.map(|at| at.saturating_sub(sent.at)),
            packet_to_event_us,
        })?;
        self.output.report(&DemoStep::Question {
            fetch,
            request: request.id.clone(),
            scope: request.scope.clone(),
            process: request.process.as_deref().cloned(),
        })
    }

    /// Shows the refusal of a host that no answer can open, and makes the program try again after a
    /// forged answer.
    async fn handle_floor(
        &mut self,
        index: usize,
        place: usize,
        host: &FakeHost,
        refused: &FetchAttempt,
    ) -> Result<FetchAttempt, DemoError> {
        let fetch = index + 1;
        if self.supervisor.trace().has_floor_notice(host) {
            let waited_us = refused.waited_us();
            self.output.report(&DemoStep::Notice { fetch, waited_us })?;
        }
        self.send_forged_answer(fetch, place, host).await?;
        self.start_attempt(index).await?;
        self.wait_for_attempt(RELEASE_TIMEOUT).await
    }

    /// Obtains the answer to a question; `None` without an answer.
    async fn obtain_decision(
        &mut self,
        fetch: usize,
        place: usize,
        request: &Request,
    ) -> Result<Option<SentAnswer>, DemoError> {
        if self.answers.ui().is_some() {
            return self.await_ui_decision(fetch, place, request).await;
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
            replace: false,
        };
        let sent_at = now_us();
        let scope = match self.operator.decide(&decide).await {
            Ok(decision) => decision.scope,
            Err(reason) => {
                self.outcome.problems.push(format!(
                    "the answer about {} was refused: {reason}",
                    request.dest
                ));
                None
            }
        };
        Ok(Some(SentAnswer {
            scope,
            sent_at: Some(sent_at),
        }))
    }

    /// Waits until a user interface has sent an answer to the hub.
    async fn await_ui_decision(
        &mut self,
        fetch: usize,
        place: usize,
        request: &Request,
    ) -> Result<Option<SentAnswer>, DemoError> {
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
        let action = match resolution.as_ref().map(|decision| decision.action) {
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
        Ok(action.map(|_| SentAnswer {
            scope: resolution.and_then(|decision| decision.scope.clone()),
            sent_at: None,
        }))
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
            replace: false,
        };
        match self.operator.decide(&decide).await {
            Ok(_) => self.observation_mut(place).forgery_accepted = true,
            Err(error) => self.output.report(&DemoStep::Forged { fetch, error })?,
        }
        Ok(())
    }

    /// Waits for the end of the program's attempt; after `limit` makes the program give up.
    async fn wait_for_attempt(&mut self, limit: Duration) -> Result<FetchAttempt, DemoError> {
        if let Ok(attempt) = timeout(limit, self.next_attempt()).await {
            return attempt;
        }
        let line = format!("{GIVE_UP_COMMAND}\n");
        self.workload.write_line(line.as_bytes()).await?;
        let attempt = timeout(QUESTION_TIMEOUT, self.next_attempt()).await;
        attempt.map_err(|_elapsed| DemoPartError::of(WORKLOAD_PART)(DemoPartError::NoReply))?
    }

    async fn next_attempt(&mut self) -> Result<FetchAttempt, DemoError> {
        loop {
            match self.workload.next_message().await? {
                WorkloadMessage::Tried(attempt) => return Ok(attempt),
                WorkloadMessage::Connecting(_) => {}
                WorkloadMessage::Ready(_) => return Err(unexpected_message()),
            }
        }
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

/// Returns `true` for a question about a connection to `host`.
fn is_about(request: &Request, host: &FakeHost) -> bool {
    request.dest.to_string() == host.dest() && request.port == host.port
}

fn unexpected_message() -> DemoError {
    DemoPartError::of(WORKLOAD_PART)(DemoPartError::UnexpectedMessage)
}
