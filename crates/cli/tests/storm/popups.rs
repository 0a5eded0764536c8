// SPDX-License-Identifier: Apache-2.0
//! Popups: a few, then one for all questions, then single ones for the questions that are left.

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
use crate::popup_screen::PopupScreen;
use crate::program::{RunningProgram, answer, command};

/// The number of questions that are answered by clicks.
const LEFT: usize = 4;

/// Reports all questions, answers all but a few by scripts, and clicks on the rest.
fn run_storm(
    directory: &std::path::Path,
    crowd: &Crowd,
    screen: &PopupScreen,
    click: impl Fn(u32, &str),
) {
    crowd.ask();
    let all = format!("{QUESTIONS} questions from {SANDBOXES} sandboxes");
    screen.until("one popup for all", |state| {
        state.has_questions(std::slice::from_ref(&all))
    });

    let of = |share| {
        let mut selected = questions();
        selected.retain(|question| question.share == share);
        selected
    };
    let (mut allow, mut deny) = (of(Share::Allow), of(Share::Deny));
    let left = [
        allow.split_off(allow.len() - LEFT / 2),
        deny.split_off(deny.len() - LEFT / 2),
    ]
    .concat();
    // The questions of a group cannot be answered by a click.
    answer(directory, Share::Allow, &allow);
    answer(directory, Share::Deny, &deny);
    answer(directory, Share::Deny, &of(Share::Wait));

    let title = |question: &Question| format!("Blocked: {}:443", question.name);
    let mut titles: Vec<_> = left.iter().map(title).collect();
    titles.sort();
    for question in &left {
        let shown = screen.until("the questions that are left", |state| {
            state.has_questions(&titles)
        });
        let (id, _) = shown
            .iter()
            .find(|(_, popup)| popup.summary == title(question))
            .unwrap();
        // The guard rejects earlier clicks.
        std::thread::park_timeout(CLICK_GUARD_DELAY * 2);
        click(*id, question.share.word());
        titles.retain(|other| *other != title(question));
        let word = if question.share == Share::Allow {
            "Allowed"
        } else {
            "Denied"
        };
        let result = format!("{word}: {}", question.name);
        // The result replaces the popup, or follows it if the click closed it.
        screen.until("the result", |state| {
            state.popups.values().any(|popup| popup.summary == result)
        });
    }
    screen.until("no question", |state| state.has_questions(&[]));
    let by_scripts = of(Share::Wait).into_iter();
    let mut wanted: Vec<_> = by_scripts
        .map(|question| (question.name, Action::Deny))
        .collect();
    wanted.extend(orders(&questions()));
    crowd.were_told(wanted);
}

#[test]
fn the_callback_notifier_shows_a_few_popups_and_loses_no_question() {
    let directory = private_directory();
    let crowd = Crowd::serve(directory.path());
    let screen = Arc::new(PopupScreen::new());
    // The screen has numbers instead of the ids of the notifier.
    let number = |id: NotificationId| id.to_string().parse::<u32>().unwrap();
    let ids = Arc::new(std::sync::Mutex::new(BTreeMap::new()));
    let (state, closes, known) = (Arc::clone(&screen), Arc::clone(&screen), Arc::clone(&ids));
    let notifier = CallbackNotifier::new(move |id, notification| {
        known.lock().unwrap().insert(number(id), id);
        state.notify(number(id), &notification.summary);
    })
    .on_close(move |id| closes.close(number(id)));
    let notifier = Arc::new(notifier);

    let (stop, stopped) = oneshot::channel::<()>();
    let (selected, place_of_hubs) = (Arc::clone(&notifier), RuntimeDir::new(directory.path()));
    let bridge = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build();
        runtime.unwrap().block_on(async {
            let session = Session::discover(place_of_hubs).unwrap();
            let resolver = Arc::new(IdentityResolver::new(Some(NullInspector)));
            let stop = async { drop(stopped.await) };
            run_popups(session, &*selected, resolver, PopupOptions::default(), stop).await;
        });
    });
    run_storm(directory.path(), &crowd, &screen, |id, key| {
        let id = ids.lock().unwrap()[&id];
        notifier.invoke_action(id, key).unwrap();
    });
    stop.send(()).unwrap();
    bridge.join().unwrap();
    screen.until("an empty screen", |state| state.popups.is_empty());
}

#[test]
fn the_desktop_notifier_shows_a_few_popups_and_loses_no_question() {
    let directory = private_directory();
    let crowd = Crowd::serve(directory.path());
    let screen = Arc::new(PopupScreen::new());
    let bus = TestBus::start();
    let shown = Arc::clone(&screen);
    let service = RecordingNotificationService::start(bus.address(), move |call| shown.apply(call));
    let mut notifier = command(directory.path(), &["notifier"]);
    notifier.env("DBUS_SESSION_BUS_ADDRESS", bus.address());
    let notifier = RunningProgram::start(notifier);
    run_storm(directory.path(), &crowd, &screen, |id, key| {
        service.click(id, key);
    });
    notifier.terminate();
    screen.until("an empty screen", |state| state.popups.is_empty());
}
