// SPDX-License-Identifier: Apache-2.0
//! The rows of the table, as text or as JSON.

use std::io::Write as _;

use serde::Serialize;

/// Collects the rows and prints each as soon as it is measured.
#[derive(Debug, Default)]
pub(crate) struct Report {
    /// One JSON object per line instead of a table.
    pub(crate) json: bool,
    /// Only rows whose name contains one of these; all, if there is none.
    pub(crate) only: Vec<String>,
}

/// One measurement.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Row {
    /// What was measured.
    #[serde(rename = "row")]
    pub(crate) name: String,
    /// In what.
    pub(crate) unit: &'static str,
    /// Ours.
    pub(crate) ours: f64,
    /// The least that anybody has to pay.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) floor: Option<f64>,
    /// The Python stack's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) python: Option<f64>,
    /// What it should be.
    pub(crate) goal: Goal,
}

/// What a row should be.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Goal {
    /// At most so many times the floor.
    TimesFloor(f64),
    /// At most this.
    AtMost(f64),
    /// At least this.
    AtLeast(f64),
    /// At most so much of what the Python stack takes.
    TimesPython(f64),
    /// Nothing was promised.
    None,
}

impl Row {
    pub(crate) fn new(name: impl Into<String>, unit: &'static str, ours: f64, goal: Goal) -> Self {
        Self {
            name: name.into(),
            unit,
            ours,
            floor: None,
            python: None,
            goal,
        }
    }

    /// Says whether the goal is reached; `None` if there is none.
    fn is_reached(&self) -> Option<bool> {
        match self.goal {
            Goal::TimesFloor(times) => self.floor.map(|floor| self.ours <= floor * times),
            Goal::AtMost(most) => Some(self.ours <= most),
            Goal::AtLeast(least) => Some(self.ours >= least),
            Goal::TimesPython(times) => self.python.map(|python| self.ours <= python * times),
            Goal::None => None,
        }
    }
}

impl Report {
    /// Prints what stands above the rows.
    pub(crate) fn start(&self) {
        if !self.json {
            say(&format!(
                "{:<52} {:>12} {:>12} {:>7} {:>12}  goal\n",
                "", "ours", "floor", "ratio", "python"
            ));
        }
    }

    /// Says whether a row is to be measured.
    pub(crate) fn wants(&self, row: &str) -> bool {
        self.only.is_empty() || self.only.iter().any(|part| row.contains(part.as_str()))
    }

    /// Prints a row.
    pub(crate) fn add(&self, row: &Row) {
        if self.json {
            let line = serde_json::to_string(row).unwrap_or_default();
            say(&format!("{line}\n"));
            return;
        }
        let number = |number: Option<f64>| number.map_or_else(String::new, shown);
        let ratio = row.floor.map(|floor| row.ours / floor);
        let goal = match row.goal {
            Goal::TimesFloor(times) => format!("<= {times} x floor"),
            Goal::AtMost(most) => format!("<= {}", shown(most)),
            Goal::AtLeast(least) => format!(">= {}", shown(least)),
            Goal::TimesPython(times) => format!("<= {times} x python"),
            Goal::None => String::new(),
        };
        let verdict = match row.is_reached() {
            Some(true) => "reached",
            Some(false) => "MISSED",
            None => "",
        };
        say(&format!(
            "{:<52} {:>12} {:>12} {:>7} {:>12}  {goal} {verdict}\n",
            format!("{} ({})", row.name, row.unit),
            shown(row.ours),
            number(row.floor),
            ratio.map_or_else(String::new, |ratio| format!("{ratio:.2}")),
            number(row.python),
        ));
    }
}

fn shown(number: f64) -> String {
    if number >= 1000.0 {
        format!("{number:.0}")
    } else {
        format!("{number:.2}")
    }
}

/// Prints to standard output; a reader that has gone away is no error.
pub(crate) fn say(text: &str) {
    let mut out = std::io::stdout().lock();
    drop(out.write_all(text.as_bytes()).and_then(|()| out.flush()));
}

/// Prints a line to standard error.
pub(crate) fn complain(text: &str) {
    drop(writeln!(std::io::stderr().lock(), "{text}"));
}
