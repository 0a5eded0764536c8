// SPDX-License-Identifier: Apache-2.0
//! Tests that need a network namespace of their own.

pub mod internet;

/// Refuses to go on in the host's namespaces: a test here changes links and rules.
///
/// # Panics
/// When the user namespace maps every id onto itself, as only the host's does.
pub fn private_namespaces() {
    let map = std::fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
    let map: Vec<&str> = map.split_whitespace().collect();
    assert!(
        map != ["0", "0", "4294967295"],
        "these tests change the network: run them with `./check netns`, in namespaces of their own"
    );
}
