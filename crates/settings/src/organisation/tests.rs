// SPDX-License-Identifier: Apache-2.0

use std::os::unix::fs::PermissionsExt as _;
use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::example_file;

const PATH: &str = "/etc/terok-clearance/policy.toml";

fn policy(text: &str) -> OrganisationPolicy {
    OrganisationPolicy::parse(Path::new(PATH), text).unwrap()
}

fn pattern(text: &str) -> DestPattern {
    text.parse().unwrap()
}

fn refusal(policy: &OrganisationPolicy, dest: &str) -> Option<String> {
    let checked = policy.check_allowed(&pattern(dest));
    checked.err().map(|refusal| refusal.to_string())
}

#[test]
fn each_key_of_the_table_has_its_field() {
    let example = example_file("x", ORGANISATION_KEYS);
    let text: String = example
        .lines()
        .map(|line| match line.strip_prefix('#') {
            Some(rest) if !rest.starts_with(' ') => format!("{rest}\n"),
            _ => format!("{line}\n"),
        })
        .collect();
    let parsed = policy(&text);
    let debug = format!(
        "{:?} {:?} {:?} {:?}",
        parsed.destinations, parsed.required_profiles, parsed.answers, parsed.record
    );
    assert_eq!(
        debug.matches("Organisation {").count(),
        ORGANISATION_KEYS.len(),
        "{debug}"
    );
}

#[test]
fn an_empty_file_limits_nothing() {
    let policy = policy("");
    assert_eq!(refusal(&policy, "a.example"), None);
    assert_eq!(policy.check_learn(), Ok(()));
    assert_eq!(policy.check_bypass(), Ok(()));
    assert_eq!(policy.check_approver(), Ok(()));
    assert_eq!(policy.check_trusted_project_file(), Ok(()));
    let forever = Setting::of_flag("--hold", None);
    assert_eq!(policy.limit_hold(forever.clone()), forever);
    let always = Setting::of_flag("--for", AnswerLifetime::Always);
    assert_eq!(policy.limit_lifetime(always.clone()), always);
    assert!(policy.record_copies("op").is_empty());
}

#[test]
fn a_refusal_names_file_line_and_key() {
    let policy = policy(
        "[destinations]\nceiling = ['*.example.com', '10.0.0.0/8']\ndeny = ['bad.example.com']\n\
         [answers]\nallow_learn = false\n",
    );
    assert_eq!(refusal(&policy, "a.example.com:443"), None);
    assert_eq!(refusal(&policy, "10.1.2.3"), None);
    assert_eq!(refusal(&policy, "*.example.com"), None);
    let outside = |dest: &str| {
        format!(
            "your organisation does not permit {dest}: it is outside of `ceiling` of \
             [destinations] ({PATH}:2)"
        )
    };
    for dest in ["example.com", "*.com", "a.example", "11.0.0.0/8", "::1"] {
        assert_eq!(refusal(&policy, dest), Some(outside(dest)));
    }
    let denied = format!(
        "your organisation does not permit bad.example.com:80: bad.example.com stands in `deny` \
         of [destinations] ({PATH}:3)"
    );
    assert_eq!(refusal(&policy, "bad.example.com:80"), Some(denied));
    let learn = format!(
        "your organisation does not permit learning: `allow_learn` of [answers] ({PATH}:5) is false"
    );
    assert_eq!(policy.check_learn().unwrap_err().to_string(), learn);
    assert_eq!(policy.check_bypass(), Ok(()));
}

#[test]
fn an_empty_ceiling_opens_nothing() {
    let policy = policy("destinations.ceiling = []");
    assert!(refusal(&policy, "a.example").is_some());
}

#[test]
fn each_permission_is_refused_by_its_own_key() {
    let refused = |key: &str| {
        let policy = policy(&format!("answers.{key} = false"));
        [
            policy.check_learn(),
            policy.check_bypass(),
            policy.check_trusted_project_file(),
            policy.check_approver(),
        ]
        .map(|checked| checked.is_err())
    };
    assert_eq!(refused("allow_learn"), [true, false, false, false]);
    assert_eq!(refused("allow_bypass"), [false, true, false, false]);
    let project = refused("allow_trusted_project_files");
    assert_eq!(project, [false, false, true, false]);
    assert_eq!(refused("allow_approver"), [false, false, false, true]);
}

