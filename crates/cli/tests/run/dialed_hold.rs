// SPDX-License-Identifier: Apache-2.0
//! Connections that wait for an answer: how long, for whom, and what an answer releases.

use std::process::Stdio;

use super::lab::{Lab, hello};
use super::machine::line;
use super::user::{User, as_everybody};

/// The words of a program whose connection was refused.
const REFUSED: &str = "failed: ECONNREFUSED";

#[test]
fn a_connection_waits_for_its_answer() {
    as_everybody(|user| {
        let lab = Lab::new(user);
        let mut sandbox = lab.sandbox(&[]);
        let mut operator = lab.operator();
        // Two programs with ways of their own to wait; the question stands before each answer.
        sandbox.begins("greet plain.test");
        let question = operator.answer("plain.test", 'a');
        assert_eq!(question["port"], 7004);
        assert_eq!(question["protocol"], "tcp");
        assert_eq!(question["address"], "plain.test");
        assert_eq!(question["zone"], serde_json::Value::Null);
        assert_eq!(sandbox.ends(), hello("198.51.100.41"));
        sandbox.shell.begins("curl -sS http://other.test/");
        operator.answer("other.test", 'a');
        assert_eq!(sandbox.shell.ends(), (0, hello("198.51.100.129")));

        sandbox.begins("greet one.test");
        operator.answer("one.test", 'd');
        assert_eq!(sandbox.ends(), REFUSED);
        // Both answers last: nothing is asked again.
        assert_eq!(sandbox.does("greet plain.test"), hello("198.51.100.41"));
        assert_eq!(sandbox.does("greet one.test"), REFUSED);
        assert_eq!(operator.other_questions(), Vec::<&str>::new());
        let said = sandbox.finish();
        assert!(
            said.contains("asked about 3: 2 allowed, 1 denied, 0 unanswered"),
            "{said}"
        );
        assert_eq!(lab.names_asked(), ["other.test", "plain.test"]);
    });
}

#[test]
fn a_program_that_gives_up_leaves_a_question_whose_answer_serves_the_next_attempt() {
    as_everybody(|user| {
        let lab = Lab::new(user);
        let mut sandbox = lab.sandbox(&[]);
        let mut operator = lab.operator();
        // Another name waits as long as that: programs may be patient.
        sandbox.shell.begins(
            "curl -sS http://other.test/ > patient & python3 w.py greet plain.test 7004 2; wait",
        );
        let question = operator.asked("plain.test");
        let patient = operator.asked("other.test");
        let gave_up = operator
            .until(|event| event["dest"] == "plain.test" && event["gave_up_after"].is_number());
        let after = gave_up["gave_up_after"].as_u64().unwrap();
        assert!((1..=3).contains(&after), "{gave_up}");
        assert_eq!(gave_up["waiting"], serde_json::Value::Null);
        operator.decide(&patient, 'a');
        assert_eq!(sandbox.ends(), "failed: TimeoutError");
        assert_eq!(
            sandbox.shell.does("cat patient"),
            (0, hello("198.51.100.129"))
        );
        assert_eq!(lab.names_asked(), ["other.test"]);
        operator.decide(&question, 'a');
        assert_eq!(sandbox.does("greet plain.test"), hello("198.51.100.41"));
        assert_eq!(operator.other_questions(), Vec::<&str>::new());
    });
}

#[test]
fn with_nobody_there_a_connection_is_refused_at_once_and_said_once() {
    as_everybody(|user| {
        let lab = Lab::new(user);
        let mut sandbox = lab.sandbox(&[]);
        // Somebody may come in the first seconds after the start, but nobody does.
        assert_eq!(sandbox.does("greet plain.test"), REFUSED);
        // From then on nothing waits: a program that has no second does not notice.
        for _ in 0..3 {
            assert_eq!(sandbox.does("greet plain.test 7004 1"), REFUSED);
            assert_eq!(sandbox.does("datagram plain.test hello 1"), REFUSED);
        }
        // A `watch` is nobody who answers.
        let mut watch = lab.machine.program(user, &["--json", "watch"]);
        let mut watch = watch.stdout(Stdio::piped()).spawn().unwrap();
        while !line(&mut watch).contains("\"pending\"") {}
        assert_eq!(sandbox.does("greet plain.test 7004 1"), REFUSED);
        watch.kill().unwrap();
        watch.wait().unwrap();
        // Whoever comes later finds the questions, and their answers serve the next attempt.
        let mut operator = lab.operator();
        operator.answer("plain.test", 'a');
        assert_eq!(sandbox.does("greet plain.test"), hello("198.51.100.41"));
        let said = sandbox.finish();
        let count = |text: &str| said.matches(text).count();
        assert_eq!(
            count("refused plain.test:7004: nobody is there"),
            1,
            "{said}"
        );
        assert_eq!(
            count("refused plain.test:9999/udp: nobody is there"),
            1,
            "{said}"
        );
    });
}

