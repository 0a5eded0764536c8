// SPDX-License-Identifier: Apache-2.0
//! Takes over from the hook's reader of a container: finds the process by `reader.pid`, ends and
//! later restarts the reader.
//!
//! A process id in a file may have been reused. The process is therefore opened as a pidfd before
//! inspection, so that the signal reaches the inspected process and no other.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::fs;
use std::os::unix::ffi::OsStringExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use netns::ProcessHandle;
use rustix::process::Signal;
use terok_clearance::DisplayText;
use tokio::time::timeout;

use crate::container::ShieldContainer;
use crate::{HookRestartError, SimpleClearanceError};

/// Maximum time for the reader to end after SIGTERM, the same as in the hook.
const TERMINATE_TIMEOUT: Duration = Duration::from_secs(2);

/// A running reader of the hook.
#[derive(Debug)]
pub(crate) struct HookReader {
    process: ProcessHandle,
    state_dir: PathBuf,
    command: Vec<OsString>,
    environment: Vec<(OsString, OsString)>,
}

/// An ended reader, with the information for a restart.
#[derive(Debug)]
pub(crate) struct StoppedHookReader {
    state_dir: PathBuf,
    command: Vec<OsString>,
    environment: Vec<(OsString, OsString)>,
}

impl HookReader {
    /// Returns the hook's reader of `container`, if it runs.
    pub(crate) fn find(container: &ShieldContainer) -> Option<Self> {
        let state = container.state_dir();
        let pid = fs::read_to_string(state.join("reader.pid")).ok()?;
        let process = ProcessHandle::open(pid.trim().parse().ok()?).ok()?;
        let of = |file: &str| fs::read(format!("/proc/{}/{file}", process.pid())).ok();
        let command = split_nul_strings(&of("cmdline")?);
        let environment = of("environ").unwrap_or_default();
        // The process is still alive after the reads, so the reads were about this process.
        let is_it = is_reader_of(&command, state) && process.is_alive();
        is_it.then(|| Self {
            state_dir: state.to_owned(),
            environment: split_nul_strings(&environment)
                .into_iter()
                .filter_map(parse_variable)
                .collect(),
            command,
            process,
        })
    }

    /// Ends the reader, with the processes that entered the container's namespace.
    pub(crate) async fn terminate(self) -> Result<StoppedHookReader, SimpleClearanceError> {
        let Self {
            process,
            state_dir: state,
            command,
            environment,
        } = self;
        let group = open_process_group(process.pid());
        for signal in [Signal::TERM, Signal::KILL] {
            for member in &group {
                if let Err(error) = member.send_signal(signal) {
                    tracing::debug!(%error, pid = member.pid(), "the process has ended");
                }
            }
            let ended = async {
                for member in &group {
                    member.wait_for_exit().await?;
                }
                Ok::<_, std::io::Error>(())
            };
            if let Ok(ended) = timeout(TERMINATE_TIMEOUT, ended).await {
                ended.map_err(SimpleClearanceError::WaitForHookReader)?;
                return Ok(StoppedHookReader {
                    state_dir: state,
                    command,
                    environment,
                });
            }
        }
        Err(SimpleClearanceError::HookReaderNotEnded { pid: process.pid() })
    }
}

impl fmt::Display for HookReader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let words: Vec<_> = self
            .command
            .iter()
            .map(|word| word.to_string_lossy())
            .collect();
        let command = DisplayText::new(&words.join(" "));
        write!(f, "process {} ({command})", self.process.pid())
    }
}

impl StoppedHookReader {
    /// Starts the reader again as the hook does, in a new session and with `reader.log` and
    /// `reader.pid`, and returns the process id.
    pub(crate) fn restart(self) -> Result<u32, HookRestartError> {
        let log = fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.state_dir.join("reader.log"))
            .map_err(HookRestartError::OpenLog)?;
        let (program, arguments) = self
            .command
            .split_first()
            .ok_or(HookRestartError::NoCommand)?;
        // A process that leads no group yet can make itself a session; setsid(1) does.
        let mut command = Command::new("setsid");
        command
            .arg(program)
            .args(arguments)
            .env_clear()
            .envs(self.environment)
            .stdin(Stdio::null())
            .stdout(log.try_clone().map_err(HookRestartError::OpenLog)?)
            .stderr(log)
            .current_dir("/");
        let child = command.spawn().map_err(HookRestartError::Start)?;
        let written = fs::write(
            self.state_dir.join("reader.pid"),
            format!("{}\n", child.id()),
        );
        written.map_err(HookRestartError::WritePid)?;
        Ok(child.id())
    }
}

