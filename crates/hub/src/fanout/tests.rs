// SPDX-License-Identifier: Apache-2.0
//! Subscribers that read at every pace, against the one rule: a pending question reaches everybody.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use proptest::prelude::*;
use terok_clearance::wire::{clearance1, clearance2};
use terok_clearance::{BlockedPacket, Dossier, Protocol};

use super::*;

/// A socket with a buffer of a certain size.
#[derive(Debug, Clone)]
struct Pipe(Rc<RefCell<Buffer>>);

#[derive(Debug)]
struct Buffer {
    bytes: Vec<u8>,
    room: usize,
    broken: bool,
}

impl Sink for Pipe {
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
struct Reader {
    pipe: Pipe,
    id: Id,
    read: Vec<u8>,
}

impl Reader {
    fn new(rig: &mut Rig, interface: Interface, room: usize) -> Self {
        let buffer = Buffer {
            bytes: Vec::new(),
            room,
            broken: false,
        };
        let pipe = Pipe(Rc::new(RefCell::new(buffer)));
        let wake = Arc::new(Notify::new());
        let Rig { ledger, fanout, .. } = rig;
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
    fn catch_up(&mut self, rig: &mut Rig) {
        loop {
            self.read();
            match rig.fanout.pump(self.id, &rig.ledger) {
                Pumped::Idle if self.pipe.0.borrow().bytes.is_empty() => return,
                Pumped::Idle | Pumped::Blocked | Pumped::More => {}
                Pumped::Gone(error) => panic!("{error}"),
            }
        }
    }

    fn frames<T: serde::de::DeserializeOwned>(&self) -> Vec<T> {
        #[derive(serde::Deserialize)]
        struct Reply<T> {
            parameters: T,
            continues: bool,
        }
        let frame = |frame: &[u8]| {
            let reply: Reply<T> = serde_json::from_slice(frame)
                .unwrap_or_else(|e| panic!("{e}: {}", String::from_utf8_lossy(frame)));
            assert!(reply.continues);
            reply.parameters
        };
        let frames = self.read.strip_suffix(b"\0").unwrap_or_default();
        let frames = frames.split(|byte| *byte == 0);
        frames.filter(|f| !f.is_empty()).map(frame).collect()
    }

    fn ones(&self) -> Vec<clearance1::ClearanceEvent> {
        #[derive(serde::Deserialize)]
        struct Parameters {
            event: clearance1::ClearanceEvent,
        }
        let events = self.frames::<Parameters>().into_iter();
        events.map(|p| p.event).collect()
    }

    fn twos(&self) -> Vec<(u64, clearance2::Event)> {
        let events = self
            .frames::<clearance2::Clearance2SubscribeReply>()
            .into_iter();
        events
            .map(|p| (p.event.seq, p.event.event.expect("of a known kind")))
            .collect()
    }

    /// Returns what a Clearance2 client believes to be pending, with the counts.
    fn believes(&self) -> BTreeMap<String, u64> {
        let mut pending = BTreeMap::new();
        let mut unconfirmed = BTreeMap::new();
        let mut seq = 0;
        for (number, event) in self.twos() {
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

struct Rig {
    ledger: Ledger,
    fanout: Fanout<Pipe>,
    packets: u64,
}

impl Rig {
    fn new(backlog: usize) -> Self {
        Self {
            ledger: Ledger::new(10_000, true),
            fanout: Fanout::new(Clearance1Dialect::D, backlog),
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
        let recorded = self.ledger.record(blocked, 1);
        let question = self.ledger.question(recorded.number).unwrap();
        let news = if recorded.new {
            News::Pending(question)
        } else {
            News::Repeated(question)
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
        let asked = crate::ledger::Asked {
            request: &request,
            container: "c",
            dest: "192.0.2.1",
        };
        let answered = self.ledger.dismiss(asked, "me".into(), 1).unwrap();
        let news = News::Decided(&answered);
        self.fanout.publish(&self.ledger, &news);
        self.fanout.flush(&self.ledger);
    }

    fn clear(&mut self) {
        for void in self.ledger.clear_all() {
            let news = News::Withdrawn(void.question(), "exited");
            self.fanout.publish(&self.ledger, &news);
        }
        self.fanout.flush(&self.ledger);
    }

    fn pending(&self) -> BTreeMap<String, u64> {
        let all = self.ledger.pending_after(0);
        all.map(|(_, q)| (q.id().to_string(), q.count())).collect()
    }
}

const ONE: Interface = Interface::One(Clearance1Dialect::D);
const TWO: Interface = Interface::Two;
/// A socket that takes everything.
const WIDE: usize = usize::MAX;

#[test]
fn whoever_comes_late_is_told_what_is_pending() {
    let mut rig = Rig::new(BACKLOG);
    rig.block(1);
    rig.block(2);
    rig.dismiss(1);
    let mut two = Reader::new(&mut rig, TWO, WIDE);
    let mut one = Reader::new(&mut rig, ONE, WIDE);
    rig.block(3);
    two.catch_up(&mut rig);
    one.catch_up(&mut rig);
    let kinds: Vec<_> = two.twos().into_iter().map(|(_, e)| e).collect();
    assert!(matches!(
        &kinds[..],
        [
            clearance2::Event::Pending(a),
            clearance2::Event::Synced,
            clearance2::Event::Pending(b),
        ] if a.port == 2 && b.port == 3
    ));
    let ports: Vec<_> = one.ones().iter().map(|event| event.port).collect();
    assert_eq!(ports, [2, 3]);
}

#[test]
fn whoever_keeps_up_leaves_nothing_in_the_log() {
    let mut rig = Rig::new(BACKLOG);
    let mut two = Reader::new(&mut rig, TWO, WIDE);
    two.catch_up(&mut rig);
    for n in 0..5_000 {
        rig.block(n);
        two.read();
    }
    assert_eq!(rig.fanout.two.log.bytes(), 0);
    assert_eq!(two.believes().len(), 5_000);
}

#[test]
fn without_subscribers_nothing_is_written() {
    let mut rig = Rig::new(BACKLOG);
    let mut two = Reader::new(&mut rig, TWO, 10);
    rig.block(1);
    rig.fanout.unsubscribe(two.id);
    rig.block(2);
    assert_eq!((rig.fanout.len(), rig.fanout.two.log.bytes()), (0, 0));
    two.read();
    let mut again = Reader::new(&mut rig, TWO, WIDE);
    again.catch_up(&mut rig);
    assert_eq!(again.believes().len(), 2);
}

#[test]
fn a_stuck_subscriber_holds_a_bounded_log_and_is_then_told_what_is_pending() {
    let backlog = 256 << 10;
    for interface in [ONE, TWO] {
        let mut rig = Rig::new(backlog);
        let mut stuck = Reader::new(&mut rig, interface, 10_000);
        let mut quick = Reader::new(&mut rig, TWO, WIDE);
        stuck.catch_up(&mut rig);
        quick.catch_up(&mut rig);
        for n in 0..9_000 {
            rig.block(n);
            assert!(rig.fanout.one.log.bytes() <= backlog + (3 * PIECE));
            assert!(rig.fanout.two.log.bytes() <= backlog + (3 * PIECE));
        }
        for n in 0..4_500 {
            rig.dismiss(n);
        }
        quick.read();
        assert_eq!(quick.believes(), rig.pending(), "the other noticed nothing");
        stuck.catch_up(&mut rig);
        if interface == TWO {
            assert_eq!(stuck.believes(), rig.pending());
            let lost =
                |(_, e): &(u64, clearance2::Event)| matches!(e, clearance2::Event::Lost { .. });
            assert!(
                stuck.twos().iter().any(lost),
                "it is told that it missed something"
            );
        } else {
            let mut ids: Vec<_> = stuck
                .ones()
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
        assert_eq!(rig.fanout.one.log.bytes() + rig.fanout.two.log.bytes(), 0);
    }
}

#[test]
fn a_broken_socket_is_found_when_it_is_written_to() {
    let mut rig = Rig::new(BACKLOG);
    let mut reader = Reader::new(&mut rig, ONE, WIDE);
    reader.catch_up(&mut rig);
    reader.pipe.0.borrow_mut().broken = true;
    rig.block(1);
    assert!(matches!(
        rig.fanout.pump(reader.id, &rig.ledger),
        Pumped::Gone(_)
    ));
}

#[test]
fn a_repeat_bears_the_readers_id_on_the_older_interface() {
    let mut rig = Rig::new(BACKLOG);
    let mut one = Reader::new(&mut rig, ONE, WIDE);
    let mut two = Reader::new(&mut rig, TWO, WIDE);
    for _ in 0..2 {
        rig.block(7);
        one.catch_up(&mut rig);
        two.catch_up(&mut rig);
    }
    let ids: Vec<_> = one
        .ones()
        .iter()
        .map(|e| e.request_id.to_string())
        .collect();
    assert_eq!(ids, ["c:1", "c:2"]);
    assert_eq!(two.believes(), BTreeMap::from([("c:1".to_owned(), 2)]));
}

#[derive(Debug, Clone)]
enum Step {
    Block(u16),
    Burst(u16, u16),
    Dismiss(u16),
    Clear,
    Read(usize),
    Pump(usize),
    Join(bool, usize),
    Leave(usize),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => (0..400_u16).prop_map(Step::Block),
        3 => (0..400_u16, 1..300_u16).prop_map(|(from, len)| Step::Burst(from, len)),
        4 => (0..400_u16).prop_map(Step::Dismiss),
        1 => Just(Step::Clear),
        4 => (0..4_usize).prop_map(Step::Read),
        4 => (0..4_usize).prop_map(Step::Pump),
        1 => (any::<bool>(), 1..40_000_usize).prop_map(|(two, room)| Step::Join(two, room)),
        1 => (0..4_usize).prop_map(Step::Leave),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]
    #[test]
    fn everybody_ends_up_with_the_ledgers_pending_questions(
        steps in prop::collection::vec(step(), 1..80),
    ) {
        // So small that everybody is moved on again and again.
        let mut rig = Rig::new(PIECE);
        let mut readers: Vec<(Reader, bool)> = Vec::new();
        for (two, room) in [(true, 20_000), (false, 20_000), (true, 1)] {
            let interface = if two { TWO } else { ONE };
            readers.push((Reader::new(&mut rig, interface, room), two));
        }
        for step in steps {
            match step {
                Step::Block(n) => rig.block(n),
                Step::Burst(from, len) => (from..from + len).for_each(|n| rig.block(n)),
                Step::Dismiss(n) => rig.dismiss(n),
                Step::Clear => rig.clear(),
                Step::Read(which) => {
                    if let Some((reader, _)) = readers.get_mut(which) {
                        reader.read();
                    }
                }
                Step::Pump(which) => {
                    if let Some((reader, _)) = readers.get_mut(which) {
                        drop(rig.fanout.pump(reader.id, &rig.ledger));
                    }
                }
                Step::Join(two, room) => {
                    let interface = if two { TWO } else { ONE };
                    readers.push((Reader::new(&mut rig, interface, room), two));
                }
                Step::Leave(which) => {
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
                prop_assert_eq!(reader.believes(), rig.pending());
            } else {
                let told: std::collections::BTreeSet<_> =
                    reader.ones().iter().map(|e| e.request_id.to_string()).collect();
                for (_, question) in rig.ledger.pending_after(0) {
                    let was_told = question.names().any(|name| told.contains(name.as_str()));
                    prop_assert!(was_told, "{} was not told", question.id());
                }
            }
        }
        prop_assert_eq!(rig.fanout.one.log.bytes() + rig.fanout.two.log.bytes(), 0);
    }
}
