// SPDX-License-Identifier: Apache-2.0
//! The inbox against a model of two hubs and their ledgers, after any sequence of events.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;

/// One thing that a hub, its connection or an operator does.
#[derive(Debug, Clone)]
enum Step {
    Block {
        hub: usize,
        packet: usize,
    },
    Decide {
        hub: usize,
        packet: usize,
        ok: bool,
    },
    Withdraw {
        hub: usize,
        packet: usize,
    },
    Disconnect {
        hub: usize,
    },
    Connect {
        hub: usize,
    },
    /// It is killed, and another one takes its place without a memory.
    Restart {
        hub: usize,
        blocked: Vec<usize>,
    },
    Lose {
        hub: usize,
        unseen: Vec<Self>,
    },
    Answer {
        row: usize,
        allow: bool,
        ok: bool,
        event_first: bool,
    },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let at = || (0..2usize, 0..8usize);
    let plain = prop_oneof![
        6 => at().prop_map(|(hub, packet)| Step::Block { hub, packet }),
        3 => (at(), any::<bool>())
            .prop_map(|((hub, packet), ok)| Step::Decide { hub, packet, ok }),
        1 => at().prop_map(|(hub, packet)| Step::Withdraw { hub, packet }),
    ];
    let step = prop_oneof![
        8 => plain.clone(),
        1 => (0..2usize).prop_map(|hub| Step::Disconnect { hub }),
        2 => (0..2usize).prop_map(|hub| Step::Connect { hub }),
        1 => (0..2usize, prop::collection::vec(0..8usize, 0..4))
            .prop_map(|(hub, blocked)| Step::Restart { hub, blocked }),
        1 => (0..2usize, prop::collection::vec(plain, 0..6))
            .prop_map(|(hub, unseen)| Step::Lose { hub, unseen }),
        3 => (0..6usize, any::<bool>(), any::<bool>(), any::<bool>())
            .prop_map(|(row, allow, ok, event_first)| Step::Answer { row, allow, ok, event_first }),
    ];
    prop::collection::vec(step, 1..60)
}

/// A hub as it should be: what is pending there, by packet.
#[derive(Debug, Default)]
struct Model {
    pending: BTreeMap<usize, Arc<Request>>,
    next: u64,
    up: bool,
    /// Whether it counts less than the rows do, which remember.
    restarted: bool,
}

impl Model {
    /// Changes the hub, and returns what it tells of it.
    fn step(&mut self, step: &Step) -> Option<Event> {
        match *step {
            Step::Block { packet, .. } => {
                if let Some(asked) = self.pending.get_mut(&packet) {
                    *asked = again(asked, asked.count + 1);
                    return Some(Event::Repeated(Arc::clone(asked)));
                }
                self.next += 1;
                // Names with several addresses, and addresses with several ports.
                let (name, address) = (packet / 4, packet / 2);
                let asked = request(
                    &format!("web:{}", self.next),
                    &format!("name{name}.example"),
                    &format!("203.0.113.{address}"),
                    443 + u16::try_from(packet % 2).unwrap(),
                );
                self.pending.insert(packet, Arc::clone(&asked));
                Some(Event::Pending(asked))
            }
            Step::Decide { packet, ok, .. } => {
                let asked = self.pending.get(&packet)?;
                let told = Event::Decided(decision(asked, Action::Deny, ok));
                if ok {
                    self.pending.remove(&packet);
                }
                Some(told)
            }
            Step::Withdraw { packet, .. } => {
                let request = self.pending.remove(&packet)?;
                Some(Event::Withdrawn {
                    request,
                    reason: "evicted".into(),
                })
            }
            _ => None,
        }
    }

    fn snapshot(&self) -> Vec<Event> {
        let pending = self.pending.values().cloned().map(Event::Pending);
        pending.chain([Event::Synced]).collect()
    }
}

/// What a row means: whose question, and what an answer opens.
type Meaning = (HubId, String, Option<u16>);
/// The rows by meaning, each with its count and its addresses.
type Shown = BTreeMap<Meaning, (u64, BTreeSet<String>)>;

struct World {
    inbox: Inbox,
    hubs: [(HubId, Model); 2],
    /// What each number has ever meant.
    meanings: BTreeMap<RowNumber, Meaning>,
}

impl World {
    fn at(&self, hub: &HubId) -> usize {
        self.hubs.iter().position(|(id, _)| id == hub).unwrap()
    }

    fn hear(&mut self, hub: usize, news: InboxEvent) {
        self.inbox.apply_event(&self.hubs[hub].0, news);
    }

    fn tell(&mut self, hub: usize, events: impl IntoIterator<Item = Event>) {
        if self.hubs[hub].1.up {
            for event in events {
                self.hear(hub, InboxEvent::Received(event));
            }
        }
    }

