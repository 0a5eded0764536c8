// SPDX-License-Identifier: Apache-2.0
//! Sockets: private from their creation, with one listener, and for the same user only.
#![expect(clippy::disallowed_methods, clippy::unwrap_used, reason = "tests")]

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _};
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _, chown, symlink};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Barrier;

use tempfile::TempDir;
use terok_clearance::ContainerId;
use terok_clearance::socket::{
    HubSocket, MAX_SOCKET_PATH_BYTES, RuntimeDir, SocketBindError, SocketConnectError,
    SocketLayout, bind, connect,
};

/// A temporary directory, and a socket path in a missing directory below.
fn socket_path() -> (TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("run").join("hub.sock");
    (directory, path)
}

fn mode(path: &Path) -> u32 {
    fs::symlink_metadata(path).unwrap().mode() & 0o7777
}

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

#[tokio::test]
async fn a_socket_and_its_directories_are_private() {
    let (directory, _) = socket_path();
    let path = directory.path().join("a/b/hub.sock");
    let listener = bind(&path).unwrap();
    assert!(fs::symlink_metadata(&path).unwrap().file_type().is_socket());
    assert_eq!(mode(&path), 0o600);
    assert_eq!(mode(&directory.path().join("a")), 0o700);
    assert_eq!(mode(&directory.path().join("a/b")), 0o700);
    assert_eq!(listener.path(), path);
}

/// The mode is right without a umask, at every moment.
#[tokio::test]
async fn the_mode_is_private_from_the_start_without_a_umask() {
    let (_directory, path) = socket_path();
    fs::create_dir(path.parent().unwrap()).unwrap();
    set_mode(path.parent().unwrap(), 0o700);
    // A child process, because all threads of a process share the umask.
    let test = std::env::current_exe().unwrap();
    let name = "child_binds_and_reports_the_mode";
    let script = format!(
        "umask 0; exec '{}' --exact {name} --nocapture",
        test.display()
    );
    let output = Command::new("sh")
        .args(["-c", &script])
        .env("BIND_AT", &path)
        .output()
        .unwrap();
    let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        output.status.success() && stdout.contains("mode 600"),
        "{stdout}"
    );
}

/// The child process of the test above, with umask 0.
#[tokio::test]
async fn child_binds_and_reports_the_mode() {
    let Some(path) = std::env::var_os("BIND_AT").map(PathBuf::from) else {
        return;
    };
    let parent = path.parent().unwrap().to_owned();
    // Another thread polls the file's mode all the time.
    let (stop, stopped) = std::sync::mpsc::channel::<()>();
    let watched = path.clone();
    let observer = std::thread::spawn(move || {
        let mut modes = std::collections::BTreeSet::new();
        while stopped.try_recv() == Err(std::sync::mpsc::TryRecvError::Empty) {
            modes.extend(fs::symlink_metadata(&watched).map(|found| found.mode() & 0o777));
        }
        modes
    });
    for _ in 0..200 {
        let listener = bind(&path).unwrap();
        assert_eq!(mode(&path), 0o600);
        drop(listener);
    }
    drop(stop);
    let modes = observer.join().unwrap();
    assert!(modes.iter().all(|mode| *mode == 0o600), "{modes:?}");
    assert_eq!(fs::read_dir(parent).unwrap().count(), 0);
    println!("mode 600");
}

#[tokio::test]
async fn a_directory_with_access_for_other_users_is_refused() {
    let (directory, path) = socket_path();
    let parent = path.parent().unwrap();
    fs::create_dir(parent).unwrap();
    let refusal = |path: &Path| match bind(path) {
        Err(SocketBindError::NotPrivate { problem, .. }) => problem,
        other => panic!("{other:?}"),
    };
    for wrong in [0o701, 0o710, 0o770, 0o707, 0o755, 0o777, 0o1777] {
        set_mode(parent, wrong);
        assert_eq!(
            refusal(&path),
            "its mode gives other users access",
            "{wrong:o}"
        );
    }
    set_mode(parent, 0o700);
    let link = directory.path().join("link");
    symlink(parent, &link).unwrap();
    assert_eq!(refusal(&link.join("hub.sock")), "it is a symbolic link");
    if is_root() {
        chown(parent, Some(12_345), None).unwrap();
        assert_eq!(refusal(&path), "it belongs to another user");
    } else {
        // A directory of root.
        let refused = refusal(Path::new("/usr/hub.sock"));
        assert_eq!(refused, "it belongs to another user");
    }
    assert!(!path.exists());
}

