// SPDX-License-Identifier: Apache-2.0
//! The inbox against what hubs say: by hand, and against a model of a hub in any order of events.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a test fails by panicking, its helpers too"
)]

mod gap;
mod model;

use std::path::Path;
use std::sync::Arc;

use terok_clearance::client::ProtocolVersion;
use terok_clearance::wire::clearance2::{ContainerState, Event, Request};
use terok_clearance::{
    Action, BlockedPacket, Decision, Dossier, Protocol, Scope, ShieldState, Timestamp,
};
use terok_clearance_operator::inbox::{
    HubId, Inbox, InboxChange, InboxEvent, OperatorReply, Row, RowEnd, RowNumber, RowRefusal,
};

fn hub(name: &str) -> HubId {
    HubId::new(Path::new(&format!("/run/terok/clearance/{name}/hub.sock")))
}

/// A question as a hub that tells ports apart puts it.
fn request(id: &str, dest: &str, address: &str, port: u16) -> Arc<Request> {
    let blocked = BlockedPacket {
        container: "web".parse().unwrap(),
        request: id.parse().unwrap(),
        address: address.parse().unwrap(),
        port,
        protocol: Protocol::TCP,
        domain: (dest != address).then(|| dest.parse().unwrap()),
        dossier: Dossier::default(),
        process: None,
    };
    let scope = Scope {
        port: Some(port),
        protocol: Some(Protocol::TCP),
        ..Scope::whole_dest(blocked.dest().clone())
    };
    Arc::new(Request::new(blocked, scope, Timestamp::from_micros(1)))
}

fn again(request: &Arc<Request>, count: u64) -> Arc<Request> {
    let mut again = Request::clone(request);
    again.count = count;
    again.last_seen = Timestamp::from_micros(count);
    Arc::new(again)
}

fn decision(request: &Request, action: Action, ok: bool) -> Arc<Decision> {
    Arc::new(Decision {
        request: request.id.clone(),
        container: request.container.clone(),
        dest: request.dest.clone(),
        action: action.into(),
        scope: Some(request.scope.clone()),
        by: "uid 1000".into(),
        at: Timestamp::from_micros(9),
        ok,
        reason: (!ok).then(|| "no such sandbox".into()),
    })
}

/// A question as the client puts an older hub's: with the whole destination for its scope.
fn whole(id: &str, port: u16) -> InboxEvent {
    let mut asked = Request::clone(&request(id, "api.example.com", "203.0.113.7", port));
    asked.scope = Scope::whole_dest(asked.dest.clone());
    InboxEvent::Received(Event::Pending(Arc::new(asked)))
}

/// Returns the changes in short words.
fn words(changes: &[InboxChange]) -> Vec<String> {
    let word = |change: &InboxChange| match change {
        InboxChange::Added(row) => format!("asked {row}"),
        InboxChange::Updated(row) => format!("again {row}"),
        InboxChange::Ended(row, end) => {
            let end = match end {
                RowEnd::Decided(decision) => format!("{:?}", decision.action),
                RowEnd::Withdrawn(reason) => format!("withdrawn {reason}"),
                other => format!("{other:?}"),
            };
            format!("ended {} {end}", row.number())
        }
        InboxChange::Failed { row, reason, .. } => format!("failed {row} {reason}"),
        InboxChange::ResultUnknown { row, reason, .. } => format!("unsure {row} {reason}"),
        InboxChange::ForgottenByHub(row) => format!("lapsed {row}"),
        InboxChange::Up(..) => "up".to_owned(),
        InboxChange::Down(..) => "down".to_owned(),
        InboxChange::Unreachable(..) => "unreachable".to_owned(),
        InboxChange::Gone(_) => "gone".to_owned(),
        InboxChange::Synced(_) => "synced".to_owned(),
        InboxChange::Lost { lost, .. } => format!("lost {lost}"),
        InboxChange::UnknownEvent(_, event) => format!("unknown {}", event.kind()),
        InboxChange::Container { state, .. } => format!("container {state:?}"),
        InboxChange::Shield { state, .. } => format!("shield {state:?}"),
        other => format!("{other:?}"),
    };
    changes.iter().map(word).collect()
}

