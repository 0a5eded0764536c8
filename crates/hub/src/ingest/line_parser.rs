// SPDX-License-Identifier: Apache-2.0
//! Parses one line into one event.
//!
//! The parser accepts what the Python stack's hub accepts, with deliberate differences. Ports and
//! protocols are whole numbers in range, as numbers or as text, and never fractions, booleans or
//! negative. A text may be a whole number, but not null, a fraction or an array. Container names
//! and request ids are checked instead of altered. The last of two equal keys counts, as in Python.

use std::borrow::Cow;
use std::fmt;

use serde::de::{Error as _, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;
use terok_clearance::{
    BlockedPacket, ContainerId, Dest, DisplayText, Dossier, NetworkZone, Protocol, RequestId,
    SandboxEvent, ShieldState,
};

use super::fast_parser::parse_fast;
use super::line_error::{EventLineError, invalid_field, parse_field};
use super::line_fields::LineFields;

/// Parses the lines of one connection.
///
/// The parser remembers the last sandbox and its dossier, because most lines repeat both.
#[derive(Debug, Default)]
pub struct EventLineParser {
    known_container: Option<ContainerId>,
    last_dossier_json: String,
    last_dossier: Dossier,
}

impl EventLineParser {
    /// Parses the event in `line`; `None` for an empty line.
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
            // The Python hub takes both: the reader's word and that of the wire.
            "pending" | "connection_blocked" => {
                return self.parse_blocked(fields).map(SandboxEvent::Blocked);
            }
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
            zone: NetworkZone::Public,
            looked_up_as: None,
            previous: None,
            reason: None,
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

    /// Returns the dossier; an empty dossier if the field is not an object.
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

/// A dossier's entries; a value other than a text is kept as its JSON.
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
                        DisplayText::name(&text)
                    } else {
                        DisplayText::name(raw.get())
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
            other => panic!("for {fields:?}: {other:?}"),
        }
    }

    fn check_refused(line: &str, expected: &str) {
        let error = parse_one(line).expect_err(line).to_string();
        assert!(error.contains(expected), "for {line:?}: {error}");
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
    fn a_connection_blocked_line_is_a_question() {
        let line = r#"{"type":"connection_blocked","container":"web","id":"web:3","dest":"203.0.113.7","port":443,"proto":6,"domain":"api.example.com","dossier":{"task":"t1"}}"#;
        let question = parse_one(line).unwrap();
        assert!(matches!(&question, Some(SandboxEvent::Blocked(_))));
        let pending = line.replace("connection_blocked", "pending");
        assert_eq!(question, parse_one(&pending).unwrap());
        for other in [
            "connection_blocke",
            "Connection_blocked",
            "blocked",
            "connection blocked",
        ] {
            check_refused(&line.replace("connection_blocked", other), "type");
        }
    }

    #[test]
    fn other_event_types_are_parsed() {
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
            assert!(shown.contains(expected), "for {fields}: {shown}");
        }
    }

    #[test]
    fn invalid_lines_are_refused() {
        for (line, expected) in [
            ("garbage", "not a JSON object"),
            ("[]", "not a JSON object"),
            ("\"text\"", "not a JSON object"),
            ("{\"type\":\"pending\"", "not a JSON object"),
            ("{} {}", "not a JSON object"),
            ("{}", r#"missing field "type""#),
            (
                r#"{"type":"verdict_applied","container":"c"}"#,
                "unknown event type",
            ),
            (
                r#"{"type":"container_started"}"#,
                r#"missing field "container""#,
            ),
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
                "missing field",
            ),
            (
                r#"{"type":"pending","container":"c"}"#,
                r#"missing field "id""#,
            ),
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
    fn alternative_spellings_are_accepted() {
        assert_eq!(blocked(r#","port":"8443""#).port, 8443);
        assert_eq!(blocked(r#","proto":" 17 ""#).protocol, Protocol::UDP);
        assert_eq!(blocked(r#","container":7,"id":8"#).container.as_str(), "7");
        assert_eq!(
            blocked(r#","port":1,"port":2"#).port,
            2,
            "the last key counts"
        );
        for none in [r#","domain":"""#, r#","domain":null"#, ""] {
            assert_eq!(blocked(none).domain, None, "for {none:?}");
        }
        let escaped = blocked(r#","domain":"\u0061.example\u001b""#);
        assert_eq!(escaped.domain.unwrap().as_str(), "a.example ");
        for line in ["", "  ", "\r", "\u{feff}"] {
            assert_eq!(parse_one(line), Ok(None), "for {line:?}");
        }
        let line = format!("\u{feff}{{{PENDING}}}\r");
        assert!(matches!(
            parse_one(&line),
            Ok(Some(SandboxEvent::Blocked(_)))
        ));
    }

    #[test]
    fn values_of_a_dossier_become_text() {
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
            assert_eq!(shown(dossier), expected, "for {dossier}");
        }
    }

    #[test]
    fn a_repeated_dossier_is_shared() {
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
        fn both_names_of_a_question_and_both_parsers_give_the_same_result(
            fields in proptest::collection::vec(
                (
                    "(container|id|dest|port|proto|domain|reason|dossier|ts)",
                    r#"("[a-z]{0,4}:?[0-9]{0,3}"|[0-9]{1,11}|-1|1\.5|null|true|\{\}|\{"t": "x"\}|\[1\])"#,
                ),
                0..6,
            ),
            first in proptest::bool::ANY,
        ) {
            let line = |kind: &str, escaped: &str| {
                let mut parts: Vec<_> =
                    fields.iter().map(|(key, value)| format!("\"{key}\":{value}")).collect();
                let kind = format!("\"type\":\"{kind}\"");
                parts.insert(if first { 0 } else { parts.len() }, kind);
                // Valid values, which some of the random ones replace.
                let usual = r#""container":"c","id":"c:1","dest":"192.0.2.1","port":1,"proto":6"#;
                let line = format!("{{{escaped}{usual},{}}}", parts.join(","));
                // An escape sends the line to the full parser.
                let fast = parse_fast(&line, "").is_some();
                assert!(!fast || escaped.is_empty(), "{line}");
                parse_one(&line).map_err(|error| match error {
                    // Its text has the column.
                    EventLineError::NotJsonObject(_) => EventLineError::NotUtf8,
                    error => error,
                })
            };
            let expected = line("pending", "");
            proptest::prop_assert_eq!(&line("connection_blocked", ""), &expected);
            proptest::prop_assert_eq!(&line("pending", "\"\\u0078\":0,"), &expected);
            proptest::prop_assert_eq!(&line("connection_blocked", "\"\\u0078\":0,"), &expected);
        }

        #[test]
        fn arbitrary_lines_do_not_panic(line in ".*", bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..200)) {
            drop(parse_one(&line));
            drop(EventLineParser::default().parse(&bytes));
        }
    }
}
