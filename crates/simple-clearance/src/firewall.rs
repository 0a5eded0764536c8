// SPDX-License-Identifier: Apache-2.0
//! The firewall of the container: the ruleset of this project if the container has it, else the
//! firewall of the `terok-shield` program. A message at the start names the choice.

use std::sync::{Arc, Mutex};

use netns::{NetnsRef, ProcessHandle, SocketSpec};
use shield::NftShield;
use terok_clearance::{Action, ContainerId, DisplayText, EnforcementOutcome, Scope};
use verdict::{ExecBackend, NativeBackend, VerdictBackend as _, VerdictOrder, find_shield_program};

use crate::absolute_path::absolute_path;
use crate::container::ShieldContainer;
use crate::question_queue::QueuedQuestion;
use crate::{QuestionOutput, SimpleClearanceConfig, SimpleClearanceError};

/// Access to the container's firewall.
#[derive(Debug)]
pub(crate) enum ContainerFirewall {
    /// A program, which opens or closes whole destinations.
    Exec(ExecBackend),
    /// The ruleset of this project. Opens exactly the scope of the question.
    Native(NativeBackend),
}

impl ContainerFirewall {
    /// Finds the firewall of `container` and prints the choice. A named program is preferred.
    pub(crate) fn detect(
        container: &ShieldContainer,
        config: &SimpleClearanceConfig,
        output: &dyn QuestionOutput,
    ) -> Result<Self, SimpleClearanceError> {
        let note = |text: &str| {
            if !config.json {
                output.print_note(text);
            }
        };
        let program = if let Some(named) = &config.shield {
            let path = absolute_path(named)?;
            if !path.is_file() {
                return Err(SimpleClearanceError::NoShieldProgram { path });
            }
            Some(path)
        } else {
            if let Some(shield) = open_native_shield(container) {
                note("answers change the container's own firewall, port by port");
                let shield = Arc::new(Mutex::new(shield));
                let name = container.name().clone();
                return Ok(Self::Native(NativeBackend::new(name, shield)));
            }
            find_shield_program(Some(&config.own_program), config.search_path.as_deref())
        };
        let program = program.ok_or(SimpleClearanceError::ShieldNotFound)?;
        note(&format!(
            "answers are applied by {}, for every port of a destination",
            program.display()
        ));
        let variables = config.shield_variables.clone();
        Ok(Self::Exec(ExecBackend::new(Some(program), variables)))
    }

    /// Applies an answer.
    pub(crate) async fn apply(
        &self,
        container: &ContainerId,
        question: &QueuedQuestion,
        action: Action,
    ) -> Result<(), DisplayText> {
        let scope = match self {
            Self::Exec(_) => Scope::until_removed(question.dest.clone()),
            Self::Native(_) => Scope {
                port: (question.port > 0).then_some(question.port),
                protocol: question.protocol,
                ..Scope::whole_dest(question.dest.clone())
            },
        };
        let order = VerdictOrder::new(container.clone(), action, scope)
            .map_err(|error| DisplayText::new(&error.to_string()))?;
        let reply = match self {
            Self::Exec(program) => program.apply(&order).await,
            Self::Native(ours) => ours.apply(&order).await,
        };
        match reply.into() {
            EnforcementOutcome::Applied => Ok(()),
            EnforcementOutcome::Failed(reason) => Err(reason),
        }
    }
}

/// Returns the firewall of `container` if the container runs and has the ruleset of this project.
///
/// A namespace that cannot be entered or read counts as a namespace without the ruleset.
fn open_native_shield(container: &ShieldContainer) -> Option<NftShield> {
    let process = ProcessHandle::open(container.pid()?).ok()?;
    let socket = NetnsRef::OfProcess(process)
        .open_socket(SocketSpec::Netfilter)
        .ok()?;
    #[expect(
        clippy::disallowed_methods,
        reason = "the entry point of the command reads the clock for orders with a lifetime"
    )]
    let now = std::time::Instant::now();
    let mut shield = NftShield::attach_existing(socket, now).ok().flatten()?;
    // Questions from before this reader started were lost, or belong to a reader that is gone.
    if let Err(error) = shield.flush_asked(now) {
        tracing::warn!(
            error = &error as &dyn std::error::Error,
            "cannot clear the memory of recent questions; earlier questions are not asked again"
        );
    }
    Some(shield)
}
