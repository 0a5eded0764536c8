// SPDX-License-Identifier: Apache-2.0
//! Log records as entries of systemd's journal, each field of a record as a field of the entry.
//!
//! The format is that of the journal's native socket (`systemd.journal-fields(7)`). The fields of a
//! record and of its spans get the prefix `TEROK_`: `journalctl TEROK_CONTAINER=web` shows the
//! entries about one sandbox.

use std::fmt;
use std::fs::File;
use std::io::{self, Write as _};
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;
use tracing_subscriber::registry::LookupSpan;

/// The longest time that an entry waits for a busy journal; the entry is then dropped and counted.
const SEND_TIMEOUT: Duration = Duration::from_secs(1);
/// Maximum bytes of a value. A datagram of all fields of a record stays below the socket's limit.
const MAX_VALUE_BYTES: usize = 4096;
/// Maximum bytes of the name of a field, as the journal has it.
const MAX_NAME_BYTES: usize = 64;

/// Where and under which name entries are written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JournalOptions {
    /// The native socket of the journal.
    pub socket: PathBuf,
    /// The name of the program in the journal, `SYSLOG_IDENTIFIER`.
    pub identifier: String,
}

impl JournalOptions {
    /// The native socket of this machine's journal.
    pub const SOCKET: &str = "/run/systemd/journal/socket";

    /// Returns the options for this machine's journal.
    pub fn new(identifier: &str) -> Self {
        Self {
            socket: Self::SOCKET.into(),
            identifier: identifier.to_owned(),
        }
    }
}

/// Returns `true` if the value of `JOURNAL_STREAM` means the open file `stream`: its device and
/// inode, separated by a colon (`systemd.exec(5)`).
///
/// The variable alone says nothing: a child process inherits it, and may have another stream.
pub fn is_journal_stream(variable: &str, stream: impl AsFd) -> bool {
    let Some((device, inode)) = variable.split_once(':') else {
        return false;
    };
    let (Ok(device), Ok(inode)) = (device.parse::<u64>(), inode.parse::<u64>()) else {
        return false;
    };
    let found = stream.as_fd().try_clone_to_owned().map(File::from);
    let found = found.and_then(|file| file.metadata());
    found.is_ok_and(|found| (found.dev(), found.ino()) == (device, inode))
}

/// Sends each log record to the journal.
#[derive(Debug)]
pub(super) struct JournalLayer {
    socket: UnixDatagram,
    options: JournalOptions,
    dropped: AtomicU64,
}

impl JournalLayer {
    /// Fails without a journal: `ENOENT`, or `ECONNREFUSED` from a socket that nothing reads.
    pub(super) fn open(options: JournalOptions) -> io::Result<Self> {
        // Connected for this moment only: a restarted journal has a new socket at the path.
        UnixDatagram::unbound()?.connect(&options.socket)?;
        let socket = UnixDatagram::unbound()?;
        socket.set_write_timeout(Some(SEND_TIMEOUT))?;
        Ok(Self {
            socket,
            options,
            dropped: AtomicU64::new(0),
        })
    }

    fn send(&self, priority: u8, message: &str, entry: &mut JournalEntry) {
        let dropped = self.dropped.swap(0, Ordering::Relaxed);
        if dropped > 0 {
            entry.add("TEROK_DROPPED_ENTRIES", &dropped.to_string());
        }
        match self.socket.send_to(&entry.bytes, &self.options.socket) {
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                let dropped = dropped.saturating_add(1);
                self.dropped.fetch_add(dropped, Ordering::Relaxed);
            }
            // While the journal restarts, the stream of standard error still reaches it. A line
            // has its priority in front (`sd-daemon(3)`). No stream is left to report a failure.
            Err(_) => drop(writeln!(io::stderr().lock(), "<{priority}>{message}")),
        }
    }
}

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for JournalLayer {
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        if let Some(span) = context.span(id) {
            let mut fields = RecordFields::default();
            attributes.record(&mut fields);
            span.extensions_mut().insert(fields);
        }
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, context: Context<'_, S>) {
        if let Some(span) = context.span(id)
            && let Some(fields) = span.extensions_mut().get_mut::<RecordFields>()
        {
            values.record(fields);
        }
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let mut record = RecordFields::default();
        event.record(&mut record);
        let metadata = event.metadata();
        let priority = syslog_priority(*metadata.level());
        let message = record.to_message();
        let mut entry = JournalEntry::default();
        entry.add("MESSAGE", &message);
        entry.add("PRIORITY", &priority.to_string());
        entry.add("SYSLOG_IDENTIFIER", &self.options.identifier);
        entry.add("TEROK_TARGET", metadata.target());
        if let (Some(file), Some(line)) = (metadata.file(), metadata.line()) {
            entry.add("CODE_FILE", file);
            entry.add("CODE_LINE", &line.to_string());
        }
        record.add_to(&mut entry);
        for span in context.event_scope(event).into_iter().flatten() {
            if let Some(fields) = span.extensions().get::<RecordFields>() {
                fields.add_to(&mut entry);
            }
        }
        self.send(priority, &message, &mut entry);
    }
}

