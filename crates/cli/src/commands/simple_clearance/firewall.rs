// SPDX-License-Identifier: Apache-2.0
//! What carries the answers out: the `terok-shield` program, or the container's own firewall where
//! that is one of ours. Which of them is said at the start.

use std::path::Path;
use std::sync::{Arc, Mutex};

use anyhow::{Context as _, anyhow};
use netns::{NetnsRef, ProcessHandle, SocketSpec};
use operator::queue::QueuedQuestion;
use shield::NftShield;
use terok_clearance::{Action, ContainerId, DisplayText, EnforcementOutcome, Scope};
use verdict::{
    ExecBackend, NativeBackend, PASSED_ENVIRONMENT, VerdictBackend as _, VerdictOrder, find_program,
};

use super::{Container, absolute};
use crate::{Advise as _, Context, Failure};

/// A way to the container's firewall.
#[derive(Debug)]
pub(super) enum Firewall {
    /// A program, for which a destination is open or closed as a whole.
    Program(ExecBackend),
    /// Our own ruleset, which opens what was asked and no more.
    Ours(NativeBackend),
}

impl Firewall {
    /// Finds what guards `container`, and says which it is. A program that is named is used.
    pub(super) fn of(
        container: &Container,
        named: Option<&Path>,
        context: &Context,
    ) -> Result<Self, Failure> {
        let say = |what: &str| {
            if !context.json {
                context.output.error_line(what);
            }
        };
        let program = if let Some(named) = named {
            let program = absolute(named)?;
            if !program.is_file() {
                let missing = anyhow!("there is no program at {}", program.display());
                return Err(missing).hint("--shield takes the path of terok-shield");
            }
            Some(program)
        } else {
            if let Some(shield) = ours(container) {
                say("answers change the container's own firewall, port by port");
                let shield = Arc::new(Mutex::new(shield));
                let name = container.name().clone();
                return Ok(Self::Ours(NativeBackend::new(name, shield)));
            }
            let ours = std::env::current_exe().ok();
            let path = context.environment.path();
            find_program(ours.as_deref(), path.map(AsRef::as_ref))
        };
        let program = program
            .context("there is no terok-shield to carry answers out")
            .hint("install terok-shield, or name the program with --shield")?;
        say(&format!(
            "answers are carried out by {}, for every port of a destination",
            program.display()
        ));
        let environment = context.environment.pass_on(&PASSED_ENVIRONMENT);
        Ok(Self::Program(ExecBackend::new(Some(program), environment)))
    }

    /// Carries an answer out, or says why not.
    pub(super) async fn apply(
        &self,
        container: &ContainerId,
        question: &QueuedQuestion,
        action: Action,
    ) -> Result<(), DisplayText> {
        let whole = Scope::whole_dest(question.dest.clone());
        let scope = match self {
            Self::Program(_) => whole,
            Self::Ours(_) => Scope {
                port: (question.port > 0).then_some(question.port),
                protocol: question.protocol,
                ..whole
            },
        };
        let order = VerdictOrder::new(container.clone(), action, scope)
            .map_err(|error| DisplayText::new(&error.to_string()))?;
        let reply = match self {
            Self::Program(program) => program.apply(&order).await,
            Self::Ours(ours) => ours.apply(&order).await,
        };
        match reply.into() {
            EnforcementOutcome::Applied => Ok(()),
            EnforcementOutcome::Failed(reason) => Err(reason),
        }
    }
}

/// Returns the firewall of `container`, if it is known to run and its ruleset is ours.
///
/// A namespace that cannot be entered or read is one that somebody else guards.
fn ours(container: &Container) -> Option<NftShield> {
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
    if let Err(error) = shield.ask_again(now) {
        tracing::warn!(
            error = &error as &dyn std::error::Error,
            "what was asked before is not asked again"
        );
    }
    Some(shield)
}
