// SPDX-License-Identifier: Apache-2.0
//! Subscribers that read at every pace, against the one rule: a pending question reaches everybody.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use proptest::prelude::*;
use terok_clearance::wire::{clearance1, clearance2};
use terok_clearance::{BlockedPacket, Dossier, Protocol, Timestamp};

use super::*;

/// A socket with a buffer of a certain size.
#[derive(Debug, Clone)]
struct MemorySocket(Rc<RefCell<MemorySocketBuffer>>);

#[derive(Debug)]
struct MemorySocketBuffer {
    bytes: Vec<u8>,
    room: usize,
    broken: bool,
}

impl FrameSink for MemorySocket {
    fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        let mut buffer = self.0.borrow_mut();
        if buffer.broken {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        let free = buffer.room.saturating_sub(buffer.bytes.len());
        if free == 0 {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let taken = bytes.get(..free).unwrap_or(bytes);
        buffer.bytes.extend_from_slice(taken);
        Ok(taken.len())
    }
}

/// A subscriber's end: its socket, and what it has read.
struct TestSubscriber {
    pipe: MemorySocket,
    id: SubscriberId,
    read: Vec<u8>,
}

impl TestSubscriber {
    fn new(rig: &mut FanoutHarness, interface: ClearanceInterface, room: usize) -> Self {
        let buffer = MemorySocketBuffer {
            bytes: Vec::new(),
            room,
            broken: false,
        };
        let pipe = MemorySocket(Rc::new(RefCell::new(buffer)));
        let wake = Arc::new(Notify::new());
        let FanoutHarness { ledger, fanout, .. } = rig;
        let id = fanout.subscribe(interface, pipe.clone(), wake, ledger);
        Self {
            pipe,
            id,
            read: Vec::new(),
        }
    }

    /// Reads what is in its socket, and no more.
    fn read(&mut self) {
        self.read.append(&mut self.pipe.0.borrow_mut().bytes);
    }

    /// Reads until nothing more comes.
    fn catch_up(&mut self, rig: &mut FanoutHarness) {
        loop {
            self.read();
            match rig.fanout.flush_to(self.id, &rig.ledger) {
                FlushStatus::Idle if self.pipe.0.borrow().bytes.is_empty() => return,
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
            .map(|p| (p.event.seq, p.event.event.expect("of a known kind")))
            .collect()
    }

    /// Returns what a Clearance2 client believes to be pending, with the counts.
    fn believed_pending(&self) -> BTreeMap<String, u64> {
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
                        "{} is new only once",
                        r.id
                    );
                }
                // A question that was answered before the snapshot came to it may be heard of
                // only now.
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
        assert!(unconfirmed.is_empty(), "every loss ends with synced");
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
            ledger: Ledger::new(10_000, true),
            fanout: EventFanout::new(Clearance1Dialect::D, backlog),
            packets: 0,
        }
    }

