// SPDX-License-Identifier: Apache-2.0
//! The summary is harmless at a terminal and in JSON, whatever destinations the command chose.

use runner::RunSummary;
use terok_clearance::wire::clearance2::Request;

use crate::hostile_table::{harmless, hub, texts};

use harmless::{Harmless, tame};

#[test]
fn the_summary_is_harmless() {
    let summary = |text: &str| {
        let request = hub::question(hub::number(0, "dest"), text);
        let request: Request = serde_json::from_value(request).unwrap();
        let summary = RunSummary {
            allowed: vec![request.dest],
            ..RunSummary::default()
        };
        (
            super::text(&summary).unwrap(),
            super::json(&summary).to_string(),
        )
    };
    for (case, text) in texts::all() {
        if text.is_empty() {
            // That is no destination.
            continue;
        }
        let harmless = Harmless::new(std::slice::from_ref(&text));
        let (plain, shown) = (summary(&tame(&text)), summary(&text));
        assert_eq!(harmless.text(&plain.0, &shown.0), Ok(()), "{case}");
        assert_eq!(harmless.json(&plain.1, &shown.1), Ok(()), "{case}");
    }
}
