// SPDX-License-Identifier: Apache-2.0
//! A listener whose path is removed, replaced or moved while it serves.

#![expect(
    clippy::unwrap_used,
    reason = "a test fails by panicking, its helpers too"
)]

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixListener as OtherListener;
use std::path::{Path, PathBuf};

use tempfile::TempDir;
use terok_clearance::socket::{
    ConnectionAcceptor, RuntimeDir, SocketBindError, SocketLayout, bind, bind_in_runtime_dir,
};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;
use tokio::task::JoinSet;

/// A server that sends back each byte plus one.
struct Server {
    directory: TempDir,
    path: PathBuf,
    _tasks: JoinSet<()>,
}

impl Server {
    fn start() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("outer/run/hub.sock");
        let mut acceptor = ConnectionAcceptor::new(bind(&path).unwrap().rebinding());
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                let (mut stream, _) = acceptor.accept().await;
                connections.spawn(async move {
                    while let Ok(byte) = stream.read_u8().await {
                        if stream.write_u8(byte.wrapping_add(1)).await.is_err() {
                            return;
                        }
                    }
                });
            }
        });
        Self {
            directory,
            path,
            _tasks: tasks,
        }
    }

    fn parent(&self) -> &Path {
        self.path.parent().unwrap()
    }

    /// Waits until the server answers at its path.
    async fn answers(&self) -> UnixStream {
        loop {
            if let Ok(mut stream) = UnixStream::connect(&self.path).await
                && ask(&mut stream).await
            {
                return stream;
            }
            tokio::task::yield_now().await;
        }
    }
}

/// Returns `true` if the other end is the server.
async fn ask(stream: &mut UnixStream) -> bool {
    stream.write_u8(7).await.is_ok() && stream.read_u8().await.is_ok_and(|byte| byte == 8)
}

fn private(directory: &Path) {
    fs::create_dir_all(directory).unwrap();
    fs::set_permissions(directory, Permissions::from_mode(0o700)).unwrap();
}

#[tokio::test]
async fn an_unlinked_path_is_bound_anew_and_connections_stay() {
    let server = Server::start();
    let mut first = server.answers().await;
    for _ in 0..3 {
        fs::remove_file(&server.path).unwrap();
        server.answers().await;
        assert!(ask(&mut first).await);
    }
    // With the lock file, too: nobody else can bind.
    fs::remove_file(server.parent().join(".hub.sock.lock")).unwrap();
    fs::remove_file(&server.path).unwrap();
    server.answers().await;
    assert!(matches!(
        bind(&server.path),
        Err(SocketBindError::InUse { .. })
    ));
    let mode = fs::symlink_metadata(&server.path).unwrap().permissions();
    assert_eq!(mode.mode() & 0o777, 0o600);
    assert!(ask(&mut first).await);
}

#[tokio::test]
async fn a_directory_that_comes_back_has_the_socket_again() {
    let server = Server::start();
    let mut first = server.answers().await;
    let outer = server.directory.path().join("outer");
    fs::remove_dir_all(server.parent()).unwrap();
    private(server.parent());
    server.answers().await;
    fs::remove_dir_all(&outer).unwrap();
    fs::create_dir(&outer).unwrap();
    private(server.parent());
    server.answers().await;
    // Moved away with everything in it.
    fs::rename(&outer, server.directory.path().join("elsewhere")).unwrap();
    private(server.parent());
    server.answers().await;
    // One that others can enter is not used before it is private.
    fs::remove_dir_all(server.parent()).unwrap();
    fs::create_dir(server.parent()).unwrap();
    fs::set_permissions(server.parent(), Permissions::from_mode(0o755)).unwrap();
    assert!(!server.path.exists());
    private(server.parent());
    server.answers().await;
    assert!(ask(&mut first).await);
}

#[tokio::test]
async fn a_path_that_another_took_is_left_to_it_until_it_is_free() {
    let server = Server::start();
    let mut first = server.answers().await;
    let theirs = server.parent().join("theirs.sock");
    let other = OtherListener::bind(&theirs).unwrap();
    fs::rename(&theirs, &server.path).unwrap();
    // What the server does about it is done once it has answered after it.
    assert!(ask(&mut first).await);
    let mut to_other = UnixStream::connect(&server.path).await.unwrap();
    to_other.write_u8(7).await.unwrap();
    // The server has asked first whether somebody listens there.
    let mut byte = [0];
    while byte != [7] {
        let (mut accepted, _) = other.accept().unwrap();
        drop(std::io::Read::read_exact(&mut accepted, &mut byte));
    }
    assert!(ask(&mut first).await);
    drop(other);
    fs::remove_file(&server.path).unwrap();
    server.answers().await;
    // A file is nobody's socket, and stays.
    fs::write(server.parent().join("notes"), "precious").unwrap();
    fs::rename(server.parent().join("notes"), &server.path).unwrap();
    assert!(ask(&mut first).await);
    assert_eq!(fs::read_to_string(&server.path).unwrap(), "precious");
    fs::remove_file(&server.path).unwrap();
    server.answers().await;
}

