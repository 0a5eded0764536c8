// SPDX-License-Identifier: Apache-2.0
//! The environment of a command, its exit status, and the absence of leftovers.

use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::PermissionsExt as _;
use std::process::{Command, Stdio};

use super::user::{as_everybody, told};

#[test]
fn the_status_is_the_commands_own() {
    as_everybody(|user| {
        for (script, status) in [
            ("true", 0),
            ("exit 7", 7),
            ("exit 255", 255),
            ("kill -9 $$", 137),
            ("kill -TERM $$", 143),
            ("(sleep 100 & exit 3)", 3),
        ] {
            let output = user.inside(script);
            assert_eq!(
                output.status.code(),
                Some(status),
                "{script}: {}",
                told(&output)
            );
        }
    });
}

#[test]
fn failures_before_the_command_have_the_statuses_of_a_shell() {
    as_everybody(|user| {
        let check = |args: &[&str], status, words: &str| {
            let output = user.run(args).output().unwrap();
            assert_eq!(
                output.status.code(),
                Some(status),
                "{args:?}: {}",
                told(&output)
            );
            let said = String::from_utf8_lossy(&output.stderr);
            assert!(said.contains(words), "{args:?}: {said}");
        };
        check(
            &["--network", "none", "--", "no-such-program"],
            127,
            "was not found",
        );
        check(
            &["--network", "none", "--", "/etc/passwd"],
            126,
            "cannot be executed",
        );
        check(&["--network", "none"], 2, "CMD");
        check(
            &["--network", "none", "--ui", "tui", "true"],
            125,
            "no terminal",
        );
        // `run` has no line prompt; the message names both other ways to answer.
        for words in ["--ui tui", "terok-clearance clearance"] {
            check(&["--network", "none", "--ui", "prompt", "true"], 2, words);
        }
        check(&["--allow", "a b", "--", "true"], 2, "a b");
        // The floor cannot be opened on the command line either.
        for floor in ["169.254.169.254", "169.254.0.0/16:80", "fe80::/10"] {
            for words in ["never opened", "leave this option out"] {
                check(&["--allow", floor, "--", "touch", "started"], 2, words);
            }
        }
        check(&["--hold", "60", "--", "touch", "started"], 2, "forever");
        check(
            &["--proxy", "ftp://x", "--", "touch", "started"],
            2,
            "socks5",
        );
        // The helper programs of earlier versions are named in a refusal that says what is instead.
        for helper in ["pasta", "slirp4netns"] {
            for words in [helper, "leave the option out", "--network none"] {
                check(&["--network", helper, "--", "touch", "started"], 2, words);
            }
        }
        assert!(!user.path("work/started").exists());
    });
}

#[test]
fn files_environment_and_directory_are_unchanged() {
    as_everybody(|user| {
        let mut run = user.run(&[
            "--network",
            "none",
            "--",
            "sh",
            "-c",
            "pwd; echo $GREETING; cat; echo made > made; echo err >&2",
        ]);
        std::fs::write(user.path("input"), "typed\n").unwrap();
        let input = std::fs::File::open(user.path("input")).unwrap();
        let output = run.env("GREETING", "hello").stdin(input).output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout);
        let work = user.path("work");
        assert_eq!(
            said,
            format!("{}\nhello\ntyped\n", work.display()),
            "{}",
            told(&output)
        );
        assert_eq!(String::from_utf8_lossy(&output.stderr), "err\n");
        assert_eq!(
            std::fs::read_to_string(user.path("work/made")).unwrap(),
            "made\n"
        );
    });
}

#[test]
fn other_processes_are_invisible() {
    as_everybody(|user| {
        let mut shell = user.shell_inside();
        let (_, numbers) = shell.does("echo /proc/[0-9]*");
        let count = numbers.split_whitespace().count();
        assert!(count <= 3, "the first, the shell: {numbers}");
        assert_eq!(
            shell.does("readlink /proc/self/ns/net").1.len(),
            "net:[4026531840]".len()
        );
    });
}

