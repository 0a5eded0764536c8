// SPDX-License-Identifier: Apache-2.0
//! The operator's approver: a program that gets each new question before a person does.
//!
//! It decides, or leaves the question to a person; every failure leaves it to a person, too. Its
//! answers go through the ledger like those of a person, with the program and its reason as the
//! author. The engine never waits for it: questions go through a bounded queue.

mod answer;
mod process;

use std::collections::HashSet;
use std::ffi::OsString;
use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hub::ledger::{ClaimError, QuestionTriple, RequestedScope};
use hub::{Hub, HubDecideError};
use terok_clearance::wire::clearance2::Request;
use terok_clearance::{Action, DisplayText, LogLimiter, RequestId};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::rules::DialedRules;
use answer::{ApproverAnswer, ApproverVerdict, encode_question, parse_answer};
use process::run_approver;

/// Maximum processes of the approver at the same time.
const MAX_PROCESSES: usize = 4;
/// Maximum questions that wait for a process; further ones are left to a person.
const MAX_WAITING: usize = 64;
/// Questions remembered as given to the approver before the first look for ended ones. The next
/// look comes at twice the number of pending ones, which the hub limits.
const MIN_PRUNED: usize = 1_024;

/// The configuration of an approver.
#[derive(Debug, Clone)]
pub struct ApproverConfig {
    /// The program. The workload must not be able to change it, nor what it executes.
    pub program: PathBuf,
    /// Its arguments.
    pub arguments: Vec<OsString>,
    /// Its environment, complete.
    pub environment: Vec<(OsString, OsString)>,
    /// The time after which its answer is not waited for any more.
    pub timeout: Duration,
}

impl ApproverConfig {
    /// The time limit without an option.
    pub const DEFAULT_TIMEOUT: Duration = Duration::from_secs(10);

    fn name(&self) -> DisplayText {
        let name = self.program.file_name().unwrap_or_default();
        DisplayText::new(&name.to_string_lossy())
    }
}

/// The reason why the approver gave no answer.
#[derive(Debug, thiserror::Error)]
enum ApproverError {
    #[error("it was not started")]
    Spawn(#[source] std::io::Error),
    #[error("it was ended after {0:?}")]
    Timeout(Duration),
    #[error("it printed more than {} bytes", process::MAX_OUTPUT_BYTES)]
    TooLong,
    #[error("its output was not read")]
    Read(#[source] std::io::Error),
    #[error("it failed: {status}{}", Described(stderr))]
    Failed {
        status: std::process::ExitStatus,
        stderr: DisplayText,
    },
    #[error("its output is no verdict: {0}")]
    Garbage(DisplayText),
    #[error("its answer is not one that the question offers: {0}")]
    NotOffered(DisplayText),
    #[error("its answer had no effect: {0}")]
    NoEffect(DisplayText),
    #[error("too many questions wait for it")]
    QueueFull,
}

/// What a failed program said, if anything.
struct Described<'a>(&'a DisplayText);

impl fmt::Display for Described<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return Ok(());
        }
        write!(f, ": {}", self.0)
    }
}

/// Takes new questions for the approver.
#[derive(Debug)]
pub(super) struct ApproverQueue {
    shared: Arc<ApproverShared>,
    questions: mpsc::Sender<DecidingQuestion>,
    /// The questions that were given to the approver: a repeated packet gives it none again.
    known: HashSet<RequestId>,
    prune_at: usize,
}

/// Runs the approver.
#[derive(Debug)]
pub(super) struct ApproverService {
    shared: Arc<ApproverShared>,
    questions: mpsc::Receiver<DecidingQuestion>,
}

#[derive(Debug)]
struct ApproverShared {
    config: ApproverConfig,
    hub: Arc<Hub<DialedRules>>,
    /// The number of questions that wait for the approver or that it decides.
    deciding: watch::Sender<usize>,
    failures: Mutex<LogLimiter>,
}

/// A question that counts as being decided until it is dropped.
#[derive(Debug)]
struct DecidingQuestion {
    shared: Arc<ApproverShared>,
    request: RequestId,
}

impl Drop for DecidingQuestion {
    fn drop(&mut self) {
        let deciding = &self.shared.deciding;
        deciding.send_modify(|count| *count = count.saturating_sub(1));
    }
}

/// Creates the two ends of an approver's queue.
pub(super) fn approver_queue(
    config: ApproverConfig,
    hub: Arc<Hub<DialedRules>>,
) -> (ApproverQueue, ApproverService) {
    let shared = Arc::new(ApproverShared {
        config,
        hub,
        deciding: watch::Sender::new(0),
        failures: Mutex::default(),
    });
    let (sender, receiver) = mpsc::channel(MAX_WAITING);
    let queue = ApproverQueue {
        shared: Arc::clone(&shared),
        questions: sender,
        known: HashSet::new(),
        prune_at: MIN_PRUNED,
    };
    let service = ApproverService {
        shared,
        questions: receiver,
    };
    (queue, service)
}

