// SPDX-License-Identifier: Apache-2.0
//! What every pairing needs: the installed stacks, a place of one's own, processes to talk with.

mod place;
mod process;
mod rootless;
mod shield;
mod stack;
mod wire;

pub(crate) use place::{Place, report, while_repeating};
pub(crate) use process::{Ended, Running};
pub(crate) use rootless::{Container, Rootless};
pub(crate) use shield::Shield;
pub(crate) use stack::{Side, Stack, varlinkctl};
pub(crate) use wire::{CONTAINER, Subscriber, Wire};

/// Returns the line by which a reader reports a blocked packet to 203.0.113.7:443 of TCP.
pub(crate) fn pending(request: &str, domain: &str) -> serde_json::Value {
    let (container, _) = request.split_once(':').expect("container:n");
    serde_json::json!({
        "type": "pending", "container": container, "id": request,
        "dest": "203.0.113.7", "port": 443, "proto": 6, "domain": domain,
        "dossier": {"project": "warp", "task": "t1", "name": "build"},
        "ts": "2026-01-01T00:00:00+00:00",
    })
}
