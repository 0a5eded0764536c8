// SPDX-License-Identifier: Apache-2.0
//! `serve`: one hub for every sandbox, on the classic sockets.

use std::path::{Path, PathBuf};
use std::pin::pin;

use clap::ValueEnum;
use hub::HubListeners;
use supervisor::serve_classic_hub;
use terok_clearance::socket::{RuntimeDir, SameUserListener, bind_in_runtime_dir};
use terok_clearance::wire::clearance1::Clearance1Dialect;
use tokio_util::sync::CancellationToken;

use crate::error::ServiceError;
use crate::{CommandContext, CommandError, CommandStatus, StopSignals, block_on};
use runner::raise_open_files_limit;

/// Long help.
pub(super) const ABOUT: &str = "Serve one hub for every sandbox, on the classic sockets.

Readers report to terok-shield-events.sock, operators subscribe and answer at \
terok-clearance.sock, and answers go to the verdict helper at terok-clearance-verdict.sock, which \
must run too (`serve-verdict`). Stays in the foreground and logs to standard error; SIGTERM and \
Ctrl-C end it and remove its sockets. A socket that somebody removes is bound anew; connections \
stay.";

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
    let runtime = RuntimeDir::new(context.environment.private_runtime_dir()?);
    let classic = runtime.shared_hub_sockets();
    let clearance = args.clearance_socket.unwrap_or(classic.hub);
    let reader = args.reader_socket.unwrap_or(classic.ingester);
    let verdict = args.verdict_socket.unwrap_or(classic.verdict);
    raise_open_files_limit();
    block_on(async {
        let mut signals = StopSignals::catch()?;
        let listeners = HubListeners {
            operators: bind_listener(&runtime, &clearance)?,
            readers: bind_listener(&runtime, &reader)?.accept_engine_hooks(),
        };
        tracing::info!(
            clearance = %clearance.display(),
            reader = %reader.display(),
            verdict = %verdict.display(),
            "the hub listens"
        );
        let dialect = match args.era {
            ClientEra::A => Clearance1Dialect::A,
            ClientEra::B => Clearance1Dialect::B,
            ClientEra::D => Clearance1Dialect::D,
        };
        let stop = CancellationToken::new();
        let serving = serve_classic_hub(listeners, verdict, dialect, stop.clone());
        serve_until_stopped(&mut signals, &stop, serving).await
    })
}

/// Runs `service` until a signal cancels `stop`. The end of a service without a signal is a bug.
pub(super) async fn serve_until_stopped<E: Into<ServiceError>>(
    signals: &mut StopSignals,
    stop: &CancellationToken,
    service: impl Future<Output = Result<(), E>>,
) -> Result<CommandStatus, CommandError> {
    let mut service = pin!(service);
    let served = tokio::select! {
        status = signals.wait_and_cancel(stop) => {
            tracing::info!(signal = status.0.saturating_sub(128), "stopping");
            service.await
        }
        served = &mut service => served,
    };
    match served {
        Ok(()) => Ok(CommandStatus::OK),
        Err(error) => Err(CommandError::Service(error.into())),
    }
}

/// Binds a socket, which is bound again after its removal: `terok-sandbox setup` does.
pub(super) fn bind_listener(
    runtime: &RuntimeDir,
    path: &Path,
) -> Result<SameUserListener, CommandError> {
    let bound = bind_in_runtime_dir(runtime, path).map_err(|source| CommandError::Listen {
        path: path.to_owned(),
        source,
    })?;
    Ok(bound.rebinding())
}
