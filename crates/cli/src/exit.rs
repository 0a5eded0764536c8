// SPDX-License-Identifier: Apache-2.0
//! Exit statuses: the only module that chooses the hints and the exit status of an error.

use std::io;
use std::process::ExitCode;

use clap::error::ErrorKind;
use demo::DemoError;
use desktop::NotifierLockError;
use netns::sandbox::WorkloadStartError;
use operator::script::{ScriptAnswer, ScriptOutcome};
use reader::daemon::AttachError;
use runner::{PublishError, RunError, RunOutcome};
use rustix::io::Errno;
use rustix::termios::{Termios, tcgetattr};
use simple_clearance::SimpleClearanceError;
use supervisor::SupervisorStartError;
use terok_clearance::socket::SocketBindError;

use settings_errors::{
    explain_organisation_file, explain_record, explain_rule_store, explain_run_profile,
    explain_user_settings,
};
use setup_errors::explain_setup;
use shield_errors::shield_hints;

use crate::args::{ProgramName, UsageError};
use crate::commands::reader::INSIDE_NETNS_VARIABLE;
use crate::commands::request::RequestCommandError;
use crate::commands::run::TrustedFileRefusal;
use crate::error::{PacketLogTakenError, error_causes};
use crate::output::StandardStreams;
use crate::{CommandContext, CommandError, UserEnvironment};

mod rule_errors;
mod settings_errors;
mod setup_errors;
mod shield_errors;

pub(crate) use rule_errors::revocations_status;
pub(crate) use settings_errors::rule_store_hint;

use rule_errors::{rule_call_status, selection_status};

/// An exit status.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CommandStatus(pub u8);

impl CommandStatus {
    /// Success.
    pub const OK: Self = Self(0);
    /// Failure.
    pub const FAILURE: Self = Self(1);
    /// Invalid arguments.
    pub const USAGE: Self = Self(2);
    /// No action of a notification was chosen.
    pub const NO_ACTION_CHOSEN: Self = Self(3);
    /// No hub has the question.
    pub const NO_SUCH_QUESTION: Self = Self(3);
    /// No sandbox has the name of `--container`.
    pub const NO_SUCH_SANDBOX: Self = Self(3);
    /// A line of the record was changed or removed.
    pub const BROKEN_RECORD: Self = Self(3);
    /// No sandbox has the rule.
    pub const NO_SUCH_RULE: Self = Self(3);
    /// The question had been answered before.
    pub const ALREADY_ANSWERED: Self = Self(4);
    /// A hub does not list its questions.
    pub const UNKNOWN_QUESTIONS: Self = Self(5);
    /// A request of a sandbox is not decided.
    pub const NOT_DECIDED: Self = Self(4);
    /// A request of a sandbox was not passed on, or has ended.
    pub const NOT_ASKED: Self = Self(5);
    /// A required service is unavailable (`EX_UNAVAILABLE` of sysexits.h).
    pub const UNAVAILABLE: Self = Self(69);
    /// A bug in this program (`EX_SOFTWARE` of sysexits.h).
    pub const INTERNAL: Self = Self(70);
    /// Another process holds an exclusive resource (`EX_TEMPFAIL` of sysexits.h).
    pub const RESOURCE_BUSY: Self = Self(75);
    /// `run` failed before or apart from the command (as in env(1) and podman-run(1)).
    pub const RUN_FAILED: Self = Self(125);
    /// The command of `run` could not be executed, as in a shell.
    pub const NOT_EXECUTABLE: Self = Self(126);
    /// The command of `run` was not found, as in a shell.
    pub const COMMAND_NOT_FOUND: Self = Self(127);
    /// Ended by SIGHUP: the terminal was closed.
    pub const HUNG_UP: Self = Self(129);
    /// Ended by Ctrl-C, SIGINT: 128 plus the number of the signal, as in a shell.
    pub const INTERRUPTED: Self = Self(130);
    /// Ended by SIGTERM.
    pub const TERMINATED: Self = Self(143);
}

impl From<RunOutcome> for CommandStatus {
    fn from(outcome: RunOutcome) -> Self {
        match outcome {
            RunOutcome::Exited { status } => Self(status),
            RunOutcome::Killed { signal } | RunOutcome::Interrupted { signal } => {
                Self(128_u8.saturating_add(signal))
            }
            _ => Self::RUN_FAILED,
        }
    }
}

