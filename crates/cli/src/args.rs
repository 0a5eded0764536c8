// SPDX-License-Identifier: Apache-2.0
//! Command-line arguments, and the names of the program.

use std::ffi::OsString;
use std::path::Path;

use clap::{ArgAction, CommandFactory as _, FromArgMatches as _, Parser, ValueEnum};

use crate::commands::{CliCommand, notifier, notify, request, shield};
use crate::passed_arguments::separate_passed_arguments;

const ABOUT: &str = "Asks you before a sandbox may reach the network.

A program in a default-deny sandbox connects to the network; the connection waits and you are \
asked; your answer becomes a rule, and the connection is made or refused. Without an answer \
nothing opens.";

const AFTER_HELP: &str = "\
Examples:
  terok-clearance demo                   show a packet's path in private namespaces
  terok-clearance run -- npm install     run a command in a sandbox, and ask what it may reach
  terok-clearance tui                    answer the questions of all your sandboxes, full screen
  terok-clearance clearance              the same as a line prompt
  terok-clearance notifier               the same as popups on your desktop
  terok-clearance clearance --json       the same for programs: one JSON object per line
  terok-clearance doctor                 check what this host needs, and how to get it
  terok-clearance status                 show what is guarded now
  terok-clearance list                   list the pending questions with their ids
  terok-clearance allow web:17           answer one question
  terok-clearance log --since 2h         show what happened: questions, answers, connections
  terok-clearance allow web:17 --for 1h  the same for an hour
  terok-clearance rules                  list the rules in force; `revoke` ends one
  terok-clearance preview                print the firewall rules of a sandbox in nft syntax

Exit status:
  0    success (also if the output was closed early)
  1    failure; the reason is on standard error
  2    invalid arguments
  3    `notify --wait`: no action chosen; `allow`, `deny`: no such question; `revoke`: no such rule;
       no such sandbox; `log --verify`: a line was changed or removed
  4    `allow`, `deny`: already answered; `request`: not decided yet
  5    `list`, `rules`: a hub does not list its questions or rules; `request`: nothing was asked
  69   no hub or no notifier, or it does not reply; `status`: a hub does not answer
  70   internal error: a bug, please report it
  75   `reader`: another program listens to the packet log; `notifier`: another one runs
  125  `run` itself failed; otherwise `run` has the status of its command
  130  ended by Ctrl-C; 143 by SIGTERM

Sockets in the runtime directory, all private to you:
  terok/clearance/<id>/hub.sock          hub of one sandbox (`run`, `supervise`)
  terok/clearance/<id>.sock              the same of older releases
  terok-clearance.sock                   classic hub (`serve`)
  terok-shield-events.sock               readers report to it here
  terok-clearance-verdict.sock           verdict helper (`serve-verdict`)

Environment:
  XDG_RUNTIME_DIR    runtime directory; unset: /run/user/<uid>, else /tmp/terok-<uid>
  NO_COLOR, FORCE_COLOR, CLICOLOR_FORCE, CLICOLOR, TERM
                     colours, if --color is not given; the first that is set and not empty decides:
                     NO_COLOR: none; FORCE_COLOR and CLICOLOR_FORCE: always (0: the opposite);
                     CLICOLOR=0 and TERM=dumb: none; otherwise colours on a terminal
  HOME, PATH         unset: your home directory in /etc/passwd, the usual directories
  RUST_LOG           log filter, such as `debug` or `hub=trace,warn`; overrides -v
  JOURNAL_STREAM     set by systemd; if it means standard error, the log goes to the journal
  TEROK_CLEARANCE_NOTIFY_EVENTS
                     popups of `notifier`: see its help
  TEROK_CLEARANCE_HOTKEY
                     the key of `run --hotkey`

Files:
  config.toml        your defaults, in $XDG_CONFIG_HOME/terok-clearance or
                     ~/.config/terok-clearance; flags and variables come before it
  /etc/terok-clearance/policy.toml
                     limits of your organisation, which come before all of these
  See `terok-clearance config --help`.";

