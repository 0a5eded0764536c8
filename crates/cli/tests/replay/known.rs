// SPDX-License-Identifier: Apache-2.0
//! The intended differences and their reasons: the table in `known.txt`.

use crate::compare::Difference;

/// An intended difference. `*` in a pattern stands for any text.
#[derive(Debug)]
pub(crate) struct Known {
    /// The releases, separated by blanks.
    releases: &'static str,
    step: &'static str,
    /// The connection.
    on: &'static str,
    /// The field, see [`Difference::at`].
    at: &'static str,
    /// Our value as JSON; empty if there is none.
    ours: String,
    #[expect(dead_code, reason = "shown for an entry that is not needed")]
    reason: &'static str,
}

impl Known {
    /// Returns the differences of a release.
    pub(crate) fn of(release: &str) -> Vec<Self> {
        let mut reason = "";
        let mut known = Vec::new();
        for line in include_str!("known.txt").lines() {
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let cells: Vec<_> = line.split('|').map(str::trim).collect();
            let [releases, step, on, at, ours] = cells[..] else {
                assert_eq!(cells.len(), 1, "neither a reason nor a row of five: {line}");
                reason = line;
                continue;
            };
            known.push(Self {
                releases,
                step,
                on,
                at,
                ours: ours.replace("{version}", env!("CARGO_PKG_VERSION")),
                reason,
            });
        }
        known.retain(|known| known.releases.split(' ').any(|each| matches(each, release)));
        known
    }

    pub(crate) fn covers(&self, difference: &Difference) -> bool {
        matches(self.step, &difference.step)
            && matches(self.on, &difference.on)
            && matches(self.at, &difference.at)
            && matches(&self.ours, &difference.ours)
    }
}

/// Returns `true` if `text` matches `pattern`, where `*` stands for any text.
fn matches(pattern: &str, text: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == text,
        Some((start, rest)) => text.strip_prefix(start).is_some_and(|text| {
            (0..=text.len())
                .filter(|at| text.is_char_boundary(*at))
                .any(|at| matches(rest, &text[at..]))
        }),
    }
}

#[test]
fn a_star_matches_any_text() {
    for (pattern, text, expected) in [
        ("", "", true),
        ("", "x", false),
        ("*", "", true),
        ("a*c", "abbc", true),
        ("a*c", "abbcd", false),
        ("*b*", "abc", true),
    ] {
        assert_eq!(matches(pattern, text), expected, "{pattern:?} {text:?}");
    }
}