impl From<CommandStatus> for ExitCode {
    fn from(CommandStatus(code): CommandStatus) -> Self {
        code.into()
    }
}

/// Returns the exit status for the answers to several questions: the first of the order below.
pub(crate) fn answers_status(answers: &[ScriptAnswer]) -> CommandStatus {
    const PRIORITY: [CommandStatus; 4] = [
        CommandStatus::FAILURE,
        CommandStatus::UNAVAILABLE,
        CommandStatus::ALREADY_ANSWERED,
        CommandStatus::NO_SUCH_QUESTION,
    ];
    let has = |status: &CommandStatus| {
        let mut statuses = answers.iter().map(|answer| answer_status(&answer.outcome));
        statuses.any(|own| own == *status)
    };
    PRIORITY.into_iter().find(has).unwrap_or(CommandStatus::OK)
}

const fn answer_status(outcome: &ScriptOutcome) -> CommandStatus {
    match outcome {
        ScriptOutcome::Applied(..) | ScriptOutcome::Changed(..) => CommandStatus::OK,
        ScriptOutcome::AlreadyDecided(_) => CommandStatus::ALREADY_ANSWERED,
        ScriptOutcome::NotPending(_) => CommandStatus::NO_SUCH_QUESTION,
        ScriptOutcome::HubUnreachable(_) => CommandStatus::UNAVAILABLE,
        ScriptOutcome::Refused(_) | ScriptOutcome::Failed(_) | ScriptOutcome::ResultUnknown(_) => {
            CommandStatus::FAILURE
        }
    }
}

/// Prints an error and returns its exit status.
pub(crate) fn report_error(error: &CommandError, context: &CommandContext) -> CommandStatus {
    // The failures of a program whose terminal was closed are that.
    let is_hung_up = is_terminal_closed();
    if error.is_broken_pipe() {
        return if is_hung_up {
            CommandStatus::HUNG_UP
        } else {
            CommandStatus::OK // as with `| head -1`
        };
    }
    let (status, hints) = explain(error);
    let status = if is_hung_up {
        CommandStatus::HUNG_UP
    } else {
        status
    };
    if context.json {
        let causes = error_causes(error);
        let object = serde_json::json!({
            "error": causes.first(),
            "causes": causes.get(1..),
            "hints": hints,
            "status": status.0,
        });
        context.output.print_error_line(&object.to_string());
    } else if context.program_name == ProgramName::Shield {
        // The form of the Python program; verdict helpers show the start of it.
        let message = format!("Error: {}", error.message());
        context.output.print_error_line(&message);
    } else {
        context.output.print_error(&error.message(), &hints);
    }
    status
}

/// Returns `true` if a standard stream is a terminal that was closed: the kernel then answers every
/// request with `EIO`.
pub(crate) fn is_terminal_closed() -> bool {
    let is_closed = |settings: rustix::io::Result<Termios>| settings.err() == Some(Errno::IO);
    is_closed(tcgetattr(io::stdin()))
        || is_closed(tcgetattr(io::stdout()))
        || is_closed(tcgetattr(io::stderr()))
}

const DESKTOP_HINT: &str =
    "start it in your desktop session; `terok-clearance clearance` asks at a terminal";
const LINE_PROMPT_HINT: &str =
    "`terok-clearance clearance` asks line by line and needs no such terminal";

const CAPABILITY_HINTS: [&str; 3] = [
    "start the container with `--cap-drop NET_RAW,NET_ADMIN` (podman's default has neither, \
     docker's has NET_RAW)",
    "for a program that is not root, `--security-opt no-new-privileges` is enough",
    "`--allow-capabilities` guards it all the same, but such a process can go around every rule",
];

const NO_PROCESS_HINTS: [&str; 2] = [
    "of a container that does not run, podman and docker print the pid 0: `podman init NAME` makes \
     its first process without starting the program",
    "then `terok-clearance supervise --pid \"$(podman inspect -f '{{.State.Pid}}' NAME)\"`, and \
     `podman start NAME` once it says that it guards the process",
];

