// SPDX-License-Identifier: Apache-2.0
//! Tests of orders to a real `terok-shield` program: a script that records its invocation.
#![expect(clippy::unwrap_used, reason = "a test")]

use std::ffi::OsString;
use std::fs;
use std::io::Write as _;
use std::os::unix::fs::{OpenOptionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::time::Duration;

use tempfile::TempDir;
use terok_clearance::wire::verdict1::ApplyParameters;
use terok_clearance::{Action, EnforcementOutcome, Protocol, RuleLifetime, Scope};
use terok_clearance_verdict::{
    ExecBackend, SanitizedStderr, VerdictBackend as _, VerdictOrder, VerdictReply,
    find_shield_program,
};
use tokio::time::Instant;

fn program(dir: &Path, script: &str) -> PathBuf {
    let path = dir.join("terok-shield");
    let mut file = fs::OpenOptions::new()
        .create_new(true)
        .write(true)
        .mode(0o755)
        .open(&path)
        .unwrap();
    file.write_all(format!("#!/bin/sh\n{script}\n").as_bytes())
        .unwrap();
    path
}

fn environment() -> [(OsString, OsString); 2] {
    [("PATH", "/usr/bin:/bin"), ("HOME", "/nowhere")]
        .map(|(name, value)| (name.into(), value.into()))
}

fn order() -> VerdictOrder {
    VerdictOrder::parse(&ApplyParameters {
        container: "web".to_owned(),
        dest: "api.example.com".to_owned(),
        action: "allow".to_owned(),
    })
    .unwrap()
}

async fn run(script: &str) -> VerdictReply {
    let dir = TempDir::new().unwrap();
    let backend = ExecBackend::new(Some(program(dir.path(), script)), environment());
    backend.apply(&order()).await
}

fn failed(reason: &str) -> VerdictReply {
    VerdictReply::failed(reason)
}

#[tokio::test]
async fn the_program_gets_three_arguments_and_nothing_else() {
    let dir = TempDir::new().unwrap();
    let note = dir.path().join("note");
    // Standard output is ignored.
    let script = format!(
        "echo lost; {{ printf '<%s>' \"$@\"; echo; env | grep -v -e ^_= -e ^SHLVL= -e ^PWD= | sort; \
         readlink /proc/self/fd/0; pwd; }} > {}",
        note.display()
    );
    let backend = ExecBackend::new(Some(program(dir.path(), &script)), environment());
    assert_eq!(backend.apply(&order()).await, VerdictReply::applied());
    insta::assert_snapshot!(fs::read_to_string(note).unwrap(), @r"
    <allow><web><api.example.com>
    HOME=/nowhere
    PATH=/usr/bin:/bin
    /dev/null
    /
    ");
}

#[tokio::test]
async fn the_exit_status_decides_the_reply() {
    let reply = |ok, text: &str| VerdictReply {
        ok,
        stderr: SanitizedStderr::new(text.as_bytes()),
    };
    assert_eq!(run("exit 0").await, VerdictReply::applied());
    assert_eq!(run("echo careful >&2").await, reply(true, "careful"));
    assert_eq!(
        run("echo no such container >&2; exit 1").await,
        failed("no such container")
    );
    assert_eq!(
        run("exit 3").await,
        failed("terok-shield ended with status 3 and said nothing")
    );
    assert_eq!(
        run("kill -9 $$").await,
        failed("terok-shield was killed by signal 9")
    );
    let shown = run("printf '\\033[31mred\\n\\342\\234\\227' >&2; exit 1").await;
    assert_eq!(shown, failed("[31mred"));
}

#[tokio::test]
async fn long_output_is_truncated() {
    let begin = Instant::now();
    let reply = run("head -c 50000000 /dev/zero | tr '\\0' x >&2; exit 1").await;
    assert_eq!(reply, failed(&"x".repeat(512)));
    assert!(begin.elapsed() < Duration::from_secs(10));
}

#[tokio::test]
async fn a_hanging_program_is_killed_with_its_children() {
    let dir = TempDir::new().unwrap();
    let pids = dir.path().join("pids");
    let script = format!(
        "sleep 1000 & echo $! $$ > {0}.new; mv {0}.new {0}; echo waiting >&2; wait",
        pids.display()
    );
    let backend = ExecBackend::new(Some(program(dir.path(), &script)), environment())
        .with_timeout(Duration::from_millis(1_500));
    let begin = Instant::now();
    assert_eq!(
        backend.apply(&order()).await,
        failed("timed out after 1.5s")
    );
    assert!(begin.elapsed() < Duration::from_secs(5));
    check_gone(&pids);
}

#[tokio::test]
async fn a_dropped_order_leaves_nothing_running() {
    let dir = TempDir::new().unwrap();
    let pids = dir.path().join("pids");
    let script = format!(
        "sleep 1000 & echo $! $$ > {0}.new; mv {0}.new {0}; wait",
        pids.display()
    );
    let backend = ExecBackend::new(Some(program(dir.path(), &script)), environment());
    let order = order();
    let mut applied = Box::pin(backend.apply(&order));
    while !pids.exists() {
        tokio::select! {
            reply = &mut applied => unreachable!("{reply:?}"),
            () = tokio::task::yield_now() => {}
        }
    }
    drop(applied);
    check_gone(&pids);
}

/// Waits until the processes are gone or zombies.
fn check_gone(pids: &Path) {
    let pids = fs::read_to_string(pids).unwrap();
    let begin = Instant::now();
    let runs = |pid: &str| {
        fs::read_to_string(format!("/proc/{pid}/stat"))
            .is_ok_and(|stat| !stat.contains(") Z ") && !stat.contains(") X "))
    };
    while pids.split_whitespace().any(runs) {
        assert!(
            begin.elapsed() < Duration::from_secs(5),
            "still running: {pids}"
        );
    }
}

#[tokio::test]
async fn background_processes_are_not_waited_for() {
    let dir = TempDir::new().unwrap();
    let pid = dir.path().join("pid");
    let script = format!("sleep 1000 & echo $! > {}; echo done >&2", pid.display());
    let backend = ExecBackend::new(Some(program(dir.path(), &script)), environment());
    let begin = Instant::now();
    let reply = backend.apply(&order()).await;
    assert!(reply.ok && reply.stderr.as_str() == "done", "{reply:?}");
    assert!(begin.elapsed() < Duration::from_secs(5));
    let pid: i32 = fs::read_to_string(pid).unwrap().trim().parse().unwrap();
    let pid = rustix::process::Pid::from_raw(pid).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
}

#[tokio::test]
async fn without_a_program_every_order_fails() {
    let none = ExecBackend::new(None, environment());
    assert_eq!(
        none.apply(&order()).await,
        failed("terok-shield not found on PATH")
    );
    let dir = TempDir::new().unwrap();
    let gone = ExecBackend::new(Some(dir.path().join("terok-shield")), environment());
    let reply = gone.apply(&order()).await;
    assert_eq!(
        reply,
        failed("spawn failed: No such file or directory (os error 2)")
    );
}

#[tokio::test]
async fn a_narrower_order_is_refused_before_the_program_runs() {
    let dir = TempDir::new().unwrap();
    let note = dir.path().join("note");
    let script = format!("touch {}", note.display());
    let backend = ExecBackend::new(Some(program(dir.path(), &script)), environment());
    let whole = Scope::until_removed("203.0.113.7".parse().unwrap());
    let narrow = [
        Scope {
            port: Some(443),
            ..whole.clone()
        },
        Scope {
            protocol: Some(Protocol::TCP),
            ..whole.clone()
        },
        Scope {
            seconds: Some(60),
            ..whole.clone()
        },
        // The program keeps its rules when the sandbox ends.
        Scope {
            keep: RuleLifetime::Sandbox,
            ..whole.clone()
        },
        Scope {
            keep: RuleLifetime::Once,
            ..whole.clone()
        },
        Scope {
            keep: RuleLifetime::Project,
            ..whole.clone()
        },
    ];
    for scope in narrow {
        let order = VerdictOrder::new("web".parse().unwrap(), Action::Allow, scope).unwrap();
        let outcome = EnforcementOutcome::from(backend.apply(&order).await);
        let reason = "cannot enforce a narrower scope than the whole destination";
        assert_eq!(outcome, EnforcementOutcome::Failed(reason.into()));
    }
    assert!(!note.exists());
    let order = VerdictOrder::new("web".parse().unwrap(), Action::Deny, whole).unwrap();
    assert_eq!(
        EnforcementOutcome::from(backend.apply(&order).await),
        EnforcementOutcome::Applied
    );
    assert!(note.exists());
}

#[test]
fn the_program_beside_the_executable_takes_precedence() {
    let [beside, first, second] = [(); 3].map(|()| TempDir::new().unwrap());
    let current_exe = beside.path().join("terok-clearance");
    let path = std::env::join_paths(["relative".as_ref(), first.path(), second.path()]).unwrap();
    let find = || find_shield_program(Some(&current_exe), Some(&path));
    assert_eq!(find(), None);
    let in_second = program(second.path(), "");
    assert_eq!(find(), Some(in_second.clone()));
    // Files that are not executable are skipped.
    fs::write(first.path().join("terok-shield"), "").unwrap();
    assert_eq!(find(), Some(in_second.clone()));
    symlink(&in_second, beside.path().join("terok-shield")).unwrap();
    assert_eq!(find(), Some(beside.path().join("terok-shield")));
    assert_eq!(find_shield_program(None, None), None);
}
