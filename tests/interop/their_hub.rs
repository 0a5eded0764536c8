// SPDX-License-Identifier: Apache-2.0
//! The Python stack's hub with our client, prompt and subscribers: what they show and answer there
//! is the same as with ours.

use std::time::Duration;

use serde_json::json;
use terok_clearance::client::{AnswerError, Client, Events, Speaks, Update};
use terok_clearance::wire::clearance2::{DecideError, Event};
use terok_clearance::{Resolution, Scope, ShieldState};

use crate::harness::{Place, Stack, pending};

async fn event(events: &mut Events) -> Event {
    loop {
        match events.next().await {
            Update::Event(event) => return event,
            Update::Connected(speaks) => assert_eq!(speaks, Speaks::Clearance1),
            Update::Disconnected { reason, .. } => panic!("{reason}"),
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
    let socket = place.runtime().classic().hub;
    let (client, mut events) = Client::start(socket).await.unwrap();
    // That hub says nothing to a new subscriber, so only an event tells that it is heard; one that
    // was told before the subscription took effect is lost.
    let up = json!({"type": "shield_up", "container": "0123456789ab"});
    let mut again = tokio::time::interval(Duration::from_millis(50));
    loop {
        tokio::select! {
            _ = again.tick() => place.report(std::slice::from_ref(&up)).await,
            heard = event(&mut events) => {
                assert!(matches!(heard, Event::Shield { state: ShieldState::Up, .. }), "{heard:?}");
                break;
            }
        }
    }
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
    assert_eq!(request.scope, Scope::whole(request.dest.clone()));
    // No verdict helper runs, so the hub cannot carry the answer out, and says so twice.
    let refused = client.decide(&request, Resolution::Allow, None).await;
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
    let refused = client.decide(&request, Resolution::Allow, None).await;
    let Err(AnswerError::Refused(DecideError::NoSuchRequest { request: unknown })) = refused else {
        panic!("{refused:?}");
    };
    assert_eq!(unknown, request.id);
}
