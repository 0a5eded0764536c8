// SPDX-License-Identifier: Apache-2.0
//! The observations of a demo, up to the regular end or an early stop.

use crate::checks::{FetchObservation, check_fetches};
use crate::clock::now_us;
use crate::error::DemoError;
use crate::output::DemoOutput;
use crate::report::{DemoStep, DemoSummary, median};

/// The observations of a demo.
#[derive(Debug)]
pub struct DemoOutcome {
    began_at: u64,
    /// One observation per fetch, in order.
    pub(crate) observations: Vec<FetchObservation>,
    /// Durations from packets to events.
    pub(crate) packet_to_event_us: Vec<u64>,
    /// Durations from answers to set elements.
    pub(crate) answer_to_set_us: Vec<u64>,
    /// Faults that are not part of a fetch.
    pub(crate) problems: Vec<String>,
}

impl DemoOutcome {
    /// Returns an empty outcome of a demo that begins now.
    pub fn begin() -> Self {
        Self {
            began_at: now_us(),
            observations: Vec::new(),
            packet_to_event_us: Vec::new(),
            answer_to_set_us: Vec::new(),
            problems: Vec::new(),
        }
    }

    /// Returns `true` if at least one fetch has begun.
    pub const fn has_fetches(&self) -> bool {
        !self.observations.is_empty()
    }

    /// Writes the summary and returns `true` if the demo succeeded. `missing` is the reason for an
    /// early stop.
    pub fn report_summary(
        self,
        missing: Option<String>,
        output: DemoOutput<'_>,
    ) -> Result<bool, DemoError> {
        let mut verdict = check_fetches(&self.observations);
        verdict.problems.extend(self.problems);
        verdict.missing.extend(missing);
        let ok = verdict.is_success();
        output.report(&DemoStep::Summary(DemoSummary {
            ok,
            verdict,
            packet_to_event_us: median(self.packet_to_event_us),
            answer_to_set_us: median(self.answer_to_set_us),
            took_us: now_us() - self.began_at,
        }))?;
        Ok(ok)
    }
}
