// SPDX-License-Identifier: Apache-2.0
//! The wider names that an answer may cover, up to the registrable domain.
//!
//! A registrable domain is a public suffix and one label more: `example.co.uk`, and `web.github.io`
//! because the public suffix list (publicsuffix.org) has `github.io`. What lies above belongs to
//! many owners, and no answer covers it.

use terok_clearance::{DomainName, HostPattern};

/// Returns the registrable domain of a name; `None` for a public suffix and for a single label.
///
/// A name whose last label is not on the list counts as if that label were a public suffix.
pub fn registrable_domain(name: &DomainName) -> Option<DomainName> {
    psl::domain_str(name.as_str())?.parse().ok()
}

/// Returns the patterns of subdomains that cover a name, the narrowest first: for
/// `a.b.example.com` these are `*.b.example.com` and `*.example.com`.
pub fn wider_patterns(name: &DomainName) -> Vec<HostPattern> {
    let Some(domain) = registrable_domain(name) else {
        return Vec::new();
    };
    name.parents()
        .filter_map(|parent| parent.parse::<DomainName>().ok())
        .take_while(|parent| *parent == domain || parent.is_below(&domain))
        .map(HostPattern::Subdomains)
        .collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn wider(name: &str) -> Vec<String> {
        let patterns = wider_patterns(&name.parse().unwrap());
        patterns.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn names_widen_step_by_step_up_to_the_registrable_domain() {
        assert_eq!(wider("api.example.com"), ["*.example.com"]);
        assert_eq!(
            wider("a.b.example.com"),
            ["*.b.example.com", "*.example.com"]
        );
        assert_eq!(wider("www.example.co.uk"), ["*.example.co.uk"]);
        assert_eq!(wider("a.web.github.io"), ["*.web.github.io"]);
        assert_eq!(wider("db.corp"), [] as [&str; 0]);
        assert_eq!(wider("a.db.corp"), ["*.db.corp"]);
        for name in ["example.com", "web.github.io", "com", "co.uk", "localhost"] {
            assert_eq!(wider(name), [] as [&str; 0], "{name}");
        }
    }

    #[test]
    fn a_registrable_domain_is_one_label_below_a_public_suffix() {
        let domain = |name: &str| {
            let found = registrable_domain(&name.parse().unwrap());
            found.map(|found| found.to_string())
        };
        assert_eq!(domain("a.b.example.com").as_deref(), Some("example.com"));
        assert_eq!(
            domain("bucket.s3.amazonaws.com").as_deref(),
            Some("bucket.s3.amazonaws.com")
        );
        assert_eq!(domain("com"), None);
        assert_eq!(domain("github.io"), None);
    }

    proptest! {
        #[test]
        fn no_wider_pattern_covers_another_owner(
            labels in proptest::collection::vec("[a-z]{1,5}", 1..5),
            suffix in proptest::sample::select(vec!["com", "co.uk", "github.io", "example", "ck"]),
        ) {
            let name: DomainName = format!("{}.{suffix}", labels.join(".")).parse().unwrap();
            for pattern in wider_patterns(&name) {
                let HostPattern::Subdomains(parent) = &pattern else {
                    panic!("{pattern}");
                };
                prop_assert!(name.is_below(parent));
                let (own, of_parent) = (registrable_domain(&name), registrable_domain(parent));
                prop_assert!(own.is_some());
                prop_assert_eq!(own, of_parent);
            }
        }
    }
}
