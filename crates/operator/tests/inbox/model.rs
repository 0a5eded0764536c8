// SPDX-License-Identifier: Apache-2.0
//! The inbox against a model of two hubs and their ledgers, after any sequence of events.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;

/// One action of a hub, its connection or an operator.
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
    /// Replaces the hub with one that has no questions.
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

/// The expected state of a hub: the pending questions by packet.
#[derive(Debug, Default)]
struct HubModel {
    pending: BTreeMap<usize, Arc<Request>>,
    next: u64,
    up: bool,
    /// `true` if the counts of the hub are lower than those of the rows, which survive a restart.
    restarted: bool,
}

impl HubModel {
    /// Changes the hub, and returns its event.
    fn step(&mut self, step: &Step) -> Option<Event> {
        match *step {
            Step::Block { packet, .. } => {
                if let Some(question) = self.pending.get_mut(&packet) {
                    *question = repeated(question, question.count + 1);
                    return Some(Event::Repeated(Arc::clone(question)));
                }
                self.next += 1;
                // Names with several addresses, and addresses with several ports.
                let (name, address) = (packet / 4, packet / 2);
                let question = request(
                    &format!("web:{}", self.next),
                    &format!("name{name}.example"),
                    &format!("203.0.113.{address}"),
                    443 + u16::try_from(packet % 2).unwrap(),
                );
                self.pending.insert(packet, Arc::clone(&question));
                Some(Event::Pending(question))
            }
            Step::Decide { packet, ok, .. } => {
                let question = self.pending.get(&packet)?;
                let event = Event::Decided(decision(question, Action::Deny, ok));
                if ok {
                    self.pending.remove(&packet);
                }
                Some(event)
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

/// The identity of a row: hub, destination and port that an answer opens.
type RowIdentity = (HubId, String, Option<u16>);
/// The count and the addresses of each row.
type ExpectedRows = BTreeMap<RowIdentity, (u64, BTreeSet<String>)>;

struct InboxModel {
    inbox: Inbox,
    hubs: [(HubId, HubModel); 2],
    /// The identity of every row number so far.
    identities: BTreeMap<RowNumber, RowIdentity>,
}

impl InboxModel {
    fn at(&self, hub: &HubId) -> usize {
        self.hubs.iter().position(|(id, _)| id == hub).unwrap()
    }

    fn apply(&mut self, hub: usize, event: InboxEvent) {
        self.inbox.apply_event(&self.hubs[hub].0, event);
    }

    fn receive(&mut self, hub: usize, events: impl IntoIterator<Item = Event>) {
        if self.hubs[hub].1.up {
            for event in events {
                self.apply(hub, InboxEvent::Received(event));
            }
        }
    }

    fn step(&mut self, step: &Step) {
        match step {
            Step::Block { hub, .. } | Step::Decide { hub, .. } | Step::Withdraw { hub, .. } => {
                let events = self.hubs[*hub].1.step(step);
                self.receive(*hub, events);
            }
            Step::Disconnect { hub } => {
                self.hubs[*hub].1.up = false;
                self.apply(*hub, InboxEvent::Down("closed".into()));
            }
            Step::Connect { hub } => {
                self.hubs[*hub].1.up = true;
                self.apply(*hub, InboxEvent::Up(ProtocolVersion::Clearance2));
                let snapshot = self.hubs[*hub].1.snapshot();
                self.receive(*hub, snapshot);
            }
            Step::Restart { hub, blocked } => {
                self.apply(*hub, InboxEvent::Down("closed".into()));
                // The new hub counts ids from the first one again.
                self.hubs[*hub].1 = HubModel {
                    up: true,
                    restarted: true,
                    ..HubModel::default()
                };
                for &packet in blocked {
                    self.hubs[*hub].1.step(&Step::Block { hub: *hub, packet });
                }
                self.apply(*hub, InboxEvent::Restarted);
                self.apply(*hub, InboxEvent::Up(ProtocolVersion::Clearance2));
                let snapshot = self.hubs[*hub].1.snapshot();
                self.receive(*hub, snapshot);
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
                self.receive(*hub, std::iter::once(lost).chain(snapshot));
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
        let shown = self.identities[&number].clone();
        let answers = match self.inbox.answer(number, action) {
            Ok(answers) => answers,
            Err(RowRefusal::ForgottenByHub(_)) => {
                let row = self.inbox.row(number).unwrap();
                return assert!(row.is_forgotten_by_hub(), "a pending row was refused");
            }
            Err(_) => {
                let up = self.hubs[self.at(&shown.0)].1.up;
                return assert!(!up, "a row of a connected hub was refused");
            }
        };
        for answer in answers {
            let opens = (
                answer.hub.clone(),
                answer.request.dest.to_string(),
                answer.scope.port,
            );
            assert_eq!(opens, shown, "the answer opens the scope that was shown");
            let at = self.at(&answer.hub);
            let model = &mut self.hubs[at].1;
            let (packet, question) = model
                .pending
                .iter()
                .find(|(_, question)| question.id == answer.request.id)
                .map(|(packet, question)| (*packet, Arc::clone(question)))
                .expect("the answer names a pending question");
            let record = decision(&question, action, ok);
            let reply = if ok {
                model.pending.remove(&packet);
                OperatorReply::Decided(Decision::clone(&record))
            } else {
                OperatorReply::EnforcementFailed("no".into())
            };
            let event = Event::Decided(record);
            if event_first {
                self.receive(at, [event.clone()]);
            }
            self.inbox.apply_reply(&answer, reply);
            if !event_first {
                self.receive(at, [event]);
            }
        }
    }

    fn expected(&self, hub: usize) -> ExpectedRows {
        let (id, model) = &self.hubs[hub];
        let mut shown = ExpectedRows::new();
        for question in model.pending.values() {
            let identity = (id.clone(), question.dest.to_string(), question.scope.port);
            let row = shown.entry(identity).or_default();
            row.0 += if model.restarted { 0 } else { question.count };
            row.1.insert(question.address.to_string());
        }
        shown
    }

    fn check(&mut self) {
        let mut shown: [ExpectedRows; 2] = <[ExpectedRows; 2]>::default();
        for row in self.inbox.rows() {
            let identity = (row.hub().clone(), row.dest().to_string(), row.scope().port);
            let before = self.identities.entry(row.number());
            let before = before.or_insert_with(|| identity.clone());
            assert_eq!(*before, identity, "a row number keeps its identity");
            assert_eq!(row.answering(), None, "every answer has its reply");
            let at = self.hubs.iter().position(|(id, _)| id == row.hub());
            if row.is_forgotten_by_hub() {
                continue;
            }
            let addresses = row.addresses().iter().map(ToString::to_string).collect();
            let remembers = self.hubs[at.unwrap()].1.restarted;
            let count = if remembers { 0 } else { row.count() };
            let old = shown[at.unwrap()].insert(identity, (count, addresses));
            assert_eq!(old, None, "two rows have one identity");
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
    fn the_rows_are_the_pending_questions_of_the_hubs(steps in steps()) {
        let mut model = InboxModel {
            inbox: Inbox::new(),
            hubs: [(hub("one"), HubModel::default()), (hub("two"), HubModel::default())],
            identities: BTreeMap::new(),
        };
        model.step(&Step::Connect { hub: 0 });
        for step in &steps {
            model.step(step);
            model.check();
        }
    }
}
