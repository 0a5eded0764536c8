// SPDX-License-Identifier: Apache-2.0
//! Invariant: only the present owner of the service's name is believed, about what it shows.

use crate::bus::Bus;
use crate::fake::{Fake, USUAL, ask_bus, choice, key, question, settle, signal};

/// Returns the notifier's own name on the bus, which a stranger can find out, too.
async fn name_of_the_notifier(bus: &Bus, known: &[&zbus::Connection]) -> String {
    let somebody = bus.somebody().await;
    let answer = ask_bus(&somebody, "ListNames", &()).await;
    let names: Vec<String> = answer.body().deserialize().unwrap();
    let mut known: Vec<_> = known
        .iter()
        .map(|connection| connection.unique_name().unwrap().to_string())
        .collect();
    known.push(somebody.unique_name().unwrap().to_string());
    let mut unknown = names
        .into_iter()
        .filter(|name| name.starts_with(':') && !known.contains(name));
    let name = unknown.next().unwrap();
    assert_eq!(unknown.next(), None);
    name
}

#[tokio::test]
async fn a_strangers_signals_are_no_answers_whether_sent_to_all_or_to_us() {
    let bus = Bus::new();
    let (service, _notifier, _, chosen) = Fake::asks(&bus, 1).await;
    let stranger = bus.somebody().await;
    let us = name_of_the_notifier(&bus, &[&service.connection, &stranger]).await;
    for to in [None, Some(us.as_str())] {
        signal(&stranger, to, "ActionInvoked", &(1_u32, "allow")).await;
        signal(&stranger, to, "NotificationClosed", &(1_u32, 2_u32)).await;
        signal(&stranger, to, "ActivationToken", &(1_u32, "theirs")).await;
    }
    settle(&stranger).await;
    service.chosen(1, "deny").await;
    let choice = chosen.await.unwrap();
    assert_eq!(choice.key.as_str(), "deny");
    assert_eq!(choice.activation_token, None);
}

#[tokio::test]
async fn a_stranger_cannot_say_that_the_name_is_theirs() {
    let bus = Bus::new();
    let (service, _notifier, _, chosen) = Fake::asks(&bus, 1).await;
    let stranger = bus.somebody().await;
    let us = name_of_the_notifier(&bus, &[&service.connection, &stranger]).await;
    let (name, own) = (
        "org.freedesktop.Notifications",
        stranger.unique_name().unwrap(),
    );
    let owner = service.connection.unique_name().unwrap();
    for to in [None, Some(us.as_str())] {
        let (path, interface) = ("/org/freedesktop/DBus", "org.freedesktop.DBus");
        let change = (name, owner.as_str(), own.as_str());
        let emitted = stranger.emit_signal(to, path, interface, "NameOwnerChanged", &change);
        emitted.await.unwrap();
        signal(&stranger, to, "ActionInvoked", &(1_u32, "allow")).await;
    }
    settle(&stranger).await;
    service.chosen(1, "deny").await;
    assert_eq!(key(chosen).await.as_deref(), Some("deny"));
}

#[tokio::test]
async fn what_is_not_ours_or_was_not_offered_is_no_answer() {
    let bus = Bus::new();
    let (service, _notifier, _, chosen) = Fake::asks(&bus, 7).await;
    for (id, key) in [
        (8, "allow"),
        (0, "allow"),
        (7, "default"),
        (7, ""),
        (7, "Allow"),
    ] {
        service.chosen(id, key).await;
    }
    service.closed(8).await;
    // Not as the specification has it.
    signal(&service.connection, None, "ActionInvoked", &("7", "allow")).await;
    signal(&service.connection, None, "ActionInvoked", &7_u32).await;
    service.chosen(7, "deny").await;
    assert_eq!(key(chosen).await.as_deref(), Some("deny"));
}

#[tokio::test]
async fn the_token_comes_with_its_choice() {
    let bus = Bus::new();
    let (service, _notifier, _, chosen) = Fake::asks(&bus, 1).await;
    signal(
        &service.connection,
        None,
        "ActivationToken",
        &(1_u32, "token"),
    )
    .await;
    service.chosen(1, "allow").await;
    assert_eq!(
        chosen.await.unwrap().activation_token.as_deref(),
        Some("token")
    );
}

#[tokio::test]
async fn when_the_name_passes_on_the_former_owner_is_a_stranger() {
    let bus = Bus::new();
    let (mut former, notifier, _, chosen) = Fake::asks(&bus, 1).await;
    // A relay that takes the name over, while the former owner lives on.
    let mut relay = Fake::new(&bus).await;
    relay.introduces(USUAL).await;
    let posted = relay.shows(40).await;
    assert_eq!((posted.summary.as_str(), posted.replaces), ("a", 0));
    // What the former one still shows is taken away there.
    former.closes(1).await;
    former.chosen(1, "allow").await;
    former.chosen(40, "allow").await;
    settle(&former.connection).await;
    relay.chosen(1, "allow").await;
    relay.chosen(40, "deny").await;
    assert_eq!(key(chosen).await.as_deref(), Some("deny"));
    // And back again.
    former.take_name().await;
    // What is shown before the notifier has heard of it goes to the name, whoever has it.
    former.introduces(USUAL).await;
    assert_eq!(former.shows(2).await.summary, "a");
    let (_, posted) = former.is_shown(&notifier, question("b"), 3).await;
    assert_eq!(posted.summary, "b");
}

#[tokio::test]
async fn an_id_of_a_service_that_ended_answers_nothing_of_the_next_one() {
    let bus = Bus::new();
    let mut first = Fake::new(&bus).await;
    let notifier = first.meets(bus.session(), USUAL).await;
    let (a, _) = first.is_shown(&notifier, question("a"), 1).await;
    let (b, _) = first.is_shown(&notifier, question("b"), 2).await;
    let (of_a, of_b) = (choice(&notifier, a).await, choice(&notifier, b).await);
    first.connection.close().await.unwrap();
    let mut second = Fake::new(&bus).await;
    second.introduces(USUAL).await;
    // It counts from 1 again, and what was 1 is 2.
    for _ in 0..2 {
        let call = second.call("Notify").await;
        let id = if crate::fake::posted(&call).summary == "a" {
            2_u32
        } else {
            1
        };
        second.reply(&call, &id).await;
    }
    second.chosen(1, "deny").await;
    assert_eq!(key(of_b).await.as_deref(), Some("deny"));
    second.chosen(2, "allow").await;
    assert_eq!(key(of_a).await.as_deref(), Some("allow"));
}