/// Opens all processes in the process group of `leader`, including `leader`.
fn open_process_group(leader: u32) -> Vec<ProcessHandle> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let in_group = |pid: u32| {
        let process = ProcessHandle::open(pid).ok()?;
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        (pid == leader || parse_process_group(&stat) == Some(leader)).then_some(process)
    };
    pids.filter_map(in_group).collect()
}

/// Returns the process group from the text of `/proc/PID/stat`. The name field may contain any
/// bytes.
fn parse_process_group(stat: &str) -> Option<u32> {
    let (_, behind) = stat.rsplit_once(')')?;
    behind.split_whitespace().nth(2)?.parse().ok()
}

/// Returns `true` for the command line of a reader that serves the state directory `state` and
/// reports to a hub. The reader is the Python script or the `reader` of this program.
fn is_reader_of(command: &[OsString], state: &Path) -> bool {
    let called = |at: usize, known: &str| {
        let name = command.get(at).and_then(|word| Path::new(word).file_name());
        name == Some(OsStr::new(known))
    };
    let is_reader = |at: usize| {
        let script = called(at, "nflog-reader.py") || called(at, "nflog_reader.py");
        let ours = command.get(at).is_some_and(|word| word == "reader");
        (at > 0 && (script || ours)) || (at == 0 && called(at, "nflog-reader"))
    };
    (0..command.len()).any(|at| {
        let behind = command.get(at.saturating_add(1)..).unwrap_or_default();
        // Arguments: state directory, container, options.
        let [directory, _, options @ ..] = behind else {
            return false;
        };
        is_reader(at)
            && is_same_dir(directory, state)
            && options.iter().any(|it| it == "--emit=socket")
    })
}

fn is_same_dir(directory: &OsStr, state: &Path) -> bool {
    let directory = Path::new(directory);
    directory == state
        || directory
            .canonicalize()
            .is_ok_and(|resolved| resolved == state)
}

/// Splits a file of NUL-terminated strings in `/proc/PID`.
fn split_nul_strings(bytes: &[u8]) -> Vec<OsString> {
    let bytes = bytes.strip_suffix(b"\0").unwrap_or(bytes);
    let parts = bytes.split(|byte| *byte == 0);
    parts
        .map(|part| OsString::from_vec(part.to_vec()))
        .collect()
}

fn parse_variable(text: OsString) -> Option<(OsString, OsString)> {
    let bytes = text.into_vec();
    let at = bytes.iter().position(|byte| *byte == b'=')?;
    let (name, value) = bytes.split_at_checked(at)?;
    let value = value.get(1..).unwrap_or_default();
    let text = |bytes: &[u8]| OsString::from_vec(bytes.to_vec());
    Some((text(name), text(value)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_reader_of_the_container_is_recognized() {
        let state = Path::new("/s/containers/web");
        let check = |line: &str, expected: bool| {
            let command: Vec<_> = line.split(' ').map(OsString::from).collect();
            assert_eq!(is_reader_of(&command, state), expected, "{line}");
        };
        let sd = "/s/containers/web";
        check(
            &format!(
                "/usr/bin/python3 -I /d/nflog-reader.py {sd} web --emit=socket --annotations={{}}"
            ),
            true,
        );
        check(
            &format!("python3.13 /d/nflog-reader.py {sd} web --emit=socket"),
            true,
        );
        check(
            &format!("/bin/terok-clearance reader {sd} web --emit=socket"),
            true,
        );
        check(
            &format!("/bin/terok-clearance reader {sd} web --emit=json"),
            false,
        );
        check(
            "python3 -I /d/nflog-reader.py /s/containers/other web --emit=socket",
            false,
        );
        check(&format!("vi /d/nflog-reader.py {sd}"), false);
        check(&format!("reader {sd} web --emit=socket"), false);
        check(&format!("/bin/nflog-reader {sd} web --emit=socket"), true);
        check(&format!("cat {sd} web --emit=socket"), false);
        check("", false);
    }

    #[test]
    fn the_process_group_is_parsed_after_any_process_name() {
        assert_eq!(parse_process_group("7 (a) 1 2) S 1 42 42 0"), Some(42));
        assert_eq!(parse_process_group("garbled"), None);
    }

    #[test]
    fn files_of_nul_terminated_strings_are_split() {
        assert_eq!(split_nul_strings(b"a\0\0b c\0"), ["a", "", "b c"]);
        assert_eq!(
            parse_variable("A=b=c".into()),
            Some(("A".into(), "b=c".into()))
        );
        assert_eq!(parse_variable("nothing".into()), None);
    }
}
