// SPDX-License-Identifier: Apache-2.0
//! `--approver`: a program of the operator answers first, and a person only what it leaves.

use std::fs;
use std::io::Read as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;

use super::lab::{Lab, hello};
use super::user::{User, as_everybody, told};

const REFUSED: &str = "failed: ECONNREFUSED";

/// Writes an approver for the user: a function body that gets `question` and returns the answer.
fn add_approver(user: &User, body: &str) -> PathBuf {
    for directory in ["home/.config", "home/.config/terok-clearance"] {
        user.directory(directory);
    }
    let text = format!(
        "#!/usr/bin/python3 -I\nimport json, os, sys, time\n\
         def decide(question):\n{body}\n\
         print(json.dumps(decide(json.load(sys.stdin))))\n"
    );
    let path = "home/.config/terok-clearance/approve";
    user.add_file(path, &text);
    let path = user.path(path);
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    path
}

/// Runs a test for everybody that may have an approver: not the machine's root.
fn as_ordinary_user(test: impl Fn(&User)) {
    as_everybody(|user| {
        if !user.is_root() {
            test(user);
        }
    });
}

#[test]
fn an_approver_decides_with_nobody_there() {
    as_ordinary_user(|user| {
        let lab = Lab::new(user);
        let approver = add_approver(
            user,
            "    if question['dest'] == 'plain.test' and question['port'] == 7004:\n        \
                 return {'verdict': 'allow', 'reason': 'a known server', 'for': '10m'}\n    \
             return {'verdict': 'deny', 'reason': 'not known'}",
        );
        let mut sandbox = lab.sandbox(&["--approver", approver.to_str().unwrap()]);
        assert_eq!(sandbox.does("greet plain.test"), hello("198.51.100.41"));
        assert_eq!(sandbox.does("greet one.test"), REFUSED);
        // A person sees who decided.
        let mut operator = lab.operator();
        sandbox.begins("greet two.test");
        let decided = operator.until(|event| event["event"] == "decided");
        assert_eq!(decided["by"], "approver approve: not known");
        assert_eq!(
            (&decided["dest"], &decided["action"]),
            (&"two.test".into(), &"deny".into())
        );
        assert_eq!(sandbox.ends(), REFUSED);
        assert_eq!(lab.names_asked(), ["plain.test"]);
    });
}

#[test]
fn what_an_approver_leaves_goes_to_a_person_with_its_reason() {
    as_ordinary_user(|user| {
        let lab = Lab::new(user);
        let approver = add_approver(
            user,
            "    if question['dest'] == 'one.test':\n        \
                 return {'verdict': 'allow', 'as': '*.test'}\n    \
             if question['dest'] == 'two.test':\n        sys.exit('no idea')\n    \
             return {'verdict': 'ask', 'reason': 'unsure\\x1b[2J about it'}",
        );
        let mut sandbox = lab.sandbox(&["--approver", approver.to_str().unwrap()]);
        // With nobody there, a connection is refused once the approver has left it.
        assert_eq!(sandbox.does("greet plain.test"), REFUSED);
        let mut operator = lab.operator();
        let question = operator.asked("plain.test");
        assert_eq!(question["approver"], "unsure [2J about it");
        sandbox.begins("greet plain.test");
        operator.waiting("plain.test", 1);
        operator.decide(&question, 'a');
        assert_eq!(sandbox.ends(), hello("198.51.100.41"));
        for (dest, words) in [
            ("one.test", "not one that the question offers"),
            ("two.test", "no idea"),
        ] {
            sandbox.begins(&format!("greet {dest}"));
            let told =
                operator.until(|event| event["dest"] == dest && event["approver"].is_string());
            let note = told["approver"].as_str().unwrap();
            assert!(
                note.starts_with("no answer: ") && note.contains(words),
                "{note}"
            );
            operator.decide(&told, 'd');
            assert_eq!(sandbox.ends(), REFUSED);
        }
    });
}

