// SPDX-License-Identifier: Apache-2.0
//! A process to talk with: what it prints is waited for, never slept for.

use std::fmt;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command};
use tokio::time::timeout;

/// How long a test waits for something that must come; beyond it, it fails and shows what came.
const PATIENCE: Duration = Duration::from_secs(30);

/// A process with its three streams; it ends with the test.
pub(crate) struct Running {
    name: String,
    child: Child,
    input: Option<ChildStdin>,
    output: Stream<ChildStdout>,
    errors: Stream<ChildStderr>,
}

/// What a process left.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) status: ExitStatus,
    /// What it printed and nobody took before.
    pub(crate) output: String,
    /// All of its standard error.
    pub(crate) errors: String,
}

impl fmt::Debug for Running {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = |bytes| String::from_utf8_lossy(bytes);
        let (output, errors) = (text(&self.output.came), text(&self.errors.came));
        write!(
            f,
            "{}, which printed:\n{output}\nand as errors:\n{errors}\n",
            self.name
        )
    }
}

impl Running {
    /// Starts it.
    pub(crate) fn start(command: &mut Command) -> Self {
        let piped = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = piped.kill_on_drop(true).spawn().unwrap();
        Self {
            name: format!("{:?}", command.as_std()),
            input: child.stdin.take(),
            output: Stream::new(child.stdout.take().unwrap()),
            errors: Stream::new(child.stderr.take().unwrap()),
            child,
        }
    }

    /// Fails if it has ended.
    pub(crate) fn alive(&mut self) {
        let ended = self.child.try_wait().unwrap();
        assert!(ended.is_none(), "{self:?} ended: {ended:?}");
    }

    /// Returns its process id.
    pub(crate) fn pid(&self) -> Pid {
        let id = self.child.id().expect("it has ended");
        Pid::from_raw(id.try_into().unwrap()).unwrap()
    }

    /// Types a line.
    pub(crate) async fn say(&mut self, line: &str) {
        let input = self.input.as_mut().expect("its input is closed");
        input
            .write_all(format!("{line}\n").as_bytes())
            .await
            .unwrap();
    }

    /// Types `text` as it is. It may have ended before it has read all.
    pub(crate) async fn type_in(&mut self, text: &str) {
        let input = self.input.as_mut().expect("its input is closed");
        drop(input.write_all(text.as_bytes()).await);
    }

    /// Waits for its end, its input left open.
    pub(crate) async fn wait(&mut self) -> ExitStatus {
        let ended = timeout(PATIENCE, self.child.wait()).await;
        ended.expect("it does not end").unwrap()
    }

    /// Returns what it prints up to the next `text`, included; later calls go on behind it.
    pub(crate) async fn until(&mut self, text: &str) -> String {
        let found = timeout(PATIENCE, self.output.until(text)).await;
        match found {
            Ok(Some(found)) => found,
            Ok(None) | Err(_) => panic!("no {text:?} from {self:?}"),
        }
    }

    /// The same of its standard error.
    pub(crate) async fn until_error(&mut self, text: &str) -> String {
        let found = timeout(PATIENCE, self.errors.until(text)).await;
        match found {
            Ok(Some(found)) => found,
            Ok(None) | Err(_) => panic!("no {text:?} in the errors of {self:?}"),
        }
    }

    /// Returns the next line that it prints, without its end.
    pub(crate) async fn line(&mut self) -> String {
        let line = self.until("\n").await;
        line.trim_end().to_owned()
    }

    /// Returns the next line that it prints, as JSON.
    pub(crate) async fn json(&mut self) -> Value {
        let line = self.line().await;
        serde_json::from_str(&line)
            .unwrap_or_else(|error| panic!("{error}: {line:?} from {self:?}"))
    }

    /// Returns the next line of JSON that it prints in which `key` is `value`.
    pub(crate) async fn json_where(&mut self, key: &str, value: &str) -> Value {
        loop {
            let line = self.json().await;
            if line[key] == value {
                return line;
            }
        }
    }

    /// Returns all that it has printed and somebody has waited for or past.
    pub(crate) fn seen(&self) -> String {
        String::from_utf8_lossy(&self.output.came).into_owned()
    }

    /// Sends it a signal.
    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(self.pid(), signal).unwrap();
    }

    /// Closes its input, waits for its end, and returns what is left.
    pub(crate) async fn end(mut self) -> Ended {
        drop(self.input.take());
        let rest = async {
            let (output, errors) = tokio::join!(self.output.rest(), self.errors.rest());
            let status = self.child.wait().await.unwrap();
            Ended {
                status,
                output,
                errors,
            }
        };
        timeout(PATIENCE, rest).await.expect("it does not end")
    }
}

/// Bytes that came, and how many of them were taken.
struct Stream<S> {
    from: S,
    came: Vec<u8>,
    taken: usize,
}

impl<S: tokio::io::AsyncRead + Unpin> Stream<S> {
    const fn new(from: S) -> Self {
        Self {
            from,
            came: Vec::new(),
            taken: 0,
        }
    }

    async fn until(&mut self, text: &str) -> Option<String> {
        loop {
            let new = &self.came[self.taken..];
            let found = new
                .windows(text.len())
                .position(|window| window == text.as_bytes());
            if let Some(at) = found {
                let end = self.taken + at + text.len();
                let found = String::from_utf8_lossy(&self.came[self.taken..end]).into_owned();
                self.taken = end;
                return Some(found);
            }
            if self.from.read_buf(&mut self.came).await.unwrap() == 0 {
                return None;
            }
        }
    }

    async fn rest(&mut self) -> String {
        self.from.read_to_end(&mut self.came).await.unwrap();
        String::from_utf8_lossy(&self.came[self.taken..]).into_owned()
    }
}
