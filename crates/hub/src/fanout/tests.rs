// SPDX-License-Identifier: Apache-2.0
//! Subscribers of every speed receive every pending question.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use proptest::prelude::*;
use terok_clearance::wire::{clearance1, clearance2};
use terok_clearance::{BlockedPacket, Dossier, NetworkZone, Protocol, Timestamp};

use super::*;
use crate::ScopeSupport;

/// A socket with a limited buffer.
#[derive(Debug, Clone)]
struct MemorySocket(Rc<RefCell<MemorySocketBuffer>>);

#[derive(Debug)]
struct MemorySocketBuffer {
    bytes: Vec<u8>,
    capacity: usize,
    broken: bool,
}

impl FrameSink for MemorySocket {
    fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        let mut buffer = self.0.borrow_mut();
        if buffer.broken {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        let free = buffer.capacity.saturating_sub(buffer.bytes.len());
        if free == 0 {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let accepted = bytes.get(..free).unwrap_or(bytes);
        buffer.bytes.extend_from_slice(accepted);
        Ok(accepted.len())
    }
}

/// A subscriber: its socket, and the bytes that it has read.
struct TestSubscriber {
    socket: MemorySocket,
    id: SubscriberId,
    read: Vec<u8>,
}

impl TestSubscriber {
    fn new(harness: &mut FanoutHarness, interface: ClearanceInterface, capacity: usize) -> Self {
        let buffer = MemorySocketBuffer {
            bytes: Vec::new(),
            capacity,
            broken: false,
        };
        let socket = MemorySocket(Rc::new(RefCell::new(buffer)));
        let wake = Arc::new(Notify::new());
        let FanoutHarness { ledger, fanout, .. } = harness;
        let id = fanout.subscribe(interface, socket.clone(), wake, ledger);
        Self {
            socket,
            id,
            read: Vec::new(),
        }
    }

    /// Reads the current contents of the socket.
    fn read(&mut self) {
        self.read.append(&mut self.socket.0.borrow_mut().bytes);
    }

    /// Reads until the subscriber has received everything.
    fn catch_up(&mut self, harness: &mut FanoutHarness) {
        loop {
            self.read();
            match harness.fanout.flush_to(self.id, &harness.ledger) {
                FlushStatus::Idle if self.socket.0.borrow().bytes.is_empty() => return,
                FlushStatus::Idle | FlushStatus::Blocked | FlushStatus::TurnOver => {}
                FlushStatus::Closed(error) => panic!("{error}"),
            }
        }
    }

    fn frames<T: serde::de::DeserializeOwned>(&self) -> Vec<T> {
        #[derive(serde::Deserialize)]
        struct StreamReply<T> {
            parameters: T,
            continues: bool,
        }
        let frame = |frame: &[u8]| {
            let reply: StreamReply<T> = serde_json::from_slice(frame)
                .unwrap_or_else(|e| panic!("{e}: {}", String::from_utf8_lossy(frame)));
            assert!(reply.continues);
            reply.parameters
        };
        let frames = self.read.strip_suffix(b"\0").unwrap_or_default();
        let frames = frames.split(|byte| *byte == 0);
        frames.filter(|f| !f.is_empty()).map(frame).collect()
    }

    fn clearance1_events(&self) -> Vec<clearance1::ClearanceEvent> {
        #[derive(serde::Deserialize)]
        struct Clearance1StreamParameters {
            event: clearance1::ClearanceEvent,
        }
        let events = self.frames::<Clearance1StreamParameters>().into_iter();
        events.map(|p| p.event).collect()
    }

    fn clearance2_events(&self) -> Vec<(u64, clearance2::Event)> {
        let events = self
            .frames::<clearance2::Clearance2SubscribeReply>()
            .into_iter();
        events
            .map(|p| (p.event.seq, p.event.event.expect("a known kind")))
            .collect()
    }

