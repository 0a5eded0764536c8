// SPDX-License-Identifier: Apache-2.0
//! A supervisor killed at any moment leaves the sandbox default-deny.
//!
//! The supervisor is a separate process: this program, started again with `supervisor_process`. The
//! sandbox is the test's own network namespace.
#![expect(clippy::disallowed_methods, clippy::unwrap_used, reason = "a test")]

use std::collections::BTreeSet;
use std::io::{self, BufRead as _, BufReader};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use netns::ProcessHandle;
use netns_tests::internet::{Internet, tcp};
use serde_json::Value;
use shield::Policy;
use supervisor::{DossierSource, HoldLimit, NameAccess, Supervisor, SupervisorConfig};
use tempfile::TempDir;
use terok_clearance::DecisionAction;
use terok_clearance::client::{Client, StreamUpdate};
use terok_clearance::socket::RuntimeDir;
use terok_clearance::wire::clearance2::Event;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

/// An address that is never allowed.
const NEVER: &str = "203.0.113.250";
const RUNTIME: &str = "TEROK_TEST_RUNTIME";
const READY: &str = "the supervisor is ready at ";

#[tokio::test]
#[ignore = "started and killed by the other tests of this file"]
async fn supervisor_process() {
    let config = SupervisorConfig {
        container: "box".parse().unwrap(),
        dossier: DossierSource::default(),
        processes: ProcessHandle::open(std::os::unix::process::parent_id())
            .unwrap()
            .into(),
        names: NameAccess::Resolvers(policy()),
        allowed_dests: Vec::new(),
        hold: HoldLimit::Refuse,
        allow_capabilities: true,
        runtime_dir: RuntimeDir::new(std::env::var_os(RUNTIME).unwrap()),
        journal: None,
    };
    let supervisor = Supervisor::start(config).unwrap();
    println!("{READY}{}", supervisor.hub_path().display());
    supervisor.serve(CancellationToken::new()).await.unwrap();
}

fn policy() -> Policy {
    Policy::new(["198.51.100.53".parse::<IpAddr>().unwrap()]).unwrap()
}

struct Killable {
    child: Child,
    lines: io::Lines<BufReader<std::process::ChildStdout>>,
}

impl Killable {
    fn spawn(runtime: &Path) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "supervisor_process", "--ignored", "--nocapture"])
            .env(RUNTIME, runtime)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Self { child, lines }
    }

    /// Waits until the supervisor is ready, and returns the path of its hub.
    fn hub(&mut self) -> PathBuf {
        loop {
            let line = self.lines.next().unwrap().unwrap();
            if let Some((_, path)) = line.split_once(READY) {
                return path.into();
            }
        }
    }

    fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

/// Pseudo-random durations, equal in every run.
struct RandomDelays(u64);

impl RandomDelays {
    fn below(&mut self, limit: Duration) -> Duration {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        let limit = u64::try_from(limit.as_micros()).unwrap();
        Duration::from_micros(self.0 % limit.max(1))
    }
}

/// Returns the ruleset as listed by `nft` without variable parts: handles, counters, and elements
/// of sets with timeouts.
fn ruleset() -> Vec<Value> {
    fn strip(value: &mut Value) {
        match value {
            Value::Object(object) => {
                let orders = object
                    .get("flags")
                    .is_some_and(|f| f.to_string().contains("timeout"));
                object.retain(|key, _| {
                    let variable = matches!(key.as_str(), "handle" | "packets" | "bytes");
                    !(variable || orders && key == "elem")
                });
                object.values_mut().for_each(strip);
            }
            Value::Array(array) => array.iter_mut().for_each(strip),
            _ => {}
        }
    }
    let output = Command::new("nft")
        .args(["-j", "list", "ruleset"])
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    let mut rules: Value = serde_json::from_slice(&output.stdout).unwrap();
    strip(&mut rules);
    let rules = rules["nftables"].as_array().unwrap();
    rules
        .iter()
        .filter(|entry| entry.get("metainfo").is_none())
        .cloned()
        .collect()
}

/// Returns every address in the sets of allow orders.
fn allowed() -> BTreeSet<String> {
    let output = Command::new("nft")
        .args(["-j", "list", "sets"])
        .output()
        .unwrap();
    let sets: Value = serde_json::from_slice(&output.stdout).unwrap();
    let sets = sets["nftables"].as_array().unwrap();
    let allow = sets.iter().filter(|entry| {
        entry["set"]["name"]
            .as_str()
            .is_some_and(|name| name.starts_with("allow"))
    });
    allow
        .flat_map(|entry| addresses(&entry["set"]["elem"]))
        .collect()
}

fn addresses(value: &Value) -> Vec<String> {
    match value {
        Value::String(text) if text.parse::<IpAddr>().is_ok() => vec![text.clone()],
        Value::Array(array) => array.iter().flat_map(addresses).collect(),
        Value::Object(object) => object.values().flat_map(addresses).collect(),
        _ => Vec::new(),
    }
}

