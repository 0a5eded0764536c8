// SPDX-License-Identifier: Apache-2.0
//! Words an entry of the record in one line.

use std::fmt;
use std::net::IpAddr;

use operator::clock::TimeZone;
use record::{
    AuditAnswer, AuditEvent, AuditLoss, AuditOperator, AuditRefusal, AuditRule, AuditRuleEnd,
    AuditSandboxStart, RecordedEntry, format_record_time,
};
use terok_clearance::{
    Action, DecisionAction, Dest, DisplayText, NetworkZone, Protocol, RuleLifetime,
};

/// How entries are shown.
#[derive(Debug)]
pub(super) struct EntryStyle {
    pub(super) zone: TimeZone,
    pub(super) color: bool,
}

/// Appends formatted text.
pub(super) trait PushArgs {
    fn push_args(&mut self, text: fmt::Arguments<'_>);
}

impl PushArgs for String {
    fn push_args(&mut self, text: fmt::Arguments<'_>) {
        // Writing to a string cannot fail.
        fmt::Write::write_fmt(self, text).unwrap_or_default();
    }
}

const GREEN: &str = "32";
const RED: &str = "31";
const YELLOW: &str = "33";

/// What happened: a word with a colour, and the rest of the line.
struct EntryWording {
    word: &'static str,
    color: Option<&'static str>,
    rest: String,
}

impl EntryWording {
    const fn new(word: &'static str, color: Option<&'static str>, rest: String) -> Self {
        Self { word, color, rest }
    }
}

impl EntryStyle {
    /// Returns the line of an entry; `line` is the entry's JSON.
    pub(super) fn format(&self, entry: &RecordedEntry, line: &[u8]) -> String {
        let time = self.zone.format_datetime(entry.time);
        let sandbox = entry
            .sandbox
            .as_ref()
            .map_or("-", |sandbox| sandbox.label());
        let wording = if let Some(event) = &entry.event {
            describe_event(event)
        } else {
            let json = DisplayText::new(&String::from_utf8_lossy(line));
            EntryWording::new("unknown", Some(YELLOW), format!("{}: {json}", entry.kind))
        };
        let word = format!("{:<9}", wording.word);
        let word = match wording.color.filter(|_| self.color) {
            Some(color) => format!("\x1b[{color}m{word}\x1b[0m"),
            None => word,
        };
        format!("{time}  {sandbox}  {word} {}", wording.rest)
    }
}

fn describe_event(event: &AuditEvent) -> EntryWording {
    match event {
        AuditEvent::Asked(question) => {
            let mut rest = format_dest(&question.dest, question.port, question.protocol);
            rest += describe_zone(question.zone);
            if let Some(process) = &question.process {
                rest.push_args(format_args!(", says it is {process}"));
            }
            if let Some(reason) = &question.reason {
                rest.push_args(format_args!(", reason: {reason}"));
            }
            rest.push_args(format_args!(" ({})", question.request));
            EntryWording::new("asked", None, rest)
        }
        AuditEvent::Answered(answer) => describe_answer(answer),
        AuditEvent::RuleAdded(rule) => describe_rule(rule),
        AuditEvent::RuleEnded(end) => describe_rule_end(end),
        AuditEvent::Connected(connection) => {
            let mut rest = format_dest(&connection.dest, connection.port, connection.protocol);
            if let Some(address) = connection.address {
                rest += &format_address(&connection.dest, address);
            }
            if let Some(rule) = &connection.rule {
                rest.push_args(format_args!(", rule {rule}"));
            }
            if let Some(origin) = &connection.origin {
                rest.push_args(format_args!(" ({origin})"));
            }
            rest.push_args(format_args!(" #{}", connection.connection));
            EntryWording::new("connected", Some(GREEN), rest)
        }
        AuditEvent::Closed(end) => {
            let dest = format_dest(&end.dest, end.port, end.protocol);
            let (sent, received) = (format_bytes(end.bytes_out), format_bytes(end.bytes_in));
            let duration = format_millis(end.millis);
            let rest = format!(
                "{dest}, sent {sent}, received {received} in {duration}, {} #{}",
                plain_word(end.why.as_str()),
                end.connection
            );
            EntryWording::new("closed", None, rest)
        }
        AuditEvent::Refused(refusal) => describe_refusal(refusal),
        AuditEvent::SandboxStarted(start) => describe_start(start),
        AuditEvent::SandboxEnded(end) => {
            let mut rest = match end.status {
                Some(status) => format!("with status {status}"),
                None => String::new(),
            };
            if let Some(reason) = &end.reason {
                rest.push_args(format_args!(" {reason}"));
            }
            EntryWording::new("ended", None, rest.trim().to_owned())
        }
        AuditEvent::Posture(posture) => {
            let by = posture
                .by
                .as_ref()
                .map(describe_operator)
                .unwrap_or_default();
            let rest = format!(
                "{}{}{by}",
                plain_word(posture.change.as_str()),
                describe_seconds(posture.seconds)
            );
            EntryWording::new("posture", Some(YELLOW), rest)
        }
        AuditEvent::Lost(loss) => describe_loss(loss),
        AuditEvent::Note(note) => EntryWording::new("note", None, note.text.to_string()),
    }
}

fn describe_answer(answer: &AuditAnswer) -> EntryWording {
    let (word, color) = match (answer.ok, answer.action) {
        (false, _) => ("failed", YELLOW),
        (true, DecisionAction::Allow) => ("allowed", GREEN),
        (true, DecisionAction::Deny) => ("denied", RED),
        (true, DecisionAction::Dismiss) => ("dismissed", YELLOW),
    };
    let dest = answer.dest.as_ref().map(ToString::to_string);
    let pattern = answer.pattern.as_ref().map(ToString::to_string);
    let mut rest = pattern.or(dest).unwrap_or_default();
    if !answer.ok {
        let action = match answer.action {
            DecisionAction::Allow => "allow",
            DecisionAction::Deny => "deny",
            DecisionAction::Dismiss => "dismiss",
        };
        rest = format!("to {action} {rest}");
    }
    rest += &describe_lifetime(answer.keep, answer.seconds);
    rest += &describe_operator(&answer.by);
    if let Some(approver) = &answer.approver {
        rest.push_args(format_args!(", approver {approver}"));
    }
    if let Some(reason) = &answer.approver_reason {
        rest.push_args(format_args!(", because {reason}"));
    }
    if let Some(reason) = &answer.reason {
        rest.push_args(format_args!(": {reason}"));
    }
    if let Some(request) = &answer.request {
        rest.push_args(format_args!(" ({request})"));
    }
    EntryWording::new(word, Some(color), rest)
}

fn describe_rule(rule: &AuditRule) -> EntryWording {
    let mut rest = format!(
        "{} {}: {} {}",
        "added", rule.rule, rule.action, rule.pattern
    );
    rest += &describe_lifetime(rule.keep, rule.seconds);
    rest.push_args(format_args!(", from {}", rule.origin));
    rest += &rule.by.as_ref().map(describe_operator).unwrap_or_default();
    EntryWording::new("rule", Some(action_color(rule.action)), rest)
}

fn describe_rule_end(end: &AuditRuleEnd) -> EntryWording {
    let why = plain_word(end.why.as_str());
    let mut rest = format!("{why} {}: {} {}", end.rule, end.action, end.pattern);
    match end.connections_ended {
        0 => {}
        1 => rest += ", ended 1 connection",
        count => rest.push_args(format_args!(", ended {count} connections")),
    }
    rest += &end.by.as_ref().map(describe_operator).unwrap_or_default();
    EntryWording::new("rule", None, rest)
}

const fn action_color(action: Action) -> &'static str {
    match action {
        Action::Allow => GREEN,
        Action::Deny => RED,
    }
}

