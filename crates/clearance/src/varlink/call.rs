// SPDX-License-Identifier: Apache-2.0
//! Calls: method, parameters and reply mode.

use std::borrow::Cow;
use std::fmt;

use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use super::StandardError;
use crate::DisplayText;

/// A call, borrowed from its frame.
#[derive(Debug, Clone)]
pub struct VarlinkCall<'a> {
    name: Cow<'a, str>,
    dot: usize,
    parameters: Option<&'a RawValue>,
    /// The client accepts several replies.
    pub more: bool,
    /// The client expects no reply.
    pub oneway: bool,
    /// The client asks to change the protocol after the reply.
    pub upgrade: bool,
}

/// An error in the frame of a call. The server closes the connection.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CallParseError {
    /// The frame is not a JSON object in the form of a call.
    #[error("not a call: {0}")]
    Malformed(DisplayText),
    /// The method is not an interface name, a dot and a method name.
    #[error("{0:?} is not a method name")]
    InvalidMethod(DisplayText),
    /// More than one of `more`, `oneway` and `upgrade` is set.
    #[error("more than one of more, oneway and upgrade is set")]
    ConflictingFlags,
}

impl<'a> VarlinkCall<'a> {
    /// Parses a frame without the NUL. Unknown keys are ignored.
    pub fn parse(frame: &'a [u8]) -> Result<Self, CallParseError> {
        #[derive(Deserialize)]
        struct CallMessage<'a> {
            #[serde(borrow)]
            method: Cow<'a, str>,
            #[serde(borrow, default)]
            parameters: Option<&'a RawValue>,
            #[serde(default)]
            more: Option<bool>,
            #[serde(default)]
            oneway: Option<bool>,
            #[serde(default)]
            upgrade: Option<bool>,
        }
        if !is_json_object(frame) {
            return Err(CallParseError::Malformed(DisplayText::new("not an object")));
        }
        let message: CallMessage<'a> =
            serde_json::from_slice(frame).map_err(|error| malformed_call(&error))?;
        let name = message.method;
        let dot = name
            .rfind('.')
            .filter(|dot| is_qualified_method(&name, *dot))
            .ok_or_else(|| CallParseError::InvalidMethod(DisplayText::new(&name)))?;
        let parameters = message.parameters.filter(|raw| raw.get() != "null");
        if parameters.is_some_and(|raw| !is_json_object(raw.get().as_bytes())) {
            return Err(CallParseError::Malformed(DisplayText::new(
                "the parameters are not an object",
            )));
        }
        let flag = |flag: Option<bool>| flag.unwrap_or(false);
        let call = Self {
            name,
            dot,
            parameters,
            more: flag(message.more),
            oneway: flag(message.oneway),
            upgrade: flag(message.upgrade),
        };
        let modes = [call.more, call.oneway, call.upgrade];
        if modes.into_iter().filter(|set| *set).count() > 1 {
            return Err(CallParseError::ConflictingFlags);
        }
        Ok(call)
    }

    /// Returns the full name of the method.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns the name of the interface.
    pub fn interface(&self) -> &str {
        self.name.get(..self.dot).unwrap_or_default()
    }

    /// Returns the name of the method without the interface.
    pub fn method(&self) -> &str {
        self.name
            .get(self.dot.saturating_add(1)..)
            .unwrap_or_default()
    }

    /// Returns the parameters.
    ///
    /// A duplicate parameter is a [`StandardError::InvalidParameter`]: two parsers could take
    /// different values.
    pub fn parameters(&self) -> Result<CallParameters<'a>, StandardError> {
        let Some(raw) = self.parameters else {
            return Ok(CallParameters(Vec::new()));
        };
        // `parse` has checked that this is an object, but not the strings inside.
        let parameters: CallParameters<'a> = serde_json::from_str(raw.get())
            .map_err(|_detail| StandardError::invalid_parameter("parameters"))?;
        let mut names: Vec<&str> = parameters.0.iter().map(|(name, _)| &**name).collect();
        names.sort_unstable();
        match names.windows(2).find_map(|pair| match pair {
            [first, second] if first == second => Some(*first),
            _ => None,
        }) {
            Some(twice) => Err(StandardError::invalid_parameter(twice)),
            None => Ok(parameters),
        }
    }

    /// Returns an error unless the call has `more`.
    pub const fn expect_more(&self) -> Result<(), StandardError> {
        if self.more {
            Ok(())
        } else {
            Err(StandardError::ExpectedMore)
        }
    }

    /// Returns the error for an unknown method.
    pub fn method_not_found(&self) -> StandardError {
        StandardError::MethodNotFound {
            method: self.method().to_owned(),
        }
    }
}

