// SPDX-License-Identifier: Apache-2.0
//! Every command with each colour variable, with `--json`, with an empty environment, with help;
//! completions and manual pages.

use std::io::Write as _;
use std::process::{Command, Stdio};

use serde_json::Value;

use super::harness::{ProgramOutput, UserSession, output_of};

/// Every command that people see, with arguments that its parser takes, and whether it has `--json`.
const COMMANDS: [(&str, &[&str], bool); 34] = [
    ("allow", &["web:1"], true),
    ("bypass", &["web", "--end"], true),
    ("clearance", &[], true),
    ("completions", &["bash"], false),
    ("config", &["show"], true),
    ("demo", &[], true),
    ("deny", &["web:1"], true),
    ("doctor", &[], true),
    ("explain", &["web", "a.example"], true),
    // Refused, so that no test installs units for the account that runs it.
    ("install-service", &["--bin-path", "\n"], false),
    ("list", &[], true),
    ("log", &[], true),
    ("man", &[], false),
    ("notifier", &[], false),
    ("notify", &["title"], true),
    ("podman", &["run", "--dry-run", "--rm", "alpine"], true),
    ("preview", &[], true),
    ("profile", &["list"], true),
    ("reader", &["/nonexistent", "web"], false),
    ("request", &["a.example", "--reason", "to test"], true),
    ("revoke", &["web:r1"], true),
    ("rules", &[], true),
    (
        "run",
        &["--ui", "none", "--network", "none", "--", "true"],
        true,
    ),
    ("serve", &[], false),
    ("serve-verdict", &[], false),
    ("setup", &["--dry-run"], true),
    ("shield", &["profiles"], false),
    ("simple-clearance", &["web"], true),
    ("status", &[], true),
    ("supervise", &["--pid", "4194304"], true),
    ("tui", &[], false),
    ("uninstall", &["--dry-run"], true),
    ("version", &[], true),
    ("watch", &[], true),
];

/// Returns the names of the commands in the help.
fn listed_commands() -> Vec<String> {
    let help = UserSession::new().run(&["help"]);
    assert_eq!((help.status, help.stderr.as_str()), (Some(0), ""));
    let (_, commands) = help.stdout.split_once("Commands:\n").unwrap();
    let lines = commands.lines().take_while(|line| line.starts_with("  "));
    let names = lines.filter_map(|line| line.split_whitespace().next());
    names.map(str::to_owned).collect()
}

#[test]
fn every_command_is_tried() {
    let mut listed = listed_commands();
    listed.retain(|name| name != "help");
    listed.push("install-service".to_owned());
    listed.sort();
    assert_eq!(listed, COMMANDS.map(|(name, ..)| name));
}

#[test]
fn json_is_refused_where_nothing_is_printed_for_programs() {
    for (name, args, has_json) in COMMANDS {
        if has_json {
            continue;
        }
        let session = UserSession::new();
        for place in [0, 1] {
            let mut line = vec![name];
            line.extend(args);
            line.insert(place, "--json");
            let output = session.run(&line);
            assert_eq!(output.status, Some(2), "{name}: {output:?}");
            assert_eq!(output.stdout, "", "{name}");
            let error: Value = serde_json::from_str(&output.stderr).unwrap();
            assert_eq!(error["status"], 2, "{name}");
            assert!(
                error["error"].as_str().unwrap().contains("--json"),
                "{error}"
            );
        }
        // Refused before anything happens.
        assert_eq!(
            std::fs::read_dir(session.path("")).unwrap().count(),
            0,
            "{name}"
        );
    }
}

#[test]
fn json_is_all_that_is_printed_where_it_is_taken() {
    let session = UserSession::new();
    for (name, args, has_json) in COMMANDS {
        // `watch` does not end, and `demo` takes long.
        if !has_json || ["watch", "demo"].contains(&name) {
            continue;
        }
        let output = session.run(&[&["--json", name], args].concat());
        let lines = output.stdout.lines().chain(output.stderr.lines());
        for line in lines.filter(|line| !line.contains(" WARN ")) {
            assert!(
                serde_json::from_str::<Value>(line).is_ok(),
                "{name}: {line}"
            );
        }
    }
}

