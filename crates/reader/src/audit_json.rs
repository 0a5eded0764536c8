// SPDX-License-Identifier: Apache-2.0
//! Writes questions as lines of a sandbox's audit log, in the format of the Python stack.

use serde::Serialize;
use terok_clearance::{BlockedPacket, ContainerId, Dest, Dossier, Protocol};

use crate::event_json::format_iso_seconds;

/// Returns the line for a packet blocked `at` microseconds after the epoch, with its newline.
///
/// Times are whole seconds; unknown fields are omitted.
pub fn to_audit_line(blocked: &BlockedPacket, at: u64) -> Vec<u8> {
    let line = AuditLogLine {
        ts: format_iso_seconds(at),
        container: &blocked.container,
        action: "blocked",
        dest: &blocked.address,
        port: blocked.port,
        proto: protocol_label(blocked.protocol),
        domain: blocked.domain.as_ref(),
        dossier: Some(&blocked.dossier).filter(|dossier| !dossier.is_empty()),
    };
    // Serialization cannot fail: only maps with text keys, texts and numbers.
    let mut bytes = serde_json::to_vec(&line).unwrap_or_default();
    bytes.push(b'\n');
    bytes
}

#[derive(Serialize)]
struct AuditLogLine<'a> {
    ts: String,
    container: &'a ContainerId,
    action: &'static str,
    dest: &'a Dest,
    port: u16,
    proto: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    domain: Option<&'a Dest>,
    #[serde(skip_serializing_if = "Option::is_none")]
    dossier: Option<&'a Dossier>,
}

/// Returns the name of TCP and UDP and the number of other protocols, as in the Python stack.
fn protocol_label(protocol: Protocol) -> String {
    match protocol {
        Protocol::TCP | Protocol::UDP => protocol.to_string(),
        Protocol(number) => number.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use terok_clearance::NetworkZone;

    #[test]
    fn lines_match_the_python_stack() {
        let mut blocked = BlockedPacket {
            container: "0123456789ab".parse().unwrap(),
            request: "0123456789ab:7".parse().unwrap(),
            address: "203.0.113.7".parse().unwrap(),
            port: 443,
            protocol: Protocol::TCP,
            domain: Some("api.example.com".parse().unwrap()),
            dossier: Dossier::new([("project".into(), "web".into())].into()),
            process: None,
            zone: NetworkZone::Public,
            looked_up_as: None,
            previous: None,
            reason: None,
        };
        let line = |blocked: &BlockedPacket| {
            String::from_utf8(to_audit_line(blocked, 1_795_255_384_999_999)).unwrap()
        };
        insta::assert_snapshot!(line(&blocked), @r#"{"ts":"2026-11-21T10:03:04+00:00","container":"0123456789ab","action":"blocked","dest":"203.0.113.7","port":443,"proto":"tcp","domain":"api.example.com","dossier":{"project":"web"}}"#);
        blocked.domain = None;
        blocked.dossier = Dossier::default();
        blocked.protocol = Protocol::ICMP;
        blocked.port = 0;
        insta::assert_snapshot!(line(&blocked), @r#"{"ts":"2026-11-21T10:03:04+00:00","container":"0123456789ab","action":"blocked","dest":"203.0.113.7","port":0,"proto":"1"}"#);
    }
}
