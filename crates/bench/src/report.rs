// SPDX-License-Identifier: Apache-2.0
//! The rows of the table, as text or as JSON.

use std::io::Write as _;

use serde::Serialize;

/// Collects the rows and prints each as soon as it is measured.
#[derive(Debug, Default)]
pub(crate) struct BenchReport {
    /// One JSON object per line instead of a table.
    pub(crate) json: bool,
    /// Only rows whose name contains one of these; all, if there is none.
    pub(crate) name_filters: Vec<String>,
}

/// One measurement.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct BenchRow {
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
    pub(crate) goal: BenchGoal,
}

/// What a row should be.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum BenchGoal {
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

    /// Says whether the goal is reached; `None` if there is none.
    fn is_reached(&self) -> Option<bool> {
        match self.goal {
            BenchGoal::TimesFloor(times) => self.floor.map(|floor| self.ours <= floor * times),
            BenchGoal::AtMost(most) => Some(self.ours <= most),
            BenchGoal::AtLeast(least) => Some(self.ours >= least),
            BenchGoal::TimesPython(times) => self.python.map(|python| self.ours <= python * times),
            BenchGoal::None => None,
        }
    }
}

impl BenchReport {
    /// Prints what stands above the rows.
    pub(crate) fn print_header(&self) {
        if !self.json {
            print_text(&format!(
                "{:<52} {:>12} {:>12} {:>7} {:>12}  goal\n",
                "", "ours", "floor", "ratio", "python"
            ));
        }
    }

    /// Says whether a row is to be measured.
    pub(crate) fn includes(&self, row: &str) -> bool {
        self.name_filters.is_empty()
            || self
                .name_filters
                .iter()
                .any(|part| row.contains(part.as_str()))
    }

    /// Prints a row.
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

/// Prints to standard output; a reader that has gone away is no error.
pub(crate) fn print_text(text: &str) {
    let mut out = std::io::stdout().lock();
    drop(out.write_all(text.as_bytes()).and_then(|()| out.flush()));
}

/// Prints a line to standard error.
pub(crate) fn print_error_line(text: &str) {
    drop(writeln!(std::io::stderr().lock(), "{text}"));
}
