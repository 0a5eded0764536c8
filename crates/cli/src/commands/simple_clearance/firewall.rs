// SPDX-License-Identifier: Apache-2.0
//! The firewall that answers are applied to: the container's own one if it has our ruleset, else
//! whatever the `terok-shield` program controls. A message at the start says which.

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
    /// A program, which opens or closes whole destinations.
    Exec(ExecBackend),
    /// Our own ruleset, which opens exactly the scope of the question.
    Native(NativeBackend),
}

impl ContainerFirewall {
    /// Finds the firewall of `container` and prints which it is. A named program is preferred.
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

/// Returns the firewall of `container`, if the container is known to run and has our ruleset.
///
/// A namespace that cannot be entered or read counts as one without our ruleset.
fn open_native_shield(container: &ShieldContainer) -> Option<NftShield> {
    let process = ProcessHandle::open(container.pid()?).ok()?;
    let socket = NetnsRef::OfProcess(process)
        .open_socket(SocketSpec::Netfilter)
        .ok()?;
    #[expect(
        clippy::disallowed_methods,
        reason = "the edge: orders that end by time"
    )]
    let now = std::time::Instant::now();
    let mut shield = NftShield::attach_existing(socket, now).ok().flatten()?;
    // What was asked before this reader listened was not heard, or by one that is gone.
    if let Err(error) = shield.flush_asked(now) {
        tracing::warn!(
            error = &error as &dyn std::error::Error,
            "what was asked before is not asked again"
        );
    }
    Some(shield)
}
