// SPDX-License-Identifier: Apache-2.0
//! Cost per packet log message, stage by stage.
#![expect(clippy::unwrap_used, reason = "a failed benchmark panics")]

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use terok_clearance::Dossier;
use terok_clearance_reader::dns::DnsAnswer;
use terok_clearance_reader::packet::{NflogMessage, netlink_messages};
use terok_clearance_reader::{ClassifiedPacket, DnsCache, PacketClassifier};
use tokio::time::Instant;

/// The fuzz seeds are real messages of the kernel and of resolvers.
macro_rules! seed {
    ($name:literal) => {
        include_bytes!(concat!("../../../fuzz/seeds/", $name))
    };
}

fn packet(c: &mut Criterion) {
    let mut group = c.benchmark_group("packet");
    group.throughput(Throughput::Elements(1));
    for (name, datagram) in [
        ("IPv4, TCP", seed!("packet/tcp4").as_slice()),
        ("IPv6, extension headers", seed!("packet/extensions6")),
    ] {
        group.bench_function(name, |b| {
            b.iter(|| {
                let message = netlink_messages(black_box(datagram)).next().unwrap();
                black_box(NflogMessage::parse(message).unwrap());
            });
        });
    }
    group.finish();
}

fn dns(c: &mut Criterion) {
    let mut group = c.benchmark_group("dns");
    group.throughput(Throughput::Elements(1));
    let message = seed!("dns/alias");
    group.bench_function("parse an answer with an alias", |b| {
        b.iter(|| black_box(DnsAnswer::parse(black_box(message)).unwrap()));
    });
    let answer = DnsAnswer::parse(message).unwrap();
    group.bench_function("cache an answer", |b| {
        let (mut names, now) = (DnsCache::default(), Instant::now());
        b.iter(|| names.insert_answer(black_box(&answer), now));
    });
    group.bench_function("look up a name", |b| {
        let (mut names, now) = (DnsCache::default(), Instant::now());
        names.insert_answer(&answer, now);
        let (address, _) = *answer.addresses.first().unwrap();
        b.iter(|| black_box(names.find_name(black_box(address), now).unwrap()));
    });
    group.finish();
}

fn classifier(c: &mut Criterion) {
    let mut group = c.benchmark_group("classifier");
    group.throughput(Throughput::Elements(1));
    let message = seed!("packet/tcp4");
    group.bench_function("logged packet to event", |b| {
        let container = "3f2a9c0d1e4b".parse().unwrap();
        let mut classifier = PacketClassifier::new(container, Dossier::default(), 1);
        let now = Instant::now();
        b.iter(|| {
            let log = NflogMessage::parse(black_box(message)).unwrap();
            let ClassifiedPacket::Question(question, _) = classifier.classify(&log, now) else {
                return;
            };
            black_box(question);
        });
    });
    group.finish();
}

criterion_group!(benches, packet, dns, classifier);
criterion_main!(benches);
