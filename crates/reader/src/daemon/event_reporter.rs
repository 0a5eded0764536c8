// SPDX-License-Identifier: Apache-2.0
//! Turns one sandbox's events into lines for a hub and for the audit log, with repeated
//! destinations suppressed.

use std::fs::{self, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write};
use std::net::SocketAddr;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::OFlags;
use terok_clearance::{BlockedPacket, ContainerId, Dest, Dossier, SandboxEvent, Timestamp};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::dns::DnsAnswer;
use crate::dnsmasq::DnsmasqLogParser;
use crate::{
    ContainerAnnotations, DedupWindow, DnsCache, NflogLoss, ReaderSink, to_audit_line,
    to_event_line,
};

use super::delivery::HubDeliveryQueue;

/// The recipient of event lines.
pub(super) enum ReportOutput {
    /// A hub, possibly absent.
    Hub(Arc<HubDeliveryQueue>),
    /// A writer, such as standard output.
    Writer {
        writer: Box<dyn Write + Send>,
        recently_asked: DedupWindow,
        write_error: Option<io::Error>,
    },
}

impl ReportOutput {
    pub(super) fn writer(writer: Box<dyn Write + Send>) -> Self {
        Self::Writer {
            writer,
            recently_asked: DedupWindow::default(),
            write_error: None,
        }
    }

    /// Returns `true` unless a question about `dest` was reported recently.
    fn should_ask(&self, dest: &Dest, now: Instant) -> bool {
        match self {
            Self::Hub(queue) => queue.should_ask(dest, now),
            Self::Writer {
                recently_asked: asked,
                ..
            } => asked.permits(dest, now),
        }
    }

    /// Reports a line, with its destination if the line is a question.
    fn write_line(&mut self, about: Option<Dest>, line: Vec<u8>, now: Instant) -> Result<(), ()> {
        match self {
            Self::Hub(queue) => queue.enqueue(about, line),
            Self::Writer {
                writer,
                recently_asked: asked,
                write_error: failed,
            } => {
                if let Err(error) = writer.write_all(&line).and_then(|()| writer.flush()) {
                    *failed = failed.take().or(Some(error));
                    return Err(());
                }
                if let Some(dest) = about {
                    asked.record(dest, now);
                }
            }
        }
        Ok(())
    }
}

/// Reports the events of one sandbox.
pub(super) struct EventReporter {
    container: ContainerId,
    annotations: ContainerAnnotations,
    audit_log: AuditLogFile,
    recently_audited: DedupWindow,
    dnsmasq_log: DnsmasqLogFile,
    output: ReportOutput,
    stop: CancellationToken,
}

impl EventReporter {
    /// Creates the reporter of `container`; it cancels `stop` when the writer fails.
    pub(super) fn new(
        container: ContainerId,
        state_dir: &Path,
        annotations: ContainerAnnotations,
        output: ReportOutput,
        stop: CancellationToken,
    ) -> Self {
        Self {
            container,
            annotations,
            audit_log: AuditLogFile::new(state_dir.join("audit.jsonl")),
            recently_audited: DedupWindow::default(),
            dnsmasq_log: DnsmasqLogFile::new(state_dir.join("dnsmasq.log")),
            output,
            stop,
        }
    }

    /// Reports the start of the sandbox.
    pub(super) fn report_started(&mut self) {
        let container = self.container.clone();
        self.report_event(
            None,
            &SandboxEvent::ContainerStarted {
                container,
                dossier: Dossier::default(),
            },
        );
    }

    /// Reports the end of the sandbox: by request or for an unknown reason.
    pub(super) fn report_exited(&mut self, was_stopped: bool) {
        let container = self.container.clone();
        self.report_event(
            None,
            &SandboxEvent::ContainerExited {
                container,
                reason: if was_stopped { "poststop" } else { "eof" }.into(),
                dossier: Dossier::default(),
            },
        );
    }

    /// Returns the first error of the writer, if any.
    pub(super) fn finish(self) -> io::Result<()> {
        match self.output {
            ReportOutput::Writer {
                write_error: Some(error),
                ..
            } => Err(error),
            ReportOutput::Writer { .. } | ReportOutput::Hub(_) => Ok(()),
        }
    }

    fn report_event(&mut self, about: Option<Dest>, event: &SandboxEvent) {
        let line = to_event_line(event, Timestamp::now().as_micros());
        if self.output.write_line(about, line, Instant::now()).is_err() {
            self.stop.cancel();
        }
    }

    fn report_blocked(&mut self, mut blocked: BlockedPacket, now: Instant) {
        if blocked.domain.is_none() {
            blocked.domain = self.dnsmasq_log.lookup_name(&blocked.address, now);
        }
        let dest = blocked.dest().clone();
        let audit = self.recently_audited.permits(&dest, now);
        let ask = self.output.should_ask(&dest, now);
        if !audit && !ask {
            return;
        }
        let meta = self.annotations.meta_path().map(read_limited);
        let meta = meta.and_then(|read| match read {
            Ok(bytes) => Some(bytes),
            Err(error) => {
                tracing::debug!(%error, "could not read the file with the dossier");
                None
            }
        });
        blocked.dossier = self.annotations.build_dossier(meta.as_deref());
        if audit {
            match self
                .audit_log
                .append(to_audit_line(&blocked, Timestamp::now().as_micros()))
            {
                Ok(()) => self.recently_audited.record(dest.clone(), now),
                Err(error) => {
                    let path = self.audit_log.path.display();
                    tracing::warn!(%error, %path, "could not write to the audit log");
                }
            }
        }
        if ask {
            self.report_event(Some(dest), &SandboxEvent::Blocked(blocked));
        }
    }
}

impl ReaderSink for EventReporter {
    fn on_question(&mut self, blocked: BlockedPacket, _client: SocketAddr) {
        self.report_blocked(blocked, Instant::now());
    }

