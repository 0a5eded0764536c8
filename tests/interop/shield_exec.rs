// SPDX-License-Identifier: Apache-2.0
//! Our verdict helper beside the Python one, with the same program in the place of `terok-shield`:
//! every way in which an order can end.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};

use terok_clearance::varlink::VarlinkConnection;
use terok_clearance::wire::verdict1::{APPLY, ApplyParameters, ApplyReply};

use crate::harness::{Place, Running, Stack};

/// Does what the destination asks for; else says how it was called, and fails.
const PROGRAM: &str = r#"#!/bin/sh
case "$3" in
  good.example) exit 0 ;;
  talks.example) echo 'mind this' >&2; echo lost; exit 0 ;;
  one.example) echo ' no such container ' >&2; exit 1 ;;
  two.example) echo 'usage: terok-shield' >&2; exit 2 ;;
  silent.example) exit 1 ;;
  killed.example) kill -9 $$ ;;
  killed-late.example) echo 'I was' >&2; kill -15 $$ ;;
  long.example) head -c 1000000 /dev/zero | tr '\0' x >&2; exit 1 ;;
  cut.example) head -c 511 /dev/zero | tr '\0' x >&2; printf '\342\234\223 more' >&2; exit 1 ;;
  bytes.example) printf 'a\377b' >&2; exit 1 ;;
  wide.example) printf 'caf\303\251' >&2; exit 1 ;;
  lines.example) printf 'one\ntwo\033[31m\n' >&2; exit 1 ;;
  hangs.example) echo $$ >>"$0.pids"; cat "$0.hold" ;;
esac
printf '<%s>' "$@" >&2
exit 1
"#;

/// One of the two helpers.
struct Helper {
    place: Place,
    socket: PathBuf,
    _server: Running,
}

impl Helper {
    /// Starts ours, running `program`.
    async fn ours(program: &Path) -> Self {
        let place = Place::new();
        let socket = place.runtime().shared_hub_sockets().verdict;
        let args = ["serve-verdict", "--shield", program.to_str().unwrap()];
        let mut command = place.ours(&args);
        let server = place.serve(&mut command, std::slice::from_ref(&socket));
        let server = server.await;
        Self::of(place, socket, server)
    }

    /// Starts the Python stack's, running `program`.
    async fn theirs(program: &Path) -> Self {
        let place = Place::new();
        let socket = place.runtime().shared_hub_sockets().verdict;
        let args = [&socket, program].map(|path| path.to_str().unwrap());
        let mut command = place.script(Stack::V0_8_1, "verdict_server.py", &args);
        let server = place.serve(&mut command, std::slice::from_ref(&socket));
        let server = server.await;
        Self::of(place, socket, server)
    }

    const fn of(place: Place, socket: PathBuf, server: Running) -> Self {
        Self {
            place,
            socket,
            _server: server,
        }
    }

    /// Orders something: the action, the container, the destination.
    async fn order(&self, [action, container, dest]: [&str; 3]) -> ApplyReply {
        let [action, container, dest] = [action, container, dest].map(str::to_owned);
        let apply = ApplyParameters {
            container,
            dest,
            action,
        };
        let mut connection = VarlinkConnection::connect(&self.socket).await.unwrap();
        connection.call(APPLY, &apply).await.unwrap()
    }
}

fn program(place: &Place) -> PathBuf {
    let path = place.path().join("terok-shield");
    fs::write(&path, PROGRAM).unwrap();
    fs::set_permissions(&path, Permissions::from_mode(0o755)).unwrap();
    path
}

fn said(ok: bool, stderr: &str) -> ApplyReply {
    let stderr = stderr.to_owned();
    ApplyReply { ok, stderr }
}

#[tokio::test]
async fn the_program_is_called_and_answers_alike() {
    let place = Place::new();
    let program = program(&place);
    let (ours, theirs) = (Helper::ours(&program).await, Helper::theirs(&program).await);
    let cases = [
        ("good.example", true, ""),
        ("talks.example", true, "mind this"),
        ("one.example", false, "no such container"),
        ("two.example", false, "usage: terok-shield"),
        ("killed-late.example", false, "I was"),
        ("long.example", false, &"x".repeat(512)),
        ("203.0.113.7", false, "<allow><web.1-a_b><203.0.113.7>"),
        ("2001:db8::1", false, "<allow><web.1-a_b><2001:db8::1>"),
        (
            "api.example.com",
            false,
            "<allow><web.1-a_b><api.example.com>",
        ),
        (
            "_dmarc.example.com",
            false,
            "<allow><web.1-a_b><_dmarc.example.com>",
        ),
    ];
    for (dest, ok, stderr) in cases {
        let order = ["allow", "web.1-a_b", dest];
        let expected = said(ok, stderr);
        assert_eq!(theirs.order(order).await, expected, "theirs: {dest}");
        assert_eq!(ours.order(order).await, expected, "ours: {dest}");
    }
    let order = ["deny", "web", "198.51.100.1"];
    let expected = said(false, "<deny><web><198.51.100.1>");
    assert_eq!(theirs.order(order).await, expected);
    assert_eq!(ours.order(order).await, expected);
}