fn describe_refusal(refusal: &AuditRefusal) -> EntryWording {
    let mut rest = format_dest(&refusal.dest, refusal.port, refusal.protocol);
    if let Some(address) = refusal.address {
        rest += &format_address(&refusal.dest, address);
    }
    rest += describe_zone(refusal.zone);
    rest.push_args(format_args!(": {}", plain_word(refusal.why.as_str())));
    if let Some(rule) = &refusal.rule {
        rest.push_args(format_args!(", rule {rule}"));
    }
    if let Some(detail) = &refusal.detail {
        rest.push_args(format_args!(", {detail}"));
    }
    if refusal.count > 1 {
        rest.push_args(format_args!(" ({} times)", refusal.count));
    }
    EntryWording::new("refused", Some(RED), rest)
}

fn describe_start(start: &AuditSandboxStart) -> EntryWording {
    let mut rest = format!("network {}", start.network);
    if start.learn {
        rest += ", LEARNING: open but for the floor, private and denied destinations";
    }
    if !start.profiles.is_empty() {
        let profiles: Vec<_> = start.profiles.iter().map(DisplayText::as_str).collect();
        rest.push_args(format_args!(", profiles {}", profiles.join(", ")));
    }
    if let Some(command) = &start.command {
        rest.push_args(format_args!(": {command}"));
    }
    EntryWording::new("started", start.learn.then_some(YELLOW), rest)
}

fn describe_loss(loss: &AuditLoss) -> EntryWording {
    let mut rest = match loss.count {
        Some(count) => format!("{count} entries: {}", loss.why),
        None => loss.why.to_string(),
    };
    if let Some(since) = loss.since {
        rest.push_args(format_args!(", since {}", format_record_time(since)));
    }
    if let Some(bytes) = loss.cut_bytes {
        rest.push_args(format_args!(" ({bytes} bytes)"));
    }
    EntryWording::new("lost", Some(YELLOW), rest)
}

