// SPDX-License-Identifier: Apache-2.0
//! A user's session of one test: a runtime directory, a home, and no session bus.

use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;
use terok_clearance::socket::{HubSocketPaths, RuntimeDir};
use tokio::io::AsyncWriteExt as _;
use tokio::net::UnixStream;
use tokio::process::Command;

use super::{CONTAINER, Running, Shield, Side, Stack};

/// A folder that is `XDG_RUNTIME_DIR` and `HOME`, and goes with the test.
#[derive(Debug)]
pub(crate) struct Place(TempDir);

impl Place {
    pub(crate) fn new() -> Self {
        let private = PermissionsExt::from_mode(0o700);
        let mut builder = tempfile::Builder::new();
        Self(builder.prefix("ti").permissions(private).tempdir().unwrap())
    }

    /// Returns our supervisor of the network namespace of a process, to be run here. The processes
    /// of these tests could go around its rules.
    pub(crate) fn supervise(&self, sandbox: &Running, options: &[&str]) -> Command {
        let pid = sandbox.pid().as_raw_nonzero().to_string();
        let mut command = self.ours(options);
        command
            .args(["supervise", "--allow-capabilities", "--pid", &pid])
            .args(["--name", CONTAINER]);
        command
    }

    pub(crate) fn path(&self) -> &Path {
        self.0.path()
    }

    pub(crate) fn runtime(&self) -> RuntimeDir {
        RuntimeDir::new(self.path().to_owned())
    }