#[tokio::test]
async fn who_connected_before_the_removal_is_served() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("run/hub.sock");
    let mut acceptor = ConnectionAcceptor::new(bind(&path).unwrap().rebinding());
    let mut early = UnixStream::connect(&path).await.unwrap();
    early.write_u8(1).await.unwrap();
    fs::remove_file(&path).unwrap();
    let (mut accepted, _) = acceptor.accept().await;
    assert_eq!(accepted.read_u8().await.unwrap(), 1);
    let late = async {
        loop {
            if let Ok(stream) = UnixStream::connect(&path).await {
                return stream;
            }
            tokio::task::yield_now().await;
        }
    };
    let (mut late, (mut accepted, _)) = tokio::join!(late, acceptor.accept());
    late.write_u8(2).await.unwrap();
    assert_eq!(accepted.read_u8().await.unwrap(), 2);
    drop(acceptor);
    let left = fs::read_dir(directory.path().join("run")).unwrap().count();
    assert_eq!(left, 0);
}

#[tokio::test]
async fn a_stale_file_is_replaced_at_a_hubs_own_path_alone() {
    let directory = tempfile::tempdir().unwrap();
    let runtime = RuntimeDir::new(directory.path());
    fs::set_permissions(directory.path(), Permissions::from_mode(0o700)).unwrap();
    let web = "0123456789ab".parse().unwrap();
    let mut own = Vec::new();
    for paths in [
        runtime.shared_hub_sockets(),
        runtime.sandbox_sockets(&web, SocketLayout::C),
        runtime.sandbox_sockets(&web, SocketLayout::D),
    ] {
        own.extend([paths.hub, paths.ingester, paths.verdict]);
    }
    let victim = directory.path().join("victim");
    fs::write(&victim, "precious").unwrap();
    for path in own {
        let parent = path.parent().unwrap();
        private(&directory.path().join("terok"));
        private(parent);
        fs::write(&path, "stale").unwrap();
        assert!(matches!(
            bind(&path),
            Err(SocketBindError::NotASocket { .. })
        ));
        drop(bind_in_runtime_dir(&runtime, &path).unwrap());
        std::os::unix::fs::symlink(&victim, &path).unwrap();
        drop(bind_in_runtime_dir(&runtime, &path).unwrap());
        rustix::fs::mkfifoat(rustix::fs::CWD, &path, 0o600.into()).unwrap();
        drop(bind_in_runtime_dir(&runtime, &path).unwrap());
        // A directory may hold anything, and a socket with a listener is in use.
        fs::create_dir(&path).unwrap();
        bind_in_runtime_dir(&runtime, &path).unwrap_err();
        fs::remove_dir(&path).unwrap();
        let other = OtherListener::bind(&path).unwrap();
        bind_in_runtime_dir(&runtime, &path).unwrap_err();
        drop(other);
        drop(bind_in_runtime_dir(&runtime, &path).unwrap());
        assert!(!path.exists());
    }
    private(&directory.path().join("terok/clearance/x"));
    for name in [
        "notes.txt",
        "terok-clearance.sock.bak",
        "terok/notes.sock",
        "terok/clearance/notes.txt",
        "terok/clearance/x/notes.sock",
        "terok/clearance/../hub.sock",
    ] {
        let path = directory.path().join(name);
        fs::write(&path, "precious").unwrap();
        assert!(matches!(
            bind_in_runtime_dir(&runtime, &path),
            Err(SocketBindError::NotASocket { .. })
        ));
        assert_eq!(fs::read_to_string(&path).unwrap(), "precious");
    }
    let elsewhere = tempfile::tempdir().unwrap();
    let path = elsewhere.path().join("terok-clearance.sock");
    fs::write(&path, "precious").unwrap();
    bind_in_runtime_dir(&runtime, &path).unwrap_err();
    assert_eq!(fs::read_to_string(&path).unwrap(), "precious");
    assert_eq!(fs::read_to_string(&victim).unwrap(), "precious");
}
