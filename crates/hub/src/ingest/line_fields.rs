// SPDX-License-Identifier: Apache-2.0
//! The known fields of a reader's line, before their values are checked.

use std::borrow::Cow;
use std::fmt;

use serde::de::{IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use super::line_error::{EventLineError, invalid_field, parse_field};

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
