// SPDX-License-Identifier: Apache-2.0
//! Tests of signed policies.

use proptest::prelude::*;

use super::*;

const NETWORKS: [ContainerNetwork; 2] = [ContainerNetwork::Dialed, ContainerNetwork::Filtered];

fn key() -> PolicyKey {
    PolicyKey::new([7; 32])
}

fn sample() -> ContainerPolicy {
    ContainerPolicy {
        allow: vec![
            "*.pypi.org:443/tcp".parse().unwrap(),
            "192.0.2.0/24".parse().unwrap(),
        ],
        deny: vec!["x.example".parse().unwrap()],
        profiles: vec!["npm".parse().unwrap()],
        hold: Some("90s".parse().unwrap()),
        publish: vec!["127.0.0.1:8080:80".parse().unwrap()],
        name: Some(DisplayText::new("my, \"web\"")),
        checks_server_names: true,
    }
}

/// Signs any JSON.
fn signed_json(json: &str) -> String {
    let signed = format!("{VERSION}.{}", URL_SAFE_NO_PAD.encode(json));
    format!("{signed}.{}", key().sign(signed.as_bytes()))
}

#[test]
fn a_policy_survives_its_annotation() {
    for policy in [sample(), ContainerPolicy::default()] {
        for network in NETWORKS {
            let value = policy.sign(network, &key()).unwrap();
            assert_eq!(
                ContainerPolicy::verify(&value, network, &key()).as_ref(),
                Ok(&policy)
            );
            assert_eq!(policy.sign(network, &key()).unwrap(), value);
            // podman 4 splits at commas and refuses quotes.
            assert!(!value.contains([',', '"', '=', ' ']), "{value}");
        }
    }
}

#[test]
fn the_json_is_canonical() {
    let value = sample().sign(ContainerNetwork::Dialed, &key()).unwrap();
    let json = URL_SAFE_NO_PAD
        .decode(value.split('.').nth(1).unwrap())
        .unwrap();
    assert_eq!(
        String::from_utf8(json).unwrap(),
        concat!(
            r#"{"network":"dialed","allow":["*.pypi.org:443/tcp","192.0.2.0/24"],"#,
            r#""deny":["x.example"],"profiles":["npm"],"hold":"90s","#,
            r#""publish":["127.0.0.1:8080:80"],"name":"my, \"web\"","check_server_names":true}"#
        )
    );
    assert!(value.starts_with("v1."));
}

#[test]
fn a_policy_counts_for_its_way_out_and_key_alone() {
    let value = sample().sign(ContainerNetwork::Dialed, &key()).unwrap();
    let verify = |network, key: &PolicyKey| ContainerPolicy::verify(&value, network, key);
    assert_eq!(
        verify(ContainerNetwork::Filtered, &key()),
        Err(PolicyAnnotationError::Network(ContainerNetwork::Dialed))
    );
    assert_eq!(
        verify(ContainerNetwork::Dialed, &PolicyKey::new([8; 32])),
        Err(PolicyAnnotationError::Signature)
    );
}

#[test]
fn other_texts_are_refused() {
    let check = |value: &str, expected: &PolicyAnnotationError| {
        let found = ContainerPolicy::verify(value, ContainerNetwork::Dialed, &key());
        assert_eq!(found.as_ref(), Err(expected), "{value:.80}");
    };
    for form in ["", ".", "v1", "v1.", "v2.e30.00", "{}", "V1.a.b", "v1e30.0"] {
        check(form, &PolicyAnnotationError::Form);
    }
    for unsigned in [
        "v1..",
        "v1.e30.",
        "v1.e30.00",
        "v1.e30.0.0",
        "v1.\u{1f600}.é",
    ] {
        check(unsigned, &PolicyAnnotationError::Signature);
    }
    check(&"v1.".repeat(30_000), &PolicyAnnotationError::TooLong);
    for json in [
        "",
        "{}",
        "[]",
        r#"{"network":"open"}"#,
        r#"{"network":"dialed","open":true}"#,
        r#"{"network":"dialed","allow":["https://a/"]}"#,
        r#"{"network":"dialed","profiles":["../x"]}"#,
        r#"{"network":"dialed","hold":"soon"}"#,
        r#"{"network":"dialed","publish":["x"]}"#,
        r#"{"network":"dialed"} "#,
    ] {
        let found = ContainerPolicy::verify(&signed_json(json), ContainerNetwork::Dialed, &key());
        if json.ends_with(' ') {
            assert!(found.is_ok(), "{json}"); // spaces mean nothing in JSON
        } else {
            let is_content = matches!(found, Err(PolicyAnnotationError::Content(_)));
            assert!(is_content, "{json} {found:?}");
        }
    }
}

#[test]
fn a_policy_that_no_argument_can_carry_is_not_signed() {
    let pattern: DestPattern = "a.example".parse().unwrap();
    let mut policy = ContainerPolicy {
        allow: vec![pattern; MAX_POLICY_ENTRIES + 1],
        ..ContainerPolicy::default()
    };
    let sign = |policy: &ContainerPolicy| policy.sign(ContainerNetwork::Dialed, &key());
    assert_eq!(sign(&policy), Err(PolicySizeError::Entries));
    policy.allow.pop();
    assert!(sign(&policy).is_ok());
    let long = format!("{}.example", vec!["a".repeat(60); 3].join("."));
    policy.allow = vec![long.parse().unwrap(); 300];
    assert_eq!(sign(&policy), Err(PolicySizeError::Bytes));
}

proptest! {
    #[test]
    fn hostile_text_is_refused_without_a_panic(value in ".{0,300}") {
        for network in NETWORKS {
            prop_assert!(ContainerPolicy::verify(&value, network, &key()).is_err());
        }
    }

    #[test]
    fn a_changed_annotation_is_refused(at in any::<prop::sample::Index>(), byte in 0_u8..128) {
        let value = sample().sign(ContainerNetwork::Dialed, &key()).unwrap();
        let mut bytes = value.clone().into_bytes();
        let at = at.index(bytes.len());
        bytes[at] = byte;
        let changed = String::from_utf8(bytes).unwrap();
        let found = ContainerPolicy::verify(&changed, ContainerNetwork::Dialed, &key());
        prop_assert_eq!(found.is_ok(), changed == value);
    }

    #[test]
    fn signed_content_of_any_form_does_not_panic(json in ".{0,200}") {
        let value = signed_json(&json);
        drop(ContainerPolicy::verify(&value, ContainerNetwork::Dialed, &key()));
    }

    #[test]
    fn policies_survive_their_annotation(
        names in prop::collection::vec("[a-z]{1,9}\\.example", 0..9),
        port in 1_u16..,
        hold in prop::option::of(1_u64..100_000),
        name in prop::option::of(".{0,40}"),
        checks_server_names in any::<bool>(),
    ) {
        let policy = ContainerPolicy {
            allow: names.iter().map(|name| name.parse().unwrap()).collect(),
            deny: names.iter().map(|name| format!("*.{name}:{port}").parse().unwrap()).collect(),
            profiles: names.iter().map(|name| name[..1].parse().unwrap()).collect(),
            hold: hold.map(|seconds| format!("{seconds}s").parse().unwrap()),
            publish: vec![format!("{port}:{port}").parse().unwrap()],
            name: name.as_deref().map(DisplayText::new),
            checks_server_names,
        };
        let value = policy.sign(ContainerNetwork::Filtered, &key()).unwrap();
        let read = ContainerPolicy::verify(&value, ContainerNetwork::Filtered, &key());
        prop_assert_eq!(read, Ok(policy));
    }
}
