// SPDX-License-Identifier: Apache-2.0
//! The end-to-end benchmark: measures every figure next to a floor, in one run on one machine.
//!
//! A single figure depends mostly on the machine. Each figure is therefore compared with its floor,
//! the least that the kernel needs for the same effect. The floor of the hub is a relay that only
//! copies bytes from one unix socket to others; of the shield, the bare netlink transaction; of the
//! supervisor, a program that only reads the packet log. Measurements that need a network run in a
//! private network namespace.

mod bench_containers;
mod bench_dialed;
mod bench_flood;
mod bench_hub;
mod bench_netns;
mod bench_packets;
mod bench_popups;
mod bench_record;
mod bench_rules;
mod bench_screen;
mod bench_shield;
mod bench_watch;
mod container_host;
mod dialed_peers;
mod fake_desktop;
mod latency_samples;
mod loopback_servers;
mod many_hubs;
mod measured_program;
mod measured_run;
mod measured_ui;
mod probe;
mod proc_stats;
mod pty_screen;
mod relay;
mod report;

use std::process::ExitCode;

use anyhow::{Context as _, bail, ensure};

use report::BenchReport;

const USAGE: &str = "\
Usage: clearance-bench [--json] [--quick] [ROW…]

Measures each row and its floor, and prints the ratio. Any ROW selects the rows whose name contains
this text. Build the benchmark with --release; the rows about user interfaces, `run` and containers
need the program `terok-clearance` in the same directory.

  --json   one JSON object per row
  --quick  a tenth of the rounds, to test the benchmark

Environment:
  CLEARANCE_PYTHON  a Python interpreter with terok-clearance 0.8.1 installed, whose hub and
                    subscriber are measured in the same run
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
    let mut dialed_only = false;
    let mut containers_only = false;
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        let mut directory = || arguments.next().context("the directory is missing");
        match argument.as_str() {
            // Some measured programs are this program, started with one of these commands.
            "serve-hub" => return measured_program::serve_hub(directory()?.as_ref()),
            "serve-relay" => return relay::serve(directory()?.as_ref()),
            "measure-shield" => {
                let part = arguments.next().context("the divisor is missing")?;
                let part = part.parse().context("the divisor is not a number")?;
                return bench_shield::measure_in_namespace(part);
            }
            "serve-supervisor" => {
                let directory = directory()?;
                let pid = arguments.next().and_then(|pid| pid.parse().ok());
                let pid = pid.context("the process id of the sandbox is missing")?;
                return bench_packets::serve_supervisor(directory.as_ref(), pid);
            }
            "serve-probe" => return probe::serve(),
            "start-client" => return bench_containers::run_start_client(directory()?.as_ref()),
            "container-rows" => containers_only = true,
            "dialed-rows" => dialed_only = true,
            "packet-rows" => packets_only = true,
            "--json" => report.json = true,
            "--quick" => quick = true,
            "--help" | "-h" => {
                report::print_text(USAGE);
                return Ok(());
            }
            option if option.starts_with('-') => bail!("unknown option {option:?}\n\n{USAGE}"),
            row => report.name_filters.push(row.to_owned()),
        }
    }
    let part = if quick { 10 } else { 1 };
    if packets_only {
        return bench_packets::measure(&mut report, part);
    }
    if dialed_only {
        return bench_dialed::measure_in_namespace(&report, part);
    }
    if containers_only {
        return bench_containers::measure_in_namespaces(&report, part);
    }
    report.print_header();
    bench_hub::measure(&mut report, part)?;
    bench_screen::measure(&report, part)?;
    bench_popups::measure(&report, part)?;
    bench_watch::measure(&report, part)?;
    bench_record::measure(&report, part)?;
    bench_rules::measure(&report, part)?;
    bench_shield::measure(&report, part)?;
    bench_dialed::measure(&report)?;
    bench_containers::measure(&report)?;
    let mut again = vec!["packet-rows".to_owned()];
    again.extend(std::env::args().skip(1));
    let status = bench_netns::run_in_namespaces(&again)?;
    ensure!(
        status.success(),
        "measuring the rows about packets failed: {status}"
    );
    Ok(())
}
