// SPDX-License-Identifier: Apache-2.0
//! Every installed stack starts, and its client hears our hub.

use serde_json::json;

use crate::harness::{Place, Running, Stack, pending};

#[tokio::test]
async fn every_stack_hears_our_hub() {
    for stack in Stack::ALL {
        let place = Place::new();
        let _hub = place.our_hub(&[]).await;
        let socket = place.runtime().shared_hub_sockets().hub;
        let mut client =
            Running::start(&mut place.script(stack, "client.py", &[socket.to_str().unwrap()]));
        assert_eq!(client.json().await, json!({"started": true}));
        // It says so before its subscription is with the hub: only what is pending is sure to come.
        place
            .report(&[pending("0123456789ab:1", "api.example.com")])
            .await;
        let event = &client.json().await["event"];
        assert_eq!(event["type"], "connection_blocked", "{stack:?}");
        assert_eq!(event["request_id"], "0123456789ab:1");
        assert!(client.end().await.status.success());
    }
}

#[tokio::test]
async fn every_stack_has_a_hub() {
    for stack in Stack::ALL {
        let place = Place::new();
        let mut hub = place.their_hub(stack).await;
        hub.until_error("event ingester listening").await;
    }
}
