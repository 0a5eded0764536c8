// SPDX-License-Identifier: Apache-2.0
//! `org.terok.ClearanceRequest1`: what a program inside a sandbox may ask of its supervisor.
//!
//! The other side of every call is the workload. The interface has no method that answers, revokes
//! or lists, and no reply names a rule, a person or another sandbox.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::display_text::deserialize_program_output;
use crate::varlink::{StandardError, VarlinkCall, VarlinkInterface};
use crate::{DisplayText, Protocol};

/// The interface description.
pub const INTERFACE: VarlinkInterface = VarlinkInterface {
    name: "org.terok.ClearanceRequest1",
    description: include_str!("org.terok.ClearanceRequest1.varlink"),
};

/// The path of the socket, the same inside every sandbox. The workload cannot replace the file.
pub const SOCKET_PATH: &str = "/run/terok-clearance/request.sock";
/// The variable with that path in the environment of a workload.
pub const SOCKET_VARIABLE: &str = "TEROK_CLEARANCE_REQUEST";

/// The full name of [`Request1Method::Request`].
pub const REQUEST: &str = "org.terok.ClearanceRequest1.Request";
/// The full name of [`Request1Method::Status`].
pub const STATUS: &str = "org.terok.ClearanceRequest1.Status";
/// The full name of [`Request1Method::Wait`].
pub const WAIT: &str = "org.terok.ClearanceRequest1.Wait";
/// The full name of [`Request1Method::Explain`].
pub const EXPLAIN: &str = "org.terok.ClearanceRequest1.Explain";

/// Maximum bytes of a call.
pub const MAX_REQUEST_BYTES: usize = 4_096;
/// Maximum characters of a reason.
pub const MAX_REASON_CHARS: usize = 200;
/// The longest [`Request1Method::Wait`].
pub const MAX_WAIT_SECONDS: u32 = 600;

/// A call of the interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Request1Method {
    /// Asks the operator; the reply is [`AskedReply`].
    Request {
        /// The destination.
        dest: RequestedDest,
        /// The reason, in the words of the workload.
        reason: DisplayText,
    },
    /// Tells how a question stands; the reply is [`RequestReply`] or [`RequestError`].
    Status {
        /// The question.
        id: DisplayText,
    },
    /// Waits for an answer; the reply is [`RequestReply`] or [`RequestError`].
    Wait {
        /// The question.
        id: DisplayText,
        /// The longest time.
        seconds: u32,
    },
    /// Tells what a connection would meet; the reply is [`RequestReply`].
    Explain {
        /// The destination.
        dest: RequestedDest,
    },
}

/// A destination as a workload writes it, not checked yet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RequestedDest {
    /// A name or an address.
    pub dest: String,
    /// The port; absent for 443.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    /// The protocol; absent for TCP.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub protocol: Option<Protocol>,
}

/// The parameters of `Request`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct AskParameters {
    /// The destination.
    #[serde(flatten)]
    pub dest: RequestedDest,
    /// The reason.
    pub reason: String,
}

/// The parameters of `Status`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct StatusParameters {
    /// The question.
    pub id: DisplayText,
}

/// The parameters of `Wait`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct WaitParameters {
    /// The question.
    pub id: DisplayText,
    /// The longest time.
    pub seconds: u32,
}

/// How a request of a workload stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RequestState {
    /// A connection would be made now.
    Allowed,
    /// A connection would be refused now.
    Denied,
    /// The operator was asked, and has not answered yet.
    Pending,
    /// No rule covers the destination, and the operator was not asked.
    Ask,
    /// The operator is not asked.
    Refused,
}

impl RequestState {
    /// Returns the state as the wire spells it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Allowed => "allowed",
            Self::Denied => "denied",
            Self::Pending => "pending",
            Self::Ask => "ask",
            Self::Refused => "refused",
        }
    }
}

impl fmt::Display for RequestState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl Serialize for RequestState {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for RequestState {
    /// An unknown state is [`RequestState::Refused`]: nothing is open because of it.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let states = [Self::Allowed, Self::Denied, Self::Pending, Self::Ask];
        let text = String::deserialize(deserializer)?;
        let known = states.into_iter().find(|state| state.as_str() == text);
        Ok(known.unwrap_or(Self::Refused))
    }
}

/// The reply to `Request`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AskedReply {
    /// The question; absent if the operator was not asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<DisplayText>,
    /// How it stands.
    #[serde(flatten)]
    pub reply: RequestReply,
}

/// The reply to `Status`, `Wait` and `Explain`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RequestReply {
    /// How it stands.
    pub state: RequestState,
    /// What was decided, by what, and what to do.
    #[serde(deserialize_with = "deserialize_program_output")]
    pub text: DisplayText,
}

impl RequestReply {
    /// Creates a reply with this text, which has its own limit of length.
    pub fn new(state: RequestState, text: &str) -> Self {
        Self {
            state,
            text: DisplayText::from_program_output(text),
        }
    }
}

