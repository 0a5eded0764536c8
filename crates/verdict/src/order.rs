// SPDX-License-Identifier: Apache-2.0
//! An order to a firewall, parsed: nothing of it is taken on trust.

use terok_clearance::wire::verdict1::ApplyParameters;
use terok_clearance::{
    Action, ActionParseError, ContainerId, Dest, DestParseError, DisplayText, IdParseError, Scope,
    Target,
};

/// One order: which sandbox, which destination, what to do, how far it reaches.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerdictOrder {
    container: ContainerId,
    target: Target,
    action: Action,
    scope: Scope,
}

/// Why a text is no order.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum VerdictOrderError {
    /// The sandbox's name is none.
    #[error("{text:?} is no container")]
    Container {
        /// The text.
        text: DisplayText,
        /// What is wrong with it.
        source: IdParseError,
    },
    /// No firewall can open or close the destination.
    #[error(transparent)]
    Dest(#[from] DestParseError),
    /// The action is none.
    #[error(transparent)]
    Action(#[from] ActionParseError),
}

impl VerdictOrder {
    /// Makes an order of what a hub decided; the destination is the scope's.
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

    /// Parses a call of `org.terok.ClearanceVerdict1.Apply`, which is always about the whole of a
    /// destination for the sandbox's life.
    pub fn parse(apply: &ApplyParameters) -> Result<Self, VerdictOrderError> {
        let container = apply.container.parse();
        let container = container.map_err(|source| VerdictOrderError::Container {
            text: DisplayText::new(&apply.container),
            source,
        })?;
        // Not the text made harmless: what names no target as it is names none.
        let _target: Target = apply.dest.parse()?;
        let dest: Dest = apply.dest.parse()?;
        Self::new(container, apply.action.parse()?, Scope::whole_dest(dest))
    }

    /// Returns the sandbox.
    pub const fn container(&self) -> &ContainerId {
        &self.container
    }

    /// Returns what to open or close.
    pub const fn target(&self) -> &Target {
        &self.target
    }

    /// Returns whether to open or to close it.
    pub const fn action(&self) -> Action {
        self.action
    }

    /// Returns how far it reaches.
    pub const fn scope(&self) -> &Scope {
        &self.scope
    }

    /// Says whether it is about the whole of a destination for the sandbox's life.
    pub fn is_whole_dest(&self) -> bool {
        self.scope == Scope::whole_dest(self.scope.dest.clone())
    }

    /// Returns the order as a call of `org.terok.ClearanceVerdict1.Apply`; none if that cannot say
    /// how narrow it is.
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
    fn only_a_container_a_target_and_an_action_are_an_order() {
        check("web", "203.0.113.7", "allow", Ok("203.0.113.7"));
        check("web", "API.example.com.", "deny", Ok("api.example.com"));
        check("web", "::ffff:203.0.113.7", "deny", Ok("203.0.113.7"));
        check(
            "--help",
            "203.0.113.7",
            "allow",
            Err("\"--help\" is no container"),
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
        // A space would be what is left of it.
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
