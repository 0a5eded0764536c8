// SPDX-License-Identifier: Apache-2.0
//! The sockets: private from the first moment, held once, and only for one's own user.
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

/// A directory of ours, and the path of a socket in a directory that is not there yet.
fn place() -> (TempDir, PathBuf) {
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
    let (directory, _) = place();
    let path = directory.path().join("a/b/hub.sock");
    let listener = bind(&path).unwrap();
    assert!(fs::symlink_metadata(&path).unwrap().file_type().is_socket());
    assert_eq!(mode(&path), 0o600);
    assert_eq!(mode(&directory.path().join("a")), 0o700);
    assert_eq!(mode(&directory.path().join("a/b")), 0o700);
    assert_eq!(listener.path(), path);
}

/// The mode must hold without the umask's help, and at no moment may it be wider.
#[tokio::test]
async fn the_mode_needs_no_umask_and_no_second_step() {
    let (_directory, path) = place();
    fs::create_dir(path.parent().unwrap()).unwrap();
    set_mode(path.parent().unwrap(), 0o700);
    // A umask belongs to the whole process, so a child has it.
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
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        output.status.success() && said.contains("mode 600"),
        "{said}"
    );
}

/// Run by the test above, in a process with umask 0.
#[tokio::test]
async fn child_binds_and_reports_the_mode() {
    let Some(path) = std::env::var_os("BIND_AT").map(PathBuf::from) else {
        return;
    };
    let parent = path.parent().unwrap().to_owned();
    // Watches the directory from another thread: every mode that the file ever has is seen, or at
    // least every one that lasts as long as a look at it.
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
async fn a_directory_that_is_not_ours_alone_is_refused() {
    let (directory, path) = place();
    let parent = path.parent().unwrap();
    fs::create_dir(parent).unwrap();
    let refusal = |path: &Path| match bind(path) {
        Err(SocketBindError::NotPrivate { problem, .. }) => problem,
        other => panic!("{other:?}"),
    };
    for wrong in [0o701, 0o710, 0o770, 0o707, 0o755, 0o777, 0o1777] {
        set_mode(parent, wrong);
        assert_eq!(refusal(&path), "its mode lets others in", "{wrong:o}");
    }
    set_mode(parent, 0o700);
    let link = directory.path().join("link");
    symlink(parent, &link).unwrap();
    assert_eq!(refusal(&link.join("hub.sock")), "it is a symbolic link");
    if is_root() {
        chown(parent, Some(12_345), None).unwrap();
        assert_eq!(refusal(&path), "it belongs to another user");
    } else {
        // Root's directory is another user's.
        let refused = refusal(Path::new("/usr/hub.sock"));
        assert_eq!(refused, "it belongs to another user");
    }
    assert!(!path.exists());
}

#[tokio::test]
async fn a_path_that_fits_no_address_is_refused_with_its_length() {
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
            .contains("has 108 bytes, a socket's has at most 107"),
        "{error}"
    );
    let error = connect(&long).await.unwrap_err();
    assert!(matches!(
        error,
        SocketConnectError::PathTooLong { length: 108, .. }
    ));
}

#[tokio::test]
async fn a_socket_that_was_left_behind_is_replaced_and_a_live_one_is_not() {
    let (_directory, path) = place();
    let parent = path.parent().unwrap();
    fs::create_dir(parent).unwrap();
    set_mode(parent, 0o700);
    // Another program's socket, without our lock.
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
    assert!(path.exists(), "it was left behind");
    let listener = bind(&path).unwrap();
    match bind(&path) {
        Err(SocketBindError::InUse { pid, .. }) => assert_eq!(pid, us),
        other => panic!("{other:?}"),
    }
    connect(&path).await.unwrap();
    drop(listener);
    assert_eq!(fs::read_dir(parent).unwrap().count(), 0, "nothing is left");
    bind(&path).unwrap();
}

#[tokio::test]
async fn what_is_no_socket_is_left_alone() {
    let (directory, path) = place();
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
    // Nor is a lock taken through a link.
    fs::remove_file(&path).unwrap();
    symlink(&victim, parent.join(".hub.sock.lock")).unwrap();
    assert!(matches!(
        bind(&path),
        Err(SocketBindError::Io { action: "lock", .. })
    ));
    assert_eq!(fs::read_to_string(&victim).unwrap(), "precious");
}

#[test]
fn of_two_binders_at_once_one_succeeds() {
    let (_directory, path) = place();
    for round in 0..50 {
        // Every second round finds a socket that was left behind.
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

/// A hub that was replaced must not take its successor's socket along when it ends.
#[tokio::test]
async fn only_ones_own_file_is_removed() {
    let (_directory, path) = place();
    let listener = bind(&path).unwrap();
    fs::remove_file(&path).unwrap();
    let successor = std::os::unix::net::UnixListener::bind(&path).unwrap();
    drop(listener);
    assert!(path.exists());
    connect(&path).await.unwrap();
    drop(successor);
}

#[tokio::test]
async fn both_ends_know_who_the_other_is() {
    let (_directory, path) = place();
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
async fn nobody_there_is_an_error_of_its_own() {
    let (_directory, path) = place();
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

/// Runs one test of this file as another user, from a copy of this program that they can read.
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

/// Run as another user by the test below.
#[test]
fn child_connects_and_is_turned_away() {
    let Some(path) = std::env::var_os("SOCKET_AT") else {
        return;
    };
    let mut stream = std::os::unix::net::UnixStream::connect(path).unwrap();
    assert_eq!(stream.read(&mut [0; 8]).unwrap_or(0), 0);
}

/// Run as another user by the test below.
#[test]
fn child_serves_and_gets_no_byte() {
    let Some(path) = std::env::var_os("SOCKET_AT") else {
        return;
    };
    let listener = std::os::unix::net::UnixListener::bind(path).unwrap();
    println!("ready");
    let (mut stream, _) = listener.accept().unwrap();
    assert_eq!(stream.read(&mut [0; 8]).unwrap_or(0), 0);
}

/// To become another user needs root; the rule itself is tested for every user in
/// `socket::bind` and `socket::connect`.
#[tokio::test]
async fn another_users_process_is_turned_away() {
    if !is_root() {
        eprintln!("needs root to become another user: the rule is tested without that elsewhere");
        return;
    }
    let (directory, path) = place();
    let listener = bind(&path).unwrap();
    // The modes would keep them out already, so let them as far as the check.
    set_mode(directory.path(), 0o777);
    set_mode(path.parent().unwrap(), 0o777);
    set_mode(&path, 0o777);
    let test = "child_connects_and_is_turned_away";
    let mut foreigner = as_another_user(directory.path(), test, &path)
        .spawn()
        .unwrap();
    let ended = tokio::task::spawn_blocking(move || foreigner.wait().unwrap());
    let status = tokio::select! {
        accepted = listener.accept() => panic!("let in: {accepted:?}"),
        status = ended => status.unwrap(),
    };
    assert!(status.success());
    // And who serves a socket as another user gets no call from us.
    let path = path.with_file_name("impostor.sock");
    let test = "child_serves_and_gets_no_byte";
    let mut impostor = as_another_user(directory.path(), test, &path)
        .spawn()
        .unwrap();
    let said = BufReader::new(impostor.stdout.take().unwrap());
    let mut lines = said.lines();
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
fn the_paths_are_the_python_stacks() {
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
async fn hubs_of_every_layout_are_found_and_the_dead_told_from_the_living() {
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
    // What is no hub: a file, a directory without a socket, names that are no ids.
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
