// SPDX-License-Identifier: Apache-2.0
//! From one line to one event.
//!
//! It takes what the Python stack's hub takes, with these differences, each on purpose: a port and
//! a protocol are whole numbers in range (as numbers or as text), not fractions, truth values or
//! negative; a text may be a whole number, but not null, a fraction or a list; a sandbox's name and
//! a question's id are checked, not altered. The last of two equal keys counts, as there.

use std::borrow::Cow;
use std::fmt;

use serde::de::{Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;
use terok_clearance::{
    Blocked, ContainerId, Dest, DisplayText, Dossier, Event, Protocol, RequestId, ShieldState,
};

/// Why a line is dropped.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LineError {
    /// It has too many bytes.
    #[error("longer than {} bytes", super::LINE_LIMIT)]
    TooLong,
    /// It is no UTF-8.
    #[error("not UTF-8")]
    Encoding,
    /// It is no JSON object.
    #[error("not a JSON object: {0}")]
    Json(DisplayText),
    /// It is an event of a type that this hub does not know.
    #[error("of an unknown type")]
    UnknownKind,
    /// It lacks a field that its type needs.
    #[error("without {0:?}")]
    Missing(&'static str),
    /// A field has a value that it cannot have.
    #[error("with a wrong {field:?}: {problem}")]
    Wrong {
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
pub struct Parser {
    container: Option<ContainerId>,
    dossier_text: String,
    dossier: Dossier,
}

impl Parser {
    /// Returns the event that `line` tells of, `None` for an empty line.
    pub fn parse(&mut self, line: &[u8]) -> Result<Option<Event>, LineError> {
        let line = line.strip_prefix(b"\xef\xbb\xbf").unwrap_or(line);
        let line = line.trim_ascii();
        if line.is_empty() {
            return Ok(None);
        }
        let Ok(text) = std::str::from_utf8(line) else {
            return Err(LineError::Encoding);
        };
        let fields: Fields<'_> = serde_json::from_str(text)
            .map_err(|error| LineError::Json(DisplayText::new(&error.to_string())))?;
        self.event(&fields).map(Some)
    }

    fn event(&mut self, fields: &Fields<'_>) -> Result<Event, LineError> {
        let kind = fields.kind.required("type")?;
        let state = match &*kind {
            "pending" => return self.blocked(fields).map(Event::Blocked),
            "container_started" => {
                return Ok(Event::ContainerStarted {
                    container: self.container(fields)?,
                    dossier: self.dossier(fields),
                });
            }
            "container_exited" => {
                let reason = fields.reason.text("reason")?.unwrap_or_default();
                return Ok(Event::ContainerExited {
                    container: self.container(fields)?,
                    reason: DisplayText::new(&reason),
                    dossier: self.dossier(fields),
                });
            }
            "shield_up" => ShieldState::Up,
            "shield_down" => ShieldState::Down,
            "shield_disengaged" | "shield_down_all" => ShieldState::Disengaged,
            _ => return Err(LineError::UnknownKind),
        };
        Ok(Event::Shield {
            container: self.container(fields)?,
            state,
            dossier: self.dossier(fields),
        })
    }

    fn blocked(&mut self, fields: &Fields<'_>) -> Result<Blocked, LineError> {
        let request: RequestId = parse(&fields.id.required("id")?, "id")?;
        let address = Dest::new(&fields.dest.required("dest")?).map_err(wrong("dest"))?;
        let domain = match fields.domain.text("domain")? {
            Some(domain) if !domain.is_empty() => {
                Some(Dest::new(&domain).map_err(wrong("domain"))?)
            }
            _ => None,
        };
        Ok(Blocked {
            container: self.container(fields)?,
            request,
            address,
            port: fields.port.number("port")?,
            protocol: Protocol(fields.proto.number("proto")?),
            domain,
            dossier: self.dossier(fields),
            process: None,
        })
    }

    fn container(&mut self, fields: &Fields<'_>) -> Result<ContainerId, LineError> {
        let text = fields.container.required("container")?;
        if let Some(last) = self.container.as_ref().filter(|last| last.as_str() == text) {
            return Ok(last.clone());
        }
        let container: ContainerId = parse(&text, "container")?;
        self.container = Some(container.clone());
        Ok(container)
    }

    /// Returns the dossier; an empty one for anything but an object.
    fn dossier(&mut self, fields: &Fields<'_>) -> Dossier {
        let text = fields.dossier.map_or("", RawValue::get);
        if text != self.dossier_text {
            text.clone_into(&mut self.dossier_text);
            let entries = serde_json::from_str(text).map(|Entries(entries)| entries);
            self.dossier = Dossier::new(entries.unwrap_or_default());
        }
        self.dossier.clone()
    }
}

fn parse<T: std::str::FromStr<Err: fmt::Display>>(
    text: &str,
    field: &'static str,
) -> Result<T, LineError> {
    text.parse().map_err(wrong(field))
}

fn wrong<E: fmt::Display>(field: &'static str) -> impl FnOnce(E) -> LineError {
    move |error| LineError::Wrong {
        field,
        problem: DisplayText::new(&error.to_string()),
    }
}

/// The fields of a line that mean something.
#[derive(Default)]
struct Fields<'a> {
    kind: Value<'a>,
    container: Value<'a>,
    id: Value<'a>,
    dest: Value<'a>,
    port: Value<'a>,
    proto: Value<'a>,
    domain: Value<'a>,
    reason: Value<'a>,
    dossier: Option<&'a RawValue>,
}

impl<'de: 'a, 'a> Deserialize<'de> for Fields<'a> {
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

        struct Object;

        impl<'de> Visitor<'de> for Object {
            type Value = Fields<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Fields<'de>, A::Error> {
                let mut fields = Fields::default();
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
                        Field::Dossier => fields.dossier = Some(map.next_value()?),
                        Field::Other => {
                            map.next_value::<IgnoredAny>()?;
                        }
                    }
                }
                Ok(fields)
            }
        }

        deserializer.deserialize_map(Object)
    }
}