#[track_caller]
fn refused(address: &str) {
    let error = tcp(address, 443).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused, "{address}");
}

#[test]
fn killed_during_the_setup() {
    let _internet = Internet::start();
    let runtime = TempDir::new().unwrap();

    #[expect(
        clippy::disallowed_methods,
        reason = "measures the duration of a start"
    )]
    let start = std::time::Instant::now();
    let mut whole = Killable::spawn(runtime.path());
    whole.hub();
    let setup_time = start.elapsed();
    let expected = ruleset();
    whole.kill();
    assert!(ruleset() == expected);
    refused(NEVER);

    let mut delays = RandomDelays(0x9e37_79b9_7f4a_7c15);
    let mut guarded = 0;
    for round in 0..40 {
        // Alternately on a sandbox without rules and on a guarded one.
        let fresh = round % 2 == 0;
        if !fresh && ruleset().is_empty() {
            let mut whole = Killable::spawn(runtime.path());
            whole.hub();
            whole.kill();
        }
        if fresh {
            let flushed = Command::new("nft")
                .args(["flush", "ruleset"])
                .status()
                .unwrap();
            assert!(flushed.success());
        }
        let supervisor = Killable::spawn(runtime.path());
        thread::sleep(delays.below(setup_time * 5 / 4));
        supervisor.kill();
        let left = ruleset();
        if fresh && left.is_empty() {
            // The workload has not started, because `start` had not returned. The number of such
            // rounds depends on the scheduler.
            continue;
        }
        guarded += 1;
        assert_eq!(left, expected, "in round {round}");
        refused(NEVER);
    }
    assert!(
        guarded >= 20,
        "rounds that ended with a complete ruleset: {guarded}"
    );
}

#[tokio::test]
async fn killed_during_a_storm_of_verdicts() {
    let _internet = Internet::start();
    let runtime = TempDir::new().unwrap();
    let mut first = Killable::spawn(runtime.path());
    first.hub();
    let expected = ruleset();
    first.kill();

    // The workload constantly tries forbidden and new destinations.
    let done = Arc::new(AtomicBool::new(false));
    let workload = thread::spawn({
        let done = Arc::clone(&done);
        move || {
            for n in 0_u32.. {
                if done.load(Ordering::Relaxed) {
                    return;
                }
                refused(NEVER);
                // Recent questions are not repeated, so every other packet has a new destination.
                let port = if n % 2 == 0 {
                    443
                } else {
                    1024 + n / 200 % 60_000
                };
                let address = format!("203.0.113.{}", n / 2 % 200);
                drop(tcp(&address, port.try_into().unwrap()));
            }
        }
    });

    let mut delays = RandomDelays(0x2545_f491_4f6c_dd1d);
    let mut decided = BTreeSet::new();
    // On a loaded machine a round decides less; the rounds go on until enough is decided.
    for round in 0_u32.. {
        if round >= 15 && allowed().len() > 100 {
            break;
        }
        let mut supervisor = Killable::spawn(runtime.path());
        let hub = supervisor.hub();
        // Longer rounds, until enough is decided between two kills on a loaded machine.
        let longest = Duration::from_millis(120) * (1 + round / 15);
        let until = Instant::now() + delays.below(longest);
        let storm = async {
            let (client, mut events) = Client::start(hub).await.unwrap();
            loop {
                let StreamUpdate::Event(Event::Pending(request)) = events.next().await else {
                    continue;
                };
                if request.address.as_str() != NEVER {
                    // Recorded before sending: the decision may take effect without a reply.
                    decided.insert(request.address.as_str().to_owned());
                    drop(client.decide(&request, DecisionAction::Allow, None).await);
                }
            }
        };
        let left = until.saturating_duration_since(Instant::now());
        assert!(
            timeout(left, storm).await.is_err(),
            "the storm does not end"
        );
        supervisor.kill();
        let left = ruleset();
        assert!(left == expected, "in round {round}: {left:#?}");
        let open = allowed();
        assert!(open.is_subset(&decided), "{:?}", open.difference(&decided));
    }

    // A last supervisor finds everything in order and works.
    let mut last = Killable::spawn(runtime.path());
    let (client, mut events) = Client::start(last.hub()).await.unwrap();
    let late = "203.0.113.249";
    refused(late);
    let request = loop {
        if let StreamUpdate::Event(Event::Pending(request)) = events.next().await
            && request.address.as_str() == late
        {
            break request;
        }
    };
    client
        .decide(&request, DecisionAction::Allow, None)
        .await
        .unwrap();
    tcp(late, 443).unwrap();
    done.store(true, Ordering::Relaxed);
    workload.join().unwrap();
    assert!(allowed().len() > 100, "{}", allowed().len());
    last.kill();
    refused(NEVER);
    tcp(late, 443).unwrap();
}
