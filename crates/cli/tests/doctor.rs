// SPDX-License-Identifier: Apache-2.0
//! `doctor` on this machine, and on machines that lack something: a mount or a user namespace of
//! the test changes what the program finds.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking, its helpers too"
)]

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use serde_json::Value;
use tempfile::TempDir;
use test_support::directory::{private_directory, write_script};
use test_support::notification_service::RecordingNotificationService;
use test_support::test_bus::TestBus;

const PROGRAM: &str = env!("CARGO_BIN_EXE_terok-clearance");
const SEARCH_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// A user with an empty home directory, which is the runtime directory too.
struct Host {
    home: TempDir,
}

impl Host {
    fn new() -> Self {
        Self {
            home: private_directory(),
        }
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command
            .env_clear()
            .env("PATH", SEARCH_PATH)
            .env("HOME", self.home.path())
            .env("XDG_RUNTIME_DIR", self.home.path())
            .stdin(Stdio::null());
        command
    }

    /// Examines this machine.
    fn examine(&self) -> Report {
        let mut command = self.command(PROGRAM);
        Report::of(&command.args(["doctor", "--json"]).output().unwrap())
    }

    /// Examines a machine that `script` has changed, as root of a user namespace with mounts of its
    /// own.
    fn examine_after(&self, script: &str) -> Report {
        let script = format!("{script}\nexec \"$@\"");
        let mut command = self.command("unshare");
        command
            .args(["--user", "--map-root-user", "--mount", "sh", "-ec", &script])
            .args(["sh", PROGRAM, "doctor", "--json"]);
        Report::of(&command.output().unwrap())
    }

    /// Writes a file below the home directory, and returns its path.
    fn write(&self, name: &str, text: &str) -> String {
        let path = self.home.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    }
}

/// The findings of a run.
struct Report {
    findings: Vec<Value>,
    status: i32,
}

impl Report {
    fn of(output: &Output) -> Self {
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        let findings: Vec<Value> = serde_json::from_slice(&output.stdout)
            .unwrap_or_else(|error| panic!("{error}: {stderr}"));
        let report = Self {
            findings,
            status: output.status.code().unwrap(),
        };
        report.check_form();
        report
    }

    /// Each finding has its fields; what is no pass has a fix, and a failure is the exit status.
    fn check_form(&self) {
        let mut failures = 0;
        for finding in &self.findings {
            let fields = finding.as_object().unwrap();
            let names: Vec<_> = fields.keys().map(String::as_str).collect();
            assert_eq!(
                names,
                ["check", "fix", "found", "group", "status"],
                "{finding}"
            );
            let is_pass = finding["status"] == "pass";
            assert_eq!(finding["fix"].is_null(), is_pass, "{finding}");
            failures += i32::from(finding["status"] == "failure");
        }
        assert_eq!(self.status, i32::from(failures > 0));
    }

    #[track_caller]
    fn find(&self, check: &str) -> &Value {
        let mut found = self
            .findings
            .iter()
            .filter(|finding| finding["check"] == check);
        found
            .next()
            .unwrap_or_else(|| panic!("no {check} in {:?}", self.findings))
    }

    #[track_caller]
    fn assert(&self, check: &str, status: &str, found: &str, fix: &str) {
        let finding = self.find(check);
        assert_eq!(finding["status"], status, "{finding}");
        assert!(
            finding["found"].as_str().unwrap().contains(found),
            "{finding}"
        );
        assert!(
            finding["fix"].as_str().unwrap_or_default().contains(fix),
            "{finding}"
        );
    }

    fn has(&self, check: &str) -> bool {
        self.findings
            .iter()
            .any(|finding| finding["check"] == check)
    }
}

/// Returns the paths below a directory.
fn tree(directory: &Path) -> Vec<String> {
    let mut command = Command::new("find");
    let listed = command.arg(directory).args(["-printf", "%P %y %m %s\\n"]);
    let listed = String::from_utf8(listed.output().unwrap().stdout).unwrap();
    let mut lines: Vec<_> = listed.lines().map(str::to_owned).collect();
    lines.sort();
    lines
}

