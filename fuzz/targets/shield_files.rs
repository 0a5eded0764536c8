// SPDX-License-Identifier: Apache-2.0
//! The policy files and the configuration of `terok-shield`, which people and programs write.
#![no_main]

use libfuzzer_sys::fuzz_target;
use shield_cli::{ShieldFileConfig, parse_policy, render_policy};

fuzz_target!(|text: &str| {
    if let Ok(entries) = parse_policy(text) {
        // What is written back means the same, and stays the same.
        let rendered = render_policy(&entries);
        assert_eq!(parse_policy(&rendered).as_ref(), Ok(&entries));
        assert_eq!(rendered.lines().count(), entries.len());
    }
    if let Ok(config) = ShieldFileConfig::parse(text) {
        assert!(!config.default_profiles.is_empty());
        assert!(config.default_profiles.iter().all(|name| !name.is_empty()));
    }
});