/// The parsed command line.
#[derive(Debug, Parser)]
#[command(
    name = "terok-clearance",
    version,
    about = ABOUT.split('\n').next(),
    long_about = ABOUT,
    after_long_help = AFTER_HELP,
    subcommand_required = true,
    arg_required_else_help = true,
    max_term_width = 100
)]
pub struct CliArgs {
    /// When to use colours: auto (on a terminal), always or never [default: auto]
    #[arg(
        long,
        global = true,
        help_heading = "Global options",
        value_enum,
        hide_possible_values = true,
        value_name = "WHEN"
    )]
    pub color: Option<ColorChoice>,
    /// Print one JSON object per line, also for errors; refused by commands without such output
    #[arg(long, global = true, help_heading = "Global options")]
    pub json: bool,
    /// Log more to standard error; repeat for still more
    #[arg(short, long, global = true, help_heading = "Global options", action = ArgAction::Count)]
    pub verbose: u8,
    /// The name by which the program was called.
    #[arg(skip)]
    pub name: ProgramName,
    /// The command.
    #[command(subcommand)]
    pub command: CliCommand,
}

impl CliArgs {
    /// Returns `true` if the user's configuration counts: not for services, nor under the names of
    /// other programs.
    pub(crate) fn reads_settings(&self) -> bool {
        let own_name = matches!(self.name, ProgramName::Clearance | ProgramName::Notifier);
        own_name && self.command.reads_settings()
    }
}

/// The names by which the program can be called.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ProgramName {
    /// `terok-clearance` and all other names: all commands.
    #[default]
    Clearance,
    /// `terok-clearance-hub`: commands, output and exit statuses of the Python program.
    Hub,
    /// `terok-clearance-notify`: only the command `notify`.
    Notify,
    /// `terok-clearance-notifier`: only the command `notifier`, as of releases up to 0.6.
    Notifier,
    /// `clearance-request`: only the command `request`.
    Request,
    /// `terok-shield`: the verbs of `shield` as commands.
    Shield,
}

/// When to use colours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ColorChoice {
    /// As the environment says, else colours on a terminal.
    Auto,
    /// Colours in every output.
    Always,
    /// No colours.
    Never,
}

/// Invalid arguments, or a request for help.
#[derive(Debug)]
pub struct UsageError {
    /// The parser's error or the help text.
    pub error: clap::Error,
    /// Whether JSON was requested.
    pub json: bool,
    /// The requested colours.
    pub color: ColorChoice,
    /// The name by which the program was called.
    pub name: ProgramName,
}

const HUB_PROGRAM_NAME: &str = "terok-clearance-hub";
const NOTIFY_PROGRAM_NAME: &str = "terok-clearance-notify";
const NOTIFIER_PROGRAM_NAME: &str = "terok-clearance-notifier";
const REQUEST_PROGRAM_NAME: &str = "clearance-request";
const SHIELD_PROGRAM_NAME: &str = "terok-shield";

/// All names by which the program can be called, but for those of readers.
pub(crate) const PROGRAM_NAMES: [&str; 6] = [
    "terok-clearance",
    HUB_PROGRAM_NAME,
    NOTIFY_PROGRAM_NAME,
    NOTIFIER_PROGRAM_NAME,
    REQUEST_PROGRAM_NAME,
    SHIELD_PROGRAM_NAME,
];

/// The commands of the Python program, including `install-service` from releases up to 0.6.
const HUB_SUBCOMMANDS: [&str; 5] = [
    "notify",
    "serve",
    "serve-verdict",
    "clearance",
    "install-service",
];

const HUB_AFTER_HELP: &str = "\
Commands, arguments, output and exit statuses are those of the Python stack's program of this \
name; `terok-clearance` has all commands.";

impl ProgramName {
    /// Returns the name in the journal.
    pub(crate) const fn program(self) -> &'static str {
        match self {
            Self::Clearance => "terok-clearance",
            Self::Hub => HUB_PROGRAM_NAME,
            Self::Notify => NOTIFY_PROGRAM_NAME,
            Self::Notifier => NOTIFIER_PROGRAM_NAME,
            Self::Request => REQUEST_PROGRAM_NAME,
            Self::Shield => SHIELD_PROGRAM_NAME,
        }
    }

    /// Returns the program name for the path by which the program was called.
    fn from_path(path: Option<&OsString>) -> Self {
        match path.and_then(|path| Path::new(path).file_name()?.to_str()) {
            Some(HUB_PROGRAM_NAME) => Self::Hub,
            Some(NOTIFY_PROGRAM_NAME) => Self::Notify,
            Some(NOTIFIER_PROGRAM_NAME) => Self::Notifier,
            Some(REQUEST_PROGRAM_NAME) => Self::Request,
            Some(SHIELD_PROGRAM_NAME) => Self::Shield,
            _ => Self::Clearance,
        }
    }
}

