// SPDX-License-Identifier: Apache-2.0
//! `watch`: the events of one container as JSON lines, from its record, the packet log and the
//! log of its dnsmasq.

use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::net::IpAddr;
use std::path::Path;
use std::time::{Duration, SystemTime};

use jiff::Timestamp;
use netns::netlink::find_attribute;
use netns::{NetnsRef, ProcessHandle, SocketSpec};
use reader::dnsmasq::DnsmasqLogParser;
use reader::nflog::{NflogOptions, NflogReceiveOutcome, NflogSocket};
use reader::packet::{NflogMessage, netlink_messages};
use terok_clearance::{DisplayText, DomainName};
use tokio::time::{MissedTickBehavior, interval};

use crate::container_shield::ContainerShield;
use crate::ordered_json::OrderedJson;
use crate::shield_error::ShieldVerbError;
use crate::state_bundle::StateBundle;

/// The time between two looks at the files.
const FILE_INTERVAL: Duration = Duration::from_millis(250);
/// The time after which the policy is read again.
const POLICY_TICKS: u32 = 120;
/// Maximum bytes of one packet message; the header is what counts.
const DATAGRAM_BYTES: usize = 256 * 1024;

/// Prints the events of a container until the caller drops the future.
///
/// Packets are reported only if no other program, such as a reader, listens to the packet log.
pub async fn watch_container(
    shield: &ContainerShield,
    now: fn() -> SystemTime,
    print: &mut dyn FnMut(&str) -> io::Result<()>,
) -> Result<(), ShieldVerbError> {
    let bundle = shield.bundle();
    let Some(tier) = bundle.read_dns_tier() else {
        return Err(ShieldVerbError::NotPrepared(shield.name().clone()));
    };
    let container = shield.name().as_str();
    let read_error = ShieldVerbError::Record;
    let mut audit = FollowedFile::open_at_end(&bundle.audit()).map_err(read_error)?;
    let mut queries = None;
    let mut names = KnownNames::default();
    if tier.runs_dnsmasq() {
        let mut log = FollowedFile::open_at_start(&bundle.dnsmasq_log()).map_err(read_error)?;
        for line in log.new_lines().map_err(read_error)? {
            names.learn(&line);
        }
        queries = Some(log);
    } else {
        tracing::info!(%tier, "events have no names: there is no dnsmasq");
    }
    let packets = bind_packet_log(shield.pid());
    let mut datagram = vec![0; DATAGRAM_BYTES];
    let mut allowed = AllowedNameLines::read(bundle);
    let mut ticks = interval(FILE_INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut count = 0_u32;
    loop {
        tokio::select! {
            length = receive(packets.as_ref(), &mut datagram) => {
                let messages = netlink_messages(datagram.get(..length).unwrap_or_default());
                for event in messages.filter_map(|message| packet_event(message, &names)) {
                    write(print, &event, container, now())?;
                }
            }
            _ = ticks.tick() => {
                count = count.wrapping_add(1);
                if count.is_multiple_of(POLICY_TICKS) {
                    allowed = AllowedNameLines::read(bundle);
                }
                if let Some(queries) = &mut queries {
                    for line in queries.new_lines().map_err(read_error)? {
                        names.learn(&line);
                        if let Some(event) = query_event(&line, &allowed) {
                            write(print, &event, container, now())?;
                        }
                    }
                }
                for line in audit.new_lines().map_err(read_error)? {
                    if let Some(event) = audit_event(&line) {
                        write(print, &event, container, now())?;
                    }
                }
            }
        }
    }
}

/// An event without the fields that all have.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
struct WatchedEvent {
    /// The time of the record, if the event is from there.
    ts: Option<String>,
    source: &'static str,
    action: String,
    /// The container of the record, if the event is from there.
    container: Option<String>,
    domain: String,
    query_type: String,
    dest: String,
    detail: String,
    port: u16,
    proto: u8,
}

fn write(
    print: &mut dyn FnMut(&str) -> io::Result<()>,
    event: &WatchedEvent,
    container: &str,
    now: SystemTime,
) -> Result<(), ShieldVerbError> {
    let line = event.to_line(container, now);
    print(&line).map_err(ShieldVerbError::WriteOutput)
}

impl WatchedEvent {
    fn to_line(&self, container: &str, now: SystemTime) -> String {
        let text = |text: &str| OrderedJson::Text(DisplayText::new(text).as_str().to_owned());
        let ts = self.ts.clone().unwrap_or_else(|| utc_microseconds(now));
        let container = self.container.as_deref().unwrap_or(container);
        let mut members = vec![
            ("ts".to_owned(), text(&ts)),
            ("source".to_owned(), text(self.source)),
            ("action".to_owned(), text(&self.action)),
            ("container".to_owned(), text(container)),
        ];
        for (name, value) in [
            ("domain", &self.domain),
            ("query_type", &self.query_type),
            ("dest", &self.dest),
            ("detail", &self.detail),
        ] {
            if !value.is_empty() {
                members.push((name.to_owned(), text(value)));
            }
        }
        for (name, value) in [
            ("port", i128::from(self.port)),
            ("proto", self.proto.into()),
        ] {
            if value != 0 {
                members.push((name.to_owned(), OrderedJson::Integer(value)));
            }
        }
        OrderedJson::Object(members).to_compact()
    }
}

fn utc_microseconds(time: SystemTime) -> String {
    let time = Timestamp::try_from(time).unwrap_or(Timestamp::UNIX_EPOCH);
    time.strftime("%Y-%m-%dT%H:%M:%S.%6f+00:00").to_string()
}

fn audit_event(line: &str) -> Option<WatchedEvent> {
    let entry = OrderedJson::parse(line)?;
    if !matches!(entry, OrderedJson::Object(_)) {
        return None;
    }
    let text = |name: &str| entry.member(name).unwrap_or_default().to_owned();
    Some(WatchedEvent {
        ts: entry.member("ts").map(str::to_owned),
        source: "audit",
        action: entry.member("action").unwrap_or("unknown").to_owned(),
        container: entry.member("container").map(str::to_owned),
        dest: text("dest"),
        detail: text("detail"),
        ..WatchedEvent::default()
    })
}

/// Parses a query of the container: `… query[A] blocked.example from 127.0.0.1`.
fn query_event(line: &str, allowed: &AllowedNameLines) -> Option<WatchedEvent> {
    let (_, rest) = line.split_once("query[")?;
    let (kind, rest) = rest.split_once(']')?;
    let mut words = rest.split_whitespace();
    let (name, from) = (words.next()?, words.next()?);
    if !matches!(kind, "A" | "AAAA") || from != "from" {
        return None;
    }
    let name = name.to_ascii_lowercase();
    let name = name.trim_end_matches('.');
    (!allowed.contains(name)).then(|| WatchedEvent {
        source: "dns",
        action: "blocked_query".to_owned(),
        domain: name.to_owned(),
        query_type: kind.to_owned(),
        ..WatchedEvent::default()
    })
}

/// The attribute with the prefix of the rule, after the headers of netlink and netfilter.
const PREFIX_ATTRIBUTE: u16 = 10;
const HEADER_BYTES: usize = 20;

fn packet_event(message: &[u8], names: &KnownNames) -> Option<WatchedEvent> {
    let packet = NflogMessage::parse(message).ok()?.packet?;
    let prefix = find_attribute(message.get(HEADER_BYTES..)?, PREFIX_ATTRIBUTE);
    let prefix = prefix.map(|found| String::from_utf8_lossy(found.value).into_owned());
    let prefix = prefix.unwrap_or_default();
    let prefix = prefix.trim_end_matches('\0').trim();
    let action = [
        ("BLOCKED", "queued_connection"),
        ("DENIED", "blocked_connection"),
        ("PRIVATE", "private_range"),
        ("ALLOWED", "allowed_connection"),
        ("BYPASS", "bypass_connection"),
    ];
    let action = action.into_iter().find(|(word, _)| prefix.contains(word));
    Some(WatchedEvent {
        source: "nflog",
        action: action.map_or("nflog", |(_, action)| action).to_owned(),
        domain: names.name_of(packet.destination),
        dest: packet.destination.to_string(),
        detail: prefix.to_owned(),
        port: packet.destination_port,
        proto: packet.protocol.0,
        ..WatchedEvent::default()
    })
}

fn bind_packet_log(pid: Option<u32>) -> Option<NflogSocket> {
    let process = ProcessHandle::open(pid?).ok()?;
    let socket = NetnsRef::OfProcess(process).open_socket(SocketSpec::Netfilter);
    let bound = match socket {
        Ok(socket) => NflogSocket::bind(socket, NflogOptions::QUESTIONS),
        Err(error) => {
            tracing::warn!(%error, "packets are not shown");
            return None;
        }
    };
    bound
        .inspect_err(|error| tracing::warn!(%error, "packets are not shown"))
        .ok()
}

/// Returns the length of the next datagram; never without a packet log.
async fn receive(packets: Option<&NflogSocket>, datagram: &mut [u8]) -> usize {
    let Some(packets) = packets else {
        return std::future::pending().await;
    };
    match packets.wait_for_datagram(datagram).await {
        NflogReceiveOutcome::Datagram(length) => length,
        NflogReceiveOutcome::Overrun | NflogReceiveOutcome::Empty => 0,
        NflogReceiveOutcome::Failed(error) => {
            tracing::warn!(%error, "packets are not shown any more");
            std::future::pending().await
        }
    }
}

/// The names of addresses, from the answers in the log of dnsmasq.
#[derive(Debug, Default)]
struct KnownNames {
    parser: DnsmasqLogParser,
    names: HashMap<IpAddr, DomainName>,
}

impl KnownNames {
    fn learn(&mut self, line: &str) {
        let found = self.parser.feed(format!("{line}\n").as_bytes());
        self.names.extend(found);
    }

    fn name_of(&self, address: IpAddr) -> String {
        let name = self.names.get(&address);
        name.map(ToString::to_string).unwrap_or_default()
    }
}

/// The names that the policy allows; each stands for the names below it, too.
#[derive(Debug, Default)]
struct AllowedNameLines(Vec<String>);

impl AllowedNameLines {
    fn read(bundle: &StateBundle) -> Self {
        let policy = bundle.read_policy().unwrap_or_default();
        let denied = policy.denied_names();
        let mut names = policy.allowed_names();
        names.retain(|name| !denied.contains(name));
        Self(names)
    }

    fn contains(&self, name: &str) -> bool {
        let is_below = |allowed: &String| {
            let parent = name.strip_suffix(allowed.as_str());
            parent.is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
        };
        self.0.iter().any(is_below)
    }
}

/// A file that grows.
#[derive(Debug)]
struct FollowedFile {
    file: File,
    partial: Vec<u8>,
}

impl FollowedFile {
    fn open_at_start(path: &Path) -> io::Result<Self> {
        let mut options = OpenOptions::new();
        // Missing until the first line.
        let file = options.read(true).append(true).create(true).open(path)?;
        Ok(Self {
            file,
            partial: Vec::new(),
        })
    }

    fn open_at_end(path: &Path) -> io::Result<Self> {
        let mut followed = Self::open_at_start(path)?;
        followed.file.seek(SeekFrom::End(0))?;
        Ok(followed)
    }

    /// Returns the lines that were completed since the last call.
    fn new_lines(&mut self) -> io::Result<Vec<String>> {
        self.file.read_to_end(&mut self.partial)?;
        let Some(end) = self.partial.iter().rposition(|byte| *byte == b'\n') else {
            return Ok(Vec::new());
        };
        let rest = self.partial.split_off(end.saturating_add(1));
        let complete = std::mem::replace(&mut self.partial, rest);
        Ok(String::from_utf8_lossy(&complete)
            .lines()
            .map(str::to_owned)
            .collect())
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    fn at(micros: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_micros(micros)
    }

    #[test]
    fn events_have_their_fields_in_order_and_no_empty_ones() {
        let event = audit_event(
            r#"{"ts":"T","container":"box","action":"allowed","dest":"203.0.113.7","detail":"x\u0007"}"#,
        );
        assert_eq!(
            event.unwrap().to_line("other", at(0)),
            r#"{"ts":"T","source":"audit","action":"allowed","container":"box","dest":"203.0.113.7","detail":"x "}"#
        );
        let event = audit_event("{}").unwrap();
        assert_eq!(
            event.to_line("box", at(1_795_982_661_000_042)),
            r#"{"ts":"2026-11-29T20:04:21.000042+00:00","source":"audit","action":"unknown","container":"box"}"#
        );
        assert_eq!(audit_event("[]"), None);
        assert_eq!(audit_event("{"), None);
    }

    #[test]
    fn queries_for_names_that_are_not_allowed_are_events() {
        let allowed = AllowedNameLines(vec!["a.example".to_owned()]);
        let query = |line: &str| {
            query_event(line, &allowed)
                .map(|event| format!("{} {}", event.query_type, event.domain))
        };
        let line = "Nov 29 20:00:00 dnsmasq[1]: query[A] X.B.example. from 127.0.0.1";
        assert_eq!(query(line).as_deref(), Some("A x.b.example"));
        assert_eq!(
            query("query[AAAA] ba.example from ::1").as_deref(),
            Some("AAAA ba.example")
        );
        for other in [
            "query[A] a.example from 127.0.0.1",
            "query[A] x.a.example from 127.0.0.1",
            "query[TXT] b.example from 127.0.0.1",
            "reply b.example is 203.0.113.7",
            "query[A] b.example",
        ] {
            assert_eq!(query(other), None, "{other}");
        }
    }

    #[test]
    fn only_complete_new_lines_are_returned() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("log");
        std::fs::write(&path, "old\n").unwrap();
        let mut followed = FollowedFile::open_at_end(&path).unwrap();
        let mut file = OpenOptions::new().append(true).open(&path).unwrap();
        file.write_all(b"one\ntw").unwrap();
        assert_eq!(followed.new_lines().unwrap(), ["one"]);
        file.write_all(b"o\n\n").unwrap();
        assert_eq!(followed.new_lines().unwrap(), ["two", ""]);
        assert_eq!(followed.new_lines().unwrap(), [""; 0]);
        let mut whole = FollowedFile::open_at_start(&path).unwrap();
        assert_eq!(whole.new_lines().unwrap().len(), 4);
    }
}
