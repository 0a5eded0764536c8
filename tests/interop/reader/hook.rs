// SPDX-License-Identifier: Apache-2.0
//! The Python stack's own hook starts our reader, knows it again, and ends it.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;
use terok_clearance::socket::HubSocketPaths;
use test_support::namespaces::add_dead_end_uplink;
use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;
use tokio::time::timeout;

use super::network::{self, connect};
use super::{FULL, INSIDE, next};
use crate::harness::{CONTAINER, Place, Stack, Subscriber};

/// Puts a `podman` into `place` that does `script`.
pub(super) fn podman(place: &Place, script: &str) {
    let programs = place.path().join("programs");
    fs::create_dir_all(&programs).unwrap();
    let program = programs.join("podman");
    fs::write(&program, format!("#!/bin/sh\n{script}\n")).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
}

/// Lets `command` find that podman, and no word that it is inside already.
pub(super) fn outside(place: &Place, command: &mut Command) {
    let programs = place.path().join("programs");
    let path = format!("{}:/usr/sbin:/usr/bin:/sbin:/bin", programs.display());
    command.env("PATH", path).env_remove(INSIDE);
}

/// Installs the hook of `stack` as its setup does, and in the place of its reader the script that
/// our program prints; returns the hook.
async fn install(place: &Place, stack: Stack) -> PathBuf {
    let hooks = place.path().join("hooks");
    fs::create_dir_all(&hooks).unwrap();
    let script = hooks.join("nflog-reader.py");
    let printed = place.ours(&["reader", "--script"]).output().await.unwrap();
    assert!(printed.status.success(), "{printed:?}");
    fs::write(&script, printed.stdout).unwrap();
    let resources = stack.resources();
    // Releases before 0.9 search the system's programs alone: there is the real podman.
    let programs = place.path().join("programs");
    let trusted = "_TRUSTED_PATH = \"";
    for (name, marker, value) in [
        (
            "_oci_state.py",
            "\"__SETUP_PATH__\"",
            json!("/usr/bin:/bin").to_string(),
        ),
        (
            "_oci_state.py",
            trusted,
            format!("{trusted}{}:", programs.display()),
        ),
        (
            "reader_hook.py",
            "\"__READER_SCRIPT_PATH__\"",
            json!(script).to_string(),
        ),
    ] {
        let installed = hooks.join(name);
        if !installed.exists() {
            fs::copy(resources.join(name), &installed).unwrap();
        }
        let text = fs::read_to_string(&installed).unwrap();
        fs::write(&installed, text.replace(marker, &value)).unwrap();
    }
    hooks.join("reader_hook.py")
}

/// Runs the hook at `stage`, as a container engine does.
async fn run(place: &Place, stack: Stack, hook: &Path, stage: &str) {
    let mut command = place.command(stack.program("python"));
    command.arg("-I").arg(hook).arg(stage);
    outside(place, &mut command);
    // It starts no reader where there is no bus, which no reader uses.
    command.env("DBUS_SESSION_BUS_ADDRESS", "unix:path=/nonexistent");
    let mut hook = command.stdin(Stdio::piped()).spawn().unwrap();
    let container = json!({"id": FULL, "annotations": {
        "terok.shield.state_dir": place.state_dir(),
        "dossier.project": "warp",
        "dossier.task": "t1",
        "unrelated": "x",
    }});
    let mut input = hook.stdin.take().unwrap();
    let told = container.to_string();
    input.write_all(told.as_bytes()).await.unwrap();
    drop(input);
    assert!(hook.wait().await.unwrap().success());
}

/// Returns the process that `reader.pid` names. The hook writes the file after it has started the
/// reader, and not at once: an empty file is one that is being written.
fn recorded(place: &Place) -> Pid {
    loop {
        let text = fs::read_to_string(place.state_dir().join("reader.pid")).unwrap();
        if !text.is_empty() {
            return Pid::from_raw(text.trim().parse().unwrap()).unwrap();
        }
        std::thread::yield_now();
    }
}

/// Waits until the packet log is listened to, or is not.
async fn until_read(place: &Place, read: bool) {
    let waited = timeout(Duration::from_secs(30), async {
        while ::reader::find_nflog_owner(100, None).unwrap().is_some() != read {
            tokio::task::yield_now().await;
        }
    });
    if waited.await.is_err() {
        let log = fs::read_to_string(place.state_dir().join("reader.log"));
        panic!("the packet log is read: {}, and {log:?}", !read);
    }
}

#[tokio::test]
async fn their_hook_starts_ours_and_ends_it() {
    add_dead_end_uplink();
    for stack in Stack::ALL {
        let place = Place::new();
        network::shield(&place, stack).await;
        podman(&place, &format!("echo {}", std::process::id()));
        let hook = install(&place, stack).await;
        let container = CONTAINER.parse().unwrap();
        let sockets: HubSocketPaths = place.runtime().sandbox_sockets(&container, stack.layout());
        let _hub = place.our_hub_at(&sockets).await;
        let mut subscriber = Subscriber::at(&sockets).await;

        run(&place, stack, &hook, "createRuntime").await;
        until_read(&place, true).await;
        let first = recorded(&place);
        connect("203.0.113.7:443");
        super::is_the_question(&next(&mut subscriber, "connection_blocked").await);
        run(&place, stack, &hook, "createRuntime").await;
        assert_eq!(recorded(&place), first, "{stack:?}: it knows ours again");

        // What is left of a reader that was killed is in nobody's way.
        kill_process(first, Signal::KILL).unwrap();
        until_read(&place, false).await;
        assert_eq!(recorded(&place), first, "nobody took it away");
        run(&place, stack, &hook, "createRuntime").await;
        until_read(&place, true).await;
        assert_ne!(recorded(&place), first);
        connect("203.0.113.7:443");
        super::is_the_question(&next(&mut subscriber, "connection_blocked").await);

        run(&place, stack, &hook, "poststop").await;
        let exited = next(&mut subscriber, "container_exited").await;
        assert_eq!(exited["reason"], "poststop");
        until_read(&place, false).await;
        assert!(!place.state_dir().join("reader.pid").exists());
        let log = fs::read_to_string(place.state_dir().join("reader.log")).unwrap();
        assert!(log.contains("connected to a hub"), "{log}");
    }
}