#[test]
fn this_machine_runs_commands_and_nothing_is_changed() {
    let host = Host::new();
    let before = tree(host.home.path());
    let report = host.examine();
    for check in [
        "process-descriptors",
        "user-namespaces",
        "virtual-links",
        "nftables",
        "packet-log",
        "system-call-filter",
        "filtered-rules",
        "runtime-directory",
        "record",
        "configuration",
        "organisation",
    ] {
        report.assert(check, "pass", "", "");
    }
    assert!(
        report.find("kernel")["found"]
            .as_str()
            .unwrap()
            .starts_with("Linux ")
    );
    assert_eq!(tree(host.home.path()), before);
}

#[test]
fn the_report_is_a_table_in_groups() {
    let host = Host::new();
    let run = |args: &[&str], variable: Option<&str>| {
        let mut command = host.command(PROGRAM);
        command.args(args).envs(variable.map(|name| (name, "1")));
        String::from_utf8(command.output().unwrap().stdout).unwrap()
    };
    let text = run(&["doctor"], None);
    let at = |heading: &str| {
        text.find(heading)
            .unwrap_or_else(|| panic!("{heading}: {text}"))
    };
    assert!(at("To run commands\n") < at("\nTo guard containers\n"));
    assert!(at("\nTo guard containers\n") < at("\nTo show popups\n"));
    assert!(
        text.contains("\n  pass     user-namespaces       a sandbox was built\n"),
        "{text}"
    );
    assert!(!text.contains('\u{1b}'));
    let colored = run(&["--color", "always", "doctor"], None);
    assert!(
        colored.contains("\u{1b}[32mpass     \u{1b}[0m"),
        "{colored}"
    );
    assert!(!run(&["doctor"], Some("NO_COLOR")).contains('\u{1b}'));
}

#[test]
fn a_machine_without_user_namespaces_is_told_the_setting() {
    let report = Host::new().examine_after("echo 0 > /proc/sys/user/max_user_namespaces");
    report.assert(
        "user-namespaces",
        "failure",
        "the limit of user namespaces is zero",
        "user.max_user_namespaces",
    );
    for check in [
        "virtual-links",
        "nftables",
        "packet-log",
        "system-call-filter",
    ] {
        report.assert(check, "warning", "not checked", "fix user-namespaces first");
    }
    assert_eq!(report.status, 1);
}

#[test]
fn a_missing_program_is_installed_by_the_package_manager_of_the_distribution() {
    for (ids, expected) in [
        ("ID=debian", "apt-get install podman crun uidmap"),
        ("ID=fedora", "dnf install podman crun shadow-utils"),
        (
            "ID=endeavouros\nID_LIKE=arch",
            "pacman -S --needed podman crun shadow",
        ),
        (
            "ID=opensuse-leap\nID_LIKE='suse opensuse'",
            "zypper install podman crun shadow",
        ),
    ] {
        let host = Host::new();
        let release = host.write("os-release", ids);
        let report = host.examine_after(&format!(
            "mount --bind {release} \"$(readlink -f /etc/os-release)\"; PATH=/nonexistent"
        ));
        report.assert("podman", "warning", "not installed", expected);
        // Without podman, one line about containers is enough; the kernel was tried out.
        let containers = report
            .findings
            .iter()
            .filter(|one| one["group"] == "containers");
        let names: Vec<_> = containers
            .map(|one| one["check"].as_str().unwrap())
            .collect();
        assert_eq!(names, ["filtered-rules", "podman"]);
    }
}

#[test]
fn podman_and_its_runtime_are_named_with_their_versions() {
    let report = Host::new().examine();
    report.assert("podman", "pass", "podman version ", "");
    report.assert("oci-runtime", "pass", "version", "");
    report.assert("hooks", "warning", "not installed", "terok-clearance setup");
    assert!(!report.has("units") && !report.has("start-socket"));
    report.assert("other-stacks", "pass", "none", "");
}

