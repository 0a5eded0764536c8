// SPDX-License-Identifier: Apache-2.0
//! Child processes that do not outlive a test.

use std::io::{BufRead as _, BufReader};
use std::ops::{Deref, DerefMut};
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};

/// A child process, killed on drop.
#[derive(Debug)]
pub struct ChildGuard(Child);

impl ChildGuard {
    /// Starts a program.
    pub fn spawn(command: &mut Command) -> Self {
        match command.spawn() {
            Ok(child) => Self(child),
            Err(error) => unreachable!("could not start {command:?}: {error}"),
        }
    }

    /// Starts a program and waits for its first line of output, which signals readiness. Returns
    /// this line.
    pub fn spawn_until_ready(command: &mut Command) -> (Self, String) {
        let mut child = Self::spawn(command.stdout(Stdio::piped()));
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap())
            .read_line(&mut line)
            .unwrap();
        assert!(!line.is_empty(), "{command:?} ended before it was ready");
        line.truncate(line.trim_end().len());
        (child, line)
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.0), signal).unwrap();
    }
}

impl Deref for ChildGuard {
    type Target = Child;

    fn deref(&self) -> &Child {
        &self.0
    }
}

impl DerefMut for ChildGuard {
    fn deref_mut(&mut self) -> &mut Child {
        &mut self.0
    }
}

impl Drop for ChildGuard {
    fn drop(&mut self) {
        // Fails if the child has ended and was waited for.
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dropped_guard_leaves_no_process() {
        let (child, line) = ChildGuard::spawn_until_ready(
            Command::new("sh")
                .args(["-c", "echo ready; exec cat"])
                .stdin(Stdio::piped()),
        );
        assert_eq!(line, "ready");
        let process = format!("/proc/{}", child.id());
        assert!(std::fs::exists(&process).unwrap());
        drop(child);
        assert!(!std::fs::exists(&process).unwrap());
    }

    #[test]
    #[should_panic(expected = "ended before it was ready")]
    fn a_program_without_output_fails_the_test() {
        ChildGuard::spawn_until_ready(&mut Command::new("true"));
    }
}
