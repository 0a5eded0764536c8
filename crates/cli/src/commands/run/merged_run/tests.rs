// SPDX-License-Identifier: Apache-2.0

use std::path::Path;

use clap::Parser as _;

use super::*;
use crate::settings_merge::tests::user_file;

/// The arguments alone.
#[derive(Debug, clap::Parser)]
struct RunLine {
    #[command(flatten)]
    args: Args,
}

fn args(line: &str) -> Args {
    let words = ["run"].into_iter().chain(line.split_whitespace());
    RunLine::parse_from(words.chain(["--", "true"])).args
}

fn organisation(text: &str) -> OrganisationPolicy {
    OrganisationPolicy::parse(Path::new("/o/policy.toml"), text).unwrap()
}

fn merged(line: &str, variables: &[(&str, &str)], file: &str) -> MergedRun {
    let environment = UserEnvironment::of_variables(variables);
    merge_run(&args(line), &environment, &user_file(file), None).unwrap()
}

fn limited(line: &str, file: &str, limits: &str) -> Result<MergedRun, CommandError> {
    let environment = UserEnvironment::of_variables(&[]);
    merge_run(
        &args(line),
        &environment,
        &user_file(file),
        Some(Arc::new(organisation(limits))),
    )
}

/// A file with another value than the default for each key that has a flag.
const FILE: &str = "[run]
allow = ['file.example']
deny = ['bad.example']
hold = '7m'
ui = 'none'
hotkey = 'f7'
check_sni = true
proxy = 'none'
pids = 77
memory = '7M'
open_files = 77
[ask]
bell = 'off'
";

/// The values in the order of the file.
fn summary(merged: &MergedRun) -> String {
    let proxy = merged.proxy.as_ref().map(|proxy| match proxy.value {
        ProxyArg::Direct => "direct",
        ProxyArg::Through(_) => "through",
    });
    format!(
        "{:?} {} {:?} {} {} {:?} {:?} {:?}",
        merged
            .allowed
            .iter()
            .map(ToString::to_string)
            .collect::<Vec<_>>(),
        merged.hold.value,
        merged.ui.value,
        merged.hotkey.value,
        merged.check_sni.value,
        proxy,
        [
            merged.limits.processes.map(u64::from),
            merged.limits.memory_bytes,
            merged.limits.open_files.map(u64::from),
        ],
        merged.bell.value,
    )
}

#[test]
fn defaults_count_last() {
    assert_eq!(
        summary(&merged("", &[], "")),
        "[] 60s Auto Ctrl-G false None [None, None, None] Bell"
    );
}

#[test]
fn the_file_counts_before_defaults() {
    let merged = merged("", &[], FILE);
    assert_eq!(
        summary(&merged),
        "[\"file.example\"] 420s None F7 true Some(\"direct\") [Some(77), Some(7340032), Some(77)] \
         Off"
    );
    assert_eq!(merged.denied, ["bad.example".parse().unwrap()]);
    assert_eq!(merged.hold.source.to_string(), "/c/config.toml:4");
}

#[test]
fn flags_count_before_the_file_and_add_to_what_is_open() {
    let line = "--allow flag.example --hold 8s --ui tui --hotkey f8 --check-sni=false --proxy \
                http://127.0.0.1:8 --pids 88 --memory 8M --open-files 88 --bell osc9";
    assert_eq!(
        summary(&merged(line, &[], FILE)),
        "[\"file.example\", \"flag.example\"] 8s Tui F8 false Some(\"through\") [Some(88), \
         Some(8388608), Some(88)] Osc9"
    );
    assert!(merged("--check-sni", &[], "").check_sni.value);
}

#[test]
fn the_hotkey_is_of_the_flag_else_the_variable_else_the_file() {
    let variable = [(HOTKEY_VARIABLE, "f9")];
    let check = |line: &str, variables: &[(&str, &str)], expected: &str, source: &str| {
        let hotkey = merged(line, variables, FILE).hotkey;
        let found = (hotkey.value.to_string(), hotkey.source.to_string());
        assert_eq!(found, (expected.to_owned(), source.to_owned()));
    };
    check("--hotkey f8", &variable, "F8", "--hotkey");
    check("", &variable, "F9", HOTKEY_VARIABLE);
    check("", &[], "F7", "/c/config.toml:6");
    let wrong = UserEnvironment::of_variables(&[(HOTKEY_VARIABLE, "zz")]);
    let error = merge_run(&args(""), &wrong, &user_file(FILE), None).unwrap_err();
    assert!(matches!(error, CommandError::HotkeyVariable(_)));
}

#[test]
fn the_organisation_limits_flag_file_and_default() {
    let limits = "answers.max_hold = '30s'";
    for (line, file, expected) in [
        ("--hold forever", "", "30s"),
        ("--hold 10s", "run.hold = 'forever'", "10s"),
        ("--hold 0", "", "0"),
        ("", "run.hold = '1h'", "30s"),
        ("", "", "30s"),
    ] {
        let merged = limited(line, file, limits).unwrap();
        assert_eq!(merged.hold.value.to_string(), expected, "{line} {file}");
    }
    assert!(
        limited("", "", "answers.max_hold = '0s'").is_ok_and(|merged| {
            merged.hold.value == HoldLimit::Refuse && merged.hold.source.is_organisation()
        })
    );
}

#[test]
fn what_the_organisation_does_not_permit_is_an_error_of_flag_and_file() {
    let limits = "[destinations]\nceiling = ['*.a.example']\nallow = ['o.a.example']";
    for (line, file) in [
        ("--allow b.example", ""),
        ("", "run.allow = ['b.example']"),
        ("--allow x.a.example --allow *.example", ""),
    ] {
        let error = limited(line, file, limits).unwrap_err();
        assert!(matches!(error, CommandError::Organisation(_)), "{error}");
        assert!(error.to_string().contains("/o/policy.toml:2"), "{error}");
    }
    let merged = limited("--allow x.a.example", "", limits).unwrap();
    let allowed: Vec<_> = merged.allowed.iter().map(ToString::to_string).collect();
    assert_eq!(allowed, ["o.a.example", "x.a.example"]);
    assert!(merged.organisation.is_some());
}