#[test]
fn required_profiles_and_records_cannot_be_left_out() {
    let policy = policy(
        "profiles.required = ['company', 'npm']\n\
         record = { required = true, copies = ['/var/log/t/{user}.jsonl'] }",
    );
    let profiles = policy.add_required_profiles(vec!["npm".to_owned(), "mine".to_owned()]);
    assert_eq!(profiles, ["company", "npm", "mine"]);
    let kept = policy.limit_record(Setting::of_flag("--no-record", false));
    assert!(kept.value && kept.source.is_organisation());
    let own = Setting::of_flag("--record", true);
    assert_eq!(policy.limit_record(own.clone()), own);
    for (user, file) in [("op", "op"), ("../x", ".._x"), ("..", "_"), ("", "_")] {
        let expected = format!("/var/log/t/{file}.jsonl");
        assert_eq!(policy.record_copies(user), [Path::new(&expected)]);
    }
}

#[test]
fn floor_destinations_and_allows_outside_of_the_ceiling_are_errors() {
    let error = |text: &str| {
        let parsed = OrganisationPolicy::parse(Path::new("p"), text);
        parsed.unwrap_err().to_string()
    };
    for key in ["allow", "ceiling"] {
        let text = error(&format!("destinations.{key} = ['169.254.169.254']"));
        assert!(text.contains("169.254.169.254 is never opened"), "{text}");
    }
    let outside = error("[destinations]\nceiling = ['*.a.example']\nallow = ['b.example']");
    let expected = "p:3:1: `allow`: b.example is outside of `ceiling`\n  3 | allow = ['b.example']";
    assert_eq!(outside, expected);
    // A deny may be of the floor: it opens nothing.
    policy("destinations.deny = ['169.254.0.0/16']");
}

#[test]
fn a_file_that_others_can_write_or_that_is_wrong_is_no_missing_file() {
    let root = tempfile::tempdir().unwrap();
    let uid = rustix::process::geteuid().as_raw();
    let file = root.path().join("policy.toml");
    let read = || OrganisationPolicy::read_below(root.path(), Path::new("/policy.toml"), uid);
    assert!(read().unwrap().is_none());
    std::fs::write(&file, "answers.max_hold = '1m'").unwrap();
    let mode = |mode| std::fs::set_permissions(&file, std::fs::Permissions::from_mode(mode));
    mode(0o644).unwrap();
    assert!(read().unwrap().unwrap().answers.max_hold.is_some());
    mode(0o646).unwrap();
    assert!(matches!(read(), Err(OrganisationError::File(_))));
    mode(0o644).unwrap();
    std::fs::write(&file, "answers.max_holdd = '1m'").unwrap();
    assert!(matches!(read(), Err(OrganisationError::Contents(_))));
}

fn lifetimes() -> impl Strategy<Value = AnswerLifetime> {
    let words = ["once", "1m", "5m", "1h", "run", "project", "always"];
    prop::sample::select(words.to_vec()).prop_map(|word| word.parse().unwrap())
}

proptest! {
    #[test]
    fn nothing_lasts_longer_than_the_limit(limit in lifetimes(), requested in lifetimes()) {
        let policy = policy(&format!("answers.max_lifetime = '{limit}'"));
        let limited = policy.limit_lifetime(Setting::of_flag("--for", requested));
        prop_assert_eq!(limited.value, requested.min(limit));
        prop_assert_eq!(limited.source.is_organisation(), requested > limit);
    }

    #[test]
    fn nothing_is_held_longer_than_the_limit(limit in 0_u64..600, requested: Option<u16>) {
        let policy = policy(&format!("answers.max_hold = '{limit}s'"));
        let requested = requested.map(|seconds| Duration::from_secs(seconds.into()));
        let limited = policy.limit_hold(Setting::of_flag("--hold", requested));
        let limit = Duration::from_secs(limit);
        prop_assert_eq!(limited.value, Some(requested.unwrap_or(limit).min(limit)));
    }
}