#[test]
fn every_command_obeys_every_colour_variable() {
    let session = UserSession::new();
    let check = |variables: &[(&str, &str)], options: &[&str], is_coloured: bool| {
        for (name, ..) in COMMANDS {
            // An error of the command's parser, on standard error, and the command's help.
            for args in [&["--no-such-option"][..], &["--help"]] {
                let mut command = session.command(&[options, &[name], args].concat());
                command.envs(variables.iter().copied());
                let ProgramOutput { stdout, stderr, .. } = output_of(&mut command);
                let coloured = stdout.contains('\u{1b}') || stderr.contains('\u{1b}');
                assert_eq!(coloured, is_coloured, "{name} {args:?} {variables:?}");
            }
        }
        // Errors of commands and tables.
        for args in [
            &["tui"][..],
            &["man", "nonsense"],
            &["supervise", "--pid", "4194304"],
        ] {
            let mut command = session.command(&[options, args].concat());
            command.envs(variables.iter().copied());
            let output = output_of(&mut command);
            assert_eq!(
                output.stderr.contains('\u{1b}'),
                is_coloured,
                "{args:?} {variables:?}"
            );
        }
    };
    check(&[], &[], false);
    check(&[], &["--color=always"], true);
    check(&[("CLICOLOR", "1")], &[], false);
    check(&[("CLICOLOR_FORCE", "1")], &[], true);
    check(&[("FORCE_COLOR", "1")], &[], true);
    check(&[("FORCE_COLOR", "1"), ("CLICOLOR", "0")], &[], true);
    check(&[("FORCE_COLOR", "1"), ("NO_COLOR", "1")], &[], false);
    check(&[("FORCE_COLOR", "0"), ("CLICOLOR_FORCE", "1")], &[], false);
    check(&[("CLICOLOR_FORCE", "0")], &[], false);
    check(&[("NO_COLOR", "1")], &["--color=always"], true);
    check(&[("FORCE_COLOR", "1")], &["--color=never"], false);
}

#[test]
fn help_and_version_are_commands() {
    let session = UserSession::new();
    for name in listed_commands() {
        let by_command = session.run(&["help", &name]);
        assert_eq!(
            (by_command.status, by_command.stderr.as_str()),
            (Some(0), ""),
            "{name}"
        );
        if name != "help" {
            let by_option = session.run(&[&name, "--help"]);
            assert_eq!(by_command.stdout, by_option.stdout, "{name}");
        }
    }
    assert_eq!(session.run(&["help", "nonsense"]).status, Some(2));
    assert_eq!(
        session.run(&["help"]).stdout,
        session.run(&["--help"]).stdout
    );
    let version = session.run(&["version"]);
    assert_eq!(version.stdout, session.run(&["--version"]).stdout);
    assert_eq!(version.status, Some(0));
}

#[test]
fn every_command_starts_in_an_empty_environment() {
    let session = UserSession::new();
    for (name, args, _) in COMMANDS {
        // `log` reads the record of the account's own home directory then.
        if ["watch", "demo", "serve", "serve-verdict", "log"].contains(&name) {
            continue;
        }
        let mut command = Command::new(env!("CARGO_BIN_EXE_terok-clearance"));
        // The runtime directory keeps the tests of one machine apart.
        command
            .arg(name)
            .args(args)
            .env_clear()
            .stdin(Stdio::null());
        command
            .env("XDG_RUNTIME_DIR", session.path(""))
            .current_dir("/");
        let empty = output_of(&mut command);
        let usual = session.run(&[&[name], args].concat());
        let words = |text: &str| text.split(" WARN ").last().unwrap().to_owned();
        assert_eq!(empty.status, usual.status, "{name}: {empty:?}");
        assert_eq!(words(&empty.stderr), words(&usual.stderr), "{name}");
    }
}