const COMMANDS_HINT: &str = "`terok-clearance help` lists the commands";
const APPROVER_HINT: &str = "put it into the configuration directory, which no sandbox sees; a \
    script there needs an interpreter of the system, such as `#!/usr/bin/python3 -I`";

const FOREIGN_NAMESPACE_HINT: &str =
    "without root, the namespace must belong to one of your user namespaces";

/// Returns the exit status and the hints for an error of `request`.
fn explain_request(error: &RequestCommandError) -> (CommandStatus, Vec<String>) {
    match error {
        RequestCommandError::OutsideSandbox => advise(
            CommandStatus::UNAVAILABLE,
            &[
                "`terok-clearance run -- CMD` starts a sandbox; this command is for CMD",
                "outside, `terok-clearance list` shows what sandboxes ask",
            ],
        ),
        RequestCommandError::Socket(_) => advise(
            CommandStatus::UNAVAILABLE,
            &["connect all the same: the connection is asked about"],
        ),
        RequestCommandError::Call(_) => advise(CommandStatus::FAILURE, &[]),
        RequestCommandError::NoSuchRequest { .. } => advise(
            CommandStatus::NO_SUCH_QUESTION,
            &["ask again: `terok-clearance request DEST --reason '...'`"],
        ),
    }
}

/// Returns the exit status and the hints for an error.
fn explain(error: &CommandError) -> (CommandStatus, Vec<String>) {
    let failure = |hint| advise(CommandStatus::FAILURE, &[hint]);
    match error {
        CommandError::RuntimeDir(_) => {
            failure("set XDG_RUNTIME_DIR to a directory that only you can enter")
        }
        CommandError::PopupDesktop(_) => advise(CommandStatus::UNAVAILABLE, &[DESKTOP_HINT]),
        CommandError::HubUnavailable { command, .. } => failure(&hub_hint(command)),
        CommandError::Listen { source, .. } => explain_listen(source),
        CommandError::NoShieldProgram { .. } => {
            failure("--shield takes the path of the terok-shield program")
        }

        CommandError::SelectSandbox(error) => advise(selection_status(error), &[]),
        CommandError::RuleCall { source, .. } => advise(rule_call_status(source), &[]),
        CommandError::UserSettings(error) => explain_user_settings(error),
        CommandError::OrganisationFile(error) => explain_organisation_file(error),

        CommandError::Demo(DemoError::BuildSandbox(source)) => {
            advise(CommandStatus::FAILURE, source.advice().as_slice())
        }
        CommandError::ClassicUnits(_)
        | CommandError::UnitProgram(_)
        | CommandError::HostSetup(_)
        | CommandError::HookProgram(_)
        | CommandError::SetupProblems { .. }
        | CommandError::RunningSupervisors { .. } => explain_setup(error),
        CommandError::NotifierLock(NotifierLockError::Held { .. }) => advise(
            CommandStatus::RESOURCE_BUSY,
            &["it asks for every sandbox; end it first to start another one"],
        ),
        CommandError::DuplicateAction { .. } => advise(CommandStatus::USAGE, &[]),
        CommandError::ShowNotification(_) => advise(CommandStatus::UNAVAILABLE, &[]),
        CommandError::NoChoice { .. } => advise(
            CommandStatus::UNAVAILABLE,
            &["`terok-clearance clearance` asks at a terminal"],
        ),
        CommandError::Attach(AttachError::Inspect { .. }) => failure(&format!(
            "to use the network namespace of this process, set {INSIDE_NETNS_VARIABLE}=1"
        )),
        CommandError::Attach(AttachError::OpenSockets(_)) => failure(FOREIGN_NAMESPACE_HINT),
        CommandError::NoProcess { .. } => advise(CommandStatus::FAILURE, &NO_PROCESS_HINTS),
        CommandError::Supervise { source, .. } => explain_supervise(source),
        CommandError::PacketLogTaken(taken) => advise(
            CommandStatus::RESOURCE_BUSY,
            &[&packet_log_owner_hint(taken)],
        ),
        CommandError::Run(error) => explain_run(error),
        CommandError::RunSetup(error) => (CommandStatus::RUN_FAILED, explain(error).1),
        CommandError::RunPrompt
        | CommandError::HotkeyVariable(_)
        | CommandError::RunNetworkHelper(_)
        | CommandError::Proxy(_)
        | CommandError::EnvFile(_) => advise(CommandStatus::USAGE, run_usage_hints(error)),
        CommandError::Podman(error) => (CommandStatus::RUN_FAILED, error.hints()),
        CommandError::ReadRecord(error) => explain_record(error),
        CommandError::Service(_) => advise(CommandStatus::INTERNAL, &[]),
        CommandError::Shield(error) => advise(CommandStatus::FAILURE, shield_hints(error)),
        CommandError::SimpleClearance(error) => {
            advise(CommandStatus::FAILURE, simple_clearance_hints(error))
        }
        CommandError::NoJson { .. } => advise(
            CommandStatus::USAGE,
            &["leave it out: this command prints nothing for programs"],
        ),
        CommandError::NoManualPage { .. } => advise(CommandStatus::USAGE, &[COMMANDS_HINT]),
        CommandError::InsideSandbox => failure(
            "run the command as it is: its connections are asked about outside, where \
             `terok-clearance list` shows them",
        ),
        CommandError::Request(error) => explain_request(error),
        CommandError::Approver(_) => failure(APPROVER_HINT),
        CommandError::JsonFullScreen => advise(
            CommandStatus::USAGE,
            &["`terok-clearance clearance --json` is for programs"],
        ),
        CommandError::NoTerminal | CommandError::LineTerminal => failure(LINE_PROMPT_HINT),

        CommandError::RuleStore(error) => explain_rule_store(error),
        CommandError::RunProfile(error) => explain_run_profile(error),
        CommandError::TrustedFile(TrustedFileRefusal::Changed(_)) => {
            failure("run it once at a terminal, where you can read the rules and accept them")
        }
        CommandError::TrustedFile(_) => failure("leave --trust-project-file out"),

        CommandError::Other(_)
        | CommandError::Output(_)
        | CommandError::Demo(_)
        | CommandError::NotifierLock(_)
        | CommandError::Attach(_)
        | CommandError::Organisation(_)
        | CommandError::Reader(_) => advise(CommandStatus::FAILURE, &[]),
    }
}

