// SPDX-License-Identifier: Apache-2.0
//! The inbox: single sequences of events, and a model of two hubs with events in any order.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a test fails by panicking, its helpers too"
)]

mod hub_restarts;
mod model;
mod wide_answers;

use std::path::Path;
use std::sync::Arc;

use terok_clearance::client::ProtocolVersion;
use terok_clearance::wire::clearance2::{ContainerState, Event, Request};
use terok_clearance::{
    Action, BlockedPacket, Decision, Dossier, GaveUp, NetworkZone, Protocol, Scope, ShieldState,
    Timestamp, WaitingConnections,
};
use terok_clearance_operator::inbox::{
    HubId, Inbox, InboxChange, InboxEvent, OperatorReply, Row, RowEnd, RowNumber, RowRefusal,
};

fn hub(name: &str) -> HubId {
    HubId::new(Path::new(&format!("/run/terok/clearance/{name}/hub.sock")))
}

/// Returns a question of a hub that decides about single ports.
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
        zone: NetworkZone::Public,
        looked_up_as: None,
        previous: None,
        reason: None,
    };
    let scope = Scope {
        port: Some(port),
        protocol: Some(Protocol::TCP),
        ..Scope::whole_dest(blocked.dest().clone())
    };
    Arc::new(Request::new(blocked, scope, Timestamp::from_micros(1)))
}

