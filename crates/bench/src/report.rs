// SPDX-License-Identifier: Apache-2.0
//! The rows of the table, as text or as JSON.

use std::io::Write as _;

use serde::Serialize;

/// Collects the rows and prints each as soon as it is measured.
#[derive(Debug, Default)]
pub(crate) struct BenchReport {
    /// One JSON object per line instead of a table.
    pub(crate) json: bool,
    /// Selects the rows whose name contains at least one of these texts. Empty selects all rows.
    pub(crate) name_filters: Vec<String>,
}

/// One measurement.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct BenchRow {
    /// The measured quantity.
    #[serde(rename = "row")]
    pub(crate) name: String,
    /// The unit of all figures.
    pub(crate) unit: &'static str,
    /// The figure of this project.
    pub(crate) ours: f64,
    /// The least that the kernel needs for the same effect.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) floor: Option<f64>,
    /// The figure of the Python stack.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) python: Option<f64>,
    /// The goal for the figure of this project.
    pub(crate) goal: BenchGoal,
}

/// The goal of a measurement.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum BenchGoal {
    /// At most this multiple of the floor.
    TimesFloor(f64),
    /// At least this multiple of the floor.
    AtLeastTimesFloor(f64),
    /// At most this much more than the floor.
    MoreThanFloor(f64),
    /// At most this figure.
    AtMost(f64),
    /// At least this figure.
    AtLeast(f64),
    /// At most this multiple of the Python stack's figure.
    TimesPython(f64),
    /// No goal.
    None,
}

impl BenchRow {
    pub(crate) fn new(
        name: impl Into<String>,
        unit: &'static str,
        ours: f64,
        goal: BenchGoal,
    ) -> Self {
        Self {
            name: name.into(),
            unit,
            ours,
            floor: None,
            python: None,
            goal,
        }
    }

    /// Returns `true` if the goal is reached; `None` without a goal.
    fn is_reached(&self) -> Option<bool> {
        match self.goal {
            BenchGoal::TimesFloor(times) => self.floor.map(|floor| self.ours <= floor * times),
            BenchGoal::AtLeastTimesFloor(times) => {
                self.floor.map(|floor| self.ours >= floor * times)
            }
            BenchGoal::MoreThanFloor(more) => self.floor.map(|floor| self.ours <= floor + more),
            BenchGoal::AtMost(most) => Some(self.ours <= most),
            BenchGoal::AtLeast(least) => Some(self.ours >= least),
            BenchGoal::TimesPython(times) => self.python.map(|python| self.ours <= python * times),
            BenchGoal::None => None,
        }
    }
}

impl BenchReport {
    /// Prints the header of the table.
    pub(crate) fn print_header(&self) {
        if !self.json {
            print_text(&format!(
                "{:<52} {:>12} {:>12} {:>7} {:>12}  goal\n",
                "", "ours", "floor", "ratio", "python"
            ));
        }
    }

    /// Returns `true` if the row is selected.
    pub(crate) fn includes(&self, row: &str) -> bool {
        self.name_filters.is_empty()
            || self
                .name_filters
                .iter()
                .any(|part| row.contains(part.as_str()))
    }

    pub(crate) fn print_row(&self, row: &BenchRow) {
        if self.json {
            let line = serde_json::to_string(row).unwrap_or_default();
            print_text(&format!("{line}\n"));
            return;
        }
        let number = |number: Option<f64>| number.map_or_else(String::new, format_number);
        let ratio = row.floor.map(|floor| row.ours / floor);
        let goal = match row.goal {
            BenchGoal::TimesFloor(times) => format!("<= {times} x floor"),
            BenchGoal::AtLeastTimesFloor(times) => format!(">= {times} x floor"),
            BenchGoal::MoreThanFloor(more) => format!("<= floor + {}", format_number(more)),
            BenchGoal::AtMost(most) => format!("<= {}", format_number(most)),
            BenchGoal::AtLeast(least) => format!(">= {}", format_number(least)),
            BenchGoal::TimesPython(times) => format!("<= {times} x python"),
            BenchGoal::None => String::new(),
        };
        let verdict = match row.is_reached() {
            Some(true) => "reached",
            Some(false) => "MISSED",
            None => "",
        };
        print_text(&format!(
            "{:<52} {:>12} {:>12} {:>7} {:>12}  {goal} {verdict}\n",
            format!("{} ({})", row.name, row.unit),
            format_number(row.ours),
            number(row.floor),
            ratio.map_or_else(String::new, |ratio| format!("{ratio:.2}")),
            number(row.python),
        ));
    }
}

fn format_number(number: f64) -> String {
    if number >= 1000.0 {
        format!("{number:.0}")
    } else {
        format!("{number:.2}")
    }
}

/// Prints to standard output. Ignores a closed pipe.
pub(crate) fn print_text(text: &str) {
    let mut out = std::io::stdout().lock();
    drop(out.write_all(text.as_bytes()).and_then(|()| out.flush()));
}

pub(crate) fn print_error_line(text: &str) {
    drop(writeln!(std::io::stderr().lock(), "{text}"));
}