    fn on_dns_answer(&mut self, _: &DnsAnswer) {}

    /// The event loop has logged the loss; the ingester has no event for it.
    fn on_loss(&mut self, _: NflogLoss) {}
}

/// The audit log, shared with the program of the shield.
struct AuditLogFile {
    path: PathBuf,
    /// Set if the disk was full in the middle of a line.
    ends_in_partial_line: bool,
}

impl AuditLogFile {
    const fn new(path: PathBuf) -> Self {
        Self {
            path,
            ends_in_partial_line: false,
        }
    }

    /// Appends a line in one write, so that lines of other writers stay intact. A partial line is
    /// terminated first.
    fn append(&mut self, mut line: Vec<u8>) -> io::Result<()> {
        if self.ends_in_partial_line {
            line.insert(0, b'\n');
        }
        let mut file = OpenOptions::new()
            .append(true)
            .create(true)
            .open(&self.path)?;
        let written = file.write(&line)?;
        self.ends_in_partial_line = written < line.len();
        if self.ends_in_partial_line {
            return Err(io::ErrorKind::StorageFull.into());
        }
        Ok(())
    }
}

/// Reads a file of at most a megabyte.
/// Reads at most 1 MiB of a regular file; a pipe or a device could block the reader.
fn read_limited(path: &Path) -> io::Result<Vec<u8>> {
    let flags = OFlags::NONBLOCK | OFlags::NOCTTY;
    let mut options = OpenOptions::new();
    options.read(true).custom_flags(flags.bits().cast_signed());
    let file = options.open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::other("it is not a regular file"));
    }
    let mut bytes = Vec::new();
    file.take(1 << 20).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// The log of the sandbox's dnsmasq, and the names found in it.
struct DnsmasqLogFile {
    path: PathBuf,
    /// The inode of the file and the position in it.
    read_position: Option<(u64, u64)>,
    replies: DnsmasqLogParser,
    names: DnsCache,
}

/// Maximum bytes read from an existing log.
const MAX_READ_BYTES: u64 = 4 << 20;

impl DnsmasqLogFile {
    fn new(path: PathBuf) -> Self {
        Self {
            path,
            read_position: None,
            replies: DnsmasqLogParser::default(),
            names: DnsCache::default(),
        }
    }

    /// Returns the latest looked-up name of `address`.
    fn lookup_name(&mut self, address: &Dest, now: Instant) -> Option<Dest> {
        if let Err(error) = self.read_new_lines(now)
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::debug!(%error, "could not read the log of dnsmasq");
        }
        let address = address.as_str().parse().ok()?;
        self.names
            .find_name(address, now)
            .map(|name| Dest::from(&name))
    }

    /// Reads the new part of the log.
    fn read_new_lines(&mut self, now: Instant) -> io::Result<()> {
        let mut file = fs::File::open(&self.path)?;
        let found = file.metadata()?;
        let start = match self.read_position {
            Some((inode, at)) if inode == found.ino() && at <= found.len() => at,
            _ => {
                self.replies.discard_partial();
                found.len().saturating_sub(MAX_READ_BYTES)
            }
        };
        if start < found.len() {
            let mut bytes = Vec::new();
            file.seek(SeekFrom::Start(start))?;
            file.take(MAX_READ_BYTES).read_to_end(&mut bytes)?;
            for (address, name) in self.replies.feed(&bytes) {
                let addresses = vec![(address, DnsCache::MAX_TTL)];
                self.names
                    .insert_answer(&DnsAnswer { name, addresses }, now);
            }
            let length = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
            self.read_position = Some((found.ino(), start.saturating_add(length)));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_regular_file_is_read_for_the_dossier() {
        let state = tempfile::tempdir().unwrap();
        let path = state.path().join("meta");
        rustix::fs::mkfifoat(rustix::fs::CWD, &path, 0o600.into()).unwrap();
        read_limited(&path).unwrap_err();
        read_limited(Path::new("/dev/zero")).unwrap_err();
        fs::remove_file(&path).unwrap();
        fs::write(&path, "{}").unwrap();
        assert_eq!(read_limited(&path).unwrap(), b"{}");
    }

    #[test]
    fn a_partial_line_of_the_audit_log_is_terminated() {
        let state = tempfile::tempdir().unwrap();
        let path = state.path().join("audit.jsonl");
        let mut audit = AuditLogFile::new(path.clone());
        audit.append(b"one\n".to_vec()).unwrap();
        fs::write(&path, "one\ntw").unwrap();
        audit.ends_in_partial_line = true;
        audit.append(b"three\n".to_vec()).unwrap();
        audit.append(b"four\n".to_vec()).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "one\ntw\nthree\nfour\n");
    }

    #[test]
    fn names_are_read_from_a_growing_and_a_replaced_log() {
        let state = tempfile::tempdir().unwrap();
        let path = state.path().join("dnsmasq.log");
        let (mut log, now) = (DnsmasqLogFile::new(path.clone()), Instant::now());
        let address: Dest = "192.0.2.1".parse().unwrap();
        let mut named = |text: &str| {
            fs::write(&path, text).unwrap();
            log.lookup_name(&address, now).map(|name| name.to_string())
        };
        let first = "reply a.example is 192.0.2.1\n";
        assert_eq!(named("").as_deref(), None);
        assert_eq!(named(first).as_deref(), Some("a.example"));
        let more = format!("{first}reply b.example is 192.0.2.1\n");
        assert_eq!(named(&more).as_deref(), Some("b.example"));
        assert_eq!(
            named("reply c.example is 192.0.2.1\n").as_deref(),
            Some("c.example")
        );
        assert_eq!(named("").as_deref(), Some("c.example"), "known names stay");
    }
}
