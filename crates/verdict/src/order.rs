// SPDX-License-Identifier: Apache-2.0
//! Parses orders to a firewall. No part of an order is trusted.

use terok_clearance::wire::verdict1::ApplyParameters;
use terok_clearance::{
    Action, ActionParseError, ContainerId, Dest, DestParseError, DisplayText, IdParseError, Scope,
    Target,
};

/// An order: sandbox, destination, action and scope.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerdictOrder {
    container: ContainerId,
    target: Target,
    action: Action,
    scope: Scope,
}

/// A text is not a valid order.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum VerdictOrderError {
    /// The container id is invalid.
    #[error("{text:?} is not a container id")]
    Container {
        /// The rejected text.
        text: DisplayText,
        /// The cause.
        source: IdParseError,
    },
    /// The destination cannot be opened or closed by a firewall.
    #[error(transparent)]
    Dest(#[from] DestParseError),
    /// The action is unknown.
    #[error(transparent)]
    Action(#[from] ActionParseError),
}

impl VerdictOrder {
    /// Creates an order from a hub's decision; the scope names the destination.
    pub fn new(
        container: ContainerId,
        action: Action,
        scope: Scope,
    ) -> Result<Self, VerdictOrderError> {
        let target = scope.dest.parse_target()?;
        Ok(Self {
            container,
            target,
            action,
            scope,
        })
    }

    /// Parses a call of `org.terok.ClearanceVerdict1.Apply`, which covers a whole destination
    /// until the rule is removed.
    pub fn parse(apply: &ApplyParameters) -> Result<Self, VerdictOrderError> {
        let container = apply.container.parse();
        let container = container.map_err(|source| VerdictOrderError::Container {
            text: DisplayText::new(&apply.container),
            source,
        })?;
        // The original text is parsed, not the sanitised one, whose meaning may differ.
        let _target: Target = apply.dest.parse()?;
        let dest: Dest = apply.dest.parse()?;
        Self::new(container, apply.action.parse()?, Scope::until_removed(dest))
    }

    /// Returns the container id.
    pub const fn container(&self) -> &ContainerId {
        &self.container
    }

    /// Returns the target to open or close.
    pub const fn target(&self) -> &Target {
        &self.target
    }

    /// Returns the action: allow or deny.
    pub const fn action(&self) -> Action {
        self.action
    }

    /// Returns the scope.
    pub const fn scope(&self) -> &Scope {
        &self.scope
    }

    /// Returns `true` if the order covers a whole destination until the rule is removed.
    pub fn is_whole_dest(&self) -> bool {
        self.scope == Scope::until_removed(self.scope.dest.clone())
    }

    /// Returns the order as a call of `org.terok.ClearanceVerdict1.Apply`, or `None` if its scope
    /// is too narrow for the interface.
    pub(crate) fn to_apply_call(&self) -> Option<ApplyParameters> {
        self.is_whole_dest().then(|| ApplyParameters {
            container: self.container.to_string(),
            dest: self.target.to_string(),
            action: self.action.to_string(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(container: &str, dest: &str, action: &str, expected: Result<&str, &str>) {
        let [container, dest, action] = [container, dest, action].map(str::to_owned);
        let order = VerdictOrder::parse(&ApplyParameters {
            container,
            dest,
            action,
        });
        let shown = order
            .map(|order| order.target().to_string())
            .map_err(|e| e.to_string());
        assert_eq!(shown.as_deref().map_err(String::as_str), expected);
    }

    #[test]
    fn an_order_needs_a_container_a_target_and_an_action() {
        check("web", "203.0.113.7", "allow", Ok("203.0.113.7"));
        check("web", "API.example.com.", "deny", Ok("api.example.com"));
        check("web", "::ffff:203.0.113.7", "deny", Ok("203.0.113.7"));
        check(
            "--help",
            "203.0.113.7",
            "allow",
            Err("\"--help\" is not a container id"),
        );
        check("web", "", "allow", Err("the destination is empty"));
        check(
            "web",
            "--flag",
            "allow",
            Err("\"--flag\" is neither an IP address nor a host name"),
        );
        check(
            "web",
            "0.0.0.0/0",
            "allow",
            Err("\"0.0.0.0/0\" is neither an IP address nor a host name"),
        );
        // Sanitising turns the control character into a space.
        check(
            "web",
            "a\u{7}b",
            "allow",
            Err("\"a b\" is neither an IP address nor a host name"),
        );
        check(
            "web",
            "203.0.113.7",
            "dismiss",
            Err("\"dismiss\" is neither \"allow\" nor \"deny\""),
        );
    }
}
