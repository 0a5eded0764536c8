// SPDX-License-Identifier: Apache-2.0
//! What a run that learns has reached, grouped by the owners of the names.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use policy::{RuleFile, RuleFileError, registrable_domain};
use supervisor::TraceEvent;
use terok_clearance::{DestPattern, DisplayText, HostPattern, PacketDest, PacketHost, PortRange};

/// Maximum recorded destinations; a workload may try any number.
const MAX_LEARNT_DESTS: usize = 10_000;
/// Maximum programs of a destination.
const MAX_PROGRAMS: usize = 16;
/// Maximum programs of a destination that a text names, and of their characters.
const MAX_SHOWN_PROGRAMS: usize = 6;
const MAX_PROGRAM_CHARS: usize = 32;

/// The destinations of a run that learns, by registrable domain.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LearntDests {
    /// The groups in alphabetical order; addresses are groups of their own.
    pub groups: Vec<LearntGroup>,
}

/// The destinations below one registrable domain, or one address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LearntGroup {
    /// The domain or the address.
    pub owner: DisplayText,
    /// The destinations.
    pub dests: Vec<LearntDest>,
}

/// A destination that was reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LearntDest {
    /// The pattern that covers it alone.
    pub pattern: DestPattern,
    /// Connections.
    pub connections: u64,
    /// Bytes that the sandbox sent, of connections that have ended.
    pub bytes_out: u64,
    /// Bytes that the sandbox received.
    pub bytes_in: u64,
    /// The programs, as they describe themselves.
    pub programs: BTreeSet<DisplayText>,
}

impl LearntDests {
    /// Returns the groups of these destinations.
    pub fn group(dests: impl IntoIterator<Item = LearntDest>) -> Self {
        let mut groups: BTreeMap<DisplayText, Vec<LearntDest>> = BTreeMap::new();
        for dest in dests {
            let owner = match dest.pattern.host() {
                HostPattern::Name(name) | HostPattern::Subdomains(name) => {
                    let domain = registrable_domain(name);
                    DisplayText::new(domain.as_ref().unwrap_or(name).as_str())
                }
                HostPattern::Address(address) => DisplayText::new(&address.to_string()),
                HostPattern::Network(network) => DisplayText::new(&network.to_string()),
            };
            groups.entry(owner).or_default().push(dest);
        }
        let groups = groups.into_iter();
        Self {
            groups: groups
                .map(|(owner, mut dests)| {
                    dests.sort_by(|one, other| one.pattern.cmp(&other.pattern));
                    LearntGroup { owner, dests }
                })
                .collect(),
        }
    }

    /// Returns the number of destinations.
    pub fn count(&self) -> usize {
        self.groups.iter().map(|group| group.dests.len()).sum()
    }

    /// Returns a profile with exactly these destinations, and what was counted as comments. A wider
    /// name is a comment as well: who wants it removes the `#`. So is a destination that no file
    /// may allow.
    pub fn to_profile(&self, title: &str) -> Result<RuleFile, RuleFileError> {
        let mut text = format!("# {}\n", DisplayText::new(title));
        for group in &self.groups {
            text = text + "\n# " + group.owner.as_str() + "\n";
            let lines = group.dests.iter().map(LearntDest::to_line);
            let lines: Vec<_> = lines.chain(group.wider_line()).collect();
            let longest = lines.iter().map(|(dest, _)| dest.len()).max();
            let width = longest.unwrap_or_default();
            for (dest, comment) in &lines {
                text = text + &pad(dest, width) + "  # " + comment + "\n";
            }
        }
        RuleFile::parse(text.as_bytes())
    }
}

/// Returns a text with blanks up to a width.
fn pad(text: &str, width: usize) -> String {
    format!("{text:width$}")
}

impl LearntGroup {
    /// Returns the commented line for every name below the domain, if several were reached; with
    /// the port if all have the same.
    fn wider_line(&self) -> Option<(String, String)> {
        let names = self
            .dests
            .iter()
            .filter_map(|dest| match dest.pattern.host() {
                HostPattern::Name(name) => Some(name),
                _ => None,
            });
        let names: BTreeSet<_> = names.collect();
        let owner = registrable_domain(names.first()?)?;
        let below = names.iter().filter(|name| ***name != owner);
        if below.count() < 2 {
            return None;
        }
        let of_pattern = |pattern: &DestPattern| (pattern.ports(), pattern.protocol());
        let mut reach = self.dests.iter().map(|dest| of_pattern(&dest.pattern));
        let first = reach.next()?;
        let (ports, protocol) = if reach.all(|other| other == first) {
            first
        } else {
            (None, None)
        };
        let host = HostPattern::Subdomains(owner.clone());
        let pattern = DestPattern::new(host, ports, protocol).ok()?;
        Some((
            format!("#{pattern}"),
            format!("wider: every name below {owner}"),
        ))
    }
}

