// SPDX-License-Identifier: Apache-2.0
//! A machine with systemd, an ordinary user, and a simulated internet that records what reaches it.

use std::fmt::Write as _;
use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

/// The script that boots, and the servers outside.
const BOOT: &str = include_str!("boot.sh");
const INTERNET: &str = include_str!("../../crates/cli/tests/run/internet.py");
const SERVERS: &str = include_str!("servers.py");

/// The machine's resolver: in `internet.py` are the names that it knows.
const RESOLVER: &str = "198.51.100.53";

/// The limit of every wait.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// The place of the program on the machine.
pub(crate) const PROGRAM: &str = "/usr/local/bin/terok-clearance";

const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// A user of the machine.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Account {
    /// An ordinary user `op` with a user manager and a session bus.
    Operator,
    Root,
}

/// A booted machine with its internet. Both end on drop.
pub(crate) struct Machine {
    /// The script, which ends the machine when its standard input ends.
    holder: Child,
    /// The process id of systemd.
    systemd: u32,
    internet: Mutex<Child>,
    operator_id: u32,
    directory: TempDir,
}

impl Machine {
    /// Boots a machine with the program.
    pub(crate) fn boot() -> Self {
        assert!(
            rustix::process::geteuid().is_root(),
            "these tests boot machines: run them as root, with `./check containers`"
        );
        let directory = tempfile::Builder::new()
            .prefix("machine-")
            .tempdir_in("/var/tmp")
            .unwrap();
        let file = |name: &str| directory.path().join(name);
        for (name, text) in [
            ("boot.sh", BOOT),
            ("internet.py", INTERNET),
            ("servers.py", SERVERS),
        ] {
            std::fs::write(file(name), text).unwrap();
        }
        std::fs::create_dir(file("files")).unwrap();
        let mut holder = Command::new("sh");
        holder
            .args([file("boot.sh"), file("files")])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(File::create(file("log")).unwrap())
            // The script removes the machine also if the test is killed.
            .process_group(0);
        let mut holder = holder.spawn().unwrap();
        let pid = line(&mut holder);
        let systemd = pid
            .parse()
            .unwrap_or_else(|_| panic!("{}", std::fs::read_to_string(file("log")).unwrap()));
        let mut internet = Command::new("unshare");
        let script = "ip link set lo up; echo; read line; exec python3 servers.py";
        internet
            .args(["--net", "--", "sh", "-c", script])
            .current_dir(directory.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        let mut internet = internet.spawn().unwrap();
        line(&mut internet);
        let mut machine = Self {
            holder,
            systemd,
            internet: Mutex::new(internet),
            operator_id: 0,
            directory,
        };
        machine.wait_until_booted();
        machine.connect();
        machine.add_operator();
        machine.copy(
            Path::new(env!("CARGO_BIN_EXE_terok-clearance")),
            PROGRAM,
            0o755,
        );
        machine
    }

    fn wait_until_booted(&self) {
        let log = || {
            let log = std::fs::read_to_string(self.directory.path().join("log")).unwrap();
            format!("the machine does not boot: {log}")
        };
        until(|| self.path("/run/systemd/private").exists(), log);
        let mut systemctl = self.command(Account::Root, "systemctl is-system-running --wait");
        let state = told(&systemctl.output().unwrap());
        // Some unit of the root file system may not work in here.
        assert!(
            state.contains("running\n") || state.contains("degraded\n"),
            "{state}{}",
            log()
        );
    }

    /// Links the machine with the internet.
    fn connect(&self) {
        let pid = self.internet.lock().unwrap().id();
        let outside = |at: u32, script: &str| {
            let mut command = Command::new("nsenter");
            command.args(["-t", &at.to_string(), "-n", "sh", "-ec", script]);
            let output = command.output().unwrap();
            assert!(output.status.success(), "{}", told(&output));
        };
        let link = format!(
            "ip link set lo up; ip link add eth0 type veth peer name machine netns {pid}\n\
             ip link set eth0 up; ip address add 192.0.2.2/29 dev eth0\n\
             ip address add 2001:db8::2/64 dev eth0 nodad"
        );
        outside(self.systemd, &link);
        outside(
            pid,
            "ip link set machine up; ip address add 192.0.2.1/29 dev machine\n\
             ip address add 2001:db8::1/64 dev machine nodad",
        );
        outside(
            self.systemd,
            "ip route add default via 192.0.2.1; ip route add default via 2001:db8::1",
        );
        let mut internet = self.internet.lock().unwrap();
        writeln!(internet.stdin.as_mut().unwrap()).unwrap();
        assert_eq!(line(&mut internet), "ready");
        drop(internet);
        // The file may be a link to one of a service that does not run here.
        let resolver = format!("nameserver {RESOLVER}\n");
        self.done(
            Account::Root,
            &format!("rm -f /etc/resolv.conf; printf '{resolver}' >/etc/resolv.conf"),
        );
    }

    fn add_operator(&mut self) {
        let script = "useradd --create-home --shell /bin/bash op && loginctl enable-linger op && \
                      systemctl start user@$(id -u op) && id -u op";
        self.operator_id = self.done(Account::Root, script).parse().unwrap();
    }

    /// Returns the directory of a user's sockets.
    pub(crate) fn runtime_directory(&self, account: Account) -> String {
        match account {
            Account::Operator => format!("/run/user/{}", self.operator_id),
            Account::Root => "/run".to_owned(),
        }
    }

    /// Returns the path of a file of the machine for this process.
    pub(crate) fn path(&self, inside: &str) -> PathBuf {
        PathBuf::from(format!("/proc/{}/root{inside}", self.systemd))
    }

    /// Copies a file into the machine.
    pub(crate) fn copy(&self, from: &Path, to: &str, mode: u32) {
        use std::os::unix::fs::PermissionsExt as _;
        let to = self.path(to);
        // A running program cannot be written to.
        drop(std::fs::remove_file(&to));
        std::fs::copy(from, &to).unwrap();
        std::fs::set_permissions(&to, std::fs::Permissions::from_mode(mode)).unwrap();
    }

    /// Returns a command of a user on the machine that runs a shell script.
    pub(crate) fn command(&self, account: Account, script: &str) -> Command {
        let mut command = self.entering();
        let mut environment = vec![format!("PATH={PATH}"), "LANG=C.UTF-8".to_owned()];
        match account {
            Account::Operator => {
                let at = format!("/run/user/{}", self.operator_id);
                environment.extend([
                    "HOME=/home/op".to_owned(),
                    "USER=op".to_owned(),
                    format!("XDG_RUNTIME_DIR={at}"),
                    format!("DBUS_SESSION_BUS_ADDRESS=unix:path={at}/bus"),
                ]);
                command.args(["setpriv", "--reuid", "op", "--regid", "op", "--init-groups"]);
            }
            Account::Root => environment.extend(["HOME=/root", "USER=root"].map(str::to_owned)),
        }
        command.args(["env", "-i", "--chdir=/"]).args(environment);
        command.args(["sh", "-c", script]).stdin(Stdio::null());
        command
    }

    fn entering(&self) -> Command {
        let mut command = Command::new("nsenter");
        command.args([
            "-t",
            &self.systemd.to_string(),
            "-m",
            "-u",
            "-i",
            "-n",
            "-p",
        ]);
        command.args(["-C", "--"]);
        command
    }

    /// Runs a script.
    pub(crate) fn does(&self, account: Account, script: &str) -> Output {
        self.command(account, script).output().unwrap()
    }

    /// Runs a script that succeeds, and returns its output.
    pub(crate) fn done(&self, account: Account, script: &str) -> String {
        let output = self.does(account, script);
        assert!(output.status.success(), "{script}\n{}", told(&output));
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }

    /// Returns everything that says why something failed.
    pub(crate) fn messages(&self) -> String {
        let script = "cat /run/terok/containers/hook-error.log \
                      /run/user/*/terok/containers/hook-error.log; \
                      journalctl --no-pager --output short-precise -n 40 \
                      _COMM=terok-clearance + _COMM=systemd";
        told(&self.does(Account::Root, script))
    }

    /// Returns what has reached the servers and the link until now; `internet.py` and `servers.py`
    /// have the forms.
    pub(crate) fn events(&self) -> Vec<Value> {
        let mut internet = self.internet.lock().unwrap();
        writeln!(internet.stdin.as_mut().unwrap(), "events").unwrap();
        serde_json::from_str(&line(&mut internet)).unwrap()
    }

    /// Returns the events of one kind, as text without the kind and duplicates, in order.
    pub(crate) fn events_of(&self, kind: &str) -> Vec<String> {
        let events = self.events().into_iter().map(|event| match event {
            Value::Array(fields) => fields,
            other => panic!("{other}"),
        });
        let mut shown: Vec<String> = events
            .filter(|fields| fields[0] == kind)
            .map(|fields| {
                let mut text = String::new();
                for field in &fields[1..] {
                    match field {
                        Value::String(word) => write!(text, " {word}").unwrap(),
                        other => write!(text, " {other}").unwrap(),
                    }
                }
                text.trim_start().to_owned()
            })
            .collect();
        shown.sort();
        shown
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{}", self.messages());
        }
        let internet = self
            .internet
            .get_mut()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        internet.kill().unwrap();
        internet.wait().unwrap();
        drop(self.holder.stdin.take());
        self.holder.wait().unwrap();
    }
}

/// Waits for a condition.
pub(crate) fn until(mut holds: impl FnMut() -> bool, otherwise: impl FnOnce() -> String) {
    let begin = Instant::now();
    while !holds() {
        assert!(begin.elapsed() < PATIENCE, "{}", otherwise());
        std::thread::park_timeout(Duration::from_millis(5));
    }
}

/// Reads the next line of a child's output.
pub(crate) fn line(child: &mut Child) -> String {
    let mut line = String::new();
    let output = child.stdout.as_mut().unwrap();
    let mut byte = [0];
    while output.read(&mut byte).unwrap() == 1 && byte != *b"\n" {
        line.push(char::from(byte[0]));
    }
    line
}

/// Returns the status and the output of a command.
pub(crate) fn told(output: &Output) -> String {
    let [stdout, stderr] =
        [&output.stdout, &output.stderr].map(|text| String::from_utf8_lossy(text));
    format!("{}\n{stdout}{stderr}", output.status)
}