    /// Returns the questions that a Clearance2 client considers pending, with the counts.
    fn known_pending(&self) -> BTreeMap<String, u64> {
        let mut pending = BTreeMap::new();
        let mut unconfirmed = BTreeMap::new();
        let mut seq = 0;
        for (number, event) in self.clearance2_events() {
            assert!(number >= seq, "{number} after {seq}");
            seq = number;
            match event {
                clearance2::Event::Pending(r) => {
                    assert!(
                        pending.insert(r.id.to_string(), r.count).is_none(),
                        "{} is new once",
                        r.id
                    );
                }
                // A question that was answered before the snapshot reached it may appear only as
                // `Repeated`.
                clearance2::Event::Repeated(r) => {
                    pending.insert(r.id.to_string(), r.count);
                }
                clearance2::Event::Decided(d) => {
                    pending.remove(d.request.as_str());
                }
                clearance2::Event::Withdrawn { request, .. } => {
                    pending.remove(request.id.as_str());
                }
                clearance2::Event::Lost { reason, lost } if reason.as_str() == "slow" => {
                    assert!(lost > 0);
                    unconfirmed.append(&mut pending);
                }
                clearance2::Event::Synced => unconfirmed.clear(),
                _ => {}
            }
        }
        assert!(unconfirmed.is_empty(), "a resync ends with synced");
        pending
    }
}

struct FanoutHarness {
    ledger: Ledger,
    fanout: EventFanout<MemorySocket>,
    packets: u64,
}

impl FanoutHarness {
    fn new(backlog: usize) -> Self {
        Self {
            ledger: Ledger::new(10_000, ScopeSupport::with_ports(true)),
            fanout: EventFanout::new(Clearance1Dialect::D, backlog),
            packets: 0,
        }
    }

    /// Publishes one packet to a port.
    fn block(&mut self, port: u16) {
        self.packets += 1;
        let blocked = BlockedPacket {
            container: "c".parse().unwrap(),
            request: format!("c:{}", self.packets).parse().unwrap(),
            address: "192.0.2.1".parse().unwrap(),
            port,
            protocol: Protocol::TCP,
            domain: None,
            dossier: Dossier::default(),
            process: None,
            zone: NetworkZone::Public,
            looked_up_as: None,
            previous: None,
            reason: None,
        };
        let recorded = self.ledger.record(blocked, Timestamp::UNIX_EPOCH);
        let question = self.ledger.question(recorded.number).unwrap();
        let event = if recorded.is_new {
            HubEvent::Pending(question)
        } else {
            HubEvent::Repeated(question)
        };
        self.fanout.publish(&self.ledger, &event);
        self.fanout.flush(&self.ledger);
    }

    /// Dismisses the question about a port, if there is one.
    fn dismiss(&mut self, port: u16) {
        let request = self
            .ledger
            .pending_after(0)
            .find(|(_, question)| question.port() == port)
            .map(|(_, question)| question.id().to_string());
        let Some(request) = request else { return };
        let asked = crate::ledger::QuestionTriple {
            request: &request,
            container: "c",
            dest: "192.0.2.1",
        };
        let answered = self
            .ledger
            .dismiss(asked, "me".into(), Timestamp::UNIX_EPOCH)
            .unwrap();
        let event = HubEvent::Decided(&answered);
        self.fanout.publish(&self.ledger, &event);
        self.fanout.flush(&self.ledger);
    }

    fn clear(&mut self) {
        for withdrawn in self.ledger.withdraw_all() {
            let event = HubEvent::Withdrawn(withdrawn.question(), "exited");
            self.fanout.publish(&self.ledger, &event);
        }
        self.fanout.flush(&self.ledger);
    }