fn number(number: u64) -> RowNumber {
    RowNumber::try_from(number).unwrap()
}

/// An inbox, and the one hub that tells it something.
struct Told {
    inbox: Inbox,
    hub: HubId,
}

impl Told {
    fn up(dialect: ProtocolVersion) -> Self {
        let mut told = Self {
            inbox: Inbox::new(),
            hub: hub("web"),
        };
        assert_eq!(told.hears(InboxEvent::Up(dialect)), ["up"]);
        told
    }

    fn hears(&mut self, news: InboxEvent) -> Vec<String> {
        words(&self.inbox.apply_event(&self.hub, news))
    }

    fn says(&mut self, event: Event) -> Vec<String> {
        self.hears(InboxEvent::Received(event))
    }

    fn row(&self, row: u64) -> &Row {
        self.inbox.row(number(row)).unwrap()
    }
}

#[test]
fn repeated_destination_is_one_row() {
    let mut told = Told::up(ProtocolVersion::Clearance2);
    let first = request("web:1", "api.example.com", "203.0.113.7", 443);
    assert_eq!(told.says(Event::Pending(Arc::clone(&first))), ["asked 1"]);
    for count in 2..100 {
        let again = again(&first, count);
        assert_eq!(told.says(Event::Repeated(again)), ["again 1"]);
    }
    assert_eq!(told.inbox.rows().len(), 1);
    assert_eq!(told.row(1).count(), 99);
    assert_eq!(told.row(1).last_seen(), Timestamp::from_micros(99));
}

#[test]
fn over_clearance1_a_new_id_for_the_same_destination_is_the_same_row() {
    // What the Python terminal tool gets wrong: pending 1, 0, 1 after three blocks.
    let mut told = Told::up(ProtocolVersion::Clearance1);
    for (n, expected) in [(1, "asked 1"), (2, "again 1"), (3, "again 1")] {
        let event = whole(&format!("web:{n}"), 443);
        assert_eq!(told.hears(event), [expected]);
    }
    // Another port of it is settled by the same verdict.
    assert_eq!(told.hears(whole("web:4", 80)), ["again 1"]);
    let row = told.row(1);
    assert_eq!((row.count(), row.request().id.as_str()), (4, "web:4"));
    assert_eq!(
        row.scope(),
        &Scope::whole_dest("api.example.com".parse().unwrap())
    );
    let ports: Vec<_> = row.ports().iter().map(|(port, _)| *port).collect();
    assert_eq!(ports, [80, 443]);
    // Another operator names an older id; the destination is open all the same.
    let older = request("web:2", "api.example.com", "203.0.113.7", 443);
    let applied = InboxEvent::Received(Event::Decided(decision(&older, Action::Allow, true)));
    assert_eq!(told.hears(applied), ["ended 1 Allow"]);
}

#[test]
fn over_clearance1_a_port_scan_is_one_small_row() {
    let mut told = Told::up(ProtocolVersion::Clearance1);
    for port in 1..=5000 {
        told.hears(whole(&format!("web:{port}"), port));
    }
    assert_eq!(told.inbox.rows().len(), 1);
    assert_eq!(told.row(1).count(), 5000);
    assert!(told.row(1).ports().len() <= 64);
}

