// SPDX-License-Identifier: Apache-2.0
//! What one sandbox's packets amount to: lines for a hub and lines of the audit log, each
//! destination once in a while.

use std::fs::{self, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use reader::dns::DnsAnswer;
use reader::dnsmasq::DnsmasqLogParser;
use reader::{
    ContainerAnnotations, DedupWindow, DnsCache, NflogLoss, ReaderSink, to_audit_line,
    to_event_line,
};
use terok_clearance::{BlockedPacket, ContainerId, Dest, Dossier, SandboxEvent};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::{CommandStatus, StandardStreams};

use super::delivery::HubDeliveryQueue;

/// Whom questions are told.
pub(super) enum ReportOutput {
    /// A hub, which may be away.
    Hub(Arc<HubDeliveryQueue>),
    /// Whoever reads standard output.
    Stdout {
        output: StandardStreams,
        recently_asked: DedupWindow,
        write_error: Option<anyhow::Error>,
    },
}

impl ReportOutput {
    /// Returns the one for standard output.
    pub(super) fn stdout(output: StandardStreams) -> Self {
        Self::Stdout {
            output,
            recently_asked: DedupWindow::default(),
            write_error: None,
        }
    }

    /// Says whether a question about `dest` is news at `now`.
    fn should_ask(&self, dest: &Dest, now: Instant) -> bool {
        match self {
            Self::Hub(mailbox) => mailbox.should_ask(dest, now),
            Self::Stdout {
                recently_asked: asked,
                ..
            } => asked.permits(dest, now),
        }
    }

    /// Tells a line; `about` is what it asks about.
    fn write_line(&mut self, about: Option<Dest>, line: Vec<u8>, now: Instant) -> Result<(), ()> {
        match self {
            Self::Hub(mailbox) => mailbox.enqueue(about, line),
            Self::Stdout {
                output,
                recently_asked: asked,
                write_error: failed,
            } => {
                let text = String::from_utf8_lossy(&line);
                if let Err(error) = output.print(&text) {
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

/// One sandbox's packets.
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
    /// Returns that of `container`; `stop` is cancelled when nobody is left to tell.
    pub(super) fn new(
        container: ContainerId,
        state_dir: &Path,
        annotations: ContainerAnnotations,
        teller: ReportOutput,
        stop: CancellationToken,
    ) -> Self {
        Self {
            container,
            annotations,
            audit_log: AuditLogFile::new(state_dir.join("audit.jsonl")),
            recently_audited: DedupWindow::default(),
            dnsmasq_log: DnsmasqLogFile::new(state_dir.join("dnsmasq.log")),
            output: teller,
            stop,
        }
    }

    /// Tells that the packets are read from now on.
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

    /// Tells that they are no longer read: because somebody asked for it, or for no known reason.
    pub(super) fn report_exited(&mut self, asked: bool) {
        let container = self.container.clone();
        self.report_event(
            None,
            &SandboxEvent::ContainerExited {
                container,
                reason: if asked { "poststop" } else { "eof" }.into(),
                dossier: Dossier::default(),
            },
        );
    }

    /// Returns how it ends: well, unless a line could not be told.
    pub(super) fn finish(self) -> anyhow::Result<CommandStatus> {
        match self.output {
            ReportOutput::Stdout {
                write_error: Some(error),
                ..
            } => Err(error),
            ReportOutput::Stdout { .. } | ReportOutput::Hub(_) => Ok(CommandStatus::OK),
        }
    }

    fn report_event(&mut self, about: Option<Dest>, event: &SandboxEvent) {
        let line = to_event_line(event, wall_clock_micros());
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
                tracing::debug!(%error, "could not read the dossier's file");
                None
            }
        });
        blocked.dossier = self.annotations.build_dossier(meta.as_deref());
        if audit {
            match self
                .audit_log
                .append(to_audit_line(&blocked, wall_clock_micros()))
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
    fn on_event(&mut self, event: SandboxEvent) {
        match event {
            SandboxEvent::Blocked(blocked) => self.report_blocked(blocked, Instant::now()),
            SandboxEvent::ContainerStarted { .. }
            | SandboxEvent::ContainerExited { .. }
            | SandboxEvent::Shield { .. } => {
                self.report_event(None, &event);
            }
        }
    }

    /// The reader has taken note of the names in it.
    fn on_dns_answer(&mut self, _: &DnsAnswer) {}

    /// The reader has logged it; a hub's ingester has no word for it.
    fn on_loss(&mut self, _: NflogLoss) {}
}

/// Returns the microseconds since the epoch.
fn wall_clock_micros() -> u64 {
    let since = super::now().duration_since(UNIX_EPOCH);
    u64::try_from(since.unwrap_or(Duration::ZERO).as_micros()).unwrap_or(u64::MAX)
}

/// The audit log, which the shield's own program writes to as well.
struct AuditLogFile {
    path: PathBuf,
    /// The disk was full in the middle of a line.
    ends_in_partial_line: bool,
}

impl AuditLogFile {
    const fn new(path: PathBuf) -> Self {
        Self {
            path,
            ends_in_partial_line: false,
        }
    }

    /// Adds a line, in one write, so that lines of others stay whole. One that was torn is ended
    /// first.
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
fn read_limited(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    fs::File::open(path)?
        .take(1 << 20)
        .read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// The log of the sandbox's dnsmasq, and the names that it told.
struct DnsmasqLogFile {
    path: PathBuf,
    /// Which file it was, and how much of it has been read.
    read_position: Option<(u64, u64)>,
    replies: DnsmasqLogParser,
    names: DnsCache,
}

/// As much of a log that is there already is read for names.
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

    /// Returns the name that was last looked up to get `address`.
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

    /// Reads what the log has gained.
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
    fn a_line_of_the_audit_log_that_was_torn_is_ended_before_the_next() {
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
    fn names_come_from_the_log_as_it_grows_and_when_it_starts_anew() {
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
        assert_eq!(
            named("").as_deref(),
            Some("c.example"),
            "what is known stays"
        );
    }
}