/// Returns `true` if `json` starts as an object. Serde would accept a list as a struct.
pub(crate) fn is_json_object(json: &[u8]) -> bool {
    json.trim_ascii_start().starts_with(b"{")
}

fn malformed_call(error: &serde_json::Error) -> CallParseError {
    CallParseError::Malformed(DisplayText::new(&error.to_string()))
}

/// Returns `true` if `name` has an interface name before the last `dot` and a method name after.
fn is_qualified_method(name: &str, dot: usize) -> bool {
    let label = |label: &str| {
        !label.is_empty()
            && label
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b == b'-')
    };
    let interface = name.get(..dot).unwrap_or_default();
    let method = name.get(dot.saturating_add(1)..).unwrap_or_default();
    interface.contains('.')
        && interface.split('.').all(label)
        && method.starts_with(|c: char| c.is_ascii_alphabetic())
        && method.bytes().all(|b| b.is_ascii_alphanumeric())
}

/// The named parameters of a call, in the order of the call.
///
/// Taken with [`CallParameters::take`] in the order of the interface, and ended with
/// [`CallParameters::expect_empty`], the errors are the same as in the Python stack.
#[derive(Debug)]
pub struct CallParameters<'a>(Vec<(Cow<'a, str>, &'a RawValue)>);

impl<'a> CallParameters<'a> {
    /// Takes the parameter `name`. A missing or invalid parameter is an error.
    pub fn take<T: Deserialize<'a>>(&mut self, name: &'static str) -> Result<T, StandardError> {
        self.take_raw(name)
            .and_then(|raw| serde_json::from_str(raw.get()).ok())
            .ok_or_else(|| StandardError::invalid_parameter(name))
    }

    /// Takes the parameter `name`, `None` if missing or null. An invalid parameter is an error.
    pub fn take_optional<T: Deserialize<'a>>(
        &mut self,
        name: &'static str,
    ) -> Result<Option<T>, StandardError> {
        match self.take_raw(name) {
            None => Ok(None),
            Some(raw) => serde_json::from_str(raw.get())
                .map_err(|_detail| StandardError::invalid_parameter(name)),
        }
    }

    /// Returns an error that names the first remaining parameter, if there is one.
    pub fn expect_empty(self) -> Result<(), StandardError> {
        match self.0.first() {
            None => Ok(()),
            Some((name, _)) => Err(StandardError::invalid_parameter(name)),
        }
    }

    fn take_raw(&mut self, name: &str) -> Option<&'a RawValue> {
        let at = self.0.iter().position(|(known, _)| known == name)?;
        Some(self.0.remove(at).1)
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for CallParameters<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct CallParametersVisitor;

        impl<'de> Visitor<'de> for CallParametersVisitor {
            type Value = Vec<(Cow<'de, str>, &'de RawValue)>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                #[derive(Deserialize)]
                struct ParameterName<'a>(#[serde(borrow)] Cow<'a, str>);
                let mut entries = Vec::new();
                while let Some((ParameterName(name), raw)) = map.next_entry()? {
                    entries.push((name, raw));
                }
                Ok(entries)
            }
        }

        deserializer
            .deserialize_map(CallParametersVisitor)
            .map(Self)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn check(frame: &str, expected: Option<(&str, &str)>) {
        let call = VarlinkCall::parse(frame.as_bytes());
        let names = call
            .as_ref()
            .ok()
            .map(|call| (call.interface(), call.method()));
        assert_eq!(names, expected, "of {frame}");
    }

    #[test]
    fn a_method_is_an_interface_and_a_name() {
        check(
            r#"{"method":"org.example.Do"}"#,
            Some(("org.example", "Do")),
        );
        check(r#" {"method":"a.b2.c-d.Do9"} "#, Some(("a.b2.c-d", "Do9")));
        check(r#"{"method":"a\u002eb.Do"}"#, Some(("a.b", "Do")));
        for method in [
            "",
            ".",
            "Do",
            "a.Do",
            "a.b.",
            ".a.Do",
            "a..Do",
            "a.b.9o",
            "a b.c.Do",
            "a.b.D\u{f6}",
        ] {
            check(&format!(r#"{{"method":"{method}"}}"#), None);
        }
    }

    #[test]
    fn unknown_keys_are_ignored_and_known_keys_are_checked() {
        let call =
            VarlinkCall::parse(br#"{"method":"a.b.Do","new":{"x":[1]},"more":true}"#).unwrap();
        assert!(call.more && !call.oneway && !call.upgrade);
        let call =
            VarlinkCall::parse(br#"{"method":"a.b.Do","parameters":null,"oneway":null}"#).unwrap();
        assert!(!call.oneway);
        assert!(call.parameters().unwrap().expect_empty().is_ok());
        for frame in [
            r#"{"method":"a.b.Do","more":"yes"}"#,
            r#"{"method":"a.b.Do","oneway":1}"#,
            r#"{"method":"a.b.Do","parameters":"x"}"#,
            r#"{"method":"a.b.Do","parameters":{"a":}}"#,
            r#"{"method":"a.b.Do","more":true,"upgrade":true}"#,
            r#"{"method":"a.b.Do","method":"a.b.Do"}"#,
            r#"["a.b.Do"]"#,
            r#"{"method":"a.b.Do"}}"#,
        ] {
            check(frame, None);
        }
    }

    /// Deep nesting is an error and not a stack overflow.
    #[test]
    fn depth_is_bounded() {
        let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
        let ignored = format!(r#"{{"method":"a.b.Do","x":{deep}}}"#);
        let call = VarlinkCall::parse(ignored.as_bytes());
        drop(call);
        let passed = format!(r#"{{"method":"a.b.Do","parameters":{{"x":{deep}}}}}"#);
        let call = VarlinkCall::parse(passed.as_bytes()).unwrap();
        let mut parameters = call.parameters().unwrap();
        assert_eq!(
            parameters.take::<serde_json::Value>("x"),
            Err(StandardError::invalid_parameter("x"))
        );
    }

    proptest! {
        #[test]
        fn an_encoded_call_parses_to_the_same_call(
            method in "[a-z]{1,8}(\\.[a-z0-9]{1,8}){1,3}\\.[A-Z][A-Za-z0-9]{0,12}",
            text in ".*",
            more: bool,
        ) {
            let frame = serde_json::json!({
                "method": method,
                "parameters": { "text": text },
                "more": more,
            });
            let frame = frame.to_string();
            let call = VarlinkCall::parse(frame.as_bytes()).unwrap();
            prop_assert_eq!(call.name(), method);
            prop_assert_eq!(call.more, more);
            let mut parameters = call.parameters().unwrap();
            prop_assert_eq!(parameters.take::<String>("text").unwrap(), text);
            prop_assert!(parameters.expect_empty().is_ok());
        }

        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            if let Ok(call) = VarlinkCall::parse(&bytes) {
                drop(call.parameters());
            }
        }
    }
}
