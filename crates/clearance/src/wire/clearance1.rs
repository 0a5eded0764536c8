// SPDX-License-Identifier: Apache-2.0
//! `org.terok.Clearance1`: the events and verdicts of the Python stack.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::display_text::deserialize_names;
use crate::varlink::{StandardError, VarlinkCall, VarlinkInterface, append_json};
use crate::{Action, BlockedPacket, ContainerId, DisplayText, RequestId, ShieldState};

/// The interface description for [`Clearance1Dialect::B`] and [`Clearance1Dialect::D`].
pub const INTERFACE: VarlinkInterface = VarlinkInterface {
    name: "org.terok.Clearance1",
    description: include_str!("org.terok.Clearance1.varlink"),
};

/// The interface description for [`Clearance1Dialect::A`], whose events have no dossier.
pub const INTERFACE_A: VarlinkInterface = VarlinkInterface {
    name: INTERFACE.name,
    description: include_str!("org.terok.Clearance1-A.varlink"),
};

/// The full name of [`Clearance1Method::Subscribe`].
pub const SUBSCRIBE: &str = "org.terok.Clearance1.Subscribe";
/// The full name of [`Clearance1Method::Verdict`].
pub const VERDICT: &str = "org.terok.Clearance1.Verdict";

/// The event format of a range of releases. Their clients reject every other format.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Clearance1Dialect {
    /// 0.5.13 to 0.6.6: 10 fields, no dossier, and `shield_down_all`.
    A,
    /// 0.6.7 to 0.6.12: 11 fields, and `shield_down_all`.
    B,
    /// 0.6.13 and newer: 11 fields, and `shield_disengaged`.
    #[default]
    D,
}

impl Clearance1Dialect {
    /// Returns the interface description of the dialect.
    pub const fn interface(self) -> VarlinkInterface {
        match self {
            Self::A => INTERFACE_A,
            Self::B | Self::D => INTERFACE,
        }
    }

    const fn shield_event_type(self, state: ShieldState) -> &'static str {
        match (state, self) {
            (ShieldState::Up, _) => "shield_up",
            (ShieldState::Down, _) => "shield_down",
            (ShieldState::Disengaged, Self::A | Self::B) => "shield_down_all",
            (ShieldState::Disengaged, Self::D) => "shield_disengaged",
        }
    }
}

/// A call of the interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Clearance1Method {
    /// Streams events in frames of [`ClearanceEventRef`].
    Subscribe,
    /// Answers a question; the reply is [`Clearance1VerdictReply`] or [`VerdictError`].
    Verdict(VerdictParameters),
}

/// The unchecked parameters of `Verdict`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VerdictParameters {
    /// The request's sandbox.
    pub container: String,
    /// The request's id.
    pub request_id: String,
    /// The request's domain if there is one, else its address.
    pub dest: String,
    /// `allow` or `deny`.
    pub action: String,
}

/// The reply to `Verdict`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Clearance1VerdictReply {
    /// Always `true`: a failure is a [`VerdictError`].
    pub ok: bool,
}

/// An error reply to `Verdict`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[non_exhaustive]
#[serde(tag = "error", content = "parameters")]
pub enum VerdictError {
    /// The request is not pending.
    #[error("request {request_id:?} is not pending")]
    #[serde(rename = "org.terok.Clearance1.UnknownRequest")]
    UnknownRequest {
        /// The call's request id.
        request_id: String,
    },
    /// The container or the destination is not the request's; the question stays.
    #[error(
        "the request is about {expected_dest:?} of {expected_container:?}, \
         not about {got_dest:?} of {got_container:?}"
    )]
    #[serde(rename = "org.terok.Clearance1.VerdictTupleMismatch")]
    VerdictTupleMismatch {
        /// The request's sandbox.
        expected_container: String,
        /// The request's destination.
        expected_dest: String,
        /// The call's sandbox.
        got_container: String,
        /// The call's destination.
        got_dest: String,
    },
    /// The action is neither `allow` nor `deny`.
    #[error("{action:?} is neither \"allow\" nor \"deny\"")]
    #[serde(rename = "org.terok.Clearance1.InvalidAction")]
    InvalidAction {
        /// The call's action.
        action: String,
    },
    /// The firewall did not apply the verdict; the question stays.
    #[error("the firewall did not apply the {action}: {stderr}")]
    #[serde(rename = "org.terok.Clearance1.ShieldCliFailed")]
    ShieldCliFailed {
        /// The call's action.
        action: String,
        /// The reason.
        stderr: String,
    },
}