impl LearntDest {
    /// Returns a destination without connections; `None` if no pattern covers it alone.
    pub fn new(dest: &PacketDest) -> Option<Self> {
        let host = match &dest.host {
            PacketHost::Name(name) => HostPattern::Name(name.clone()),
            PacketHost::Address(address) => HostPattern::Address(*address),
        };
        let ports = PortRange::new(dest.port, dest.port);
        Some(Self {
            pattern: DestPattern::new(host, ports, Some(dest.protocol)).ok()?,
            connections: 0,
            bytes_out: 0,
            bytes_in: 0,
            programs: BTreeSet::new(),
        })
    }

    /// Adds a connection.
    pub fn add_connection(&mut self) {
        self.connections = self.connections.saturating_add(1);
    }

    /// Adds the bytes of a connection that has ended.
    pub fn add_bytes(&mut self, out: u64, received: u64) {
        self.bytes_out = self.bytes_out.saturating_add(out);
        self.bytes_in = self.bytes_in.saturating_add(received);
    }

    /// Adds a program. Of many, the first ones count.
    pub fn add_program(&mut self, program: DisplayText) {
        if self.programs.len() < MAX_PROGRAMS {
            self.programs.insert(program);
        }
    }

    /// Returns what was counted: `3 connections, 1200 bytes sent, 4 received, by curl`.
    pub fn describe(&self) -> String {
        let connections = match self.connections {
            1 => "1 connection".to_owned(),
            count => format!("{count} connections"),
        };
        let shorten = |program: &DisplayText| -> String {
            program.as_str().chars().take(MAX_PROGRAM_CHARS).collect()
        };
        let shown = self.programs.iter().take(MAX_SHOWN_PROGRAMS).map(shorten);
        let mut programs = shown.collect::<Vec<_>>().join(", ");
        let more = self.programs.len().saturating_sub(MAX_SHOWN_PROGRAMS);
        if more > 0 {
            programs = format!("{programs} and {more} more");
        }
        if !programs.is_empty() {
            programs = format!(", by {programs}");
        }
        let (sent, received) = (self.bytes_out, self.bytes_in);
        format!("{connections}, {sent} bytes sent, {received} received{programs}")
    }

    /// Returns the line of a profile without its comment, and the comment.
    fn to_line(&self) -> (String, String) {
        let rule = self.pattern.to_string();
        match RuleFile::parse(rule.as_bytes()) {
            Ok(_) => (rule, self.describe()),
            Err(_) => (format!("#{rule}"), "cannot be allowed by a file".to_owned()),
        }
    }
}

/// Records what is reached; clones share the records.
#[derive(Debug, Clone, Default)]
pub(crate) struct LearntRecorder(Arc<Mutex<LearntRecords>>);

#[derive(Debug, Default)]
struct LearntRecords {
    dests: BTreeMap<DestPattern, LearntDest>,
    /// The destinations of open connections.
    open: BTreeMap<u64, DestPattern>,
}

impl LearntRecorder {
    /// Records an event of the supervisor.
    pub(crate) fn observe(&self, event: &TraceEvent<'_>) {
        match event {
            TraceEvent::Connected { connection, .. } => {
                self.lock()
                    .connected(connection.id, &connection.dialed.dest);
            }
            TraceEvent::ProcessFound {
                connection,
                process,
            } => {
                let mut records = self.lock();
                if let Some(dest) = records.dest_of(*connection) {
                    dest.add_program(process.name.clone());
                }
            }
            TraceEvent::Closed(closed) => {
                let mut records = self.lock();
                if let Some(dest) = records.dest_of(closed.connection.id) {
                    dest.add_bytes(closed.bytes_out, closed.bytes_in);
                }
                records.open.remove(&closed.connection.id);
            }
            _ => {}
        }
    }

    /// Returns what was reached until now.
    pub(crate) fn learnt(&self) -> LearntDests {
        LearntDests::group(self.lock().dests.values().cloned())
    }

