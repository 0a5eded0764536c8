// SPDX-License-Identifier: Apache-2.0
//! The record of a container: one JSON object a line, appended by verbs and by the reader.

use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, ErrorKind, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use jiff::Timestamp;

use crate::ordered_json::OrderedJson;
use crate::state_bundle::StateBundle;

/// The record of one container.
#[derive(Debug, Clone)]
pub(crate) struct ShieldAuditLog {
    path: PathBuf,
    is_enabled: bool,
}

/// An event that a verb records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ShieldAuditEvent<'a> {
    /// The kind of event.
    pub(crate) action: &'static str,
    /// The address.
    pub(crate) dest: Option<&'a str>,
    /// Anything else.
    pub(crate) detail: Option<&'a str>,
}

impl ShieldAuditLog {
    pub(crate) fn new(bundle: &StateBundle, is_enabled: bool) -> Self {
        Self {
            path: bundle.audit(),
            is_enabled,
        }
    }

    /// Appends an event. A failure is logged and does not undo what the event is about.
    pub(crate) fn append(&self, container: &str, event: ShieldAuditEvent<'_>, now: SystemTime) {
        if !self.is_enabled {
            return;
        }
        if let Err(error) = self.append_line(&event_line(container, event, now)) {
            let path = self.path.display();
            tracing::warn!(%path, %error, "the event was not recorded");
        }
    }

    /// Appends a line with one system call, so that lines of several programs do not mix.
    fn append_line(&self, line: &str) -> io::Result<()> {
        if let Some(directory) = self.path.parent() {
            DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(directory)?;
        }
        let mut file = OpenOptions::new()
            .append(true)
            .create(true)
            .mode(0o644)
            .open(&self.path)?;
        file.write_all(line.as_bytes())
    }
}

fn event_line(container: &str, event: ShieldAuditEvent<'_>, now: SystemTime) -> String {
    let text = |text: &str| OrderedJson::Text(text.to_owned());
    let mut members = vec![
        ("ts".to_owned(), text(&utc_seconds(now))),
        ("container".to_owned(), text(container)),
        ("action".to_owned(), text(event.action)),
    ];
    for (name, value) in [("dest", event.dest), ("detail", event.detail)] {
        members.extend(value.map(|value| (name.to_owned(), text(value))));
    }
    format!("{}\n", OrderedJson::Object(members).to_compact())
}

/// Returns a time as the record has it: `2026-11-29T20:04:21+00:00`.
pub(crate) fn utc_seconds(time: SystemTime) -> String {
    let time = Timestamp::try_from(time).unwrap_or(Timestamp::UNIX_EPOCH);
    time.strftime("%Y-%m-%dT%H:%M:%S+00:00").to_string()
}

/// Returns the last `count` events of a record, without lines that are no JSON. A missing record
/// has none.
pub(crate) fn tail_events(path: &Path, count: usize) -> io::Result<Vec<OrderedJson>> {
    let text = match fs::read(path) {
        Ok(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let lines: Vec<_> = text.lines().collect();
    let skipped = lines.len().saturating_sub(count);
    let last = lines.into_iter().skip(skipped);
    Ok(last.filter_map(OrderedJson::parse).collect())
}

/// Returns the last `count` events of all containers below `root`, by their time.
pub(crate) fn tail_all_events(root: &Path, count: usize) -> io::Result<Vec<OrderedJson>> {
    let containers = match fs::read_dir(root.join("containers")) {
        Ok(entries) => entries,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut directories = containers
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<io::Result<Vec<_>>>()?;
    directories.sort();
    let mut events = Vec::new();
    for directory in directories {
        events.extend(tail_events(&directory.join("audit.jsonl"), count)?);
    }
    events.sort_by(|one, other| one.member("ts").cmp(&other.member("ts")));
    let skipped = events.len().saturating_sub(count);
    Ok(events.into_iter().skip(skipped).collect())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn at(seconds: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
    }

    #[test]
    fn events_have_the_form_of_the_python_shield() {
        let place = tempfile::tempdir().unwrap();
        let bundle = StateBundle::new(place.path().join("new"));
        let log = ShieldAuditLog::new(&bundle, true);
        let event = ShieldAuditEvent {
            action: "allowed",
            dest: Some("203.0.113.7"),
            detail: Some("target=a.example"),
        };
        log.append("box", event, at(1_795_982_661));
        let up = ShieldAuditEvent {
            action: "shield_up",
            dest: None,
            detail: None,
        };
        log.append("box", up, at(1_795_982_662));
        let text = fs::read_to_string(bundle.audit()).unwrap();
        assert_eq!(
            text,
            "{\"ts\":\"2026-11-29T20:04:21+00:00\",\"container\":\"box\",\"action\":\"allowed\",\
             \"dest\":\"203.0.113.7\",\"detail\":\"target=a.example\"}\n\
             {\"ts\":\"2026-11-29T20:04:22+00:00\",\"container\":\"box\",\"action\":\"shield_up\"}\n"
        );
        ShieldAuditLog::new(&bundle, false).append("box", up, at(0));
        assert_eq!(fs::read_to_string(bundle.audit()).unwrap(), text);
    }

    #[test]
    fn the_last_events_of_one_or_all_containers_are_returned() {
        let place = tempfile::tempdir().unwrap();
        let write = |name: &str, lines: &str| {
            let directory = place.path().join("containers").join(name);
            fs::create_dir_all(&directory).unwrap();
            fs::write(directory.join("audit.jsonl"), lines).unwrap();
        };
        write("a", "{\"ts\":\"3\"}\nbroken\n{\"ts\":\"1\"}\n");
        write("b", "{\"ts\":\"2\"}\n[]\n");
        let shown = |events: io::Result<Vec<OrderedJson>>| {
            let shown: Vec<_> = events.unwrap().iter().map(OrderedJson::to_spaced).collect();
            shown.join(" ")
        };
        let of_a = |count| {
            shown(tail_events(
                &place.path().join("containers/a/audit.jsonl"),
                count,
            ))
        };
        assert_eq!(of_a(9), "{\"ts\": \"3\"} {\"ts\": \"1\"}");
        assert_eq!(of_a(2), "{\"ts\": \"1\"}");
        assert_eq!(of_a(0), "");
        let all = |count| shown(tail_all_events(place.path(), count));
        assert_eq!(all(9), "[] {\"ts\": \"1\"} {\"ts\": \"2\"} {\"ts\": \"3\"}");
        assert_eq!(
            all(1),
            "{\"ts\": \"1\"}",
            "the last of each, then the last of all"
        );
        assert_eq!(shown(tail_all_events(Path::new("/nonexistent"), 9)), "");
    }
}
