// SPDX-License-Identifier: Apache-2.0
//! What a run that learns has reached, grouped by the owners of the names.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use policy::{RuleFile, registrable_domain};
use supervisor::TraceEvent;
use terok_clearance::{DestPattern, DisplayText, HostPattern, PacketDest, PacketHost, PortRange};

/// Maximum recorded destinations; a workload may try any number.
const MAX_LEARNT_DESTS: usize = 10_000;
/// Maximum programs of a destination.
const MAX_PROGRAMS: usize = 16;

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

    /// Returns the text of a profile with exactly these destinations. Wider names are comments: who
    /// wants one removes the `#`.
    pub fn to_profile(&self, title: &str) -> RuleFile {
        let mut text = format!("# {}\n", DisplayText::new(title));
        for group in &self.groups {
            text = text + "\n# " + group.owner.as_str() + "\n";
            for dest in &group.dests {
                text = text + &dest.pattern.to_string() + "\n";
            }
            let is_domain = group.owner.as_str().parse::<std::net::IpAddr>().is_err();
            if is_domain && group.dests.len() > 2 {
                text = text + "# wider: *." + group.owner.as_str() + "\n";
            }
        }
        RuleFile::parse(text.as_bytes()).unwrap_or_default()
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
            TraceEvent::Connected(connection) => {
                self.lock()
                    .connected(connection.id, &connection.dialed.dest);
            }
            TraceEvent::ProcessFound {
                connection,
                process,
            } => {
                let mut records = self.lock();
                if let Some(dest) = records.dest_of(*connection)
                    && dest.programs.len() < MAX_PROGRAMS
                {
                    dest.programs.insert(process.name.clone());
                }
            }
            TraceEvent::Closed(closed) => {
                let mut records = self.lock();
                if let Some(dest) = records.dest_of(closed.connection.id) {
                    dest.bytes_out = dest.bytes_out.saturating_add(closed.bytes_out);
                    dest.bytes_in = dest.bytes_in.saturating_add(closed.bytes_in);
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
        let Some(pattern) = exact_pattern(dest) else {
            return;
        };
        if let Some(known) = self.dests.get_mut(&pattern) {
            known.connections = known.connections.saturating_add(1);
        } else if self.dests.len() < MAX_LEARNT_DESTS {
            let learnt = LearntDest {
                pattern: pattern.clone(),
                connections: 1,
                bytes_out: 0,
                bytes_in: 0,
                programs: BTreeSet::new(),
            };
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

/// Returns the pattern that covers a destination alone.
fn exact_pattern(dest: &PacketDest) -> Option<DestPattern> {
    let host = match &dest.host {
        PacketHost::Name(name) => HostPattern::Name(name.clone()),
        PacketHost::Address(address) => HostPattern::Address(*address),
    };
    let ports = PortRange::new(dest.port, dest.port);
    DestPattern::new(host, ports, Some(dest.protocol)).ok()
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
            "b.example.com:443/tcp",
            "203.0.113.7:22/tcp",
            "example.org:80/tcp",
        ];
        let learnt = LearntDests::group(dests.map(learnt));
        let profile = learnt.to_profile("learnt from web");
        assert_eq!(
            profile.render(),
            "# learnt from web\n\
             \n# 203.0.113.7\n203.0.113.7:22/tcp\n\
             \n# example.com\na.example.com:443/tcp\nb.example.com:443/tcp\n\
             c.example.com:443/tcp\n# wider: *.example.com\n\
             \n# example.org\nexample.org:80/tcp\n"
        );
        assert_eq!(profile.rule_count(), 5);
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
