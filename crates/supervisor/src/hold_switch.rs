// SPDX-License-Identifier: Apache-2.0
//! Lets connections wait while an operator who answers is connected, up to their time limit, and
//! tells operators of them.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use hub::Hub;
use reader::socket_owner::SocketDiag;
use tokio::time::{Instant, sleep_until};

use crate::shield_enforcer::ShieldEnforcer;
use crate::waiting::to_waiting_connections;

/// Time for which connections still wait after the last operator has left.
const ANSWERER_GRACE: Duration = Duration::from_secs(5);
/// Time between two counts of the connections that wait.
const COUNT_PERIOD: Duration = Duration::from_secs(1);

/// Follows the number of operators who answer, until dropped. `sockets` lists the sandbox's
/// sockets; without it, the connections that wait are not counted.
pub(crate) async fn switch_hold(
    firewall: &ShieldEnforcer,
    hub: &Arc<Hub<ShieldEnforcer>>,
    mut sockets: Option<SocketDiag>,
) -> Infallible {
    let mut answerers = hub.answerers();
    let mut off_at = None;
    let mut count_at = None;
    loop {
        if *answerers.borrow_and_update() > 0 {
            off_at = None;
            firewall.hold_connections(true);
        } else if firewall.holds_connections() {
            let now = Instant::now();
            if *off_at.get_or_insert(now + ANSWERER_GRACE) <= now {
                firewall.hold_connections(false);
                // Again later if the firewall could not be changed.
                off_at = Some(now + ANSWERER_GRACE);
            }
        }
        firewall.refuse_overdue();
        for (request, held) in firewall.take_hold_updates() {
            hub.set_waiting(&request, to_waiting_connections(held));
        }
        let next_due = firewall.next_hold_due().map(Instant::from_std);
        let next_off = off_at.filter(|_| firewall.holds_connections());
        let next_count = if firewall.has_waiting() {
            Some(*count_at.get_or_insert_with(|| Instant::now() + COUNT_PERIOD))
        } else {
            None
        };
        let due = [next_due, next_off, next_count].into_iter().flatten().min();
        tokio::select! {
            Ok(()) = answerers.changed() => {}
            () = firewall.hold_recorded() => {}
            () = sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => {}
        }
        if count_at.is_some_and(|at| at <= Instant::now()) {
            count_at = None;
            match sockets.as_mut().map(SocketDiag::list_connecting) {
                Some(Ok(connecting)) => firewall.count_connections(&connecting),
                Some(Err(error)) => {
                    tracing::debug!(%error, "the waiting connections could not be counted");
                }
                None => {}
            }
        }
    }
}
