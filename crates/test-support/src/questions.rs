// SPDX-License-Identifier: Apache-2.0
//! Questions, as a hub of `org.terok.Clearance2` sends them.

use std::sync::Arc;

use serde_json::{Value, json};
use terok_clearance::wire::clearance2::Request;

/// 2026-11-22 12:42:07 UTC, in microseconds since the epoch.
pub const NOON_MICROS: u64 = 1_795_351_327_000_000;

/// Returns question `number` of a sandbox, for TCP port 443 of a name.
///
/// The address is 203.0.113.7, the scope that port for as long as the sandbox lives, and the
/// question was first asked `number` seconds after [`NOON_MICROS`].
pub fn question_json(container: &str, number: u64, name: &str) -> Value {
    let at = NOON_MICROS + number * 1_000_000;
    json!({
        "id": format!("{container}:{number}"), "container": container, "dest": name,
        "address": "203.0.113.7", "port": 443, "protocol": "tcp", "domain": name,
        "scope": {"dest": name, "port": 443, "protocol": "tcp", "keep": "sandbox"},
        "dossier": {"project": "warp", "task": "build-42", "name": container},
        "first_seen": at, "last_seen": at, "count": 1,
    })
}

/// Returns [`question_json`] with other values in the fields of `changes`.
pub fn question(container: &str, number: u64, name: &str, changes: Value) -> Arc<Request> {
    let mut question = question_json(container, number, name);
    if let Value::Object(changes) = changes {
        question.as_object_mut().unwrap().extend(changes);
    }
    Arc::new(serde_json::from_value(question).unwrap())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_question_has_the_changed_fields() {
        let question = question("web", 2, "a.example", json!({"port": 80, "count": 7}));
        assert_eq!(question.id.as_str(), "web:2");
        assert_eq!((question.port, question.count), (80, 7));
        assert_eq!(question.scope.port, Some(443));
        assert_eq!(question.first_seen.as_micros(), NOON_MICROS + 2_000_000);
    }
}
