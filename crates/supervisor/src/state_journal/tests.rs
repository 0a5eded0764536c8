// SPDX-License-Identifier: Apache-2.0
//! A journal that is cut anywhere leads to a state that there was.

use std::time::Duration;

use hub::ledger::{Ledger, QuestionChange};
use hub::{ScopeSupport, ledger::StoredQuestion};
use policy::{BootInstant, PolicyRule, RuleId, RuleOrigin, RuleSpec, RuleTerm};
use proptest::prelude::*;
use terok_clearance::{
    Action, BlockedPacket, DestPattern, DomainName, Dossier, HostPattern, NetworkZone, PortRange,
    Protocol, Timestamp,
};

use super::log_file::tests::RecordedStorage;
use super::*;

const BOOT: &str = "boot-1";

fn container() -> ContainerId {
    "box".parse().unwrap()
}

fn name(number: u8) -> DomainName {
    format!("n{number}.example").parse().unwrap()
}

fn pattern(id: u64) -> DestPattern {
    let texts = [
        "*.d.example:5-9/tcp",
        "a.example",
        "10.0.0.0/8/udp",
        "[2001:db8::1]:443",
        "2001:db8::/32/icmp",
    ];
    let at = usize::try_from(id).unwrap();
    match texts.get(at % (texts.len() + 1)) {
        Some(text) => text.parse().unwrap(),
        // Its text form does not parse.
        None => DestPattern::with_any_protocol(
            HostPattern::Name(name(1)),
            PortRange::new(7, 7),
            Protocol(132),
        )
        .unwrap(),
    }
}

fn rule(id: u64) -> PolicyRule {
    let action = if id.is_multiple_of(3) {
        Action::Deny
    } else {
        Action::Allow
    };
    let until = BootInstant::from_boot(Duration::new(id, 123_456_789));
    PolicyRule {
        id: RuleId::new(id),
        spec: RuleSpec {
            pattern: pattern(id),
            action,
            term: match id % 4 {
                0 => RuleTerm::Run,
                1 => RuleTerm::Once { until },
                _ => RuleTerm::Until(until),
            },
            origin: RuleOrigin::Decision {
                request: format!("box:{id}").parse().unwrap(),
            },
            by: "uid 1000".into(),
            since: Timestamp::from_micros(id),
        },
    }
}

/// Returns the question of a real ledger.
fn question(number: u64, repeats: u64) -> StoredQuestion {
    let mut ledger = Ledger::new(9, ScopeSupport::with_ports(true));
    ledger.record_changes();
    for repeat in 0..=repeats {
        let blocked = BlockedPacket {
            container: container(),
            request: format!("box:{}", number * 100 + repeat).parse().unwrap(),
            address: format!("q{number}.example").parse().unwrap(),
            port: 443,
            protocol: Protocol::TCP,
            domain: None,
            dossier: Dossier::default(),
            process: None,
            zone: NetworkZone::Public,
            looked_up_as: Some(name(1)),
            previous: None,
            reason: Some("the reason \" \u{fc}".into()),
        };
        ledger.record(blocked, Timestamp::from_micros(number + repeat));
    }
    match ledger.take_changes().pop() {
        Some(QuestionChange::Pending { question, .. }) => *question,
        other => panic!("{other:?}"),
    }
}

#[derive(Debug, Clone, Copy)]
enum Step {
    Name(u8, u8),
    Rule,
    RuleEnded(proptest::sample::Index),
    Replace(proptest::sample::Index),
    Bypass(bool),
    Revoke,
    Question(u8, u8),
    QuestionEnded(u8),
    Restart,
    Compact,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let any_rule = any::<proptest::sample::Index>;
    let step = prop_oneof![
        2 => (0_u8..9, 0_u8..9).prop_map(|(name, address)| Step::Name(name, address)),
        4 => Just(Step::Rule),
        3 => any_rule().prop_map(Step::RuleEnded),
        1 => any_rule().prop_map(Step::Replace),
        1 => any::<bool>().prop_map(Step::Bypass),
        1 => Just(Step::Revoke),
        3 => (0_u8..6, 0_u8..3).prop_map(|(number, repeats)| Step::Question(number, repeats)),
        2 => (0_u8..6).prop_map(Step::QuestionEnded),
        1 => Just(Step::Restart),
        1 => Just(Step::Compact),
    ];
    proptest::collection::vec(step, 1..24)
}

/// A journal over a file that remembers how it was written.
#[derive(Debug)]
struct Recorded {
    storage: Arc<Mutex<RecordedStorage>>,
    journal: SharedJournal,
    last_rule: u64,
}

#[derive(Debug, Clone)]
struct SharedStorage(Arc<Mutex<RecordedStorage>>);

impl LogStorage for SharedStorage {
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.lock().unwrap().read_at(offset, buffer)
    }

    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.0.lock().unwrap().write_at(offset, bytes)
    }

    fn discard(&mut self, offset: u64, length: u64) -> io::Result<()> {
        self.0.lock().unwrap().discard(offset, length)
    }
}