/// An order and how it ends: with its reason why ours is different, the action, the container and
/// the destination, what the Python helper says of it, what ours does.
type Differs<'a> = (&'a str, [&'a str; 3], &'a str, &'a str);

async fn check_differences(cases: &[Differs<'_>]) {
    let place = Place::new();
    let program = program(&place);
    let (ours, theirs) = (Helper::ours(&program).await, Helper::theirs(&program).await);
    for (reason, order, python, us) in cases {
        let told = (theirs.order(*order).await, ours.order(*order).await);
        assert_eq!(
            told,
            (said(false, python), said(false, us)),
            "{reason}: {order:?}"
        );
    }
}

#[tokio::test]
async fn on_purpose_ours_always_has_a_reason_that_can_be_shown() {
    let cut = "x".repeat(511);
    let replaced = format!("{cut}\u{fffd}");
    let silent = "a person wants a reason, whatever the program said";
    let half = "half a character is none";
    let shown = "it is shown on terminals: printable ASCII, as hubs make it in any case";
    let allow = |dest| ["allow", "web", dest];
    check_differences(&[
        (
            silent,
            allow("silent.example"),
            "",
            "terok-shield ended with status 1 and said nothing",
        ),
        (
            silent,
            allow("killed.example"),
            "",
            "terok-shield was killed by signal 9",
        ),
        (half, allow("cut.example"), &replaced, &cut),
        (shown, allow("bytes.example"), "a\u{fffd}b", "a b"),
        (shown, allow("wide.example"), "caf\u{e9}", "caf"),
        (
            shown,
            allow("lines.example"),
            "one\ntwo\u{1b}[31m",
            "one two [31m",
        ),
    ])
    .await;
}

#[tokio::test]
async fn on_purpose_ours_runs_the_program_for_orders_only() {
    const IP: &str = "203.0.113.7";
    let long = "n".repeat(256);
    let long_passed = format!("<allow><{long}><203.0.113.7>");
    let long_refused =
        format!("\"{long}\" is not a container id: the id has 256 bytes, more than 255");
    let verb = "the program runs for the two orders, and for no other of its verbs";
    let container = "a container that no engine can have is none: never an option, never a path";
    let dest = "what is no address and no name opens nothing: never an option, never a range";
    check_differences(&[
        (
            verb,
            ["down", "web", IP],
            "<down><web><203.0.113.7>",
            "\"down\" is neither \"allow\" nor \"deny\"",
        ),
        (
            verb,
            ["--help", "web", IP],
            "<--help><web><203.0.113.7>",
            "\"--help\" is neither \"allow\" nor \"deny\"",
        ),
        (
            container,
            ["allow", "--state-dir=/tmp", IP],
            "<allow><--state-dir=/tmp><203.0.113.7>",
            "\"--state-dir=/tmp\" is not a container id: the id has the character '-' at byte 0",
        ),
        (
            container,
            ["allow", "a b", IP],
            "<allow><a b><203.0.113.7>",
            "\"a b\" is not a container id: the id has the character ' ' at byte 1",
        ),
        (
            container,
            ["allow", "", IP],
            "<allow><><203.0.113.7>",
            "\"\" is not a container id: the id is empty",
        ),
        (
            "the same: the shield takes such a name, podman does not",
            ["allow", "_web", IP],
            "<allow><_web><203.0.113.7>",
            "\"_web\" is not a container id: the id has the character '_' at byte 0",
        ),
        (
            container,
            ["allow", "../web", IP],
            "<allow><../web><203.0.113.7>",
            "\"../web\" is not a container id: the id has the character '.' at byte 0",
        ),
        (container, ["allow", &long, IP], &long_passed, &long_refused),
        (
            dest,
            ["allow", "web", "--flag"],
            "<allow><web><--flag>",
            "\"--flag\" is neither an IP address nor a host name",
        ),
        (
            dest,
            ["allow", "web", "0.0.0.0/0"],
            "<allow><web><0.0.0.0/0>",
            "\"0.0.0.0/0\" is neither an IP address nor a host name",
        ),
        (
            dest,
            ["allow", "web", "a b"],
            "<allow><web><a b>",
            "\"a b\" is neither an IP address nor a host name",
        ),
        (
            dest,
            ["allow", "web", ""],
            "<allow><web><>",
            "the destination is empty",
        ),
    ])
    .await;
}

#[tokio::test]
async fn on_purpose_ours_writes_a_destination_in_one_way() {
    let reason = "the firewall has one way to write it, and so has the question";
    for (dest, us) in [
        ("API.example.com.", "<allow><web><api.example.com>"),
        ("2001:DB8:0::1", "<allow><web><2001:db8::1>"),
        ("::ffff:203.0.113.7", "<allow><web><203.0.113.7>"),
    ] {
        let python = format!("<allow><web><{dest}>");
        check_differences(&[(reason, ["allow", "web", dest], &python, us)]).await;
    }
}

#[tokio::test]
async fn a_program_that_hangs_is_given_up_after_ten_seconds() {
    let place = Place::new();
    let program = program(&place);
    let hold = place.path().join("terok-shield.hold");
    let mkfifo = place.command("mkfifo").arg(&hold).status().await.unwrap();
    assert!(mkfifo.success());
    let (ours, theirs) = (Helper::ours(&program).await, Helper::theirs(&program).await);
    let order = ["allow", "web", "hangs.example"];
    let timed_out = said(false, "timed out after 10.0s");
    let mut python = Box::pin(theirs.order(order));
    // Both have the order. Ours answers; theirs kills the program too, and waits on for what the
    // program has started and left behind.
    tokio::select! {
        biased;
        told = &mut python => panic!("the Python helper gave up first: {told:?}"),
        told = ours.order(order) => assert_eq!(told, timed_out),
    }
    let pids = place.path().join("terok-shield.pids");
    let killed = || {
        let pids = fs::read_to_string(&pids).unwrap();
        pids.lines().count() == 2 && pids.lines().all(|pid| !runs(pid))
    };
    while !killed() {
        tokio::task::yield_now().await;
    }
    let release = fs::OpenOptions::new().write(true).open(&hold);
    drop(release.unwrap());
    assert_eq!(python.await, timed_out);
}

/// Says whether a process is neither gone nor only waiting to be reaped.
fn runs(pid: &str) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let state = stat
        .rsplit_once(") ")
        .and_then(|(_, rest)| rest.chars().next());
    state.is_some_and(|state| state != 'Z')
}

#[tokio::test]
async fn a_program_that_cannot_be_run_is_told_alike() {
    let order = ["allow", "web", "203.0.113.7"];
    let place = Place::new();
    let path = program(&place);
    let (ours, theirs) = (Helper::ours(&path).await, Helper::theirs(&path).await);
    // What follows the contract's words is each system's own.
    fs::set_permissions(&path, Permissions::from_mode(0o644)).unwrap();
    let python = format!(
        "spawn failed: [Errno 13] Permission denied: '{}'",
        path.display()
    );
    assert_eq!(theirs.order(order).await, said(false, &python));
    let us = "spawn failed: Permission denied (os error 13)";
    assert_eq!(ours.order(order).await, said(false, us));
    fs::remove_file(&path).unwrap();
    let python = format!(
        "spawn failed: [Errno 2] No such file or directory: '{}'",
        path.display()
    );
    assert_eq!(theirs.order(order).await, said(false, &python));
    let us = "spawn failed: No such file or directory (os error 2)";
    assert_eq!(ours.order(order).await, said(false, us));
}

/// Both look beside themselves, then on the `PATH`.
#[tokio::test]
async fn where_the_program_is_looked_for() {
    let order = ["allow", "web", "good.example"];
    for (installed, expected) in [
        ("nowhere", said(false, "terok-shield not found on PATH")),
        ("path", said(true, "")),
        ("bin", said(true, "")),
    ] {
        let home = Place::new();
        let bin = home.path().join("bin");
        let path = home.path().join("path");
        fs::create_dir(&bin).unwrap();
        fs::create_dir(&path).unwrap();
        // What lies there and cannot be run is passed over.
        fs::write(bin.join("terok-shield"), "").unwrap();
        if installed != "nowhere" {
            let shield = home.path().join(installed).join("terok-shield");
            fs::write(&shield, PROGRAM).unwrap();
            fs::set_permissions(&shield, Permissions::from_mode(0o755)).unwrap();
        }
        // Copies of our program and of their Python, with nothing of theirs beside it.
        let ours = bin.join("terok-clearance");
        fs::hard_link(env!("CARGO_BIN_EXE_terok-clearance"), &ours)
            .or_else(|_other_device| {
                fs::copy(env!("CARGO_BIN_EXE_terok-clearance"), &ours).map(drop)
            })
            .unwrap();
        let python = bin.join("python");
        symlink(Stack::V0_8_1.program("python"), &python).unwrap();
        let packages = Stack::V0_8_1.prefix().join("lib");
        let packages = fs::read_dir(packages).unwrap().next().unwrap().unwrap();
        let packages = packages.path().join("site-packages");
        let search = format!("{}:/usr/bin:/bin", path.display());

        let socket = home.runtime().shared_hub_sockets().verdict;
        let mut serve = home.command(&ours);
        serve.arg("serve-verdict").env("PATH", &search);
        let server = home.serve(&mut serve, std::slice::from_ref(&socket));
        let server = server.await;
        let ours = Helper::of(home, socket, server);
        assert_eq!(ours.order(order).await, expected, "ours, {installed}");

        let home = Place::new();
        let socket = home.runtime().shared_hub_sockets().verdict;
        let mut serve = home.command(&python);
        serve
            .args(["-m", "terok_clearance.cli.main", "serve-verdict"])
            .env("PYTHONPATH", &packages)
            .env("PATH", &search);
        let server = home.serve(&mut serve, std::slice::from_ref(&socket));
        let server = server.await;
        let theirs = Helper::of(home, socket, server);
        assert_eq!(theirs.order(order).await, expected, "theirs, {installed}");
        drop(ours.place);
    }
}
