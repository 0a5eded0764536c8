// SPDX-License-Identifier: Apache-2.0
//! `org.terok.ClearanceVerdict1`: verdicts that the hub has authorised, for the firewall.

use serde::{Deserialize, Serialize};

use crate::varlink::{StandardError, VarlinkCall, VarlinkInterface};

/// The interface description.
pub const INTERFACE: VarlinkInterface = VarlinkInterface {
    name: "org.terok.ClearanceVerdict1",
    description: include_str!("org.terok.ClearanceVerdict1.varlink"),
};

/// The full name of [`ClearanceVerdict1Method::Apply`].
pub const APPLY: &str = "org.terok.ClearanceVerdict1.Apply";

/// A call of the interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ClearanceVerdict1Method {
    /// Applies a verdict; the reply is [`ApplyReply`].
    Apply(ApplyParameters),
}

/// The unchecked parameters of `Apply`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApplyParameters {
    /// The sandbox.
    pub container: String,
    /// The destination.
    pub dest: String,
    /// `allow` or `deny`.
    pub action: String,
}

/// The reply to `Apply`. Both fields are always present.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApplyReply {
    /// `true` if the firewall applied the verdict.
    pub ok: bool,
    /// The reason of a failure: the output of the shield's program.
    pub stderr: String,
}

impl ClearanceVerdict1Method {
    /// Parses a call of this interface.
    pub fn parse(call: &VarlinkCall<'_>) -> Result<Self, StandardError> {
        match call.method() {
            "Apply" => {
                let mut parameters = call.parameters()?;
                let apply = ApplyParameters {
                    container: parameters.take("container")?,
                    dest: parameters.take("dest")?,
                    action: parameters.take("action")?,
                };
                parameters.expect_empty()?;
                Ok(Self::Apply(apply))
            }
            _ => Err(call.method_not_found()),
        }
    }
}
