// SPDX-License-Identifier: Apache-2.0
//! `org.terok.ClearanceVerdict1`: one order to the firewall, already authorised by the hub.

use serde::{Deserialize, Serialize};

use crate::varlink::{StandardError, VarlinkCall, VarlinkInterface};

/// The interface.
pub const INTERFACE: VarlinkInterface = VarlinkInterface {
    name: "org.terok.ClearanceVerdict1",
    description: include_str!("org.terok.ClearanceVerdict1.varlink"),
};

/// The full name of [`Method::Apply`].
pub const APPLY: &str = "org.terok.ClearanceVerdict1.Apply";

/// A call of the interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ClearanceVerdict1Method {
    /// Applies an order; answered with [`Applied`].
    Apply(ApplyParameters),
}

/// The parameters of `Apply`, as a client sends them: nothing in them is checked yet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApplyParameters {
    /// The sandbox.
    pub container: String,
    /// The destination.
    pub dest: String,
    /// `allow` or `deny`.
    pub action: String,
}

/// The reply to `Apply`; both fields are always there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApplyReply {
    /// Whether the firewall took the order.
    pub ok: bool,
    /// Why not; what the shield's program wrote.
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
