// SPDX-License-Identifier: Apache-2.0
//! The variables about colours.

use std::ffi::OsString;

/// What the environment says about colours.
///
/// The first that is set decides: `NO_COLOR` (no-color.org), `FORCE_COLOR` (force-color.org),
/// `CLICOLOR_FORCE`, `CLICOLOR` (bixense.com/clicolors), `TERM=dumb`. An empty variable counts as
/// unset. `0` means the opposite, except in `NO_COLOR`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ColorVariables {
    /// Colours on terminals.
    Terminals,
    /// Colours everywhere.
    Force,
    /// No colours.
    Never,
}

impl ColorVariables {
    pub(super) fn read(set: &dyn Fn(&'static str) -> Option<OsString>) -> Self {
        let flag = |name| set(name).map(|value| value != "0");
        if set("NO_COLOR").is_some() {
            return Self::Never;
        }
        match (
            flag("FORCE_COLOR"),
            flag("CLICOLOR_FORCE"),
            flag("CLICOLOR"),
        ) {
            (Some(true), ..) | (None, Some(true), _) => Self::Force,
            (Some(false), ..) | (None, _, Some(false)) => Self::Never,
            (None, None | Some(false), None | Some(true)) => match set("TERM") {
                Some(terminal) if terminal == "dumb" => Self::Never,
                _ => Self::Terminals,
            },
        }
    }

    /// Returns the variable that decides, if one is set.
    pub(super) fn first_set(
        set: &dyn Fn(&'static str) -> Option<OsString>,
    ) -> Option<&'static str> {
        let mut named = ["NO_COLOR", "FORCE_COLOR", "CLICOLOR_FORCE", "CLICOLOR"].into_iter();
        let decides = named.find(|name| set(name).is_some());
        decides.or_else(|| {
            set("TERM")
                .filter(|terminal| terminal == "dumb")
                .and(Some("TERM"))
        })
    }

    pub(super) const fn allow_colors(self, terminal: bool) -> bool {
        match self {
            Self::Terminals => terminal,
            Self::Force => true,
            Self::Never => false,
        }
    }
}
