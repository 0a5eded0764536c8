// SPDX-License-Identifier: Apache-2.0
//! Tests of the ruleset's text.

use terok_clearance_shield::{Policy, PolicyError, preview};

#[test]
fn the_ruleset_lists_the_tiers_in_evaluation_order() {
    let policy = Policy::new(["10.0.2.3", "2001:db8:53::53"].map(|ip| ip.parse().unwrap()));
    insta::assert_snapshot!(preview(&policy.unwrap()));
}

#[test]
fn without_a_resolver_dns_does_not_occur() {
    let text = preview(&Policy::new([]).unwrap());
    assert!(
        !text.contains("resolver") && !text.contains(" 53 "),
        "{text}"
    );
}

#[test]
fn a_resolver_must_be_a_network_host() {
    for bad in [
        "127.0.0.53",
        "::1",
        "0.0.0.0",
        "0.1.2.3",
        "::",
        "224.0.0.251",
        "ff02::fb",
        "255.255.255.255",
        "::ffff:127.0.0.1",
    ] {
        let ip = bad.parse().unwrap();
        assert!(
            matches!(Policy::new([ip]), Err(PolicyError::Resolver(_))),
            "{bad}"
        );
    }
    let many = (0..17).map(|n| std::net::IpAddr::from([192, 0, 2, n]));
    assert_eq!(Policy::new(many), Err(PolicyError::TooManyResolvers(17)));
    let twice = ["192.0.2.53", "::ffff:192.0.2.53"].map(|ip| ip.parse().unwrap());
    assert_eq!(Policy::new(twice).unwrap().resolvers().len(), 1);
}
