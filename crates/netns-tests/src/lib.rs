// SPDX-License-Identifier: Apache-2.0
//! Tests that need network namespaces of their own.

pub mod internet;

/// Refuses to run in the host's namespaces, because the tests change links and rules.
///
/// # Panics
///
/// If the user namespace has the identity id map of the host.
pub fn private_namespaces() {
    let map = std::fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
    let map: Vec<&str> = map.split_whitespace().collect();
    assert!(
        map != ["0", "0", "4294967295"],
        "these tests change the network: run them with `./check netns`, which creates private namespaces"
    );
}