impl Clearance1Method {
    /// Parses a call of this interface.
    pub fn parse(call: &VarlinkCall<'_>) -> Result<Self, StandardError> {
        match call.method() {
            "Subscribe" => {
                call.expect_more()?;
                call.parameters()?.expect_empty()?;
                Ok(Self::Subscribe)
            }
            "Verdict" => {
                let mut parameters = call.parameters()?;
                let verdict = VerdictParameters {
                    container: parameters.take("container")?,
                    request_id: parameters.take("request_id")?,
                    dest: parameters.take("dest")?,
                    action: parameters.take("action")?,
                };
                parameters.expect_empty()?;
                Ok(Self::Verdict(verdict))
            }
            _ => Err(call.method_not_found()),
        }
    }
}

/// An event to send, borrowed from the hub's state.
#[derive(Debug, Clone, Copy)]
pub enum ClearanceEventRef<'a> {
    /// The firewall dropped a packet.
    Blocked(&'a BlockedPacket),
    /// A verdict took effect or failed.
    VerdictApplied {
        /// The request's sandbox.
        container: &'a ContainerId,
        /// The request's id.
        request: &'a RequestId,
        /// The action.
        action: Action,
        /// `true` if the verdict took effect.
        ok: bool,
    },
    /// A sandbox started.
    ContainerStarted {
        /// The sandbox.
        container: &'a ContainerId,
        /// The sandbox's dossier.
        dossier: &'a BTreeMap<DisplayText, DisplayText>,
    },
    /// A sandbox ended.
    ContainerExited {
        /// The sandbox.
        container: &'a ContainerId,
        /// The source of the report.
        reason: &'a DisplayText,
        /// The sandbox's dossier.
        dossier: &'a BTreeMap<DisplayText, DisplayText>,
    },
    /// A sandbox's firewall changed.
    Shield {
        /// The sandbox.
        container: &'a ContainerId,
        /// The new state.
        state: ShieldState,
        /// The sandbox's dossier.
        dossier: &'a BTreeMap<DisplayText, DisplayText>,
    },
}

impl<'a> From<&'a crate::SandboxEvent> for ClearanceEventRef<'a> {
    fn from(event: &'a crate::SandboxEvent) -> Self {
        match event {
            crate::SandboxEvent::Blocked(blocked) => Self::Blocked(blocked),
            crate::SandboxEvent::ContainerStarted { container, dossier } => {
                Self::ContainerStarted { container, dossier }
            }
            crate::SandboxEvent::ContainerExited {
                container,
                reason,
                dossier,
            } => Self::ContainerExited {
                container,
                reason,
                dossier,
            },
            crate::SandboxEvent::Shield {
                container,
                state,
                dossier,
            } => Self::Shield {
                container,
                state: *state,
                dossier,
            },
        }
    }
}

impl ClearanceEventRef<'_> {
    /// Appends the event to `out` as a frame of a `Subscribe` stream, the NUL included.
    ///
    /// One pass without an allocation, because a hub encodes every packet.
    pub fn append_frame(&self, dialect: Clearance1Dialect, out: &mut Vec<u8>) {
        self.flatten(dialect).append_frame(out);
    }

    fn flatten(&self, dialect: Clearance1Dialect) -> FlatClearanceEvent<'_> {
        static EMPTY_DOSSIER: BTreeMap<DisplayText, DisplayText> = BTreeMap::new();
        let flat = |kind, container, dossier| FlatClearanceEvent {
            kind,
            container,
            request_id: "",
            dest: "",
            port: 0,
            proto: 0,
            domain: "",
            action: "",
            ok: false,
            reason: "",
            dossier: (dialect != Clearance1Dialect::A).then_some(dossier),
        };
        match *self {
            Self::Blocked(blocked) => FlatClearanceEvent {
                request_id: blocked.request.as_str(),
                dest: blocked.address.as_str(),
                port: blocked.port,
                proto: blocked.protocol.0,
                domain: blocked.domain.as_ref().map_or("", crate::Dest::as_str),
                ..flat("connection_blocked", &blocked.container, &blocked.dossier)
            },
            Self::VerdictApplied {
                container,
                request,
                action,
                ok,
            } => FlatClearanceEvent {
                request_id: request.as_str(),
                action: action.as_str(),
                ok,
                ..flat("verdict_applied", container, &EMPTY_DOSSIER)
            },
            Self::ContainerStarted { container, dossier } => {
                flat("container_started", container, dossier)
            }
            Self::ContainerExited {
                container,
                reason,
                dossier,
            } => FlatClearanceEvent {
                reason: reason.as_str(),
                ..flat("container_exited", container, dossier)
            },
            Self::Shield {
                container,
                state,
                dossier,
            } => flat(dialect.shield_event_type(state), container, dossier),
        }
    }
}

