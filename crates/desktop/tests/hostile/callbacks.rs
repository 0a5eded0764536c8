// SPDX-License-Identifier: Apache-2.0
//! A program's own notifier: what it is given of a live hub, and of the engine of its containers.

use std::sync::Arc;

use operator::Session;
use serde_json::{Value, json};
use terok_clearance::wire::clearance2;
use terok_clearance::{ContainerId, DisplayText};
use terok_clearance_desktop::identity::{ContainerInfo, ContainerInspector, IdentityResolver};
use terok_clearance_desktop::notifier::{CallbackNotifier, Notification};
use terok_clearance_desktop::popups::{Categories, PopupOptions, run_popups};
use tokio::sync::mpsc;

use crate::fakes::{Hub, Running};
use crate::harmless::{Harmless, tame};
use crate::hub;
use crate::popups::whole;
use crate::texts;

/// Knows every container by this text, and by the file whose path is an annotation of it.
struct Engine {
    text: String,
    file: String,
}

impl ContainerInspector for Engine {
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

/// What a program is given.
#[derive(Debug, PartialEq)]
enum Given {
    Notification(Box<Notification>),
    Hook(&'static str, ContainerId, DisplayText),
}

/// The questions that there are, few enough for a popup each.
const ASKED: [&str; 3] = ["dest", "command", "all"];

/// Returns what a hub says: some questions, the last of a sandbox that it does not name, what
/// becomes of sandboxes, and that one started last of all.
fn events(text: &str) -> Vec<Value> {
    let everything = hub::events(&[text.to_owned()]);
    let wanted = |event: &&Value| {
        let id = event["request"]["id"].as_str();
        let asked = ASKED.iter().map(|place| hub::id(hub::number(0, place)));
        match event["kind"].as_str() {
            Some("pending") => asked.into_iter().any(|asked| id == Some(&asked)),
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

/// Returns all that a program is given, until it knows who everybody is.
async fn given(text: &str) -> Vec<Given> {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("run/terok-clearance.sock");
    let frames: String = events(text).iter().map(hub::frame).collect();
    let mut running = Running::default();
    let talks = Hub::silent(&[clearance2::INTERFACE]).saying(frames.into());
    let _stop = running.start(&path, talks);
    let file = directory.path().join("task.json");
    std::fs::write(&file, json!({"name": text}).to_string()).unwrap();
    let engine = Engine {
        text: text.to_owned(),
        file: file.to_str().unwrap().to_owned(),
    };
    let (tell, mut told) = mpsc::channel(1000);
    let hook = |name: &'static str| {
        let tell = tell.clone();
        move |container| {
            let given = Given::Hook(name, container, DisplayText::default());
            tell.try_send(given).unwrap();
        }
    };
    let exited = tell.clone();
    let shown = tell.clone();
    let notifier = CallbackNotifier::new(move |_, notification| {
        let given = Given::Notification(Box::new(notification.clone()));
        shown.try_send(given).unwrap();
    })
    .on_container_started(hook("started"))
    .on_container_exited(move |container, reason| {
        let given = Given::Hook("exited", container, reason);
        exited.try_send(given).unwrap();
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
    let mut given = Vec::new();
    let named = |given: &Given| {
        let process = hub::host(hub::number(0, "process"));
        matches!(given, Given::Notification(shown) if shown.summary.contains(&process)
            && !shown.identity.container_name.is_empty())
    };
    let last = |given: &Given| {
        matches!(given, Given::Notification(shown) if shown.summary.starts_with("Container started: ")
            && shown.identity.container_id == hub::LAST)
    };
    // Someone without a name is shown by their id, and nothing more comes.
    let enough =
        |given: &[Given]| given.iter().any(last) && (text.is_empty() || given.iter().any(named));
    let all = async {
        while !enough(&given) {
            given.push(told.recv().await.unwrap());
        }
    };
    run_popups(session, &notifier, resolver, options, all).await;
    given
}

/// The hub and the notifier are of one thread, so the pauses between popups need not be waited for.
#[tokio::test(start_paused = true)]
async fn everything_that_a_program_is_given_is_harmless() {
    let line = |given: &Given| match given {
        Given::Notification(shown) => whole(shown),
        Given::Hook(name, container, reason) => format!("{name}\n{container}\n{reason}"),
    };
    for (case, text) in texts::all() {
        let harmless = Harmless::new(std::slice::from_ref(&text));
        let (plain, shown) = (given(&tame(&text)).await, given(&text).await);
        let lines = |given: &[Given]| given.iter().map(line).collect::<Vec<_>>().join("\n\n");
        assert_eq!(
            harmless.text(&lines(&plain), &lines(&shown)),
            Ok(()),
            "{case}"
        );
    }
}