/// The names of the Python stack's reader: as installed, in the Python package, and without the
/// extension. Called by one of these names, this program runs `reader`.
const PYTHON_READER_NAMES: [&str; 3] = ["nflog-reader.py", "nflog_reader.py", "nflog-reader"];

/// Parses `args`. The first argument is the name of the program.
pub fn parse_args(args: Vec<OsString>) -> Result<CliArgs, UsageError> {
    let args = separate_passed_arguments(rewrite_python_reader_args(args));
    let name = ProgramName::from_path(args.first());
    // `--json` and `--color` are found before parsing, because the format of parser errors depends
    // on both.
    let before_the_workload = || args.iter().skip(1).take_while(|arg| *arg != "--");
    let json = before_the_workload().any(|arg| arg == "--json");
    let color = before_the_workload()
        .filter_map(|arg| {
            ColorChoice::from_str(arg.to_str()?.strip_prefix("--color=")?, false).ok()
        })
        .last()
        .unwrap_or(ColorChoice::Auto);
    build_parser(name)
        .try_get_matches_from(args)
        .and_then(|matches| match name {
            ProgramName::Clearance | ProgramName::Hub => CliArgs::from_arg_matches(&matches),
            ProgramName::Notify
            | ProgramName::Notifier
            | ProgramName::Request
            | ProgramName::Shield => Ok(CliArgs {
                color: matches.get_one("color").copied(),
                json: matches.get_flag("json"),
                verbose: matches.get_count("verbose"),
                name,
                command: match name {
                    ProgramName::Notifier => CliCommand::Notifier(notifier::Args {}),
                    ProgramName::Request => {
                        CliCommand::Request(request::Args::from_arg_matches(&matches)?)
                    }
                    ProgramName::Shield => {
                        CliCommand::Shield(shield::Args::from_arg_matches(&matches)?)
                    }
                    _ => CliCommand::Notify(notify::Args::from_arg_matches(&matches)?),
                },
            }),
        })
        .map(|cli| CliArgs { name, ..cli })
        .map_err(|error| UsageError {
            error,
            json,
            color,
            name,
        })
}

/// Inserts the command `reader` if the program is called like the Python stack's reader: by the
/// reader's name, or with the arguments of a Python interpreter
/// (`python -I nflog-reader.py STATE_DIR …`), as by the script of `reader --script`.
fn rewrite_python_reader_args(mut args: Vec<OsString>) -> Vec<OsString> {
    let is_reader = |arg: &OsString| {
        let name = Path::new(arg).file_name().and_then(|name| name.to_str());
        name.is_some_and(|name| PYTHON_READER_NAMES.contains(&name))
    };
    let options = args.iter().skip(1).take_while(|arg| {
        let arg = arg.as_encoded_bytes();
        arg.starts_with(b"-") && arg != b"--"
    });
    let script = 1 + options.count();
    let ours = if args.first().is_some_and(is_reader) {
        0
    } else if args.get(script).is_some_and(is_reader) {
        script
    } else {
        return args;
    };
    args.splice(..=ours, ["terok-clearance".into(), "reader".into()]);
    args
}

/// Returns the parser for the program name `name`.
pub fn build_parser(name: ProgramName) -> clap::Command {
    let whole = CliArgs::command();
    let arguments: Vec<_> = whole.get_arguments().cloned().collect();
    let verb = |verb: &str| whole.find_subcommand(verb).cloned();
    match name {
        ProgramName::Clearance => whole,
        ProgramName::Hub => clap::Command::new(HUB_PROGRAM_NAME)
            .version(env!("CARGO_PKG_VERSION"))
            .about("The clearance hub: sends questions to operators and receives their answers.")
            .after_help(HUB_AFTER_HELP)
            .disable_help_subcommand(true)
            .subcommand_required(true)
            .arg_required_else_help(true)
            // Python's parser accepts every unambiguous prefix of an option.
            .infer_long_args(true)
            .max_term_width(100)
            .args(arguments)
            .subcommands(HUB_SUBCOMMANDS.into_iter().filter_map(verb)),
        ProgramName::Notify => single_command(verb("notify"), NOTIFY_PROGRAM_NAME, arguments),
        ProgramName::Notifier => single_command(verb("notifier"), NOTIFIER_PROGRAM_NAME, arguments),
        ProgramName::Request => single_command(verb("request"), REQUEST_PROGRAM_NAME, arguments),
        ProgramName::Shield => verb("shield")
            .unwrap_or_default()
            .name(SHIELD_PROGRAM_NAME)
            .bin_name(SHIELD_PROGRAM_NAME)
            .disable_help_subcommand(true)
            // Python's parser accepts every unambiguous prefix of an option.
            .infer_long_args(true)
            .max_term_width(100)
            .args(arguments),
    }
}