    fn pending(&self) -> BTreeMap<String, u64> {
        let all = self.ledger.pending_after(0);
        all.map(|(_, q)| (q.id().to_string(), q.count())).collect()
    }
}

const CLEARANCE1: ClearanceInterface = ClearanceInterface::Clearance1(Clearance1Dialect::D);
const CLEARANCE2: ClearanceInterface = ClearanceInterface::Clearance2;
/// The size of a socket that accepts everything.
const UNLIMITED: usize = usize::MAX;

#[test]
fn a_late_subscriber_receives_the_pending_questions() {
    let mut harness = FanoutHarness::new(MAX_BACKLOG_BYTES);
    harness.block(1);
    harness.block(2);
    harness.dismiss(1);
    let mut reader2 = TestSubscriber::new(&mut harness, CLEARANCE2, UNLIMITED);
    let mut reader1 = TestSubscriber::new(&mut harness, CLEARANCE1, UNLIMITED);
    harness.block(3);
    reader2.catch_up(&mut harness);
    reader1.catch_up(&mut harness);
    let kinds: Vec<_> = reader2
        .clearance2_events()
        .into_iter()
        .map(|(_, e)| e)
        .collect();
    assert!(matches!(
        &kinds[..],
        [
            clearance2::Event::Pending(a),
            clearance2::Event::Synced,
            clearance2::Event::Pending(b),
        ] if a.port == 2 && b.port == 3
    ));
    let ports: Vec<_> = reader1
        .clearance1_events()
        .iter()
        .map(|event| event.port)
        .collect();
    assert_eq!(ports, [2, 3]);
}

#[test]
fn a_subscriber_that_keeps_up_leaves_the_log_empty() {
    let mut harness = FanoutHarness::new(MAX_BACKLOG_BYTES);
    let mut reader2 = TestSubscriber::new(&mut harness, CLEARANCE2, UNLIMITED);
    reader2.catch_up(&mut harness);
    for n in 0..5_000 {
        harness.block(n);
        reader2.read();
    }
    assert_eq!(harness.fanout.clearance2.log.stored_bytes(), 0);
    assert_eq!(reader2.known_pending().len(), 5_000);
}

#[test]
fn without_subscribers_the_log_stays_empty() {
    let mut harness = FanoutHarness::new(MAX_BACKLOG_BYTES);
    let mut reader2 = TestSubscriber::new(&mut harness, CLEARANCE2, 10);
    harness.block(1);
    harness.fanout.unsubscribe(reader2.id);
    harness.block(2);
    assert_eq!(
        (
            harness.fanout.len(),
            harness.fanout.clearance2.log.stored_bytes()
        ),
        (0, 0)
    );
    reader2.read();
    let mut again = TestSubscriber::new(&mut harness, CLEARANCE2, UNLIMITED);
    again.catch_up(&mut harness);
    assert_eq!(again.known_pending().len(), 2);
}

#[test]
fn a_stuck_subscriber_keeps_a_bounded_log_and_then_receives_the_pending_questions() {
    let backlog = 256 << 10;
    for interface in [CLEARANCE1, CLEARANCE2] {
        let mut harness = FanoutHarness::new(backlog);
        let mut stuck = TestSubscriber::new(&mut harness, interface, 10_000);
        let mut quick = TestSubscriber::new(&mut harness, CLEARANCE2, UNLIMITED);
        stuck.catch_up(&mut harness);
        quick.catch_up(&mut harness);
        for n in 0..9_000 {
            harness.block(n);
            assert!(
                harness.fanout.clearance1.log.stored_bytes()
                    <= backlog + (3 * SNAPSHOT_CHUNK_BYTES)
            );
            assert!(
                harness.fanout.clearance2.log.stored_bytes()
                    <= backlog + (3 * SNAPSHOT_CHUNK_BYTES)
            );
        }
        for n in 0..4_500 {
            harness.dismiss(n);
        }
        quick.read();
        assert_eq!(
            quick.known_pending(),
            harness.pending(),
            "the other subscriber has every event"
        );
        stuck.catch_up(&mut harness);
        if interface == CLEARANCE2 {
            assert_eq!(stuck.known_pending(), harness.pending());
            let lost =
                |(_, e): &(u64, clearance2::Event)| matches!(e, clearance2::Event::Lost { .. });
            assert!(
                stuck.clearance2_events().iter().any(lost),
                "the subscriber receives the number of skipped events"
            );
        } else {
            let mut ids: Vec<_> = stuck
                .clearance1_events()
                .iter()
                .map(|e| e.request_id.to_string())
                .collect();
            ids.sort_unstable();
            let all = ids.len();
            ids.dedup();
            assert_eq!(ids.len(), all, "no question is sent twice");
            for id in harness.pending().keys() {
                assert!(
                    ids.binary_search(id).is_ok(),
                    "{id} is pending and was not sent"
                );
            }
        }
        assert_eq!(
            harness.fanout.clearance1.log.stored_bytes()
                + harness.fanout.clearance2.log.stored_bytes(),
            0
        );
    }
}

#[test]
fn a_broken_socket_is_detected_by_the_next_write() {
    let mut harness = FanoutHarness::new(MAX_BACKLOG_BYTES);
    let mut reader = TestSubscriber::new(&mut harness, CLEARANCE1, UNLIMITED);
    reader.catch_up(&mut harness);
    reader.socket.0.borrow_mut().broken = true;
    harness.block(1);
    assert!(matches!(
        harness.fanout.flush_to(reader.id, &harness.ledger),
        FlushStatus::Closed(_)
    ));
}

#[test]
fn a_repeated_packet_has_the_readers_id_in_clearance1() {
    let mut harness = FanoutHarness::new(MAX_BACKLOG_BYTES);
    let mut reader1 = TestSubscriber::new(&mut harness, CLEARANCE1, UNLIMITED);
    let mut reader2 = TestSubscriber::new(&mut harness, CLEARANCE2, UNLIMITED);
    for _ in 0..2 {
        harness.block(7);
        reader1.catch_up(&mut harness);
        reader2.catch_up(&mut harness);
    }
    let ids: Vec<_> = reader1
        .clearance1_events()
        .iter()
        .map(|e| e.request_id.to_string())
        .collect();
    assert_eq!(ids, ["c:1", "c:2"]);
    assert_eq!(
        reader2.known_pending(),
        BTreeMap::from([("c:1".to_owned(), 2)])
    );
}

#[derive(Debug, Clone)]
enum FanoutStep {
    Block(u16),
    Burst(u16, u16),
    Dismiss(u16),
    Clear,
    Read(usize),
    Flush(usize),
    Join(bool, usize),
    Leave(usize),
}

fn step() -> impl Strategy<Value = FanoutStep> {
    prop_oneof![
        8 => (0..400_u16).prop_map(FanoutStep::Block),
        3 => (0..400_u16, 1..300_u16).prop_map(|(from, len)| FanoutStep::Burst(from, len)),
        4 => (0..400_u16).prop_map(FanoutStep::Dismiss),
        1 => Just(FanoutStep::Clear),
        4 => (0..4_usize).prop_map(FanoutStep::Read),
        4 => (0..4_usize).prop_map(FanoutStep::Flush),
        1 => (any::<bool>(), 1..40_000_usize).prop_map(|(is_clearance2, capacity)| FanoutStep::Join(is_clearance2, capacity)),
        1 => (0..4_usize).prop_map(FanoutStep::Leave),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]
    #[test]
    fn every_subscriber_receives_all_pending_questions(
        steps in prop::collection::vec(step(), 1..80),
    ) {
        // A backlog so small that subscribers skip events again and again.
        let mut harness = FanoutHarness::new(SNAPSHOT_CHUNK_BYTES);
        let mut readers: Vec<(TestSubscriber, bool)> = Vec::new();
        for (is_clearance2, capacity) in [(true, 20_000), (false, 20_000), (true, 1)] {
            let interface = if is_clearance2 { CLEARANCE2 } else { CLEARANCE1 };
            readers.push((TestSubscriber::new(&mut harness, interface, capacity), is_clearance2));
        }
        for step in steps {
            match step {
                FanoutStep::Block(n) => harness.block(n),
                FanoutStep::Burst(from, len) => (from..from + len).for_each(|n| harness.block(n)),
                FanoutStep::Dismiss(n) => harness.dismiss(n),
                FanoutStep::Clear => harness.clear(),
                FanoutStep::Read(which) => {
                    if let Some((reader, _)) = readers.get_mut(which) {
                        reader.read();
                    }
                }
                FanoutStep::Flush(which) => {
                    if let Some((reader, _)) = readers.get_mut(which) {
                        drop(harness.fanout.flush_to(reader.id, &harness.ledger));
                    }
                }
                FanoutStep::Join(is_clearance2, capacity) => {
                    let interface = if is_clearance2 { CLEARANCE2 } else { CLEARANCE1 };
                    readers.push((TestSubscriber::new(&mut harness, interface, capacity), is_clearance2));
                }
                FanoutStep::Leave(which) => {
                    if which < readers.len() {
                        let (reader, _) = readers.remove(which);
                        harness.fanout.unsubscribe(reader.id);
                    }
                }
            }
        }
        for (reader, is_clearance2) in &mut readers {
            reader.catch_up(&mut harness);
            if *is_clearance2 {
                prop_assert_eq!(reader.known_pending(), harness.pending());
            } else {
                let received: std::collections::BTreeSet<_> =
                    reader.clearance1_events().iter().map(|e| e.request_id.to_string()).collect();
                for (_, question) in harness.ledger.pending_after(0) {
                    let is_received = question.ids().any(|name| received.contains(name.as_str()));
                    prop_assert!(is_received, "{} was not sent", question.id());
                }
            }
        }
        prop_assert_eq!(harness.fanout.clearance1.log.stored_bytes() + harness.fanout.clearance2.log.stored_bytes(), 0);
    }
}
