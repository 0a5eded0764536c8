// SPDX-License-Identifier: Apache-2.0
//! A desktop for one test: an X server, a session bus, a notification service; and us on it.

use std::io::{BufRead as _, BufReader};
use std::path::PathBuf;
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use desktop::popups::CLICK_GUARD_DELAY;
use tempfile::TempDir;

use crate::picture::{HEIGHT, Picture, WIDTH};

/// The services that draw buttons.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Service {
    Mate,
    Xfce,
    Gnome2,
}

impl Service {
    /// Where its package puts it; Debian and Ubuntu have a folder for each architecture.
    fn program(self) -> PathBuf {
        let pattern: &[&str] = match self {
            Self::Mate => &["/usr/lib/mate-notification-daemon/mate-notification-daemon"],
            Self::Xfce => &[
                "/usr/lib/x86_64-linux-gnu/xfce4/notifyd/xfce4-notifyd",
                "/usr/lib/aarch64-linux-gnu/xfce4/notifyd/xfce4-notifyd",
            ],
            Self::Gnome2 => &["/usr/lib/notification-daemon/notification-daemon"],
        };
        let mut known = pattern.iter().map(PathBuf::from);
        known
            .find(|program| program.exists())
            .unwrap_or_else(|| panic!("{self:?} is not installed: `./check setup` does it"))
    }
}

/// A program that ends with its test.
struct Program(Child);

impl Drop for Program {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

pub(crate) struct Desktop {
    service: Option<Program>,
    kind: Service,
    display: String,
    // In this order they end.
    _screen: Program,
    _bus: Program,
    directory: TempDir,
}

impl Desktop {
    /// One whose service runs.
    pub(crate) fn new(kind: Service) -> Self {
        let mut desktop = Self::bare(kind);
        desktop.start_service();
        desktop
    }

    /// One whose service does not run, and is started by the bus for whoever calls it.
    pub(crate) fn sleeping(kind: Service) -> Self {
        Self::empty(kind, true)
    }

    /// One without a service, until [`Self::start_service`].
    pub(crate) fn bare(kind: Service) -> Self {
        Self::empty(kind, false)
    }

    fn empty(kind: Service, startable: bool) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let place = directory.path();
        // What xfce4-notifyd keeps its settings with is all that this bus starts.
        let settings = "/usr/share/dbus-1/services/org.xfce.Xfconf.service";
        std::fs::create_dir(place.join("services")).unwrap();
        if std::fs::exists(settings).unwrap() {
            std::fs::copy(settings, place.join("services/org.xfce.Xfconf.service")).unwrap();
        }
        if startable {
            let service = format!(
                "[D-BUS Service]\nName=org.freedesktop.Notifications\nExec={}\n",
                kind.program().display()
            );
            let file = "services/org.freedesktop.Notifications.service";
            std::fs::write(place.join(file), service).unwrap();
        }
        let config = format!(
            r#"<busconfig>
  <type>session</type>
  <listen>unix:path={at}/bus</listen>
  <auth>EXTERNAL</auth>
  <servicedir>{at}/services</servicedir>
  <policy context="default">
    <allow send_destination="*" eavesdrop="true"/>
    <allow eavesdrop="true"/>
    <allow own="*"/>
  </policy>
</busconfig>
"#,
            at = place.display()
        );
        std::fs::write(place.join("config"), config).unwrap();
        let (screen, display) = start(
            Command::new("Xvfb")
                .args(["-displayfd", "1", "-nolisten", "tcp", "-screen", "0"])
                .arg(format!("{WIDTH}x{HEIGHT}x24"))
                .stderr(Stdio::null()),
        );
        let display = format!(":{}", display.trim());
        let mut bus = Command::new("dbus-daemon");
        // What it starts has its environment.
        bus.arg(format!("--config-file={}/config", place.display()))
            .args(["--nofork", "--print-address"])
            .stderr(Stdio::null())
            .env("HOME", place)
            .env("DISPLAY", &display)
            .env("GSETTINGS_BACKEND", "memory")
            .env("NO_AT_BRIDGE", "1");
        let (bus, _) = start(&mut bus);
        Self {
            service: None,
            kind,
            display,
            _screen: screen,
            _bus: bus,
            directory,
        }
    }

    /// Starts the service, and returns when it has its name.
    pub(crate) fn start_service(&mut self) {
        let mut command = self.on_it(self.kind.program());
        let command = command.stdout(Stdio::null()).stderr(Stdio::null());
        self.service = Some(Program(command.spawn().unwrap()));
        while !self.has_service() {
            let service = self.service.as_mut().unwrap();
            let ended = service.0.try_wait().unwrap();
            assert_eq!(ended, None, "{:?} ended", self.kind);
        }
    }

    /// Says whether anybody has the service's name.
    fn has_service(&self) -> bool {
        let said = self.ask_bus("NameHasOwner");
        said.contains("true")
    }

