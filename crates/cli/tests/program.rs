// SPDX-License-Identifier: Apache-2.0
//! Tests of the whole program: help, exit statuses, sockets and prompt. Each test has a private
//! environment and runtime directory.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test fails by panicking, its helpers too"
)]

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, Command, ExitStatus, Output, Stdio};
use std::sync::mpsc;

use serde_json::{Value, json};
use tempfile::TempDir;
use test_support::directory::private_directory;
use test_support::packets::pending_line;
use test_support::pseudo_terminal::PseudoTerminal;

/// A user's session: a runtime directory and a minimal environment.
struct Session {
    directory: TempDir,
}

impl Session {
    fn new() -> Self {
        Self {
            directory: private_directory(),
        }
    }

    fn socket(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_terok-clearance"));
        command
            .args(args)
            .env_clear()
            .env("XDG_RUNTIME_DIR", self.directory.path())
            .env("HOME", self.directory.path())
            .stdin(Stdio::null());
        command
    }

    fn run(&self, args: &[&str]) -> Output {
        self.command(args).output().unwrap()
    }

    /// Starts `serve` and waits until the hub listens.
    fn serve(&self, args: &[&str]) -> Process {
        self.start(&[&["serve"], args].concat(), "the hub listens")
    }

    /// Starts a service and waits until it has logged `ready`.
    fn start(&self, args: &[&str], ready: &str) -> Process {
        let mut command = self.command(args);
        let mut serve = Process::start(command.stderr(Stdio::piped()));
        let mut log = BufReader::new(serve.child.stderr.take().unwrap());
        let mut said = String::new();
        while !said.contains(ready) {
            let read = log.read_line(&mut said).unwrap();
            assert_ne!(read, 0, "it ended: {said}");
        }
        serve.log = Some(log);
        serve
    }

    /// Reports one blocked packet for each name, like a reader.
    fn report(&self, names: &[&str]) {
        let mut reader = UnixStream::connect(self.socket("terok-shield-events.sock")).unwrap();
        for (n, name) in names.iter().enumerate() {
            let dossier = json!({"project": "warp", "task": "build", "name": "a\u{1b}[2Jb"});
            let id = n.to_string();
            let line = pending_line("0123456789ab", &id, "203.0.113.7", name, &dossier);
            reader.write_all(line.as_bytes()).unwrap();
        }
    }

    /// Serves the verdict helper's socket: replies with `reply` to each order, and passes the
    /// orders on.
    fn helper(&self, reply: Value) -> mpsc::Receiver<Value> {
        let listener = UnixListener::bind(self.socket("terok-clearance-verdict.sock")).unwrap();
        let (tell, told) = mpsc::channel();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = BufReader::new(stream.unwrap());
                let mut call = Vec::new();
                stream.read_until(0, &mut call).unwrap();
                if call.pop().is_none() {
                    continue;
                }
                let call: Value = serde_json::from_slice(&call).unwrap();
                tell.send(call["parameters"].clone()).unwrap();
                let reply = json!({ "parameters": reply }).to_string();
                stream.get_mut().write_all(reply.as_bytes()).unwrap();
                stream.get_mut().write_all(&[0]).unwrap();
            }
        });
        told
    }

    fn prompt(&self, args: &[&str]) -> Prompt {
        let mut command = self.command(&[&["--json", "clearance"], args].concat());
        let mut process = Process::start(command.stdin(Stdio::piped()).stdout(Stdio::piped()));
        let lines = BufReader::new(process.child.stdout.take().unwrap());
        Prompt {
            input: process.child.stdin.take(),
            lines,
            process,
        }
    }
}

/// A process that is killed at the end of the test.
struct Process {
    child: Child,
    log: Option<BufReader<std::process::ChildStderr>>,
}

impl Process {
    fn start(command: &mut Command) -> Self {
        let child = command.spawn().unwrap();
        Self { child, log: None }
    }

