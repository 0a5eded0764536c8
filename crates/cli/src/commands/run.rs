// SPDX-License-Identifier: Apache-2.0
//! `run`: one command in a default-deny sandbox, its questions answered here or elsewhere.

mod approver;
mod env_file;
mod learnt_text;
mod memory_size;
mod merged_run;
mod notices;
mod start_rules;
mod summary;

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ::tui::{Hotkey, TuiOptions};
use anyhow::Context as _;
use clap::ValueEnum;
use desktop::PopupDesktopConfig;
use policy::ProfileName;
use runner::{
    ApproverConfig, HoldLimit, NetworkChoice, PopupChoice, PreparedRun, ProxySettings,
    ProxyUrlError, PublishSpec, RunConfig, RunScreen,
};
use terok_clearance::{DestPattern, DestPatternError};
use tracing::level_filters::LevelFilter;

use super::tui;
use crate::bell::BellArgs;
use crate::desktop::popup_desktop_config;
use crate::environment::UserEnvironment;
use crate::settings_files::read_organisation;
use crate::{CommandContext, CommandError, CommandStatus, block_on};

pub use approver::ApproverProgramError;
pub use env_file::{EnvFileError, EnvLineProblem};
pub use start_rules::TrustedFileRefusal;

pub(super) use learnt_text::groups_json;

pub(crate) use memory_size::MemorySize;
pub(crate) use merged_run::{is_record_required, limited_hold, merged_hotkey, merged_records};

pub(crate) use notices::{RECORD_INCOMPLETE, describe_record_notice};

use merged_run::{MergedRun, merge_run};
use notices::TerminalReporter;
use start_rules::read_start_rules;
pub(crate) use start_rules::{GivenRules, read_container_rules, read_filtered_policy};

const AFTER_HELP: &str = "\
Examples:
  terok-clearance run -- npm install
  terok-clearance run --profile npm,github -- npm install
  terok-clearance run --allow registry.npmjs.org:443 --allow '*.github.com' -- npm install
  terok-clearance run --ui tui -- my-agent     Ctrl-G shows the questions
  terok-clearance run --ui none -- my-agent    answer with `terok-clearance clearance` elsewhere
  terok-clearance run --publish 8080:80 -- my-server

A connection that nothing allows waits while somebody is there to answer, up to --hold. The answer
is for the name that the command asked for, not for its address. No lookup leaves this machine for a
name that you have not allowed. Private addresses and services of this machine (`host.internal`) are
asked about one by one; cloud metadata and link-local addresses are never opened.

A deny comes before every allow, wherever it stands: in options, profiles, kept answers. What you
answer for a project or for always is kept in a file below the configuration directory, and counts
in later runs. `terok-clearance rules` shows what counts, `revoke` takes it back, `log` shows what
was done.

--publish is for connections from outside: [ADDR:]HOST:PORT[/udp], as podman has it. This program
listens on HOST, at 127.0.0.1 and ::1 unless you write another address, and connects each client
with PORT of the sandbox, whichever address the server inside listens at. Without HOST (`:80`) a
free port is taken and printed. It opens nothing for the command.

An allowed name leads to its servers, which may serve other names too. With --check-sni, a
connection to a name is reset if its first bytes ask for a name that is not allowed: by the server
name of TLS or the host of an HTTP request. TLS without a server name, HTTP/2 without TLS and QUIC
(UDP port 443) cannot be checked and are refused. Other protocols pass, also those that change to
TLS later. What is inside TLS, and later requests of an HTTP connection, are not seen.

Limits keep the command from using up what all of your programs share. --memory is for all of its
processes together where your control group can be divided (a scope or service of its own with
Delegate=yes), else for each process. Your other programs cannot pass descriptors on while more are
on their way than a program may have open, 1024 by default: hence the limit of --open-files.

Sandboxes inside the sandbox, such as bubblewrap (`bwrap --unshare-all --proc /proc`), work for
ordinary users. As root they need --nested: the command can then change the settings of this
machine's kernel and control groups, with which it can end or escape from this sandbox.

The command sees your files as they are: `run` confines the network, not the files. Out of its
reach are: the network, except for what you allow; every unix socket that it did not make itself,
such as those of your session bus, agents, container engines and ssh connections; the configuration
and state of this program; other processes. It has no rights beyond yours (no sudo), and no devices
but null, zero, full, random, urandom and tty.

--socket hands a socket in. The program behind it acts outside of the sandbox for the command: an
ssh agent signs, a session bus starts programs. Unix datagram sockets (syslog) do not work inside.
A standard stream that is a socket is copied through a pipe; a directory or device is refused.

