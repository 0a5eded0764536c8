// SPDX-License-Identifier: Apache-2.0
//! What the kernel counts of a running program, and programs that end with what measures them.

use std::process::{Child, Command};

use anyhow::Context as _;

/// A program that is killed when this is dropped.
#[derive(Debug)]
pub(crate) struct MeasuredChild(pub(crate) Child);

impl MeasuredChild {
    pub(crate) fn start(command: &mut Command) -> anyhow::Result<Self> {
        let child = command.spawn();
        child
            .map(Self)
            .with_context(|| format!("starting {command:?}"))
    }

    /// Returns how many milliseconds its threads have run on a processor.
    pub(crate) fn cpu_time_ms(&self) -> anyhow::Result<f64> {
        sum_over_threads(&self.0.id().to_string(), "schedstat", parse_schedstat_ms)
    }

    /// Returns how often its threads have given the processor back, or were put aside.
    pub(crate) fn context_switches(&self) -> anyhow::Result<f64> {
        sum_over_threads(&self.0.id().to_string(), "status", |text| {
            Some(
                parse_field(text, "voluntary_ctxt_switches:")?
                    + parse_field(text, "nonvoluntary_ctxt_switches:")?,
            )
        })
    }

    /// Returns its proportional set size in MiB.
    pub(crate) fn pss_mib(&self) -> anyhow::Result<f64> {
        let path = format!("/proc/{}/smaps_rollup", self.0.id());
        let text = std::fs::read_to_string(&path).with_context(|| format!("reading {path}"))?;
        let kib = parse_field(&text, "Pss:").with_context(|| format!("{path} has no Pss"))?;
        Ok(kib / 1024.0)
    }
}

/// Returns how many milliseconds the threads of this program have run on a processor.
pub(crate) fn own_cpu_time_ms() -> anyhow::Result<f64> {
    sum_over_threads("self", "schedstat", parse_schedstat_ms)
}

fn parse_schedstat_ms(schedstat: &str) -> Option<f64> {
    let nanoseconds: f64 = schedstat.split(' ').next()?.parse().ok()?;
    Some(nanoseconds / 1e6)
}

/// Returns the sum over the threads of a process of what is in a file of each.
fn sum_over_threads(
    process: &str,
    file: &str,
    figure: impl Fn(&str) -> Option<f64>,
) -> anyhow::Result<f64> {
    let threads = format!("/proc/{process}/task");
    let mut sum = 0.0;
    for thread in std::fs::read_dir(&threads).with_context(|| format!("reading {threads}"))? {
        let path = thread?.path().join(file);
        // A thread may have ended since.
        let Ok(text) = std::fs::read_to_string(&path) else {
            continue;
        };
        sum += figure(&text).with_context(|| format!("{} is odd", path.display()))?;
    }
    Ok(sum)
}

impl Drop for MeasuredChild {
    fn drop(&mut self) {
        // It may have ended by itself; then there is nothing to do.
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

/// Returns the number on the line that starts with `name`.
fn parse_field(text: &str, name: &str) -> Option<f64> {
    let rest = text.lines().find_map(|line| line.strip_prefix(name))?;
    rest.split_whitespace().next()?.parse().ok()
}