#[test]
fn run_finds_its_command_and_its_state_in_an_empty_environment() {
    let script = "printf '%s|' \"$PATH\" \"$HOME\"; command -v cat >/dev/null && echo found";
    let run = ["run", "--ui", "none", "--quiet", "--", "sh", "-c", script];
    let mut users = vec![None];
    if rustix::process::geteuid().is_root() {
        users.push(Some(65_534));
    }
    for user in users {
        let session = UserSession::new();
        let mut command = Command::new("env");
        // An ordinary user, whose home directory cannot be written, or does not exist.
        if let Some(user) = user {
            use std::os::unix::fs::chown;
            use std::os::unix::process::CommandExt as _;
            chown(session.path(""), Some(user), Some(user)).unwrap();
            command.uid(user).gid(user);
        }
        let program = session.path("terok-clearance");
        std::fs::copy(env!("CARGO_BIN_EXE_terok-clearance"), &program).unwrap();
        let runtime = format!("XDG_RUNTIME_DIR={}", session.path("").display());
        command.arg("-i").arg(runtime).arg(program).args(run);
        command.current_dir(session.path("")).stdin(Stdio::null());
        let output = output_of(&mut command);
        assert!(output.stdout.ends_with("found\n"), "{user:?}: {output:?}");
        assert_eq!(output.status, Some(0), "{user:?}: {output:?}");
    }
}

#[test]
fn a_sandbox_inside_a_sandbox_is_named_so() {
    let session = UserSession::new();
    let program = env!("CARGO_BIN_EXE_terok-clearance");
    for (inner, status) in [
        (&["run", "--", "true"][..], 125),
        (
            &["run", "--network", "none", "--ui", "none", "--", "true"],
            125,
        ),
        (&["demo"], 1),
        (&["supervise", "--pid", "1"], 1),
    ] {
        let outer = ["run", "--ui", "none", "--quiet", "--", program];
        let output = session.run(&[&outer, inner].concat());
        let said = "error: this is already inside a sandbox of terok-clearance\nhint: ";
        assert!(output.stderr.contains(said), "{inner:?}: {output:?}");
        assert_eq!(output.status, Some(status), "{inner:?}");
    }
}

#[test]
fn a_process_that_does_not_run_is_said_with_the_way_to_start_it() {
    let session = UserSession::new();
    for pid in ["0", "4194304", "4294967295"] {
        let output = session.run(&["supervise", "--pid", pid]);
        assert_eq!(output.status, Some(1), "{output:?}");
        assert!(
            output
                .stderr
                .contains(&format!("there is no process {pid}")),
            "{output:?}"
        );
        assert!(output.stderr.contains("podman init"), "{output:?}");
    }
}

#[test]
fn completions_load_and_complete() {
    let session = UserSession::new();
    for shell in ["bash", "zsh", "fish"] {
        let output = session.run(&["completions", shell]);
        assert_eq!((output.status, output.stderr.as_str()), (Some(0), ""));
        std::fs::write(session.path(shell), output.stdout).unwrap();
        // bash is everywhere; the other two check their own where they are installed.
        let check = Command::new(shell)
            .arg("-n")
            .arg(session.path(shell))
            .output();
        if shell == "bash" || check.is_ok() {
            let check = check.unwrap();
            assert!(
                check.status.success() && check.stderr.is_empty(),
                "{check:?}"
            );
        }
    }
    let complete = |words: &str| {
        let script = format!(
            "source ./bash; COMP_WORDS=({words}); COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1)); \
             _terok__clearance terok-clearance \"${{COMP_WORDS[-1]}}\" \"${{COMP_WORDS[-2]}}\"; \
             echo \"${{COMPREPLY[@]}}\"; complete -p terok-clearance"
        );
        let mut bash = Command::new("bash");
        output_of(bash.args(["-c", &script]).current_dir(session.path("")))
    };
    for (words, completed) in [
        ("terok-clearance sup", "supervise"),
        ("terok-clearance list --cont", "--container"),
        ("terok-clearance serve-verdict --sh", "--shield"),
        ("terok-clearance completions z", "zsh"),
        ("terok-clearance run --ui desk", "desktop"),
    ] {
        let output = complete(words);
        assert!(output.stdout.contains(completed), "{words}: {output:?}");
        assert!(output.stdout.contains("terok-clearance\n"), "{output:?}");
    }
    let hidden = complete("terok-clearance demo-").stdout;
    assert!(!hidden.contains("demo-"), "{hidden}");
    assert_eq!(session.run(&["completions", "tcsh"]).status, Some(2));
}