With --ui desktop, each question is a popup with Allow and Deny; if `terok-clearance notifier` runs,
that shows it. With --ui auto, the same if a program of your session shows popups; a line at the
terminal announces each question, unless you chose --ui desktop. Ctrl-G opens the screen of
`terok-clearance tui` over the command, which waits; q goes back to the command, and leaves the
question open. Ctrl-G twice is passed on to the command, and all other keys are the command's. With
--hotkey KEY or the variable TEROK_CLEARANCE_HOTKEY it is another key: ctrl-X, alt-X or F1 to F24.
Without a terminal, and with TERM=dumb, answer with `terok-clearance clearance` elsewhere.

With --approver, each new question goes to a program of yours first: JSON at its standard input, and
a verdict at its output: allow, deny or ask. Only `ask`, a failure or the time limit leaves it to
you. The program runs outside of the sandbox, so that it must be one that the command cannot change:
one of the system, or in the configuration directory. docs/approver.md has an example.

The command can ask ahead of a connection: `terok-clearance request` inside the sandbox.

Defaults for --allow, --hold, --ui and others stand in config.toml in ~/.config/terok-clearance;
`terok-clearance config show` prints what counts and why, `config example` a file with every key.
Your organisation can set limits in /etc/terok-clearance/policy.toml.

Exit status: that of the command; 128 and the signal's number if a signal ended it; 126 if it could
not be executed, 127 if it was not found, 125 if the sandbox failed, 2 for wrong arguments.";

/// Command-line arguments.
#[expect(clippy::struct_excessive_bools, reason = "independent flags")]
#[derive(Debug, clap::Args)]
#[command(after_help = AFTER_HELP)]
pub struct Args {
    /// Open from the start: NAME, *.NAME, ADDRESS or NETWORK/BITS, with :PORT or :LOW-HIGH, and
    /// with /tcp, /udp or /icmp. May be repeated.
    #[arg(long, value_name = "DEST", value_parser = parse_allowed)]
    allow: Vec<DestPattern>,
    /// Refuse without a question, before anything that allows it. May be repeated.
    #[arg(long, value_name = "DEST")]
    deny: Vec<DestPattern>,
    /// Allow what a profile lists, and deny what it denies: npm, pypi, cargo, git hosts and others,
    /// or your own; `terok-clearance profile list`. May be repeated.
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    profile: Vec<ProfileName>,
    /// The project whose kept answers count [default: the nearest directory at or above this one
    /// that has some, else this one].
    #[arg(long, value_name = "DIR")]
    project: Option<PathBuf>,
    /// Use the rules of a file in the project, `.terok-clearance.rules` by default. The command may
    /// have written it: its changes are shown, and count once you have accepted them.
    #[arg(long, value_name = "FILE", num_args = 0..=1, require_equals = true,
        default_missing_value = store::DEFAULT_TRUSTED_FILE)]
    trust_project_file: Option<PathBuf>,
    /// Let everything on the internet through that nothing denies, and show at the end what the
    /// command has reached. This is OPEN: use it for software that you trust.
    #[arg(long)]
    learn: bool,
    /// Keep no record of this run.
    #[arg(long)]
    no_record: bool,
    /// How long a connection waits for an answer: 30s, 5m, forever, or 0 to refuse it at once
    /// [default: 60s].
    #[arg(long, value_name = "TIME")]
    hold: Option<HoldLimit>,
    /// Make connections through this proxy: http://HOST:PORT or socks5://HOST:PORT, or `none`
    /// [default: the variables `HTTPS_PROXY`, `http_proxy`, `ALL_PROXY` and `NO_PROXY`].
    #[arg(long, value_name = "URL", value_parser = parse_proxy)]
    proxy: Option<ProxyArg>,
    /// Publish a port of the sandbox on this machine: [ADDR:]HOST:PORT, with /udp for UDP. May be
    /// repeated.
    #[arg(short, long, value_name = "PORTS")]
    publish: Vec<PublishSpec>,
    /// Let the command connect to a socket of yours, such as `"$SSH_AUTH_SOCK"`. May be repeated.
    #[arg(long, value_name = "PATH")]
    socket: Vec<PathBuf>,
    /// Refuse connections to a name that ask its servers for a name that is not allowed.
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true,
        default_missing_value = "true")]
    check_sni: Option<bool>,
    /// Most processes and threads of the command [default: half of yours, at most 4096].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pids: Option<u32>,
    /// Most memory of the command, such as 512M or 4G; see below.
    #[arg(long, value_name = "SIZE")]
    memory: Option<MemorySize>,
    /// Most files that a process of the command has open [default: 768, none for root].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(16..))]
    open_files: Option<u32>,
    /// As root: let sandboxes run inside the sandbox, at the price of its walls; see below.
    #[arg(long)]
    nested: bool,
    /// Set the variables in a file: lines KEY=VALUE, or KEY for your value. May be repeated.
    #[arg(long, value_name = "FILE")]
    env_file: Vec<PathBuf>,
    /// Where questions are asked [default: auto].
    #[arg(long, value_enum, value_name = "UI")]
    ui: Option<RunUiChoice>,
    /// The key that shows the questions over the command, such as ctrl-g or f12 [default: ctrl-g].
    #[arg(long, value_name = "KEY")]
    hotkey: Option<Hotkey>,
    /// Let a program of yours answer before you are asked; see below.
    #[arg(long, value_name = "CMD")]
    approver: Option<PathBuf>,
    /// How long the program of --approver may take for a question [default: 10s].
    #[arg(long, value_name = "SECONDS", value_parser = approver::parse_timeout)]
    approver_timeout: Option<Duration>,
    #[command(flatten)]
    bell: BellArgs,
    /// Whether the command has a network: `none` gives it no connection and asks nothing.
    #[arg(long, value_enum, default_value_t = NetworkArg::Dialed, value_name = "HOW")]
    network: NetworkArg,
    /// Name of the sandbox in questions [default: the name of the command].
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// Print errors and questions only.
    #[arg(short, long)]
    quiet: bool,
    /// The command and its arguments.
    #[arg(
        required = true,
        trailing_var_arg = true,
        allow_hyphen_values = true,
        value_name = "CMD"
    )]
    command: Vec<OsString>,
}

