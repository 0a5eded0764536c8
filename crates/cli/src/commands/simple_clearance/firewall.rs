// SPDX-License-Identifier: Apache-2.0
//! The firewall to which answers are applied: the container's firewall if it has the ruleset of
//! this project, otherwise the firewall controlled by the `terok-shield` program. A message at the
//! start names the choice.

use std::path::Path;
use std::sync::{Arc, Mutex};

use anyhow::{Context as _, anyhow};
use netns::{NetnsRef, ProcessHandle, SocketSpec};
use shield::NftShield;
use terok_clearance::{Action, ContainerId, DisplayText, EnforcementOutcome, Scope};
use verdict::{
    ExecBackend, NativeBackend, PASSED_ENVIRONMENT, VerdictBackend as _, VerdictOrder,
    find_shield_program,
};

use super::question_queue::QueuedQuestion;
use super::{ShieldContainer, absolute_path};
use crate::{CommandContext, CommandFailure, ErrorExt as _};

/// Access to the container's firewall.
#[derive(Debug)]
pub(super) enum ContainerFirewall {
    /// The `terok-shield` program. Opens or closes whole destinations.
    Exec(ExecBackend),
    /// The ruleset of this project. Opens exactly the scope of the question.
    Native(NativeBackend),
}

impl ContainerFirewall {
    /// Finds the firewall of `container` and prints the choice. Prefers the program `named`.
    pub(super) fn detect(
        container: &ShieldContainer,
        named: Option<&Path>,
        context: &CommandContext,
    ) -> Result<Self, CommandFailure> {
        let say = |what: &str| {
            if !context.json {
                context.output.print_error_line(what);
            }
        };
        let program = if let Some(named) = named {
            let program = absolute_path(named)?;
            if !program.is_file() {
                let missing = anyhow!("there is no program at {}", program.display());
                return Err(missing).with_hint("--shield takes the path of terok-shield");
            }
            Some(program)
        } else {
            if let Some(shield) = open_native_shield(container) {
                say("answers change the container's own firewall, port by port");
                let shield = Arc::new(Mutex::new(shield));
                let name = container.name().clone();
                return Ok(Self::Native(NativeBackend::new(name, shield)));
            }
            let ours = std::env::current_exe().ok();
            let path = context.environment.search_path();
            find_shield_program(ours.as_deref(), path.map(AsRef::as_ref))
        };
        let program = program
            .context("terok-shield was not found, so answers cannot be applied")
            .with_hint("install terok-shield, or give its path with --shield")?;
        say(&format!(
            "answers are applied by {}, for every port of a destination",
            program.display()
        ));
        let environment = context.environment.select_variables(&PASSED_ENVIRONMENT);
        Ok(Self::Exec(ExecBackend::new(Some(program), environment)))
    }

    /// Applies an answer.
    pub(super) async fn apply(
        &self,
        container: &ContainerId,
        question: &QueuedQuestion,
        action: Action,
    ) -> Result<(), DisplayText> {
        let whole = Scope::whole_dest(question.dest.clone());
        let scope = match self {
            Self::Exec(_) => whole,
            Self::Native(_) => Scope {
                port: (question.port > 0).then_some(question.port),
                protocol: question.protocol,
                ..whole
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
    // The next packet to each destination is reported again: this reader has not seen the reports
    // that came before its start.
    if let Err(error) = shield.flush_asked(now) {
        tracing::warn!(
            error = &error as &dyn std::error::Error,
            "cannot clear the memory of recent questions; earlier questions are not asked again"
        );
    }
    Some(shield)
}