fn hub_hint(command: &str) -> String {
    format!("`terok-clearance {command}` without --socket waits for hubs")
}

fn advise(status: CommandStatus, hints: &[&str]) -> (CommandStatus, Vec<String>) {
    let hints = hints.iter().map(|hint| (*hint).to_owned()).collect();
    (status, hints)
}

fn explain_listen(error: &SocketBindError) -> (CommandStatus, Vec<String>) {
    let hint = match error {
        SocketBindError::InUse { pid, .. } => {
            format!("process {pid} serves it; `ps -p {pid}` shows it, `kill {pid}` ends it")
        }
        SocketBindError::NotPrivate { directory, .. } => format!(
            "run `chmod 700 {}` if it is yours, else choose another directory",
            directory.display()
        ),
        _ => return advise(CommandStatus::FAILURE, &[]),
    };
    advise(CommandStatus::FAILURE, &[&hint])
}

fn packet_log_owner_hint(taken: &PacketLogTakenError) -> String {
    match &taken.owner {
        Ok(Some(owner)) => match &owner.process {
            Some(process) => format!("it is {owner}; `kill {}` ends it", process.pid),
            None => format!("it is {owner}"),
        },
        Ok(None) => "the other program has ended meanwhile; try again".to_owned(),
        Err(error) => format!("cannot find the other program: {error}"),
    }
}

fn explain_supervise(error: &SupervisorStartError) -> (CommandStatus, Vec<String>) {
    let failure = |hint| advise(CommandStatus::FAILURE, &[hint]);
    match error {
        SupervisorStartError::Capability(_) => advise(CommandStatus::FAILURE, &CAPABILITY_HINTS),
        SupervisorStartError::Enter(_) => failure(FOREIGN_NAMESPACE_HINT),
        SupervisorStartError::NameServer(_) => {
            failure("end the program in the sandbox that uses this port")
        }
        SupervisorStartError::Bind(source) => explain_listen(source),
        _ => advise(CommandStatus::FAILURE, &[]),
    }
}

