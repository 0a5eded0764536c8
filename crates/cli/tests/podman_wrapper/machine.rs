// SPDX-License-Identifier: Apache-2.0
//! A machine with podman for one test.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::json;
use tempfile::TempDir;
use test_support::directory::private_directory;

pub(crate) const PROGRAM: &str = env!("CARGO_BIN_EXE_terok-clearance");

/// Replaces the directories of hooks and sockets by those of the test, and runs the rest.
const PRIVATE_DIRECTORIES: &str = r#"
set -e
test_dir=$1; shift
mkdir -p /run/terok
mount --bind "$test_dir/run" /run/terok
mount -t tmpfs -o mode=755 none /mnt
mkdir /mnt/upper /mnt/work
mount -t overlay -o lowerdir=/etc,upperdir=/mnt/upper,workdir=/mnt/work none /etc
mkdir -p /etc/terok-clearance/hooks.d
mount --bind "$test_dir/hooks" /etc/terok-clearance/hooks.d
exec "$@"
"#;

/// Accepts at the socket that starts supervisors: `ready` says so, `refuse` gives a reason.
/// Records each request.
const SUPERVISOR: &str = r#"
import os, socket, sys
answer = {"ready": b'"ready"\n', "refuse": b'{"refused":"no \\u001b[2J reason"}\n'}[sys.argv[1]]
os.makedirs("/run/terok/containers", mode=0o700, exist_ok=True)
path = "/run/terok/containers/start.sock"
if os.path.exists(path):
    os.unlink(path)
server = socket.socket(socket.AF_UNIX)
server.bind(path)
server.listen()
if os.fork():
    os._exit(0)
while True:
    client, _ = server.accept()
    line = client.makefile("rb").readline()
    with open("/run/terok/requests", "ab") as log:
        log.write(line)
    client.sendall(answer)
    client.close()
"#;

pub(crate) struct Machine {
    directory: TempDir,
    podman: bool,
}

/// What a program printed.
#[derive(Debug)]
pub(crate) struct Printed {
    pub(crate) status: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Machine {
    pub(crate) fn new() -> Self {
        let directory = private_directory();
        for name in ["run", "hooks", "home", "image/bin"] {
            fs::create_dir_all(directory.path().join(name)).unwrap();
        }
        let machine = Self {
            directory,
            podman: false,
        };
        let bin = machine.path("image/bin");
        fs::copy("/usr/bin/busybox", bin.join("busybox")).unwrap();
        for name in ["sh", "true", "cat", "ip"] {
            symlink("busybox", bin.join(name)).unwrap();
        }
        machine
    }

    /// Adds the hooks that `setup` installs.
    pub(crate) fn with_hooks(self) -> Self {
        for stage in ["createRuntime", "poststop"] {
            let hook = json!({
                "version": "1.0.0",
                "hook": {"path": PROGRAM, "args": [PROGRAM, "hook", stage]},
                "when": {"annotations": {"^org\\.terok\\.clearance\\.network$": ".*"}},
                "stages": [stage],
            });
            let name = format!("hooks/terok-clearance-{stage}.json");
            fs::write(self.path(&name), hook.to_string()).unwrap();
        }
        self
    }

    /// Adds podman's image `bb:latest`.
    pub(crate) fn with_image(mut self) -> Self {
        self.podman = true;
        let tar = self.path("image.tar");
        let mut command = Command::new("tar");
        command.args(["-C", self.path("image").to_str().unwrap(), "-cf"]);
        assert!(command.arg(&tar).arg(".").status().unwrap().success());
        let mut arguments = vec!["podman", "import"];
        let store = self.store();
        arguments.extend(store.iter().map(String::as_str));
        arguments.extend([tar.to_str().unwrap(), "bb:latest"]);
        let imported = self.run(&arguments);
        assert_eq!(imported.status, Some(0), "{imported:?}");
        self
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Options of podman: where containers are, and what this machine needs.
    pub(crate) fn store(&self) -> Vec<String> {
        let at = |name: &str| self.path(name).to_str().unwrap().to_owned();
        [
            "--root",
            &at("store"),
            "--runroot",
            &at("runroot"),
            "--storage-driver",
            "vfs",
            "--cgroup-manager",
            "cgroupfs",
            "--runtime",
            "runc",
        ]
        .map(str::to_owned)
        .to_vec()
    }

    /// Options of a container that this machine can start.
    pub(crate) fn limits() -> [&'static str; 4] {
        [
            "--ulimit",
            "nofile=1024:1024",
            "--ulimit",
            "nproc=1024:1024",
        ]
    }

    /// Runs a program with the test's directories. `podman` gets no store.
    pub(crate) fn run<S: AsRef<OsStr>>(&self, words: &[S]) -> Printed {
        let mut command = self.command();
        command.args(words);
        printed(&mut command)
    }

    /// Runs a shell script, with the supervisor's socket answering `answer`.
    pub(crate) fn run_with_supervisor(&self, answer: &str, words: &[&str]) -> Printed {
        let script = "python3 -c \"$1\" \"$2\" && shift 2 && exec \"$@\"";
        let mut command = self.command();
        command.args(["sh", "-c", script, "sh", SUPERVISOR, answer]);
        command.args(words);
        printed(&mut command)
    }

    /// Returns the requests that the supervisor's socket has got.
    pub(crate) fn requests(&self) -> Vec<serde_json::Value> {
        let text = fs::read_to_string(self.path("run/requests")).unwrap_or_default();
        let lines = text.lines();
        lines
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    }

    /// Returns `unshare` with what every command gets; its end is the end of all processes.
    fn command(&self) -> Command {
        let mut command = Command::new("unshare");
        command
            .args(["--mount", "--propagation", "private"])
            .args(["--pid", "--fork", "--kill-child", "--mount-proc"])
            .args(["sh", "-c", PRIVATE_DIRECTORIES, "sh"])
            .arg(self.directory.path())
            .env_clear()
            .env("PATH", "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin")
            .env("HOME", self.path("home"))
            .stdin(Stdio::null());
        command
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        if self.podman {
            let mut words = vec!["podman".to_owned(), "rm".into(), "--all".into()];
            words.extend(["--force".to_owned(), "--time".into(), "0".into()]);
            words.extend(self.store());
            drop(self.run(&words));
        }
    }
}

fn printed(command: &mut Command) -> Printed {
    let output = command.output().unwrap();
    Printed {
        status: output.status.code(),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

/// Writes an executable script.
pub(crate) fn write_script(path: &Path, text: &str) {
    fs::write(path, text).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
}
