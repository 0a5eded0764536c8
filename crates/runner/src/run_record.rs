// SPDX-License-Identifier: Apache-2.0
//! The record of a run.

use record::{AuditSandbox, AuditSandboxEnd, AuditSandboxStart};
use supervisor::TraceEvent;
use terok_clearance::DisplayText;
use tokio::sync::mpsc;

use crate::connection_programs::ConnectionPrograms;
use crate::session::RunEvent;
use crate::{AuditOpenError, NetworkChoice, RunConfig, RunError, RunOutcome, SandboxAudit};

/// The record of one run.
#[derive(Debug, Clone)]
pub(crate) struct RunRecord {
    audit: SandboxAudit,
    /// The programs of open connections, in a run that learns.
    programs: Option<ConnectionPrograms>,
}

impl RunRecord {
    /// Opens the records, and records the start of the run. Failures of writing are passed to
    /// `notices`.
    ///
    /// Starts threads: a sandbox must have been built before.
    pub(crate) fn begin(
        config: &RunConfig,
        sandbox: AuditSandbox,
        notices: &mpsc::Sender<RunEvent>,
    ) -> Result<Self, RunError> {
        let notices = notices.clone();
        let on_notice = move |notice| drop(notices.try_send(RunEvent::Record(notice)));
        let audit = SandboxAudit::open(
            &config.records,
            config.is_record_required,
            sandbox,
            on_notice,
        );
        let audit = audit.map_err(|error| match error {
            AuditOpenError::Required(error) => RunError::Record(error),
            AuditOpenError::Thread(error) => RunError::RecordThread(error),
        })?;
        let command = config.command.iter().map(|word| word.to_string_lossy());
        let command: Vec<_> = command.collect();
        let network = match config.network {
            NetworkChoice::Dialed => "dialed",
            NetworkChoice::None => "none",
        };
        audit.start(AuditSandboxStart {
            network: network.into(),
            learn: config.rules.learns,
            profiles: config.rules.profiles.clone(),
            command: Some(DisplayText::new(&command.join(" "))),
        });
        Ok(Self {
            audit,
            programs: config.rules.learns.then(ConnectionPrograms::default),
        })
    }

    /// Records the end of the run, and waits for a short time until all is written. Returns
    /// `false` if something is not.
    pub(crate) fn finish(self, outcome: RunOutcome) -> bool {
        let (status, reason) = match outcome {
            RunOutcome::Exited { status } => (Some(i32::from(status)), None),
            RunOutcome::Killed { signal } | RunOutcome::Interrupted { signal } => {
                (None, Some(format!("signal {signal}")))
            }
        };
        self.audit.finish(Some(AuditSandboxEnd {
            status,
            reason: reason.map(|reason| DisplayText::new(&reason)),
        }))
    }

    /// Records an event of the supervisor, if it is one for the record.
    pub(crate) fn observe(&self, event: &TraceEvent<'_>) {
        let programs = self.programs.as_ref();
        let program = programs.and_then(|programs| programs.observe(event));
        self.audit.observe_with_program(event, program);
    }
}