/// A field's value, as far as it can be of use.
#[derive(Debug, Default)]
enum Value<'a> {
    /// It is not there, or null.
    #[default]
    Absent,
    Text(Cow<'a, str>),
    Whole(u64),
    Negative(i64),
    /// A fraction, a truth value, a list, an object.
    Other,
}

impl Value<'_> {
    fn text(&self, field: &'static str) -> Result<Option<Cow<'_, str>>, LineError> {
        match self {
            Self::Absent => Ok(None),
            Self::Text(text) => Ok(Some(Cow::Borrowed(text))),
            Self::Whole(number) => Ok(Some(number.to_string().into())),
            Self::Negative(number) => Ok(Some(number.to_string().into())),
            Self::Other => Err(wrong(field)("it is no text")),
        }
    }

    fn required(&self, field: &'static str) -> Result<Cow<'_, str>, LineError> {
        self.text(field)?.ok_or(LineError::Missing(field))
    }

    fn number<T>(&self, field: &'static str) -> Result<T, LineError>
    where
        T: TryFrom<u64> + std::str::FromStr<Err: fmt::Display>,
    {
        match self {
            Self::Absent => Err(LineError::Missing(field)),
            Self::Text(text) => parse(text.trim(), field),
            Self::Whole(number) => T::try_from(*number)
                .ok()
                .ok_or_else(|| wrong(field)("it is out of range")),
            Self::Negative(_) | Self::Other => Err(wrong(field)("it is no whole number in range")),
        }
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Value<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Any;

        impl<'de> Visitor<'de> for Any {
            type Value = Value<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a value")
            }

            fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Value<'de>, E> {
                Ok(Value::Text(Cow::Borrowed(text)))
            }

            fn visit_str<E>(self, text: &str) -> Result<Value<'de>, E> {
                Ok(Value::Text(Cow::Owned(text.to_owned())))
            }

            fn visit_u64<E>(self, number: u64) -> Result<Value<'de>, E> {
                Ok(Value::Whole(number))
            }

            fn visit_i64<E>(self, number: i64) -> Result<Value<'de>, E> {
                Ok(Value::Negative(number))
            }

            fn visit_f64<E>(self, _: f64) -> Result<Value<'de>, E> {
                Ok(Value::Other)
            }

            fn visit_bool<E>(self, _: bool) -> Result<Value<'de>, E> {
                Ok(Value::Other)
            }

            fn visit_unit<E>(self) -> Result<Value<'de>, E> {
                Ok(Value::Absent)
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Value<'de>, A::Error> {
                while seq.next_element::<IgnoredAny>()?.is_some() {}
                Ok(Value::Other)
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value<'de>, A::Error> {
                while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
                Ok(Value::Other)
            }
        }

        deserializer.deserialize_any(Any)
    }
}

/// A dossier's entries; a value that is no text is shown as its JSON.
struct Entries(std::collections::BTreeMap<DisplayText, DisplayText>);

impl<'de> Deserialize<'de> for Entries {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Object;

        impl<'de> Visitor<'de> for Object {
            type Value = Entries;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Entries, A::Error> {
                #[derive(Deserialize)]
                struct Text<'a>(#[serde(borrow)] Cow<'a, str>);
                let mut entries = std::collections::BTreeMap::new();
                while let Some((Text(key), raw)) = map.next_entry::<Text<'de>, &'de RawValue>()? {
                    let value = if raw.get().starts_with('"') {
                        let Text(text) =
                            serde_json::from_str(raw.get()).map_err(A::Error::custom)?;
                        DisplayText::new(&text)
                    } else {
                        DisplayText::new(raw.get())
                    };
                    entries.insert(DisplayText::new(&key), value);
                }
                Ok(Entries(entries))
            }
        }

        deserializer.deserialize_map(Object)
    }
}
