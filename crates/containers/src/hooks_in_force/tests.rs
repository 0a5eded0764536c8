// SPDX-License-Identifier: Apache-2.0
//! Tests of the proof that hooks are in force.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixListener;

use serde_json::{Value, json};
use tempfile::TempDir;

use super::*;

const UID: u32 = 1000;

/// A host with everything in place.
struct Host {
    place: TempDir,
    check: HookCheck,
    _listener: UnixListener,
}

fn hook_json(program: &Path, stage: &str) -> Value {
    json!({
        "version": "1.0.0",
        "hook": {"path": program, "args": ["terok-clearance", "hook", stage]},
        "when": {"annotations": {"^org\\.terok\\.clearance\\.network$": ".*"}},
        "stages": [stage],
    })
}

impl Host {
    fn new() -> Self {
        let place = tempfile::tempdir().unwrap();
        let at = |name: &str| place.path().join(name);
        let hooks = at("hooks.d");
        let program = at("terok-clearance");
        fs::write(&program, "#!/bin/sh\necho terok-clearance 1.2.3\n").unwrap();
        fs::set_permissions(&program, Permissions::from_mode(0o755)).unwrap();
        fs::create_dir_all(&hooks).unwrap();
        for name in HOOK_FILES {
            let json = hook_json(&program, stage_of(name)).to_string();
            fs::write(hooks.join(name), json).unwrap();
        }
        let config = at("config/containers");
        fs::create_dir_all(&config).unwrap();
        let text = format!("[engine]\nhooks_dir = [\"/x\", {hooks:?}]\n");
        fs::write(config.join("containers.conf"), text).unwrap();
        let socket = at("run").join(START_SOCKET);
        fs::create_dir_all(socket.parent().unwrap()).unwrap();
        let listener = UnixListener::bind(socket).unwrap();
        let check = HookCheck {
            hooks_directory: hooks,
            podman: PodmanConfigFiles {
                uid: UID,
                root: at("root"),
                user_config_dir: at("config"),
                only: None,
                last: None,
            },
            runtime_dir: at("run"),
            program,
            version: "1.2.3",
        };
        Self {
            place,
            check,
            _listener: listener,
        }
    }

