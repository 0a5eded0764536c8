// SPDX-License-Identifier: Apache-2.0
//! Real rootless containers, with hooks and firewall of the Python package.

use std::path::Path;

use serde_json::json;

use crate::harness::{Rootless, Running, Stack};

const STACK: Stack = Stack::V0_8_1;
const STATE: &str = "/run/user/1000/state";

#[tokio::test]
async fn our_verbs_manage_what_their_hooks_prepared() {
    let machine = Rootless::new(STACK).await;
    let container = machine.create("box").await;
    machine.start(&container).await;
    let id = container.id.to_string();
    let ours = async |args: &[&str]| {
        let args = [&["shield"][..], args].concat();
        machine.done(machine.ours(&args)).await
    };
    let theirs = async |args: &[&str]| machine.done(machine.shield(args)).await;
    assert_eq!(ours(&["status", "box"]).await, "up\n");
    let allowed = ours(&["allow", "box", "203.0.113.7"]).await;
    assert_eq!(allowed, "Allowed 203.0.113.7 -> 203.0.113.7 for box\n");
    let set = "t40_project_allow_v4";
    assert_eq!(machine.set(&container, set).await, ["203.0.113.7"]);
    ours(&["down", "box", "--container-id", &id]).await;
    assert_eq!(theirs(&["status", "box"]).await, "down\n");
    theirs(&["up", "box", "--container-id", &id]).await;
    assert_eq!(ours(&["status", "box"]).await, "up\n");
    assert_eq!(machine.set(&container, set).await, ["203.0.113.7"]);
    ours(&["deny", "box", "203.0.113.7"]).await;
    assert_eq!(machine.set(&container, set).await, [""; 0]);
    ours(&["quarantine", "box"]).await;
    assert_eq!(theirs(&["status", "box"]).await, "quarantine\n");
    ours(&["up", "box", "--container-id", &id]).await;
    let ours_by_id = ours(&["status", &id[..12]]).await;
    assert_eq!(ours_by_id, "up\n");
    let environment = ours(&["check-environment"]).await;
    let words: Vec<_> = environment.lines().skip(1).take(2).collect();
    assert_eq!(words, ["hooks=global", "health=ok"]);
    machine.stop(&container).await;
    assert_eq!(ours(&["status", "box"]).await, "offline\n");
}

#[tokio::test]
async fn a_container_that_we_prepare_is_started_by_their_hooks() {
    let machine = Rootless::new(STACK).await;
    let prepare = |name: &'static str| {
        [
            "--state-dir",
            STATE,
            "prepare",
            name,
            "--profiles",
            "nothing",
            "--json",
        ]
    };
    let ours = [&["shield"][..], &prepare("box")].concat();
    let ours = machine.done(machine.ours(&ours)).await;
    let theirs = machine.done(machine.shield(&prepare("other"))).await;
    assert_eq!(ours, theirs.replace("other", "box"));
    let container = machine.create_with("box", &ours).await;
    machine.start(&container).await;
    let status = machine.done(machine.shield(&["status", "box"])).await;
    assert_eq!(status, "up\n");
    let run = [
        "shield",
        "--state-dir",
        STATE,
        "run",
        "short",
        "--profiles",
        "nothing",
        "--",
    ];
    let command = [
        "--rm",
        "interop:latest",
        "/bin/sh",
        "-c",
        "echo hello; exit 7",
    ];
    let run = machine.ours(&[&run[..], &command].concat());
    let ended = machine.ended(&mut { run }).await;
    assert_eq!(
        (ended.status.code(), ended.output.as_str()),
        (Some(7), "hello\n"),
        "{ended:?}"
    );
}

