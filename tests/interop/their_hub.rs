// SPDX-License-Identifier: Apache-2.0
//! The Python stack's hub with our client, prompt and subscribers: what they show and answer there
//! is the same as with ours.

use operator::Session;
use operator::inbox::InboxChange;
use serde_json::json;
use terok_clearance::client::{AnswerError, Client, EventStream, ProtocolVersion, StreamUpdate};
use terok_clearance::socket::SocketLayout;
use terok_clearance::wire::clearance1::VerdictParameters;
use terok_clearance::wire::clearance2::{DecideError, Event, Request};
use terok_clearance::{DecisionAction, Scope, ShieldState};

use crate::harness::{
    CONTAINER, Place, Running, Shield, Stack, Subscriber, Wire, pending, report, while_repeating,
};

const REQUEST: &str = "0123456789ab:1";

async fn event(events: &mut EventStream) -> Event {
    loop {
        match events.next().await {
            StreamUpdate::Event(event) => return event,
            StreamUpdate::Connected(speaks) => assert_eq!(speaks, ProtocolVersion::Clearance1),
            StreamUpdate::Disconnected { reason, .. } => panic!("{reason}"),
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn our_client_understands_and_answers_it() {
    for stack in Stack::ALL {
        understood_and_answered(stack).await;
    }
}

async fn understood_and_answered(stack: Stack) {
    let place = Place::new();
    let _hub = place.their_hub(stack).await;
    let socket = place.runtime().shared_hub_sockets().hub;
    let (client, mut events) = Client::start(socket).await.unwrap();
    // That hub says nothing to a new subscriber, so only an event tells that it is heard.
    let up = json!({"type": "shield_up", "container": "0123456789ab"});
    let sockets = place.runtime().shared_hub_sockets();
    let heard = while_repeating(&sockets.ingester, &up, event(&mut events)).await;
    assert!(
        matches!(
            heard,
            Event::Shield {
                state: ShieldState::Up,
                ..
            }
        ),
        "{heard:?}"
    );
    place
        .report(&[pending("0123456789ab:1", "api.example.com")])
        .await;
    let request = loop {
        match event(&mut events).await {
            Event::Shield { .. } => {}
            Event::Pending(request) => break request,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(request.dest.as_str(), "api.example.com");
    assert_eq!(request.scope, Scope::until_removed(request.dest.clone()));
    // No verdict helper runs, so the hub cannot carry the answer out, and says so twice.
    let refused = client.decide(&request, DecisionAction::Allow, None).await;
    let Err(AnswerError::Refused(DecideError::EnforcementFailed { reason, .. })) = refused else {
        panic!("{refused:?}");
    };
    assert!(
        reason.as_str().starts_with("verdict helper unreachable"),
        "{reason}"
    );
    let Event::Decided(decision) = event(&mut events).await else {
        panic!("nothing decided");
    };
    assert!(
        !decision.ok && decision.dest == request.dest,
        "{decision:?}"
    );
    let exited =
        json!({"type": "container_exited", "container": "0123456789ab", "reason": "poststop"});
    place.report(&[exited]).await;
    let withdrawn = event(&mut events).await;
    assert!(
        matches!(&withdrawn, Event::Withdrawn { .. }),
        "{withdrawn:?}"
    );
    let refused = client.decide(&request, DecisionAction::Allow, None).await;
    let Err(AnswerError::Refused(DecideError::NoSuchRequest { request: unknown })) = refused else {
        panic!("{refused:?}");
    };
    assert_eq!(unknown, request.id);
}

#[tokio::test]
async fn our_client_knows_each_of_its_refusals() {
    for stack in Stack::ALL {
        let place = Place::new();
        let shield = Shield::within(&place.path().join("shield"));
        let _helper = place.their_helper(stack, &shield).await;
        let _hub = place.their_hub(stack).await;
        let sockets = place.runtime().shared_hub_sockets();
        let (client, mut events) = Client::start(&sockets.hub).await.unwrap();
        let up = json!({"type": "shield_up", "container": CONTAINER});
        while_repeating(&sockets.ingester, &up, event(&mut events)).await;
        place.report(&[pending(REQUEST, "api.example.com")]).await;
        let asked = loop {
            if let Event::Pending(asked) = event(&mut events).await {
                break asked;
            }
        };
        let answer = async |request: &Request| match client
            .decide(request, DecisionAction::Allow, None)
            .await
        {
            Ok(decision) => Ok(decision),
            Err(AnswerError::Refused(refusal)) => Err(refusal),
            Err(other) => panic!("{stack:?}: {other}"),
        };
        // Unknown, elsewhere, another sandbox: each is told by its own error.
        let mut unknown = (*asked).clone();
        unknown.id = "web:9".parse().unwrap();
        let refused = answer(&unknown).await;
        assert!(
            matches!(&refused, Err(DecideError::NoSuchRequest { request }) if *request == unknown.id),
            "{refused:?}"
        );
        let mut elsewhere = (*asked).clone();
        elsewhere.dest = "x.example".parse().unwrap();
        elsewhere.scope = Scope::until_removed(elsewhere.dest.clone());
        let mut other = (*asked).clone();
        other.container = "web".parse().unwrap();
        for (request, differs, should_be, is) in [
            (&elsewhere, "dest", "api.example.com", "x.example"),
            (&other, "container", CONTAINER, "web"),
        ] {
            let refused = answer(request).await;
            let Err(DecideError::NotWhatWasAsked {
                field, asked, got, ..
            }) = &refused
            else {
                panic!("{refused:?}");
            };
            assert_eq!(
                [field.as_str(), asked.as_str(), got.as_str()],
                [differs, should_be, is]
            );
        }
        // An action that is none has no word in the newer interface; it is passed on as it is.
        let accept = VerdictParameters {
            container: CONTAINER.to_owned(),
            request_id: REQUEST.to_owned(),
            dest: "api.example.com".to_owned(),
            action: "accept".to_owned(),
        };
        let refused = client.verdict(&accept).await;
        let Err(AnswerError::Other(reply)) = &refused else {
            panic!("{refused:?}");
        };
        assert!(reply.to_string().contains("InvalidAction"), "{reply}");
        // A narrower answer than it can give is not sent at all.
        let mut narrow = Scope::until_removed(asked.dest.clone());
        narrow.port = Some(443);
        let refused = client
            .decide(&asked, DecisionAction::Allow, Some(narrow))
            .await;
        assert!(
            matches!(refused, Err(AnswerError::TooOld(_))),
            "{refused:?}"
        );
        assert_eq!(shield.asked(), [""; 0]);
        shield.does("echo 'nft is busy' >&2; exit 1");
        let refused = answer(&asked).await;
        assert!(
            matches!(&refused, Err(DecideError::EnforcementFailed { reason, .. })
                if reason.as_str() == "nft is busy"),
            "{refused:?}"
        );
        shield.succeeds();
        assert!(answer(&asked).await.unwrap().ok);
        let refused = answer(&asked).await;
        assert!(
            matches!(&refused, Err(DecideError::NoSuchRequest { .. })),
            "{refused:?}"
        );
        let order = format!("allow {CONTAINER} api.example.com");
        assert_eq!(shield.asked(), [order.clone(), order]);
    }
}

/// Their hub tells only new questions, so ours say that they cannot know.
#[tokio::test]
async fn what_was_asked_before_is_said_to_be_unknown() {
    for stack in Stack::ALL {
        let place = Place::new();
        let _hub = place.their_hub(stack).await;
        let sockets = place.runtime().shared_hub_sockets();
        let mut events = Subscriber::at(&sockets).await;
        events.blocked(&sockets, &pending(REQUEST, "")).await;
        let list = Running::start(&mut place.ours(&["list"])).end().await;
        assert_eq!(list.status.code(), Some(5), "{list:?}");
        assert!(!list.errors.contains("no pending questions"), "{list:?}");
        let warning = "which does not list its questions: any number may be pending there";
        assert!(list.errors.contains(warning), "{list:?}");
        let list = Running::start(&mut place.ours(&["list", "--json"]))
            .end()
            .await;
        assert_eq!(list.status.code(), Some(5), "{list:?}");
        assert!(list.output.contains("org.terok.Clearance1"), "{list:?}");
        // The id alone is not enough to answer; the destination is.
        let allow = Running::start(&mut place.ours(&["allow", REQUEST]))
            .end()
            .await;
        assert_eq!(allow.status.code(), Some(1), "{allow:?}");
        assert!(allow.errors.contains("--expect"), "{allow:?}");
        for command in ["watch", "clearance"] {
            let mut running = Running::start(&mut place.ours(&[command]));
            running.until("tells only").await;
            running.until("may be pending").await;
        }
    }
}

/// Starts our prompt, and lets the hub have two questions for it.
async fn prompted(place: &Place, args: &[&str], heard: &str) -> Running {
    let sockets = place.runtime().shared_hub_sockets();
    let mut prompt = Running::start(&mut place.ours(args));
    let up = json!({"type": "shield_up", "container": CONTAINER});
    while_repeating(&sockets.ingester, &up, prompt.until(heard)).await;
    prompt.until("\n").await;
    let second = format!("{CONTAINER}:2");
    place
        .report(&[pending(REQUEST, "api.example.com"), pending(&second, "")])
        .await;
    prompt
}

#[tokio::test]
async fn a_person_answers_it_at_our_prompt() {
    for stack in Stack::ALL {
        let place = Place::new();
        let shield = Shield::within(&place.path().join("shield"));
        let _helper = place.their_helper(stack, &shield).await;
        let _hub = place.their_hub(stack).await;
        let mut prompt = prompted(&place, &["clearance"], "the firewall is up").await;
        prompt
            .until(
                "[1] BLOCKED  api.example.com port 443/tcp  from warp/t1 (build)  id build:1\n      \
                 at 203.0.113.7\n      \
                 a 1 opens EVERY port and protocol of api.example.com, until it is removed from the \
                 firewall\n",
            )
            .await;
        prompt
            .until("[2] BLOCKED  203.0.113.7 port 443/tcp  from warp/t1 (build)  id build:2\n")
            .await;
        prompt.say("a 1").await;
        prompt
            .until("[1] ALLOWED  EVERY port and protocol of api.example.com")
            .await;
        shield.does("echo 'nft is busy' >&2; exit 1");
        prompt.say("d 2").await;
        prompt
            .until("[2] FAILED   deny took no effect; the question is still open: nft is busy\n")
            .await;
        shield.succeeds();
        prompt.say("d 2").await;
        prompt
            .until("[2] DENIED   EVERY port and protocol of 203.0.113.7")
            .await;
        prompt.say("l").await;
        prompt.until("  no pending questions\n").await;
        prompt.until("earlier ones may be pending)\n").await;
        prompt.say("q").await;
        assert!(prompt.end().await.status.success());
        let deny = format!("deny {CONTAINER} 203.0.113.7");
        let allow = format!("allow {CONTAINER} api.example.com");
        assert_eq!(shield.asked(), [allow, deny.clone(), deny], "{stack:?}");
    }
}

#[tokio::test]
async fn a_script_answers_it_through_our_prompt() {
    for stack in Stack::ALL {
        let place = Place::new();
        let shield = Shield::within(&place.path().join("shield"));
        let _helper = place.their_helper(stack, &shield).await;
        let _hub = place.their_hub(stack).await;
        let mut prompt = prompted(&place, &["--json", "clearance"], "\"shield\"").await;
        let asked = prompt.json_where("event", "pending").await;
        assert_eq!(asked["interface"], "org.terok.Clearance1");
        assert_eq!(
            [
                &asked["row"],
                &asked["id"],
                &asked["dest"],
                &asked["address"],
                &asked["port"]
            ],
            [
                &json!(1),
                &json!(REQUEST),
                &json!("api.example.com"),
                &json!("203.0.113.7"),
                &json!(443)
            ]
        );
        assert_eq!(
            asked["dossier"],
            json!({"project": "warp", "task": "t1", "name": "build"})
        );
        let second = prompt.json_where("event", "pending").await;
        assert_eq!(second["row"], 2);
        // The wrong question is not answered.
        let wrong = json!({"action": "allow", "row": 2, "request": REQUEST});
        prompt.say(&wrong.to_string()).await;
        prompt.json_where("event", "refused").await;
        let right = json!({"action": "allow", "row": 1, "request": REQUEST});
        prompt.say(&right.to_string()).await;
        let decided = prompt.json_where("event", "decided").await;
        assert_eq!(decided["request"], REQUEST);
        assert_eq!(decided["ok"], true);
        // Another operator of theirs answers the other one.
        let sockets = place.runtime().shared_hub_sockets();
        let mut other = Wire::connect(&sockets.hub).await;
        let verdict = json!({
            "container": CONTAINER, "request_id": second["id"], "dest": "203.0.113.7",
            "action": "deny",
        });
        let reply = other.call("org.terok.Clearance1.Verdict", verdict).await;
        assert_eq!(reply, json!({"parameters": {"ok": true}}));
        let decided = prompt.json_where("event", "decided").await;
        assert_eq!(decided["row"], 2);
        assert_eq!(decided["action"], "deny");
        // A blocked packet for a new question, then the sandbox ends.
        let third = format!("{CONTAINER}:3");
        let exited = json!({"type": "container_exited", "container": CONTAINER, "reason": "eof"});
        place.report(&[pending(&third, ""), exited]).await;
        assert_eq!(prompt.json_where("event", "pending").await["row"], 3);
        let gone = prompt.json_where("event", "withdrawn").await;
        assert_eq!(gone["reason"], "the sandbox ended");
        assert!(prompt.end().await.status.success(), "{stack:?}");
    }
}

#[tokio::test]
async fn our_subscribers_hear_hubs_of_both_layouts_at_once() {
    for stack in Stack::ALL {
        let place = Place::new();
        let container = CONTAINER.parse().unwrap();
        let both = [SocketLayout::C, SocketLayout::D]
            .map(|layout| place.runtime().sandbox_sockets(&container, layout));
        let mut session = Session::discover(place.runtime()).unwrap();
        let [older, newer] = &both;
        let _older = place.their_hub_at(stack, older).await;
        let _newer = place.their_hub_at(stack, newer).await;
        let up = json!({"type": "shield_up", "container": CONTAINER});
        for sockets in [newer, older] {
            let heard = async {
                loop {
                    let changes = session.next().await;
                    let is_shield = |change: &InboxChange| matches!(change, InboxChange::Shield { hub, .. } if hub.path() == sockets.hub);
                    if changes.iter().any(is_shield) {
                        break;
                    }
                }
            };
            while_repeating(&sockets.ingester, &up, heard).await;
        }
        for sockets in &both {
            report(&sockets.ingester, &[pending(REQUEST, "api.example.com")]).await;
            let added = 'added: loop {
                for change in session.next().await {
                    if let InboxChange::Added(number) = change {
                        break 'added number;
                    }
                }
            };
            let row = session.inbox().row(added).unwrap();
            assert_eq!(row.hub().path(), sockets.hub, "{stack:?}");
            assert_eq!(row.dest().as_str(), "api.example.com");
        }
    }
}
