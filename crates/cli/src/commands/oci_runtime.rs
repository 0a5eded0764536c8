// SPDX-License-Identifier: Apache-2.0
//! `oci-runtime`: an OCI runtime that adds the hooks, for Docker and nerdctl.

use std::ffi::OsString;
use std::fs::OpenOptions;
use std::io::Write as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Context as _;
use clap::ValueEnum;
use containers::ContainerNetwork;
use containers::oci_runtime::{ConfigHooks, RuntimeArguments, edit_bundle};
use serde_json::json;
use terok_clearance::Timestamp;

use crate::{CommandContext, CommandError, CommandStatus};

pub(super) const ABOUT: &str = "An OCI runtime for Docker and nerdctl that guards containers.

It adds the hooks to a container's configuration, takes CAP_NET_RAW and CAP_NET_ADMIN away, and \
runs runc or crun. docs/containers.md has the configuration of the daemon.";

const AFTER_HELP: &str = "\
In /etc/docker/daemon.json, for every container of this runtime (`docker run --runtime clearance
--network none IMAGE`):

  {\"runtimes\": {\"clearance\": {\"path\": \"/usr/bin/terok-clearance\",
     \"runtimeArgs\": [\"oci-runtime\", \"--via\", \"dialed\"]}}}

Without --via, containers that have the annotation org.terok.clearance.network are guarded
(`docker run --annotation`, Docker 24 and later), and all others are passed on as they are.

Exit status: that of the runtime; 1 if the container's configuration cannot be guarded.";

/// Command-line arguments.
#[derive(Debug, clap::Args)]
#[command(after_long_help = AFTER_HELP)]
pub struct Args {
    /// Guard every container, with this way out [default: those with the annotation]
    #[arg(long, value_enum, value_name = "HOW")]
    via: Option<RuntimeVia>,
    /// The runtime behind this one [default: runc, else crun]
    #[arg(long, value_name = "PATH")]
    runtime: Option<PathBuf>,
    /// The arguments of the runtime
    #[arg(
        trailing_var_arg = true,
        allow_hyphen_values = true,
        value_name = "ARGS"
    )]
    arguments: Vec<OsString>,
}

/// The values of `--via`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum RuntimeVia {
    /// The supervisor makes each allowed connection.
    Dialed,
    /// A connection of the container's own.
    Filtered,
}

/// Runs the command. Returns only after a failure.
pub fn perform(args: &Args, context: &CommandContext) -> Result<CommandStatus, CommandError> {
    let parsed = RuntimeArguments::parse(&args.arguments);
    let ended = run_runtime(args, &parsed, context);
    if let (Err(error), Some(log)) = (&ended, &parsed.log) {
        append_to_log(log, &error.message());
    }
    ended
}

fn run_runtime(
    args: &Args,
    parsed: &RuntimeArguments,
    context: &CommandContext,
) -> Result<CommandStatus, CommandError> {
    let found = |name| context.environment.find_program(name);
    let runtime = args.runtime.clone();
    let runtime = runtime.or_else(|| found("runc")).or_else(|| found("crun"));
    let runtime = runtime.context("neither runc nor crun is installed; --runtime names another")?;
    if parsed.starts_container {
        let program = std::env::current_exe().context("cannot find this program")?;
        let program = program
            .to_str()
            .context("the path of this program is not UTF-8")?;
        let via = args.via.map(|via| match via {
            RuntimeVia::Dialed => ContainerNetwork::Dialed,
            RuntimeVia::Filtered => ContainerNetwork::Filtered,
        });
        edit_bundle(&parsed.bundle, via, &ConfigHooks::of_program(program))
            .context("the container does not start")?;
    }
    let error = Command::new(&runtime).args(&args.arguments).exec();
    let failed = format!("cannot execute {}", runtime.display());
    Err(anyhow::Error::new(error).context(failed).into())
}

/// Appends an error to the log of which the engine shows the last line, in runc's format.
fn append_to_log(log: &Path, message: &str) {
    let micros = i64::try_from(Timestamp::now().as_micros()).unwrap_or(i64::MAX);
    let line = json!({
        "level": "error",
        "msg": format!("terok-clearance: {message}"),
        "time": jiff::Timestamp::from_microsecond(micros).unwrap_or(jiff::Timestamp::MAX)
            .to_string(),
    });
    let opened = OpenOptions::new().append(true).create(true).open(log);
    // Standard error has the message, too.
    drop(opened.and_then(|mut file| writeln!(file, "{line}")));
}
