// SPDX-License-Identifier: Apache-2.0
//! Popups during the storm: first a few, then one for all, then one for each remaining question.

use std::collections::BTreeMap;
use std::sync::Arc;

use desktop::identity::{IdentityResolver, NullInspector};
use desktop::notifier::{CallbackNotifier, NotificationId};
use desktop::popups::{CLICK_GUARD_DELAY, PopupOptions, run_popups};
use operator::Session;
use terok_clearance::Action;
use terok_clearance::socket::RuntimeDir;
use test_support::directory::private_directory;
use test_support::notification_service::RecordingNotificationService;
use test_support::test_bus::TestBus;
use tokio::sync::oneshot;

use crate::crowd::{Crowd, QUESTIONS, Question, SANDBOXES, Share, orders, questions};
use crate::desk::Desk;
use crate::program::{Running, answer, command};

/// The number of questions of each kind that are left for the popups to answer.
const LEFT: usize = 4;

/// Starts the storm, lets scripts answer all but a few questions, and clicks on the popups of the
/// rest.
fn story(place: &std::path::Path, crowd: &Crowd, desk: &Desk, click: impl Fn(u32, &str)) {
    crowd.ask();
    let all = format!("{QUESTIONS} questions from {SANDBOXES} sandboxes");
    desk.until("one for all", |shows| {
        shows.asks(std::slice::from_ref(&all))
    });

    let of = |share| {
        let mut theirs = questions();
        theirs.retain(|question| question.share == share);
        theirs
    };
    let (mut allow, mut deny) = (of(Share::Allow), of(Share::Deny));
    let left = [
        allow.split_off(allow.len() - LEFT / 2),
        deny.split_off(deny.len() - LEFT / 2),
    ]
    .concat();
    // A group popup has no buttons, so scripts answer first.
    answer(place, Share::Allow, &allow);
    answer(place, Share::Deny, &deny);
    answer(place, Share::Deny, &of(Share::Wait));

    let title = |question: &Question| format!("Blocked: {}:443", question.name);
    let mut titles: Vec<_> = left.iter().map(title).collect();
    titles.sort();
    for question in &left {
        let shown = desk.until("each that is left", |shows| shows.asks(&titles));
        let (id, _) = shown
            .iter()
            .find(|(_, popup)| popup.summary == title(question))
            .unwrap();
        // Waits as long as the click guard requires.
        std::thread::park_timeout(CLICK_GUARD_DELAY * 2);
        click(*id, question.share.word());
        titles.retain(|other| *other != title(question));
        let word = if question.share == Share::Allow {
            "Allowed"
        } else {
            "Denied"
        };
        let result = format!("{word}: {}", question.name);
        // The result replaces the question, or appears next to it if the desktop has removed the
        // popup.
        desk.until("what became of it", |shows| {
            shows.popups.values().any(|popup| popup.summary == result)
        });
    }
    desk.until("none that asks", |shows| shows.asks(&[]));
    let by_scripts = of(Share::Wait).into_iter();
    let mut wanted: Vec<_> = by_scripts
        .map(|question| (question.name, Action::Deny))
        .collect();
    wanted.extend(orders(&questions()));
    crowd.were_told(wanted);
}

#[test]
fn a_notifier_that_calls_back_shows_the_storm_as_a_few_popups_and_loses_none() {
    let place = private_directory();
    let crowd = Crowd::serve(place.path());
    let desk = Arc::new(Desk::new());
    // The notifier's ids are private; the test identifies popups by their text.
    let number = |id: NotificationId| id.to_string().parse::<u32>().unwrap();
    let ids = Arc::new(std::sync::Mutex::new(BTreeMap::new()));
    let (shows, closes, known) = (Arc::clone(&desk), Arc::clone(&desk), Arc::clone(&ids));
    let notifier = CallbackNotifier::new(move |id, notification| {
        known.lock().unwrap().insert(number(id), id);
        shows.notify(number(id), &notification.summary);
    })
    .on_close(move |id| closes.close(number(id)));
    let notifier = Arc::new(notifier);

    let (stop, stopped) = oneshot::channel::<()>();
    let (theirs, place_of_hubs) = (Arc::clone(&notifier), RuntimeDir::new(place.path()));
    let bridge = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build();
        runtime.unwrap().block_on(async {
            let session = Session::discover(place_of_hubs).unwrap();
            let resolver = Arc::new(IdentityResolver::new(Some(NullInspector)));
            let stop = async { drop(stopped.await) };
            run_popups(session, &*theirs, resolver, PopupOptions::default(), stop).await;
        });
    });
    story(place.path(), &crowd, &desk, |id, key| {
        let id = ids.lock().unwrap()[&id];
        notifier.invoke_action(id, key).unwrap();
    });
    stop.send(()).unwrap();
    bridge.join().unwrap();
    desk.until("an empty screen", |shows| shows.popups.is_empty());
}

#[test]
fn the_notifier_shows_the_storm_as_a_few_popups_and_loses_none() {
    let place = private_directory();
    let crowd = Crowd::serve(place.path());
    let desk = Arc::new(Desk::new());
    let bus = TestBus::start();
    let shown = Arc::clone(&desk);
    let service = RecordingNotificationService::start(bus.address(), move |call| shown.apply(call));
    let mut notifier = command(place.path(), &["notifier"]);
    notifier.env("DBUS_SESSION_BUS_ADDRESS", bus.address());
    let notifier = Running::start(notifier);
    story(place.path(), &crowd, &desk, |id, key| {
        service.click(id, key);
    });
    notifier.terminate();
    desk.until("an empty screen", |shows| shows.popups.is_empty());
}
