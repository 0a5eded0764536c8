// SPDX-License-Identifier: Apache-2.0
//! Cost of a decision with few and with many rules.
#![expect(clippy::unwrap_used, reason = "a failed benchmark panics")]

use std::hint::black_box;
use std::time::Duration;

use criterion::{Criterion, criterion_group, criterion_main};
use terok_clearance::{Action, DestZone, DisplayText, PacketDest, PacketHost, Protocol, Timestamp};
use terok_clearance_policy::{BootInstant, RuleOrigin, RuleSpec, RuleTable, RuleTerm};

/// A third each: names, domains, networks.
fn table(rules: u32) -> RuleTable {
    let mut table = RuleTable::new();
    for number in 0..rules {
        let [_, high, middle, low] = number.to_be_bytes();
        let pattern = match number % 3 {
            0 => format!("host{number}.example.com:443"),
            1 => format!("*.domain{number}.example.com"),
            _ => format!("{}.{middle}.{low}.0/24:443", 20 + high),
        };
        let spec = RuleSpec {
            pattern: pattern.parse().unwrap(),
            action: Action::Allow,
            term: RuleTerm::Kept,
            origin: RuleOrigin::Always,
            by: DisplayText::default(),
            since: Timestamp::UNIX_EPOCH,
        };
        table.add(spec).unwrap();
    }
    table
}

fn decide(c: &mut Criterion) {
    let now = BootInstant::from_boot(Duration::from_secs(1));
    for rules in [10, 10_000, 65_536] {
        let table = table(rules);
        for host in [
            "host3.example.com",
            "a.b.domain4.example.com",
            "203.0.113.7",
        ] {
            let dest = PacketDest {
                host: host.parse().map_or_else(
                    |_| PacketHost::Name(host.parse().unwrap()),
                    PacketHost::Address,
                ),
                port: 443,
                protocol: Protocol::TCP,
            };
            c.bench_function(&format!("{host}, {rules} rules"), |b| {
                b.iter(|| black_box(table.decide(black_box(&dest), DestZone::Public, now)));
            });
        }
    }
}

criterion_group!(benches, decide);
criterion_main!(benches);