impl Recorded {
    fn new() -> Self {
        let storage = Arc::default();
        let opened = OpenedJournal::open(SharedStorage(Arc::clone(&storage)), &container(), BOOT);
        assert_eq!(opened.lost, None);
        Self {
            storage,
            journal: opened.journal,
            last_rule: 0,
        }
    }

    fn state(&self) -> JournalState {
        self.journal.lock().state.clone()
    }

    fn new_rule(&mut self) -> JournalChange {
        self.last_rule += 1;
        let rule = JournaledRule::of(&rule(self.last_rule), None).unwrap();
        JournalChange::Rule { rule: rule.into() }
    }

    fn any_rule(&self, index: proptest::sample::Index) -> Option<u64> {
        let rules: Vec<_> = self.state().rules.keys().copied().collect();
        (!rules.is_empty()).then(|| rules[index.index(rules.len())])
    }

    fn step(&mut self, step: Step) {
        let changes = match step {
            Step::Name(number, address) => vec![JournalChange::Name {
                name: name(number),
                address: std::net::Ipv4Addr::new(198, 18, 0, address),
            }],
            Step::Rule => vec![self.new_rule()],
            Step::RuleEnded(index) => match self.any_rule(index) {
                Some(id) => vec![JournalChange::RuleEnded { id }],
                None => Vec::new(),
            },
            Step::Replace(index) => match self.any_rule(index) {
                Some(id) => vec![JournalChange::RuleEnded { id }, self.new_rule()],
                None => Vec::new(),
            },
            Step::Bypass(is_open) => {
                self.last_rule += 1;
                let bypass = policy::BypassRule {
                    id: RuleId::new(self.last_rule),
                    until: None,
                    by: "uid 1000".into(),
                    since: Timestamp::from_micros(3),
                    usage: policy::RuleUsage::default(),
                };
                let open = is_open.then(|| JournaledBypass::of(&bypass));
                vec![JournalChange::Bypass { open }]
            }
            Step::Revoke => {
                let spec = RuleSpec {
                    origin: RuleOrigin::Flag,
                    ..rule(7).spec
                };
                let rule = JournaledStartRule::of(&spec).unwrap();
                vec![JournalChange::StartRuleRevoked { rule }]
            }
            Step::Question(number, repeats) => {
                let question = Box::new(question(number.into(), repeats.into()));
                let number = number.into();
                let next = JournalChange::NextRequest { number: number + 1 };
                vec![next, JournalChange::Question { number, question }]
            }
            Step::QuestionEnded(number) => vec![JournalChange::QuestionEnded {
                number: number.into(),
            }],
            Step::Restart => {
                let storage = SharedStorage(Arc::clone(&self.storage));
                let opened = OpenedJournal::open(storage, &container(), BOOT);
                assert_eq!((opened.lost, &opened.state), (None, &self.state()));
                self.journal = opened.journal;
                return;
            }
            Step::Compact => {
                let mut writer = self.journal.lock();
                writer.compact_at = 0;
                writer.write(&[]);
                return;
            }
        };
        self.journal.record(changes);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, ..ProptestConfig::default() })]

    /// Killed at any byte, the next supervisor finds the state before or after the change in
    /// progress: no rule that was not made, and none that was revoked.
    #[test]
    fn a_state_that_is_cut_anywhere_is_one_that_there_was(
        steps in steps(),
        cuts in proptest::collection::vec(any::<proptest::sample::Index>(), 8),
    ) {
        let mut recorded = Recorded::new();
        let written = |recorded: &Recorded| recorded.storage.lock().unwrap().written();
        let mut states = vec![(written(&recorded), recorded.state())];
        for step in steps {
            recorded.step(step);
            states.push((written(&recorded), recorded.state()));
        }
        let calls = recorded.storage.lock().unwrap().calls.clone();
        let (first, total) = (states[0].0, written(&recorded));
        for cut in cuts {
            let limit = first + cut.index(total - first + 1);
            let storage = RecordedStorage::cut(&calls, limit);
            let opened = OpenedJournal::open(storage, &container(), BOOT);
            prop_assert_eq!(opened.lost, None);
            let done = states.iter().rposition(|(written, _)| *written <= limit).unwrap();
            let next = states.get(done + 1).unwrap_or(&states[done]);
            prop_assert!(
                opened.state == states[done].1 || opened.state == next.1,
                "cut at {} of {}: {:?}", limit, total, opened.state
            );
        }
    }

    /// Damaged anywhere, the state is one that there was, or empty.
    #[test]
    fn a_damaged_state_is_never_another_one(
        steps in steps(),
        at in any::<proptest::sample::Index>(),
        flipped in 1_u8..,
    ) {
        let mut recorded = Recorded::new();
        let mut states = vec![recorded.state()];
        for step in steps {
            recorded.step(step);
            states.push(recorded.state());
        }
        let mut storage = recorded.storage.lock().unwrap().clone();
        let used: Vec<u64> = storage.used_offsets();
        let at = used[at.index(used.len())];
        let mut byte = [0];
        storage.read_at(at, &mut byte).unwrap();
        storage.write_at(at, &[byte[0] ^ flipped]).unwrap();
        let opened = OpenedJournal::open(storage, &container(), BOOT);
        prop_assert!(states.contains(&opened.state), "{:?}", opened.state);
        prop_assert!(opened.lost.is_none() || opened.state == states[0]);
    }
}