    /// Asks the bus about the service's name.
    fn ask_bus(&self, method: &str) -> String {
        let said = self
            .on_it("dbus-send")
            .args(["--print-reply=literal", "--dest=org.freedesktop.DBus", "/"])
            .arg(format!("org.freedesktop.DBus.{method}"))
            .arg("string:org.freedesktop.Notifications")
            .output()
            .unwrap();
        String::from_utf8_lossy(&said.stdout).into_owned()
    }

    /// Kills the service, and its popups with it.
    pub(crate) fn kill_service(&mut self) {
        self.service = None;
        // A next one ends at once while the bus takes this one for alive.
        while self.has_service() {}
        self.until(Picture::is_empty);
    }

    /// Kills the service that the bus started, and returns when the bus has started another.
    pub(crate) fn kill_started(&self) {
        let process = || {
            let said = self.ask_bus("GetConnectionUnixProcessID");
            said.split_whitespace().last()?.parse().ok()
        };
        let former: i32 = process().expect("the bus has started one");
        let pid = rustix::process::Pid::from_raw(former).unwrap();
        rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
        while process().is_none_or(|next| next == former) {}
    }

    pub(crate) fn bus(&self) -> String {
        format!("unix:path={}/bus", self.directory.path().display())
    }

    /// Returns a command that runs on this desktop and knows no other.
    pub(crate) fn on_it(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new(program);
        let place = self.directory.path();
        command
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("DISPLAY", &self.display)
            .env("DBUS_SESSION_BUS_ADDRESS", self.bus())
            .env("HOME", place)
            .env("XDG_RUNTIME_DIR", place)
            .env("GSETTINGS_BACKEND", "memory")
            .env("NO_AT_BRIDGE", "1");
        command
    }

    pub(crate) fn picture(&self) -> Picture {
        let taken = self
            .on_it("import")
            .args(["-silent", "-window", "root", "-depth", "8", "gray:-"])
            .output()
            .expect("import runs (package imagemagick)");
        assert_eq!(taken.stdout.len(), WIDTH * HEIGHT, "{taken:?}");
        Picture(taken.stdout)
    }

    /// Returns the first picture that is as `wanted` and stands still.
    pub(crate) fn until(&self, wanted: impl Fn(&Picture) -> bool) -> Picture {
        let mut last = self.picture();
        loop {
            let next = self.picture();
            if next == last && wanted(&next) {
                return next;
            }
            last = next;
        }
    }

    /// Returns the picture of a popup with two buttons.
    pub(crate) fn popup(&self) -> Picture {
        self.until(|picture| picture.buttons().len() == 2)
    }

    /// Looks at a popup for as long as a person needs at least, and then clicks on its button
    /// number `which` from the left.
    pub(crate) fn read_and_click(&self, which: usize) {
        self.popup();
        let shown = Instant::now();
        let picture = self.until(|picture| {
            picture.buttons().len() == 2
                && shown.elapsed() > CLICK_GUARD_DELAY + Duration::from_millis(50)
        });
        self.click(&picture, which);
    }

    pub(crate) fn click(&self, picture: &Picture, which: usize) {
        self.click_at(*picture.buttons().get(which).unwrap());
    }

    pub(crate) fn click_at(&self, (x, y): (usize, usize)) {
        let clicked = self
            .on_it("xdotool")
            .args(["mousemove", &x.to_string(), &y.to_string(), "click", "1"])
            .status()
            .expect("xdotool runs (package xdotool)");
        assert!(clicked.success());
    }

    /// Shows a question with two buttons and waits for its answer.
    pub(crate) fn ask(&self) -> Asking {
        Self::ask_by(&mut self.on_it(env!("CARGO_BIN_EXE_terok-clearance")))
    }

    pub(crate) fn ask_by(command: &mut Command) -> Asking {
        let mut child = command
            .args(["notify", "Blocked: api.example.com:443"])
            .arg("Container: x & <b>y</b>\nProtocol: TCP")
            .args(["--actions", "allow:Allow", "deny:Deny", "--wait"])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let said = BufReader::new(child.stdout.take().unwrap());
        let mut asking = Asking {
            program: Program(child),
            said,
        };
        assert_ne!(asking.line(), "0", "nobody sees it");
        asking
    }
}

/// `notify --wait`, once it is shown.
pub(crate) struct Asking {
    program: Program,
    said: BufReader<ChildStdout>,
}

impl Asking {
    /// Returns the next line of what it says, empty at the end.
    pub(crate) fn line(&mut self) -> String {
        let mut line = String::new();
        self.said.read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    }

    pub(crate) fn signal(&self, signal: rustix::process::Signal) {
        let id = rustix::process::Pid::from_child(&self.program.0);
        rustix::process::kill_process(id, signal).unwrap();
    }

    pub(crate) fn end(mut self) -> ExitStatus {
        self.program.0.wait().unwrap()
    }
}

/// Starts a program that says one line when it is ready; returns that line.
fn start(command: &mut Command) -> (Program, String) {
    let name = format!("{command:?}");
    let started = command.stdout(Stdio::piped()).spawn();
    let mut child = started.unwrap_or_else(|error| panic!("{name}: {error}"));
    let mut said = BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    said.read_line(&mut line).unwrap();
    assert!(!line.is_empty(), "{name} ended");
    (Program(child), line)
}
