// SPDX-License-Identifier: Apache-2.0
//! Tests of `verdict`'s native backend with a real shield.
#![expect(clippy::unwrap_used, reason = "a test")]

use std::sync::{Arc, Mutex};

use shield::{NftShield, Policy};
use terok_clearance::wire::verdict1::ApplyParameters;
use terok_clearance::{Action, Protocol, Scope};
use test_support::namespaces::require_private_namespaces;
use verdict::{NativeBackend, VerdictBackend as _, VerdictOrder, VerdictReply};

fn start() -> (NativeBackend, Arc<Mutex<NftShield>>) {
    require_private_namespaces();
    let policy = Policy::new([]).unwrap();
    let shield = NftShield::engage(shield::open_nftables_socket().unwrap(), &policy).unwrap();
    let shield = Arc::new(Mutex::new(shield));
    let container = "0123456789abcdef".parse().unwrap();
    (NativeBackend::new(container, Arc::clone(&shield)), shield)
}

fn order(container: &str, dest: &str) -> VerdictOrder {
    VerdictOrder::parse(&ApplyParameters {
        container: container.to_owned(),
        dest: dest.to_owned(),
        action: "allow".to_owned(),
    })
    .unwrap()
}

#[tokio::test]
async fn an_order_for_this_sandbox_becomes_an_element() {
    let (backend, shield) = start();
    for name in ["0123456789abcdef", "0123456789ab"] {
        assert_eq!(
            backend.apply(&order(name, "203.0.113.7")).await,
            VerdictReply::applied()
        );
    }
    let scope = Scope {
        port: Some(443),
        protocol: Some(Protocol::TCP),
        ..Scope::whole_dest("2001:db8::7".parse().unwrap())
    };
    let narrow = VerdictOrder::new("0123456789ab".parse().unwrap(), Action::Deny, scope).unwrap();
    assert_eq!(backend.apply(&narrow).await, VerdictReply::applied());
    assert_eq!(shield.lock().unwrap().list_elements().unwrap().len(), 2);
}

#[tokio::test]
async fn an_order_for_another_sandbox_is_refused() {
    let (backend, shield) = start();
    for name in ["other", "0123456789", "0123456789abcdef0"] {
        let reply = backend.apply(&order(name, "203.0.113.7")).await;
        assert_eq!(
            reply,
            VerdictReply::failed(&format!("{name} is not this sandbox"))
        );
    }
    assert_eq!(shield.lock().unwrap().list_elements().unwrap(), []);
}

#[tokio::test]
async fn a_refusal_of_the_shield_is_reported() {
    let (backend, shield) = start();
    let reply = backend
        .apply(&order("0123456789ab", "169.254.169.254"))
        .await;
    assert_eq!(
        (reply.ok, reply.stderr.as_str()),
        (
            false,
            "169.254.169.254 is never opened: link-local, cloud metadata, loopback, multicast or \
             reserved"
        )
    );
    assert_eq!(shield.lock().unwrap().list_elements().unwrap(), []);
}
