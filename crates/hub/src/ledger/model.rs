// SPDX-License-Identifier: Apache-2.0
//! Compares the ledger with a simple model, for random sequences of operations.

use proptest::prelude::*;

use super::tests::{asked, at, blocked, claim};
use super::*;

/// One operation on the ledger and the model.
#[derive(Debug, Clone)]
enum LedgerStep {
    Record { container: u8, dest: u8, id: u8 },
    Claim { container: u8, dest: u8, id: u8 },
    Settle { which: usize, applied: bool },
    Drop { which: usize },
    Dismiss { container: u8, dest: u8, id: u8 },
    Clear { container: u8 },
}

fn step() -> impl Strategy<Value = LedgerStep> {
    let triple = || (0..3_u8, 0..3_u8, 0..4_u8);
    prop_oneof![
        6 => triple().prop_map(|(container, dest, id)| LedgerStep::Record { container, dest, id }),
        3 => triple().prop_map(|(container, dest, id)| LedgerStep::Claim { container, dest, id }),
        2 => (0..4_usize, any::<bool>())
            .prop_map(|(which, applied)| LedgerStep::Settle { which, applied }),
        1 => (0..4_usize).prop_map(|which| LedgerStep::Drop { which }),
        1 => triple().prop_map(|(container, dest, id)| LedgerStep::Dismiss { container, dest, id }),
        1 => (0..3_u8).prop_map(|container| LedgerStep::Clear { container }),
    ]
}

/// A pending question of the model.
#[derive(Debug, Clone)]
struct ModelQuestion {
    number: u64,
    container: String,
    dest: String,
    ids: Vec<String>,
    count: u64,
    claimed: bool,
}

#[derive(Debug, Default)]
struct LedgerModel {
    pending: Vec<ModelQuestion>,
    newest: u64,
    decided: Vec<String>,
}

impl LedgerModel {
    const MAX_PENDING: usize = 5;

    fn record(&mut self, container: &str, dest: &str, id: &str) {
        let same = |k: &&mut ModelQuestion| k.container == container && k.dest == dest;
        if let Some(known) = self.pending.iter_mut().find(same) {
            known.count += 1;
            if !known.ids.iter().any(|name| name == id) {
                known.ids.push(id.to_owned());
                if known.ids.len() > 9 {
                    known.ids.remove(1);
                }
            }
            return;
        }
        if self.pending.len() >= Self::MAX_PENDING {
            let load = |k: &ModelQuestion| {
                self.pending
                    .iter()
                    .filter(|o| o.container == k.container)
                    .count()
            };
            let most = self
                .pending
                .iter()
                .map(|k| (load(k), k.container.clone()))
                .max();
            let most = most.unwrap().1;
            let oldest = self.pending.iter().position(|k| k.container == most);
            self.pending.remove(oldest.unwrap());
        }
        self.newest += 1;
        let taken = self.pending.iter().any(|k| k.ids.iter().any(|n| n == id));
        let ids = if taken {
            vec![format!("{id}.{}", self.newest), id.to_owned()]
        } else {
            vec![id.to_owned()]
        };
        self.pending.push(ModelQuestion {
            number: self.newest,
            container: container.to_owned(),
            dest: dest.to_owned(),
            ids,
            count: 1,
            claimed: false,
        });
    }

    /// Returns the number of the question that an answer ids, or the reason of the refusal.
    fn find(&self, container: &str, dest: &str, id: &str) -> Result<u64, &'static str> {
        let named = self
            .pending
            .iter()
            .filter(|k| k.ids.iter().any(|n| n == id));
        let fits = |k: &ModelQuestion| k.container == container && k.dest == dest;
        match named.max_by_key(|k| (fits(k), k.number)) {
            None if self.decided.iter().any(|name| name == id) => Err("decided"),
            None => Err("unknown"),
            Some(known) if known.claimed => Err("deciding"),
            Some(known) if fits(known) => Ok(known.number),
            Some(_) => Err("not asked"),
        }
    }

    fn decide(&mut self, number: u64) {
        self.pending.retain(|known| {
            if known.number == number {
                self.decided.extend(known.ids.iter().cloned());
            }
            known.number != number
        });
    }

    fn set_claimed(&mut self, number: u64, claimed: bool) {
        let known = self.pending.iter_mut().find(|k| k.number == number);
        if let Some(known) = known {
            known.claimed = claimed;
        }
    }
}