    /// Blocks one packet to a port.
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
        };
        let recorded = self.ledger.record(blocked, Timestamp::UNIX_EPOCH);
        let question = self.ledger.question(recorded.number).unwrap();
        let news = if recorded.is_new {
            HubEvent::Pending(question)
        } else {
            HubEvent::Repeated(question)
        };
        self.fanout.publish(&self.ledger, &news);
        self.fanout.flush(&self.ledger);
    }

    /// Puts the question about a port away, if there is one.
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
        let news = HubEvent::Decided(&answered);
        self.fanout.publish(&self.ledger, &news);
        self.fanout.flush(&self.ledger);
    }

    fn clear(&mut self) {
        for void in self.ledger.withdraw_all() {
            let news = HubEvent::Withdrawn(void.question(), "exited");
            self.fanout.publish(&self.ledger, &news);
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
/// A socket that takes everything.
const UNLIMITED: usize = usize::MAX;

#[test]
fn whoever_comes_late_is_told_what_is_pending() {
    let mut rig = FanoutHarness::new(MAX_BACKLOG_BYTES);
    rig.block(1);
    rig.block(2);
    rig.dismiss(1);
    let mut two = TestSubscriber::new(&mut rig, CLEARANCE2, UNLIMITED);
    let mut one = TestSubscriber::new(&mut rig, CLEARANCE1, UNLIMITED);
    rig.block(3);
    two.catch_up(&mut rig);
    one.catch_up(&mut rig);
    let kinds: Vec<_> = two
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
    let ports: Vec<_> = one
        .clearance1_events()
        .iter()
        .map(|event| event.port)
        .collect();
    assert_eq!(ports, [2, 3]);
}

#[test]
fn whoever_keeps_up_leaves_nothing_in_the_log() {
    let mut rig = FanoutHarness::new(MAX_BACKLOG_BYTES);
    let mut two = TestSubscriber::new(&mut rig, CLEARANCE2, UNLIMITED);
    two.catch_up(&mut rig);
    for n in 0..5_000 {
        rig.block(n);
        two.read();
    }
    assert_eq!(rig.fanout.clearance2.log.stored_bytes(), 0);
    assert_eq!(two.believed_pending().len(), 5_000);
}

#[test]
fn without_subscribers_nothing_is_written() {
    let mut rig = FanoutHarness::new(MAX_BACKLOG_BYTES);
    let mut two = TestSubscriber::new(&mut rig, CLEARANCE2, 10);
    rig.block(1);
    rig.fanout.unsubscribe(two.id);
    rig.block(2);
    assert_eq!(
        (rig.fanout.len(), rig.fanout.clearance2.log.stored_bytes()),
        (0, 0)
    );
    two.read();
    let mut again = TestSubscriber::new(&mut rig, CLEARANCE2, UNLIMITED);
    again.catch_up(&mut rig);
    assert_eq!(again.believed_pending().len(), 2);
}

#[test]
fn a_stuck_subscriber_holds_a_bounded_log_and_is_then_told_what_is_pending() {
    let backlog = 256 << 10;
    for interface in [CLEARANCE1, CLEARANCE2] {
        let mut rig = FanoutHarness::new(backlog);
        let mut stuck = TestSubscriber::new(&mut rig, interface, 10_000);
        let mut quick = TestSubscriber::new(&mut rig, CLEARANCE2, UNLIMITED);
        stuck.catch_up(&mut rig);
        quick.catch_up(&mut rig);
        for n in 0..9_000 {
            rig.block(n);
            assert!(
                rig.fanout.clearance1.log.stored_bytes() <= backlog + (3 * SNAPSHOT_CHUNK_BYTES)
            );
            assert!(
                rig.fanout.clearance2.log.stored_bytes() <= backlog + (3 * SNAPSHOT_CHUNK_BYTES)
            );
        }
        for n in 0..4_500 {
            rig.dismiss(n);
        }
        quick.read();
        assert_eq!(
            quick.believed_pending(),
            rig.pending(),
            "the other noticed nothing"
        );
        stuck.catch_up(&mut rig);
        if interface == CLEARANCE2 {
            assert_eq!(stuck.believed_pending(), rig.pending());
            let lost =
                |(_, e): &(u64, clearance2::Event)| matches!(e, clearance2::Event::Lost { .. });
            assert!(
                stuck.clearance2_events().iter().any(lost),
                "it is told that it missed something"
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
            assert_eq!(ids.len(), all, "no question comes twice");
            for id in rig.pending().keys() {
                assert!(
                    ids.binary_search(id).is_ok(),
                    "{id} is pending and was not told"
                );
            }
        }
        assert_eq!(
            rig.fanout.clearance1.log.stored_bytes() + rig.fanout.clearance2.log.stored_bytes(),
            0
        );
    }
}

#[test]
fn a_broken_socket_is_found_when_it_is_written_to() {
    let mut rig = FanoutHarness::new(MAX_BACKLOG_BYTES);
    let mut reader = TestSubscriber::new(&mut rig, CLEARANCE1, UNLIMITED);
    reader.catch_up(&mut rig);
    reader.pipe.0.borrow_mut().broken = true;
    rig.block(1);
    assert!(matches!(
        rig.fanout.flush_to(reader.id, &rig.ledger),
        FlushStatus::Closed(_)
    ));
}

#[test]
fn a_repeat_bears_the_readers_id_on_the_older_interface() {
    let mut rig = FanoutHarness::new(MAX_BACKLOG_BYTES);
    let mut one = TestSubscriber::new(&mut rig, CLEARANCE1, UNLIMITED);
    let mut two = TestSubscriber::new(&mut rig, CLEARANCE2, UNLIMITED);
    for _ in 0..2 {
        rig.block(7);
        one.catch_up(&mut rig);
        two.catch_up(&mut rig);
    }
    let ids: Vec<_> = one
        .clearance1_events()
        .iter()
        .map(|e| e.request_id.to_string())
        .collect();
    assert_eq!(ids, ["c:1", "c:2"]);
    assert_eq!(
        two.believed_pending(),
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
        1 => (any::<bool>(), 1..40_000_usize).prop_map(|(two, room)| FanoutStep::Join(two, room)),
        1 => (0..4_usize).prop_map(FanoutStep::Leave),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]
    #[test]
    fn everybody_ends_up_with_the_ledgers_pending_questions(
        steps in prop::collection::vec(step(), 1..80),
    ) {
        // So small that everybody is moved on again and again.
        let mut rig = FanoutHarness::new(SNAPSHOT_CHUNK_BYTES);
        let mut readers: Vec<(TestSubscriber, bool)> = Vec::new();
        for (two, room) in [(true, 20_000), (false, 20_000), (true, 1)] {
            let interface = if two { CLEARANCE2 } else { CLEARANCE1 };
            readers.push((TestSubscriber::new(&mut rig, interface, room), two));
        }
        for step in steps {
            match step {
                FanoutStep::Block(n) => rig.block(n),
                FanoutStep::Burst(from, len) => (from..from + len).for_each(|n| rig.block(n)),
                FanoutStep::Dismiss(n) => rig.dismiss(n),
                FanoutStep::Clear => rig.clear(),
                FanoutStep::Read(which) => {
                    if let Some((reader, _)) = readers.get_mut(which) {
                        reader.read();
                    }
                }
                FanoutStep::Flush(which) => {
                    if let Some((reader, _)) = readers.get_mut(which) {
                        drop(rig.fanout.flush_to(reader.id, &rig.ledger));
                    }
                }
                FanoutStep::Join(two, room) => {
                    let interface = if two { CLEARANCE2 } else { CLEARANCE1 };
                    readers.push((TestSubscriber::new(&mut rig, interface, room), two));
                }
                FanoutStep::Leave(which) => {
                    if which < readers.len() {
                        let (reader, _) = readers.remove(which);
                        rig.fanout.unsubscribe(reader.id);
                    }
                }
            }
        }
        for (reader, two) in &mut readers {
            reader.catch_up(&mut rig);
            if *two {
                prop_assert_eq!(reader.believed_pending(), rig.pending());
            } else {
                let told: std::collections::BTreeSet<_> =
                    reader.clearance1_events().iter().map(|e| e.request_id.to_string()).collect();
                for (_, question) in rig.ledger.pending_after(0) {
                    let was_told = question.ids().any(|name| told.contains(name.as_str()));
                    prop_assert!(was_told, "{} was not told", question.id());
                }
            }
        }
        prop_assert_eq!(rig.fanout.clearance1.log.stored_bytes() + rig.fanout.clearance2.log.stored_bytes(), 0);
    }
}
