// SPDX-License-Identifier: Apache-2.0
//! The reader as a program: reports one sandbox's packets to a hub or to a writer.
//!
//! A drop-in replacement for the Python stack's `nflog-reader.py`, with the same files and lines.

mod attach;
mod delivery;
mod event_reporter;
mod pid_file;

use std::cell::Cell;
use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::Arc;

use terok_clearance::{ContainerId, Dossier, Timestamp};
use tokio_util::sync::CancellationToken;

use crate::{
    ContainerAnnotations, NflogReader, NflogSockets, PacketClassifier, ReaderRunError,
    first_request_number,
};

pub use attach::{AttachError, AttachedNetns, InspectContainerError};

use delivery::{HubDeliveryQueue, deliver_lines};
use event_reporter::{EventReporter, ReportOutput};
use pid_file::PidFile;

/// The configuration of a reader program.
#[derive(Debug)]
pub struct ReaderDaemonConfig {
    /// The container's name or id, as carried by events.
    pub container: ContainerId,
    /// The directory of the sandbox's shield, with the audit log and the log of dnsmasq.
    pub state_dir: PathBuf,
    /// The container's annotations.
    pub annotations: ContainerAnnotations,
    /// The recipient of events.
    pub target: ReportTarget,
}

/// The recipient of events.
pub enum ReportTarget {
    /// The first hub that listens at one of these ingester sockets. It may be absent for a while.
    Hub(Vec<PathBuf>),
    /// A writer of lines.
    Writer(Box<dyn Write + Send>),
}

impl std::fmt::Debug for ReportTarget {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Hub(paths) => f.debug_tuple("Hub").field(paths).finish(),
            Self::Writer(_) => f.debug_tuple("Writer").finish_non_exhaustive(),
        }
    }
}

/// The reader program failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReaderDaemonError {
    /// The packet log could not be read.
    #[error("reading the packet log")]
    Read(#[from] ReaderRunError),
    /// An event could not be written.
    #[error("writing an event")]
    Write(#[source] io::Error),
}

/// Reports the packets of the attached sandbox until `stopped` resolves, the sandbox ends, or the
/// writer fails.
///
/// To be called within a single-threaded tokio runtime.
pub async fn run_daemon(
    config: ReaderDaemonConfig,
    attached: &AttachedNetns,
    sockets: NflogSockets,
    stopped: impl Future<Output = ()>,
) -> Result<(), ReaderDaemonError> {
    let ReaderDaemonConfig {
        container,
        state_dir,
        annotations,
        target,
    } = config;
    let (queue, output) = match target {
        ReportTarget::Hub(paths) => {
            let queue = Arc::new(HubDeliveryQueue::new(paths));
            (Some(Arc::clone(&queue)), ReportOutput::Hub(queue))
        }
        ReportTarget::Writer(writer) => (None, ReportOutput::writer(writer)),
    };
    let pid_file = match &queue {
        Some(_) if attached.is_entered_from_outside() => PidFile::create(&state_dir),
        _ => None,
    };
    let (stop, reported) = (CancellationToken::new(), CancellationToken::new());
    let first = first_request_number(Timestamp::now());
    let classifier = PacketClassifier::new(container.clone(), Dossier::default(), first);
    let mut events = EventReporter::new(container, &state_dir, annotations, output, stop.clone());
    let was_stopped = Cell::new(false);
    let reading = async {
        events.report_started();
        let ended = NflogReader::new(sockets, classifier)
            .run(&mut events, stop.clone())
            .await;
        events.report_exited(was_stopped.get());
        reported.cancel();
        ended
    };
    let waiting = async {
        tokio::select! {
            () = stopped => was_stopped.set(true),
            () = attached.wait_for_exit() => {}
            () = reported.cancelled() => {}
        }
        stop.cancel();
    };
    let delivering = async {
        if let Some(queue) = &queue {
            deliver_lines(queue, &reported).await;
        }
    };
    let (ended, (), ()) = tokio::join!(reading, waiting, delivering);
    drop(pid_file);
    ended?;
    events.finish().map_err(ReaderDaemonError::Write)
}