impl Args {
    /// Returns the log level without `-v`.
    pub(super) const fn log_level(&self) -> LevelFilter {
        if self.quiet {
            LevelFilter::ERROR
        } else {
            LevelFilter::WARN
        }
    }
}

/// The values of `--ui`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum RunUiChoice {
    /// On popups if a program of this session shows them, else on the screen of this terminal.
    Auto,
    /// On popups.
    Desktop,
    /// On the screen of this terminal.
    Tui,
    /// Nowhere: answer with another command of this program.
    None,
    /// Refused: the line prompt of earlier versions.
    #[value(hide = true)]
    Prompt,
}

/// The values of `--network`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum NetworkArg {
    /// Each allowed connection is made by this program.
    #[value(alias = "auto")]
    Dialed,
    /// No network.
    None,
    /// Refused: a helper program of earlier versions.
    #[value(hide = true)]
    Pasta,
    /// Refused: a helper program of earlier versions.
    #[value(hide = true)]
    Slirp4netns,
}

/// The value of `--proxy`.
#[derive(Debug, Clone)]
pub(crate) enum ProxyArg {
    Direct,
    Through(Box<ProxySettings>),
}

pub(crate) fn parse_proxy(text: &str) -> Result<ProxyArg, ProxyUrlError> {
    match text {
        "none" => Ok(ProxyArg::Direct),
        url => {
            let proxy = ProxySettings::explicit(url)?;
            Ok(ProxyArg::Through(Box::new(proxy)))
        }
    }
}

/// The value of `--allow` cannot open anything.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AllowArgError {
    #[error(transparent)]
    Pattern(#[from] DestPatternError),
    #[error(
        "link-local, cloud metadata, multicast and reserved addresses are never opened: leave this \
         option out"
    )]
    Floor,
}

/// Parses a destination of `--allow`. A rule that opens nothing is a mistake of the operator.
pub(crate) fn parse_allowed(text: &str) -> Result<DestPattern, AllowArgError> {
    let pattern: DestPattern = text.parse()?;
    if pattern.is_floor() {
        return Err(AllowArgError::Floor);
    }
    Ok(pattern)
}

/// Runs the command.
pub fn perform(args: Args, context: &CommandContext) -> Result<CommandStatus, CommandError> {
    if args.ui == Some(RunUiChoice::Prompt) {
        return Err(CommandError::RunPrompt);
    }
    let network = args.network.choice()?;
    if runner::is_inside_sandbox() {
        return Err(CommandError::RunSetup(Box::new(
            CommandError::InsideSandbox,
        )));
    }
    let merged = read_organisation().map_err(CommandError::from);
    let merged = merged.and_then(|organisation| {
        let settings = context.settings.get()?;
        merge_run(&args, &context.environment, settings, organisation)
    });
    let merged = merged.map_err(|error| CommandError::RunSetup(Box::new(error)))?;
    let hold = &merged.hold;
    if args.hold.is_some() && hold.source.is_organisation() {
        let (limit, source) = (hold.value, &hold.source);
        tracing::warn!(%limit, %source, "your organisation limits --hold");
    }
    let hotkey = merged.hotkey.value;
    let reporter = TerminalReporter {
        output: context.output,
        hotkey,
        json: context.json,
        quiet: args.quiet,
        has_record: !merged.records.is_empty(),
    };
    let ended = run_config(args, merged, network, context).and_then(|config| {
        // Before the runtime starts: building a sandbox forks.
        let prepared = PreparedRun::build(config)?;
        block_on(async { Ok(Box::pin(prepared.run(&reporter)).await?) })
    });
    match ended {
        Ok(outcome) => Ok(outcome.into()),
        Err(CommandError::Run(error)) => Err(error.into()),
        Err(error) => Err(CommandError::RunSetup(Box::new(error))),
    }
}