/// An error reply.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[non_exhaustive]
#[serde(tag = "error", content = "parameters")]
pub enum RequestError {
    /// The id is not one of this sandbox's, or too old.
    #[error("there is no request {id}")]
    #[serde(rename = "org.terok.ClearanceRequest1.NoSuchRequest")]
    NoSuchRequest {
        /// The id.
        id: DisplayText,
    },
}

impl Request1Method {
    /// Parses a call of this interface.
    pub fn parse(call: &VarlinkCall<'_>) -> Result<Self, StandardError> {
        let mut parameters = call.parameters()?;
        let mut take_dest = || -> Result<RequestedDest, StandardError> {
            Ok(RequestedDest {
                dest: parameters.take("dest")?,
                port: parameters.take_optional("port")?,
                protocol: parameters.take_optional("protocol")?,
            })
        };
        let method = match call.method() {
            "Request" => Self::Request {
                dest: take_dest()?,
                reason: request_reason(&parameters.take::<String>("reason")?),
            },
            "Explain" => Self::Explain { dest: take_dest()? },
            "Status" => Self::Status {
                id: parameters.take("id")?,
            },
            "Wait" => Self::Wait {
                id: parameters.take("id")?,
                seconds: parameters.take::<u32>("seconds")?.min(MAX_WAIT_SECONDS),
            },
            _ => return Err(call.method_not_found()),
        };
        parameters.expect_empty()?;
        Ok(method)
    }
}

/// Returns the first [`MAX_REASON_CHARS`] characters of a workload's reason, made harmless.
///
/// Runs of spaces are one space: a text that is mostly blank could push the rest of a line out of
/// sight.
pub fn request_reason(text: &str) -> DisplayText {
    let words = text.chars().take(4 * MAX_REASON_CHARS).collect::<String>();
    let shown = DisplayText::from_program_output(&words);
    let words: Vec<_> = shown.as_str().split_ascii_whitespace().collect();
    let words = words.join(" ");
    let cut: String = words.chars().take(MAX_REASON_CHARS).collect();
    DisplayText::new(cut.trim_end())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(json: &str) -> Result<Request1Method, StandardError> {
        Request1Method::parse(&VarlinkCall::parse(json.as_bytes()).unwrap())
    }

    #[test]
    fn a_reason_is_short_and_harmless() {
        for (text, expected) in [
            ("to fetch the index", "to fetch the index"),
            ("a\u{1b}[2J\nallow\u{202e}b", "a [2J allow b"),
            ("   \t\u{a0} ", ""),
            ("x          y", "x y"),
        ] {
            assert_eq!(request_reason(text).as_str(), expected, "{text:?}");
        }
        let long = request_reason(&"wor ".repeat(10_000));
        assert_eq!(
            long.as_str().len(),
            MAX_REASON_CHARS - 1,
            "without the space at the cut"
        );
    }

    #[test]
    fn an_unknown_method_parameter_or_kind_of_value_is_refused() {
        for call in [
            r#"{"method":"org.terok.ClearanceRequest1.Decide","parameters":{"id":"a:1"}}"#,
            r#"{"method":"org.terok.ClearanceRequest1.Request","parameters":{"dest":"a.test"}}"#,
            r#"{"method":"org.terok.ClearanceRequest1.Request","parameters":
                {"dest":"a.test","reason":"x","action":"allow"}}"#,
            r#"{"method":"org.terok.ClearanceRequest1.Request","parameters":
                {"dest":"a.test","reason":"x","port":65536}}"#,
            r#"{"method":"org.terok.ClearanceRequest1.Wait","parameters":{"id":"a","seconds":-1}}"#,
            r#"{"method":"org.terok.ClearanceRequest1.Explain","parameters":{"dest":["a.test"]}}"#,
        ] {
            assert!(parse(call).is_err(), "{call}");
        }
        let wait = parse(
            r#"{"method":"org.terok.ClearanceRequest1.Wait",
                "parameters":{"id":"a","seconds":9999}}"#,
        );
        let (id, seconds) = (DisplayText::new("a"), MAX_WAIT_SECONDS);
        assert_eq!(wait, Ok(Request1Method::Wait { id, seconds }));
    }

    #[test]
    fn an_unknown_state_opens_nothing() {
        let state: RequestState = serde_json::from_str("\"granted\"").unwrap();
        assert_eq!(state, RequestState::Refused);
    }

    proptest::proptest! {
        #[test]
        fn every_reason_is_printable_and_within_the_limit(text in ".{0,600}") {
            let reason = request_reason(&text);
            assert!(reason.as_str().len() <= MAX_REASON_CHARS);
            assert!(reason.as_str().bytes().all(|byte| (b' '..=b'~').contains(&byte)));
            assert_eq!(request_reason(reason.as_str()), reason, "a second pass changes nothing");
        }
    }
}
