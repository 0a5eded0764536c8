// SPDX-License-Identifier: Apache-2.0
//! The observations of a demo, up to the regular end or an early stop.

use terok_clearance::DisplayText;

use crate::checks::{FetchObservation, check_fetches};
use crate::clock::now_us;
use crate::error::DemoError;
use crate::output::DemoOutput;
use crate::processes::InternetArrivals;
use crate::report::{DemoStep, DemoSummary, median};
use crate::supervisor_trace::SupervisorTrace;

/// The observations of a demo.
#[derive(Debug)]
pub struct DemoOutcome {
    began_at: u64,
    /// One observation per fetch, in order.
    pub(crate) observations: Vec<FetchObservation>,
    /// Durations from packets to events.
    pub(crate) packet_to_event_us: Vec<u64>,
    /// Durations from answers to connections.
    pub(crate) answer_to_connect_us: Vec<u64>,
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
            answer_to_connect_us: Vec::new(),
            problems: Vec::new(),
        }
    }

    /// Returns `true` if at least one fetch has begun.
    pub const fn has_fetches(&self) -> bool {
        !self.observations.is_empty()
    }

    /// Adds what the supervisor did for each fetch. Rules and connections for other destinations
    /// are faults.
    pub(crate) fn add_trace(&mut self, trace: &SupervisorTrace) {
        let (mut rule_count, mut connection_count) = (0, 0);
        for observation in &mut self.observations {
            observation.add_trace(trace);
            rule_count += observation.rules.len();
            connection_count += observation.dialed.len();
        }
        if trace.rules().len() != rule_count {
            self.problems
                .push("a rule was made about a destination that was not fetched".to_owned());
        }
        if trace.connection_count() != connection_count {
            self.problems
                .push("a connection was made to a destination that was not fetched".to_owned());
        }
    }

    /// Adds what arrived at the simulated internet. Arrivals for other hosts are faults.
    pub(crate) fn add_arrivals(&mut self, arrivals: &InternetArrivals) {
        for observation in &mut self.observations {
            let Some(host) = observation.host else {
                continue;
            };
            let connections = arrivals.connections.get(&host.socket_address());
            let lookups = host
                .name
                .and_then(|name| arrivals.lookups.get(&DisplayText::new(name)));
            observation.connection_count = Some(connections.copied().unwrap_or_default());
            observation.lookup_count = Some(lookups.copied().unwrap_or_default());
        }
        let fetched = || self.observations.iter().filter_map(|seen| seen.host);
        let mut problems = Vec::new();
        for address in arrivals.connections.keys() {
            if !fetched().any(|host| host.socket_address() == *address) {
                problems.push(format!("{address} was reached without a fetch"));
            }
        }
        for name in arrivals.lookups.keys() {
            if !fetched().any(|host| host.name == Some(name.as_str())) {
                problems.push(format!("{name} was looked up without a fetch"));
            }
        }
        self.problems.extend(problems);
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
            answer_to_connect_us: median(self.answer_to_connect_us),
            took_us: now_us() - self.began_at,
        }))?;
        Ok(ok)
    }
}
