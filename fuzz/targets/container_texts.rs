// SPDX-License-Identifier: Apache-2.0
//! What images and people write about containers: annotations, podman's arguments (one a line),
//! and the configuration of a container.
#![no_main]

use std::ffi::OsString;

use containers::ContainerNetwork;
use containers::oci_runtime::{ConfigHooks, edit_config};
use containers::podman_command::{
    GuardArguments, NetworkOptions, PodmanCommandLine, PodmanVerb,
};
use containers::policy_annotation::{ContainerPolicy, PolicyKey};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let network = ContainerNetwork::Dialed;
    let key = PolicyKey::new([1; 32]);
    assert!(ContainerPolicy::verify(text, network, &key).is_err());

    let line: Vec<OsString> = text.lines().map(Into::into).collect();
    if let Ok(parsed) = PodmanCommandLine::parse(PodmanVerb::Run, &line)
        && let Ok(command) = parsed.check(NetworkOptions::Refuse)
    {
        let guarded = command.guard(&GuardArguments {
            network,
            policy: "v1.e30.00".into(),
            hooks_directories: Vec::new(),
            has_proxy_variables: false,
        });
        // What podman gets has the same image, and passes the same check.
        let again = PodmanCommandLine::parse(PodmanVerb::Run, &guarded.arguments[1..]);
        let again = again.expect("the guarded line is split");
        assert!(again.value_of("network").is_some() || command.pod().is_some());
    }

    let hooks = ConfigHooks::of_program("/p");
    if let Ok(Some(edited)) = edit_config(text.as_bytes(), Some(network), &hooks) {
        let again = edit_config(&edited, None, &hooks);
        assert_eq!(again.expect("it is edited again"), Some(edited));
    }
});
