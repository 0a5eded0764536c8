// SPDX-License-Identifier: Apache-2.0
//! Invariant: only signals of the present owner of the service's name count, for its popups.

use test_support::notification_service::USUAL_CAPABILITIES;
use test_support::test_bus::TestBus;

use crate::service::{
    ScriptedService, call_bus, choice, connect, key, question, session, signal, sync_with_bus,
};

/// Returns the notifier's unique name on the bus, which every program can find out.
async fn notifier_name(bus: &TestBus, known: &[&zbus::Connection]) -> String {
    let program = connect(bus).await;
    let answer = call_bus(&program, "ListNames", &()).await;
    let names: Vec<String> = answer.body().deserialize().unwrap();
    let mut known: Vec<_> = known
        .iter()
        .map(|connection| connection.unique_name().unwrap().to_string())
        .collect();
    known.push(program.unique_name().unwrap().to_string());
    let mut unknown = names
        .into_iter()
        .filter(|name| name.starts_with(':') && !known.contains(name));
    let name = unknown.next().unwrap();
    assert_eq!(unknown.next(), None);
    name
}

#[tokio::test]
async fn signals_of_another_program_are_no_answers() {
    let bus = TestBus::start();
    let (service, _notifier, _, chosen) = ScriptedService::with_question(&bus, 1).await;
    let other = connect(&bus).await;
    let us = notifier_name(&bus, &[&service.connection, &other]).await;
    for to in [None, Some(us.as_str())] {
        signal(&other, to, "ActionInvoked", &(1_u32, "allow")).await;
        signal(&other, to, "NotificationClosed", &(1_u32, 2_u32)).await;
        signal(&other, to, "ActivationToken", &(1_u32, "theirs")).await;
    }
    sync_with_bus(&other).await;
    service.invoke_action(1, "deny").await;
    let choice = chosen.await.unwrap();
    assert_eq!(choice.key.as_str(), "deny");
    assert_eq!(choice.activation_token, None);
}

#[tokio::test]
async fn another_program_cannot_claim_the_name_by_a_signal() {
    let bus = TestBus::start();
    let (service, _notifier, _, chosen) = ScriptedService::with_question(&bus, 1).await;
    let other = connect(&bus).await;
    let us = notifier_name(&bus, &[&service.connection, &other]).await;
    let (name, own) = (
        "org.freedesktop.Notifications",
        other.unique_name().unwrap(),
    );
    let owner = service.connection.unique_name().unwrap();
    for to in [None, Some(us.as_str())] {
        let (path, interface) = ("/org/freedesktop/DBus", "org.freedesktop.DBus");
        let change = (name, owner.as_str(), own.as_str());
        let emitted = other.emit_signal(to, path, interface, "NameOwnerChanged", &change);
        emitted.await.unwrap();
        signal(&other, to, "ActionInvoked", &(1_u32, "allow")).await;
    }
    sync_with_bus(&other).await;
    service.invoke_action(1, "deny").await;
    assert_eq!(key(chosen).await.as_deref(), Some("deny"));
}

#[tokio::test]
async fn unknown_ids_and_actions_are_no_answers() {
    let bus = TestBus::start();
    let (service, _notifier, _, chosen) = ScriptedService::with_question(&bus, 7).await;
    for (id, key) in [
        (8, "allow"),
        (0, "allow"),
        (7, "default"),
        (7, ""),
        (7, "Allow"),
    ] {
        service.invoke_action(id, key).await;
    }
    service.emit_closed(8).await;
    // Invalid argument types.
    signal(&service.connection, None, "ActionInvoked", &("7", "allow")).await;
    signal(&service.connection, None, "ActionInvoked", &7_u32).await;
    service.invoke_action(7, "deny").await;
    assert_eq!(key(chosen).await.as_deref(), Some("deny"));
}

#[tokio::test]
async fn the_activation_token_comes_with_its_choice() {
    let bus = TestBus::start();
    let (service, _notifier, _, chosen) = ScriptedService::with_question(&bus, 1).await;
    signal(
        &service.connection,
        None,
        "ActivationToken",
        &(1_u32, "token"),
    )
    .await;
    service.invoke_action(1, "allow").await;
    assert_eq!(
        chosen.await.unwrap().activation_token.as_deref(),
        Some("token")
    );
}

#[tokio::test]
async fn signals_of_the_former_owner_do_not_count() {
    let bus = TestBus::start();
    let (mut former, notifier, _, chosen) = ScriptedService::with_question(&bus, 1).await;
    // Another service takes the name, and the former owner keeps running.
    let mut successor = ScriptedService::start(&bus).await;
    successor.reply_capabilities(USUAL_CAPABILITIES).await;
    let notify = successor.accept_notify(40).await;
    assert_eq!((notify.summary.as_str(), notify.replaces), ("a", 0));
    // The popup of the former owner is closed.
    former.accept_close(1).await;
    former.invoke_action(1, "allow").await;
    former.invoke_action(40, "allow").await;
    sync_with_bus(&former.connection).await;
    successor.invoke_action(1, "allow").await;
    successor.invoke_action(40, "deny").await;
    assert_eq!(key(chosen).await.as_deref(), Some("deny"));
    // The former owner takes the name back.
    former.take_name().await;
    // A call goes to the owner of the name, also before the notifier has received the change.
    former.reply_capabilities(USUAL_CAPABILITIES).await;
    assert_eq!(former.accept_notify(2).await.summary, "a");
    let (_, notify) = former.show(&notifier, question("b"), 3).await;
    assert_eq!(notify.summary, "b");
}

#[tokio::test]
async fn ids_of_an_ended_service_are_not_those_of_the_next() {
    let bus = TestBus::start();
    let mut first = ScriptedService::start(&bus).await;
    let notifier = first
        .connect_notifier(session(&bus), USUAL_CAPABILITIES)
        .await;
    let (a, _) = first.show(&notifier, question("a"), 1).await;
    let (b, _) = first.show(&notifier, question("b"), 2).await;
    let (of_a, of_b) = (choice(&notifier, a).await, choice(&notifier, b).await);
    first.connection.close().await.unwrap();
    let mut second = ScriptedService::start(&bus).await;
    second.reply_capabilities(USUAL_CAPABILITIES).await;
    // The new service counts from 1 again and gives the questions other ids.
    for _ in 0..2 {
        let call = second.call("Notify").await;
        let id = if crate::service::parse_notify(&call).summary == "a" {
            2_u32
        } else {
            1
        };
        second.reply(&call, &id).await;
    }
    second.invoke_action(1, "deny").await;
    assert_eq!(key(of_b).await.as_deref(), Some("deny"));
    second.invoke_action(2, "allow").await;
    assert_eq!(key(of_a).await.as_deref(), Some("allow"));
}
