// SPDX-License-Identifier: Apache-2.0

use terok_clearance::{Action, HostPattern, Protocol};

use super::*;
use crate::RuleFile;

/// Domains below which everyone can host, or which serve the contents of everyone.
const SHARED_DOMAINS: [&str; 38] = [
    "akamaihd.net",
    "akamaized.net",
    "amazonaws.com",
    "appspot.com",
    "awsapps.com",
    "azureedge.net",
    "azurefd.net",
    "azurewebsites.net",
    "b-cdn.net",
    "blob.core.windows.net",
    "cloudapp.net",
    "cloudflarestorage.com",
    "cloudfront.net",
    "deno.dev",
    "digitaloceanspaces.com",
    "docker.io",
    "fastly.net",
    "firebaseapp.com",
    "fly.dev",
    "gateway.dev",
    "github.io",
    "githubusercontent.com",
    "gitlab.io",
    "googleapis.com",
    "googleusercontent.com",
    "herokuapp.com",
    "hf.space",
    "netlify.app",
    "ngrok.io",
    "pages.dev",
    "r2.dev",
    "readthedocs.io",
    "run.app",
    "surge.sh",
    "trafficmanager.net",
    "vercel.app",
    "web.app",
    "workers.dev",
];
/// The wildcards in use: names that only their owner gives out.
const OWN_WILDCARDS: [&str; 1] = ["data.mcr.microsoft.com"];
/// Hosts in which everyone can keep data; a profile leaves them to a question.
const OPEN_STORES: [&str; 4] = [
    "storage.googleapis.com",
    "s3.amazonaws.com",
    "upload.pypi.org",
    "crates.io",
];

fn profiles() -> impl Iterator<Item = (&'static str, &'static str, RuleFile)> {
    BUNDLED
        .iter()
        .map(|(name, text)| (*name, *text, RuleFile::parse(text.as_bytes()).unwrap()))
}

#[test]
fn bundled_profiles_are_found_by_name() {
    let names: Vec<_> = bundled_profile_names().collect();
    assert_eq!(names.len(), BUNDLED.len());
    assert!(names.is_sorted());
    assert!(names.iter().all(|name| bundled_profile(name).is_some()));
    assert_eq!(bundled_profile(&"npm-x".parse().unwrap()), None);
}

#[test]
fn bundled_profiles_are_narrow() {
    for (name, _, file) in profiles() {
        assert!(file.rule_count() > 0, "{name}");
        for rule in file.rules() {
            let pattern = &rule.pattern;
            assert_eq!(rule.action, Action::Allow, "{name}: {pattern}");
            assert_eq!(pattern.protocol(), Some(Protocol::TCP), "{name}: {pattern}");
            let ports = pattern.ports().unwrap();
            assert_eq!(ports.low(), ports.high(), "{name}: {pattern}");
            match pattern.host() {
                HostPattern::Name(host) => {
                    assert!(!OPEN_STORES.contains(&host.as_str()), "{name}: {pattern}");
                    assert!(
                        !SHARED_DOMAINS.contains(&host.as_str()),
                        "{name}: {pattern}"
                    );
                }
                HostPattern::Subdomains(parent) => {
                    let parent = parent.as_str();
                    assert!(OWN_WILDCARDS.contains(&parent), "{name}: {pattern}");
                    for shared in SHARED_DOMAINS {
                        let above = format!(".{parent}");
                        let below = format!(".{shared}");
                        assert!(parent != shared, "{name}: {pattern}");
                        assert!(!shared.ends_with(&above), "{name}: {pattern}");
                        assert!(!parent.ends_with(&below), "{name}: {pattern}");
                    }
                }
                host => panic!("{name}: an address: {host}"),
            }
        }
    }
}

#[test]
fn bundled_profiles_tell_their_purpose_and_sources() {
    for (name, text, file) in profiles() {
        let purpose = file.purpose().unwrap();
        assert!(purpose.as_str().contains(':'), "{name}: {purpose}");
        let mut dated = false;
        for group in text.split("\n\n") {
            let has_rules = group.lines().any(|line| !line.starts_with('#'));
            dated |= group.contains("2026-");
            let has_source = group.contains("https://");
            assert!(has_source || !has_rules, "{name}: {group}");
        }
        assert!(dated, "{name}");
        let mut seen: Vec<_> = file.rules().map(|rule| rule.pattern).collect();
        let count = seen.len();
        seen.sort();
        seen.dedup();
        assert_eq!(seen.len(), count, "{name}: a rule is there twice");
        assert!(text.lines().all(|line| line.len() <= 100), "{name}");
    }
}
