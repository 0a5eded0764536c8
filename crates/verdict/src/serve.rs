// SPDX-License-Identifier: Apache-2.0
//! The verdict helper: `org.terok.ClearanceVerdict1` in front of a backend.

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

use crate::{Backend, Order, Reply};

/// Orders that are carried out at once; more wait.
const AT_ONCE: usize = 16;
/// For how long an order may wait for its turn.
const WAIT: Duration = Duration::from_secs(10);
/// Connections at once: a hub needs one for each order that is under way.
const CONNECTIONS: usize = 128;
/// More than any order needs; the longest destination has 253 bytes.
const CALL_LIMIT: usize = 64 << 10;

/// Serves orders on `listener` until `stop`; those under way then have a few seconds.
///
/// `Apply` answers every order with a reply, never with an error: what is no order at all, and
/// what the backend could not do, is `ok: false` with a reason. Connections are served side by
/// side, 16 orders at once.
pub async fn serve<B: Backend>(
    listener: SameUserListener,
    backend: Arc<B>,
    stop: CancellationToken,
) -> Result<(), VarlinkServeError> {
    let limits = ServiceLimits {
        max_connections: CONNECTIONS,
        max_call_bytes: CALL_LIMIT,
        ..ServiceLimits::default()
    };
    let helper = Helper {
        backend,
        turns: Semaphore::new(AT_ONCE),
    };
    serve_with_limits(listener, Arc::new(helper), limits, stop).await
}

struct Helper<B> {
    backend: Arc<B>,
    turns: Semaphore,
}

impl<B: Backend> VarlinkService for Helper<B> {
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
        let reply = match Order::parse(&apply) {
            Ok(order) => self.carry_out(&order, peer).await,
            Err(error) => Reply::error("", &error),
        };
        replies.send(&ApplyReply::from(reply)).await
    }
}

impl<B: Backend> Helper<B> {
    async fn carry_out(&self, order: &Order, peer: PeerCredentials) -> Reply {
        let Ok(Ok(_turn)) = timeout(WAIT, self.turns.acquire()).await else {
            return Reply::failed("too many orders are under way");
        };
        let reply = self.backend.apply(order).await;
        let (container, action) = (order.container(), order.action().as_str());
        let dest = DisplayText::new(&order.target().to_string());
        if reply.ok {
            tracing::info!(%container, %dest, action, pid = peer.pid, "an order is in force");
        } else {
            let reason = &reply.said;
            tracing::warn!(%container, %dest, action, pid = peer.pid, %reason, "an order failed");
        }
        reply
    }
}