    fn lock(&self) -> MutexGuard<'_, LearntRecords> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl LearntRecords {
    fn connected(&mut self, connection: u64, dest: &PacketDest) {
        let Some(mut learnt) = LearntDest::new(dest) else {
            return;
        };
        let pattern = learnt.pattern.clone();
        if let Some(known) = self.dests.get_mut(&pattern) {
            known.add_connection();
        } else if self.dests.len() < MAX_LEARNT_DESTS {
            learnt.add_connection();
            self.dests.insert(pattern.clone(), learnt);
        } else {
            return;
        }
        self.open.insert(connection, pattern);
    }

    fn dest_of(&mut self, connection: u64) -> Option<&mut LearntDest> {
        self.dests.get_mut(self.open.get(&connection)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn learnt(pattern: &str) -> LearntDest {
        LearntDest {
            pattern: pattern.parse().unwrap(),
            connections: 1,
            bytes_out: 0,
            bytes_in: 0,
            programs: BTreeSet::new(),
        }
    }

    #[test]
    fn a_profile_has_exactly_what_was_reached() {
        let dests = [
            "c.example.com:443/tcp",
            "a.example.com:443/tcp",
            "203.0.113.7:22/tcp",
            "example.org:80/tcp",
            "www.example.org:80/tcp",
        ];
        let mut learnt = LearntDests::group(dests.map(learnt));
        learnt.groups[0].dests[0].add_program("ssh".into());
        let profile = learnt.to_profile("learnt from web").unwrap();
        assert_eq!(
            profile.render(),
            "# learnt from web\n\
             \n# 203.0.113.7\n\
             203.0.113.7:22/tcp  # 1 connection, 0 bytes sent, 0 received, by ssh\n\
             \n# example.com\n\
             a.example.com:443/tcp   # 1 connection, 0 bytes sent, 0 received\n\
             c.example.com:443/tcp   # 1 connection, 0 bytes sent, 0 received\n\
             #*.example.com:443/tcp  # wider: every name below example.com\n\
             \n# example.org\n\
             example.org:80/tcp      # 1 connection, 0 bytes sent, 0 received\n\
             www.example.org:80/tcp  # 1 connection, 0 bytes sent, 0 received\n"
        );
        assert_eq!(profile.rule_count(), 5);
        assert_eq!(learnt.count(), 5);
    }

    #[test]
    fn a_wider_name_counts_once_its_mark_is_removed() {
        let dests = ["a.example.co.uk:443/tcp", "b.example.co.uk:8443/tcp"];
        let profile = LearntDests::group(dests.map(learnt))
            .to_profile("x")
            .unwrap();
        assert_eq!(profile.rule_count(), 2);
        let chosen = profile.render().replace("\n#*", "\n*");
        let chosen = RuleFile::parse(chosen.as_bytes()).unwrap();
        let wider = "*.example.co.uk".parse().unwrap();
        assert!(chosen.contains(terok_clearance::Action::Allow, &wider));
        // No domain is registered above names of one label, nor above several names of a suffix.
        let dests = [
            "co.uk:1/tcp",
            "co.uk:2/tcp",
            "co.uk:3/tcp",
            "localhost:1/tcp",
        ];
        let profile = LearntDests::group(dests.map(learnt))
            .to_profile("x")
            .unwrap();
        assert!(!profile.render().contains("wider"), "{}", profile.render());
        assert_eq!(profile.rule_count(), 3);
    }

    #[test]
    fn many_long_names_of_programs_fit_into_a_line() {
        let mut dest = learnt(&format!("{}.example:443/tcp", "a".repeat(60)));
        for number in 0..50 {
            let name = format!("{number:02}{}", "x".repeat(300));
            dest.add_program(DisplayText::new(&name));
        }
        assert_eq!(dest.programs.len(), MAX_PROGRAMS);
        assert!(
            dest.describe().ends_with(" and 10 more"),
            "{}",
            dest.describe()
        );
        let profile = LearntDests::group([dest]).to_profile("x").unwrap();
        assert_eq!(profile.rule_count(), 1);
    }

    #[test]
    fn a_workload_that_reaches_everything_does_not_fill_the_memory() {
        let recorder = LearntRecorder::default();
        for number in 0..MAX_LEARNT_DESTS + 10 {
            let dest = PacketDest {
                host: PacketHost::Name(format!("h{number}.example").parse().unwrap()),
                port: 443,
                protocol: terok_clearance::Protocol::TCP,
            };
            recorder.lock().connected(number as u64, &dest);
        }
        assert_eq!(recorder.lock().dests.len(), MAX_LEARNT_DESTS);
        assert_eq!(recorder.lock().open.len(), MAX_LEARNT_DESTS);
    }
}