    fn write(&self, name: &str, text: &str) {
        let path = self.place.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    /// Returns the only fault.
    fn fault(&self) -> HookFault {
        let mut faults = self.check.find_faults();
        assert_eq!(faults.len(), 1, "{faults:?}");
        faults.pop().unwrap()
    }
}

#[test]
fn a_host_with_everything_in_place_has_no_fault() {
    assert_eq!(Host::new().check.find_faults(), []);
}

#[test]
fn a_missing_or_broken_hook_file_is_a_fault() {
    let host = Host::new();
    let path = host.check.hooks_directory.join(HOOK_FILES[0]);
    let good = hook_json(&host.check.program, "createRuntime");
    let check = |change: &dyn Fn(&mut Value), expected: &HookFileProblem| {
        let mut json = good.clone();
        change(&mut json);
        fs::write(&path, json.to_string()).unwrap();
        match host.fault() {
            HookFault::File { problem, .. } => assert_eq!(&problem, expected),
            other => panic!("{other}"),
        }
    };
    check(
        &|json| json["version"] = "0.1.0".into(),
        &HookFileProblem::Version,
    );
    check(
        &|json| json["hook"]["path"] = "x".into(),
        &HookFileProblem::Program,
    );
    check(
        &|json| json["hook"]["args"] = json!(["x", "hook", "poststop"]),
        &HookFileProblem::Arguments("createRuntime".into()),
    );
    check(
        &|json| json["stages"] = json!(["poststop"]),
        &HookFileProblem::Stage("createRuntime".into()),
    );
    for when in [
        Value::Null,
        json!({}),
        json!({"always": true, "annotations": {"org.terok.clearance.network": ".*"}}),
        json!({"annotations": {"org.terok.clearance.network": "^dialed$"}}),
        json!({"annotations": {"org.terok.other": ".*"}}),
        json!({"annotations": {"org.terok.clearance.network": ".*", "x": ".*"}}),
    ] {
        check(
            &|json| json["when"] = when.clone(),
            &HookFileProblem::Condition,
        );
    }
    fs::write(&path, "{").unwrap();
    assert!(host.fault().to_string().contains("not JSON"));
    fs::remove_file(&path).unwrap();
    assert_eq!(host.fault(), HookFault::NoFile { path });
    assert!(host.fault().remedy().contains("setup"));
}

#[test]
fn the_program_of_the_hooks_is_this_version() {
    let mut host = Host::new();
    let program = host.check.program.clone();
    host.check.program = "/proc/self/exe".into();
    assert_eq!(host.check.find_faults(), []);
    fs::write(&program, "#!/bin/sh\necho terok-clearance 1.2.2\n").unwrap();
    let text = host.fault().to_string();
    assert!(text.contains("is terok-clearance 1.2.2, and this is terok-clearance 1.2.3"));
    fs::set_permissions(&program, Permissions::from_mode(0o644)).unwrap();
    // Root may execute only what somebody may execute.
    assert_eq!(host.fault(), HookFault::NoProgram { path: program });
}

#[test]
fn podman_must_read_the_directory() {
    let host = Host::new();
    let ours = host.check.hooks_directory.clone();
    host.write("config/containers/containers.conf", "[containers]\n");
    let fault = host.fault();
    assert!(fault.is_mended_by_wrapper());
    let others = vec![PathBuf::from("/usr/share/containers/oci/hooks.d")];
    assert_eq!(
        fault,
        HookFault::NotConfigured {
            directory: ours.clone(),
            others
        }
    );
    let list = format!("[engine]\nhooks_dir = [{ours:?}]\n");
    host.write("root/etc/containers/containers.conf", &list);
    assert_eq!(host.check.find_faults(), []);
    // Later files replace the list.
    host.write(
        "root/etc/containers/containers.conf.d/9.conf",
        "[engine]\nhooks_dir=[\"/y\"]\n",
    );
    assert!(matches!(host.fault(), HookFault::NotConfigured { .. }));
    host.write("config/containers/containers.conf.d/1.conf", &list);
    assert_eq!(host.check.find_faults(), []);
    host.write("config/containers/containers.conf.d/2.conf", "[engine");
    assert!(matches!(host.fault(), HookFault::PodmanConfig(_)));
}

#[test]
fn variables_name_other_configurations() {
    let mut host = Host::new();
    host.write("other.conf", "[engine]\nhooks_dir=[\"/y\"]\n");
    host.check.podman.last = Some(host.place.path().join("other.conf"));
    // Only podman 5 knows it.
    assert!(matches!(host.fault(), HookFault::NotConfigured { .. }));
    host.write(
        "other.conf",
        "[engine]\nhooks_dir=[\"/y\", {append=true}]\n",
    );
    assert_eq!(host.check.find_faults(), []);
    host.check.podman.last = None;
    host.check.podman.only = Some(host.place.path().join("other.conf"));
    assert!(matches!(host.fault(), HookFault::NotConfigured { .. }));
}

#[test]
fn the_users_file_of_root_counts_only_for_podman_5() {
    let mut host = Host::new();
    host.check.podman.uid = 0;
    assert!(matches!(host.fault(), HookFault::NotConfigured { .. }));
    let list = format!("[engine]\nhooks_dir = [{:?}]\n", host.check.hooks_directory);
    host.write("root/etc/containers/containers.conf", &list);
    assert_eq!(host.check.find_faults(), []);
}

#[test]
fn a_file_of_the_same_name_in_a_later_directory_is_a_fault() {
    let host = Host::new();
    let later = host.place.path().join("later");
    let list = format!(
        "[engine]\nhooks_dir = [{:?}, {later:?}]\n",
        host.check.hooks_directory
    );
    host.write("config/containers/containers.conf", &list);
    assert_eq!(host.check.find_faults(), []);
    host.write(&format!("later/{}", HOOK_FILES[1]), "{}");
    let path = later.join(HOOK_FILES[1]);
    assert_eq!(host.fault(), HookFault::Replaced { path });
}

#[test]
fn the_start_socket_must_accept() {
    let mut host = Host::new();
    host.check.runtime_dir = host.place.path().join("elsewhere");
    let fault = host.fault();
    assert!(fault.is_mended_by_wrapper());
    assert!(fault.remedy().contains("podman run"));
    host.write("elsewhere/systemd/private", "");
    assert!(!host.fault().is_mended_by_wrapper());
    assert!(host.fault().remedy().contains(SOCKET_UNIT));
    // A file in its place.
    host.write(&format!("elsewhere/{START_SOCKET}"), "");
    assert!(host.fault().to_string().contains("nothing listens"));
}