#[test]
fn a_descriptor_carries_the_state_to_the_next_supervisor() {
    let first = StateJournal::create().unwrap();
    let passed = first.as_fd().try_clone_to_owned().unwrap();
    let opened = first.open(&container(), BOOT);
    assert_eq!(opened.lost, None);
    let rule = JournaledRule::of(&rule(5), None).unwrap();
    let change = JournalChange::Rule {
        rule: rule.clone().into(),
    };
    opened.journal.record(vec![change]);
    drop(opened);
    let again = passed.try_clone().unwrap();
    let opened = StateJournal::from_fd(passed).open(&container(), BOOT);
    assert_eq!(opened.state.rules.into_values().collect::<Vec<_>>(), [rule]);
    assert_eq!(opened.state.last_rule, 5);
    // The state of another sandbox or boot is not used, and is gone then.
    let other = StateJournal::from_fd(again.try_clone().unwrap());
    let opened = other.open(&"other".parse().unwrap(), BOOT);
    assert!(opened.lost.is_some() && opened.state.rules.is_empty());
    let other = StateJournal::from_fd(again).open(&"other".parse().unwrap(), "boot-2");
    assert!(other.lost.is_some() && other.state.rules.is_empty());
}

#[test]
fn a_state_grows_to_twice_its_size_at_most() {
    let file = tempfile::tempfile().unwrap();
    let opened = OpenedJournal::open(file.try_clone().unwrap(), &container(), BOOT);
    for round in 0..3_000 {
        let change = |number| JournalChange::Question {
            number,
            question: Box::new(question(number, round % 7)),
        };
        opened.journal.record(vec![change(1), change(2)]);
    }
    let used = |journal: &SharedJournal| journal.lock().log.as_ref().unwrap().used();
    assert!(used(&opened.journal) < MIN_COMPACTED_BYTES + 4_096);
    let blocks = std::os::unix::fs::MetadataExt::blocks(&file.metadata().unwrap());
    assert!(blocks * 512 < 3 * MIN_COMPACTED_BYTES, "{blocks} blocks");
    let state = opened.journal.lock().state.clone();
    let again = OpenedJournal::open(file, &container(), BOOT);
    assert_eq!(again.state, state);
}

#[test]
fn a_change_that_cannot_be_written_leaves_no_state() {
    /// A file that is full from some time on, but can be overwritten with zeros.
    #[derive(Debug)]
    struct FullStorage(SharedStorage, Arc<std::sync::atomic::AtomicBool>);

    impl LogStorage for FullStorage {
        fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
            self.0.read_at(offset, buffer)
        }

        fn write_at(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
            let is_full = self.1.load(std::sync::atomic::Ordering::Relaxed);
            if is_full && bytes.iter().any(|byte| *byte != 0) {
                return Err(io::ErrorKind::StorageFull.into());
            }
            self.0.write_at(offset, bytes)
        }

        fn discard(&mut self, offset: u64, length: u64) -> io::Result<()> {
            self.0.discard(offset, length)
        }
    }

    let shared = SharedStorage(Arc::default());
    let is_full = Arc::default();
    let storage = FullStorage(shared.clone(), Arc::clone(&is_full));
    let opened = OpenedJournal::open(storage, &container(), BOOT);
    let made = |id| JournalChange::Rule {
        rule: JournaledRule::of(&rule(id), None).unwrap().into(),
    };
    opened.journal.record(vec![made(1), made(2)]);
    let read = || OpenedJournal::open(copy(&shared), &container(), BOOT).state;
    assert_eq!(read().rules.len(), 2);
    is_full.store(true, std::sync::atomic::Ordering::Relaxed);
    opened
        .journal
        .record(vec![JournalChange::RuleEnded { id: 1 }]);
    assert_eq!(read().rules.len(), 0, "the revoked rule does not come back");
    // With room again, the whole state is there.
    is_full.store(false, std::sync::atomic::Ordering::Relaxed);
    opened.journal.record(vec![made(3)]);
    assert_eq!(read().rules.into_keys().collect::<Vec<_>>(), [2, 3]);
}

fn copy(storage: &SharedStorage) -> SharedStorage {
    SharedStorage(Arc::new(Mutex::new(storage.0.lock().unwrap().clone())))
}

#[test]
fn a_record_of_a_later_release_makes_the_state_unreadable() {
    let shared = SharedStorage(Arc::default());
    drop(OpenedJournal::open(shared.clone(), &container(), BOOT));
    let (mut log, _) = LogFile::open(shared.clone()).unwrap();
    log.rewrite([br#"[{"change":"unknown"}]"#.to_vec()].into_iter())
        .unwrap();
    let opened = OpenedJournal::open(shared, &container(), BOOT);
    assert!(opened.lost.is_some());
}