#[test]
fn a_slow_approver_is_ended_with_its_children() {
    as_ordinary_user(|user| {
        let lab = Lab::new(user);
        let approver = add_approver(
            user,
            "    os.open(os.environ['HOME'] + '/alive', os.O_WRONLY)\n    \
             os.fork()\n    time.sleep(3600)",
        );
        // A pipe that every process of the approver holds open.
        let alive = user.path("home/.config/terok-clearance/alive");
        let made = user.outside(&format!("mkfifo {}", alive.display()));
        assert!(made.status.success(), "{}", told(&made));
        let options = [
            "--approver",
            approver.to_str().unwrap(),
            "--approver-timeout",
            "1",
        ];
        let mut sandbox = lab.sandbox(&options);
        let mut operator = lab.operator();
        sandbox.begins("greet plain.test");
        let mut alive = fs::File::open(alive).unwrap();
        let question = operator.until(|event| event["approver"].is_string());
        assert_eq!(question["approver"], "no answer: it was ended after 1s");
        // The end of the file: none is left.
        assert_eq!(alive.read(&mut [0]).unwrap(), 0);
        operator.decide(&question, 'a');
        assert_eq!(sandbox.ends(), hello("198.51.100.41"));
    });
}

#[test]
fn a_person_may_be_faster_than_an_approver() {
    as_ordinary_user(|user| {
        let lab = Lab::new(user);
        let approver = add_approver(
            user,
            "    time.sleep(60)\n    return {'verdict': 'deny', 'reason': 'late'}",
        );
        let options = [
            "--approver",
            approver.to_str().unwrap(),
            "--approver-timeout",
            "120",
        ];
        let mut sandbox = lab.sandbox(&options);
        let mut operator = lab.operator();
        sandbox.begins("greet plain.test");
        operator.answer("plain.test", 'a');
        assert_eq!(sandbox.ends(), hello("198.51.100.41"));
    });
}

#[test]
fn a_flood_of_questions_starts_few_processes() {
    as_ordinary_user(|user| {
        let lab = Lab::new(user);
        let approver = add_approver(
            user,
            "    log = os.open(os.environ['HOME'] + '/log', os.O_CREAT | os.O_APPEND | os.O_WRONLY)\n    \
             os.write(log, b'+\\n')\n    time.sleep(0.02)\n    os.write(log, b'-\\n')\n    \
             return {'verdict': 'deny', 'reason': 'flood'}",
        );
        let mut sandbox = lab.sandbox(&["--approver", approver.to_str().unwrap()]);
        let flood = "for i in $(seq 150); do curl -sS -m 20 http://h$i.test/ & done; wait";
        sandbox
            .shell
            .does(&format!("{{ {flood}; }} >/dev/null 2>&1"));
        let log = fs::read_to_string(user.path("home/.config/terok-clearance/log")).unwrap();
        let (mut running, mut most, mut started) = (0_i32, 0, 0);
        for line in log.lines() {
            running += if line == "+" { 1 } else { -1 };
            started += i32::from(line == "+");
            most = most.max(running);
        }
        assert!((1..=4).contains(&most), "{most} at the same time");
        assert!((4..=150).contains(&started), "{started}");
        // Each destination has one process at most, and nothing was opened.
        assert_eq!(lab.names_asked(), Vec::<String>::new());
        assert_eq!(sandbox.does("greet plain.test"), REFUSED);
    });
}

#[test]
fn an_approver_that_the_command_could_change_is_refused() {
    as_everybody(|user| {
        let own = add_approver(user, "    return {'verdict': 'allow'}");
        let written = user.path("work/approve");
        fs::copy(&own, &written).unwrap();
        user.own(&written);
        let written = written.to_str().unwrap();
        let refused = user
            .run(&["--approver", written, "--", "true"])
            .output()
            .unwrap();
        assert_eq!(refused.status.code(), Some(125), "{}", told(&refused));
        assert!(
            told(&refused).contains("answer its own questions"),
            "{}",
            told(&refused)
        );
        let run = user.run(&[
            "--approver",
            own.to_str().unwrap(),
            "--network",
            "none",
            "--",
            "sh",
            "-c",
            "ls ~/.config/terok-clearance/; echo x > ~/.config/terok-clearance/approve",
        ]);
        let ran = { run }.output().unwrap();
        if user.is_root() {
            assert_eq!(ran.status.code(), Some(125), "{}", told(&ran));
            assert!(
                told(&ran).contains("root's command could change"),
                "{}",
                told(&ran)
            );
        } else {
            // Inside, it is neither seen nor written.
            assert!(
                !ran.status.success() && !told(&ran).contains("approve\n"),
                "{}",
                told(&ran)
            );
        }
        assert!(fs::read_to_string(&own).unwrap().contains("'allow'"));
    });
}
