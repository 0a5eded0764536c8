// SPDX-License-Identifier: Apache-2.0
//! The varlink clients of other people, with our hub: they introspect it, subscribe and answer.

use crate::harness::{Place, Running, Shield, Stack, pending};

/// Runs `script` against our hub, where two questions are pending, and returns the orders.
async fn run(stack: Stack, script: &str) -> Vec<String> {
    let place = Place::new();
    let shield = Shield::within(&place.path().join("bin"));
    let _helper = place.our_helper(&shield).await;
    let _hub = place.our_hub(&[]).await;
    let two = ["0123456789ab:1", "0123456789ab:2"];
    place
        .report(&[pending(two[0], "api.example.com"), pending(two[1], "")])
        .await;
    let socket = place.runtime().shared_hub_sockets().hub;
    let socket = socket.to_str().unwrap();
    let mut client = Running::start(&mut place.script(stack, script, &[socket]));
    client.until("ok\n").await;
    assert!(client.end().await.status.success());
    shield.asked()
}

#[tokio::test]
async fn pypis_varlink_introspects_subscribes_and_answers() {
    let orders = run(Stack::V0_8_1, "varlink_client.py").await;
    assert_eq!(orders, ["allow 0123456789ab api.example.com"]);
}

#[tokio::test]
async fn pypis_asyncvarlink_introspects_subscribes_and_answers() {
    for stack in [Stack::V0_8_1, Stack::V0_8_1WithNewerVarlink] {
        let orders = run(stack, "asyncvarlink_client.py").await;
        assert_eq!(orders, ["deny 0123456789ab api.example.com"], "{stack:?}");
    }
}
