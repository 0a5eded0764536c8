// SPDX-License-Identifier: Apache-2.0
//! An independent client, zlink, against the real hub. Python clients are tested in tests/interop.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use futures_util::{Stream, StreamExt as _};
use serde::{Deserialize, Serialize};
use tempfile::TempDir;
use terok_clearance::socket::bind;
use terok_clearance::{BlockedPacket, EnforcementOutcome, SandboxEvent};
use terok_clearance_hub::{Claim, DecisionEnforcer, Hub, HubOptions};
use test_support::packets::blocked_packet;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use zlink::varlink_service::Proxy as _;
use zlink::{ReplyError, proxy};

/// Applies and records every order.
#[derive(Debug, Default)]
struct Recorder(Mutex<Vec<String>>);

impl DecisionEnforcer for Recorder {
    fn supports_ports(&self) -> bool {
        false
    }

    async fn enforce(&self, claim: Claim) -> EnforcementOutcome {
        let order = format!("{} {}", claim.action(), claim.dest());
        self.0.lock().unwrap().push(order);
        EnforcementOutcome::Applied
    }
}

/// A hub with two pending questions.
struct ZlinkHarness {
    path: PathBuf,
    orders: Arc<Recorder>,
    _tasks: JoinSet<()>,
    _directory: TempDir,
}

impl ZlinkHarness {
    fn start() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("run/hub.sock");
        let listener = bind(&path).unwrap();
        let orders = Arc::new(Recorder::default());
        let hub = Hub::new(Arc::clone(&orders), HubOptions::default());
        for (number, domain) in [(1, Some("api.example.com")), (2, None)] {
            hub.report(SandboxEvent::Blocked(BlockedPacket {
                address: format!("203.0.113.{number}").parse().unwrap(),
                domain: domain.map(|name| name.parse().unwrap()),
                ..blocked_packet("0123456789ab", number, "api.example.com")
            }));
        }
        let mut tasks = JoinSet::new();
        let serving = terok_clearance_hub::serve(hub, listener, CancellationToken::new());
        tasks.spawn(async { serving.await.unwrap() });
        Self {
            path,
            orders,
            _tasks: tasks,
            _directory: directory,
        }
    }

    fn orders(&self) -> Vec<String> {
        self.orders.0.lock().unwrap().clone()
    }
}

#[derive(Debug, Deserialize)]
struct Subscribed {
    event: ClearanceEvent,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "zlink requires every field")]
struct ClearanceEvent {
    r#type: String,
    container: String,
    request_id: String,
    dest: String,
    port: u16,
    proto: u8,
    domain: String,
    action: String,
    ok: bool,
    reason: String,
    dossier: std::collections::BTreeMap<String, String>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Applied {
    ok: bool,
}

#[derive(Debug, PartialEq, ReplyError)]
#[zlink(interface = "org.terok.Clearance1")]
enum VerdictError {
    UnknownRequest {
        request_id: String,
    },
    VerdictTupleMismatch {
        expected_container: String,
        expected_dest: String,
        got_container: String,
        got_dest: String,
    },
    InvalidAction {
        action: String,
    },
    ShieldCliFailed {
        action: String,
        stderr: String,
    },
}

#[proxy("org.terok.Clearance1")]
trait Clearance1 {
    #[zlink(more)]
    async fn subscribe(
        &mut self,
    ) -> zlink::Result<impl Stream<Item = zlink::Result<Result<Subscribed, VerdictError>>>>;

    async fn verdict(
        &mut self,
        container: &str,
        request_id: &str,
        dest: &str,
        action: &str,
    ) -> zlink::Result<Result<Applied, VerdictError>>;
}

#[tokio::test]
async fn zlink_introspects_subscribes_and_answers() {
    let harness = ZlinkHarness::start();
    let mut calls = zlink::tokio::unix::connect(&harness.path).await.unwrap();
    let info = calls.get_info().await.unwrap().unwrap();
    assert_eq!(info.product, "terok-clearance");
    for name in [
        "org.terok.Clearance1",
        "org.terok.Clearance2",
        "org.varlink.service",
    ] {
        let description = calls
            .get_interface_description(name.try_into().unwrap())
            .await
            .unwrap()
            .unwrap();
        assert_eq!(description.parse().unwrap().name(), name);
    }
    let mut events = zlink::tokio::unix::connect(&harness.path).await.unwrap();
    let mut stream = std::pin::pin!(events.subscribe().await.unwrap());
    let mut next = async || {
        let reply = stream.next().await;
        reply.unwrap().unwrap().unwrap().event
    };
    let first = next().await;
    assert_eq!(first.r#type, "connection_blocked");
    assert_eq!(
        (&*first.domain, first.port, first.proto),
        ("api.example.com", 443, 6)
    );
    let mut verdict = async |id: &str, dest: &str, action: &str| {
        let reply = calls
            .verdict("0123456789ab", id, dest, action)
            .await
            .unwrap();
        reply.map(|applied| applied.ok)
    };
    let id = first.request_id.as_str();
    assert_eq!(
        verdict(id, "api.example.com", "accept").await,
        Err(VerdictError::InvalidAction {
            action: "accept".to_owned()
        })
    );
    assert_eq!(
        verdict(id, "203.0.113.1", "allow").await,
        Err(VerdictError::VerdictTupleMismatch {
            expected_container: "0123456789ab".to_owned(),
            expected_dest: "api.example.com".to_owned(),
            got_container: "0123456789ab".to_owned(),
            got_dest: "203.0.113.1".to_owned(),
        })
    );
    assert_eq!(verdict(id, "api.example.com", "allow").await, Ok(true));
    assert_eq!(
        verdict(id, "api.example.com", "allow").await,
        Err(VerdictError::UnknownRequest {
            request_id: id.to_owned()
        })
    );
    let mut event = next().await;
    while event.r#type != "verdict_applied" {
        event = next().await;
    }
    assert!(event.ok && event.request_id == id, "{event:?}");
    assert_eq!(harness.orders(), ["allow api.example.com"]);
}