#[tokio::test]
async fn a_path_that_is_too_long_is_refused_with_its_length() {
    let directory = tempfile::tempdir().unwrap();
    let fill = MAX_SOCKET_PATH_BYTES - directory.path().as_os_str().len() - "/d/".len();
    let longest = directory.path().join("d").join("x".repeat(fill));
    let listener = bind(&longest).unwrap();
    connect(&longest).await.unwrap();
    drop(listener);
    let long = directory.path().join("d").join("x".repeat(fill + 1));
    let error = bind(&long).unwrap_err();
    assert!(
        matches!(&error, SocketBindError::PathTooLong { length: 108, .. }),
        "{error}"
    );
    assert!(
        error
            .to_string()
            .contains("has 108 bytes, a socket's path has at most 107"),
        "{error}"
    );
    let error = connect(&long).await.unwrap_err();
    assert!(matches!(
        error,
        SocketConnectError::PathTooLong { length: 108, .. }
    ));
}

#[tokio::test]
async fn a_stale_socket_is_replaced_and_a_live_one_is_not() {
    let (_directory, path) = socket_path();
    let parent = path.parent().unwrap();
    fs::create_dir(parent).unwrap();
    set_mode(parent, 0o700);
    // A socket without a lock file.
    let other = std::os::unix::net::UnixListener::bind(&path).unwrap();
    let us = i32::try_from(std::process::id()).unwrap();
    match bind(&path) {
        Err(error @ SocketBindError::InUse { pid, .. }) => {
            assert_eq!(pid, us);
            assert!(
                error
                    .to_string()
                    .contains(&format!("in use by process {us}")),
                "{error}"
            );
        }
        other => panic!("{other:?}"),
    }
    drop(other);
    assert!(path.exists(), "the socket is stale");
    let listener = bind(&path).unwrap();
    match bind(&path) {
        Err(SocketBindError::InUse { pid, .. }) => assert_eq!(pid, us),
        other => panic!("{other:?}"),
    }
    connect(&path).await.unwrap();
    drop(listener);
    assert_eq!(
        fs::read_dir(parent).unwrap().count(),
        0,
        "the directory is empty"
    );
    bind(&path).unwrap();
}

#[tokio::test]
async fn a_file_that_is_not_a_socket_is_not_changed() {
    let (directory, path) = socket_path();
    let parent = path.parent().unwrap();
    fs::create_dir(parent).unwrap();
    set_mode(parent, 0o700);
    fs::write(&path, "precious").unwrap();
    assert!(matches!(
        bind(&path),
        Err(SocketBindError::NotASocket { .. })
    ));
    assert_eq!(fs::read_to_string(&path).unwrap(), "precious");
    fs::remove_file(&path).unwrap();
    let victim = directory.path().join("victim");
    fs::write(&victim, "precious").unwrap();
    symlink(&victim, &path).unwrap();
    assert!(matches!(
        bind(&path),
        Err(SocketBindError::NotASocket { .. })
    ));
    assert_eq!(fs::read_to_string(&victim).unwrap(), "precious");
    // The lock file is not opened through a link.
    fs::remove_file(&path).unwrap();
    symlink(&victim, parent.join(".hub.sock.lock")).unwrap();
    assert!(matches!(
        bind(&path),
        Err(SocketBindError::Io { action: "lock", .. })
    ));
    assert_eq!(fs::read_to_string(&victim).unwrap(), "precious");
}

