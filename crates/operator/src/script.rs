// SPDX-License-Identifier: Apache-2.0
//! The engine of the commands `list`, `allow`, `deny` and `watch`.
//!
//! A snapshot waits a limited time for every hub, and reports each hub that did not respond.

mod answer;
mod snapshot;
mod table;
mod watch;

pub use answer::{ScriptAnswer, ScriptExpectation, ScriptOutcome};
pub use snapshot::{PendingSnapshot, take_snapshot};
pub use watch::{WatchOptions, watch_hubs};

use terok_clearance::ContainerId;

use crate::inbox::HubId;

/// Returns `true` if both ids refer to the same sandbox: if equal, or if one id is the first 12
/// characters of the other hexadecimal id. Readers and socket paths use the short form.
fn is_same_container(given: &ContainerId, id: &ContainerId) -> bool {
    let (given, id) = (given.as_str(), id.as_str());
    let (short, long) = if given.len() < id.len() {
        (given, id)
    } else {
        (id, given)
    };
    let is_id = |text: &str| text.bytes().all(|byte| byte.is_ascii_hexdigit());
    short == long || (short.len() == 12 && long.starts_with(short) && is_id(long))
}

/// Returns `true` if `hub` may have questions of the sandbox `container`.
fn may_serve(hub: &HubId, container: &ContainerId) -> bool {
    // The path of a hub contains a prefix of the id or name.
    hub.sandbox()
        .is_none_or(|sandbox| sandbox == container.as_str() || sandbox == container.short())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sandbox_is_named_by_name_or_either_form_of_its_id() {
        let id = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
        let check = |given: &str, id: &str, expected: bool| {
            let (given, id) = (given.parse().unwrap(), id.parse().unwrap());
            assert_eq!(is_same_container(&given, &id), expected);
            assert_eq!(is_same_container(&id, &given), expected);
        };
        check("web", "web", true);
        check("web", "web2", false);
        check(id, &id[..12], true);
        check(id, &id[..11], false);
        check("my-project-1", "my-project-10", false);
    }

    #[test]
    fn hub_of_one_sandbox_serves_no_other() {
        let hub = |path: &str| HubId::new(std::path::Path::new(path));
        let check = |path: &str, container: &str, expected: bool| {
            assert_eq!(may_serve(&hub(path), &container.parse().unwrap()), expected);
        };
        check("/run/terok-clearance.sock", "web", true);
        check("/run/terok/clearance/web/hub.sock", "web", true);
        check("/run/terok/clearance/web/hub.sock", "web2", false);
        check(
            "/run/terok/clearance/0123456789ab.sock",
            "0123456789abcdef",
            true,
        );
    }
}