#[test]
fn a_broken_configuration_of_podman_is_found() {
    let host = Host::new();
    let conf = host.write("containers.conf", "[engine\nruntime = 'crun'\n");
    let report = host.examine_after(&format!(
        "mount -t tmpfs none /etc/containers; cp {conf} /etc/containers/"
    ));
    report.assert(
        "containers-conf",
        "failure",
        "starts no container: /etc/containers/containers.conf: unclosed table",
        "correct /etc/containers/containers.conf",
    );
}

#[test]
fn a_program_that_hangs_is_no_reason_to_wait() {
    let host = Host::new();
    let bin = host.home.path().join("bin");
    fs::create_dir(&bin).unwrap();
    for name in ["podman", "systemctl"] {
        write_script(&bin, name, "exec sleep 600");
    }
    let silent = UnixListener::bind(host.home.path().join("bus")).unwrap();
    let mut command = host.command(PROGRAM);
    command.env("PATH", format!("{}:{SEARCH_PATH}", bin.display()));
    // The programs sleep for longer than a test may run.
    let report = Report::of(&command.args(["doctor", "--json"]).output().unwrap());
    report.assert("podman", "failure", "podman does not answer", "");
    report.assert(
        "service-manager",
        "warning",
        "systemctl does not answer",
        "",
    );
    report.assert("session-bus", "warning", "does not answer", "");
    drop(silent);
}

#[test]
fn a_runtime_directory_that_is_open_to_others_is_found() {
    let host = Host::new();
    fs::set_permissions(host.home.path(), fs::Permissions::from_mode(0o750)).unwrap();
    let report = host.examine();
    let fix = format!("chmod 700 {}", host.home.path().display());
    report.assert("runtime-directory", "failure", "mode 0750", &fix);
    let mut command = host.command(PROGRAM);
    command.env("XDG_RUNTIME_DIR", "/nonexistent/run");
    let report = Report::of(&command.args(["doctor", "--json"]).output().unwrap());
    report.assert(
        "runtime-directory",
        "failure",
        "/nonexistent/run",
        "XDG_RUNTIME_DIR",
    );
}

#[test]
fn a_configuration_with_an_error_is_found() {
    let host = Host::new();
    host.write(
        ".config/terok-clearance/config.toml",
        "[run]\nholdd = '5m'\n",
    );
    let report = host.examine();
    report.assert(
        "configuration",
        "failure",
        "unknown key `holdd`",
        "config check",
    );
}

#[test]
fn a_record_without_space_or_rights_is_found() {
    let host = Host::new();
    let state = host.home.path().join(".local/state");
    fs::create_dir_all(&state).unwrap();
    let state = state.display();
    let report = host.examine_after(&format!("mount -t tmpfs -o size=1m none {state}"));
    report.assert("record", "failure", "MiB free", "free some space");
    let report = host.examine_after(&format!("mount -t tmpfs -o size=1m,ro none {state}"));
    report.assert("record", "failure", "cannot be written", "");
}

#[test]
fn the_notification_service_is_named_with_what_it_can_do() {
    let host = Host::new();
    let bus = TestBus::start();
    let examine = |display: bool| {
        let mut command = host.command(PROGRAM);
        command.env("DBUS_SESSION_BUS_ADDRESS", bus.address());
        command.envs(display.then_some(("DISPLAY", ":99")));
        Report::of(&command.args(["doctor", "--json"]).output().unwrap())
    };
    let report = examine(false);
    report.assert("session-bus", "pass", "connected", "");
    report.assert(
        "notification-service",
        "warning",
        "none runs",
        "xfce4-notifyd",
    );
    assert!(!report.has("notifier"));
    examine(true).assert(
        "notification-service",
        "failure",
        "none runs",
        "xfce4-notifyd",
    );

    let service = RecordingNotificationService::start(bus.address(), |_| {});
    let report = examine(true);
    report.assert(
        "notification-service",
        "pass",
        "recorder 1 of terok: actions, body",
        "",
    );
    report.assert(
        "notifier",
        "warning",
        "does not run",
        "terok-clearance notifier",
    );
    drop(service);
}