/// Returns the hints for settings of `run` that cannot be used.
const fn run_usage_hints(error: &CommandError) -> &'static [&'static str] {
    match error {
        CommandError::RunPrompt => &[
            "`--ui tui` asks on the screen of this terminal",
            "`--ui none`, and `terok-clearance clearance` in another terminal",
        ],
        CommandError::HotkeyVariable(_) => {
            &["unset the variable, or choose the key with `run --hotkey KEY`"]
        }
        CommandError::RunNetworkHelper(_) => &[
            "leave the option out: each allowed connection is made by this program",
            "`--network none` gives the command no network at all",
        ],
        CommandError::Proxy(_) => {
            &["correct the variable, or give the proxy with `--proxy http://HOST:PORT`"]
        }
        CommandError::EnvFile(_) => {
            &["a file of variables has lines KEY=VALUE, KEY for your own value, and # comments"]
        }
        _ => &[],
    }
}

fn explain_run(error: &RunError) -> (CommandStatus, Vec<String>) {
    let failed = |hints| advise(CommandStatus::RUN_FAILED, hints);
    match error {
        RunError::BuildSandbox(source) => failed(source.advice().as_slice()),
        RunError::Popups(_) => failed(&[DESKTOP_HINT]),
        RunError::Publish(error) => failed(publish_hint(error).as_slice()),
        // The statuses of shells.
        RunError::StartCommand { source, .. } => match source {
            WorkloadStartError::NotFound(_) => advise(CommandStatus::COMMAND_NOT_FOUND, &[]),
            WorkloadStartError::NotExecutable(_) => advise(CommandStatus::NOT_EXECUTABLE, &[]),
            _ => failed(&[]),
        },
        _ => failed(&[]),
    }
}

fn publish_hint(error: &PublishError) -> Option<&'static str> {
    match error.source.kind() {
        io::ErrorKind::AddrInUse => Some(
            "another program has it (`ss -lntup` lists them); `--publish :PORT` takes a free one",
        ),
        io::ErrorKind::PermissionDenied => {
            Some("ports below 1024 are for root; publish another one, as in `--publish 8080:80`")
        }
        io::ErrorKind::AddrNotAvailable => {
            Some("`ip address` lists the addresses of this machine; 0.0.0.0 stands for all")
        }
        _ => None,
    }
}

const fn simple_clearance_hints(error: &SimpleClearanceError) -> &'static [&'static str] {
    match error {
        SimpleClearanceError::ContainerName { .. } => {
            &["a state directory needs a slash, as in ./state"]
        }
        SimpleClearanceError::NoStateDir { .. } => {
            &["give the container's state directory or its name"]
        }
        SimpleClearanceError::UnnamedStateDir { .. } => &["add the name of the container"],
        SimpleClearanceError::NoAnnotation { .. } => &[
            "was it started through terok-shield?",
            "pass --state-dir=<root>, or its state directory, if you know where its state is",
        ],
        SimpleClearanceError::MissingStateDir { .. } => {
            &["--state-dir takes the directory that contains `containers`"]
        }
        SimpleClearanceError::HubServes { .. } => {
            &["answer its questions with `terok-clearance clearance`, or end that hub first"]
        }
        // The hint of the Python tool.
        SimpleClearanceError::BusHubRuns => {
            &["to use this terminal fallback, stop the hub first: \
              systemctl --user stop terok-clearance-hub"]
        }
        SimpleClearanceError::NoShieldProgram { .. } => {
            &["--shield takes the path of terok-shield"]
        }
        SimpleClearanceError::ShieldNotFound => {
            &["install terok-shield, or give its path with --shield"]
        }
        SimpleClearanceError::HookReaderRuns { .. } => {
            &["--take-over ends it, and starts it again afterwards"]
        }
        SimpleClearanceError::NoReader { .. } => {
            &["without --reader, the reader of this program is used"]
        }
        _ => &[],
    }
}