#[test]
fn one_of_several_concurrent_binders_succeeds() {
    let (_directory, path) = socket_path();
    for round in 0..50 {
        // Every second round has a stale socket.
        if round % 2 == 1 {
            drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        }
        let barrier = Barrier::new(4);
        let all_tried = Barrier::new(4);
        let bound: usize = std::thread::scope(|scope| {
            let binders: Vec<_> = (0..4)
                .map(|_| {
                    scope.spawn(|| {
                        let runtime = tokio::runtime::Builder::new_current_thread()
                            .enable_all()
                            .build()
                            .unwrap();
                        let _entered = runtime.enter();
                        barrier.wait();
                        let bound = bind(&path);
                        all_tried.wait();
                        usize::from(bound.is_ok())
                    })
                })
                .collect();
            binders
                .into_iter()
                .map(|binder| binder.join().unwrap())
                .sum()
        });
        assert_eq!(bound, 1, "in round {round}");
    }
}

/// A replaced hub must not remove the socket of its successor.
#[tokio::test]
async fn the_drop_removes_the_own_file_only() {
    let (_directory, path) = socket_path();
    let listener = bind(&path).unwrap();
    fs::remove_file(&path).unwrap();
    let successor = std::os::unix::net::UnixListener::bind(&path).unwrap();
    drop(listener);
    assert!(path.exists());
    connect(&path).await.unwrap();
    drop(successor);
}

#[tokio::test]
async fn both_ends_have_the_credentials_of_the_peer() {
    let (_directory, path) = socket_path();
    let listener = bind(&path).unwrap();
    let (connected, accepted) = tokio::join!(connect(&path), listener.accept());
    let us = i32::try_from(std::process::id()).unwrap();
    for peer in [connected.unwrap().1, accepted.unwrap().1] {
        assert!(peer.is_same_user());
        assert_eq!(peer.pid, us);
        assert_eq!(peer.uid, rustix::process::geteuid().as_raw());
        assert_eq!(peer.gid, rustix::process::getegid().as_raw());
    }
}

#[tokio::test]
async fn a_missing_listener_has_an_error_of_its_own() {
    let (_directory, path) = socket_path();
    assert!(matches!(
        connect(&path).await,
        Err(SocketConnectError::NoListener { .. })
    ));
    fs::create_dir(path.parent().unwrap()).unwrap();
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    assert!(matches!(
        connect(&path).await,
        Err(SocketConnectError::NoListener { .. })
    ));
}

/// Runs one test of this file as another user, from a readable copy of this program.
fn as_another_user(directory: &Path, test: &str, socket: &Path) -> Command {
    let program = directory.join("program");
    if !program.exists() {
        fs::copy(std::env::current_exe().unwrap(), &program).unwrap();
        set_mode(&program, 0o755);
    }
    let mut command = Command::new(program);
    command
        .args(["--exact", test, "--nocapture"])
        .env("SOCKET_AT", socket)
        .uid(65_534)
        .gid(65_534)
        .stdin(Stdio::null())
        .stdout(Stdio::piped());
    command
}

/// The child process of the test below, as another user.
#[test]
fn child_connects_and_is_disconnected() {
    let Some(path) = std::env::var_os("SOCKET_AT") else {
        return;
    };
    let mut stream = std::os::unix::net::UnixStream::connect(path).unwrap();
    assert_eq!(stream.read(&mut [0; 8]).unwrap_or(0), 0);
}

/// The child process of the test below, as another user.
#[test]
fn child_serves_and_receives_no_byte() {
    let Some(path) = std::env::var_os("SOCKET_AT") else {
        return;
    };
    let listener = std::os::unix::net::UnixListener::bind(path).unwrap();
    println!("ready");
    let (mut stream, _) = listener.accept().unwrap();
    assert_eq!(stream.read(&mut [0; 8]).unwrap_or(0), 0);
}

