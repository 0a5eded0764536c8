// SPDX-License-Identifier: Apache-2.0
//! Orders to a shield in this process.

use std::sync::{Arc, Mutex, PoisonError};

use shield::NftShield;
use terok_clearance::ContainerId;
use tokio::time::Instant;

use crate::{VerdictBackend, VerdictOrder, VerdictReply};

/// The shield of one sandbox: no other sandbox's orders are carried out.
#[derive(Debug, Clone)]
pub struct NativeBackend {
    container: ContainerId,
    shield: Arc<Mutex<NftShield>>,
}

impl NativeBackend {
    /// Takes the shield of `container`, which others may use besides.
    pub const fn new(container: ContainerId, shield: Arc<Mutex<NftShield>>) -> Self {
        Self { container, shield }
    }

    /// The sandbox may go by its whole id, or by the beginning that socket paths carry.
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
        // A panic while it was held left at worst a transaction undone: the kernel knows.
        let mut shield = self.shield.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now().into_std();
        match shield.apply_order(order.action(), order.target(), order.scope(), now) {
            Ok(()) => VerdictReply::applied(),
            Err(error) => VerdictReply::from_error("", &error),
        }
    }
}
