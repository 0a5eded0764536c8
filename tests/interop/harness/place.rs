// SPDX-License-Identifier: Apache-2.0
//! A user's session of one test: a runtime directory, a home, and no session bus.

use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use serde_json::Value;
use tempfile::TempDir;
use terok_clearance::socket::RuntimeDir;
use tokio::io::AsyncWriteExt as _;
use tokio::net::UnixStream;
use tokio::process::Command;

use super::{Running, Shield, Stack};

/// A folder that is `XDG_RUNTIME_DIR` and `HOME`, and goes with the test.
pub(crate) struct Place(TempDir);

impl Place {
    pub(crate) fn new() -> Self {
        let private = PermissionsExt::from_mode(0o700);
        let mut builder = tempfile::Builder::new();
        Self(builder.prefix("ti").permissions(private).tempdir().unwrap())
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
        let classic = self.runtime().classic();
        let mut command = self.ours(&[&["serve"], args].concat());
        self.serve(&mut command, &[classic.hub, classic.ingester])
            .await
    }

    /// Starts the hub of `stack`, on its classic sockets.
    pub(crate) async fn their_hub(&self, stack: Stack) -> Running {
        let classic = self.runtime().classic();
        let mut command = self.theirs(stack, "terok-clearance-hub", &["serve"]);
        self.serve(&mut command, &[classic.hub, classic.ingester])
            .await
    }

    /// Starts our verdict helper, on its classic socket; it runs `shield`.
    pub(crate) async fn our_helper(&self, shield: &Shield) -> Running {
        let mut command = self.ours(&["serve-verdict", "--shield", shield.path()]);
        self.serve(&mut command, &[self.runtime().classic().verdict])
            .await
    }

    /// Tells the ingester of the classic hub each of `lines`, as a reader does.
    pub(crate) async fn report(&self, lines: &[Value]) {
        let mut ingester = UnixStream::connect(self.runtime().classic().ingester)
            .await
            .unwrap();
        for line in lines {
            ingester
                .write_all(format!("{line}\n").as_bytes())
                .await
                .unwrap();
        }
        ingester.shutdown().await.unwrap();
    }
}