    fn step(&mut self, step: &Step) {
        match step {
            Step::Block { hub, .. } | Step::Decide { hub, .. } | Step::Withdraw { hub, .. } => {
                let told = self.hubs[*hub].1.step(step);
                self.tell(*hub, told);
            }
            Step::Disconnect { hub } => {
                self.hubs[*hub].1.up = false;
                self.hear(*hub, InboxEvent::Down("closed".into()));
            }
            Step::Connect { hub } => {
                self.hubs[*hub].1.up = true;
                self.hear(*hub, InboxEvent::Up(ProtocolVersion::Clearance2));
                let snapshot = self.hubs[*hub].1.snapshot();
                self.tell(*hub, snapshot);
            }
            Step::Restart { hub, blocked } => {
                self.hear(*hub, InboxEvent::Down("closed".into()));
                // Ids are given again from the first one on.
                self.hubs[*hub].1 = Model {
                    up: true,
                    restarted: true,
                    ..Model::default()
                };
                for &packet in blocked {
                    self.hubs[*hub].1.step(&Step::Block { hub: *hub, packet });
                }
                self.hear(*hub, InboxEvent::Restarted);
                self.hear(*hub, InboxEvent::Up(ProtocolVersion::Clearance2));
                let snapshot = self.hubs[*hub].1.snapshot();
                self.tell(*hub, snapshot);
            }
            Step::Lose { hub, unseen } => {
                for step in unseen {
                    self.hubs[*hub].1.step(step);
                }
                let lost = Event::Lost {
                    lost: 1,
                    reason: "slow".into(),
                };
                let snapshot = self.hubs[*hub].1.snapshot();
                self.tell(*hub, std::iter::once(lost).chain(snapshot));
            }
            Step::Answer {
                row,
                allow,
                ok,
                event_first,
            } => self.answer(*row, *allow, *ok, *event_first),
        }
    }

    fn answer(&mut self, row: usize, allow: bool, ok: bool, event_first: bool) {
        let action = if allow { Action::Allow } else { Action::Deny };
        let Some(number) = self.inbox.rows().nth(row).map(Row::number) else {
            return;
        };
        let shown = self.meanings[&number].clone();
        let answers = match self.inbox.answer(number, action) {
            Ok(answers) => answers,
            Err(RowRefusal::ForgottenByHub(_)) => {
                let row = self.inbox.row(number).unwrap();
                return assert!(row.is_forgotten_by_hub(), "what is asked is answered");
            }
            Err(_) => {
                let up = self.hubs[self.at(&shown.0)].1.up;
                return assert!(!up, "a live row is answered");
            }
        };
        for answer in answers {
            let opens = (
                answer.hub.clone(),
                answer.request.dest.to_string(),
                answer.scope.port,
            );
            assert_eq!(opens, shown, "it opens what was shown");
            let at = self.at(&answer.hub);
            let model = &mut self.hubs[at].1;
            let (packet, asked) = model
                .pending
                .iter()
                .find(|(_, asked)| asked.id == answer.request.id)
                .map(|(packet, asked)| (*packet, Arc::clone(asked)))
                .expect("it names what is pending");
            let record = decision(&asked, action, ok);
            let reply = if ok {
                model.pending.remove(&packet);
                OperatorReply::Decided(Decision::clone(&record))
            } else {
                OperatorReply::EnforcementFailed("no".into())
            };
            let event = Event::Decided(record);
            if event_first {
                self.tell(at, [event.clone()]);
            }
            self.inbox.apply_reply(&answer, reply);
            if !event_first {
                self.tell(at, [event]);
            }
        }
    }

    fn expected(&self, hub: usize) -> Shown {
        let (id, model) = &self.hubs[hub];
        let mut shown = Shown::new();
        for asked in model.pending.values() {
            let meaning = (id.clone(), asked.dest.to_string(), asked.scope.port);
            let row = shown.entry(meaning).or_default();
            row.0 += if model.restarted { 0 } else { asked.count };
            row.1.insert(asked.address.to_string());
        }
        shown
    }

    fn check(&mut self) {
        let mut shown: [Shown; 2] = <[Shown; 2]>::default();
        for row in self.inbox.rows() {
            let meaning = (row.hub().clone(), row.dest().to_string(), row.scope().port);
            let before = self.meanings.entry(row.number());
            let before = before.or_insert_with(|| meaning.clone());
            assert_eq!(*before, meaning, "a number means one thing for ever");
            assert_eq!(row.answering(), None, "every answer was settled");
            let at = self.hubs.iter().position(|(id, _)| id == row.hub());
            if row.is_forgotten_by_hub() {
                continue;
            }
            let addresses = row.addresses().iter().map(ToString::to_string).collect();
            let remembers = self.hubs[at.unwrap()].1.restarted;
            let count = if remembers { 0 } else { row.count() };
            let old = shown[at.unwrap()].insert(meaning, (count, addresses));
            assert_eq!(old, None, "one answer, one row");
        }
        for (hub, shown) in shown.iter().enumerate() {
            if self.hubs[hub].1.up {
                assert_eq!(*shown, self.expected(hub), "of hub {hub}");
            }
        }
    }
}

proptest! {
    #[test]
    fn the_inbox_is_what_the_hubs_have_pending(steps in steps()) {
        let mut world = World {
            inbox: Inbox::new(),
            hubs: [(hub("one"), Model::default()), (hub("two"), Model::default())],
            meanings: BTreeMap::new(),
        };
        world.step(&Step::Connect { hub: 0 });
        for step in &steps {
            world.step(step);
            world.check();
        }
    }
}
