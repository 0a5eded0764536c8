// SPDX-License-Identifier: Apache-2.0
//! An interrupted demo opens nothing and leaves no processes or files.
//!
//! Each test reads standard error to its end, which comes when the last process of the demo has
//! ended.

use std::path::PathBuf;
use std::process::Command;

use rustix::process::{Pid, Signal, kill_process};

use crate::demo::{Demo, Run, User, assert_swept};

fn stopped(signal: Signal) -> Run {
    let demo = Demo::new();
    let mut started = demo.start(User::Me, &["demo", "--json", "--answer", "ask"]);
    let firewall = started.until("firewall");
    started.until("question");
    let pid = Pid::from_raw(started.child.id().cast_signed()).unwrap();
    kill_process(pid, signal).unwrap();
    let run = started.end();
    assert_swept(&PathBuf::from(firewall["socket"].as_str().unwrap()));
    run
}

#[test]
fn by_ctrl_c_and_by_sigterm() {
    for (signal, status) in [(Signal::INT, 130), (Signal::TERM, 143)] {
        let run = stopped(signal);
        assert_eq!(run.status, Some(status), "{run:#?}");
        let summary = run.summary();
        assert_eq!(summary["ok"], false);
        assert_eq!(summary["passed"], 0);
        assert!(
            summary["missing"].to_string().contains("stopped"),
            "{summary}"
        );
    }
}

#[test]
fn by_sigkill() {
    let run = stopped(Signal::KILL);
    assert_eq!(run.status, None);
}

#[test]
fn by_closed_output() {
    let demo = Demo::new();
    let script = format!("{} demo --answer allow | head -1", demo.program().display());
    let output = Command::new("sh").args(["-c", &script]).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
    let line = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        line.starts_with("A program in a default-deny sandbox"),
        "{line}"
    );
}

#[test]
fn by_a_machine_that_allows_no_namespaces() {
    let demo = Demo::new();
    // A user namespace that allows no nested namespaces.
    let script = format!(
        "echo 0 > /proc/sys/user/max_user_namespaces && exec {} demo --answer allow",
        demo.program().display()
    );
    let output = Command::new("unshare")
        .args(["--user", "--map-root-user", "sh", "-c", &script])
        .output()
        .unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    assert!(
        stderr.contains("user.max_user_namespaces=0"),
        "what: {stderr}"
    );
    assert!(stderr.contains("hint: "), "and what to do: {stderr}");
}
