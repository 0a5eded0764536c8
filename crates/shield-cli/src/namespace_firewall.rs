// SPDX-License-Identifier: Apache-2.0
//! The firewall in the network namespace of a container, read and changed with `nft`.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::time::Duration;

use netns::{EnterError, NamespaceFiles, NetnsRef, ProcessHandle};

use crate::posture::{PostureFault, ShieldPosture};
use crate::program_runner::{ProgramError, ProgramOutput, ProgramRunner};
use crate::table_listing::TableListing;

/// The limit for one call of `nft`.
const NFT_TIMEOUT: Duration = Duration::from_secs(5);

/// The firewall of one container.
#[derive(Debug)]
pub(crate) struct NamespaceFirewall {
    runner: ProgramRunner,
    /// `None` if the caller is inside already.
    files: Option<NamespaceFiles>,
}

/// A firewall cannot be read or changed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FirewallError {
    /// The container's process is gone.
    #[error("the container has no process {pid} any more")]
    NoProcess {
        /// The process.
        pid: u32,
        /// The kernel error.
        #[source]
        source: io::Error,
    },
    /// The network namespace cannot be entered.
    #[error("cannot find the network namespace of process {pid}")]
    Enter {
        /// The process.
        pid: u32,
        /// The cause.
        #[source]
        source: EnterError,
    },
    /// `nft` failed; the firewall is unchanged.
    #[error(transparent)]
    Program(#[from] ProgramError),
    /// There is no firewall.
    #[error("the container has no firewall")]
    NoTable,
    /// The firewall belongs to another program.
    #[error(
        "the firewall is one of `terok-clearance supervise`, which this verb would break; \
         answer its questions with `terok-clearance allow` and `deny`"
    )]
    Supervised,
    /// The kernel's rules are not those that were asked for.
    #[error("the firewall is not {posture} after the change")]
    NotVerified {
        /// What was asked for.
        posture: ShieldPosture,
        /// The difference.
        #[source]
        source: PostureFault,
    },
    /// An element is missing, or still there.
    #[error("{address} is not {expected} after the change")]
    ElementNotVerified {
        /// The address.
        address: String,
        /// What was asked for.
        expected: &'static str,
    },
}

/// The text and the content of the table.
#[derive(Debug)]
pub(crate) struct ListedTable {
    /// As `nft` prints it.
    pub(crate) text: String,
    /// The sets and chains.
    pub(crate) listing: TableListing,
}

impl NamespaceFirewall {
    /// Opens the firewall in the network namespace of a process.
    pub(crate) fn open(runner: ProgramRunner, pid: u32) -> Result<Self, FirewallError> {
        let no_process = |source| FirewallError::NoProcess { pid, source };
        let process = ProcessHandle::open(pid).map_err(no_process)?;
        let files = NetnsRef::OfProcess(process)
            .open_files()
            .map_err(|source| FirewallError::Enter { pid, source })?;
        Ok(Self { runner, files })
    }

    /// Returns the table; `None` without one.
    pub(crate) async fn read(&self) -> Result<Option<ListedTable>, FirewallError> {
        let arguments = ["list", "table", "inet", "terok_shield"].map(OsStr::new);
        let output = self.run_inside("nft", &arguments, None).await?;
        if output.is_success {
            let listing = TableListing::parse(&output.stdout);
            return Ok(Some(ListedTable {
                text: output.stdout,
                listing,
            }));
        }
        if output.stderr.contains("No such file or directory") && self.is_readable().await {
            return Ok(None);
        }
        Err(failed("nft", &output).into())
    }

    /// Returns the table, which must exist and be one of a container.
    pub(crate) async fn read_table(&self) -> Result<TableListing, FirewallError> {
        let listed = self.read().await?.ok_or(FirewallError::NoTable)?;
        if is_supervised(&listed.listing) {
            return Err(FirewallError::Supervised);
        }
        Ok(listed.listing)
    }

    /// Returns `true` if the tables can be listed: a missing program or namespace has the same
    /// message as a missing table.
    async fn is_readable(&self) -> bool {
        let arguments = ["list", "tables"].map(OsStr::new);
        let listed = self.run_inside("nft", &arguments, None).await;
        listed.is_ok_and(|output| output.is_success)
    }

    /// Applies commands in one transaction: all or none.
    pub(crate) async fn commit(&self, script: &str) -> Result<(), FirewallError> {
        let arguments = ["-f", "-"].map(OsStr::new);
        let output = self.run_inside("nft", &arguments, Some(script)).await?;
        if output.is_success {
            Ok(())
        } else {
            Err(failed("nft", &output).into())
        }
    }

    /// Reads the table again and checks that it enforces `posture`.
    pub(crate) async fn verify(
        &self,
        posture: ShieldPosture,
    ) -> Result<TableListing, FirewallError> {
        let listed = self.read().await?.ok_or(FirewallError::NoTable)?;
        match posture.check(&listed.listing) {
            Ok(()) => Ok(listed.listing),
            Err(source) => Err(FirewallError::NotVerified { posture, source }),
        }
    }

    /// Runs a program of the host inside the network namespace.
    pub(crate) async fn run_inside(
        &self,
        name: &str,
        arguments: &[&OsStr],
        input: Option<&str>,
    ) -> Result<ProgramOutput, ProgramError> {
        let Some(files) = &self.files else {
            return self
                .runner
                .run_any(name, arguments, input, NFT_TIMEOUT)
                .await;
        };
        let program = self.runner.require(name)?;
        let own = std::process::id();
        let file = |option: &str, file: &OwnedFd| {
            OsString::from(format!("{option}=/proc/{own}/fd/{}", file.as_raw_fd()))
        };
        let net = file("--net", &files.net);
        let user = files.user.as_ref().map(|user| file("--user", user));
        let mut all: Vec<&OsStr> = user.as_deref().into_iter().collect();
        all.extend([&net, OsStr::new("--preserve-credentials"), OsStr::new("--")]);
        all.push(program.as_os_str());
        all.extend(arguments);
        self.runner
            .run_any("nsenter", &all, input, NFT_TIMEOUT)
            .await
    }
}

fn failed(name: &str, output: &ProgramOutput) -> ProgramError {
    let stderr = output
        .stderr
        .split_whitespace()
        .collect::<Vec<_>>()
        .join(" ");
    ProgramError::Failed {
        name: name.to_owned(),
        stderr: terok_clearance::DisplayText::from_program_output(&stderr),
    }
}

/// Returns `true` for the ruleset of a supervisor, which has a chain and a set of these names.
pub(crate) fn is_supervised(listing: &TableListing) -> bool {
    listing.chains.contains_key("ask") || listing.sets.contains_key("held")
}