    /// Returns `program` to be run here, with nothing else of the caller's environment than PATH.
    pub(crate) fn command(&self, program: impl AsRef<Path>) -> Command {
        let mut command = Command::new(program.as_ref());
        command
            .env_clear()
            .env(
                "PATH",
                "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            )
            .env("XDG_RUNTIME_DIR", self.path())
            .env("HOME", self.path())
            .env("PYTHONUNBUFFERED", "1")
            .kill_on_drop(true);
        command
    }

    /// Returns our program with `args`.
    pub(crate) fn ours(&self, args: &[&str]) -> Command {
        let mut command = self.command(env!("CARGO_BIN_EXE_terok-clearance"));
        command.args(args);
        command
    }

    /// Returns our program under another of its names, such as `terok-clearance-hub`.
    pub(crate) fn ours_as(&self, name: &str, args: &[&str]) -> Command {
        let link = self.path().join(name);
        if !link.exists() {
            symlink(env!("CARGO_BIN_EXE_terok-clearance"), &link).unwrap();
        }
        let mut command = self.command(link);
        command.args(args);
        command
    }

    /// Returns a program of `stack` with `args`.
    pub(crate) fn theirs(&self, stack: Stack, name: &str, args: &[&str]) -> Command {
        let mut command = self.command(stack.program(name));
        command.args(args);
        command
    }

    /// Returns a script of `python/`, run by `stack`.
    pub(crate) fn script(&self, stack: Stack, name: &str, args: &[&str]) -> Command {
        let mut command = self.command(stack.program("python"));
        let scripts = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/interop/python");
        command.arg(scripts.join(name)).args(args);
        command
    }

    /// Starts a server, and returns it once somebody listens at each of `sockets`.
    pub(crate) async fn serve(&self, command: &mut Command, sockets: &[PathBuf]) -> Running {
        let mut server = Running::start(command);
        for socket in sockets {
            while UnixStream::connect(socket).await.is_err() {
                server.alive();
                tokio::task::yield_now().await;
            }
        }
        server
    }

    /// Starts our hub, on its classic sockets.
    pub(crate) async fn our_hub(&self, args: &[&str]) -> Running {
        let classic = self.runtime().shared_hub_sockets();
        let mut command = self.ours(&[&["serve"], args].concat());
        self.serve(&mut command, &[classic.hub, classic.ingester])
            .await
    }

    /// Starts the hub of `stack`, on its classic sockets.
    pub(crate) async fn their_hub(&self, stack: Stack) -> Running {
        let classic = self.runtime().shared_hub_sockets();
        let mut command = self.theirs(stack, "terok-clearance-hub", &["serve"]);
        self.serve(&mut command, &[classic.hub, classic.ingester])
            .await
    }

    /// Starts our verdict helper, on its classic socket; it runs `shield`.
    pub(crate) async fn our_helper(&self, shield: &Shield) -> Running {
        let mut command = self.ours(&["serve-verdict", "--shield", shield.path()]);
        self.serve(&mut command, &[self.runtime().shared_hub_sockets().verdict])
            .await
    }

    /// Starts a hub on its classic sockets: ours or theirs.
    pub(crate) async fn hub(&self, side: Side) -> Running {
        match side {
            Side::Ours => self.our_hub(&[]).await,
            Side::Theirs(stack) => self.their_hub(stack).await,
        }
    }

    /// Starts a verdict helper that runs `shield`: ours or theirs.
    pub(crate) async fn helper(&self, side: Side, shield: &Shield) -> Running {
        match side {
            Side::Ours => self.our_helper(shield).await,
            Side::Theirs(stack) => self.their_helper(stack, shield).await,
        }
    }

    /// Starts the verdict helper of `stack`, on its classic socket; it runs `shield`.
    pub(crate) async fn their_helper(&self, stack: Stack, shield: &Shield) -> Running {
        let python = self.twin(stack);
        shield.leading_to(python.parent().unwrap());
        let mut command = self.command(python);
        command.args(["-m", "terok_clearance.cli.main", "serve-verdict"]);
        self.serve(&mut command, &[self.runtime().shared_hub_sockets().verdict])
            .await
    }

    /// Returns an interpreter with the packages of `stack`, and without its `terok-shield` beside,
    /// which the helper would prefer to any other.
    pub(crate) fn twin(&self, stack: Stack) -> PathBuf {
        let twin = self.path().join("twin");
        let python = twin.join("bin/python");
        if !twin.exists() {
            let prefix = stack.prefix();
            std::fs::create_dir_all(twin.join("bin")).unwrap();
            std::fs::copy(prefix.join("pyvenv.cfg"), twin.join("pyvenv.cfg")).unwrap();
            symlink(prefix.join("lib"), twin.join("lib")).unwrap();
            symlink(stack.program("python"), &python).unwrap();
        }
        python
    }

    /// Starts the hub of `stack` on `sockets`, made as that release's supervisor makes it.
    pub(crate) async fn their_hub_at(&self, stack: Stack, sockets: &HubSocketPaths) -> Running {
        let HubSocketPaths {
            hub,
            ingester,
            verdict,
        } = sockets;
        let paths = [hub, ingester, verdict].map(|path| path.to_str().unwrap());
        let mut command = self.script(stack, "hub.py", &paths);
        self.serve(&mut command, &[ingester.clone(), hub.clone()])
            .await
    }

    /// Starts our hub on `sockets`, under the name that people know it by.
    pub(crate) async fn our_hub_at(&self, sockets: &HubSocketPaths) -> Running {
        let HubSocketPaths {
            hub,
            ingester,
            verdict,
        } = sockets;
        let paths = [hub, ingester, verdict].map(|path| path.to_str().unwrap());
        let [hub_path, ingester_path, verdict_path] = paths;
        let name = "terok-clearance-hub";
        let args = [
            "serve",
            "--clearance-socket",
            hub_path,
            "--reader-socket",
            ingester_path,
            "--verdict-socket",
            verdict_path,
        ];
        let mut command = self.ours_as(name, &args);
        self.serve(&mut command, &[ingester.clone(), hub.clone()])
            .await
    }

    /// Tells the ingester of the classic hub each of `lines`, as a reader does.
    pub(crate) async fn report(&self, lines: &[Value]) {
        report(&self.runtime().shared_hub_sockets().ingester, lines).await;
    }
}

/// Tells the ingester at `socket` each of `lines`, as a reader does.
pub(crate) async fn report(socket: &Path, lines: &[Value]) {
    let mut ingester = UnixStream::connect(socket).await.unwrap();
    for line in lines {
        let line = format!("{line}\n");
        ingester.write_all(line.as_bytes()).await.unwrap();
    }
    ingester.shutdown().await.unwrap();
}

/// Tells the ingester at `socket` of `line` again and again, until `heard` is done.
///
/// A subscriber is heard of by nobody before the hub has taken its call; what was told before is
/// lost, with the Python hub.
pub(crate) async fn while_repeating<T>(
    socket: &Path,
    line: &Value,
    heard: impl Future<Output = T>,
) -> T {
    let mut heard = std::pin::pin!(heard);
    let mut again = tokio::time::interval(Duration::from_millis(50));
    loop {
        tokio::select! {
            biased;
            done = &mut heard => return done,
            _ = again.tick() => report(socket, std::slice::from_ref(line)).await,
        }
    }
}
