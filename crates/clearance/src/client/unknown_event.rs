// SPDX-License-Identifier: Apache-2.0
//! Events of a type that this release does not know.

use std::fmt::Write as _;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::ProtocolVersion;
use crate::DisplayText;

/// An event of an unknown type, as the hub sent it.
///
/// Both interfaces may grow. A client that knows the type can use the event before this crate
/// does; every other client can ignore or show it.
#[derive(Debug, Clone)]
pub struct UnknownEvent {
    interface: ProtocolVersion,
    kind: DisplayText,
    json: Box<RawValue>,
}

impl UnknownEvent {
    /// Returns the interface of the event.
    pub const fn interface(&self) -> ProtocolVersion {
        self.interface
    }

    /// Returns the event's type: `type` in Clearance1, `kind` in Clearance2.
    pub const fn kind(&self) -> &DisplayText {
        &self.kind
    }

    /// Returns the event's JSON object, unchanged.
    ///
    /// The text is not sanitised: use [`UnknownEvent::to_ascii_json`] for output.
    pub fn json(&self) -> &str {
        self.json.get()
    }

    /// Returns the same JSON object as one line of printable ASCII.
    pub fn to_ascii_json(&self) -> String {
        let mut line = String::with_capacity(self.json().len());
        for c in self.json().chars() {
            match c {
                ' '..='~' => line.push(c),
                // JSON has raw control characters only between tokens.
                '\0'..='\u{1f}' => line.push(' '),
                // JSON has other characters only in strings, where an escape is the same character.
                _ => {
                    for unit in c.encode_utf16(&mut [0; 2]) {
                        // Writing to a string cannot fail.
                        let _infallible = write!(line, "\\u{unit:04x}");
                    }
                }
            }
        }
        line
    }

    /// Returns the event in a reply's parameters, `None` unless its type is text that `is_known`
    /// does not know.
    pub(super) fn parse(
        interface: ProtocolVersion,
        parameters: &str,
        is_known: fn(&str) -> bool,
    ) -> Option<Self> {
        #[derive(Deserialize)]
        struct SubscribeReply {
            event: Box<RawValue>,
        }
        #[derive(Deserialize)]
        struct EventType {
            #[serde(rename = "type")]
            clearance1: Option<String>,
            #[serde(rename = "kind")]
            clearance2: Option<String>,
        }
        let SubscribeReply { event } = serde_json::from_str(parameters).ok()?;
        let EventType {
            clearance1,
            clearance2,
        } = serde_json::from_str(event.get()).ok()?;
        let kind = match interface {
            ProtocolVersion::Clearance1 => clearance1?,
            ProtocolVersion::Clearance2 => clearance2?,
        };
        (!is_known(&kind)).then(|| Self {
            interface,
            kind: DisplayText::new(&kind),
            json: event,
        })
    }
}

impl PartialEq for UnknownEvent {
    fn eq(&self, other: &Self) -> bool {
        self.interface == other.interface && self.json() == other.json()
    }
}

impl Eq for UnknownEvent {}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(interface: ProtocolVersion, parameters: &str) -> Option<UnknownEvent> {
        UnknownEvent::parse(interface, parameters, |kind| kind == "known")
    }

    #[test]
    fn only_a_text_that_names_an_unknown_type_is_an_unknown_event() {
        let old = |json| parse(ProtocolVersion::Clearance1, json);
        let new = |json| parse(ProtocolVersion::Clearance2, json);
        let event = old(r#"{"event": {"type": "a\u0007", "port": "x"}}"#).unwrap();
        assert_eq!(event.kind().as_str(), "a ");
        assert_eq!(event.json(), r#"{"type": "a\u0007", "port": "x"}"#);
        assert_eq!(event.interface(), ProtocolVersion::Clearance1);
        assert!(new(r#"{"event":{"seq":1,"kind":"b"}}"#).is_some());
        for json in [
            r#"{"event":{"type":"known","kind":"known","port":"x"}}"#,
            r#"{"event":{"type":1,"kind":1}}"#,
            r#"{"event":{}}"#,
            r#"{"event":[]}"#,
            r#"{"event":{"type":"#,
            "{}",
        ] {
            assert!(old(json).is_none() && new(json).is_none(), "of {json}");
        }
        assert!(old(r#"{"event":{"kind":"b"}}"#).is_none());
    }

    #[test]
    fn output_is_one_line_of_ascii_with_the_same_meaning() {
        let json = "{\"type\":\r\n\t\"caf\u{e9}\u{1f512}\u{9b}\u{7f}\u{2028}\\u001b\"}";
        let event = parse(
            ProtocolVersion::Clearance1,
            &format!("{{\"event\":{json}}}"),
        )
        .unwrap();
        let line = event.to_ascii_json();
        assert!(
            line.bytes().all(|byte| matches!(byte, 0x20..=0x7e)),
            "{line}"
        );
        let value = |json: &str| serde_json::from_str::<serde_json::Value>(json).unwrap();
        assert_eq!(value(&line), value(json));
    }

    proptest::proptest! {
        #[test]
        fn every_text_survives_the_escape(text in ".*") {
            let json = serde_json::json!({ "type": "t", "text": text });
            let event = parse(
                ProtocolVersion::Clearance1,
                &serde_json::json!({ "event": json }).to_string(),
            );
            let line = event.unwrap().to_ascii_json();
            proptest::prop_assert!(line.is_ascii());
            proptest::prop_assert_eq!(serde_json::from_str::<serde_json::Value>(&line).unwrap(), json);
        }
    }
}
