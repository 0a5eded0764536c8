// SPDX-License-Identifier: Apache-2.0
//! From one line to one event.
//!
//! It takes what the Python stack's hub takes, with these differences, each on purpose: a port and
//! a protocol are whole numbers in range (as numbers or as text), not fractions, truth values or
//! negative; a text may be a whole number, but not null, a fraction or a list; a sandbox's name and
//! a question's id are checked, not altered. The last of two equal keys counts, as there.

use std::borrow::Cow;
use std::fmt;

use serde::de::{Error as _, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;
use terok_clearance::{
    BlockedPacket, ContainerId, Dest, DisplayText, Dossier, Protocol, RequestId, SandboxEvent,
    ShieldState,
};

use super::line_fields::{LineFields, parse_fast};

/// Why a line is dropped.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EventLineError {
    /// It has too many bytes.
    #[error("longer than {} bytes", super::MAX_LINE_BYTES)]
    TooLong,
    /// It is no UTF-8.
    #[error("not UTF-8")]
    NotUtf8,
    /// It is no JSON object.
    #[error("not a JSON object: {0}")]
    NotJsonObject(DisplayText),
    /// It is an event of a type that this hub does not know.
    #[error("of an unknown type")]
    UnknownType,
    /// It lacks a field that its type needs.
    #[error("without {0:?}")]
    MissingField(&'static str),
    /// A field has a value that it cannot have.
    #[error("with a wrong {field:?}: {problem}")]
    InvalidField {
        /// The field.
        field: &'static str,
        /// What is wrong.
        problem: DisplayText,
    },
}

/// Parses the lines of one connection.
///
/// It remembers the last sandbox and what was known about it: most lines repeat both.
#[derive(Debug, Default)]
pub struct EventLineParser {
    known_container: Option<ContainerId>,
    last_dossier_json: String,
    last_dossier: Dossier,
}

impl EventLineParser {
    /// Returns the event that `line` tells of, `None` for an empty line.
    pub fn parse(&mut self, line: &[u8]) -> Result<Option<SandboxEvent>, EventLineError> {
        let line = line.strip_prefix(b"\xef\xbb\xbf").unwrap_or(line);
        let line = line.trim_ascii();
        if line.is_empty() {
            return Ok(None);
        }
        let Ok(text) = std::str::from_utf8(line) else {
            return Err(EventLineError::NotUtf8);
        };
        let fields = match parse_fast(text, &self.last_dossier_json) {
            Some(fields) => {
                debug_assert_eq!(serde_json::from_str(text).ok().as_ref(), Some(&fields));
                fields
            }
            None => serde_json::from_str(text).map_err(|error| {
                EventLineError::NotJsonObject(DisplayText::new(&error.to_string()))
            })?,
        };
        self.parse_event(&fields).map(Some)
    }

    fn parse_event(&mut self, fields: &LineFields<'_>) -> Result<SandboxEvent, EventLineError> {
        let kind = fields.kind.required_text("type")?;
        let state = match &*kind {
            "pending" => return self.parse_blocked(fields).map(SandboxEvent::Blocked),
            "container_started" => {
                return Ok(SandboxEvent::ContainerStarted {
                    container: self.parse_container(fields)?,
                    dossier: self.parse_dossier(fields),
                });
            }
            "container_exited" => {
                let reason = fields.reason.optional_text("reason")?.unwrap_or_default();
                return Ok(SandboxEvent::ContainerExited {
                    container: self.parse_container(fields)?,
                    reason: DisplayText::new(&reason),
                    dossier: self.parse_dossier(fields),
                });
            }
            "shield_up" => ShieldState::Up,
            "shield_down" => ShieldState::Down,
            "shield_disengaged" | "shield_down_all" => ShieldState::Disengaged,
            _ => return Err(EventLineError::UnknownType),
        };
        Ok(SandboxEvent::Shield {
            container: self.parse_container(fields)?,
            state,
            dossier: self.parse_dossier(fields),
        })
    }

    fn parse_blocked(&mut self, fields: &LineFields<'_>) -> Result<BlockedPacket, EventLineError> {
        let request: RequestId = parse_field(&fields.id.required_text("id")?, "id")?;
        let address =
            Dest::new(&fields.dest.required_text("dest")?).map_err(invalid_field("dest"))?;
        let domain = match fields.domain.optional_text("domain")? {
            Some(domain) if !domain.is_empty() => {
                Some(Dest::new(&domain).map_err(invalid_field("domain"))?)
            }
            _ => None,
        };
        Ok(BlockedPacket {
            container: self.parse_container(fields)?,
            request,
            address,
            port: fields.port.required_number("port")?,
            protocol: Protocol(fields.proto.required_number("proto")?),
            domain,
            dossier: self.parse_dossier(fields),
            process: None,
        })
    }

    fn parse_container(&mut self, fields: &LineFields<'_>) -> Result<ContainerId, EventLineError> {
        let text = fields.container.required_text("container")?;
        if let Some(last) = self
            .known_container
            .as_ref()
            .filter(|last| last.as_str() == text)
        {
            return Ok(last.clone());
        }
        let container: ContainerId = parse_field(&text, "container")?;
        self.known_container = Some(container.clone());
        Ok(container)
    }

    /// Returns the dossier; an empty one for anything but an object.
    fn parse_dossier(&mut self, fields: &LineFields<'_>) -> Dossier {
        let text = fields.dossier.unwrap_or_default();
        if text != self.last_dossier_json {
            text.clone_into(&mut self.last_dossier_json);
            let entries = serde_json::from_str(text).map(|DossierEntries(entries)| entries);
            self.last_dossier = Dossier::new(entries.unwrap_or_default());
        }
        self.last_dossier.clone()
    }
}

pub(super) fn parse_field<T: std::str::FromStr<Err: fmt::Display>>(
    text: &str,
    field: &'static str,
) -> Result<T, EventLineError> {
    text.parse().map_err(invalid_field(field))
}

pub(super) fn invalid_field<E: fmt::Display>(
    field: &'static str,
) -> impl FnOnce(E) -> EventLineError {
    move |error| EventLineError::InvalidField {
        field,
        problem: DisplayText::new(&error.to_string()),
    }
}

/// A dossier's entries; a value that is no text is shown as its JSON.
struct DossierEntries(std::collections::BTreeMap<DisplayText, DisplayText>);

impl<'de> Deserialize<'de> for DossierEntries {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct DossierVisitor;

        impl<'de> Visitor<'de> for DossierVisitor {
            type Value = DossierEntries;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<DossierEntries, A::Error> {
                #[derive(Deserialize)]
                struct JsonText<'a>(#[serde(borrow)] Cow<'a, str>);
                let mut entries = std::collections::BTreeMap::new();
                while let Some((JsonText(key), raw)) =
                    map.next_entry::<JsonText<'de>, &'de RawValue>()?
                {
                    let value = if raw.get().starts_with('"') {
                        let JsonText(text) =
                            serde_json::from_str(raw.get()).map_err(A::Error::custom)?;
                        DisplayText::new(&text)
                    } else {
                        DisplayText::new(raw.get())
                    };
                    entries.insert(DisplayText::new(&key), value);
                }
                Ok(DossierEntries(entries))
            }
        }

        deserializer.deserialize_map(DossierVisitor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PENDING: &str =
        r#""type":"pending","container":"c","id":"c:1","dest":"192.0.2.1","port":443,"proto":6"#;

    fn parse_one(line: &str) -> Result<Option<SandboxEvent>, EventLineError> {
        EventLineParser::default().parse(line.as_bytes())
    }

    fn blocked(fields: &str) -> BlockedPacket {
        match parse_one(&format!("{{{PENDING}{fields}}}")) {
            Ok(Some(SandboxEvent::Blocked(blocked))) => blocked,
            other => panic!("of {fields:?}: {other:?}"),
        }
    }

    fn check_refused(line: &str, expected: &str) {
        let error = parse_one(line).expect_err(line).to_string();
        assert!(error.contains(expected), "of {line:?}: {error}");
    }

    #[test]
    fn a_pending_line_is_a_question() {
        let line = r#"{"type":"pending","container":"3f2a9c0d1e4b","id":"3f2a9c0d1e4b:7","dest":"203.0.113.7","port":443,"proto":6,"domain":"api.example.com","dossier":{"task":"t1"},"ts":"2026-05-01T00:00:00Z"}"#;
        let Some(SandboxEvent::Blocked(blocked)) = parse_one(line).unwrap() else {
            panic!("no question");
        };
        assert_eq!(blocked.container.as_str(), "3f2a9c0d1e4b");
        assert_eq!(blocked.request.as_str(), "3f2a9c0d1e4b:7");
        assert_eq!(blocked.address.as_str(), "203.0.113.7");
        assert_eq!((blocked.port, blocked.protocol), (443, Protocol::TCP));
        assert_eq!(blocked.dest().as_str(), "api.example.com");
        assert_eq!(blocked.dossier[&"task".into()].as_str(), "t1");
    }

    #[test]
    fn the_other_types_are_events_too() {
        for (fields, expected) in [
            (r#""type":"container_started""#, "Started"),
            (
                r#""type":"container_exited","reason":"eof""#,
                r#"reason: "eof""#,
            ),
            (r#""type":"shield_up""#, "state: Up"),
            (r#""type":"shield_down""#, "state: Down"),
            (
                r#""type":"shield_disengaged","dossier":{"a":"b"}"#,
                r#"{"a": "b"}"#,
            ),
            (r#""type":"shield_down_all""#, "state: Disengaged"),
        ] {
            let event = parse_one(&format!(r#"{{"container":"web",{fields}}}"#));
            let shown = format!("{:?}", event.unwrap().unwrap());
            assert!(shown.contains(expected), "of {fields}: {shown}");
        }
    }

    #[test]
    fn what_is_no_event_is_refused() {
        for (line, expected) in [
            ("garbage", "not a JSON object"),
            ("[]", "not a JSON object"),
            ("\"text\"", "not a JSON object"),
            ("{\"type\":\"pending\"", "not a JSON object"),
            ("{} {}", "not a JSON object"),
            ("{}", r#"without "type""#),
            (
                r#"{"type":"verdict_applied","container":"c"}"#,
                "unknown type",
            ),
            (r#"{"type":"container_started"}"#, r#"without "container""#),
            (
                r#"{"type":"container_started","container":"../x"}"#,
                "container",
            ),
            (
                r#"{"type":"container_started","container":["c"]}"#,
                "container",
            ),
            (
                r#"{"type":"container_started","container":null}"#,
                "without",
            ),
            (r#"{"type":"pending","container":"c"}"#, r#"without "id""#),
        ] {
            check_refused(line, expected);
        }
        let deep = format!(
            r#"{{"type":{}1{}}}"#,
            "[".repeat(30_000),
            "]".repeat(30_000)
        );
        check_refused(&deep, "type");
        let digits = format!(r#"{{{PENDING},"port":{}}}"#, "9".repeat(5_000));
        check_refused(&digits, "out of range");
        for (fields, expected) in [
            (r#""port":65536"#, "port"),
            (r#""port":-1"#, "port"),
            (r#""port":443.9"#, "port"),
            (r#""port":true"#, "port"),
            (r#""port":"https""#, "port"),
            (r#""port":null"#, "port"),
            (r#""proto":256"#, "proto"),
            (r#""proto":"tcp""#, "proto"),
            (r#""id":"""#, "id"),
            (r#""id":"a b""#, "id"),
            (r#""dest":"""#, "dest"),
            (r#""domain":{}"#, "domain"),
        ] {
            check_refused(&format!("{{{PENDING},{fields}}}"), expected);
        }
        let mut parser = EventLineParser::default();
        assert_eq!(
            parser.parse(b"{\"type\":\"\xff\"}"),
            Err(EventLineError::NotUtf8)
        );
    }

    #[test]
    fn harmless_spellings_are_accepted() {
        assert_eq!(blocked(r#","port":"8443""#).port, 8443);
        assert_eq!(blocked(r#","proto":" 17 ""#).protocol, Protocol::UDP);
        assert_eq!(blocked(r#","container":7,"id":8"#).container.as_str(), "7");
        assert_eq!(
            blocked(r#","port":1,"port":2"#).port,
            2,
            "the last key counts"
        );
        for none in [r#","domain":"""#, r#","domain":null"#, ""] {
            assert_eq!(blocked(none).domain, None, "of {none:?}");
        }
        let escaped = blocked(r#","domain":"\u0061.example\u001b""#);
        assert_eq!(escaped.domain.unwrap().as_str(), "a.example ");
        for line in ["", "  ", "\r", "\u{feff}"] {
            assert_eq!(parse_one(line), Ok(None), "of {line:?}");
        }
        let line = format!("\u{feff}{{{PENDING}}}\r");
        assert!(matches!(
            parse_one(&line),
            Ok(Some(SandboxEvent::Blocked(_)))
        ));
    }

    #[test]
    fn a_dossier_is_text_whatever_it_was() {
        let shown = |dossier: &str| {
            let blocked = blocked(&format!(r#","dossier":{dossier}"#));
            serde_json::to_string(&*blocked.dossier).unwrap()
        };
        for (dossier, expected) in [
            (
                r#"{"a":"b","c":1,"d":true,"e":null}"#,
                r#"{"a":"b","c":"1","d":"true","e":"null"}"#,
            ),
            (r#"{"a":{"b": [1]}}"#, r#"{"a":"{\"b\": [1]}"}"#),
            (
                r#"{"a":"\u001b[2J","a\u0007":"x"}"#,
                r#"{"a":" [2J","a ":"x"}"#,
            ),
            ("[1]", "{}"),
            ("null", "{}"),
            ("7", "{}"),
            (r#"{"a":"\ud800"}"#, "{}"),
        ] {
            assert_eq!(shown(dossier), expected, "of {dossier}");
        }
    }

    #[test]
    fn what_a_line_repeats_is_kept_once() {
        let mut parser = EventLineParser::default();
        let mut next =
            |fields: &str| match parser.parse(format!("{{{PENDING}{fields}}}").as_bytes()) {
                Ok(Some(SandboxEvent::Blocked(blocked))) => blocked.dossier,
                other => panic!("{other:?}"),
            };
        let first = next(r#","dossier":{"a":"b"}"#);
        assert!(std::sync::Arc::ptr_eq(
            &first,
            &next(r#","dossier":{"a":"b"}"#)
        ));
        assert_eq!(next(r#","dossier":{"a":"c"}"#)[&"a".into()].as_str(), "c");
        assert!(next("").is_empty());
    }

    proptest::proptest! {
        #[test]
        fn no_line_panics(line in ".*", bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..200)) {
            drop(parse_one(&line));
            drop(EventLineParser::default().parse(&bytes));
        }
    }
}
