// SPDX-License-Identifier: Apache-2.0
//! The known fields of a reader's line, before their values are checked.

use std::borrow::Cow;
use std::fmt;

use serde::de::{IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use super::line_parser::{EventLineError, invalid_field, parse_field};

/// The fields with a meaning to the hub; others are ignored.
#[derive(Debug, Default, PartialEq)]
pub(super) struct LineFields<'a> {
    pub(super) kind: FieldValue<'a>,
    pub(super) container: FieldValue<'a>,
    pub(super) id: FieldValue<'a>,
    pub(super) dest: FieldValue<'a>,
    pub(super) port: FieldValue<'a>,
    pub(super) proto: FieldValue<'a>,
    pub(super) domain: FieldValue<'a>,
    pub(super) reason: FieldValue<'a>,
    /// The dossier as JSON text.
    pub(super) dossier: Option<&'a str>,
}

impl<'de: 'a, 'a> Deserialize<'de> for LineFields<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(field_identifier, rename_all = "lowercase")]
        enum Field {
            Type,
            Container,
            Id,
            Dest,
            Port,
            Proto,
            Domain,
            Reason,
            Dossier,
            #[serde(other)]
            Other,
        }

        struct LineFieldsVisitor;

        impl<'de> Visitor<'de> for LineFieldsVisitor {
            type Value = LineFields<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<LineFields<'de>, A::Error> {
                let mut fields = LineFields::default();
                while let Some(field) = map.next_key()? {
                    match field {
                        Field::Type => fields.kind = map.next_value()?,
                        Field::Container => fields.container = map.next_value()?,
                        Field::Id => fields.id = map.next_value()?,
                        Field::Dest => fields.dest = map.next_value()?,
                        Field::Port => fields.port = map.next_value()?,
                        Field::Proto => fields.proto = map.next_value()?,
                        Field::Domain => fields.domain = map.next_value()?,
                        Field::Reason => fields.reason = map.next_value()?,
                        Field::Dossier => {
                            fields.dossier = Some(map.next_value::<&RawValue>()?.get());
                        }
                        Field::Other => {
                            map.next_value::<IgnoredAny>()?;
                        }
                    }
                }
                Ok(fields)
            }
        }

        deserializer.deserialize_map(LineFieldsVisitor)
    }
}

/// The value of a field, as far as events use it.
#[derive(Debug, Default, PartialEq)]
pub(super) enum FieldValue<'a> {
    /// The field is missing or null.
    #[default]
    Absent,
    Text(Cow<'a, str>),
    Unsigned(u64),
    Negative(i64),
    /// A fraction, a boolean, an array or an object.
    Other,
}

impl FieldValue<'_> {
    /// Returns the text, `None` for an absent field.
    pub(super) fn optional_text(
        &self,
        field: &'static str,
    ) -> Result<Option<Cow<'_, str>>, EventLineError> {
        match self {
            Self::Absent => Ok(None),
            Self::Text(text) => Ok(Some(Cow::Borrowed(text))),
            Self::Unsigned(number) => Ok(Some(number.to_string().into())),
            Self::Negative(number) => Ok(Some(number.to_string().into())),
            Self::Other => Err(invalid_field(field)("it is not a text")),
        }
    }

    /// Returns the text, an error for an absent field.
    pub(super) fn required_text(
        &self,
        field: &'static str,
    ) -> Result<Cow<'_, str>, EventLineError> {
        self.optional_text(field)?
            .ok_or(EventLineError::MissingField(field))
    }

    /// Returns the number, an error for an absent field.
    pub(super) fn required_number<T>(&self, field: &'static str) -> Result<T, EventLineError>
    where
        T: TryFrom<u64> + std::str::FromStr<Err: fmt::Display>,
    {
        match self {
            Self::Absent => Err(EventLineError::MissingField(field)),
            Self::Text(text) => parse_field(text.trim(), field),
            Self::Unsigned(number) => T::try_from(*number)
                .ok()
                .ok_or_else(|| invalid_field(field)("it is out of range")),
            Self::Negative(_) | Self::Other => {
                Err(invalid_field(field)("it is not a whole number in range"))
            }
        }
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for FieldValue<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct FieldValueVisitor;

        impl<'de> Visitor<'de> for FieldValueVisitor {
            type Value = FieldValue<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a value")
            }

            fn visit_borrowed_str<E>(self, text: &'de str) -> Result<FieldValue<'de>, E> {
                Ok(FieldValue::Text(Cow::Borrowed(text)))
            }

            fn visit_str<E>(self, text: &str) -> Result<FieldValue<'de>, E> {
                Ok(FieldValue::Text(Cow::Owned(text.to_owned())))
            }

            fn visit_u64<E>(self, number: u64) -> Result<FieldValue<'de>, E> {
                Ok(FieldValue::Unsigned(number))
            }

            fn visit_i64<E>(self, number: i64) -> Result<FieldValue<'de>, E> {
                Ok(FieldValue::Negative(number))
            }

            fn visit_f64<E>(self, _: f64) -> Result<FieldValue<'de>, E> {
                Ok(FieldValue::Other)
            }

            fn visit_bool<E>(self, _: bool) -> Result<FieldValue<'de>, E> {
                Ok(FieldValue::Other)
            }

            fn visit_unit<E>(self) -> Result<FieldValue<'de>, E> {
                Ok(FieldValue::Absent)
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<FieldValue<'de>, A::Error> {
                while seq.next_element::<IgnoredAny>()?.is_some() {}
                Ok(FieldValue::Other)
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<FieldValue<'de>, A::Error> {
                while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
                Ok(FieldValue::Other)
            }
        }

        deserializer.deserialize_any(FieldValueVisitor)
    }
}