#[test]
fn two_addresses_of_a_name_share_a_row_and_an_answer() {
    let mut told = Told::up(ProtocolVersion::Clearance2);
    let one = request("web:1", "api.example.com", "203.0.113.7", 443);
    let two = request("web:2", "api.example.com", "203.0.113.8", 443);
    let other = request("web:3", "api.example.com", "203.0.113.7", 80);
    assert_eq!(told.says(Event::Pending(Arc::clone(&one))), ["asked 1"]);
    assert_eq!(told.says(Event::Pending(Arc::clone(&two))), ["again 1"]);
    // Another port would be opened by another answer, so it is another row.
    assert_eq!(told.says(Event::Pending(other)), ["asked 2"]);
    let answers = told.inbox.answer(number(1), Action::Allow).unwrap();
    let named: Vec<_> = answers.iter().map(|a| a.request.id.as_str()).collect();
    assert_eq!(named, ["web:1", "web:2"]);
    assert!(answers.iter().all(|answer| answer.scope == one.scope));
    assert_eq!(
        told.inbox.answer(number(1), Action::Deny),
        Err(RowRefusal::AlreadyAnswering(number(1), Action::Allow))
    );
    let reply =
        |r: &Request| OperatorReply::Decided(Decision::clone(&decision(r, Action::Allow, true)));
    let first = told.inbox.apply_reply(&answers[0], reply(&one));
    assert_eq!(words(&first), ["again 1"]);
    let second = told.inbox.apply_reply(&answers[1], reply(&two));
    assert_eq!(words(&second), ["ended 1 Allow"]);
    // The events say the same once more, and nothing comes of it.
    for request in [&one, &two] {
        let decided = Event::Decided(decision(request, Action::Allow, true));
        assert_eq!(told.says(decided), [""; 0]);
    }
}

#[test]
fn row_number_is_never_reused() {
    let mut told = Told::up(ProtocolVersion::Clearance2);
    let one = request("web:1", "one.example", "203.0.113.1", 443);
    let two = request("web:2", "two.example", "203.0.113.2", 443);
    told.says(Event::Pending(Arc::clone(&one)));
    told.says(Event::Pending(two));
    told.says(Event::Withdrawn {
        request: Arc::clone(&one),
        reason: "exited".into(),
    });
    let end = RowEnd::Withdrawn("exited".into());
    assert_eq!(
        told.inbox.answer(number(1), Action::Allow),
        Err(RowRefusal::Ended(number(1), end))
    );
    // Asked again, it is another question.
    assert_eq!(told.says(Event::Pending(one)), ["asked 3"]);
    assert_eq!(
        told.inbox.answer(number(9), Action::Allow),
        Err(RowRefusal::NoSuchRow(number(9)))
    );
}

#[test]
fn question_with_a_changed_scope_gets_a_new_number() {
    // The operator has read what row 1 opens; an answer to it must not open anything else.
    let mut told = Told::up(ProtocolVersion::Clearance2);
    let narrow = request("web:1", "api.example.com", "203.0.113.7", 443);
    told.says(Event::Pending(Arc::clone(&narrow)));
    let mut wide = Request::clone(&narrow);
    wide.scope = Scope::whole_dest(wide.dest.clone());
    assert_eq!(
        told.says(Event::Repeated(Arc::new(wide))),
        ["ended 1 ScopeChanged", "asked 2"]
    );
    assert!(told.inbox.answer(number(1), Action::Allow).is_err());
}

#[test]
fn resync_keeps_only_questions_that_the_hub_still_has() {
    let mut told = Told::up(ProtocolVersion::Clearance2);
    let stays = request("web:1", "one.example", "203.0.113.1", 443);
    let goes = request("web:2", "two.example", "203.0.113.2", 443);
    told.says(Event::Pending(Arc::clone(&stays)));
    told.says(Event::Pending(goes));
    assert_eq!(told.says(Event::Synced), ["synced"]);
    assert_eq!(told.hears(InboxEvent::Down("closed".into())), ["down"]);
    assert!(matches!(
        told.inbox.answer(number(1), Action::Allow),
        Err(RowRefusal::HubDisconnected(..))
    ));
    assert_eq!(
        told.hears(InboxEvent::Up(ProtocolVersion::Clearance2)),
        ["up"]
    );
    // Nothing new in it: nothing to say.
    assert_eq!(told.says(Event::Pending(stays)), [""; 0]);
    assert_eq!(
        told.says(Event::Synced),
        ["ended 2 MissingAfterResync", "synced"]
    );
    assert_eq!(told.inbox.rows().len(), 1);
    assert_eq!(told.hears(InboxEvent::Gone), ["ended 1 HubGone", "gone"]);
}

