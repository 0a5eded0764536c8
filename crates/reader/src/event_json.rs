// SPDX-License-Identifier: Apache-2.0
//! Writes events as JSON lines for a hub's ingester socket.
//!
//! The format is that of the Python stack, so that readers and hubs of both can be combined.

use serde::Serialize;
use terok_clearance::{
    ContainerId, Dest, DisplayText, Dossier, RequestId, SandboxEvent, ShieldState,
};

/// Returns `event` as one line with its newline.
///
/// `at` is the time of the event in microseconds since the epoch.
pub fn to_event_line(event: &SandboxEvent, at: u64) -> Vec<u8> {
    let line = EventJsonLine::new(event, at);
    // Serialization cannot fail: only maps with text keys, texts and numbers.
    let mut bytes = serde_json::to_vec(&line).unwrap_or_default();
    bytes.push(b'\n');
    bytes
}

#[derive(Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum EventJsonLine<'a> {
    Pending {
        container: &'a ContainerId,
        id: &'a RequestId,
        dest: &'a Dest,
        port: u16,
        proto: u8,
        domain: &'a str,
        dossier: &'a Dossier,
        ts: String,
    },
    ContainerStarted {
        container: &'a ContainerId,
    },
    ContainerExited {
        container: &'a ContainerId,
        reason: &'a DisplayText,
    },
    ShieldUp(ShieldEventFields<'a>),
    ShieldDown(ShieldEventFields<'a>),
    ShieldDisengaged(ShieldEventFields<'a>),
}

#[derive(Serialize)]
struct ShieldEventFields<'a> {
    container: &'a ContainerId,
    dossier: &'a Dossier,
}

impl<'a> EventJsonLine<'a> {
    fn new(event: &'a SandboxEvent, at: u64) -> Self {
        match event {
            SandboxEvent::Blocked(blocked) => Self::Pending {
                container: &blocked.container,
                id: &blocked.request,
                dest: &blocked.address,
                port: blocked.port,
                proto: blocked.protocol.0,
                domain: blocked.domain.as_ref().map_or("", Dest::as_str),
                dossier: &blocked.dossier,
                ts: format_iso_micros(at),
            },
            SandboxEvent::ContainerStarted { container, .. } => {
                Self::ContainerStarted { container }
            }
            SandboxEvent::ContainerExited {
                container, reason, ..
            } => Self::ContainerExited { container, reason },
            SandboxEvent::Shield {
                container,
                state,
                dossier,
            } => {
                let shield = ShieldEventFields { container, dossier };
                match state {
                    ShieldState::Up => Self::ShieldUp(shield),
                    ShieldState::Down => Self::ShieldDown(shield),
                    ShieldState::Disengaged => Self::ShieldDisengaged(shield),
                }
            }
        }
    }
}

/// Formats microseconds since the epoch as ISO 8601 in UTC, like Python's `isoformat`.
fn format_iso_micros(at: u64) -> String {
    format_utc(at, "%Y-%m-%dT%H:%M:%S.%6f+00:00")
}

/// Formats the whole seconds of microseconds since the epoch as ISO 8601 in UTC.
pub(crate) fn format_iso_seconds(at: u64) -> String {
    format_utc(at, "%Y-%m-%dT%H:%M:%S+00:00")
}

/// Formats microseconds since the epoch by a format of strftime(3); times after the year 9999 as
/// the last one of that year.
fn format_utc(at: u64, format: &str) -> String {
    let last = jiff::Timestamp::MAX;
    let time = i64::try_from(at).map(jiff::Timestamp::from_microsecond);
    let time = time.map_or(last, |time| time.unwrap_or(last));
    time.strftime(format).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use terok_clearance::{BlockedPacket, NetworkZone, Protocol};

    const AT: u64 = 1_795_255_384_000_250;

    fn line(event: &SandboxEvent) -> String {
        String::from_utf8(to_event_line(event, AT)).unwrap()
    }

    #[test]
    fn lines_match_the_python_hubs_input() {
        let container: ContainerId = "0123456789ab".parse().unwrap();
        let dossier = Dossier::new([("project".into(), "web".into())].into());
        let mut blocked = BlockedPacket {
            container: container.clone(),
            request: "0123456789ab:7".parse().unwrap(),
            address: "203.0.113.7".parse().unwrap(),
            port: 443,
            protocol: Protocol::TCP,
            domain: Some("api.example.com".parse().unwrap()),
            dossier: dossier.clone(),
            process: None,
            zone: NetworkZone::Public,
            looked_up_as: None,
            previous: None,
            reason: None,
        };
        insta::assert_snapshot!(line(&SandboxEvent::Blocked(blocked.clone())), @r#"{"type":"pending","container":"0123456789ab","id":"0123456789ab:7","dest":"203.0.113.7","port":443,"proto":6,"domain":"api.example.com","dossier":{"project":"web"},"ts":"2026-11-21T10:03:04.000250+00:00"}"#);
        blocked.domain = None;
        blocked.dossier = Dossier::default();
        insta::assert_snapshot!(line(&SandboxEvent::Blocked(blocked)), @r#"{"type":"pending","container":"0123456789ab","id":"0123456789ab:7","dest":"203.0.113.7","port":443,"proto":6,"domain":"","dossier":{},"ts":"2026-11-21T10:03:04.000250+00:00"}"#);
        let started = SandboxEvent::ContainerStarted {
            container: container.clone(),
            dossier: dossier.clone(),
        };
        insta::assert_snapshot!(line(&started), @r#"{"type":"container_started","container":"0123456789ab"}"#);
        let exited = SandboxEvent::ContainerExited {
            container: container.clone(),
            reason: "eof".into(),
            dossier: dossier.clone(),
        };
        insta::assert_snapshot!(line(&exited), @r#"{"type":"container_exited","container":"0123456789ab","reason":"eof"}"#);
        let shield = |state| {
            line(&SandboxEvent::Shield {
                container: container.clone(),
                state,
                dossier: dossier.clone(),
            })
        };
        insta::assert_snapshot!(shield(ShieldState::Up), @r#"{"type":"shield_up","container":"0123456789ab","dossier":{"project":"web"}}"#);
        insta::assert_snapshot!(shield(ShieldState::Down), @r#"{"type":"shield_down","container":"0123456789ab","dossier":{"project":"web"}}"#);
        insta::assert_snapshot!(shield(ShieldState::Disengaged), @r#"{"type":"shield_disengaged","container":"0123456789ab","dossier":{"project":"web"}}"#);
    }

    #[test]
    fn times_are_formatted_as_dates() {
        for (micros, text) in [
            (0, "1970-01-01T00:00:00.000000+00:00"),
            (951_782_399_999_999, "2000-02-28T23:59:59.999999+00:00"),
            (951_782_400_000_000, "2000-02-29T00:00:00.000000+00:00"),
            (951_868_800_000_000, "2000-03-01T00:00:00.000000+00:00"),
            (4_107_542_399_000_000, "2100-02-28T23:59:59.000000+00:00"),
            (4_107_542_400_000_000, "2100-03-01T00:00:00.000000+00:00"),
            (1_798_761_599_000_001, "2026-12-31T23:59:59.000001+00:00"),
            (u64::MAX, "9999-12-30T22:00:00.999999+00:00"),
        ] {
            assert_eq!(format_iso_micros(micros), text);
        }
    }
}