fn refusal_name(refusal: &ClaimError) -> &'static str {
    match refusal {
        ClaimError::UnknownRequest => "unknown",
        ClaimError::BeingDecided(_) => "deciding",
        ClaimError::AlreadyDecided(_) => "decided",
        ClaimError::Mismatch(_) => "not asked",
    }
}

proptest! {
    #[test]
    fn the_ledger_behaves_like_the_model(steps in prop::collection::vec(step(), 1..120)) {
        let mut ledger = Ledger::new(LedgerModel::MAX_PENDING, ScopeSupport::with_ports(true));
        let mut model = LedgerModel::default();
        let mut receipts: Vec<ClaimReceipt> = Vec::new();
        let ids = |container: u8, dest: u8, id: u8| {
            (format!("c{container}"), format!("192.0.2.{dest}"), format!("id{id}"))
        };
        for step in steps {
            match step {
                LedgerStep::Record { container, dest, id } => {
                    let (container, dest, id) = ids(container, dest, id);
                    model.record(&container, &dest, &id);
                    ledger.record(blocked(&container, &id, &dest, 443), at(1));
                }
                LedgerStep::Claim { container, dest, id } => {
                    let (container, dest, id) = ids(container, dest, id);
                    let expected = model.find(&container, &dest, &id);
                    match claim(&mut ledger, asked(&id, &container, &dest)) {
                        Ok((order, receipt)) => {
                            prop_assert_eq!(expected, Ok(receipt.number().unwrap()));
                            prop_assert_eq!(order.dest().as_str(), &dest);
                            prop_assert_eq!(order.container().as_str(), &container);
                            model.set_claimed(receipt.number().unwrap(), true);
                            receipts.push(receipt);
                        }
                        Err(refusal) => prop_assert_eq!(expected, Err(refusal_name(&refusal))),
                    }
                }
                LedgerStep::Settle { which, applied } if !receipts.is_empty() => {
                    let receipt = receipts.remove(which % receipts.len());
                    let number = receipt.number().unwrap();
                    let outcome = if applied {
                        EnforcementOutcome::Applied
                    } else {
                        EnforcementOutcome::Failed("no".into())
                    };
                    let settled = ledger.settle(receipt, &outcome, at(2));
                    if let Some(sweep) = settled.sweep {
                        let (answered, rest) = ledger.sweep_rule(sweep);
                        prop_assert!(answered.is_empty() && rest.is_none());
                    }
                    let request = settled.answered.decision.request.to_string();
                    model.set_claimed(number, false);
                    if applied {
                        model.decide(number);
                        model.decided.push(request);
                    }
                }
                LedgerStep::Drop { which } if !receipts.is_empty() => {
                    let receipt = receipts.remove(which % receipts.len());
                    model.set_claimed(receipt.number().unwrap(), false);
                }
                LedgerStep::Settle { .. } | LedgerStep::Drop { .. } => {}
                LedgerStep::Dismiss { container, dest, id } => {
                    let (container, dest, id) = ids(container, dest, id);
                    let expected = model.find(&container, &dest, &id);
                    match ledger.dismiss(asked(&id, &container, &dest), "me".into(), at(3)) {
                        Ok(_) => model.decide(expected.unwrap()),
                        Err(refusal) => prop_assert_eq!(expected, Err(refusal_name(&refusal))),
                    }
                }
                LedgerStep::Clear { container } => {
                    let container = format!("c{container}");
                    let gone = ledger.withdraw_container(&container.parse().unwrap()).len();
                    let before = model.pending.len();
                    model.pending.retain(|known| known.container != container);
                    prop_assert_eq!(gone, before - model.pending.len());
                }
            }
            let found: Vec<_> = ledger
                .pending_after(0)
                .map(|(number, q)| (number, q.id().to_string(), q.count()))
                .collect();
            let expected: Vec<_> = model
                .pending
                .iter()
                .map(|known| (known.number, known.ids[0].clone(), known.count))
                .collect();
            prop_assert_eq!(found, expected);
            let ids: usize = model.pending.iter().map(|known| known.ids.len()).sum();
            prop_assert_eq!(ledger.by_id.len(), ids, "no id outlives its question");
            prop_assert_eq!(ledger.by_packet.len(), model.pending.len());
            let text: usize = ledger.questions.values().map(|entry| entry.text_bytes()).sum();
            prop_assert_eq!(ledger.text_bytes, text);
            let loads: usize = ledger.sandboxes_by_load.iter().map(|(load, _)| *load).sum();
            prop_assert_eq!(loads, model.pending.len());
        }
    }
}