/// Returns the priority of `syslog(3)` for a level.
const fn syslog_priority(level: Level) -> u8 {
    match level {
        Level::ERROR => 3,
        Level::WARN => 4,
        Level::INFO => 6,
        _ => 7,
    }
}

/// An entry in the format of the native socket: `NAME=value` in a line each.
#[derive(Debug, Default)]
struct JournalEntry {
    bytes: Vec<u8>,
    names: Vec<String>,
}

impl JournalEntry {
    /// Adds a field, unless the entry has one of this name. Control characters, line ends among
    /// them, become spaces, and a long value is cut.
    fn add(&mut self, name: &str, value: &str) {
        if self.names.iter().any(|known| known == name) {
            return;
        }
        self.names.push(name.to_owned());
        self.bytes.extend(name.bytes());
        self.bytes.push(b'=');
        let kept = value.char_indices();
        let kept = kept.take_while(|(at, c)| at.saturating_add(c.len_utf8()) <= MAX_VALUE_BYTES);
        let visible = |c: char| if c.is_control() { ' ' } else { c };
        let value: String = kept.map(|(_, c)| visible(c)).collect();
        self.bytes.extend(value.bytes());
        self.bytes.push(b'\n');
    }
}

/// The message and the fields of a record or a span, in their order.
#[derive(Debug, Default)]
struct RecordFields {
    message: String,
    fields: Vec<(&'static str, String)>,
}

impl RecordFields {
    /// Returns the message with the fields behind it, as in the lines of standard error.
    fn to_message(&self) -> String {
        let mut text = self.message.clone();
        for (name, value) in &self.fields {
            text.extend([" ", name, "=", value]);
        }
        text
    }

    fn add_to(&self, entry: &mut JournalEntry) {
        for (name, value) in &self.fields {
            entry.add(&journal_name(name), value);
        }
    }

    fn push(&mut self, field: &Field, value: String) {
        if field.name() == "message" {
            self.message = value;
        } else {
            self.fields.push((field.name(), value));
        }
    }
}

impl Visit for RecordFields {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.push(field, format!("{value:?}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.push(field, value.to_owned());
    }
}

/// Returns the name of a field in the journal: capital letters, digits and underscores.
fn journal_name(name: &str) -> String {
    let letters = name.chars().map(|c| match c.to_ascii_uppercase() {
        c @ ('A'..='Z' | '0'..='9') => c,
        _ => '_',
    });
    "TEROK_"
        .chars()
        .chain(letters)
        .take(MAX_NAME_BYTES)
        .collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use tracing_subscriber::layer::SubscriberExt as _;

    use super::*;

    /// A socket that stands for the journal's.
    fn journal() -> (tempfile::TempDir, UnixDatagram, JournalLayer) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("socket");
        let socket = UnixDatagram::bind(&path).unwrap();
        let options = JournalOptions {
            socket: path,
            identifier: "program".to_owned(),
        };
        (directory, socket, JournalLayer::open(options).unwrap())
    }

    fn receive(socket: &UnixDatagram) -> BTreeMap<String, String> {
        let mut datagram = vec![0; 256 * 1024];
        let length = socket.recv(&mut datagram).unwrap();
        let text = String::from_utf8(datagram[..length].to_vec()).unwrap();
        let fields = text.lines().map(|line| line.split_once('=').unwrap());
        fields
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect()
    }

