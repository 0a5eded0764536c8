// SPDX-License-Identifier: Apache-2.0
//! `reader`: reports the packet log of one sandbox to a hub or to a program.
//!
//! A drop-in replacement for the Python stack's `nflog-reader.py`: same arguments, environment,
//! files and output.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use clap::ValueEnum;
use reader::daemon::{AttachError, AttachedNetns, ReaderDaemonConfig, ReportTarget, run_daemon};
use reader::nflog::NflogBindError;
use reader::{ContainerAnnotations, NflogSockets};
use terok_clearance::socket::{RuntimeDir, SocketLayout};
use terok_clearance::{ContainerId, DisplayText};
use tracing::level_filters::LevelFilter;

use crate::error::PacketLogTakenError;
use crate::{CommandContext, CommandError, CommandStatus, StopSignals, UserEnvironment, block_on};

/// Set to `1` in a process started inside the sandbox's network namespace.
pub(crate) const INSIDE_NETNS_VARIABLE: &str = "_TEROK_SHIELD_NFLOG_NSENTER";

/// Long help.
pub(super) const ABOUT: &str = "Report to a hub each packet that the firewall of one sandbox \
refuses.

A drop-in replacement for the Python stack's nflog-reader.py, with the same arguments and output. \
podman names the container's process, and with it the sandbox's network namespace. With \
_TEROK_SHIELD_NFLOG_NSENTER=1 the reader uses the namespace in which it is started.";

/// Command-line arguments.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Files in STATE_DIR:
  audit.jsonl    written: one line per destination, at most every 30 seconds
  dnsmasq.log    read: names of addresses, if the sandbox has a dnsmasq
  reader.pid     written with --emit=socket: process id of the reader, unless the reader was
                 started inside the network namespace

To replace the Python reader:
  The hook of terok-shield runs `python -I .../shield/nflog-reader.py STATE_DIR CONTAINER ...`.
  Replace this file by a script that executes `terok-clearance reader`:
    cd ~/.local/share/terok/shield && mv nflog-reader.py nflog-reader.py.orig
    terok-clearance reader --script > nflog-reader.py
  `terok-shield setup` restores the original. A symlink named nflog-reader also runs this command.

Exit status:
  0    ended by SIGTERM or Ctrl-C, or the sandbox ended, or the output was closed
  1    failure; the reason is on standard error
  2    invalid arguments
  75   another program listens to the sandbox's packet log; standard error names this program")]
pub struct Args {
    /// State directory of the sandbox's shield
    #[arg(value_name = "STATE_DIR", required_unless_present = "script")]
    state_dir: Option<PathBuf>,
    /// Name or id of the container, used in events
    #[arg(value_name = "CONTAINER", required_unless_present = "script")]
    container: Option<ContainerId>,
    /// Destination of events: `socket` (a hub) or `json` (lines on standard output)
    #[arg(long, value_enum, default_value_t = EmitTarget::Socket, hide_possible_values = true)]
    emit: EmitTarget,
    /// Dossier of the sandbox as a JSON object; `meta_path` is the path of a file with more fields
    #[arg(
        long,
        value_name = "JSON",
        default_value = "",
        hide_default_value = true,
        allow_hyphen_values = true
    )]
    annotations: String,
    /// Full id of the container; determines the path of the hub's socket
    #[arg(
        long,
        value_name = "FULLID",
        default_value = "",
        hide_default_value = true
    )]
    container_id: String,
    /// Hub's socket for readers [default: that of --container-id, else the classic hub's]
    #[arg(
        long,
        value_name = "PATH",
        default_value = "",
        hide_default_value = true
    )]
    hub_socket: OsString,
    /// Print a replacement for nflog-reader.py that executes this program, and exit
    #[arg(long)]
    script: bool,
}

/// The destination of events.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum EmitTarget {
    Socket,
    Json,
}

impl Args {
    /// Returns the log level without `-v`: higher for a service that reports to a hub, lower if a
    /// program or a person reads the output.
    pub(super) const fn log_level(&self) -> LevelFilter {
        match self.emit {
            EmitTarget::Socket => LevelFilter::INFO,
            EmitTarget::Json => LevelFilter::WARN,
        }
    }
}

