// SPDX-License-Identifier: Apache-2.0
//! Phrases for the connections behind a question: which program asks, how the destination was
//! named, and what waits.

use terok_clearance::{DisplayText, NetworkZone, Process, Target, Timestamp};

use super::{format_duration, unicode_name};
use crate::clock::TimeZone;
use crate::inbox::Row;

/// Maximum characters of a command line; the rest is cut.
const MAX_COMMAND_LENGTH: usize = 60;
/// Maximum parents in one line; the rest is counted.
const MAX_PARENTS: usize = 4;

/// Returns the part of the network that the destination belongs to; `None` for the internet.
pub fn describe_zone(row: &Row) -> Option<&'static str> {
    match row.zone() {
        NetworkZone::Public => None,
        NetworkZone::LocalNetwork => Some("on your local network"),
        NetworkZone::ThisHost => Some("a service on this machine"),
    }
}

/// Returns the name behind a question about an address: `name nas.example leads there`.
///
/// A hub that holds connections knows every name that was looked up; for such a hub the phrase also
/// says that there was none.
pub fn describe_lookup(row: &Row) -> Option<String> {
    if let Some(name) = row.looked_up_as() {
        return Some(match unicode_name(name) {
            Some(unicode) => format!("name {name} ({unicode}) leads there"),
            None => format!("name {name} leads there"),
        });
    }
    let is_address = matches!(row.dest().parse_target(), Ok(Target::Address(_)));
    (is_address && row.waiting().is_known()).then(|| "no name was looked up for it".to_owned())
}

/// Returns the process of the last packet: `says it is curl (process 812, /home/u/project): curl -v
/// https://api.example.com; started by: bash, node`.
///
/// `None` if the hub does not look for processes.
pub fn describe_process(row: &Row) -> Option<String> {
    let Some(process) = row.process() else {
        return row.waiting().is_known().then(|| "not known".to_owned());
    };
    let mut words = format!("says it is {} (process {}", process.name, process.pid);
    if let Some(directory) = &process.directory {
        words = format!("{words}, {directory}");
    }
    words.push(')');
    if !process.command.is_empty() {
        let command: Vec<_> = process.command.iter().map(DisplayText::as_str).collect();
        let command = command.join(" ");
        let cut = if command.len() > MAX_COMMAND_LENGTH {
            "..."
        } else {
            ""
        };
        // The text is ASCII, so every index is a character boundary.
        let command = command.get(..MAX_COMMAND_LENGTH).unwrap_or(&command);
        words = format!("{words}: {command}{cut}");
    }
    if let Some(parents) = describe_parents(process) {
        words = format!("{words}; started by: {parents}");
    }
    if let Some(holders) = describe_holders(process) {
        words = format!("{words}; {holders}");
    }
    Some(words)
}

/// Returns the names of the parents, the direct one first: `bash, node`.
pub fn describe_parents(process: &Process) -> Option<String> {
    let (shown, rest) = process
        .parents
        .split_at(process.parents.len().min(MAX_PARENTS));
    let mut names: Vec<_> = shown.iter().map(|parent| parent.name.to_string()).collect();
    if !rest.is_empty() {
        names.push(format!("{} more", rest.len()));
    }
    (!names.is_empty()).then(|| names.join(", "))
}

/// Returns the number of processes that hold the socket, if there are several.
fn describe_holders(process: &Process) -> Option<String> {
    let holders = process.other_holders.checked_add(1)?;
    (holders > 1).then(|| format!("{holders} processes share the socket"))
}

/// Returns the connections that are held for the row: `2 connections wait, since 12:01:07 (4 s)`.
///
/// Without a zone the time of day is left out, without the present time the length of the wait:
/// for texts that stay on the screen.
pub fn describe_waiting(
    row: &Row,
    zone: Option<&TimeZone>,
    now: Option<Timestamp>,
) -> Option<String> {
    let waiting = row.waiting();
    let gave_up = waiting.gave_up.map(|gave_up| gave_up.after_seconds);
    let held = match (waiting.count, gave_up) {
        (0, None) => return None,
        (0, Some(seconds)) => {
            return Some(format!(
                "gave up after {seconds} s; an answer serves the next attempt"
            ));
        }
        (1, _) => "1 connection waits".to_owned(),
        (count, _) => format!("{count} connections wait"),
    };
    let lasts = |since| now.map(|now| format_duration(now.saturating_since(since)));
    let clock = |since| zone.map(|zone| zone.format_time(since));
    let since = waiting.since.map(|since| (clock(since), lasts(since)));
    let since = match since {
        Some((Some(clock), Some(lasts))) => format!(", since {clock} ({lasts})"),
        Some((Some(clock), None)) => format!(", since {clock}"),
        Some((None, Some(lasts))) => format!(", for {lasts}"),
        Some((None, None)) | None => String::new(),
    };
    Some(match gave_up {
        Some(seconds) => format!("{held}{since}; an earlier one gave up after {seconds} s"),
        None => format!("{held}{since}"),
    })
}
