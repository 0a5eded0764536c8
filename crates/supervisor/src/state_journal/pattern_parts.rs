// SPDX-License-Identifier: Apache-2.0
//! The JSON form of a pattern in its parts: the text form of some does not parse.

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use terok_clearance::{DestPattern, PortRange, Protocol};

#[derive(Serialize, Deserialize)]
struct PatternParts {
    host: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    ports: Option<(u16, u16)>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    protocol: Option<u8>,
}

pub(super) fn serialize<S: Serializer>(
    pattern: &DestPattern,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    let parts = PatternParts {
        host: pattern.host().to_string(),
        ports: pattern.ports().map(|ports| (ports.low(), ports.high())),
        protocol: pattern.protocol().map(|protocol| protocol.0),
    };
    parts.serialize(serializer)
}

pub(super) fn deserialize<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<DestPattern, D::Error> {
    let PatternParts {
        host,
        ports,
        protocol,
    } = PatternParts::deserialize(deserializer)?;
    let host: DestPattern = host.parse().map_err(de::Error::custom)?;
    let host = host.host().clone();
    let ports = match ports {
        None => None,
        Some((low, high)) => {
            let range = PortRange::new(low, high);
            Some(range.ok_or_else(|| de::Error::custom("not a range of ports"))?)
        }
    };
    let pattern = match protocol {
        None => DestPattern::new(host, ports, None),
        Some(protocol) => DestPattern::with_any_protocol(host, ports, Protocol(protocol)),
    };
    pattern.map_err(de::Error::custom)
}