    #[test]
    fn an_entry_has_the_fields_of_the_record_and_of_its_spans() {
        let (_directory, socket, layer) = journal();
        let log = tracing_subscriber::registry().with(layer);
        tracing::subscriber::with_default(log, || {
            let span = tracing::error_span!("sandbox", container = "web", pid = 7);
            let _inside = span.enter();
            tracing::warn!(request = "web:1", dest = %"example.org", pid = 8, "an order failed");
        });
        let entry = receive(&socket);
        let check = |name: &str, expected: &str| assert_eq!(entry[name], expected, "{entry:?}");
        let message = "an order failed request=web:1 dest=example.org pid=8";
        check("MESSAGE", message);
        check("PRIORITY", "4");
        check("SYSLOG_IDENTIFIER", "program");
        check("TEROK_CONTAINER", "web");
        check("TEROK_REQUEST", "web:1");
        check("TEROK_DEST", "example.org");
        check("TEROK_PID", "8");
        check("TEROK_TARGET", module_path!());
        assert!(entry["CODE_FILE"].ends_with("journal.rs") && entry.contains_key("CODE_LINE"));
    }

    #[test]
    fn no_text_makes_a_field_of_its_own_or_an_entry_too_large() {
        let (_directory, socket, layer) = journal();
        let log = tracing_subscriber::registry().with(layer);
        let hostile = format!("a\nPRIORITY=0\r\n\u{1b}[2J\0{}", "\u{e9}".repeat(100_000));
        tracing::subscriber::with_default(log, || {
            tracing::info!(error = %hostile, text = hostile.as_str(), "{hostile}");
        });
        let entry = receive(&socket);
        assert_eq!(entry["PRIORITY"], "6");
        assert!(entry["MESSAGE"].starts_with("a PRIORITY=0   [2J \u{e9}"));
        for value in entry.values() {
            assert!(value.len() <= MAX_VALUE_BYTES && !value.contains(char::is_control));
        }
    }

    #[test]
    fn entries_reach_a_journal_that_was_restarted() {
        let (directory, first, layer) = journal();
        let log = tracing_subscriber::registry().with(layer);
        let path = directory.path().join("socket");
        tracing::subscriber::with_default(log, || {
            tracing::info!("one");
            assert_eq!(receive(&first)["MESSAGE"], "one");
            drop(first);
            tracing::info!("lost to standard error");
            std::fs::remove_file(&path).unwrap();
            let second = UnixDatagram::bind(&path).unwrap();
            tracing::info!("two");
            assert_eq!(receive(&second)["MESSAGE"], "two");
        });
    }

    #[test]
    fn a_busy_journal_delays_nothing_for_long_and_the_dropped_entries_are_counted() {
        let (_directory, socket, layer) = journal();
        let log = tracing_subscriber::registry().with(layer);
        tracing::subscriber::with_default(log, || {
            socket.set_nonblocking(true).unwrap();
            let address = socket.local_addr().unwrap();
            let path = address.as_pathname().unwrap();
            let sender = || {
                let sender = UnixDatagram::unbound().unwrap();
                sender.set_nonblocking(true).unwrap();
                sender
            };
            // A sender's own buffer may be full before the journal's queue is.
            let mut senders = vec![sender()];
            while let Some(last) = senders.last()
                && last.send_to(b"X=1\n", path).is_ok()
            {
                while last.send_to(b"X=1\n", path).is_ok() {}
                senders.push(sender());
            }
            tracing::info!("dropped");
            let mut taken = [0; 16];
            while socket.recv(&mut taken).is_ok() {}
            tracing::info!("sent");
        });
        let entry = receive(&socket);
        assert_eq!(
            (&*entry["MESSAGE"], &*entry["TEROK_DROPPED_ENTRIES"]),
            ("sent", "1")
        );
    }

    #[test]
    fn the_stream_is_the_journal_only_if_the_variable_means_it() {
        let file = tempfile::tempfile().unwrap();
        let found = file.metadata().unwrap();
        let (device, inode) = (found.dev(), found.ino());
        assert!(is_journal_stream(&format!("{device}:{inode}"), &file));
        let other = tempfile::tempfile().unwrap();
        assert!(!is_journal_stream(&format!("{device}:{inode}"), &other));
        for wrong in ["", ":", "1", "1:", "a:b", &format!("{device}:-1")] {
            assert!(!is_journal_stream(wrong, &file), "{wrong}");
        }
    }

    #[test]
    fn names_of_fields_are_those_that_the_journal_takes() {
        assert_eq!(journal_name("dest"), "TEROK_DEST");
        assert_eq!(journal_name("otel.name-x"), "TEROK_OTEL_NAME_X");
        assert_eq!(journal_name(&"x".repeat(100)).len(), MAX_NAME_BYTES);
    }
}
