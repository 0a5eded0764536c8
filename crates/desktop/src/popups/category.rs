// SPDX-License-Identifier: Apache-2.0
//! The kinds of popups, and the operator's selection.

use std::fmt;

use terok_clearance::DisplayText;

/// A kind of popup.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PopupCategory {
    /// A question.
    Blocked,
    /// The result of a question that was on the screen.
    Verdict,
    /// The firewall of a sandbox is up.
    ShieldUp,
    /// The firewall of a sandbox is down or off.
    ShieldDown,
    /// A sandbox started.
    ContainerStarted,
    /// A sandbox ended.
    ContainerExited,
}

impl PopupCategory {
    const ALL: [(Self, &str); 6] = [
        (Self::Blocked, "blocked"),
        (Self::Verdict, "verdict"),
        (Self::ShieldUp, "shield_up"),
        (Self::ShieldDown, "shield_down"),
        (Self::ContainerStarted, "container_started"),
        (Self::ContainerExited, "container_exited"),
    ];

    const fn bit(self) -> u8 {
        match self {
            Self::Blocked => 1,
            Self::Verdict => 1 << 1,
            Self::ShieldUp => 1 << 2,
            Self::ShieldDown => 1 << 3,
            Self::ContainerStarted => 1 << 4,
            Self::ContainerExited => 1 << 5,
        }
    }
}

/// A selection of kinds of popups; the default is questions and their results.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Categories(u8);

impl Default for Categories {
    fn default() -> Self {
        Self(PopupCategory::Blocked.bit() | PopupCategory::Verdict.bit())
    }
}

impl Categories {
    /// All kinds.
    pub const ALL: Self = Self(0b11_1111);

    /// Parses names separated by commas or white space, or `all`. An empty text selects no kind.
    ///
    /// Returns the kinds, and the unknown names, which are ignored. The syntax is the same as in
    /// the Python notifier for `TEROK_CLEARANCE_NOTIFY_EVENTS` (0.6.10 to 0.6.14a7).
    pub fn parse(text: &str) -> (Self, Vec<DisplayText>) {
        if text.trim().eq_ignore_ascii_case("all") {
            return (Self::ALL, Vec::new());
        }
        let mut kinds = Self(0);
        let mut unknown = Vec::new();
        let names = text.split(|c: char| c == ',' || c.is_whitespace());
        for name in names.filter(|name| !name.is_empty()) {
            match PopupCategory::ALL
                .into_iter()
                .find(|(_, known)| *known == name)
            {
                Some((category, _)) => kinds.0 |= category.bit(),
                None => unknown.push(DisplayText::new(name)),
            }
        }
        (kinds, unknown)
    }

    /// Returns `true` if the kind is selected.
    pub const fn contains(self, category: PopupCategory) -> bool {
        self.0 & category.bit() != 0
    }
}

impl fmt::Display for Categories {
    /// Writes the names, or `none`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let wanted = PopupCategory::ALL
            .into_iter()
            .filter(|(it, _)| self.contains(*it));
        let names: Vec<_> = wanted.map(|(_, name)| name).collect();
        f.write_str(if names.is_empty() { "none" } else { "" })?;
        f.write_str(&names.join(" "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EVERY: &str = "blocked verdict shield_up shield_down container_started container_exited";

    #[test]
    fn names_are_parsed_as_by_the_python_notifier() {
        let check = |text: &str, kinds: &str, unknown: &[&str]| {
            let (read, dropped) = Categories::parse(text);
            assert_eq!(read.to_string(), kinds, "{text:?}");
            let dropped: Vec<_> = dropped.iter().map(DisplayText::as_str).collect();
            assert_eq!(dropped, unknown, "{text:?}");
        };
        check("", "none", &[]);
        check("  ", "none", &[]);
        check("all", EVERY, &[]);
        check(" ALL\n", EVERY, &[]);
        check("blocked", "blocked", &[]);
        check("shield_down,blocked", "blocked shield_down", &[]);
        check(
            "verdict\tcontainer_exited ,",
            "verdict container_exited",
            &[],
        );
        check("blocked all", "blocked", &["all"]);
        check("Blocked", "none", &["Blocked"]);
        check("blocked \u{1b}[31m", "blocked", &[" [31m"]);
        assert_eq!(Categories::default().to_string(), "blocked verdict");
        assert_eq!(Categories::parse(EVERY).0, Categories::ALL);
    }
}