/// Returns `, by tui (uid 1000, pid 55)`, or as much of that as is known.
fn describe_operator(operator: &AuditOperator) -> String {
    let uid = operator.uid.map(|uid| format!("uid {uid}"));
    let pid = operator.pid.map(|pid| format!("pid {pid}"));
    let ids: Vec<_> = uid.into_iter().chain(pid).collect();
    match (&operator.program, ids.join(", ")) {
        (Some(program), ids) if ids.is_empty() => format!(", by {program}"),
        (Some(program), ids) => format!(", by {program} ({ids})"),
        (None, ids) if ids.is_empty() => String::new(),
        (None, ids) => format!(", by {ids}"),
    }
}

/// Returns a word of the record as people write it.
fn plain_word(word: &str) -> String {
    word.replace('-', " ")
}

/// Returns how long an answer lasts, with a leading space.
fn describe_lifetime(keep: Option<RuleLifetime>, seconds: Option<u32>) -> String {
    if seconds.is_some() {
        return describe_seconds(seconds);
    }
    // By the words of the record, so that a new lifetime needs no change here.
    let keep = keep.and_then(|keep| serde_json::to_value(keep).ok());
    match keep.as_ref().and_then(serde_json::Value::as_str) {
        None => String::new(),
        Some("once") => " once".to_owned(),
        Some("sandbox" | "run") => " while the sandbox runs".to_owned(),
        Some("until_removed") => " until it is removed".to_owned(),
        Some("project") => " in this project".to_owned(),
        Some("always") => " always".to_owned(),
        Some(other) => format!(" {other}"),
    }
}

fn describe_seconds(seconds: Option<u32>) -> String {
    match seconds {
        None => String::new(),
        Some(seconds) if seconds % 3600 == 0 && seconds > 0 => {
            format!(" for {} h", seconds / 3600)
        }
        Some(seconds) if seconds % 60 == 0 && seconds > 0 => format!(" for {} min", seconds / 60),
        Some(seconds) => format!(" for {seconds} s"),
    }
}

const fn describe_zone(zone: NetworkZone) -> &'static str {
    match zone {
        NetworkZone::Public => "",
        NetworkZone::LocalNetwork => ", on your local network",
        NetworkZone::ThisHost => ", on this machine",
    }
}

/// Returns `api.example.com:443`, `[2001:db8::7]:53/udp` or `203.0.113.7/icmp`.
fn format_dest(dest: &Dest, port: u16, protocol: Protocol) -> String {
    let mut text = match dest.as_str().parse() {
        Ok(IpAddr::V6(address)) if port != 0 => format!("[{address}]"),
        _ => dest.to_string(),
    };
    if port != 0 {
        text.push_args(format_args!(":{port}"));
    }
    if protocol != Protocol::TCP {
        text.push_args(format_args!("/{protocol}"));
    }
    text
}

/// Returns the dialed address, unless the destination is that address.
fn format_address(dest: &Dest, address: IpAddr) -> String {
    if dest.as_str().parse() == Ok(address) {
        String::new()
    } else {
        format!(" at {address}")
    }
}

/// Returns a number of bytes with at most three digits before the unit.
pub(super) fn format_bytes(bytes: u64) -> String {
    const UNITS: [&str; 6] = ["kB", "MB", "GB", "TB", "PB", "EB"];
    if bytes < 1000 {
        return format!("{bytes} B");
    }
    let (mut tenths, mut unit) = (bytes / 100, UNITS.iter());
    let mut name = unit.next();
    while tenths >= 10_000 {
        tenths /= 1000;
        name = unit.next();
    }
    format!(
        "{}.{} {}",
        tenths / 10,
        tenths % 10,
        name.copied().unwrap_or_default()
    )
}

fn format_millis(millis: u64) -> String {
    match millis {
        0..1000 => format!("{millis} ms"),
        1000..60_000 => format!("{}.{} s", millis / 1000, millis % 1000 / 100),
        _ => format!("{} min", millis / 60_000),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_and_durations_are_short() {
        let bytes = [
            0,
            999,
            1000,
            1999,
            999_949,
            1_000_000,
            17_300_000_000,
            u64::MAX,
        ];
        let texts = bytes.map(format_bytes);
        let expected = [
            "0 B", "999 B", "1.0 kB", "1.9 kB", "999.9 kB", "1.0 MB", "17.3 GB", "18.4 EB",
        ];
        assert_eq!(texts, expected);
        let texts = [5, 1_500, 59_999, 60_000].map(format_millis);
        assert_eq!(texts, ["5 ms", "1.5 s", "59.9 s", "1 min"]);
        let texts = [None, Some(90), Some(600), Some(7200), Some(0)].map(describe_seconds);
        assert_eq!(
            texts,
            ["", " for 90 s", " for 10 min", " for 2 h", " for 0 s"]
        );
    }

    #[test]
    fn a_destination_has_its_port_and_protocol() {
        let check = |dest: &str, port, protocol, expected: &str| {
            assert_eq!(
                format_dest(&dest.parse().unwrap(), port, protocol),
                expected
            );
        };
        check("api.example.com", 443, Protocol::TCP, "api.example.com:443");
        check("2001:db8::7", 53, Protocol::UDP, "[2001:db8::7]:53/udp");
        check("203.0.113.7", 0, Protocol::ICMP, "203.0.113.7/icmp");
    }
}