/// Runs the command.
pub fn perform(args: Args, context: &CommandContext) -> Result<CommandStatus, CommandError> {
    let (false, Some(state_dir), Some(container)) = (args.script, args.state_dir, args.container)
    else {
        let program = std::env::current_exe().context("cannot find the path of this program")?;
        context.output.print(&python_exec_script(&program)?)?;
        return Ok(CommandStatus::OK);
    };
    let annotations = ContainerAnnotations::parse(&args.annotations).unwrap_or_else(|error| {
        // Questions without annotations are better than no questions.
        let text = DisplayText::new(&args.annotations);
        tracing::warn!(%error, %text, "ignored invalid annotations");
        ContainerAnnotations::default()
    });
    let target = match args.emit {
        EmitTarget::Json => ReportTarget::Writer(Box::new(context.output.stdout_writer())),
        EmitTarget::Socket => {
            let runtime = RuntimeDir::new(context.environment.runtime_dir());
            let hubs = ingester_paths(&runtime, &args.container_id, args.hub_socket.into())?;
            ReportTarget::Hub(hubs)
        }
    };
    block_on(async {
        let mut signals = StopSignals::catch()?;
        let attached = tokio::select! {
            attached = attach(&container, &context.environment) => attached?,
            _ = signals.wait() => return Ok(CommandStatus::OK),
        };
        let sockets = bind_packet_log(&attached)?;
        let config = ReaderDaemonConfig {
            container,
            state_dir,
            annotations,
            target,
        };
        let stopped = async {
            signals.wait().await;
        };
        run_daemon(config, &attached, sockets, stopped).await?;
        Ok(CommandStatus::OK)
    })
}

/// Finds the network namespace of `container`: the present one if the environment says so,
/// otherwise the namespace of the container's process according to podman.
async fn attach(
    container: &ContainerId,
    environment: &UserEnvironment,
) -> Result<AttachedNetns, AttachError> {
    if environment.is_inside_netns() {
        return Ok(AttachedNetns::current());
    }
    let podman = environment
        .find_program("podman")
        .unwrap_or_else(|| PathBuf::from("/usr/bin/podman"));
    AttachedNetns::of_container(container, &podman).await
}

fn bind_packet_log(attached: &AttachedNetns) -> Result<NflogSockets, CommandError> {
    attached.bind_nflog_sockets().map_err(|error| match error {
        AttachError::Bind(NflogBindError::GroupTaken(group)) => {
            let owner = attached.find_nflog_owner(group);
            PacketLogTakenError { error, owner }.into()
        }
        error => error.into(),
    })
}

/// Returns the possible sockets of the hub, in the order in which to try them.
fn ingester_paths(
    runtime: &RuntimeDir,
    id: &str,
    explicit: PathBuf,
) -> anyhow::Result<Vec<PathBuf>> {
    if !explicit.as_os_str().is_empty() {
        return Ok(vec![explicit]);
    }
    if id.is_empty() {
        return Ok(vec![runtime.shared_hub_sockets().ingester]);
    }
    let hexadecimal = id.bytes().all(|byte| byte.is_ascii_hexdigit());
    if !hexadecimal || !(12..=64).contains(&id.len()) {
        let id = DisplayText::new(id);
        bail!("--container-id {id} is not a container id: 12 to 64 hexadecimal digits");
    }
    let id: ContainerId = id.parse().context("--container-id is not usable")?;
    let sockets = [SocketLayout::D, SocketLayout::C]
        .map(|layout| runtime.sandbox_sockets(&id, layout).ingester);
    Ok(sockets.into())
}

/// Returns a Python script that executes `program` with the unchanged arguments of the interpreter,
/// by which the hook recognizes the reader.
fn python_exec_script(program: &Path) -> anyhow::Result<String> {
    let program = program
        .to_str()
        .context("the path of this program is not UTF-8")?;
    // JSON strings are valid Python strings.
    let program =
        serde_json::to_string(program).context("cannot quote the path of this program")?;
    Ok(format!(
        "import os, sys\nos.execv({program}, sys.orig_argv)\n"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hub_is_where_the_arguments_say() {
        let runtime = RuntimeDir::new("/run/x");
        let check = |id: &str, explicit: &str, expected: &[&str]| {
            let found = ingester_paths(&runtime, id, explicit.into()).unwrap();
            assert_eq!(
                found,
                expected.iter().map(PathBuf::from).collect::<Vec<_>>()
            );
        };
        let id = "0123456789abcdef0123456789abcdef";
        check("", "", &["/run/x/terok-shield-events.sock"]);
        check(id, "/h.sock", &["/h.sock"]);
        check("../..", "/h.sock", &["/h.sock"]);
        check(
            id,
            "",
            &[
                "/run/x/terok/events/0123456789ab/ingester.sock",
                "/run/x/terok/events/0123456789ab.sock",
            ],
        );
        for wrong in [
            "0123456789a",
            "../../../../x",
            "my-container-name",
            &"a".repeat(65),
        ] {
            assert!(
                ingester_paths(&runtime, wrong, PathBuf::new()).is_err(),
                "{wrong}"
            );
        }
    }

    #[test]
    fn the_script_hands_over_everything() {
        let script = python_exec_script(Path::new("/opt/a \"b\"/terok-clearance")).unwrap();
        insta::assert_snapshot!(script, @r#"
        import os, sys
        os.execv("/opt/a \"b\"/terok-clearance", sys.orig_argv)
        "#);
    }
}
