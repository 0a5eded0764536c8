// SPDX-License-Identifier: Apache-2.0
//! A desktop for one test: an X server, a session bus and a notification service.

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{ChildStdout, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use desktop::popups::CLICK_GUARD_DELAY;
use test_support::child::ChildGuard;
use test_support::test_bus::{TestBus, TestBusBuilder};

use crate::picture::{HEIGHT, Picture, WIDTH};

/// Notification services; all but dunst have buttons.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Service {
    Mate,
    Xfce,
    Gnome2,
    Dunst,
}

impl Service {
    /// The path in the package; Debian and Ubuntu have a directory for each architecture.
    fn program(self) -> PathBuf {
        let pattern: &[&str] = match self {
            Self::Mate => &["/usr/lib/mate-notification-daemon/mate-notification-daemon"],
            Self::Xfce => &[
                "/usr/lib/x86_64-linux-gnu/xfce4/notifyd/xfce4-notifyd",
                "/usr/lib/aarch64-linux-gnu/xfce4/notifyd/xfce4-notifyd",
            ],
            Self::Gnome2 => &["/usr/lib/notification-daemon/notification-daemon"],
            Self::Dunst => &["/usr/bin/dunst"],
        };
        let mut known = pattern.iter().map(PathBuf::from);
        known
            .find(|program| program.exists())
            .unwrap_or_else(|| panic!("{self:?} is not installed: `./check setup` does it"))
    }
}

pub(crate) struct Desktop {
    service: Option<ChildGuard>,
    kind: Service,
    display: String,
    // Fields are dropped in this order.
    _screen: ChildGuard,
    bus: TestBus,
}

impl Desktop {
    /// Returns a desktop with a running service.
    pub(crate) fn new(kind: Service) -> Self {
        let mut desktop = Self::bare(kind);
        desktop.start_service();
        desktop
    }

    /// Returns a desktop without a running service; the bus starts one on demand.
    pub(crate) fn sleeping(kind: Service) -> Self {
        Self::empty(kind, true)
    }

    /// Returns a desktop without a service, until [`Self::start_service`].
    pub(crate) fn bare(kind: Service) -> Self {
        Self::empty(kind, false)
    }

    fn empty(kind: Service, startable: bool) -> Self {
        let (screen, display) = ChildGuard::spawn_until_ready(
            Command::new("Xvfb")
                .args(["-displayfd", "1", "-nolisten", "tcp", "-screen", "0"])
                .arg(format!("{WIDTH}x{HEIGHT}x24"))
                .stderr(Stdio::null()),
        );
        let display = format!(":{display}");
        // xfce4-notifyd stores its settings there.
        let settings = "/usr/share/dbus-1/services/org.xfce.Xfconf.service";
        let bus = TestBusBuilder::new().service_file(Path::new(settings));
        let home = bus.directory().to_owned();
        if matches!(kind, Service::Dunst) {
            // Light, as the other services are, with the settings of the package otherwise.
            let settings = home.join(".config/dunst/dunstrc.d");
            std::fs::create_dir_all(&settings).unwrap();
            let white =
                "background = \"#ffffff\"\nforeground = \"#000000\"\nframe_color = \"#ffffff\"";
            let sections =
                ["low", "normal", "critical"].map(|it| format!("[urgency_{it}]\n{white}\n"));
            std::fs::write(settings.join("10-light.conf"), sections.concat()).unwrap();
        }
        let mut bus = bus
            .env("HOME", home)
            .env("DISPLAY", &display)
            .env("GSETTINGS_BACKEND", "memory")
            .env("NO_AT_BRIDGE", "1");
        if startable {
            bus = bus.activate_notifications(kind.program().to_str().unwrap());
        }
        Self {
            service: None,
            kind,
            display,
            _screen: screen,
            bus: bus.start(),
        }
    }

    /// Starts the service and waits until it owns its name.
    pub(crate) fn start_service(&mut self) {
        let mut command = self.on_it(self.kind.program());
        let command = command.stdout(Stdio::null()).stderr(Stdio::null());
        self.service = Some(ChildGuard::spawn(command));
        while !self.has_service() {
            let service = self.service.as_mut().unwrap();
            let ended = service.try_wait().unwrap();
            assert_eq!(ended, None, "{:?} ended", self.kind);
        }
    }

    /// Returns `true` if the service's name has an owner.
    fn has_service(&self) -> bool {
        let said = self.ask_bus("NameHasOwner");
        said.contains("true")
    }

    /// Calls a method of the bus with the service's name.
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

    /// Kills the service, and with it the popups.
    pub(crate) fn kill_service(&mut self) {
        self.service = None;
        // A new service would end at once while the bus still lists the old owner.
        while self.has_service() {}
        self.until(Picture::is_empty);
    }

    /// Kills the service that the bus started, and waits until the bus has started another one.
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
        self.bus.address()
    }

    /// Returns a command that runs on this desktop.
    pub(crate) fn on_it(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new(program);
        let place = self.bus.directory();
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

    /// Returns the first picture that satisfies `wanted` and does not change any more.
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
        self.until(|picture| picture.buttons().len() >= 2)
    }

    /// Waits for the click guard's time and then clicks on button number `which` from the left.
    pub(crate) fn read_and_click(&self, which: usize) {
        self.popup();
        let shown = Instant::now();
        let picture = self.until(|picture| {
            picture.buttons().len() >= 2
                && shown.elapsed() > CLICK_GUARD_DELAY + Duration::from_millis(50)
        });
        self.click(&picture, which);
    }

    /// Waits for the click guard's time and then clicks on a place of the popup.
    pub(crate) fn read_and_click_at(&self, place: impl Fn(&Picture) -> Option<(usize, usize)>) {
        let shown = Instant::now();
        let picture = self.until(|picture| {
            place(picture).is_some()
                && shown.elapsed() > CLICK_GUARD_DELAY + Duration::from_millis(50)
        });
        self.click_at(place(&picture).unwrap());
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

    /// Shows a question with two buttons.
    pub(crate) fn ask(&self) -> Asking {
        Self::ask_by(&mut self.on_it(env!("CARGO_BIN_EXE_terok-clearance")))
    }

    pub(crate) fn ask_by(command: &mut Command) -> Asking {
        let command = command
            .args(["notify", "Blocked: api.example.com:443"])
            .arg("Container: x & <b>y</b>\nProtocol: TCP")
            .args(["--actions", "allow:Allow", "deny:Deny", "--wait"])
            .stdout(Stdio::piped());
        let mut program = ChildGuard::spawn(command);
        let said = BufReader::new(program.stdout.take().unwrap());
        let mut asking = Asking { program, said };
        assert_ne!(asking.line(), "0", "the notification is not shown");
        asking
    }
}

/// A running `notify --wait`.
pub(crate) struct Asking {
    program: ChildGuard,
    said: BufReader<ChildStdout>,
}

impl Asking {
    /// Returns the next line of the output, empty at the end.
    pub(crate) fn line(&mut self) -> String {
        let mut line = String::new();
        self.said.read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    }

    pub(crate) fn signal(&self, signal: rustix::process::Signal) {
        self.program.signal(signal);
    }

    pub(crate) fn end(mut self) -> ExitStatus {
        self.program.wait().unwrap()
    }
}