/// An event in its wire form: every field is present, in this order.
#[derive(Debug)]
struct FlatClearanceEvent<'a> {
    kind: &'static str,
    container: &'a ContainerId,
    request_id: &'a str,
    dest: &'a str,
    port: u16,
    proto: u8,
    domain: &'a str,
    action: &'a str,
    ok: bool,
    reason: &'a str,
    dossier: Option<&'a BTreeMap<DisplayText, DisplayText>>,
}

impl FlatClearanceEvent<'_> {
    /// Written by hand: a derived serialiser takes twice the time (178 ns instead of 92).
    fn append_frame(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(b"{\"continues\":true,\"parameters\":{\"event\":{\"type\":");
        append_json_string(out, self.kind);
        out.extend_from_slice(b",\"container\":");
        append_json_string(out, self.container.as_str());
        out.extend_from_slice(b",\"request_id\":");
        append_json_string(out, self.request_id);
        out.extend_from_slice(b",\"dest\":");
        append_json_string(out, self.dest);
        out.extend_from_slice(b",\"port\":");
        append_json(out, &self.port);
        out.extend_from_slice(b",\"proto\":");
        append_json(out, &self.proto);
        out.extend_from_slice(b",\"domain\":");
        append_json_string(out, self.domain);
        out.extend_from_slice(b",\"action\":");
        append_json_string(out, self.action);
        out.extend_from_slice(b",\"ok\":");
        append_json(out, &self.ok);
        out.extend_from_slice(b",\"reason\":");
        append_json_string(out, self.reason);
        if let Some(dossier) = self.dossier {
            out.extend_from_slice(b",\"dossier\":{");
            for (at, (key, value)) in dossier.iter().enumerate() {
                if at > 0 {
                    out.push(b',');
                }
                append_json_string(out, key.as_str());
                out.push(b':');
                // As the Python stack's hub, whose clients draw what they get.
                append_json_string(out, &value.to_ascii());
            }
            out.push(b'}');
        }
        out.extend_from_slice(b"}}}\0");
    }
}

/// Appends `text` as a JSON string, with a short cut for texts without escapes.
fn append_json_string(out: &mut Vec<u8>, text: &str) {
    let plain = |byte| byte >= 0x20 && byte != b'"' && byte != b'\\';
    if text.bytes().all(plain) {
        out.push(b'"');
        out.extend_from_slice(text.as_bytes());
        out.push(b'"');
    } else {
        append_json(out, text);
    }
}

/// An event as a client receives it.
///
/// A missing field has its zero value, an unknown field is ignored, and every text is sanitised.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct ClearanceEvent {
    /// The type: `connection_blocked`, `verdict_applied`, …
    #[serde(rename = "type")]
    pub kind: DisplayText,
    /// The sandbox.
    pub container: DisplayText,
    /// The request's id.
    #[serde(default)]
    pub request_id: DisplayText,
    /// The destination address.
    #[serde(default)]
    pub dest: DisplayText,
    /// The destination port.
    #[serde(default)]
    pub port: i64,
    /// The protocol's number.
    #[serde(default)]
    pub proto: i64,
    /// The domain.
    #[serde(default)]
    pub domain: DisplayText,
    /// The action.
    #[serde(default)]
    pub action: DisplayText,
    /// `true` if the verdict took effect.
    #[serde(default)]
    pub ok: bool,
    /// The reason.
    #[serde(default)]
    pub reason: DisplayText,
    /// The sandbox's dossier.
    #[serde(default, deserialize_with = "deserialize_names")]
    pub dossier: BTreeMap<DisplayText, DisplayText>,
}
