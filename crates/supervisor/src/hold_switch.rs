// SPDX-License-Identifier: Apache-2.0
//! Lets connections wait while an operator who answers is connected, up to their time limit.

use std::convert::Infallible;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

use crate::shield_enforcer::ShieldEnforcer;

/// Time for which connections still wait after the last operator has left.
const ANSWERER_GRACE: Duration = Duration::from_secs(5);

/// Follows the number of operators who answer, until dropped.
pub(crate) async fn switch_hold(
    firewall: &ShieldEnforcer,
    mut answerers: watch::Receiver<usize>,
) -> Infallible {
    let mut off_at = None;
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
        let next_due = firewall.next_hold_due().map(Instant::from_std);
        let next_off = off_at.filter(|_| firewall.holds_connections());
        let due = next_due.into_iter().chain(next_off).min();
        tokio::select! {
            Ok(()) = answerers.changed() => {}
            () = firewall.hold_recorded() => {}
            () = sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => {}
        }
    }
}
