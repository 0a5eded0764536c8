// SPDX-License-Identifier: Apache-2.0
//! The cost of one event in the hub: the line, the ledger and the fan-out.
#![expect(clippy::unwrap_used, reason = "a failed benchmark panics")]

use std::hint::black_box;
use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::thread;

use criterion::{BatchSize, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use terok_clearance::{
    Action, BlockedPacket, Dossier, EnforcementOutcome, NetworkZone, Protocol, SandboxEvent,
    Timestamp, socket,
};
use terok_clearance_hub::ingest::{EventLineParser, LineSplitter, SplitLine};
use terok_clearance_hub::ledger::{Ledger, MAX_PENDING, QuestionTriple, RequestedScope};
use terok_clearance_hub::{Claim, DecisionEnforcer, Hub, HubOptions, ScopeSupport};
use tokio_util::sync::CancellationToken;

const USUAL: &str = r#"{"type":"pending","container":"3f2a9c0d1e4b","id":"3f2a9c0d1e4b:1","dest":"203.0.113.7","port":443,"proto":6,"domain":"api.example.com","dossier":{"project":"demo","task":"t1","name":"bench"},"ts":"2026-11-21T00:00:00+00:00"}"#;

const fn at(micros: u64) -> Timestamp {
    Timestamp::from_micros(micros)
}

fn blocked(n: u32) -> BlockedPacket {
    BlockedPacket {
        container: "3f2a9c0d1e4b".parse().unwrap(),
        request: format!("3f2a9c0d1e4b:{n}").parse().unwrap(),
        address: "203.0.113.7".parse().unwrap(),
        port: 443,
        protocol: Protocol::TCP,
        domain: Some(format!("h{n}.example.com").parse().unwrap()),
        dossier: Dossier::new([("task".into(), "t1".into())].into()),
        process: None,
        zone: NetworkZone::Public,
        looked_up_as: None,
        previous: None,
        reason: None,
    }
}

fn codec(c: &mut Criterion) {
    let mut group = c.benchmark_group("codec");
    group.throughput(Throughput::Elements(1));
    let escaped = USUAL.replace("api.example", r"\u0061pi.example");
    for (name, line) in [("usual line", USUAL), ("line with an escape", &escaped)] {
        let mut parser = EventLineParser::default();
        group.bench_function(name, |b| {
            b.iter(|| parser.parse(black_box(line.as_bytes())).unwrap());
        });
    }
    let batch = format!("{USUAL}\n").repeat(200);
    group.throughput(Throughput::Elements(200));
    group.bench_function("split 200 lines", |b| {
        let mut lines = LineSplitter::new();
        b.iter(|| {
            lines.read_buffer().0.extend_from_slice(batch.as_bytes());
            let mut bytes = 0;
            while let Some(SplitLine::Complete(line)) = lines.next_line() {
                bytes += line.len();
            }
            bytes
        });
    });
    group.finish();
}

fn ledger(c: &mut Criterion) {
    let mut group = c.benchmark_group("ledger");
    group.throughput(Throughput::Elements(1));
    for pending in [0, 1_000, 100_000] {
        let mut ledger = Ledger::new(MAX_PENDING, ScopeSupport::with_ports(false));
        for n in 0..pending {
            ledger.record(blocked(n), at(1));
        }
        group.bench_with_input(
            BenchmarkId::new("record, claim and settle", pending),
            &pending,
            |b, n| {
                let id = format!("3f2a9c0d1e4b:{n}");
                let dest = format!("h{n}.example.com");
                let asked = QuestionTriple {
                    request: &id,
                    container: "3f2a9c0d1e4b",
                    dest: &dest,
                };
                b.iter_batched(
                    || blocked(*n),
                    |blocked| {
                        ledger.record(blocked, at(1));
                        let claimed = ledger.claim(
                            asked,
                            Action::Allow,
                            RequestedScope::Default,
                            "me".into(),
                            at(2),
                        );
                        let (order, receipt) = claimed.unwrap();
                        drop(black_box(order));
                        ledger.settle(receipt, &EnforcementOutcome::Applied, at(3))
                    },
                    BatchSize::SmallInput,
                );
            },
        );
    }
    let mut full = Ledger::new(MAX_PENDING, ScopeSupport::with_ports(false));
    let mut n = 0;
    while full.len() < MAX_PENDING {
        n += 1;
        full.record(blocked(n), at(1));
    }
    group.bench_function("record in a full ledger", |b| {
        b.iter_batched(
            || {
                n += 1;
                blocked(n)
            },
            |blocked| full.record(blocked, at(1)),
            BatchSize::SmallInput,
        );
    });
    let mut one = Ledger::new(MAX_PENDING, ScopeSupport::with_ports(false));
    one.record(blocked(0), at(1));
    group.bench_function("record a repeated packet", |b| {
        b.iter_batched(
            || blocked(0),
            |blocked| one.record(blocked, at(1)),
            BatchSize::SmallInput,
        );
    });
    group.finish();
}

struct NoFirewall;

impl DecisionEnforcer for NoFirewall {
    fn supports_ports(&self) -> bool {
        false
    }

    async fn enforce(&self, _: Claim) -> EnforcementOutcome {
        EnforcementOutcome::Applied
    }
}

/// Reports events to a hub with subscribers. Each subscriber's thread shares the CPU with the hub.
fn fanout(c: &mut Criterion) {
    let mut group = c.benchmark_group("fan-out");
    group.throughput(Throughput::Elements(1));
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    for subscribers in [0, 1, 100] {
        let directory = tempfile::TempDir::new().unwrap();
        let path = directory.path().join("run/hub.sock");
        let hub = Hub::new(NoFirewall, HubOptions::default());
        let stop = CancellationToken::new();
        let served = {
            let _inside = runtime.enter();
            let listener = socket::bind(&path).unwrap();
            terok_clearance_hub::serve(Arc::clone(&hub), listener, stop.clone())
        };
        let served = runtime.spawn(served);
        let drains: Vec<_> = (0..subscribers)
            .map(|_| {
                let mut stream = UnixStream::connect(&path).unwrap();
                stream
                    .write_all(b"{\"method\":\"org.terok.Clearance1.Subscribe\",\"more\":true}\0")
                    .unwrap();
                thread::spawn(move || {
                    let mut buffer = vec![0; 1 << 20];
                    while stream.read(&mut buffer).is_ok_and(|read| read > 0) {}
                })
            })
            .collect();
        runtime.block_on(async {
            while hub.subscriber_count() < subscribers {
                tokio::task::yield_now().await;
            }
        });
        group.bench_function(BenchmarkId::new("one event", subscribers), |b| {
            let event = SandboxEvent::Blocked(blocked(0));
            b.iter_custom(|rounds| {
                runtime.block_on(async {
                    let clock = tokio::time::Instant::now();
                    for _ in 0..rounds {
                        hub.report(event.clone());
                        tokio::task::yield_now().await;
                    }
                    clock.elapsed()
                })
            });
        });
        stop.cancel();
        runtime.block_on(served).unwrap().unwrap();
        for drain in drains {
            drain.join().unwrap();
        }
    }
    group.finish();
}

criterion_group!(benches, codec, ledger, fanout);
criterion_main!(benches);