impl ApproverQueue {
    /// Returns the number of questions that the approver decides.
    pub(super) fn deciding(&self) -> watch::Receiver<usize> {
        self.shared.deciding.subscribe()
    }

    /// Gives a question to the approver, unless it had it before. Never waits.
    pub(super) fn submit(&mut self, request: &RequestId) {
        let Some(question) = self.shared.hub.pending_request(request) else {
            return;
        };
        if self.known.len() >= self.prune_at {
            let hub = &self.shared.hub;
            self.known.retain(|id| hub.is_pending(id));
            self.prune_at = self.known.len().saturating_mul(2).max(MIN_PRUNED);
        }
        if !self.known.insert(question.id.clone()) {
            return;
        }
        self.shared
            .deciding
            .send_modify(|count| *count = count.saturating_add(1));
        let deciding = DecidingQuestion {
            shared: Arc::clone(&self.shared),
            request: question.id,
        };
        if let Err(error) = self.questions.try_send(deciding) {
            let deciding = error.into_inner();
            self.shared
                .leave_to_person(&deciding.request, &ApproverError::QueueFull);
        }
    }
}

impl ApproverService {
    /// Decides questions until the queue is dropped. Returns the text of a panic, a defect.
    ///
    /// Dropping the future ends every process of the approver.
    pub(super) async fn serve(self) -> Result<(), DisplayText> {
        let Self {
            shared,
            mut questions,
        } = self;
        let mut jobs = JoinSet::new();
        loop {
            tokio::select! {
                Some(ended) = jobs.join_next() => {
                    if let Err(error) = ended {
                        return Err(DisplayText::new(&error.to_string()));
                    }
                }
                question = questions.recv(), if jobs.len() < MAX_PROCESSES => {
                    let Some(question) = question else { return Ok(()) };
                    let shared = Arc::clone(&shared);
                    jobs.spawn(async move { shared.decide(question).await });
                }
            }
        }
    }
}

impl ApproverShared {
    async fn decide(&self, deciding: DecidingQuestion) {
        // A person may have answered while the question waited.
        let Some(question) = self.hub.pending_request(&deciding.request) else {
            return;
        };
        match self.ask_program(&question).await {
            Ok(ApproverAnswer {
                verdict: ApproverVerdict::Ask,
                reason,
            }) => self.hub.set_approver_note(&question.id, reason),
            Ok(ApproverAnswer {
                verdict: ApproverVerdict::Decide(action, scope),
                reason,
            }) => {
                if let Err(error) = self.answer(&question, action, scope, &reason).await {
                    self.leave_to_person(&question.id, &error);
                }
            }
            Err(error) => self.leave_to_person(&question.id, &error),
        }
    }

    async fn ask_program(&self, question: &Request) -> Result<ApproverAnswer, ApproverError> {
        let input = encode_question(question);
        let output = run_approver(&self.config, &input).await?;
        parse_answer(&output, question)
    }

    async fn answer(
        &self,
        question: &Request,
        action: Action,
        scope: RequestedScope,
        reason: &DisplayText,
    ) -> Result<(), ApproverError> {
        let asked = QuestionTriple {
            request: question.id.as_str(),
            container: question.container.as_str(),
            dest: question.dest.as_str(),
        };
        let by = match reason.as_str() {
            "" => format!("approver {}", self.config.name()),
            reason => format!("approver {}: {reason}", self.config.name()),
        };
        let decided = self.hub.decide(asked, action, scope, DisplayText::new(&by));
        match decided.await {
            // A person was faster, or the sandbox gave up.
            Ok(_)
            | Err(HubDecideError::Refused(
                ClaimError::AlreadyDecided(_)
                | ClaimError::BeingDecided(_)
                | ClaimError::UnknownRequest,
            )) => Ok(()),
            Err(HubDecideError::Refused(ClaimError::Mismatch(mismatch))) => {
                let error = ClaimError::Mismatch(mismatch);
                Err(ApproverError::NotOffered(DisplayText::new(
                    &error.to_string(),
                )))
            }
            Err(error) => Err(ApproverError::NoEffect(DisplayText::new(
                &error.to_string(),
            ))),
        }
    }

    /// Leaves a question to a person because of a failure, which the question tells.
    fn leave_to_person(&self, request: &RequestId, error: &ApproverError) {
        let failures = self.failures.lock();
        let mut failures = failures.unwrap_or_else(PoisonError::into_inner);
        if let Some(suppressed) = failures.admit(Instant::now()) {
            let error = terok_clearance::error_chain(error);
            let program = self.config.name();
            tracing::warn!(%program, %error, suppressed, "the approver did not decide");
        }
        drop(failures);
        let note = format!("no answer: {error}");
        self.hub.set_approver_note(request, DisplayText::new(&note));
    }
}

#[cfg(test)]
mod tests;
