// SPDX-License-Identifier: Apache-2.0
//! What real services show of a long text: a question can be allowed only if each letter that
//! matters changes the picture.

use desktop::notifier::{
    DbusNotifier, DesktopSession, Notification, NotificationExpiry, NotificationId, Notifier as _,
};
use tokio::runtime::Runtime;

use crate::picture::Picture;
use crate::scene::{API, Scene};
use crate::screen::{Desktop, Service};

/// A notifier with one popup.
struct OnePopup {
    desktop: Desktop,
    runtime: Runtime,
    notifier: DbusNotifier,
    shown: Option<NotificationId>,
}

impl OnePopup {
    fn new(kind: Service) -> Self {
        let desktop = Desktop::new(kind);
        let runtime = tokio::runtime::Builder::new_current_thread();
        let runtime = { runtime }.enable_all().build().unwrap();
        let session = DesktopSession::new(&desktop.bus(), "terok");
        let notifier = runtime.block_on(DbusNotifier::connect(session)).unwrap();
        Self {
            desktop,
            runtime,
            notifier,
            shown: None,
        }
    }

    /// Shows a notification and returns the picture, which is other than `before`.
    fn show(&mut self, notification: Notification, before: &Picture) -> Picture {
        let notification = Notification {
            replaces: self.shown,
            ..notification
        };
        let shown = self.runtime.block_on(self.notifier.notify(notification));
        self.shown = Some(shown.unwrap());
        let wanted = |picture: &Picture| !picture.is_empty() && picture != before;
        self.desktop.until(wanted)
    }
}

/// A question with `name` and with `end` as the last letter of what matters.
fn question(name: &str, end: char) -> Notification {
    Notification {
        body: format!(
            "Allow opens tcp port 443 of {name} (203.0.113.7, and its later addresses) while the \
             sandbox live{end}\nContainer: web\nProtocol: TCP"
        ),
        actions: vec!["allow:Allow".parse().unwrap(), "deny:Deny".parse().unwrap()],
        expiry: NotificationExpiry::Never,
        buttonless_hint: Some("To answer, type: terok-clearance allow web:17 (or deny)".to_owned()),
        essential_lines: 1,
        long_name: Some(name.to_owned()),
        ..Notification::new(&format!("Blocked: {name}:443"))
    }
}

/// Returns the longest name that a popup of these limits shows with Allow.
fn longest_name(notifier: &DbusNotifier, letter: char) -> String {
    let limits = notifier.text_limits();
    let name = |length: usize| format!("{}.example", letter.to_string().repeat(length));
    let allowed = |length: &usize| {
        !question(&name(*length), 's')
            .fitted_to(&limits)
            .actions
            .is_empty()
    };
    let longest = (1..240).take_while(allowed).last().unwrap();
    assert!(longest > 20, "usual names can be allowed: {limits:?}");
    name(longest)
}

/// Each letter at an end of the longest name that can be allowed is on the picture.
fn shows_what_it_allows(kind: Service) {
    let mut popup = OnePopup::new(kind);
    let empty = popup.desktop.picture();
    for letter in ['a', 'm'] {
        let name = longest_name(&popup.notifier, letter);
        let whole = popup.show(question(&name, 's'), &empty);
        let other_start = format!("z{}", &name[1..]);
        let other_end = format!("{}x", &name[..name.len() - 1]);
        // Only the body counts: a title may be cut.
        for other in [
            question(&other_start, 's'),
            question(&other_end, 's'),
            question(&name, 'x'),
        ] {
            let other = Notification {
                summary: question(&name, 's').summary,
                ..other
            };
            let differs = popup.show(other, &whole);
            assert!(differs != whole);
            popup.show(question(&name, 's'), &differs);
        }
    }
}

#[test]
fn mate_shows_what_it_allows() {
    shows_what_it_allows(Service::Mate);
}

#[test]
fn xfce_shows_what_it_allows() {
    shows_what_it_allows(Service::Xfce);
}

#[test]
fn notification_daemon_shows_what_it_allows() {
    shows_what_it_allows(Service::Gnome2);
}

#[test]
fn dunst_shows_what_it_allows() {
    shows_what_it_allows(Service::Dunst);
}

/// Each letter at the end of each label is on the picture, with as many actions as are offered.
fn shows_its_actions(kind: Service, expected: usize) {
    let mut popup = OnePopup::new(kind);
    assert_eq!(popup.notifier.text_limits().actions, expected);
    let empty = popup.desktop.picture();
    let with = |changed: Option<usize>| {
        let widest = ["Allow", "Deny", "Allow 5 min", "Always allow"];
        let labels = widest.iter().take(expected).enumerate();
        let actions = labels.map(|(at, label)| {
            let end = if changed == Some(at) { "x" } else { "" };
            format!("key{at}:{label}{end}").parse().unwrap()
        });
        Notification {
            actions: actions.collect(),
            ..question("api.example.com", 's')
        }
    };
    let mut before = popup.show(with(None), &empty);
    for at in 0..expected {
        let changed = popup.show(with(Some(at)), &before);
        assert!(changed != before, "action {at} is not shown");
        before = popup.show(with(None), &changed);
    }
}

#[test]
fn mate_shows_its_actions() {
    shows_its_actions(Service::Mate, 4);
}

#[test]
fn xfce_shows_its_actions() {
    shows_its_actions(Service::Xfce, 4);
}

#[test]
fn notification_daemon_shows_its_actions() {
    shows_its_actions(Service::Gnome2, 3);
}

/// A name whose end was never visible: whatever is clicked in its popup, the question stays.
fn has_no_allow(kind: Service) {
    let mut scene = Scene::new(kind);
    let label = "x".repeat(60);
    let long = format!("www.bank.example.{label}.{label}.{label}.evil.example");
    assert!(!scene.reaches(&long), "not allowed yet");
    assert_eq!(scene.heard("pending")["dest"], long.as_str());
    scene.desktop.until(|picture| !picture.is_empty());
    // Where a button would be, below the text, and then on the text, which closes the popup.
    scene
        .desktop
        .read_and_click_at(|picture| picture.buttons().last().copied());
    scene
        .desktop
        .read_and_click_at(|picture| picture.body().or(Some((0, 0))));
    scene.desktop.until(Picture::is_empty);
    assert_eq!(scene.listed(), [(long.clone(), 1)]);
    assert!(!scene.reaches(&long), "a click there is no answer");
    // A name of usual length has both buttons.
    assert!(!scene.reaches(API), "not allowed yet");
    scene.desktop.read_and_click(0);
    assert_eq!(scene.heard("decided")["dest"], API);
}

#[test]
fn a_long_name_has_no_allow_with_mate() {
    has_no_allow(Service::Mate);
}

#[test]
fn a_long_name_has_no_allow_with_xfce() {
    has_no_allow(Service::Xfce);
}

/// dunst announces actions, and draws no buttons: the popup says how to answer.
#[test]
fn dunst_shows_how_to_answer() {
    let mut popup = OnePopup::new(Service::Dunst);
    assert!(!popup.notifier.capabilities().actions, "it has no buttons");
    let empty = popup.desktop.picture();
    let with_hint = popup.show(question("api.example.com", 's'), &empty);
    let without = Notification {
        buttonless_hint: None,
        ..question("api.example.com", 's')
    };
    let without = popup.show(without, &with_hint);
    assert!(with_hint.popup_height() > without.popup_height());
    assert!(with_hint.popup_height() < 300, "nothing is clipped");
}