#[tokio::test]
async fn our_hooks_start_a_container_with_firewall_and_reader() {
    let machine = Rootless::new(STACK).await;
    let setup = machine.done(machine.ours(&["shield", "setup"])).await;
    assert!(
        setup.ends_with("Done. Global hooks installed.\n"),
        "{setup}"
    );
    let prepare = [
        "shield",
        "--state-dir",
        STATE,
        "prepare",
        "box",
        "--profiles",
        "nothing",
    ];
    let arguments = machine
        .done(machine.ours(&[&prepare[..], &["--json"]].concat()))
        .await;
    let container = machine.create_with("box", &arguments).await;
    let ours = env!("CARGO_BIN_EXE_terok-clearance");
    for _ in 0..2 {
        machine.start(&container).await;
        let status = machine.done(machine.shield(&["status", "box"])).await;
        assert_eq!(status, "up\n");
        let reader = machine.reader_pid(&container).unwrap();
        assert_eq!(machine.reader(&reader).await.as_deref(), Some(ours));
        let short = std::fs::read_to_string(machine.state_file(&container, "container.id"));
        assert_eq!(short.unwrap().trim(), container.id.short());
        machine.stop(&container).await;
        assert_eq!(machine.reader_pid(&container), None);
        assert_eq!(machine.reader(&reader).await, None);
    }
    // Without its rules a container does not start.
    let ruleset = machine.state_file(&container, "ruleset.nft");
    for broken in ["", "table inet terok_shield { }\n", "nonsense\n"] {
        std::fs::write(&ruleset, broken).unwrap();
        let ended = machine.try_start(&container).await;
        assert!(!ended.status.success(), "{broken:?}: {ended:?}");
        let log = std::fs::read_to_string(machine.state_file(&container, "hook-error.log"));
        assert!(
            log.unwrap().contains("terok-clearance hook: "),
            "{broken:?}"
        );
    }
}

#[tokio::test]
async fn both_verdict_helpers_call_our_program() {
    let machine = Rootless::new(STACK).await;
    let container = machine.create("box").await;
    machine.start(&container).await;
    // The program under its name, and a Python without the real one beside it.
    drop(machine.place().ours_as("terok-shield", &[]));
    machine.place().twin(STACK);
    let home = Path::new("/run/user/1000");
    let shield = home.join("terok-shield");
    let scripts = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/interop/python");
    for name in ["ours", "theirs"] {
        let socket = home.join(format!("{name}.sock"));
        let helper = if name == "ours" {
            let mut ours = machine.ours(&["serve-verdict", "--shield"]);
            ours.arg(&shield).arg("--verdict-socket").arg(&socket);
            ours
        } else {
            let mut theirs = machine.command(home.join("twin/bin/python"));
            theirs.arg(scripts.join("verdict_server.py")).arg(&socket);
            theirs.env("PATH", "/run/user/1000:/usr/sbin:/usr/bin:/sbin:/bin");
            theirs
        };
        let _helper = machine.serve(helper, &[&socket]).await;
        let path = socket.to_str().unwrap();
        let mut client = Running::start(&mut machine.script("verdict.py", &[path]));
        let mut order = async |dest: &str, action: &str| {
            client.say(&json!(["box", dest, action]).to_string()).await;
            client.json().await
        };
        let sets = async || {
            let allowed = machine.set(&container, "t40_project_allow_v4").await;
            (
                allowed,
                machine.set(&container, "t20_security_deny_v4").await,
            )
        };
        let one = vec!["203.0.113.7".to_owned()];
        assert_eq!(
            order("203.0.113.7", "allow").await,
            json!([true, ""]),
            "{name}"
        );
        assert_eq!(sets().await, (one.clone(), vec![]), "{name}");
        assert_eq!(
            order("203.0.113.7", "deny").await,
            json!([true, ""]),
            "{name}"
        );
        assert_eq!(sets().await, (vec![], one), "{name}");
        let failed = order("no.invalid", "allow").await;
        assert_eq!(failed[0], false, "{failed}");
        let said = failed[1].as_str().unwrap();
        assert!(
            said.starts_with("Error: No IPs allowed for box"),
            "{failed}"
        );
    }
}
