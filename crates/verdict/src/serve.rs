// SPDX-License-Identifier: Apache-2.0
//! The verdict helper: serves `org.terok.ClearanceVerdict1` for a backend.

use std::sync::Arc;
use std::time::Duration;

use terok_clearance::DisplayText;
use terok_clearance::socket::{PeerCredentials, SameUserListener};
use terok_clearance::varlink::{
    ConnectionClosed, ReplyWriter, ServiceInfo, ServiceLimits, VarlinkCall, VarlinkServeError,
    VarlinkService, serve_with_limits,
};
use terok_clearance::wire::verdict1::{ApplyReply, ClearanceVerdict1Method, INTERFACE};
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::{VerdictBackend, VerdictOrder, VerdictReply};

/// Maximum number of concurrent orders; further ones wait.
const MAX_CONCURRENT_ORDERS: usize = 16;
/// Maximum waiting time of an order.
const QUEUE_TIMEOUT: Duration = Duration::from_secs(10);
/// Maximum number of connections. A hub uses one per concurrent order.
const MAX_CONNECTIONS: usize = 128;
/// Maximum size of a call. The longest destination has 253 bytes.
const MAX_CALL_BYTES: usize = 64 << 10;

/// Serves orders on `listener` until `stop`; orders in progress then have a few seconds.
///
/// `Apply` always replies, never with an error: for malformed and failed orders with `ok: false`
/// and a reason. Connections are served concurrently, with at most 16 orders at once.
pub async fn serve<B: VerdictBackend>(
    listener: SameUserListener,
    backend: Arc<B>,
    stop: CancellationToken,
) -> Result<(), VarlinkServeError> {
    let limits = ServiceLimits {
        max_connections: MAX_CONNECTIONS,
        max_call_bytes: MAX_CALL_BYTES,
        ..ServiceLimits::default()
    };
    let service = VerdictService {
        backend,
        permits: Semaphore::new(MAX_CONCURRENT_ORDERS),
    };
    serve_with_limits(listener, Arc::new(service), limits, stop).await
}

struct VerdictService<B> {
    backend: Arc<B>,
    permits: Semaphore,
}

impl<B: VerdictBackend> VarlinkService for VerdictService<B> {
    fn info(&self) -> ServiceInfo {
        ServiceInfo {
            vendor: "terok",
            product: "terok-clearance-verdict",
            version: env!("CARGO_PKG_VERSION"),
            url: "https://github.com/terok-ai/terok-clearance",
            interfaces: &[INTERFACE],
        }
    }

    async fn call(
        &self,
        call: VarlinkCall<'_>,
        peer: PeerCredentials,
        replies: &mut ReplyWriter<'_>,
    ) -> Result<(), ConnectionClosed> {
        let apply = match ClearanceVerdict1Method::parse(&call) {
            Ok(ClearanceVerdict1Method::Apply(apply)) => apply,
            Err(error) => return replies.send_error(&error).await,
        };
        let reply = match VerdictOrder::parse(&apply) {
            Ok(order) => self.execute_order(&order, peer).await,
            Err(error) => VerdictReply::from_error("", &error),
        };
        replies.send(&ApplyReply::from(reply)).await
    }
}

impl<B: VerdictBackend> VerdictService<B> {
    async fn execute_order(&self, order: &VerdictOrder, peer: PeerCredentials) -> VerdictReply {
        let Ok(Ok(_turn)) = timeout(QUEUE_TIMEOUT, self.permits.acquire()).await else {
            return VerdictReply::failed("too many orders are in progress");
        };
        let reply = self.backend.apply(order).await;
        let (container, action) = (order.container(), order.action().as_str());
        let dest = DisplayText::new(&order.target().to_string());
        if reply.ok {
            tracing::info!(%container, %dest, action, pid = peer.pid, "an order is in force");
        } else {
            let reason = &reply.stderr;
            tracing::warn!(%container, %dest, action, pid = peer.pid, %reason, "an order failed");
        }
        reply
    }
}
