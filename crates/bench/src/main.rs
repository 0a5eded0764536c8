// SPDX-License-Identifier: Apache-2.0
//! The end-to-end benchmark: every figure beside its floor, in one run on one machine.
//!
//! A figure alone says little about a program and much about a machine. So each one stands beside
//! the least that the kernel makes anybody pay: the hub beside a relay that copies bytes from one
//! unix socket to others and does nothing else, the shield beside the bare netlink transaction, the
//! supervisor beside a bare reader of the packet log. What needs a network gets one of its own.

mod bench_hub;
mod bench_netns;
mod bench_packets;
mod bench_popups;
mod bench_screen;
mod bench_shield;
mod bench_watch;
mod fake_desktop;
mod latency_samples;
mod many_hubs;
mod measured_program;
mod measured_ui;
mod proc_stats;
mod pty_screen;
mod relay;
mod report;

use std::process::ExitCode;

use anyhow::{Context as _, bail, ensure};

use report::BenchReport;

const USAGE: &str = "\
Usage: clearance-bench [--json] [--quick] [ROW…]

Measures each row beside its floor and prints the ratios; with ROWs only those whose name contains
one of them. Build it with --release, and `terok-clearance` beside it: the rows about UIs run that.

  --json   one JSON object per row and line
  --quick  a tenth of the rounds, to see that everything works

Environment:
  CLEARANCE_PYTHON  a Python with terok-clearance 0.8.1: its hub and its subscriber are measured
                    in the same run
";

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            report::print_error_line(&format!("clearance-bench: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

fn run() -> anyhow::Result<()> {
    let mut report = BenchReport::default();
    let mut quick = false;
    let mut packets_only = false;
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        let mut directory = || arguments.next().context("which directory?");
        match argument.as_str() {
            // The programs that are measured are this one, started anew.
            "serve-hub" => return measured_program::serve_hub(directory()?.as_ref()),
            "serve-relay" => return relay::serve(directory()?.as_ref()),
            "measure-shield" => {
                let part = arguments.next().context("which part?")?;
                return bench_shield::measure_in_namespace(part.parse().context("which part?")?);
            }
            "serve-supervisor" => {
                let directory = directory()?;
                let pid = arguments.next().and_then(|pid| pid.parse().ok());
                let pid = pid.context("which sandbox?")?;
                return bench_packets::serve_supervisor(directory.as_ref(), pid);
            }
            "packet-rows" => packets_only = true,
            "--json" => report.json = true,
            "--quick" => quick = true,
            "--help" | "-h" => {
                report::print_text(USAGE);
                return Ok(());
            }
            option if option.starts_with('-') => bail!("no option {option:?}\n\n{USAGE}"),
            row => report.name_filters.push(row.to_owned()),
        }
    }
    let part = if quick { 10 } else { 1 };
    if packets_only {
        return bench_packets::measure(&mut report, part);
    }
    report.print_header();
    bench_hub::measure(&mut report, part)?;
    bench_screen::measure(&report, part)?;
    bench_popups::measure(&report, part)?;
    bench_watch::measure(&report, part)?;
    bench_shield::measure(&report, part)?;
    let mut again = vec!["packet-rows".to_owned()];
    again.extend(std::env::args().skip(1));
    let status = bench_netns::run_in_namespaces(&again)?;
    ensure!(status.success(), "the rows about packets: {status}");
    Ok(())
}