    fn signal(&self, signal: rustix::process::Signal) {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, signal).unwrap();
    }

    fn end(&mut self) -> ExitStatus {
        self.child.wait().unwrap()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// A prompt driven by a script.
struct Prompt {
    input: Option<ChildStdin>,
    lines: BufReader<std::process::ChildStdout>,
    process: Process,
}

impl Prompt {
    fn type_line(&mut self, line: &str) {
        writeln!(self.input.as_mut().unwrap(), "{line}").unwrap();
    }

    /// Returns the next line with this event, and the lines before it.
    fn until(&mut self, event: &str) -> (Value, Vec<Value>) {
        let mut before = Vec::new();
        loop {
            let mut line = String::new();
            let read = self.lines.read_line(&mut line).unwrap();
            assert_ne!(read, 0, "the prompt ended before {event}: {before:?}");
            let line: Value = serde_json::from_str(&line).unwrap();
            if line["event"] == event {
                return (line, before);
            }
            before.push(line);
        }
    }

    fn next(&mut self, event: &str) -> Value {
        self.until(event).0
    }

    fn quit(mut self) -> ExitStatus {
        drop(self.input.take());
        let mut rest = String::new();
        self.lines.read_to_string(&mut rest).unwrap();
        self.process.end()
    }
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

#[test]
fn help_has_descriptions_and_examples() {
    let session = Session::new();
    let help = session.run(&["--help"]);
    assert!(help.status.success());
    insta::assert_snapshot!("help", text(&help.stdout));
    for command in [
        "allow",
        "bypass",
        "clearance",
        "deny",
        "doctor",
        "explain",
        "list",
        "log",
        "notifier",
        "notify",
        "podman",
        "preview",
        "reader",
        "request",
        "revoke",
        "rules",
        "serve",
        "serve-verdict",
        "setup",
        "shield",
        "status",
        "tui",
        "uninstall",
        "watch",
    ] {
        let help = session.run(&[command, "--help"]);
        assert!(help.status.success());
        insta::assert_snapshot!(format!("help-{command}"), text(&help.stdout));
    }
    for command in ["run", "compose", "annotations"] {
        let help = session.run(&["podman", command, "--help"]);
        assert!(help.status.success());
        insta::assert_snapshot!(format!("help-podman-{command}"), text(&help.stdout));
    }
}

#[test]
fn invalid_arguments_fail_with_status_2_and_a_message() {
    let session = Session::new();
    for args in [&["nonsense"] as &[_], &[], &["clearance", "--nonsense"]] {
        let refused = session.run(args);
        assert_eq!(refused.status.code(), Some(2), "{args:?}");
        assert!(refused.stdout.is_empty() && !refused.stderr.is_empty());
        assert!(!refused.stderr.contains(&0x1b), "no colours in a pipe");
    }
    let refused = session.run(&["--json", "nonsense"]);
    let said: Value = serde_json::from_slice(&refused.stderr).unwrap();
    assert_eq!(said["status"], 2);
    let colored = session.run(&["--color=always", "nonsense"]);
    assert!(colored.stderr.contains(&0x1b));
}

#[test]
fn an_error_message_names_cause_object_and_remedy() {
    let session = Session::new();
    let path = session.socket("none.sock");
    let path = path.to_str().unwrap();
    let failed = session.run(&["clearance", "--socket", path]);
    assert_eq!(failed.status.code(), Some(1));
    let said = text(&failed.stderr).replace(path, "PATH");
    insta::assert_snapshot!(said, @r"
    error: clearance hub unavailable: no process listens on PATH: No such file or directory (os error 2)
    hint: `terok-clearance clearance` without --socket waits for hubs
    ");
    let failed = session.run(&["--json", "clearance", "--socket", path]);
    let said: Value = serde_json::from_slice(&failed.stderr).unwrap();
    assert_eq!(said["error"], "clearance hub unavailable");
    assert_eq!(said["status"], 1);
}

#[test]
fn a_second_hub_is_refused_and_a_signal_ends_the_first_cleanly() {
    let session = Session::new();
    for signal in [rustix::process::Signal::TERM, rustix::process::Signal::INT] {
        let mut first = session.serve(&[]);
        let pid = first.child.id().to_string();
        let second = session.run(&["serve"]);
        assert_eq!(second.status.code(), Some(1));
        assert!(text(&second.stderr).contains(&pid), "it names the process");
        let sockets = ["terok-clearance.sock", "terok-shield-events.sock"];
        for socket in sockets {
            let mode = std::fs::symlink_metadata(session.socket(socket)).unwrap();
            let mode = PermissionsExt::mode(&mode.permissions());
            assert_eq!(mode & 0o777, 0o600, "{socket}");
        }
        first.signal(signal);
        assert!(first.end().success());
        assert_eq!(
            std::fs::read_dir(session.directory.path()).unwrap().count(),
            0,
            "nothing is left behind"
        );
    }
}

#[test]
fn an_answer_goes_from_the_prompt_to_the_verdict_helper() {
    let session = Session::new();
    let orders = session.helper(json!({"ok": true, "stderr": ""}));
    let _serve = session.serve(&[]);
    session.report(&["one.example", "two.example", "one.example"]);
    let mut prompt = session.prompt(&[]);
    let ready = prompt.next("ready");
    assert_eq!((&ready["hubs"], &ready["rows"]), (&json!(1), &json!(2)));
    prompt.type_line("l");
    let one = prompt.next("listed");
    assert_eq!(
        (&one["dest"], &one["count"]),
        (&json!("one.example"), &json!(2))
    );
    assert_eq!(one["dossier"]["name"], "a [2Jb");
    prompt.type_line("a 1");
    let decided = prompt.next("decided");
    assert_eq!((&decided["row"], &decided["ok"]), (&json!(1), &json!(true)));
    // The order has exactly the scope that the row showed.
    assert_eq!(decided["scope"], one["scope"]);
    let order = orders.recv().unwrap();
    let expected = json!({"container": "0123456789ab", "dest": "one.example", "action": "allow"});
    assert_eq!(order, expected);
    // The row has ended, and the number is not used for another question.
    prompt.type_line("d 1");
    let refused = prompt.next("refused");
    assert_eq!(refused["row"], 1);
    // A script can check the question of a row before answering.
    prompt.type_line(r#"{"action":"deny","row":2,"request":"0123456789ab:0"}"#);
    assert_eq!(prompt.next("refused")["row"], 2);
    prompt.type_line(r#"{"action":"deny","row":2,"request":"0123456789ab:1"}"#);
    assert_eq!(prompt.next("decided")["row"], 2);
    assert_eq!(orders.recv().unwrap()["action"], "deny");
    assert!(prompt.quit().success());
    assert!(orders.try_recv().is_err(), "nothing else was ordered");
}

#[test]
fn with_the_verdict_helper_an_answer_runs_the_shield_program() {
    let session = Session::new();
    let orders = session.socket("orders");
    let shield = session.socket("terok-shield");
    let script = format!(
        "#!/bin/sh\necho \"$@\" >> {}\n[ $3 != bad.example ] || {{ echo no such name >&2; exit 3; }}\n",
        orders.display()
    );
    std::fs::write(&shield, script).unwrap();
    std::fs::set_permissions(&shield, PermissionsExt::from_mode(0o700)).unwrap();
    let helper = ["serve-verdict", "--shield", shield.to_str().unwrap()];
    let mut helper = session.start(&helper, "the verdict helper listens");
    let _serve = session.serve(&[]);
    session.report(&["one.example", "bad.example"]);
    let mut prompt = session.prompt(&[]);
    prompt.next("ready");
    prompt.type_line("d 1");
    assert_eq!(prompt.next("decided")["ok"], true);
    prompt.type_line("a 2");
    assert_eq!(prompt.next("failed")["reason"], "no such name");
    assert!(prompt.quit().success());
    assert_eq!(
        std::fs::read_to_string(orders).unwrap(),
        "deny 0123456789ab one.example\nallow 0123456789ab bad.example\n"
    );
    helper.signal(rustix::process::Signal::TERM);
    assert!(helper.end().success());
    assert!(!session.socket("terok-clearance-verdict.sock").exists());
}

#[test]
fn a_failed_answer_keeps_the_question_and_the_end_of_input_writes_no_rule() {
    let session = Session::new();
    let orders = session.helper(json!({"ok": false, "stderr": "no such sandbox"}));
    let _serve = session.serve(&[]);
    let mut prompt = session.prompt(&[]);
    prompt.next("ready");
    session.report(&["one.example"]);
    prompt.next("pending");
    prompt.type_line("a 1");
    let failed = prompt.next("failed");
    assert_eq!(
        (&failed["row"], &failed["reason"]),
        (&json!(1), &json!("no such sandbox"))
    );
    prompt.type_line("l");
    assert_eq!(prompt.next("list")["rows"], 1);
    orders.recv().unwrap();
    assert!(prompt.quit().success());
    // The next prompt ends by a signal.
    let mut prompt = session.prompt(&[]);
    prompt.next("ready");
    prompt.process.signal(rustix::process::Signal::INT);
    assert_eq!(prompt.process.end().code(), Some(130));
    assert!(orders.try_recv().is_err(), "no order was sent");
}

#[test]
fn late_and_restarted_hubs_are_found() {
    let session = Session::new();
    let mut prompt = session.prompt(&[]);
    assert_eq!(prompt.next("ready")["hubs"], 0);
    let own = session.socket("terok/clearance/0123456789ab/hub.sock");
    let args = ["--clearance-socket", own.to_str().unwrap()];
    for _ in 0..2 {
        let mut serve = session.serve(&args);
        // The first hub leaves its socket behind; the prompt notices the removal or the
        // replacement.
        let state = prompt.next("hub")["state"].clone();
        if state == "gone" {
            assert_eq!(prompt.next("hub")["state"], "up");
        } else {
            assert_eq!(state, "up");
        }
        prompt.next("synced");
        session.report(&["one.example"]);
        prompt.next("pending");
        serve.signal(rustix::process::Signal::KILL);
        serve.end();
        assert_eq!(prompt.next("hub")["state"], "down");
        // No operator is connected.
        prompt.type_line("a 1");
        prompt.next("refused");
    }
    assert!(prompt.quit().success());
}

#[test]
fn the_second_of_two_prompts_is_told_who_answered_first() {
    let session = Session::new();
    let _orders = session.helper(json!({"ok": true, "stderr": ""}));
    let _serve = session.serve(&[]);
    let (mut one, mut two) = (session.prompt(&[]), session.prompt(&[]));
    one.next("ready");
    two.next("ready");
    session.report(&["one.example"]);
    one.next("pending");
    two.next("pending");
    one.type_line("d 1");
    let (first, second) = (one.next("decided"), two.next("decided"));
    assert_eq!(first["by"], second["by"]);
    let by = first["by"].as_str().unwrap();
    assert!(by.contains(&one.process.child.id().to_string()), "{by}");
}

#[test]
fn text_output_shows_the_scope_of_an_answer() {
    let session = Session::new();
    let _serve = session.serve(&[]);
    session.report(&["one.example", ""]);
    let mut command = session.command(&["clearance"]);
    let mut prompt = Process::start(command.stdin(Stdio::piped()).stdout(Stdio::piped()));
    let mut input = prompt.child.stdin.take().unwrap();
    input.write_all(b"a 3\nd\nnonsense\nh\nq\na 1\n").unwrap();
    let mut shown = String::new();
    let mut output = prompt.child.stdout.take().unwrap();
    output.read_to_string(&mut shown).unwrap();
    assert!(prompt.end().success());
    let directory = session.directory.path().to_str().unwrap();
    let shown = shown.replace(directory, "RUNTIME");
    insta::assert_snapshot!("prompt", since_when_is_not_known(&shown));
}

#[test]
fn colours_are_for_terminals() {
    let session = Session::new();
    let _serve = session.serve(&[]);
    session.report(&["one.example"]);
    let on_a_terminal = |variables: &[(&str, &str)]| {
        let terminal = PseudoTerminal::open(24, 80);
        let mut command = session.command(&["clearance"]);
        command.envs(variables.iter().copied());
        command.stdin(terminal.stdio()).stdout(terminal.stdio());
        let mut prompt = Process::start(&mut command);
        // Reading the terminal fails once all programs have closed it.
        drop(command);
        let mut terminal = terminal.into_master();
        let (mut shown, mut buffer) = (Vec::new(), [0; 4096]);
        while !text(&shown).contains("1 question") {
            let read = terminal.read(&mut buffer).unwrap();
            shown.extend(&buffer[..read]);
        }
        terminal.write_all(b"q\n").unwrap();
        assert!(prompt.end().success());
        text(&shown).contains("\u{1b}[1;33m[1] BLOCKED")
    };
    assert!(on_a_terminal(&[("TERM", "xterm")]));
    assert!(!on_a_terminal(&[("TERM", "xterm"), ("NO_COLOR", "1")]));
    assert!(!on_a_terminal(&[("TERM", "dumb")]));
}

/// Replaces the age in seconds, which varies.
fn since_when_is_not_known(shown: &str) -> String {
    let mut words: Vec<_> = shown.split(' ').collect();
    for at in 2..words.len() {
        if words[at].starts_with("ago") && words[at - 1] == "s" {
            words[at - 2] = "N";
        }
    }
    words.join(" ")
}

#[test]
fn closed_output_is_no_failure() {
    let session = Session::new();
    let mut command = session.command(&["--help"]);
    let mut help = Process::start(command.stdout(Stdio::piped()).stderr(Stdio::piped()));
    drop(help.child.stdout.take());
    let mut said = String::new();
    let mut stderr = help.child.stderr.take().unwrap();
    stderr.read_to_string(&mut said).unwrap();
    assert!(help.end().success());
    assert_eq!(said, "");
}

#[test]
fn under_the_name_of_the_hub_it_has_the_hubs_commands() {
    let session = Session::new();
    let hub = session.socket("terok-clearance-hub");
    std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_terok-clearance"), &hub).unwrap();
    let run = |args: &[&str]| {
        let mut command = Command::new(&hub);
        command.args(args).env_clear().output().unwrap()
    };
    let help = run(&[]);
    assert_eq!(help.status.code(), Some(2));
    insta::assert_snapshot!("help-terok-clearance-hub", text(&help.stdout));
    let unavailable = run(&["clearance", "--socket", "/nonexistent/hub.sock"]);
    assert_eq!(unavailable.status.code(), Some(1));
    let said = text(&unavailable.stderr);
    assert!(said.starts_with("clearance hub unavailable: "), "{said}");
    let refused = run(&["install-service", "--bin-path", "\n"]);
    assert_eq!(refused.status.code(), Some(1));
    assert_eq!(run(&["preview"]).status.code(), Some(2));
    assert!(run(&["serve", "--help"]).status.success());
}

#[test]
fn under_the_name_of_terok_shield_it_has_the_verbs() {
    let session = Session::new();
    let shield = session.socket("terok-shield");
    std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_terok-clearance"), &shield).unwrap();
    let home = session.directory.path();
    let run = |args: &[&str]| {
        let mut command = Command::new(&shield);
        let command = command.args(args).env_clear().env("HOME", home);
        command.output().unwrap()
    };
    let help = run(&[]);
    assert_eq!(help.status.code(), Some(0));
    insta::assert_snapshot!("help-terok-shield", text(&help.stdout));
    let profiles = run(&["profiles"]);
    assert!(text(&profiles.stdout).contains("dev-standard\n"));
    let refused = run(&["logs", "--container", "../x"]);
    assert_eq!(refused.status.code(), Some(1));
    assert_eq!(
        text(&refused.stderr),
        "Error: Unsafe container name: \"../x\"\n"
    );
    // Neither podman nor nft is on the path.
    let mut setup = Command::new(&shield);
    let setup = setup
        .arg("setup")
        .env_clear()
        .env("PATH", home)
        .env("HOME", home);
    let setup = setup.output().unwrap();
    assert_eq!(setup.status.code(), Some(1));
    assert_eq!(text(&setup.stderr), "Error: podman is not installed\n");
    let json = run(&["--json", "profiles"]);
    assert_eq!(json.status.code(), Some(2));
    assert_eq!(run(&["serve"]).status.code(), Some(2));
    // The same verbs of the program under its own name.
    let own = session.run(&["shield", "preview", "--disengage"]);
    assert_eq!(text(&own.stderr), "error: --disengage requires --down\n");
    assert_eq!(session.run(&["shield"]).status.code(), Some(0));
}

#[test]
fn under_the_name_of_notify_it_is_silent_without_a_desktop() {
    let session = Session::new();
    let notify = session.socket("terok-clearance-notify");
    std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_terok-clearance"), &notify).unwrap();
    let run = |args: &str| {
        let mut command = Command::new(&notify);
        let command = command.args(args.split_whitespace()).env_clear();
        command.output().unwrap()
    };
    let check = |args: &str, code: i32, stdout: &str| {
        let output = run(args);
        assert_eq!(output.status.code(), Some(code), "{args}");
        assert_eq!(text(&output.stdout), stdout, "{args}");
    };
    insta::assert_snapshot!("help-terok-clearance-notify", text(&run("--help").stdout));
    check("Title", 0, "0\n");
    check("Title Body -t 500", 0, "0\n");
    check("Title --json", 0, "{\"id\":0}\n");
    let asked = "Title Body --actions allow:Allow deny:Deny";
    check(asked, 0, "0\n");
    check(&format!("{asked} --wait"), 69, "0\n");
    check(&format!("{asked} allow:Again"), 2, "");
    check("Title Body --actions allow", 2, "");
    check("Title Body Else", 2, "");
    assert_eq!(text(&run("Title").stderr), "");
}