#[test]
fn over_clearance1_the_end_of_a_sandbox_ends_its_rows() {
    let exited = || {
        InboxEvent::Received(Event::Container {
            container: "podman-name".parse().unwrap(),
            state: ContainerState::Exited,
            reason: None,
        })
    };
    // On a sandbox's own socket the name does not matter.
    let mut told = Told::up(ProtocolVersion::Clearance1);
    told.hears(whole("web:1", 443));
    assert_eq!(
        told.hears(exited()),
        ["ended 1 withdrawn exited", "container Exited"]
    );
    // On the socket of all it does.
    let mut told = Told {
        inbox: Inbox::new(),
        hub: HubId::new(Path::new("/run/terok-clearance.sock")),
    };
    told.hears(InboxEvent::Up(ProtocolVersion::Clearance1));
    told.hears(whole("web:1", 443));
    assert_eq!(told.hears(exited()), ["container Exited"]);
    let shield = |state| {
        InboxEvent::Received(Event::Shield {
            container: "web".parse().unwrap(),
            state,
        })
    };
    assert_eq!(told.hears(shield(ShieldState::Up)), ["shield Up"]);
    assert_eq!(
        told.hears(shield(ShieldState::Down)),
        ["ended 1 withdrawn shield", "shield Down"]
    );
}

#[test]
fn failure_is_reported_once_and_the_row_stays() {
    let failure = || OperatorReply::EnforcementFailed("no such sandbox".into());
    for event_first in [true, false] {
        let mut told = Told::up(ProtocolVersion::Clearance2);
        let asked = request("web:1", "one.example", "203.0.113.1", 443);
        told.says(Event::Pending(Arc::clone(&asked)));
        let answers = told.inbox.answer(number(1), Action::Allow).unwrap();
        let event = || Event::Decided(decision(&asked, Action::Allow, false));
        let mut said = Vec::new();
        if event_first {
            said.extend(told.says(event()));
        }
        said.extend(words(&told.inbox.apply_reply(&answers[0], failure())));
        if !event_first {
            said.extend(told.says(event()));
        }
        assert_eq!(said, ["failed 1 no such sandbox"]);
        // Somebody else's failure is told as well.
        assert_eq!(told.says(event()), ["failed 1 no such sandbox"]);
        assert!(told.inbox.answer(number(1), Action::Deny).is_ok());
    }
}

#[test]
fn second_answer_reports_the_first_decision() {
    let mut told = Told::up(ProtocolVersion::Clearance2);
    let asked = request("web:1", "one.example", "203.0.113.1", 443);
    told.says(Event::Pending(Arc::clone(&asked)));
    let answers = told.inbox.answer(number(1), Action::Allow).unwrap();
    let first =
        OperatorReply::AlreadyDecided(Decision::clone(&decision(&asked, Action::Deny, true)));
    let changes = told.inbox.apply_reply(&answers[0], first);
    assert_eq!(words(&changes), ["ended 1 Deny"]);
    assert!(!is_ours(&changes));
}

#[test]
fn row_ended_by_the_own_answer_is_still_being_answered() {
    let mut told = Told::up(ProtocolVersion::Clearance2);
    let asked = request("web:1", "one.example", "203.0.113.1", 443);
    let decided = || decision(&asked, Action::Allow, true);
    for reply_first in [true, false] {
        told.says(Event::Pending(Arc::clone(&asked)));
        let row = told.inbox.rows().next().map(Row::number).unwrap();
        let answers = told.inbox.answer(row, Action::Allow).unwrap();
        let changes = if reply_first {
            let reply = OperatorReply::Decided(Decision::clone(&decided()));
            told.inbox.apply_reply(&answers[0], reply)
        } else {
            let event = InboxEvent::Received(Event::Decided(decided()));
            told.inbox.apply_event(&told.hub, event)
        };
        assert!(is_ours(&changes));
    }
}

fn is_ours(changes: &[InboxChange]) -> bool {
    matches!(changes, [InboxChange::Ended(row, _)] if row.answering().is_some())
}