fn repeated(request: &Arc<Request>, count: u64) -> Arc<Request> {
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

/// Returns the question of a Clearance1 hub as the client translates it: its scope is the whole
/// destination.
fn whole_dest_event(id: &str, port: u16) -> InboxEvent {
    let mut question = Request::clone(&request(id, "api.example.com", "203.0.113.7", port));
    question.scope = Scope::whole_dest(question.dest.clone());
    InboxEvent::Received(Event::Pending(Arc::new(question)))
}

/// Returns a short text for each change.
fn describe(changes: &[InboxChange]) -> Vec<String> {
    let describe = |change: &InboxChange| match change {
        InboxChange::Added(row) => format!("added {row}"),
        InboxChange::Updated(row) => format!("updated {row}"),
        InboxChange::ProcessFound(row) => format!("process of {row}"),
        InboxChange::WaitingGrew(row) => format!("more wait for {row}"),
        InboxChange::Ended(row, end) => {
            let end = match end {
                RowEnd::Decided(decision) => format!("{:?}", decision.action),
                RowEnd::Withdrawn(reason) => format!("withdrawn {reason}"),
                other => format!("{other:?}"),
            };
            format!("ended {} {end}", row.number())
        }
        InboxChange::Failed { row, reason, .. } => format!("failed {row} {reason}"),
        InboxChange::ResultUnknown { row, reason, .. } => format!("unknown result {row} {reason}"),
        InboxChange::ForgottenByHub(row) => format!("forgotten {row}"),
        InboxChange::Up(..) => "up".to_owned(),
        InboxChange::Down(..) => "down".to_owned(),
        InboxChange::Unreachable(..) => "unreachable".to_owned(),
        InboxChange::Gone(_) => "gone".to_owned(),
        InboxChange::Synced(_) => "synced".to_owned(),
        InboxChange::Lost { lost, .. } => format!("lost {lost}"),
        InboxChange::UnknownEvent(_, event) => format!("unknown event {}", event.kind()),
        InboxChange::Container { state, .. } => format!("container {state:?}"),
        InboxChange::Shield { state, .. } => format!("shield {state:?}"),
        other => format!("{other:?}"),
    };
    changes.iter().map(describe).collect()
}

fn number(number: u64) -> RowNumber {
    RowNumber::try_from(number).unwrap()
}

/// An inbox with one hub.
struct InboxHarness {
    inbox: Inbox,
    hub: HubId,
}

impl InboxHarness {
    fn connected(version: ProtocolVersion) -> Self {
        let mut harness = Self {
            inbox: Inbox::new(),
            hub: hub("web"),
        };
        assert_eq!(harness.apply(InboxEvent::Up(version)), ["up"]);
        harness
    }

    fn apply(&mut self, event: InboxEvent) -> Vec<String> {
        describe(&self.inbox.apply_event(&self.hub, event))
    }

    fn receive(&mut self, event: Event) -> Vec<String> {
        self.apply(InboxEvent::Received(event))
    }

    fn row(&self, row: u64) -> &Row {
        self.inbox.row(number(row)).unwrap()
    }
}

#[test]
fn repeated_destination_is_one_row() {
    let mut harness = InboxHarness::connected(ProtocolVersion::Clearance2);
    let first = request("web:1", "api.example.com", "203.0.113.7", 443);
    assert_eq!(
        harness.receive(Event::Pending(Arc::clone(&first))),
        ["added 1"]
    );
    for count in 2..100 {
        let repeated = repeated(&first, count);
        assert_eq!(harness.receive(Event::Repeated(repeated)), ["updated 1"]);
    }
    assert_eq!(harness.inbox.rows().len(), 1);
    assert_eq!(harness.row(1).count(), 99);
    assert_eq!(harness.row(1).last_seen(), Timestamp::from_micros(99));
}

#[test]
fn over_clearance1_a_new_id_for_the_same_destination_is_the_same_row() {
    // The Python terminal tool counts 1, 0 and 1 pending questions after the three packets.
    let mut harness = InboxHarness::connected(ProtocolVersion::Clearance1);
    for (n, expected) in [(1, "added 1"), (2, "updated 1"), (3, "updated 1")] {
        let event = whole_dest_event(&format!("web:{n}"), 443);
        assert_eq!(harness.apply(event), [expected]);
    }
    // The same verdict decides about another port of the destination.
    assert_eq!(harness.apply(whole_dest_event("web:4", 80)), ["updated 1"]);
    let row = harness.row(1);
    assert_eq!((row.count(), row.request().id.as_str()), (4, "web:4"));
    assert_eq!(
        row.scope(),
        &Scope::whole_dest("api.example.com".parse().unwrap())
    );
    let ports: Vec<_> = row.ports().iter().map(|(port, _)| *port).collect();
    assert_eq!(ports, [80, 443]);
    // The answer of another operator to an older id opens the same destination.
    let older = request("web:2", "api.example.com", "203.0.113.7", 443);
    let applied = InboxEvent::Received(Event::Decided(decision(&older, Action::Allow, true)));
    assert_eq!(harness.apply(applied), ["ended 1 Allow"]);
}

#[test]
fn over_clearance1_a_port_scan_is_one_small_row() {
    let mut harness = InboxHarness::connected(ProtocolVersion::Clearance1);
    for port in 1..=5000 {
        harness.apply(whole_dest_event(&format!("web:{port}"), port));
    }
    assert_eq!(harness.inbox.rows().len(), 1);
    assert_eq!(harness.row(1).count(), 5000);
    assert!(harness.row(1).ports().len() <= 64);
}

#[test]
fn zones_have_separate_rows_and_answers() {
    let mut harness = InboxHarness::connected(ProtocolVersion::Clearance2);
    let public = request("web:1", "a.example", "a.example", 443);
    let mut local = Request::clone(&request("web:2", "a.example", "a.example", 443));
    local.zone = NetworkZone::LocalNetwork;
    assert_eq!(harness.receive(Event::Pending(public)), ["added 1"]);
    assert_eq!(
        harness.receive(Event::Pending(Arc::new(local))),
        ["added 2"]
    );
    let answers = harness.inbox.answer(number(1), Action::Allow).unwrap();
    let asked: Vec<_> = answers.iter().map(|answer| &answer.request.id).collect();
    assert_eq!(asked, [&"web:1".parse().unwrap()]);
}

#[test]
fn held_connections_of_a_row_are_those_of_all_its_questions() {
    let mut harness = InboxHarness::connected(ProtocolVersion::Clearance2);
    let held = |id: &str, address: &str, waiting| {
        let mut asked = Request::clone(&request(id, "a.example", address, 443));
        asked.set_waiting(waiting);
        Arc::new(asked)
    };
    let waiting = |count, since, gave_up: Option<u32>| WaitingConnections {
        count,
        since: Some(Timestamp::from_micros(since)),
        gave_up: gave_up.map(|after_seconds| GaveUp { after_seconds }),
    };
    let one = held("web:1", "203.0.113.7", waiting(2, 9, Some(5)));
    let two = held("web:2", "203.0.113.8", waiting(1, 7, None));
    assert_eq!(harness.receive(Event::Pending(one)), ["added 1"]);
    assert_eq!(
        harness.receive(Event::Pending(Arc::clone(&two))),
        ["updated 1"]
    );
    assert_eq!(harness.row(1).waiting(), waiting(3, 7, Some(5)));
    assert_eq!(harness.row(1).count(), 2);
    // The hub sends a change without a packet as a repeat.
    let gave_up = held("web:2", "203.0.113.8", waiting(1, 7, Some(30)));
    assert_eq!(harness.receive(Event::Repeated(gave_up)), ["updated 1"]);
    assert_eq!(harness.row(1).waiting(), waiting(3, 7, Some(30)));
    assert_eq!(harness.row(1).count(), 2);
}

#[test]
fn ten_times_as_many_connections_are_a_change_once() {
    let mut harness = InboxHarness::connected(ProtocolVersion::Clearance2);
    let mut held = |waiting| {
        let mut asked = Request::clone(&request("web:1", "a.example", "a.example", 443));
        asked.waiting = Some(waiting);
        harness.apply(InboxEvent::Received(Event::Repeated(Arc::new(asked))))
    };
    // The line of a new question says how many wait.
    assert_eq!(held(20), ["added 1"]);
    for (waiting, expected) in [
        (99, &["updated 1"][..]),
        (100, &["updated 1", "more wait for 1"]),
        (1, &["updated 1"]),
        (999, &["updated 1"]),
        (u32::MAX, &["updated 1", "more wait for 1"]),
        (0, &["updated 1"]),
    ] {
        assert_eq!(held(waiting), expected, "{waiting}");
    }
}

#[test]
fn two_addresses_of_a_name_share_a_row_and_an_answer() {
    let mut harness = InboxHarness::connected(ProtocolVersion::Clearance2);
    let one = request("web:1", "api.example.com", "203.0.113.7", 443);
    let two = request("web:2", "api.example.com", "203.0.113.8", 443);
    let other = request("web:3", "api.example.com", "203.0.113.7", 80);
    assert_eq!(
        harness.receive(Event::Pending(Arc::clone(&one))),
        ["added 1"]
    );
    assert_eq!(
        harness.receive(Event::Pending(Arc::clone(&two))),
        ["updated 1"]
    );
    // An answer opens one port, so another port is another row.
    assert_eq!(harness.receive(Event::Pending(other)), ["added 2"]);
    let answers = harness.inbox.answer(number(1), Action::Allow).unwrap();
    let ids: Vec<_> = answers.iter().map(|a| a.request.id.as_str()).collect();
    assert_eq!(ids, ["web:1", "web:2"]);
    assert!(answers.iter().all(|answer| answer.scope == one.scope));
    assert_eq!(
        harness.inbox.answer(number(1), Action::Deny),
        Err(RowRefusal::AlreadyAnswering(number(1), Action::Allow))
    );
    let reply =
        |r: &Request| OperatorReply::Decided(Decision::clone(&decision(r, Action::Allow, true)));
    let first = harness.inbox.apply_reply(&answers[0], reply(&one));
    assert_eq!(describe(&first), ["updated 1"]);
    let second = harness.inbox.apply_reply(&answers[1], reply(&two));
    assert_eq!(describe(&second), ["ended 1 Allow"]);
    // The events of decisions that the replies reported change nothing.
    for request in [&one, &two] {
        let decided = Event::Decided(decision(request, Action::Allow, true));
        assert_eq!(harness.receive(decided), [""; 0]);
    }
}

#[test]
fn row_number_is_never_reused() {
    let mut harness = InboxHarness::connected(ProtocolVersion::Clearance2);
    let one = request("web:1", "one.example", "203.0.113.1", 443);
    let two = request("web:2", "two.example", "203.0.113.2", 443);
    harness.receive(Event::Pending(Arc::clone(&one)));
    harness.receive(Event::Pending(two));
    harness.receive(Event::Withdrawn {
        request: Arc::clone(&one),
        reason: "exited".into(),
    });
    let end = RowEnd::Withdrawn("exited".into());
    assert_eq!(
        harness.inbox.answer(number(1), Action::Allow),
        Err(RowRefusal::Ended(number(1), end))
    );
    // The same request asked again is another question.
    assert_eq!(harness.receive(Event::Pending(one)), ["added 3"]);
    assert_eq!(
        harness.inbox.answer(number(9), Action::Allow),
        Err(RowRefusal::NoSuchRow(number(9)))
    );
}

#[test]
fn question_with_a_changed_scope_gets_a_new_number() {
    // The operator has read the scope of row 1; an answer to row 1 must not open another scope.
    let mut harness = InboxHarness::connected(ProtocolVersion::Clearance2);
    let narrow = request("web:1", "api.example.com", "203.0.113.7", 443);
    harness.receive(Event::Pending(Arc::clone(&narrow)));
    let mut wide = Request::clone(&narrow);
    wide.scope = Scope::whole_dest(wide.dest.clone());
    assert_eq!(
        harness.receive(Event::Repeated(Arc::new(wide))),
        ["ended 1 ScopeChanged", "added 2"]
    );
    assert!(harness.inbox.answer(number(1), Action::Allow).is_err());
}

#[test]
fn resync_keeps_only_questions_that_the_hub_still_has() {
    let mut harness = InboxHarness::connected(ProtocolVersion::Clearance2);
    let stays = request("web:1", "one.example", "203.0.113.1", 443);
    let goes = request("web:2", "two.example", "203.0.113.2", 443);
    harness.receive(Event::Pending(Arc::clone(&stays)));
    harness.receive(Event::Pending(goes));
    assert_eq!(harness.receive(Event::Synced), ["synced"]);
    assert_eq!(harness.apply(InboxEvent::Down("closed".into())), ["down"]);
    assert!(matches!(
        harness.inbox.answer(number(1), Action::Allow),
        Err(RowRefusal::HubDisconnected(..))
    ));
    assert_eq!(
        harness.apply(InboxEvent::Up(ProtocolVersion::Clearance2)),
        ["up"]
    );
    // An unchanged question is no change.
    assert_eq!(harness.receive(Event::Pending(stays)), [""; 0]);
    assert_eq!(
        harness.receive(Event::Synced),
        ["ended 2 MissingAfterResync", "synced"]
    );
    assert_eq!(harness.inbox.rows().len(), 1);
    assert_eq!(harness.apply(InboxEvent::Gone), ["ended 1 HubGone", "gone"]);
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
    // On the socket of one sandbox the name does not matter.
    let mut harness = InboxHarness::connected(ProtocolVersion::Clearance1);
    harness.apply(whole_dest_event("web:1", 443));
    assert_eq!(
        harness.apply(exited()),
        ["ended 1 withdrawn exited", "container Exited"]
    );
    // On the shared socket the name matters.
    let mut harness = InboxHarness {
        inbox: Inbox::new(),
        hub: HubId::new(Path::new("/run/terok-clearance.sock")),
    };
    harness.apply(InboxEvent::Up(ProtocolVersion::Clearance1));
    harness.apply(whole_dest_event("web:1", 443));
    assert_eq!(harness.apply(exited()), ["container Exited"]);
    let shield = |state| {
        InboxEvent::Received(Event::Shield {
            container: "web".parse().unwrap(),
            state,
        })
    };
    assert_eq!(harness.apply(shield(ShieldState::Up)), ["shield Up"]);
    assert_eq!(
        harness.apply(shield(ShieldState::Down)),
        ["ended 1 withdrawn shield", "shield Down"]
    );
}

#[test]
fn failure_is_reported_once_and_the_row_stays() {
    let failure = || OperatorReply::EnforcementFailed("no such sandbox".into());
    for event_first in [true, false] {
        let mut harness = InboxHarness::connected(ProtocolVersion::Clearance2);
        let question = request("web:1", "one.example", "203.0.113.1", 443);
        harness.receive(Event::Pending(Arc::clone(&question)));
        let answers = harness.inbox.answer(number(1), Action::Allow).unwrap();
        let event = || Event::Decided(decision(&question, Action::Allow, false));
        let mut changes = Vec::new();
        if event_first {
            changes.extend(harness.receive(event()));
        }
        changes.extend(describe(&harness.inbox.apply_reply(&answers[0], failure())));
        if !event_first {
            changes.extend(harness.receive(event()));
        }
        assert_eq!(changes, ["failed 1 no such sandbox"]);
        // The failure of another operator's answer is reported as well.
        assert_eq!(harness.receive(event()), ["failed 1 no such sandbox"]);
        assert!(harness.inbox.answer(number(1), Action::Deny).is_ok());
    }
}

#[test]
fn second_answer_reports_the_first_decision() {
    let mut harness = InboxHarness::connected(ProtocolVersion::Clearance2);
    let question = request("web:1", "one.example", "203.0.113.1", 443);
    harness.receive(Event::Pending(Arc::clone(&question)));
    let answers = harness.inbox.answer(number(1), Action::Allow).unwrap();
    let first =
        OperatorReply::AlreadyDecided(Decision::clone(&decision(&question, Action::Deny, true)));
    let changes = harness.inbox.apply_reply(&answers[0], first);
    assert_eq!(describe(&changes), ["ended 1 Deny"]);
    assert!(!ended_by_own_answer(&changes));
}

#[test]
fn row_ended_by_the_own_answer_is_still_being_answered() {
    let mut harness = InboxHarness::connected(ProtocolVersion::Clearance2);
    let question = request("web:1", "one.example", "203.0.113.1", 443);
    let decided = || decision(&question, Action::Allow, true);
    for reply_first in [true, false] {
        harness.receive(Event::Pending(Arc::clone(&question)));
        let row = harness.inbox.rows().next().map(Row::number).unwrap();
        let answers = harness.inbox.answer(row, Action::Allow).unwrap();
        let changes = if reply_first {
            let reply = OperatorReply::Decided(Decision::clone(&decided()));
            harness.inbox.apply_reply(&answers[0], reply)
        } else {
            let event = InboxEvent::Received(Event::Decided(decided()));
            harness.inbox.apply_event(&harness.hub, event)
        };
        assert!(ended_by_own_answer(&changes));
    }
}

#[test]
fn update_behind_the_reply_to_an_answer_opens_no_row() {
    let mut harness = InboxHarness::connected(ProtocolVersion::Clearance2);
    let question = request("web:1", "one.example", "203.0.113.1", 443);
    harness.receive(Event::Pending(Arc::clone(&question)));
    let answers = harness.inbox.answer(number(1), Action::Allow).unwrap();
    let decided = decision(&question, Action::Allow, true);
    let reply = OperatorReply::Decided(Decision::clone(&decided));
    harness.inbox.apply_reply(&answers[0], reply);
    // The stream is behind the reply.
    assert!(
        harness
            .receive(Event::Repeated(repeated(&question, 2)))
            .is_empty()
    );
    assert!(harness.receive(Event::Decided(decided)).is_empty());
    assert_eq!(harness.inbox.rows().len(), 0);
    // After the event the same id can ask again.
    let again = harness.receive(Event::Pending(question));
    assert_eq!(again, ["added 2"]);
}

fn ended_by_own_answer(changes: &[InboxChange]) -> bool {
    matches!(changes, [InboxChange::Ended(row, _)] if row.answering().is_some())
}
