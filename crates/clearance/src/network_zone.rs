// SPDX-License-Identifier: Apache-2.0
//! The part of the network that a destination belongs to, seen from the host of the sandbox.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::DisplayText;

/// The part of the network that a destination belongs to, seen from the host of the sandbox.
///
/// The zone is part of a question's identity: an answer about a name that leads to the internet
/// settles no question about the same name when it leads to the local network.
///
/// The text form is `public`, `local-network` or `this-host`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub enum NetworkZone {
    /// The internet.
    #[default]
    Public,
    /// A private range, reached by a route of the host.
    LocalNetwork,
    /// An address of the host itself, its loopback included.
    ThisHost,
}

/// A text that is not a [`NetworkZone`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a network zone: use public, local-network or this-host")]
pub struct NetworkZoneParseError(pub DisplayText);

impl NetworkZone {
    const ALL: [Self; 3] = [Self::Public, Self::LocalNetwork, Self::ThisHost];

    /// Returns the zone as every interface spells it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Public => "public",
            Self::LocalNetwork => "local-network",
            Self::ThisHost => "this-host",
        }
    }

    /// Returns `true` for [`NetworkZone::Public`].
    pub const fn is_public(&self) -> bool {
        matches!(self, Self::Public)
    }

    /// Deserializes the zone of a question. A zone that this release does not know is not public,
    /// and a question with such a zone must not be lost: it counts as the local network.
    pub(crate) fn deserialize_lenient<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Self, D::Error> {
        let text = Option::<DisplayText>::deserialize(deserializer)?;
        Ok(text.map_or(Self::Public, |text| {
            text.as_str().parse().unwrap_or(Self::LocalNetwork)
        }))
    }
}

impl FromStr for NetworkZone {
    type Err = NetworkZoneParseError;

    fn from_str(text: &str) -> Result<Self, NetworkZoneParseError> {
        let known = Self::ALL.into_iter().find(|zone| zone.as_str() == text);
        known.ok_or_else(|| NetworkZoneParseError(DisplayText::new(text)))
    }
}

impl fmt::Display for NetworkZone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl Serialize for NetworkZone {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for NetworkZone {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = DisplayText::deserialize(deserializer)?;
        text.as_str().parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_zone_is_one_of_three_texts() {
        for zone in NetworkZone::ALL {
            assert_eq!(zone.to_string().parse(), Ok(zone));
            let json = serde_json::to_string(&zone).unwrap();
            assert_eq!(json, format!("\"{zone}\""));
            assert_eq!(serde_json::from_str::<NetworkZone>(&json).unwrap(), zone);
        }
        for text in ["", "Public", "local", "this-host "] {
            assert!(text.parse::<NetworkZone>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn a_question_of_an_unknown_zone_is_not_public() {
        let zone = |json: &str| {
            let mut json = serde_json::Deserializer::from_str(json);
            NetworkZone::deserialize_lenient(&mut json).ok()
        };
        assert_eq!(zone("null"), Some(NetworkZone::Public));
        assert_eq!(zone("\"public\""), Some(NetworkZone::Public));
        assert_eq!(zone("\"this-host\""), Some(NetworkZone::ThisHost));
        assert_eq!(zone("\"vpn\""), Some(NetworkZone::LocalNetwork));
        assert_eq!(zone("\"\""), Some(NetworkZone::LocalNetwork));
        assert_eq!(zone("1"), None);
    }
}