/// Needs root. The unit tests of `socket::bind` and `socket::connect` need no second user.
#[tokio::test]
async fn processes_of_another_user_are_refused() {
    if !is_root() {
        eprintln!("skipped: needs root to start a process of another user");
        return;
    }
    let (directory, path) = socket_path();
    let listener = bind(&path).unwrap();
    // With these modes only the check of the credentials is left.
    set_mode(directory.path(), 0o777);
    set_mode(path.parent().unwrap(), 0o777);
    set_mode(&path, 0o777);
    let test = "child_connects_and_is_disconnected";
    let mut foreigner = as_another_user(directory.path(), test, &path)
        .spawn()
        .unwrap();
    let ended = tokio::task::spawn_blocking(move || foreigner.wait().unwrap());
    let status = tokio::select! {
        accepted = listener.accept() => panic!("accepted: {accepted:?}"),
        status = ended => status.unwrap(),
    };
    assert!(status.success());
    // A service of another user receives no call.
    let path = path.with_file_name("impostor.sock");
    let test = "child_serves_and_receives_no_byte";
    let mut impostor = as_another_user(directory.path(), test, &path)
        .spawn()
        .unwrap();
    let stdout = BufReader::new(impostor.stdout.take().unwrap());
    let mut lines = stdout.lines();
    assert!(
        lines.any(|line| line.unwrap().contains("ready")),
        "the impostor did not start"
    );
    match connect(&path).await {
        Err(SocketConnectError::OtherUser { uid: 65_534, .. }) => {}
        other => panic!("{other:?}"),
    }
    let rest = tokio::task::spawn_blocking(move || (lines.count(), impostor.wait().unwrap()));
    assert!(rest.await.unwrap().1.success(), "the impostor got bytes");
}

#[test]
fn the_paths_are_the_same_as_in_the_python_stack() {
    let runtime = RuntimeDir::new("/run/user/1000");
    let id: ContainerId = "0123456789abcdef".parse().unwrap();
    let check = |path: PathBuf, expected: &str| {
        assert_eq!(path.to_str(), Some(&*format!("/run/user/1000/{expected}")));
    };
    let classic = runtime.shared_hub_sockets();
    check(classic.hub, "terok-clearance.sock");
    check(classic.ingester, "terok-shield-events.sock");
    check(classic.verdict, "terok-clearance-verdict.sock");
    let c = runtime.sandbox_sockets(&id, SocketLayout::C);
    check(c.hub, "terok/clearance/0123456789ab.sock");
    check(c.ingester, "terok/events/0123456789ab.sock");
    check(c.verdict, "terok/verdict/0123456789ab.sock");
    let d = runtime.sandbox_sockets(&id, SocketLayout::D);
    check(d.hub, "terok/clearance/0123456789ab/hub.sock");
    check(d.ingester, "terok/events/0123456789ab/ingester.sock");
    check(d.verdict, "terok/verdict/0123456789ab.sock");
}

#[tokio::test]
async fn hub_sockets_of_every_layout_are_found_and_stale_ones_recognised() {
    let directory = tempfile::tempdir().unwrap();
    let runtime = RuntimeDir::new(directory.path().join("run"));
    assert_eq!(runtime.hub_sockets(), [], "there is no directory yet");
    let old: ContainerId = "aaaaaaaaaaaa".parse().unwrap();
    let new: ContainerId = "bbbbbbbbbbbb".parse().unwrap();
    let dead: ContainerId = "cccccccccccc".parse().unwrap();
    let classic = bind(&runtime.shared_hub_sockets().hub).unwrap();
    let old_hub = bind(&runtime.sandbox_sockets(&old, SocketLayout::C).hub).unwrap();
    let new_hub = bind(&runtime.sandbox_sockets(&new, SocketLayout::D).hub).unwrap();
    let dead_path = runtime.sandbox_sockets(&dead, SocketLayout::D).hub;
    fs::create_dir(dead_path.parent().unwrap()).unwrap();
    drop(std::os::unix::net::UnixListener::bind(&dead_path).unwrap());
    // No hubs: a file, a directory without a socket, a name that is not an id.
    fs::write(runtime.hubs_dir().join("dddddddddddd.sock"), "").unwrap();
    fs::create_dir(runtime.hubs_dir().join("eeeeeeeeeeee")).unwrap();
    drop(std::os::unix::net::UnixListener::bind(runtime.hubs_dir().join("-x.sock")).unwrap());
    let found = |container: Option<&ContainerId>, path: &Path| HubSocket {
        path: path.to_owned(),
        container: container.cloned(),
    };
    let live = [
        found(Some(&old), old_hub.path()),
        found(Some(&new), new_hub.path()),
        found(None, classic.path()),
    ];
    let mut all = live.to_vec();
    all.insert(2, found(Some(&dead), &dead_path));
    assert_eq!(runtime.hub_sockets(), all);
    assert_eq!(runtime.live_hubs(), live);
}
