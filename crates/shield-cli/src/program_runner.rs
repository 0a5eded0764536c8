// SPDX-License-Identifier: Apache-2.0
//! Runs the programs of the host: podman, nft, nsenter, dnsmasq and those for lookups.

use std::ffi::{OsStr, OsString};
use std::io;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use terok_clearance::DisplayText;
use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;
use tokio::time::timeout;

/// Runs programs of a search path, with the environment of the caller.
#[derive(Debug, Clone)]
pub struct ProgramRunner {
    search_path: OsString,
}

/// What a program printed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ProgramOutput {
    /// The program reported success.
    pub(crate) is_success: bool,
    /// Standard output.
    pub(crate) stdout: String,
    /// Standard error.
    pub(crate) stderr: String,
}

/// A program was not run to its end, or failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ProgramError {
    /// The program is not installed.
    #[error("{name} is not installed: no directory of PATH has it")]
    NotFound {
        /// The name of the program.
        name: String,
    },
    /// The program cannot be executed.
    #[error("cannot run {name}")]
    Run {
        /// The name of the program.
        name: String,
        /// The kernel error.
        #[source]
        source: io::Error,
    },
    /// The program was ended because it took too long.
    #[error("{name} took longer than {}", seconds(*limit))]
    TimedOut {
        /// The name of the program.
        name: String,
        /// The limit.
        limit: Duration,
    },
    /// The program reported a failure.
    #[error("{name} failed: {stderr}")]
    Failed {
        /// The name of the program.
        name: String,
        /// The start of its standard error.
        stderr: DisplayText,
    },
}

fn seconds(limit: Duration) -> String {
    format!("{} s", limit.as_secs())
}

impl ProgramRunner {
    /// Creates a runner for the programs of `search_path`, a `PATH`.
    pub const fn new(search_path: OsString) -> Self {
        Self { search_path }
    }

    /// Returns the path of a program.
    pub(crate) fn find(&self, name: &str) -> Option<PathBuf> {
        netns::find_program(name, &self.search_path)
    }

    /// Returns the path of a program, or an error.
    pub(crate) fn require(&self, name: &str) -> Result<PathBuf, ProgramError> {
        self.find(name).ok_or_else(|| ProgramError::NotFound {
            name: name.to_owned(),
        })
    }

    /// Runs a program to its end, which must be a success.
    pub(crate) async fn run(
        &self,
        name: &str,
        arguments: &[&OsStr],
        input: Option<&str>,
        limit: Duration,
    ) -> Result<String, ProgramError> {
        let output = self.run_any(name, arguments, input, limit).await?;
        if output.is_success {
            return Ok(output.stdout);
        }
        let stderr = output
            .stderr
            .split_whitespace()
            .collect::<Vec<_>>()
            .join(" ");
        Err(ProgramError::Failed {
            name: name.to_owned(),
            stderr: DisplayText::from_program_output(&stderr),
        })
    }

    /// Runs a program to its end; it is ended after `limit`.
    pub(crate) async fn run_any(
        &self,
        name: &str,
        arguments: &[&OsStr],
        input: Option<&str>,
        limit: Duration,
    ) -> Result<ProgramOutput, ProgramError> {
        let program = self.require(name)?;
        let failed = |source| ProgramError::Run {
            name: name.to_owned(),
            source,
        };
        let mut child = Command::new(program)
            .args(arguments)
            // Messages are compared, and shown, in one language.
            .env("LC_ALL", "C")
            .stdin(if input.is_some() {
                Stdio::piped()
            } else {
                Stdio::null()
            })
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .map_err(failed)?;
        let stdin = child.stdin.take();
        let feed = async {
            if let (Some(mut stdin), Some(input)) = (stdin, input) {
                // A program that reads no further reports its own error.
                drop(stdin.write_all(input.as_bytes()).await);
            }
        };
        let ended = timeout(limit, async {
            let ((), output) = tokio::join!(feed, child.wait_with_output());
            output
        });
        let output = match ended.await {
            Ok(output) => output.map_err(failed)?,
            Err(_) => {
                return Err(ProgramError::TimedOut {
                    name: name.to_owned(),
                    limit,
                });
            }
        };
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Ok(ProgramOutput {
            is_success: output.status.success(),
            stdout: text(&output.stdout),
            stderr: text(&output.stderr),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn shell(script: &str, input: Option<&str>) -> Result<String, ProgramError> {
        let runner = ProgramRunner::new("/usr/bin:/bin".into());
        let arguments = ["-c", script].map(OsStr::new);
        runner
            .run("sh", &arguments, input, Duration::from_millis(500))
            .await
    }

    #[tokio::test]
    async fn the_output_or_the_reason_is_returned() {
        assert_eq!(shell("echo a", None).await.unwrap(), "a\n");
        assert_eq!(shell("cat", Some("text")).await.unwrap(), "text");
        let failed = shell("echo 'no  such\nthing' >&2; exit 3", None).await;
        assert_eq!(failed.unwrap_err().to_string(), "sh failed: no such thing");
        let much = "x".repeat(1 << 20);
        assert_eq!(shell("exit 0", Some(&much)).await.unwrap(), "");
        assert_eq!(shell("cat", Some(&much)).await.unwrap(), much);
        let slow = shell("exec sleep 60", None).await.unwrap_err();
        assert_eq!(slow.to_string(), "sh took longer than 0 s");
        let runner = ProgramRunner::new("/nonexistent".into());
        let missing = runner.run("nft", &[], None, Duration::from_secs(1)).await;
        assert!(
            missing
                .unwrap_err()
                .to_string()
                .starts_with("nft is not installed")
        );
    }
}
