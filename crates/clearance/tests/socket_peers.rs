// SPDX-License-Identifier: Apache-2.0
//! Processes of the same user that a listener accepts and refuses by the place where they live.

#![expect(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a test fails by panicking; a child process is told by its environment"
)]

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;
use terok_clearance::socket::{SameUserListener, bind};
use tokio::io::AsyncWriteExt as _;

/// Connects and prints what the listener sends until it closes the connection.
const CONNECT: &str = r#"use Socket; socket(S, PF_UNIX, SOCK_STREAM, 0) or die;
    connect(S, sockaddr_un($ARGV[0])) or die $!; $| = 1; print "connected\n"; print <S>"#;

struct Place {
    _directory: TempDir,
    path: PathBuf,
}

impl Place {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("run/hub.sock");
        Self {
            _directory: directory,
            path,
        }
    }

    /// A command that connects, after the words of `way`.
    fn connector(&self, way: &str) -> Command {
        let words: Vec<_> = way.split_whitespace().collect();
        let perl = ["perl", "-e", CONNECT];
        let words = [&words, &perl[..]].concat();
        let mut command = Command::new(words[0]);
        command.args(&words[1..]).arg(&self.path);
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        command
    }
}

/// Returns what a connected child receives from `listener`.
async fn received_by(listener: &SameUserListener, mut child: Child) -> String {
    let ended = tokio::task::spawn_blocking(move || {
        let mut said = String::new();
        let mut stdout = child.stdout.take().unwrap();
        stdout.read_to_string(&mut said).unwrap();
        child.wait().unwrap();
        said
    });
    tokio::pin!(ended);
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                accepted.unwrap().0.write_all(b"hello\n").await.unwrap();
            }
            said = &mut ended => return said.unwrap(),
        }
    }
}

const ACCEPTED: &str = "connected\nhello\n";
const REFUSED: &str = "connected\n";

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Ways into namespaces that a sandbox or container is made of.
fn foreign_places() -> Vec<&'static str> {
    let mut ways = vec![
        "unshare --user",
        "unshare --user --map-user=1234",
        "unshare --user --map-root-user setpriv --no-new-privs",
        "unshare --user --map-root-user setpriv --bounding-set -all --inh-caps -all",
        "unshare --user --map-root-user --pid --fork",
        "unshare --user --map-root-user --pid --fork --mount-proc",
        "unshare --user --map-user=1234 --map-group=1234 unshare --user",
        "unshare --user --map-root-user unshare --user --map-root-user --pid --fork",
        "bwrap --unshare-user --dev-bind / /",
        "bwrap --dev-bind / / --unshare-all --proc /proc",
        "bwrap --unshare-user --uid 0 --dev-bind / /",
    ];
    if is_root() {
        ways.push("unshare --pid --fork");
        ways.push("unshare --pid --fork --mount-proc");
    }
    ways
}

/// A user namespace like that of a container engine, with its hooks.
const ENGINE: [&str; 2] = [
    "unshare --user --map-root-user",
    "unshare --user --map-root-user --net --mount",
];

#[tokio::test]
async fn processes_of_other_namespaces_are_refused() {
    for is_reader_socket in [false, true] {
        let place = Place::new();
        let mut listener = bind(&place.path).unwrap();
        if is_reader_socket {
            listener = listener.accept_engine_hooks();
        }
        for way in foreign_places() {
            let child = place.connector(way).spawn().unwrap();
            assert_eq!(received_by(&listener, child).await, REFUSED, "{way}");
        }
        let expected = if is_reader_socket { ACCEPTED } else { REFUSED };
        for way in ENGINE {
            let child = place.connector(way).spawn().unwrap();
            assert_eq!(received_by(&listener, child).await, expected, "{way}");
        }
        for way in ["", "setsid --wait"] {
            let child = place.connector(way).spawn().unwrap();
            assert_eq!(received_by(&listener, child).await, ACCEPTED, "{way}");
        }
        if is_root() {
            // Mount and network namespaces of its own are no other place: systemd makes such.
            let child = place.connector("unshare --mount --net").spawn().unwrap();
            assert_eq!(received_by(&listener, child).await, ACCEPTED);
        }
    }
}

