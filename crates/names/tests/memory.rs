// SPDX-License-Identifier: Apache-2.0
//! The memory of a full table of stand-in addresses. Alone in its process, which it measures.

use terok_clearance::DomainName;
use terok_clearance_names::{StandInKey, StandInTable};

const LIMIT_BYTES: u64 = 32 * 1024 * 1024;

/// Returns the resident bytes of this process.
fn resident_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("VmRSS:"))?;
    let kilobytes: u64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kilobytes * 1024)
}

#[test]
fn a_full_table_of_the_longest_names_takes_less_than_32_mib() {
    let before = resident_bytes().unwrap();
    let mut table = StandInTable::new(StandInKey::new([7; 16]));
    let label = "a".repeat(60);
    let rest = [label.as_str(); 4].join(".");
    for index in 0..StandInTable::CAPACITY {
        let name: DomainName = format!("n{index:08}.{rest}").parse().unwrap();
        assert_eq!(name.as_str().len(), 253);
        table.assign(&name).unwrap();
    }
    let grown = resident_bytes().unwrap() - before;
    assert_eq!(table.len(), StandInTable::CAPACITY);
    assert!(grown < LIMIT_BYTES, "a full table takes {grown} bytes");
}
