// SPDX-License-Identifier: Apache-2.0
//! The files of the configuration. What is accepted is written as the same file, and no limit of an
//! organisation is wider than its text.
#![no_main]

use std::path::Path;

use libfuzzer_sys::fuzz_target;
use settings::{
    AnswerLifetime, OrganisationPolicy, Setting, SettingsErrors, SettingsFile, USER_KEYS,
    UserSettings, pattern_covers,
};
use terok_clearance::DestPattern;

/// An error has a place in the text, and is harmless on a terminal.
fn check_errors(text: &str, errors: &SettingsErrors) {
    assert!(!errors.problems.is_empty());
    for problem in &errors.problems {
        assert!(problem.line >= 1 && problem.line <= text.lines().count() + 1);
    }
    assert!(!errors.to_string().contains('\u{1b}'));
}

/// Writes the values of a file as another file.
fn rewrite(file: &SettingsFile) -> String {
    let lines = file.entries().map(|entry| format!("{} = {}\n", entry.key.dotted(), entry.value));
    lines.collect()
}

fn check_policy(policy: &OrganisationPolicy, dest: &DestPattern) {
    let permitted = policy.check_allowed(dest).is_ok();
    let limits = &policy.destinations;
    let covers = |wide: &&DestPattern| pattern_covers(wide, dest);
    if let Some(ceiling) = &limits.ceiling {
        assert!(!permitted || ceiling.value.iter().any(|wide| covers(&wide)));
        assert!(ceiling.value.iter().all(|pattern| !pattern.is_floor()));
    }
    if let Some(deny) = &limits.deny {
        assert!(!permitted || !deny.value.iter().any(|wide| covers(&wide)));
    }
    for allowed in limits.allow.iter().flat_map(|allow| &allow.value) {
        let within = |wide: &DestPattern| pattern_covers(wide, allowed);
        let ceiling = limits.ceiling.as_ref();
        assert!(ceiling.is_none_or(|ceiling| ceiling.value.iter().any(within)));
    }
    let forever = policy.limit_hold(Setting::default_value(None));
    let limit = policy.answers.max_hold.as_ref();
    assert_eq!(forever.value, limit.map(|limit| limit.value.duration()));
    let always = policy.limit_lifetime(Setting::default_value(AnswerLifetime::Always));
    let limit = policy.answers.max_lifetime.as_ref();
    assert!(limit.is_none_or(|limit| always.value <= limit.value));
}

fuzz_target!(|text: &str| {
    let path = Path::new("config.toml");
    match UserSettings::parse(path, text, &|_, _| Ok(())) {
        Ok(settings) => {
            let written = rewrite(&settings.file);
            let again = SettingsFile::parse(path, &written, USER_KEYS, &|_, _| Ok(()));
            let again = again.expect("a written file has no errors");
            let values = |file: &SettingsFile| {
                let entries = file.entries().map(|entry| (entry.key, entry.value.clone()));
                entries.collect::<Vec<_>>()
            };
            let (mut before, mut after) = (values(&settings.file), values(&again));
            before.sort_by_key(|(key, _)| key.dotted());
            after.sort_by_key(|(key, _)| key.dotted());
            assert_eq!(before, after);
        }
        Err(errors) => check_errors(text, &errors),
    }
    match OrganisationPolicy::parse(path, text) {
        Ok(policy) => {
            for dest in ["a.example", "*.example:443", "10.0.0.1", "0.0.0.0/0"] {
                check_policy(&policy, &dest.parse().expect("a pattern"));
            }
        }
        Err(errors) => check_errors(text, &errors),
    }
});
