// SPDX-License-Identifier: Apache-2.0
//! A backend for a shield in this process.

use std::sync::{Arc, Mutex, PoisonError};

use shield::NftShield;
use terok_clearance::ContainerId;
use tokio::time::Instant;

use crate::{VerdictBackend, VerdictOrder, VerdictReply};

/// The shield of one sandbox; orders for other sandboxes are refused.
#[derive(Debug, Clone)]
pub struct NativeBackend {
    container: ContainerId,
    shield: Arc<Mutex<NftShield>>,
}

impl NativeBackend {
    /// Creates a backend for the shield of `container`, which may have other users.
    pub const fn new(container: ContainerId, shield: Arc<Mutex<NftShield>>) -> Self {
        Self { container, shield }
    }

    /// Accepts the full id and the short one of socket paths.
    fn is_own_container(&self, container: &ContainerId) -> bool {
        *container == self.container || container.as_str() == self.container.short()
    }
}

impl VerdictBackend for NativeBackend {
    fn supports_ports(&self) -> bool {
        true
    }

    async fn apply(&self, order: &VerdictOrder) -> VerdictReply {
        if !self.is_own_container(order.container()) {
            return VerdictReply::failed(&format!("{} is not this sandbox", order.container()));
        }
        // After a panic of another holder, at worst a transaction is missing; the kernel has the
        // state.
        let mut shield = self.shield.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now().into_std();
        match shield.apply_order(order.action(), order.target(), order.scope(), now) {
            Ok(()) => VerdictReply::applied(),
            Err(error) => VerdictReply::from_error("", &error),
        }
    }
}