#[test]
fn a_connection_that_waits_outlives_a_short_absence_of_the_operator() {
    as_everybody(|user| {
        let lab = Lab::new(user);
        let mut sandbox = lab.sandbox(&[]);
        let mut operator = lab.operator();
        sandbox.begins("greet plain.test");
        operator.asked("plain.test");
        drop(operator);
        // The user interface was restarted.
        let mut operator = lab.operator();
        let question = operator.answer("plain.test", 'a');
        assert_eq!(question["waiting"], 1);
        assert_eq!(sandbox.ends(), hello("198.51.100.41"));
        // Nobody comes back: refused, not allowed.
        sandbox.begins("greet other.test");
        operator.asked("other.test");
        drop(operator);
        assert_eq!(sandbox.ends(), REFUSED);
        assert_eq!(lab.names_asked(), ["plain.test"]);
        let said = sandbox.finish();
        assert!(
            said.contains("refused other.test:7004: nobody is there"),
            "{said}"
        );
        assert!(said.contains("1 allowed, 0 denied, 1 unanswered"), "{said}");
    });
}

#[test]
fn the_time_to_wait_is_an_option() {
    as_everybody(|user| {
        let lab = Lab::new(user);
        // None at all, although an operator is there.
        let mut sandbox = lab.sandbox(&["--hold", "0"]);
        let mut operator = lab.operator();
        assert_eq!(sandbox.does("greet plain.test 7004 1"), REFUSED);
        assert_eq!(sandbox.does("datagram plain.test hello 1"), REFUSED);
        operator.answer("plain.test", 'a');
        assert_eq!(sandbox.does("greet plain.test"), hello("198.51.100.41"));
        drop(operator);
        let said = sandbox.finish();
        assert!(!said.contains("nobody"), "{said}");

        // One second, for both protocols: an error ends the wait, and the question stays.
        let mut sandbox = lab.sandbox(&["--hold", "1s"]);
        let mut operator = lab.operator();
        sandbox.begins("greet plain.test 7004 20");
        let question = operator.asked("plain.test");
        assert_eq!(sandbox.ends(), REFUSED);
        assert_eq!(sandbox.does("datagram other.test hello 20"), REFUSED);
        operator.decide(&question, 'a');
        assert_eq!(sandbox.does("greet plain.test"), hello("198.51.100.41"));
        let said = sandbox.finish();
        for dest in ["plain.test:7004", "other.test:9999/udp"] {
            let ended = format!("refused {dest}: nobody answered in time (--hold)");
            assert_eq!(said.matches(&ended).count(), 1, "{said}");
        }
        for wrong in ["-1s", "60", "1d", "always"] {
            let output = lab
                .run_command(&["--hold", wrong], &["true"])
                .output()
                .unwrap();
            assert_eq!(output.status.code(), Some(2), "{wrong}");
            assert!(
                String::from_utf8_lossy(&output.stderr).contains("forever"),
                "{wrong}"
            );
        }
    });
}

