// SPDX-License-Identifier: Apache-2.0
//! `org.terok.ClearanceVerdict1`: one order to the firewall, already authorised by the hub.

use serde::{Deserialize, Serialize};

use crate::varlink::{Call, Interface, StandardError};

/// The interface.
pub const INTERFACE: Interface = Interface {
    name: "org.terok.ClearanceVerdict1",
    description: include_str!("org.terok.ClearanceVerdict1.varlink"),
};

/// The full name of [`Method::Apply`].
pub const APPLY: &str = "org.terok.ClearanceVerdict1.Apply";

/// A call of the interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Method {
    /// Applies an order; answered with [`Applied`].
    Apply(Apply),
}

/// The parameters of `Apply`, as a client sends them: nothing in them is checked yet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Apply {
    /// The sandbox.
    pub container: String,
    /// The destination.
    pub dest: String,
    /// `allow` or `deny`.
    pub action: String,
}

/// The reply to `Apply`; both fields are always there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Applied {
    /// Whether the firewall took the order.
    pub ok: bool,
    /// Why not; what the shield's program wrote.
    pub stderr: String,
}

impl Method {
    /// Parses a call of this interface.
    pub fn parse(call: &Call<'_>) -> Result<Self, StandardError> {
        match call.method() {
            "Apply" => {
                let mut parameters = call.parameters()?;
                let apply = Apply {
                    container: parameters.take("container")?,
                    dest: parameters.take("dest")?,
                    action: parameters.take("action")?,
                };
                parameters.finish()?;
                Ok(Self::Apply(apply))
            }
            _ => Err(call.not_found()),
        }
    }
}
