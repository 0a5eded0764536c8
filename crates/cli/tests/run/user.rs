// SPDX-License-Identifier: Apache-2.0
//! Users that run the tests, and shells inside and outside of sandboxes.

use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Output, Stdio};

use tempfile::TempDir;

/// A user id that exists on no machine.
const UNUSED_UID: u32 = 54_321;

/// A user with a home directory, a runtime directory and the program.
pub(crate) struct User {
    uid: Option<u32>,
    /// Whether root runs the tests.
    root: bool,
    home: TempDir,
}

/// The ways of a user with the id 0, also in a user namespace: see [`User::ways`].
pub(crate) const ROOT_WAYS: [&str; 9] = [
    "sh -c",
    "unshare -Ur sh -c",
    "unshare -Urm sh -c",
    "unshare -Urn sh -c",
    "unshare -Urmpf sh -c",
    "unshare --keep-caps -U sh -c",
    "unshare --keep-caps -Um sh -c",
    "unshare --keep-caps -Un sh -c",
    "unshare --keep-caps -Umpf sh -c",
];

/// Calls `test` for an ordinary user and, if root runs the tests, for root.
pub(crate) fn as_everybody(test: impl Fn(&User)) {
    let root = rustix::process::geteuid().is_root();
    if root {
        test(&User::new(Some(UNUSED_UID)));
    }
    test(&User::new(None));
}

impl User {
    /// Returns the user with this id, or the user that runs the tests.
    pub(crate) fn new(uid: Option<u32>) -> Self {
        let home = tempfile::Builder::new()
            .prefix("run-")
            .tempdir_in("/tmp")
            .unwrap();
        let root = rustix::process::geteuid().is_root();
        let user = Self { uid, root, home };
        // The build directory may be inaccessible to other users.
        std::fs::copy(env!("CARGO_BIN_EXE_terok-clearance"), user.program()).unwrap();
        for directory in ["runtime", "home", "work"] {
            user.directory(directory);
        }
        let open = std::fs::Permissions::from_mode(0o755);
        std::fs::set_permissions(user.home.path(), open).unwrap();
        user.own(user.home.path());
        user
    }

    /// Returns `true` for the machine's root user, restricted only by the sandbox.
    pub(crate) fn is_root(&self) -> bool {
        self.uid.is_none() && self.root
    }

    /// Returns the user id to switch to, if different.
    pub(crate) const fn uid(&self) -> Option<u32> {
        self.uid
    }

    pub(crate) fn program(&self) -> PathBuf {
        self.home.path().join("terok-clearance")
    }

    pub(crate) fn path(&self, below: &str) -> PathBuf {
        self.home.path().join(below)
    }

