// SPDX-License-Identifier: Apache-2.0
//! `reader`: the packet log of one sandbox, told to a hub or to a program.
//!
//! It takes the place of the Python stack's `nflog-reader.py`: the same arguments, environment,
//! files and lines.

use std::ffi::OsString;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use clap::ValueEnum;
use reader::daemon::{
    AttachError, AttachedNetns, ReaderDaemonConfig, ReaderDaemonError, ReportTarget, run_daemon,
};
use reader::nflog::NflogBindError;
use reader::{ContainerAnnotations, NflogSockets};
use terok_clearance::socket::{RuntimeDir, SocketLayout};
use terok_clearance::{ContainerId, DisplayText};
use tracing::level_filters::LevelFilter;

use crate::output::BrokenPipeError;
use crate::{
    CommandContext, CommandFailure, CommandStatus, ErrorExt as _, StopSignals, UserEnvironment,
    block_on,
};

/// Set to `1` in a process started inside the sandbox's network namespace.
const INSIDE_NETNS_VARIABLE: &str = "_TEROK_SHIELD_NFLOG_NSENTER";

/// What it does, at length.
pub(super) const ABOUT: &str = "Tell a hub of every packet that the firewall of one sandbox drops.

It takes the place of the Python stack's nflog-reader.py: it takes the same arguments and writes \
the same lines. The sandbox's network namespace is found by asking podman for the container's \
process, unless _TEROK_SHIELD_NFLOG_NSENTER=1 says that this is the place already.";

/// What may be said to it.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Files in STATE_DIR:
  audit.jsonl    gets a line for each destination, once in 30 seconds
  dnsmasq.log    is read for names, where the sandbox has a dnsmasq
  reader.pid     names the reader with --emit=socket, unless it was started inside

Instead of the Python reader:
  The hook of terok-shield runs `python -I .../shield/nflog-reader.py STATE_DIR CONTAINER ...`. A
  script of two lines in that place has Python replace itself by this program:
    cd ~/.local/share/terok/shield && mv nflog-reader.py nflog-reader.py.orig
    terok-clearance reader --script > nflog-reader.py
  `terok-shield setup` puts its own back. A symlink called nflog-reader is this command, too.

Exit status:
  0    told to end by SIGTERM or Ctrl-C, or the sandbox or whoever read the output ended
  1    it failed; the reason is on standard error
  2    the arguments are wrong
  75   another program listens to the sandbox's packet log; it is named on standard error")]
pub struct Args {
    /// The directory of the sandbox's shield.
    #[arg(value_name = "STATE_DIR", required_unless_present = "script")]
    state_dir: Option<PathBuf>,
    /// The container's name or id, as events carry it.
    #[arg(value_name = "CONTAINER", required_unless_present = "script")]
    container: Option<ContainerId>,
    /// Where to tell: `socket`, a hub's ingester, or `json`, lines on standard output
    #[arg(long, value_enum, default_value_t = EmitTarget::Socket, hide_possible_values = true)]
    emit: EmitTarget,
    /// What is known of the sandbox, a JSON object; `meta_path` names a file of more
    #[arg(
        long,
        value_name = "JSON",
        default_value = "",
        hide_default_value = true,
        allow_hyphen_values = true
    )]
    annotations: String,
    /// The container's full id, which names the socket of its hub
    #[arg(
        long,
        value_name = "FULLID",
        default_value = "",
        hide_default_value = true
    )]
    container_id: String,
    /// The hub's ingester socket [default: the one of --container-id, else the classic one]
    #[arg(
        long,
        value_name = "PATH",
        default_value = "",
        hide_default_value = true
    )]
    hub_socket: OsString,
    /// Print the script that puts this program in the place of nflog-reader.py, and end
    #[arg(long)]
    script: bool,
}

/// Where events go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum EmitTarget {
    Socket,
    Json,
}

