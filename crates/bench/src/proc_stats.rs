// SPDX-License-Identifier: Apache-2.0
//! Child processes, and the kernel's statistics about processes.

use std::process::{Child, Command};

use anyhow::Context as _;

/// A child process, killed on drop.
#[derive(Debug)]
pub(crate) struct MeasuredChild(pub(crate) Child);

impl MeasuredChild {
    pub(crate) fn start(command: &mut Command) -> anyhow::Result<Self> {
        let child = command.spawn();
        child
            .map(Self)
            .with_context(|| format!("starting {command:?}"))
    }

    /// Returns the processor time of all threads in milliseconds.
    pub(crate) fn cpu_time_ms(&self) -> anyhow::Result<f64> {
        cpu_time_ms(self.0.id())
    }

    /// Returns the number of voluntary and involuntary context switches of all threads.
    pub(crate) fn context_switches(&self) -> anyhow::Result<f64> {
        sum_over_threads(&self.0.id().to_string(), "status", |text| {
            Some(
                parse_field(text, "voluntary_ctxt_switches:")?
                    + parse_field(text, "nonvoluntary_ctxt_switches:")?,
            )
        })
    }

    /// Returns the largest resident set size so far in MiB.
    pub(crate) fn peak_resident_mib(&self) -> anyhow::Result<f64> {
        let path = format!("/proc/{}/status", self.0.id());
        let text = std::fs::read_to_string(&path).with_context(|| format!("reading {path}"))?;
        let kib = parse_field(&text, "VmHWM:").with_context(|| format!("{path} has no VmHWM"))?;
        Ok(kib / 1024.0)
    }

    /// Returns the proportional set size in MiB.
    pub(crate) fn pss_mib(&self) -> anyhow::Result<f64> {
        pss_mib(self.0.id())
    }
}

/// Returns the proportional set size of a process in MiB.
pub(crate) fn pss_mib(pid: u32) -> anyhow::Result<f64> {
    let path = format!("/proc/{pid}/smaps_rollup");
    let text = std::fs::read_to_string(&path).with_context(|| format!("reading {path}"))?;
    let kib = parse_field(&text, "Pss:").with_context(|| format!("{path} has no Pss"))?;
    Ok(kib / 1024.0)
}

/// Returns the processor time of all threads of a process in milliseconds.
pub(crate) fn cpu_time_ms(pid: u32) -> anyhow::Result<f64> {
    sum_over_threads(&pid.to_string(), "schedstat", parse_schedstat_ms)
}

/// Returns the number of open descriptors of a process.
pub(crate) fn descriptor_count(pid: u32) -> anyhow::Result<usize> {
    let path = format!("/proc/{pid}/fd");
    let files = std::fs::read_dir(&path).with_context(|| format!("reading {path}"))?;
    Ok(files.count())
}

/// Returns the processes whose parent is one of `parents`.
pub(crate) fn list_children(parents: &[u32]) -> anyhow::Result<Vec<u32>> {
    let mut children = Vec::new();
    for entry in std::fs::read_dir("/proc").context("reading /proc")? {
        let path = entry?.path();
        let name = path.file_name().and_then(|name| name.to_str());
        let Some(pid) = name.and_then(|name| name.parse().ok()) else {
            continue;
        };
        // The process may have ended meanwhile.
        let Ok(text) = std::fs::read_to_string(path.join("stat")) else {
            continue;
        };
        // After the name in brackets come the state and the parent.
        let fields = text.rsplit_once(')').map(|(_, fields)| fields);
        let parent = fields.and_then(|fields| fields.split_whitespace().nth(1)?.parse().ok());
        if parent.is_some_and(|parent: u32| parents.contains(&parent)) {
            children.push(pid);
        }
    }
    Ok(children)
}

/// Returns the processor time of all threads of this program in milliseconds.
pub(crate) fn own_cpu_time_ms() -> anyhow::Result<f64> {
    sum_over_threads("self", "schedstat", parse_schedstat_ms)
}

fn parse_schedstat_ms(schedstat: &str) -> Option<f64> {
    let nanoseconds: f64 = schedstat.split(' ').next()?.parse().ok()?;
    Some(nanoseconds / 1e6)
}

/// Reads `file` of every thread of a process in `/proc`, and returns the sum of the figures.
fn sum_over_threads(
    process: &str,
    file: &str,
    figure: impl Fn(&str) -> Option<f64>,
) -> anyhow::Result<f64> {
    let threads = format!("/proc/{process}/task");
    let mut sum = 0.0;
    for thread in std::fs::read_dir(&threads).with_context(|| format!("reading {threads}"))? {
        let path = thread?.path().join(file);
        // The thread may have ended meanwhile.
        let Ok(text) = std::fs::read_to_string(&path) else {
            continue;
        };
        sum += figure(&text).with_context(|| format!("{} is odd", path.display()))?;
    }
    Ok(sum)
}

impl Drop for MeasuredChild {
    fn drop(&mut self) {
        // Fails if the process has already ended.
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

/// Returns the number on the line that starts with `name`.
fn parse_field(text: &str, name: &str) -> Option<f64> {
    let rest = text.lines().find_map(|line| line.strip_prefix(name))?;
    rest.split_whitespace().next()?.parse().ok()
}

/// Returns the processor time of all children of this program that have ended, in clock ticks.
pub(crate) fn children_cpu_ticks() -> anyhow::Result<u64> {
    let path = "/proc/self/stat";
    let text = std::fs::read_to_string(path).with_context(|| format!("reading {path}"))?;
    // The name of the program, in brackets, may contain spaces. The first field after it is the
    // third: the times of ended children are the 16th (user) and the 17th (system).
    let fields = text.rsplit_once(')').map(|(_, fields)| fields);
    let fields = fields.with_context(|| format!("{path} is odd"))?;
    let mut times = fields.split_whitespace().skip(13).map(str::parse::<u64>);
    match (times.next(), times.next()) {
        (Some(Ok(user)), Some(Ok(system))) => Ok(user + system),
        _ => anyhow::bail!("{path} has no times of children"),
    }
}
