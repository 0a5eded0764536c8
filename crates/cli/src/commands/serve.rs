// SPDX-License-Identifier: Apache-2.0
//! `serve`: one hub for every sandbox, on the classic sockets.

mod verdict_enforcer;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use clap::ValueEnum;
use hub::ingest::ingest;
use hub::{Hub, HubOptions};
use terok_clearance::socket::{RuntimeDir, SameUserListener, bind};
use terok_clearance::wire::clearance1::Clearance1Dialect;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use verdict::VerdictClient;

use crate::error::ServiceError;
use crate::runtime::raise_fd_limit;
use crate::{CommandContext, CommandError, CommandStatus, StopSignals, block_on};

use verdict_enforcer::VerdictEnforcer;

/// Long help.
pub(super) const ABOUT: &str = "Serve one hub for every sandbox, on the classic sockets.

Readers report to terok-shield-events.sock, operators subscribe and answer at \
terok-clearance.sock, and answers go to the verdict helper at terok-clearance-verdict.sock, which \
must run too (`serve-verdict`). Stays in the foreground and logs to standard error; SIGTERM and \
Ctrl-C end it and remove its sockets.";

/// Command-line arguments.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  terok-clearance serve-verdict &
  terok-clearance serve

`run` and `supervise` need neither: they start a hub for each sandbox.")]
pub struct Args {
    /// Release of the Python stack whose clients are served: each accepts only its own events
    #[arg(long, value_enum, default_value_t = ClientEra::D, value_name = "ERA")]
    era: ClientEra,
    /// Socket for operators [default: RUNTIME/terok-clearance.sock]
    #[arg(long, value_name = "PATH")]
    clearance_socket: Option<PathBuf>,
    /// Socket for readers [default: RUNTIME/terok-shield-events.sock]
    #[arg(long, value_name = "PATH")]
    reader_socket: Option<PathBuf>,
    /// Socket of the verdict helper [default: RUNTIME/terok-clearance-verdict.sock]
    #[arg(long, value_name = "PATH")]
    verdict_socket: Option<PathBuf>,
}

/// Releases of the Python stack with the same events.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum ClientEra {
    /// 0.5.13 to 0.6.6: events without a dossier
    A,
    /// 0.6.7 to 0.6.12: events with a dossier
    B,
    /// 0.6.13 and newer
    D,
}

/// Runs the command.
pub fn perform(args: Args, context: &CommandContext) -> Result<CommandStatus, CommandError> {
    let classic = RuntimeDir::new(context.environment.private_runtime_dir()?).shared_hub_sockets();
    let clearance = args.clearance_socket.unwrap_or(classic.hub);
    let reader = args.reader_socket.unwrap_or(classic.ingester);
    let verdict = args.verdict_socket.unwrap_or(classic.verdict);
    raise_fd_limit();
    block_on(async {
        let mut signals = StopSignals::catch()?;
        let hub_listener = bind_listener(&clearance)?;
        let reader_listener = bind_listener(&reader)?;
        tracing::info!(
            clearance = %clearance.display(),
            reader = %reader.display(),
            verdict = %verdict.display(),
            "the hub listens"
        );
        let options = HubOptions {
            dialect: match args.era {
                ClientEra::A => Clearance1Dialect::A,
                ClientEra::B => Clearance1Dialect::B,
                ClientEra::D => Clearance1Dialect::D,
            },
            // Longer than the time limit of the verdict client, because the client's error has the
            // reason.
            enforce_timeout: VerdictClient::CALL_TIMEOUT.saturating_add(Duration::from_secs(1)),
            ..HubOptions::default()
        };
        let hub = Hub::new(VerdictEnforcer(VerdictClient::new(verdict)), options);
        let stop = CancellationToken::new();
        let mut parts = JoinSet::new();
        let (ingesting, halt) = (Arc::clone(&hub), stop.clone());
        parts.spawn(async move {
            ingest(ingesting, reader_listener, halt)
                .await
                .map_err(ServiceError::Ingest)
        });
        let halt = stop.clone();
        parts.spawn(async move {
            hub::serve(hub, hub_listener, halt)
                .await
                .map_err(ServiceError::Operators)
        });
        serve_until_stopped(&mut signals, &stop, parts).await
    })
}

/// Waits for a signal or the end of a task, and then for the end of all tasks.
///
/// Each task ends within a time limit. A task that fails is a bug.
pub(super) async fn serve_until_stopped(
    signals: &mut StopSignals,
    stop: &CancellationToken,
    mut parts: JoinSet<Result<(), ServiceError>>,
) -> Result<CommandStatus, CommandError> {
    let first = tokio::select! {
        status = signals.wait_and_cancel(stop) => {
            tracing::info!(signal = status.0.saturating_sub(128), "stopping");
            None
        }
        ended = parts.join_next() => ended,
    };
    stop.cancel();
    let mut broken = None;
    let mut next = first;
    loop {
        match next {
            Some(Ok(Ok(()))) | None => {}
            Some(Ok(Err(error))) => broken = broken.or(Some(error)),
            Some(Err(error)) => broken = broken.or(Some(ServiceError::Task(error))),
        }
        next = parts.join_next().await;
        if next.is_none() {
            break;
        }
    }
    match broken {
        None => Ok(CommandStatus::OK),
        Some(error) => Err(error.into()),
    }
}

/// Binds a socket.
pub(super) fn bind_listener(path: &Path) -> Result<SameUserListener, CommandError> {
    bind(path).map_err(|source| CommandError::Listen {
        path: path.to_owned(),
        source,
    })
}