/// Returns the configuration according to the arguments, the environment and the terminal.
fn run_config(
    args: Args,
    merged: MergedRun,
    network: NetworkChoice,
    context: &CommandContext,
) -> Result<RunConfig, CommandError> {
    let environment = &context.environment;
    let ui = merged.ui.value;
    if ui == RunUiChoice::Tui {
        tui::require_screen_terminal(context)?;
    }
    let runtime_dir = environment.private_runtime_dir()?.to_owned();
    let has_ui = !matches!(ui, RunUiChoice::None | RunUiChoice::Prompt);
    let has_screen = has_ui && tui::require_screen_terminal(context).is_ok();
    let variables = environment.variables();
    let files = args.env_file.iter();
    let written = files.map(|path| env_file::read_env_file(path, variables));
    let written = written.collect::<Result<Vec<_>, _>>()?;
    // The command could have written a program that `run` would execute: it executes none.
    let popups = || {
        popup_desktop_config(context).map(|popups| {
            Box::new(PopupDesktopConfig {
                podman: None,
                ..popups
            })
        })
    };
    let working_dir = std::env::current_dir().context("cannot find the working directory")?;
    let approver = find_approver(&merged, environment)?;
    let rules = read_start_rules(&args, &merged, &working_dir, context)?;
    Ok(RunConfig {
        command: args.command,
        name: args.name,
        working_dir,
        variables: variables.to_vec(),
        written_variables: written.concat(),
        runtime_dir,
        config_dir: environment.config_dir().to_owned(),
        state_dir: environment.state_dir().to_owned(),
        shared_sockets: args.socket,
        rules,
        records: merged.records,
        is_record_required: merged.is_record_required,
        published: args.publish,
        check_server_names: merged.check_sni.value,
        limits: merged.limits,
        root_may_nest: args.nested,
        approver,
        own_program: std::env::current_exe().ok(),
        network,
        hold: merged.hold.value,
        proxy: match merged.proxy.map(|proxy| proxy.value) {
            Some(ProxyArg::Direct) => None,
            Some(ProxyArg::Through(proxy)) => Some(*proxy),
            None => proxy_of_environment(environment)?,
        },
        hosts_file: HOSTS_FILE.into(),
        resolv_conf: RESOLV_CONF.into(),
        screen: has_screen.then(|| RunScreen {
            hotkey: merged.hotkey.value,
            // An operator who did not ask for popups may not see this desktop (ssh).
            announces_questions: ui != RunUiChoice::Desktop,
            options: TuiOptions {
                shares_thread: true,
                ..tui::tui_options(context, merged.bell.value)
            },
        }),
        popups: match ui {
            RunUiChoice::Auto => PopupChoice::IfRunning(popups()?),
            RunUiChoice::Desktop => PopupChoice::Required(popups()?),
            RunUiChoice::Tui | RunUiChoice::None | RunUiChoice::Prompt => PopupChoice::Off,
        },
    })
}

/// Returns the approver, if there is one.
fn find_approver(
    merged: &MergedRun,
    environment: &UserEnvironment,
) -> Result<Option<ApproverConfig>, CommandError> {
    let Some((program, arguments)) = merged.approver.split_first() else {
        return Ok(None);
    };
    Ok(Some(ApproverConfig {
        program: approver::find_approver(Path::new(program), environment)?,
        arguments: arguments.to_vec(),
        environment: approver::approver_environment(environment),
        timeout: merged.approver_timeout,
    }))
}

/// The host's names, `hosts(5)`.
pub(crate) const HOSTS_FILE: &str = "/etc/hosts";
/// The host's name servers, `resolv.conf(5)`.
pub(crate) const RESOLV_CONF: &str = "/etc/resolv.conf";

/// Returns the proxy that the operator's variables name, if any.
pub(crate) fn proxy_of_environment(
    environment: &UserEnvironment,
) -> Result<Option<ProxySettings>, CommandError> {
    let variables = environment.variables().iter();
    let variables = variables.filter_map(|(name, value)| Some((name.to_str()?, value.to_str()?)));
    let proxy = ProxySettings::from_variables(variables)?;
    let has_proxy = proxy.servers().next().is_some();
    Ok(has_proxy.then_some(proxy))
}

impl NetworkArg {
    fn choice(self) -> Result<NetworkChoice, CommandError> {
        match self {
            Self::Dialed => Ok(NetworkChoice::Dialed),
            Self::None => Ok(NetworkChoice::None),
            Self::Pasta => Err(CommandError::RunNetworkHelper("pasta")),
            Self::Slirp4netns => Err(CommandError::RunNetworkHelper("slirp4netns")),
        }
    }
}