/// Returns the parser for a name that has only one command.
fn single_command(
    command: Option<clap::Command>,
    name: &'static str,
    global: Vec<clap::Arg>,
) -> clap::Command {
    command
        .unwrap_or_default()
        .name(name)
        .bin_name(name)
        .version(env!("CARGO_PKG_VERSION"))
        .max_term_width(100)
        .args(global)
}

/// Returns the help of `shield`, or of `terok-shield`.
pub(crate) fn shield_help(name: ProgramName) -> String {
    let mut parser = if name == ProgramName::Shield {
        build_parser(name)
    } else {
        let mut whole = CliArgs::command();
        whole.build();
        whole.find_subcommand("shield").cloned().unwrap_or_default()
    };
    parser.render_long_help().to_string()
}

/// Adds the command `tui` to a call without arguments, if a terminal can show the screen: so
/// `terok clearance` calls the Python stack's program of this name.
pub fn add_default_command(args: &mut Vec<OsString>, has_screen: bool) {
    if has_screen
        && args.len() == 1
        && ProgramName::from_path(args.first()) == ProgramName::Clearance
    {
        args.push("tui".into());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse_line(line: &str) -> Result<CliArgs, UsageError> {
        parse_args(line.split(' ').map(OsString::from).collect())
    }

    #[test]
    fn the_parsers_are_consistent() {
        CliArgs::command().debug_assert();
        build_parser(ProgramName::Hub).debug_assert();
        build_parser(ProgramName::Notify).debug_assert();
        build_parser(ProgramName::Notifier).debug_assert();
        build_parser(ProgramName::Request).debug_assert();
        build_parser(ProgramName::Shield).debug_assert();
    }

    #[test]
    fn a_symlink_with_the_hubs_name_has_only_the_hubs_commands() {
        assert!(parse_line("/usr/bin/terok-clearance-hub serve").is_ok());
        assert!(parse_line("terok-clearance-hub preview").is_err());
        assert!(parse_line("terok-clearance preview").is_ok());
        assert!(parse_line("anything-else preview").is_ok());
    }

    #[test]
    fn a_call_of_the_python_reader_runs_our_reader() {
        for (line, expected) in [
            (
                "/usr/bin/nflog-reader /sd c --emit=json",
                "terok-clearance reader /sd c --emit=json",
            ),
            ("/x/nflog-reader.py /sd c", "terok-clearance reader /sd c"),
            (
                "/usr/bin/python3 -I /x/nflog-reader.py /sd c",
                "terok-clearance reader /sd c",
            ),
            (
                "python3 /x/nflog_reader.py /sd c --hub-socket=",
                "terok-clearance reader /sd c --hub-socket=",
            ),
            (
                "terok-clearance reader /sd c",
                "terok-clearance reader /sd c",
            ),
            (
                "terok-clearance run -- nflog-reader.py x",
                "terok-clearance run -- nflog-reader.py x",
            ),
            (
                "terok-clearance -- nflog-reader.py",
                "terok-clearance -- nflog-reader.py",
            ),
            ("terok-clearance", "terok-clearance"),
        ] {
            let args: Vec<OsString> = line.split(' ').map(Into::into).collect();
            let expected: Vec<OsString> = expected.split(' ').map(Into::into).collect();
            assert_eq!(rewrite_python_reader_args(args), expected, "{line}");
        }
        assert!(
            parse_line(
                "python3 -I /x/nflog-reader.py /sd c --annotations={} --container-id= --hub-socket="
            )
            .is_ok()
        );
    }

    #[test]
    fn a_symlink_with_the_name_of_notify_takes_its_arguments() {
        let line = "terok-clearance-notify Title Body --actions allow:Allow deny:Deny --wait -t -1";
        let cli = parse_line(line).unwrap();
        assert_eq!(cli.name, ProgramName::Notify);
        assert!(matches!(cli.command, CliCommand::Notify(_)));
        assert!(
            parse_line("terok-clearance-notify --json --color=never T")
                .unwrap()
                .json
        );
        for wrong in ["", " T --actions allow", " T B C", " T -t soon"] {
            assert!(parse_line(&format!("terok-clearance-notify{wrong}")).is_err());
        }
    }

    #[test]
    fn a_symlink_with_the_name_of_terok_shield_has_its_verbs() {
        let accepted = [
            "",
            " --version",
            " status",
            " status box",
            " --state-dir /s status box",
            " prepare box --profiles a,b --json",
            " run box -- alpine sh -c x",
            " resolve box --force",
            " allow box 203.0.113.7",
            " deny box a.example",
            " down box --container-id abc --disengage",
            " down --container-id=abc --dis box",
            " up box --container-id abc",
            " reset box",
            " quarantine box",
            " rules box",
            " watch box",
            " simple-clearance box",
            " logs --container box -n 5",
            " profiles",
            " setup",
            " check-environment",
            " preview --down --disengage",
        ];
        for line in accepted {
            let cli = parse_line(&format!("/usr/bin/terok-shield{line}")).unwrap();
            assert_eq!(cli.name, ProgramName::Shield, "{line}");
            assert!(matches!(cli.command, CliCommand::Shield(_)), "{line}");
        }
        for wrong in [
            " allow box",
            " down box",
            " block box",
            " serve",
            " rules box -- x",
        ] {
            assert!(
                parse_line(&format!("terok-shield{wrong}")).is_err(),
                "{wrong}"
            );
        }
        assert!(parse_line("terok-clearance shield allow box 203.0.113.7").is_ok());
    }

    #[test]
    fn a_symlink_with_the_name_of_the_notifier_takes_no_command() {
        let cli = parse_line("/usr/bin/terok-clearance-notifier -v --color=never").unwrap();
        assert_eq!((cli.name, cli.verbose), (ProgramName::Notifier, 1));
        assert!(matches!(cli.command, CliCommand::Notifier(_)));
        for wrong in ["notifier", "serve", "--socket x", "x"] {
            assert!(parse_line(&format!("terok-clearance-notifier {wrong}")).is_err());
        }
    }

    #[test]
    fn a_symlink_with_the_name_of_request_takes_its_arguments() {
        let cli = parse_line("/x/clearance-request a.test --reason r --wait 5 --json").unwrap();
        assert_eq!((cli.name, cli.json), (ProgramName::Request, true));
        assert!(matches!(cli.command, CliCommand::Request(_)));
        assert!(parse_line("clearance-request --status web:1").is_ok());
        for wrong in [
            "a.test",
            "request a.test --reason r",
            "a.test --status web:1",
        ] {
            assert!(
                parse_line(&format!("clearance-request {wrong}")).is_err(),
                "{wrong}"
            );
        }
    }

    #[test]
    fn without_arguments_a_screen_is_opened_under_the_programs_own_name_alone() {
        let with = |line: &str, has_screen| {
            let mut args: Vec<OsString> = line.split(' ').map(OsString::from).collect();
            add_default_command(&mut args, has_screen);
            args.join(" ".as_ref()).into_string().unwrap()
        };
        assert_eq!(
            with("/bin/terok-clearance", true),
            "/bin/terok-clearance tui"
        );
        assert_eq!(with("/bin/terok-clearance", false), "/bin/terok-clearance");
        for same in [
            "terok-clearance list",
            "terok-clearance --json",
            "terok-clearance-hub",
            "terok-clearance-notify",
            "terok-clearance-notifier",
            "nflog-reader",
        ] {
            let expected = if same == "nflog-reader" {
                "nflog-reader tui"
            } else {
                same
            };
            assert_eq!(with(same, true), expected);
        }
    }

    #[test]
    fn a_usage_error_has_the_requested_format() {
        let refusal = parse_line("terok-clearance --json --color=always nonsense").unwrap_err();
        assert!(refusal.json);
        assert_eq!(refusal.color, ColorChoice::Always);
        assert!(
            !parse_line("terok-clearance nonsense -- --json")
                .unwrap_err()
                .json
        );
    }
}