/// Parses a line in the usual format, several times as fast as `serde_json`.
///
/// The format: texts without escapes, whole numbers, optional spaces, and `dossier`, the JSON of
/// the previous line's dossier. Returns `None` for every other line, valid or not; `serde_json`
/// then parses the line. The result equals that of `serde_json`, which debug builds assert for
/// every line.
pub(super) fn parse_fast<'a>(text: &'a str, dossier: &str) -> Option<LineFields<'a>> {
    // Counts over the whole line, because the compiler vectorises this loop.
    let odd = |byte: &&u8| **byte < 0x20 || **byte == b'\\';
    if text.as_bytes().iter().filter(odd).count() > 0 {
        return None;
    }
    let mut fields = LineFields::default();
    let mut rest = text.strip_prefix('{')?;
    loop {
        let (key, after) = scan_string(rest.trim_start_matches(' ').strip_prefix('"')?)?;
        rest = after.trim_start_matches(' ').strip_prefix(':')?;
        rest = rest.trim_start_matches(' ');
        if key == "dossier" {
            rest = rest.strip_prefix(dossier).filter(|_| !dossier.is_empty())?;
            let length = dossier.len();
            let whole = text.len().checked_sub(rest.len())?;
            fields.dossier = text.get(whole.checked_sub(length)?..whole);
        } else {
            let (value, after) = match rest.strip_prefix('"') {
                Some(quoted) => {
                    let (value, after) = scan_string(quoted)?;
                    (FieldValue::Text(Cow::Borrowed(value)), after)
                }
                None => scan_number(rest)?,
            };
            rest = after;
            match key {
                "type" => fields.kind = value,
                "container" => fields.container = value,
                "id" => fields.id = value,
                "dest" => fields.dest = value,
                "port" => fields.port = value,
                "proto" => fields.proto = value,
                "domain" => fields.domain = value,
                "reason" => fields.reason = value,
                _ => {}
            }
        }
        rest = rest.trim_start_matches(' ');
        match rest.strip_prefix(',') {
            Some(next) => rest = next,
            None => return (rest == "}").then_some(fields),
        }
    }
}

/// Returns the text up to the next quote, and the rest after that quote.
fn scan_string(rest: &str) -> Option<(&str, &str)> {
    let end = memchr::memchr(b'"', rest.as_bytes())?;
    Some((rest.get(..end)?, rest.get(end.checked_add(1)?..)?))
}

/// Returns a whole number of few digits, and the rest after the number.
fn scan_number(rest: &str) -> Option<(FieldValue<'_>, &str)> {
    let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
    let number = rest.get(..digits).filter(|_| digits < 10)?;
    if number.len() > 1 && number.starts_with('0') {
        return None;
    }
    let rest = rest.get(digits..)?;
    let ends = matches!(rest.bytes().next()?, b',' | b'}' | b' ');
    ends.then_some((FieldValue::Unsigned(number.parse().ok()?), rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PENDING: &str =
        r#""type":"pending","container":"c","id":"c:1","dest":"192.0.2.1","port":443,"proto":6"#;

    #[test]
    fn the_fast_parser_accepts_the_usual_format() {
        let dossier = r#"{"task": "t"}"#;
        for line in [
            format!("{{{PENDING}}}"),
            format!(r#"{{{PENDING},"dossier":{dossier},"ts":1.5}}"#).replace("1.5", "\"x\""),
            format!(r#"{{ "type" : "pending" , "port": 0, "dossier": {dossier} }}"#),
        ] {
            let fields = parse_fast(&line, dossier).expect(&line);
            assert_eq!(fields, serde_json::from_str(&line).unwrap(), "for {line}");
        }
        for line in [
            "{}",
            "{\"a\":1",
            "{\"a\":1}}",
            "{\"a\":01}",
            "{\"a\":-1}",
            "{\"a\":1.0}",
            "{\"a\":1e3}",
            "{\"a\":}",
            "{\"a\":\"\t\"}",
            "{\"a\":\"\\\\\"}",
            "{\"a\":\"b\",}",
            "{\"a\" \"b\"}",
            "{\"a\":null}",
            "{\"dossier\":{}}",
            "{\"a\":1234567890}",
        ] {
            assert_eq!(parse_fast(line, dossier), None, "for {line}");
        }
    }

    proptest::proptest! {
        #[test]
        fn the_fast_parser_agrees_with_serde_json(
            fields in proptest::collection::vec(
                (
                    "(type|container|id|dest|port|proto|domain|reason|ts|x y)",
                    r#"("[a-z .:{}]{0,6}"|[0-9]{1,11}|-1|1\.5|null|\{"t": "\}"\}|"\\u0041")"#,
                ),
                0..8,
            ),
            spaces in "[ ]{0,2}",
            tail in "( |\\}|,|x)?",
        ) {
            let fields: Vec<_> = fields
                .iter()
                .map(|(key, value)| {
                    let key = if value.starts_with('{') { "dossier" } else { key };
                    format!("{spaces}\"{key}\"{spaces}:{spaces}{value}{spaces}")
                })
                .collect();
            let line = format!("{{{}}}{tail}", fields.join(","));
            if let Some(fields) = parse_fast(&line, r#"{"t": "}"}"#) {
                proptest::prop_assert_eq!(serde_json::from_str(&line).ok(), Some(fields));
            }
        }
    }
}