#[tokio::test]
async fn a_process_with_another_root_directory_is_refused() {
    if !is_root() {
        eprintln!("skipped: needs root to change the root directory alone");
        return;
    }
    let place = Place::new();
    let listener = bind(&place.path).unwrap().accept_engine_hooks();
    let root = tempfile::tempdir().unwrap();
    let script = root.path().join("enter");
    let text = "cd \"${0%/*}\" && mount -t tmpfs none . && \
        for d in /usr /bin /lib /lib64 /tmp /dev; do [ -d $d ] || continue; \
        mkdir .$d && mount --rbind $d .$d; done && exec chroot . \"$@\"";
    std::fs::write(&script, text).unwrap();
    let way = format!("unshare --mount sh {}", script.display());
    let child = place.connector(&way).spawn().unwrap();
    assert_eq!(received_by(&listener, child).await, REFUSED);
}

/// Rootless podman maps several ranges of user ids, by `newuidmap`.
#[tokio::test]
async fn a_hook_of_a_container_engine_reaches_the_socket_of_readers_alone() {
    if !is_root() {
        eprintln!("skipped: needs root to write a map of several ranges");
        return;
    }
    for (is_reader_socket, expected) in [(false, REFUSED), (true, ACCEPTED)] {
        let place = Place::new();
        let mut listener = bind(&place.path).unwrap();
        if is_reader_socket {
            listener = listener.accept_engine_hooks();
        }
        let mut command = Command::new("unshare");
        let wait = "echo ready; read go; exec \"$@\"";
        command.args(["--user", "sh", "-c", wait, "sh", "perl", "-e", CONNECT]);
        command.arg(&place.path);
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut ready = [0; 6];
        let stdout = child.stdout.as_mut().unwrap();
        stdout.read_exact(&mut ready).unwrap();
        for map in ["uid_map", "gid_map"] {
            let map = format!("/proc/{}/{map}", child.id());
            std::fs::write(map, "0 0 1\n1 100000 65536\n").unwrap();
        }
        child.stdin.as_mut().unwrap().write_all(b"go\n").unwrap();
        assert_eq!(received_by(&listener, child).await, expected);
    }
}

/// Nothing tells where a process lived that has ended.
#[tokio::test]
async fn a_process_that_has_ended_is_refused() {
    let place = Place::new();
    let listener = bind(&place.path).unwrap();
    let script = CONNECT.replace("print <S>", "");
    let mut brief = Command::new("perl");
    let status = brief.args(["-e", &script]).arg(&place.path).status();
    assert!(status.unwrap().success());
    let child = place.connector("").spawn().unwrap();
    let pid = child.id();
    let (mut stream, peer) = listener.accept().await.unwrap();
    assert_eq!(peer.pid.unsigned_abs(), pid, "the first accepted process");
    stream.write_all(b"hello\n").await.unwrap();
    drop(stream);
    assert_eq!(received_by(&listener, child).await, ACCEPTED);
}

/// The child process of the test below, in a user namespace of its own.
#[tokio::test]
async fn child_serves_one_operator() {
    let Some(path) = std::env::var_os("SOCKET_AT") else {
        return;
    };
    let listener = bind(Path::new(&path)).unwrap();
    println!("ready");
    let (mut stream, _) = listener.accept().await.unwrap();
    stream.write_all(b"hello\n").await.unwrap();
}

/// The hub of a rootless container may run in the engine's user namespace, its operator outside.
#[test]
fn a_process_of_an_ancestor_namespace_is_accepted() {
    for map in ["--map-root-user", "--map-current-user"] {
        let place = Place::new();
        let mut server = Command::new("unshare")
            .args(["--user", map])
            .arg(std::env::current_exe().unwrap())
            .args(["--exact", "child_serves_one_operator", "--nocapture"])
            .env("SOCKET_AT", &place.path)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let stdout = BufReader::new(server.stdout.take().unwrap());
        let mut lines = stdout.lines();
        assert!(lines.any(|line| line.unwrap().contains("ready")));
        let nested = place.connector("unshare --user --map-root-user").output();
        assert_eq!(String::from_utf8(nested.unwrap().stdout).unwrap(), REFUSED);
        let outside = place.connector("").output().unwrap();
        assert_eq!(String::from_utf8(outside.stdout).unwrap(), ACCEPTED);
        drop(lines);
        server.wait().unwrap();
    }
}