    /// Creates a directory owned by the user.
    pub(crate) fn directory(&self, below: &str) -> PathBuf {
        let path = self.path(below);
        std::fs::create_dir_all(&path).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o700)).unwrap();
        self.own(&path);
        path
    }

    /// Creates a file owned by the user.
    pub(crate) fn add_file(&self, below: &str, text: &str) {
        let path = self.path(below);
        std::fs::write(&path, text).unwrap();
        self.own(&path);
    }

    /// Makes the user the owner of a file.
    pub(crate) fn own(&self, path: &Path) {
        chown(path, self.uid, self.uid).unwrap();
    }

    /// Returns a command of the user with a minimal environment.
    pub(crate) fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new(program);
        command
            .env_clear()
            .env("PATH", "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin")
            .env("HOME", self.path("home"))
            .env("XDG_RUNTIME_DIR", self.path("runtime"))
            .current_dir(self.path("work"))
            .stdin(Stdio::null());
        if let Some(uid) = self.uid {
            command.uid(uid).gid(uid);
        }
        command
    }

    /// Returns the command `terok-clearance run ARGS…`.
    pub(crate) fn run(&self, args: &[&str]) -> Command {
        let mut command = self.command(self.program());
        command.arg("run").args(args);
        command
    }

    /// Runs `script` in a sandbox without a network.
    pub(crate) fn inside(&self, script: &str) -> Output {
        self.run(&["--network", "none", "--", "sh", "-c", script])
            .output()
            .unwrap()
    }

    /// Runs `script` outside of a sandbox.
    pub(crate) fn outside(&self, script: &str) -> Output {
        self.command("sh").args(["-c", script]).output().unwrap()
    }

    /// Returns a shell in a sandbox without a network.
    pub(crate) fn shell_inside(&self) -> Shell {
        Shell::start(self.run(&["--network", "none", "--", "sh"]))
    }

    /// Returns the socket of the only hub.
    pub(crate) fn hub(&self) -> PathBuf {
        let hubs = self.path("runtime/terok/clearance");
        let hubs = std::fs::read_dir(hubs)
            .unwrap()
            .map(|entry| entry.unwrap().path());
        let hubs: Vec<_> = hubs.map(|hub| hub.join("hub.sock")).collect();
        let [hub] = hubs.as_slice() else {
            panic!("{hubs:?}")
        };
        hub.clone()
    }

    /// Asserts that a script succeeds outside the sandbox and fails inside.
    pub(crate) fn only_outside(&self, script: &str) {
        let outside = self.outside(script);
        assert!(
            outside.status.success(),
            "outside: {script}\n{}",
            told(&outside)
        );
        self.not_inside(script);
    }

    /// Asserts that a script fails inside the sandbox, also in a nested user namespace.
    pub(crate) fn not_inside(&self, script: &str) {
        for way in self.ways() {
            let inside = self.inside(&format!("{way} '{}'", quoted(script)));
            let code = inside.status.code();
            assert!(
                !inside.status.success(),
                "inside, {way}: {script}\n{}",
                told(&inside)
            );
            assert!(
                code.is_some_and(|code| code < 125),
                "inside: {script}\n{}",
                told(&inside)
            );
        }
    }

    /// The ways to run a script inside: directly, and in nested user namespaces.
    ///
    /// A nested namespace has all capabilities, also under an unmapped id. Each way works.
    pub(crate) const fn ways(&self) -> &'static [&'static str] {
        if self.uid.is_none() && self.root {
            &ROOT_WAYS
        } else {
            &[
                "sh -c",
                "unshare -Ur sh -c",
                "unshare -Urm sh -c",
                "unshare -Urn sh -c",
                "unshare -Urmpf sh -c",
                "unshare --keep-caps -U sh -c",
            ]
        }
    }
}

/// Quotes a script with single quotes.
pub(crate) fn quoted(script: &str) -> String {
    script.replace('\'', "'\\''")
}

/// Returns the output of a command for a failed assertion.
pub(crate) fn told(output: &Output) -> String {
    let [stdout, stderr] =
        [&output.stdout, &output.stderr].map(|text| String::from_utf8_lossy(text));
    format!("{}\n{stdout}{stderr}", output.status)
}

/// A shell that executes scripts line by line.
pub(crate) struct Shell {
    pub(crate) child: Child,
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
}

impl Shell {
    /// Starts a shell and waits until it executes scripts.
    pub(crate) fn start(mut command: Command) -> Self {
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let input = child.stdin.take();
        let output = BufReader::new(child.stdout.take().unwrap());
        let mut shell = Self {
            child,
            input,
            output,
        };
        assert_eq!(shell.does("true"), (0, String::new()));
        shell
    }

    /// Executes a script; returns the exit status and the output.
    pub(crate) fn does(&mut self, script: &str) -> (i32, String) {
        self.begins(script);
        self.ends()
    }

    /// Begins a script.
    pub(crate) fn begins(&mut self, script: &str) {
        let line = format!("{{ {script}\n}} 2>&1 </dev/null; echo \"\n=status=$?\"\n");
        self.input
            .as_mut()
            .unwrap()
            .write_all(line.as_bytes())
            .unwrap();
    }

    /// Waits for the end of a script that was begun; returns the exit status and the output.
    pub(crate) fn ends(&mut self) -> (i32, String) {
        let mut said = String::new();
        loop {
            let mut line = String::new();
            let read = self.output.read_line(&mut line).unwrap();
            assert_ne!(read, 0, "the shell ended: {said}");
            if let Some(status) = line.strip_prefix("=status=") {
                return (status.trim().parse().unwrap(), said.trim_end().to_owned());
            }
            said.push_str(&line);
        }
    }

    /// Closes the shell's input, and waits for its end.
    pub(crate) fn close(&mut self) {
        drop(self.input.take());
        self.child.wait().unwrap();
    }
}

impl Drop for Shell {
    fn drop(&mut self) {
        drop(self.input.take());
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