#[test]
fn signals_reach_the_command() {
    as_everybody(|user| {
        for (signal, status) in [("TERM", 15), ("INT", 2), ("HUP", 1), ("USR1", 10)] {
            let script =
                format!("trap 'exit {status}' {signal}; echo ready; while :; do sleep 0.01; done");
            let mut run = user.run(&["--network", "none", "--", "sh", "-c", &script]);
            let mut child = run.stdout(Stdio::piped()).spawn().unwrap();
            let mut line = String::new();
            BufReader::new(child.stdout.as_mut().unwrap())
                .read_line(&mut line)
                .unwrap();
            assert_eq!(line, "ready\n");
            let sent = Command::new("kill")
                .args(["-s", signal, &child.id().to_string()])
                .status();
            assert!(sent.unwrap().success());
            assert_eq!(child.wait().unwrap().code(), Some(status), "{signal}");
        }
    });
}

#[test]
fn nothing_is_left_when_the_command_ends_but_its_children_do_not() {
    as_everybody(|user| {
        let output = user.inside("sleep 1000 & setsid sleep 1000 & echo done");
        assert!(output.status.success(), "{}", told(&output));
        assert_eq!(String::from_utf8_lossy(&output.stdout), "done\n");
        let left = std::fs::read_dir(user.path("runtime/terok/clearance")).unwrap();
        let left: Vec<_> = left
            .flatten()
            .filter(|hub| hub.path().join("hub.sock").exists())
            .collect();
        assert!(left.is_empty(), "{left:?}");
    });
}

#[test]
fn the_end_of_the_supervisor_is_the_end_of_the_sandbox() {
    as_everybody(|user| {
        let mut run = user.run(&["--network", "none", "--", "sh", "-c", "echo $$; exec cat"]);
        let mut child = run
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut output = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        output.read_line(&mut line).unwrap();
        child.kill().unwrap(); // SIGKILL
        child.wait().unwrap();
        // The workload holds the other end of the pipe, so its end is the end of the file.
        line.clear();
        assert_eq!(output.read_line(&mut line).unwrap(), 0, "{line}");
    });
}

#[test]
fn a_working_directory_below_run_is_there() {
    as_everybody(|user| {
        let made = tempfile::Builder::new().prefix("terok-").tempdir_in("/run");
        let Ok(made) = made else {
            return; // root's alone
        };
        let work = made.path().join("disk/work");
        std::fs::create_dir_all(&work).unwrap();
        std::fs::write(work.join("file"), "here").unwrap();
        let open = std::fs::Permissions::from_mode(0o777);
        for path in [made.path(), &made.path().join("disk"), &work] {
            std::fs::set_permissions(path, open.clone()).unwrap();
        }
        let output = user
            .run(&[
                "--network",
                "none",
                "--",
                "sh",
                "-c",
                "cat file; echo x >new; ls -A /run",
            ])
            .current_dir(&work)
            .output()
            .unwrap();
        let said = told(&output);
        assert!(output.status.success() && said.contains("here"), "{said}");
        assert!(work.join("new").exists());
        assert!(!said.contains("\nuser"), "{said}");
    });
}

#[test]
fn a_socket_with_a_line_break_in_its_path_hides_no_file() {
    as_everybody(|user| {
        // The second line of its path is that of a program.
        let place = user.directory("place");
        let place = place.join("x\n");
        std::fs::create_dir_all(place.join("usr/bin")).unwrap();
        let listener = std::os::unix::net::UnixListener::bind(place.join("usr/bin/env")).unwrap();
        let output = user.inside("/usr/bin/env true");
        assert!(output.status.success(), "{}", told(&output));
        drop(listener);
    });
}

#[test]
fn a_program_of_another_name_knows_that_it_is_inside() {
    as_everybody(|user| {
        let renamed = user.path("work/tc");
        std::fs::copy(user.program(), &renamed).unwrap();
        let output = user
            .command(&renamed)
            .args(["run", "--network", "none", "--"])
            .arg(&renamed)
            .args(["run", "--", "true"])
            .output()
            .unwrap();
        let said = told(&output);
        assert_eq!(output.status.code(), Some(125), "{said}");
        assert!(said.contains("already inside a sandbox"), "{said}");
    });
}
