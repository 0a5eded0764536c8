// SPDX-License-Identifier: Apache-2.0
//! The costs of encoding and parsing one event and one call.
#![expect(clippy::unwrap_used, reason = "a benchmark")]

use std::hint::black_box;
use std::sync::Arc;

use bytes::BytesMut;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use terok_clearance::varlink::{FrameCodec, VarlinkCall};
use terok_clearance::wire::clearance1::{self, Clearance1Dialect, ClearanceEventRef};
use terok_clearance::wire::clearance2::{self, Event, Request};
use terok_clearance::{BlockedPacket, NetworkZone, Protocol, Scope, Timestamp};
use tokio_util::codec::Decoder as _;

fn blocked() -> BlockedPacket {
    let dossier = [
        ("project", "terok"),
        ("task", "17"),
        ("name", "fix the build"),
    ];
    let dossier = dossier.map(|(key, value)| (key.into(), value.into()));
    BlockedPacket {
        container: "0123456789ab".parse().unwrap(),
        request: "0123456789ab:123456".parse().unwrap(),
        address: "203.0.113.7".parse().unwrap(),
        port: 443,
        protocol: Protocol::TCP,
        domain: Some("api.example.com".parse().unwrap()),
        dossier: Arc::new(dossier.into()),
        process: None,
        zone: NetworkZone::Public,
        looked_up_as: None,
        previous: None,
        reason: None,
    }
}

fn events(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("event to frame");
    group.throughput(Throughput::Elements(1));
    let blocked = blocked();
    let mut out = Vec::with_capacity(1 << 16);
    group.bench_function("clearance1", |bencher| {
        bencher.iter(|| {
            out.clear();
            ClearanceEventRef::Blocked(black_box(&blocked))
                .append_frame(Clearance1Dialect::D, &mut out);
            out.len()
        });
    });
    let scope = Scope::whole_dest(blocked.dest().clone());
    let event = Event::Pending(Arc::new(Request::new(
        blocked,
        scope,
        Timestamp::from_micros(1_700_000_000_000_000),
    )));
    group.bench_function("clearance2", |bencher| {
        bencher.iter(|| {
            out.clear();
            black_box(&event).append_frame(7, &mut out);
            out.len()
        });
    });
    group.finish();
}

fn frames(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("bytes to frames");
    let frame = br#"{"method":"org.terok.Clearance1.Verdict","parameters":{"container":"0123456789ab","request_id":"0123456789ab:1","dest":"api.example.com","action":"allow"}}"#;
    let mut many = Vec::new();
    for _ in 0..1000 {
        many.extend_from_slice(frame);
        many.push(0);
    }
    group.throughput(Throughput::Elements(1000));
    group.bench_function("1000 frames at once", |bencher| {
        bencher.iter(|| {
            let mut codec = FrameCodec::new(1 << 20);
            let mut bytes = BytesMut::from(many.as_slice());
            let mut count = 0;
            while codec.decode(&mut bytes).unwrap().is_some() {
                count += 1;
            }
            count
        });
    });
    group.throughput(Throughput::Bytes(1 << 20));
    group.bench_function("1 MiB in pieces of 512 bytes", |bencher| {
        let piece = [b'a'; 512];
        bencher.iter(|| {
            let mut codec = FrameCodec::new(1 << 20);
            let mut bytes = BytesMut::new();
            for _ in 0..2048 {
                bytes.extend_from_slice(&piece);
                assert!(codec.decode(&mut bytes).unwrap().is_none());
            }
            bytes.len()
        });
    });
    group.throughput(Throughput::Elements(1));
    group.bench_function("a verdict parsed", |bencher| {
        bencher.iter(|| {
            let call = VarlinkCall::parse(black_box(frame)).unwrap();
            clearance1::Clearance1Method::parse(&call).unwrap()
        });
    });
    group.finish();
}

fn replies(criterion: &mut Criterion) {
    let blocked = blocked();
    let scope = Scope::whole_dest(blocked.dest().clone());
    let event = Event::Pending(Arc::new(Request::new(
        blocked,
        scope,
        Timestamp::UNIX_EPOCH,
    )));
    let mut out = Vec::new();
    event.append_frame(7, &mut out);
    let text = std::str::from_utf8(&out).unwrap().trim_end_matches('\0');
    let text = text
        .strip_prefix(r#"{"continues":true,"parameters":"#)
        .unwrap();
    let text = text.strip_suffix('}').unwrap().to_owned();
    criterion.bench_function("event received by a client", |bencher| {
        bencher.iter(|| {
            serde_json::from_str::<clearance2::Clearance2SubscribeReply>(black_box(&text)).unwrap()
        });
    });
}

criterion_group!(benches, events, frames, replies);
criterion_main!(benches);
