// SPDX-License-Identifier: Apache-2.0
//! The shield, compared with the bare netlink transaction: the same bytes, sent and acknowledged,
//! without planning, state or verification.

use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::OwnedFd;
use std::process::Command;

use anyhow::{Context as _, ensure};
use rustix::net::{RecvFlags, SendFlags, recv, send};
use shield::{NftShield, Policy, bench_support as bytes};
use terok_clearance::{Protocol, Scope, Target};

use crate::latency_samples::{LatencySamples, SpanTimer};
use crate::report::{BenchGoal, BenchReport, BenchRow, print_text};

const ELEMENT_ROW: &str = "answer to set element (native)";
const PORT_ELEMENT_ROW: &str = "answer for one port to set element (native)";
const RULESET_ROW: &str = "whole ruleset in force and verified";

/// Measures every row about the shield in a private network namespace.
pub(crate) fn measure(report: &BenchReport, part: usize) -> anyhow::Result<()> {
    if ![ELEMENT_ROW, PORT_ELEMENT_ROW, RULESET_ROW]
        .iter()
        .any(|row| report.includes(row))
    {
        return Ok(());
    }
    let ours = std::env::current_exe().context("finding the path of this program")?;
    let output = Command::new("unshare")
        .args(["--user", "--map-root-user", "--net", "--"])
        .arg(ours)
        .args(["measure-shield", &part.to_string()])
        .output()
        .context("starting unshare, of util-linux")?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(
        output.status.success(),
        "measuring the shield failed: {said}"
    );
    for line in String::from_utf8_lossy(&output.stdout).lines() {
        let [name, percent, ours, floor] = line.split('\t').collect::<Vec<_>>()[..] else {
            continue;
        };
        if !report.includes(name) {
            continue;
        }
        let goal = if percent == "50" && name != RULESET_ROW {
            BenchGoal::TimesFloor(3.0)
        } else {
            BenchGoal::None
        };
        let row = BenchRow::new(
            format!("{name}, p{percent}"),
            "\u{b5}s",
            ours.parse()?,
            goal,
        );
        report.print_row(&BenchRow {
            floor: Some(floor.parse()?),
            ..row
        });
    }
    Ok(())
}

/// Measures in the namespace of this process, and prints a line for each figure.
pub(crate) fn measure_in_namespace(part: usize) -> anyhow::Result<()> {
    let policy = Policy::new([IpAddr::from([10, 0, 2, 3])])?;
    let rounds = u32::try_from(20_000 / part.max(1))?;
    let (mut ours, mut floor) = measure_rulesets(&policy, rounds / 100)?;
    print_figures(RULESET_ROW, &mut ours, &mut floor);
    let mut floor = measure_bare_elements(&policy, rounds)?;
    print_figures(
        ELEMENT_ROW,
        &mut measure_elements(&policy, rounds, None)?,
        &mut floor,
    );
    print_figures(
        PORT_ELEMENT_ROW,
        &mut measure_elements(&policy, rounds, Some(443))?,
        &mut floor,
    );
    Ok(())
}

fn print_figures(name: &str, ours: &mut LatencySamples, floor: &mut LatencySamples) {
    for percent in [50, 99] {
        let (ours, floor) = (ours.percentile_us(percent), floor.percentile_us(percent));
        print_text(&format!("{name}\t{percent}\t{ours:.2}\t{floor:.2}\n"));
    }
}

/// Measures whole rulesets, alternating between shield and floor, because the time that the kernel
/// needs to free the previous ruleset depends on other load on the machine.
fn measure_rulesets(
    policy: &Policy,
    rounds: u32,
) -> anyhow::Result<(LatencySamples, LatencySamples)> {
    let transaction = bytes::ruleset_transaction(policy);
    let (mut ours, mut floor) = (LatencySamples::default(), LatencySamples::default());
    for _ in 0..rounds {
        let socket = shield::open_nftables_socket()?;
        let begin = SpanTimer::start();
        let engaged = NftShield::engage(socket, policy)?;
        ours.push(begin.elapsed());
        drop(engaged);
        let socket = shield::open_nftables_socket()?;
        let begin = SpanTimer::start();
        send_and_check_ack(&socket, &transaction)?;
        floor.push(begin.elapsed());
    }
    Ok((ours, floor))
}

fn measure_elements(
    policy: &Policy,
    rounds: u32,
    port: Option<u16>,
) -> anyhow::Result<LatencySamples> {
    let mut shield = NftShield::engage(shield::open_nftables_socket()?, policy)?;
    let mut times = LatencySamples::default();
    for n in 0..rounds {
        let address = test_address(n);
        let scope = Scope {
            port,
            protocol: port.map(|_| Protocol::TCP),
            ..Scope::whole_dest(address.into())
        };
        let target = Target::Address(address);
        let now = SpanTimer::start();
        shield.allow(&target, &scope, now.started_at())?;
        times.push(now.elapsed());
    }
    Ok(times)
}

pub(crate) fn measure_bare_elements(
    policy: &Policy,
    rounds: u32,
) -> anyhow::Result<LatencySamples> {
    drop(NftShield::engage(shield::open_nftables_socket()?, policy)?);
    let socket = shield::open_nftables_socket()?;
    let mut times = LatencySamples::default();
    for n in 0..rounds {
        let transaction =
            bytes::element_transaction(test_address(n), SpanTimer::start().started_at());
        let begin = SpanTimer::start();
        send_and_check_ack(&socket, &transaction)?;
        times.push(begin.elapsed());
    }
    Ok(times)
}

/// Returns address number `n` of a range without special treatment in the firewall.
fn test_address(n: u32) -> IpAddr {
    Ipv4Addr::from_bits(0xc612_0000 + n).into()
}

fn send_and_check_ack(socket: &OwnedFd, transaction: &[u8]) -> anyhow::Result<()> {
    send(socket, transaction, SendFlags::empty())?;
    let mut answer = [0; 1024];
    let (length, _) = recv(socket, &mut answer[..], RecvFlags::DONTWAIT)?;
    // An acknowledgement is an error message with the code 0.
    ensure!(
        length >= 20 && answer[16..20] == [0; 4],
        "the kernel refused the transaction"
    );
    Ok(())
}
