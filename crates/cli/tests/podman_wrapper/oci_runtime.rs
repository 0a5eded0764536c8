// SPDX-License-Identifier: Apache-2.0
//! `oci-runtime` with the real runc and a bundle made by hand.

use std::fs;

use serde_json::{Value, json};

use super::machine::{Machine, PROGRAM, Printed};

/// Makes a bundle whose program writes `started`.
fn make_bundle(machine: &Machine, annotations: Value) {
    let bundle = machine.path("bundle");
    fs::create_dir_all(&bundle).unwrap();
    let made = machine.run(&["runc", "spec", "--bundle", bundle.to_str().unwrap()]);
    assert_eq!(made.status, Some(0), "{made:?}");
    let path = bundle.join("config.json");
    let mut config: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    config["annotations"] = annotations;
    config["root"]["path"] = machine.path("image").to_str().into();
    config["process"]["terminal"] = false.into();
    config["process"]["args"] = json!(["sh", "-c", "echo started; cat /proc/self/status"]);
    config["process"]["rlimits"] = json!([]);
    let capabilities = config["process"]["capabilities"].as_object_mut().unwrap();
    for set in capabilities.values_mut() {
        *set = json!(["CAP_KILL", "CAP_NET_RAW"]);
    }
    fs::write(path, config.to_string()).unwrap();
}

fn run_container(machine: &Machine, answer: &str, own: &[&str]) -> Printed {
    let (root, bundle, log) = (
        machine.path("runc"),
        machine.path("bundle"),
        machine.path("log.json"),
    );
    let mut words = vec![PROGRAM, "oci-runtime"];
    words.extend_from_slice(own);
    words.extend(["--root", root.to_str().unwrap()]);
    words.extend(["--log", log.to_str().unwrap(), "--log-format", "json"]);
    words.extend(["run", "--bundle", bundle.to_str().unwrap(), "box"]);
    machine.run_with_supervisor(answer, &words)
}

#[test]
fn a_container_that_asks_is_guarded() {
    let machine = Machine::new();
    make_bundle(&machine, json!({"org.terok.clearance.network": "filtered"}));
    let ran = run_container(&machine, "ready", &[]);
    assert_eq!(ran.status, Some(0), "{ran:?}");
    assert!(ran.stdout.starts_with("started\n"), "{ran:?}");
    // CAP_KILL alone.
    assert!(
        ran.stdout.contains("CapBnd:\t0000000000000020"),
        "{}",
        ran.stdout
    );
    let requests = machine.requests();
    assert_eq!(requests[0]["network"], "filtered");
    assert_eq!(requests[0]["id"], "box");
}

#[test]
fn a_refused_container_does_not_start() {
    let machine = Machine::new();
    make_bundle(&machine, json!({}));
    let ran = run_container(&machine, "refuse", &["--via", "dialed"]);
    assert_ne!(ran.status, Some(0), "{ran:?}");
    assert!(!ran.stdout.contains("started"), "{ran:?}");
    assert_eq!(machine.requests()[0]["network"], "dialed");
}

#[test]
fn other_containers_are_passed_on_as_they_are() {
    let machine = Machine::new();
    make_bundle(&machine, json!({"a": "b"}));
    let before = fs::read(machine.path("bundle/config.json")).unwrap();
    let ran = run_container(&machine, "refuse", &["--runtime", "/usr/sbin/runc"]);
    assert_eq!(ran.status, Some(0), "{ran:?}");
    assert!(
        ran.stdout.contains("CapBnd:\t0000000000002020"),
        "{}",
        ran.stdout
    );
    assert_eq!(
        fs::read(machine.path("bundle/config.json")).unwrap(),
        before
    );
    assert!(machine.requests().is_empty());
    let version = machine.run(&[PROGRAM, "oci-runtime", "--version"]);
    assert!(version.stdout.starts_with("runc version"), "{version:?}");
}

#[test]
fn what_cannot_be_guarded_does_not_start_and_the_engine_learns_why() {
    let machine = Machine::new();
    make_bundle(&machine, json!({"org.terok.clearance.network": "open"}));
    let ran = run_container(&machine, "ready", &[]);
    assert_eq!(ran.status, Some(1), "{ran:?}");
    assert!(
        ran.stderr.contains("neither dialed nor filtered"),
        "{ran:?}"
    );
    let log = fs::read_to_string(machine.path("log.json")).unwrap();
    let line: Value = serde_json::from_str(log.lines().last().unwrap()).unwrap();
    assert_eq!(line["level"], "error");
    assert!(
        line["msg"]
            .as_str()
            .unwrap()
            .contains("neither dialed nor filtered")
    );
    assert!(machine.requests().is_empty());
}
