// SPDX-License-Identifier: Apache-2.0
//! Blocked packets in the form that a reader reports.

use serde_json::{Value, json};
use terok_clearance::{BlockedPacket, Dossier, NetworkZone, Protocol};

/// Returns packet `number` of a sandbox, sent to TCP port 443 of `name` at 203.0.113.7.
pub fn blocked_packet(container: &str, number: u64, name: &str) -> BlockedPacket {
    BlockedPacket {
        container: container.parse().unwrap(),
        request: format!("{container}:{number}").parse().unwrap(),
        address: "203.0.113.7".parse().unwrap(),
        port: 443,
        protocol: Protocol::TCP,
        domain: Some(name.parse().unwrap()),
        dossier: Dossier::default(),
        process: None,
        zone: NetworkZone::Public,
        looked_up_as: None,
        previous: None,
        reason: None,
    }
}

/// Returns the line for a hub's ingester socket that reports a TCP packet to port 443. `name` is
/// empty if the name of `address` is unknown.
pub fn pending_line(
    container: &str,
    id: &str,
    address: &str,
    name: &str,
    dossier: &Value,
) -> String {
    let event = json!({
        "type": "pending", "container": container, "id": format!("{container}:{id}"),
        "dest": address, "port": 443, "proto": 6, "domain": name, "dossier": dossier, "ts": "",
    });
    format!("{event}\n")
}