impl Args {
    /// Returns what it logs without a `-v`: beside a hub it is a service, else a person reads it.
    pub(super) const fn log_level(&self) -> LevelFilter {
        match self.emit {
            EmitTarget::Socket => LevelFilter::INFO,
            EmitTarget::Json => LevelFilter::WARN,
        }
    }
}

/// Does it.
pub fn perform(args: Args, context: &CommandContext) -> Result<CommandStatus, CommandFailure> {
    let (false, Some(state_dir), Some(container)) = (args.script, args.state_dir, args.container)
    else {
        let program = std::env::current_exe().context("finding this program's file")?;
        context.output.print(&python_exec_script(&program)?)?;
        return Ok(CommandStatus::OK);
    };
    let annotations = ContainerAnnotations::parse(&args.annotations).unwrap_or_else(|error| {
        // They must not keep a sandbox from being asked about.
        let text = DisplayText::new(&args.annotations);
        tracing::warn!(%error, %text, "annotations ignored");
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
        match run_daemon(config, &attached, sockets, stopped).await {
            Ok(()) => Ok(CommandStatus::OK),
            Err(ReaderDaemonError::Write(error)) if error.kind() == ErrorKind::BrokenPipe => {
                Err(anyhow::Error::new(BrokenPipeError).into())
            }
            Err(error) => Err(anyhow::Error::new(error).into()),
        }
    })
}

/// Finds the network namespace of `container`: this process's own if the environment says so, else
/// that of the process named by podman.
async fn attach(
    container: &ContainerId,
    environment: &UserEnvironment,
) -> Result<AttachedNetns, CommandFailure> {
    if environment.is_inside_netns() {
        return Ok(AttachedNetns::current());
    }
    let podman = environment
        .find_program("podman")
        .unwrap_or_else(|| PathBuf::from("/usr/bin/podman"));
    let attached = AttachedNetns::of_container(container, &podman).await;
    attached.or_else(|error| {
        let asked = matches!(error, AttachError::Inspect { .. });
        let failed = Err(CommandFailure::from(anyhow::Error::new(error)));
        if !asked {
            return failed;
        }
        failed.with_hint(format!(
            "inside the sandbox's network namespace already? then set {INSIDE_NETNS_VARIABLE}=1"
        ))
    })
}

fn bind_packet_log(attached: &AttachedNetns) -> Result<NflogSockets, CommandFailure> {
    attached.bind_nflog_sockets().or_else(|error| {
        let group = match &error {
            AttachError::OpenSockets(_) => {
                return Err(anyhow::Error::new(error)).with_hint(
                    "without root, the namespace must belong to a user namespace of yours",
                );
            }
            AttachError::Bind(NflogBindError::GroupTaken(group)) => *group,
            _ => return Err(anyhow::Error::new(error).into()),
        };
        let hint = match attached.find_nflog_owner(group) {
            Ok(Some(owner)) => match &owner.process {
                Some(process) => format!("it is {owner}; `kill {}` ends it", process.pid),
                None => format!("it is {owner}"),
            },
            Ok(None) => "it has gone in the meantime: try again".into(),
            Err(error) => format!("who it is could not be found out: {error}"),
        };
        Err(anyhow::Error::new(error))
            .with_hint(hint)
            .with_status(CommandStatus::RESOURCE_BUSY)
    })
}

/// Returns the places where a hub may listen for this reader, to be tried in their order.
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
        bail!("--container-id {id} is no id of a container: 12 to 64 hexadecimal digits");
    }
    let id: ContainerId = id.parse().context("reading --container-id")?;
    let sockets = [SocketLayout::D, SocketLayout::C]
        .map(|layout| runtime.sandbox_sockets(&id, layout).ingester);
    Ok(sockets.into())
}

/// Returns the script that replaces a Python interpreter by `program`, its arguments as they are:
/// the hook knows its reader again by them.
fn python_exec_script(program: &Path) -> anyhow::Result<String> {
    let program = program
        .to_str()
        .context("this program's path is not UTF-8")?;
    // JSON's texts are Python's, too.
    let program = serde_json::to_string(program).context("quoting this program's path")?;
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