/// Prints a usage error or the requested help, and returns the exit status.
pub(crate) fn report_usage_error(
    refusal: &UsageError,
    environment: &UserEnvironment,
) -> CommandStatus {
    let output = StandardStreams::new(environment.stream_colors(refusal.color));
    let text = |colored: bool| {
        let styled = refusal.error.render();
        if colored {
            styled.ansi().to_string()
        } else {
            styled.to_string()
        }
    };
    match refusal.error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => {
            // A closed output is no failure.
            drop(output.print(&text(output.colors().stdout)));
            CommandStatus::OK
        }
        // The Python program prints the help on standard output and returns this status.
        ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand if refusal.name == ProgramName::Hub => {
            drop(output.print(&text(output.colors().stdout)));
            CommandStatus::USAGE
        }
        _ if refusal.json => {
            let object = serde_json::json!({
                "error": refusal.error.render().to_string().trim_end(),
                "causes": [],
                "hints": [],
                "status": CommandStatus::USAGE.0,
            });
            output.print_error_line(&object.to_string());
            CommandStatus::USAGE
        }
        _ => {
            output.print_error_line(text(output.colors().stderr).trim_end());
            CommandStatus::USAGE
        }
    }
}

#[cfg(test)]
mod tests {
    use supervisor::{FirewallBypass, NameServerBindError};
    use terok_clearance::DisplayText;

    use super::*;

    #[test]
    fn each_error_has_its_status_and_hints() {
        let check = |error: CommandError, status: CommandStatus, hints: usize| {
            let explained = explain(&error);
            assert_eq!((explained.0, explained.1.len()), (status, hints), "{error}");
        };
        let start = |source| RunError::StartCommand {
            program: DisplayText::new("make"),
            source,
        };
        let missing = || io::Error::from(io::ErrorKind::NotFound);
        for (error, status, hints) in [
            (start(WorkloadStartError::NotFound(missing())), 127, 0),
            (start(WorkloadStartError::NotExecutable(missing())), 126, 0),
            (RunError::CatchSignals(missing()), 125, 0),
        ] {
            check(error.into(), CommandStatus(status), hints);
        }
        let before_run = CommandError::RunSetup(Box::new(CommandError::NoTerminal));
        check(before_run, CommandStatus::RUN_FAILED, 1);
        check(CommandError::NoTerminal, CommandStatus::FAILURE, 1);
        check(CommandError::RunPrompt, CommandStatus::USAGE, 2);
        let hotkey = CommandError::HotkeyVariable(::tui::HotkeyError::Form);
        check(hotkey, CommandStatus::USAGE, 1);
        let helper = CommandError::RunNetworkHelper("pasta");
        check(helper, CommandStatus::USAGE, 2);
        let bypass = FirewallBypass {
            pid: 4711,
            name: DisplayText::new("sh"),
            capability: netns::NetworkCapability::Raw,
            access: netns::CapabilityAccess::Obtainable,
        };
        let refused = CommandError::Supervise {
            pid: 42,
            source: SupervisorStartError::Capability(bypass),
        };
        assert_eq!(
            refused.message(),
            "cannot guard the network namespace of process 42: process 4711 (sh) can obtain \
             CAP_NET_RAW over that namespace, and with it goes around the firewall"
        );
        check(refused, CommandStatus::FAILURE, 3);
        let errors = || {
            let parsed = settings::OrganisationPolicy::parse("/x".as_ref(), "x = 1");
            parsed.unwrap_err()
        };
        let user = settings::UserSettingsError::Contents(errors());
        check(std::sync::Arc::new(user).into(), CommandStatus::FAILURE, 1);
        let organisation = CommandError::from(settings::OrganisationError::Contents(errors()));
        let organisation = CommandError::RunSetup(Box::new(organisation));
        check(organisation, CommandStatus::RUN_FAILED, 2);
        let address = "127.0.0.1:61053".parse().unwrap();
        let taken = NameServerBindError::Bind(address, io::ErrorKind::AddrInUse.into());
        let refused = CommandError::Supervise {
            pid: 42,
            source: taken.into(),
        };
        check(refused, CommandStatus::FAILURE, 1);
        let other = anyhow::anyhow!("a failure");
        check(other.into(), CommandStatus::FAILURE, 0);
        for (kind, hints) in [
            (io::ErrorKind::AddrInUse, 1),
            (io::ErrorKind::PermissionDenied, 1),
            (io::ErrorKind::AddrNotAvailable, 1),
            (io::ErrorKind::OutOfMemory, 0),
        ] {
            let error = RunError::Publish(PublishError {
                spec: "80:80".parse().unwrap(),
                address: "127.0.0.1:80".parse().unwrap(),
                source: kind.into(),
            });
            check(error.into(), CommandStatus::RUN_FAILED, hints);
        }
    }
}
