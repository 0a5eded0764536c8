// SPDX-License-Identifier: Apache-2.0
//! The picture in the README matches the screen when a live hub asks these questions.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::thread;

use hub::{Claim, DecisionEnforcer, Hub, HubOptions};
use terok_clearance::socket::{self, RuntimeDir, SocketLayout};
use terok_clearance::{BlockedPacket, EnforcementOutcome, NetworkZone, Protocol, SandboxEvent};
use tokio_util::sync::CancellationToken;

use crate::session::Session;
use crate::window::Window;

/// A firewall that supports orders for one port of one protocol.
#[derive(Debug)]
struct Narrow;

impl DecisionEnforcer for Narrow {
    fn supports_ports(&self) -> bool {
        true
    }

    async fn enforce(&self, _: Claim) -> EnforcementOutcome {
        EnforcementOutcome::Applied
    }
}

fn blocked(number: u32, name: &str, address: &str) -> SandboxEvent {
    let known = [("project", "warp"), ("task", "build-42"), ("name", "web")];
    let known: BTreeMap<_, _> = known.map(|(key, value)| (key.into(), value.into())).into();
    SandboxEvent::Blocked(BlockedPacket {
        container: "web".parse().unwrap(),
        request: format!("web:{number}").parse().unwrap(),
        address: address.parse::<IpAddr>().unwrap().into(),
        port: 443,
        protocol: Protocol::TCP,
        domain: Some(name.parse().unwrap()),
        dossier: Arc::new(known),
        process: None,
        zone: NetworkZone::Public,
        looked_up_as: None,
        previous: None,
        reason: None,
    })
}

/// Returns the text with times of day replaced and without trailing spaces.
fn timeless(screen: &str) -> String {
    let mut shown: Vec<u8> = screen.bytes().collect();
    let is_time = |part: &[u8]| {
        let mut at = part.iter().enumerate();
        at.all(|(at, b)| {
            if at == 2 || at == 5 {
                *b == b':'
            } else {
                b.is_ascii_digit()
            }
        })
    };
    for at in 0..shown.len().saturating_sub(7) {
        let part = shown.get_mut(at..at + 8).unwrap();
        if is_time(part) {
            part.copy_from_slice(b"HH:MM:SS");
        }
    }
    let shown = String::from_utf8(shown).unwrap();
    let lines: Vec<_> = shown.lines().map(str::trim_end).collect();
    lines.join("\n").trim_end().to_owned()
}

#[test]
fn a_live_hubs_questions_look_as_in_the_readme() {
    let session = Session::new();
    let runtime = RuntimeDir::new(session.runtime());
    let stop = CancellationToken::new();
    let halt = stop.clone();
    let (tell, told) = std::sync::mpsc::channel();
    let serving = thread::spawn(move || {
        let tokio = tokio::runtime::Builder::new_current_thread();
        let tokio = { tokio }.enable_all().build().unwrap();
        tokio.block_on(async {
            let path = runtime
                .sandbox_sockets(&"web".parse().unwrap(), SocketLayout::D)
                .hub;
            let listener = socket::bind(&path).unwrap();
            let hub = Hub::new(Narrow, HubOptions::default());
            for number in 1..=12 {
                hub.report(blocked(number, "registry.npmjs.org", "203.0.113.7"));
            }
            hub.report(blocked(13, "api.github.com", "140.82.121.6"));
            hub.report(blocked(14, "deb.debian.org", "151.101.2.132"));
            let name = "www.bank.example.login.session.3f2a9c0d1e4b.cdn.tracker.evil.example";
            hub.report(blocked(15, name, "198.51.100.23"));
            tell.send(()).unwrap();
            hub::serve(hub, listener, halt).await.unwrap();
        });
    });
    told.recv().unwrap();
    let window = Window::open(&session, 80, 17);
    window.tui("", "");
    let screen = window.until("4 questions wait");
    let place = session.runtime().to_str().unwrap();
    let there = format!("{:>1$}", "/run/user/1000", place.len());
    let screen = timeless(&screen.replace(place, &there));
    let readme = timeless(include_str!("../../../../README.md"));
    assert!(
        readme.contains(&format!("```text\n{screen}\n```")),
        "it shows\n{screen}"
    );
    stop.cancel();
    serving.join().unwrap();
}
