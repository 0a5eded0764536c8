// SPDX-License-Identifier: Apache-2.0
//! A D-Bus session bus for a test: the real `dbus-daemon` with a private configuration.

use std::ffi::OsString;
use std::path::Path;
use std::process::{Command, Stdio};

use tempfile::TempDir;

use crate::child::ChildGuard;
use crate::directory::private_directory;

/// The bus name of notification services.
pub const NOTIFICATIONS_NAME: &str = "org.freedesktop.Notifications";

/// The configuration of a session bus that is not started yet.
#[derive(Debug)]
pub struct TestBusBuilder {
    directory: TempDir,
    environment: Vec<(OsString, OsString)>,
}

impl TestBusBuilder {
    /// Returns the configuration of a bus that cannot start services.
    pub fn new() -> Self {
        let directory = private_directory();
        std::fs::create_dir(directory.path().join("services")).unwrap();
        // Session buses usually have this limit of pending replies; the default is only 128.
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
  <limit name="max_replies_per_connection">50000</limit>
</busconfig>
"#,
            at = directory.path().display()
        );
        std::fs::write(directory.path().join("config"), config).unwrap();
        Self {
            directory,
            environment: Vec::new(),
        }
    }

    /// Returns the private directory of the bus, which is removed with the bus.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// Sets an environment variable for the bus and the services started by the bus.
    #[must_use]
    pub fn env(mut self, name: &str, value: impl Into<OsString>) -> Self {
        self.environment.push((name.into(), value.into()));
        self
    }

    /// Makes the bus start `exec`, an absolute path with arguments, when a program calls the
    /// notification service and no service runs.
    #[must_use]
    pub fn activate_notifications(self, exec: &str) -> Self {
        let service = format!("[D-BUS Service]\nName={NOTIFICATIONS_NAME}\nExec={exec}\n");
        let file = format!("services/{NOTIFICATIONS_NAME}.service");
        std::fs::write(self.directory().join(file), service).unwrap();
        self
    }

    /// Copies a service file of the system, if installed.
    #[must_use]
    pub fn service_file(self, file: &Path) -> Self {
        if file.exists() {
            let copy = self.directory().join("services");
            std::fs::copy(file, copy.join(file.file_name().unwrap())).unwrap();
        }
        self
    }

    /// Starts the bus and waits until it accepts connections.
    pub fn start(self) -> TestBus {
        let daemon = self.spawn();
        TestBus {
            daemon,
            builder: self,
        }
    }

    fn spawn(&self) -> ChildGuard {
        // Services started by the bus may outlive it, and must not keep a pipe of the test runner
        // open.
        let mut command = Command::new("dbus-daemon");
        command
            .arg(format!(
                "--config-file={}/config",
                self.directory().display()
            ))
            .args(["--nofork", "--print-address"])
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .stderr(Stdio::null());
        let (daemon, address) = ChildGuard::spawn_until_ready(&mut command);
        assert!(
            address.starts_with("unix:path="),
            "dbus-daemon printed {address:?}"
        );
        daemon
    }
}

impl Default for TestBusBuilder {
    fn default() -> Self {
        Self::new()
    }
}

/// A running session bus, ended on drop.
#[derive(Debug)]
pub struct TestBus {
    daemon: ChildGuard,
    builder: TestBusBuilder,
}

impl TestBus {
    /// Starts a bus that cannot start services.
    pub fn start() -> Self {
        TestBusBuilder::new().start()
    }

    /// Starts a bus that runs `exec` when a program calls the notification service.
    pub fn activating(exec: &str) -> Self {
        TestBusBuilder::new().activate_notifications(exec).start()
    }

    /// Returns the address for `DBUS_SESSION_BUS_ADDRESS`.
    pub fn address(&self) -> String {
        format!("unix:path={}/bus", self.directory().display())
    }

    /// Returns the private directory of the bus.
    pub fn directory(&self) -> &Path {
        self.builder.directory()
    }

    /// Kills the bus. No process listens at the address until [`Self::restart`].
    pub fn kill(&mut self) {
        self.daemon.kill().unwrap();
        self.daemon.wait().unwrap();
        // The next bus binds the same path.
        drop(std::fs::remove_file(self.directory().join("bus")));
    }

    /// Starts a killed bus at the same address.
    pub fn restart(&mut self) {
        self.daemon = self.builder.spawn();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns `true` if the name is owned, or if the bus can start the service of this name.
    fn knows(bus: &TestBus, name: &str) -> bool {
        let names = Command::new("dbus-send")
            .arg(format!("--bus={}", bus.address()))
            .args(["--print-reply", "--dest=org.freedesktop.DBus", "/"])
            .arg("org.freedesktop.DBus.ListActivatableNames")
            .output()
            .unwrap();
        assert!(names.status.success(), "{names:?}");
        String::from_utf8_lossy(&names.stdout).contains(name)
    }

    #[test]
    fn a_bus_starts_only_configured_services() {
        assert!(!knows(&TestBus::start(), NOTIFICATIONS_NAME));
        let bus = TestBus::activating("/bin/false");
        assert!(knows(&bus, NOTIFICATIONS_NAME));
    }

    #[test]
    fn a_restarted_bus_has_the_same_address() {
        let mut bus = TestBus::start();
        let socket = bus.directory().join("bus");
        bus.kill();
        assert!(!socket.exists());
        bus.restart();
        assert!(knows(&bus, "org.freedesktop.DBus"));
        drop(bus);
        assert!(!socket.exists());
    }
}