#[test]
fn an_answer_releases_every_connection_that_it_covers_and_no_other() {
    as_everybody(|user| {
        let lab = Lab::new(user);
        let mut sandbox = lab.sandbox(&[]);
        let mut operator = lab.operator();
        sandbox.shell.begins(
            "python3 w.py together plain.test plain.test plain.test & \
             python3 w.py greet plain.test 80; wait",
        );
        let all_wait = operator.waiting("plain.test", 3);
        assert_eq!(all_wait["port"], 7004);
        assert!(all_wait["waiting_since"].is_number(), "{all_wait}");
        let questions = [operator.asked("plain.test"), operator.asked("plain.test")];
        let by_port = |port: u16| questions.iter().find(|one| one["port"] == port).unwrap();
        operator.decide(by_port(7004), 'a');
        operator.decide(by_port(80), 'd');
        let said = sandbox.ends();
        assert_eq!(said.matches(&hello("198.51.100.41")).count(), 3, "{said}");
        assert!(said.contains(REFUSED), "{said}");
    });
}

#[test]
fn one_answer_releases_hundreds_of_connections() {
    let user = User::new(None);
    let lab = Lab::new(&user);
    let mut sandbox = lab.sandbox(&[]);
    let mut operator = lab.operator();
    for (host, answer, said) in [
        ("plain.test", 'a', "500 greeted"),
        ("other.test", 'd', "500 ECONNREFUSED"),
    ] {
        let flood = format!("ulimit -n $(ulimit -Hn); python3 w.py flood {host} 500");
        sandbox.shell.begins(&flood);
        let question = operator.asked(host);
        operator.waiting(host, 500);
        operator.decide(&question, answer);
        assert_eq!(sandbox.ends(), said);
    }
    assert_eq!(operator.other_questions(), Vec::<&str>::new());
    assert_eq!(lab.names_asked(), ["plain.test"]);
}

/// A client of the Python stack's interface, which allows the first question.
const CLASSIC_CLIENT: &str = r#"
import glob, json, os, socket

[path] = glob.glob(os.environ["XDG_RUNTIME_DIR"] + "/terok/clearance/*/hub.sock")

def call(method, **more):
    stream = socket.socket(socket.AF_UNIX)
    stream.connect(path)
    stream.sendall(json.dumps({"method": "org.terok.Clearance1." + method, **more}).encode() + b"\0")
    return stream

def replies(stream):
    data = b""
    while block := stream.recv(65536):
        data += block
        while b"\0" in data:
            reply, _, data = data.partition(b"\0")
            yield json.loads(reply)

stream = call("Subscribe", more=True)
print("subscribed", flush=True)
for reply in replies(stream):
    event = reply["parameters"]["event"]
    if event["type"] == "connection_blocked" and "plain.test" in (event["domain"], event["dest"]):
        verdict = {key: event[key] for key in ("container", "request_id")}
        verdict |= {"dest": event["domain"] or event["dest"], "action": "allow"}
        print(next(replies(call("Verdict", parameters=verdict))), flush=True)
        break
stream.recv(1)
"#;

#[test]
fn a_client_of_the_classic_interface_is_somebody_who_answers() {
    let user = User::new(None);
    let lab = Lab::new(&user);
    let mut sandbox = lab.sandbox(&[]);
    // The time in which somebody may come passes.
    assert_eq!(sandbox.does("greet one.test"), REFUSED);
    let client = ["python3", "-c", CLASSIC_CLIENT];
    let mut client = lab.machine.command(&user, &client);
    let mut client = client.stdout(Stdio::piped()).spawn().unwrap();
    assert_eq!(line(&mut client), "subscribed");
    assert_eq!(sandbox.does("greet plain.test"), hello("198.51.100.41"));
    assert_eq!(line(&mut client), "{'parameters': {'ok': True}}");
    client.kill().unwrap();
    client.wait().unwrap();
}

#[test]
fn an_answer_after_the_program_gave_up_dials_nothing() {
    as_everybody(|user| {
        let lab = Lab::new(user);
        let mut sandbox = lab.sandbox(&["--allow", "other.test"]);
        let mut operator = lab.operator();
        sandbox.begins("greet plain.test 7004 1");
        let question = operator.asked("plain.test");
        assert_eq!(sandbox.ends(), "failed: TimeoutError");
        operator.decide(&question, 'a');
        assert_eq!(sandbox.does("greet other.test"), hello("198.51.100.129"));
        assert_eq!(lab.packets_sent(), ["6 198.51.100.129 7004"]);
        assert_eq!(lab.names_asked(), ["other.test"]);
    });
}
