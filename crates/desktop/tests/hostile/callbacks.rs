// SPDX-License-Identifier: Apache-2.0
//! The callback notifier of a program: notifications and hooks of a hub and a container engine.

use std::sync::Arc;

use operator::Session;
use serde_json::{Value, json};
use terok_clearance::{ContainerId, DisplayText};
use terok_clearance_desktop::identity::{ContainerInfo, ContainerInspector, IdentityResolver};
use terok_clearance_desktop::notifier::{CallbackNotifier, Notification};
use terok_clearance_desktop::popups::{Categories, PopupOptions, run_popups};
use test_support::fake_hub::{CLEARANCE2_ONLY, FakeHub, RunningHub};
use tokio::sync::mpsc;

use crate::harmless::{Harmless, tame};
use crate::hub;
use crate::popups::all_texts;
use crate::texts;

/// A container engine with this text in every field, and the path of a file in an annotation.
struct HostileEngine {
    text: String,
    file: String,
}

impl ContainerInspector for HostileEngine {
    async fn inspect(&self, container: &ContainerId) -> ContainerInfo {
        let text = || self.text.clone();
        let annotations = [
            ("dossier.project", text()),
            ("dossier.task", text()),
            ("dossier.name", text()),
            ("dossier.meta_path", self.file.clone()),
        ];
        ContainerInfo {
            container_id: container.as_str().into(),
            name: self.text.as_str().into(),
            state: self.text.as_str().into(),
            annotations: annotations
                .map(|(key, value)| (key.to_owned(), value))
                .into(),
        }
    }
}

/// A call of the notifier.
#[derive(Debug, PartialEq)]
enum NotifierCall {
    Notification(Box<Notification>),
    Hook(&'static str, ContainerId, DisplayText),
}

/// The places of the text in the questions: few enough for a popup each.
const PLACES: [&str; 3] = ["dest", "command", "all"];

/// Returns the events of a hub: some questions, one without a dossier, states of sandboxes, and
/// the start of [`hub::LAST`].
fn events(text: &str) -> Vec<Value> {
    let everything = hub::events(&[text.to_owned()]);
    let wanted = |event: &&Value| {
        let id = event["request"]["id"].as_str();
        let mut ids = PLACES.iter().map(|place| hub::id(hub::number(0, place)));
        match event["kind"].as_str() {
            Some("pending") => ids.any(|wanted| id == Some(&wanted)),
            Some("container" | "shield" | "synced") => true,
            _ => false,
        }
    };
    let mut events: Vec<_> = everything.iter().filter(wanted).cloned().collect();
    let mut unnamed = hub::question(hub::number(0, "process"), text);
    unnamed["dossier"] = json!({});
    let unnamed = json!({"kind": "pending", "request": unnamed, "seq": 0});
    events.insert(0, unnamed);
    events
}

/// Returns the calls of the notifier until all sandboxes are identified.
async fn notifier_calls(text: &str) -> Vec<NotifierCall> {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("run/terok-clearance.sock");
    let frames: String = events(text).iter().map(hub::frame).collect();
    let hub = FakeHub::silent(CLEARANCE2_ONLY).with_frames(frames.into());
    let _hub = RunningHub::start(&path, hub);
    let file = directory.path().join("task.json");
    std::fs::write(&file, json!({"name": text}).to_string()).unwrap();
    let engine = HostileEngine {
        text: text.to_owned(),
        file: file.to_str().unwrap().to_owned(),
    };
    let (sender, mut calls) = mpsc::channel(1000);
    let hook = |name: &'static str| {
        let sender = sender.clone();
        move |container| {
            let call = NotifierCall::Hook(name, container, DisplayText::default());
            sender.try_send(call).unwrap();
        }
    };
    let exited = sender.clone();
    let shown = sender.clone();
    let notifier = CallbackNotifier::new(move |_, notification| {
        let call = NotifierCall::Notification(Box::new(notification.clone()));
        shown.try_send(call).unwrap();
    })
    .on_container_started(hook("started"))
    .on_container_exited(move |container, reason| {
        let call = NotifierCall::Hook("exited", container, reason);
        exited.try_send(call).unwrap();
    })
    .on_shield_up(hook("up"))
    .on_shield_down(hook("down"))
    .on_shield_disengaged(hook("disengaged"));
    let options = PopupOptions {
        categories: Categories::ALL,
        ..PopupOptions::default()
    };
    let resolver = Arc::new(IdentityResolver::new(engine));
    let session = Session::at_socket(path).unwrap();
    let mut received = Vec::new();
    let named = |call: &NotifierCall| {
        let process = hub::host(hub::number(0, "process"));
        matches!(call, NotifierCall::Notification(shown) if shown.summary.contains(&process)
            && !shown.identity.container_name.is_empty())
    };
    let last = |call: &NotifierCall| {
        matches!(call, NotifierCall::Notification(shown) if shown.summary.starts_with("Container started: ")
            && shown.identity.container_id == hub::LAST)
    };
    // A sandbox without a name is shown by its id, without a further update.
    let enough = |calls: &[NotifierCall]| {
        calls.iter().any(last) && (text.is_empty() || calls.iter().any(named))
    };
    let all = async {
        while !enough(&received) {
            received.push(calls.recv().await.unwrap());
        }
    };
    run_popups(session, &notifier, resolver, options, all).await;
    received
}

/// With one thread and paused time, the delays between popups take no time.
#[tokio::test(start_paused = true)]
async fn calls_of_the_notifier_are_harmless() {
    let line = |call: &NotifierCall| match call {
        NotifierCall::Notification(shown) => all_texts(shown),
        NotifierCall::Hook(name, container, reason) => format!("{name}\n{container}\n{reason}"),
    };
    for (case, text) in texts::all() {
        let harmless = Harmless::new(std::slice::from_ref(&text));
        let (plain, shown) = (
            notifier_calls(&tame(&text)).await,
            notifier_calls(&text).await,
        );
        let lines =
            |calls: &[NotifierCall]| calls.iter().map(line).collect::<Vec<_>>().join("\n\n");
        assert_eq!(
            harmless.text(&lines(&plain), &lines(&shown)),
            Ok(()),
            "{case}"
        );
    }
}
