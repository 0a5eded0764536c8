// SPDX-License-Identifier: Apache-2.0
//! A notification service on the session bus of the machine's user, that draws nothing.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, ChildStdout, Stdio};

use test_support::notification_service::{NotificationCall, RecordingNotificationService};

use super::machine::{Account, Machine};

/// The place of this program on the machine.
const TESTS: &str = "/usr/local/lib/container-tests";

/// The service. Ends on drop.
pub(crate) struct PopupService {
    child: Child,
    output: BufReader<ChildStdout>,
}

impl PopupService {
    /// Starts the service.
    pub(crate) fn start(machine: &Machine) -> Self {
        let own = std::env::current_exe().unwrap();
        machine.copy(Path::new(&own), TESTS, 0o755);
        let script = format!("exec {TESTS} --ignored --exact --nocapture popups::serve");
        let mut command = machine.command(Account::Operator, &script);
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        let mut service = Self { child, output };
        service.until("ready");
        service
    }

    /// Waits for a popup with this title; returns its id.
    pub(crate) fn popup(&mut self, title: &str) -> u32 {
        let line = self.until(&format!("popup {title}"));
        line.split(' ').next_back().unwrap().parse().unwrap()
    }

    /// Clicks on a button of a popup.
    pub(crate) fn click(&mut self, id: u32, key: &str) {
        writeln!(self.child.stdin.as_mut().unwrap(), "{id} {key}").unwrap();
    }

    /// Waits for a line that begins with a text, and returns it.
    fn until(&mut self, begin: &str) -> String {
        let mut said = Vec::new();
        loop {
            let mut line = String::new();
            let read = self.output.read_line(&mut line).unwrap();
            assert_ne!(read, 0, "no {begin} after {said:#?}");
            // The test harness prints lines of its own, and the beginning of one.
            if let Some((_, line)) = line.split_once("=> ")
                && line.starts_with(begin)
            {
                return line.trim_end().to_owned();
            }
            said.push(line);
        }
    }
}

impl Drop for PopupService {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        self.child.wait().unwrap();
    }
}

/// The service's process: prints popups, and reads clicks.
#[test]
#[ignore = "a process of other tests"]
fn serve() {
    let bus = std::env::var("DBUS_SESSION_BUS_ADDRESS").unwrap();
    let service = RecordingNotificationService::start(bus, |call| match call {
        NotificationCall::Notify { id, summary, .. } => println!("\n=> popup {summary} {id}"),
        NotificationCall::Close { id } => println!("\n=> closed {id}"),
    });
    println!("\n=> ready");
    for line in std::io::stdin().lines() {
        let line = line.unwrap();
        let (id, key) = line.split_once(' ').unwrap();
        service.click(id.parse().unwrap(), key);
    }
}