fn assert_groff_knows_no_fault(name: &str, page: &str) {
    let mut groff = Command::new("groff");
    groff.args(["-man", "-Tutf8", "-ww", "-rLL=100n"]);
    groff
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut groff = groff.spawn().unwrap();
    let mut input = groff.stdin.take().unwrap();
    input.write_all(page.as_bytes()).unwrap();
    drop(input);
    let rendered = groff.wait_with_output().unwrap();
    let faults = String::from_utf8_lossy(&rendered.stderr);
    assert!(
        rendered.status.success() && faults.is_empty(),
        "{name}: {faults}"
    );
    assert!(!rendered.stdout.is_empty());
}

#[test]
fn all_manual_pages_are_written_to_a_directory() {
    let session = UserSession::new();
    let directory = tempfile::tempdir().unwrap();
    let pages = directory.path().join("man/man1");
    let path = pages.to_str().unwrap();
    let written = session.run(&["man", "--directory", path]);
    assert_eq!(
        (written.status, written.stdout, written.stderr),
        (Some(0), String::new(), String::new())
    );
    let mut expected: Vec<_> = listed_commands()
        .into_iter()
        .filter(|name| name != "help")
        .map(|name| format!("terok-clearance-{name}.1"))
        .collect();
    expected.extend(
        [
            "terok-clearance.1",
            "terok-clearance-config-show.1",
            "terok-clearance-hub.1",
            "terok-shield.1",
            "terok-shield-allow.1",
            "clearance-request.1",
        ]
        .map(str::to_owned),
    );
    for name in expected {
        let page = std::fs::read_to_string(pages.join(&name)).unwrap();
        let title = format!(".TH {} 1", name.trim_end_matches(".1"));
        assert!(page.contains(&title), "{name}: {page}");
    }
    for page in std::fs::read_dir(&pages).unwrap() {
        let path = page.unwrap().path();
        let page = std::fs::read_to_string(&path).unwrap();
        assert_groff_knows_no_fault(path.to_str().unwrap(), &page);
    }
    let refused = session.run(&["man", "run", "--directory", path]);
    assert_eq!(refused.status, Some(2), "{refused:?}");
}

#[test]
fn manual_pages_have_no_fault_that_groff_knows() {
    let session = UserSession::new();
    let mut pages = listed_commands();
    pages.retain(|name| name != "help");
    pages.push(String::new());
    for name in pages {
        let args: Vec<_> = ["man", &name]
            .into_iter()
            .filter(|arg| !arg.is_empty())
            .collect();
        let page = session.run(&args);
        assert_eq!((page.status, page.stderr.as_str()), (Some(0), ""), "{name}");
        let whole = format!("terok-clearance-{name}");
        let title = format!(".TH {} 1", whole.trim_end_matches('-'));
        assert!(page.stdout.contains(&title), "{name}: {}", page.stdout);
        assert_groff_knows_no_fault(&name, &page.stdout);
    }
    let nonsense = session.run(&["man", "nonsense"]);
    assert_eq!(nonsense.status, Some(2), "{nonsense:?}");
}
