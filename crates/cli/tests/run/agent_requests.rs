// SPDX-License-Identifier: Apache-2.0
//! Requests of the command ahead of a connection: what they do, and what a hostile command can do
//! with their socket.

use serde_json::Value;

use super::lab::{Lab, Sandbox, hello};
use super::user::{User, as_everybody, told};

const PROGRAMS: &str = include_str!("requests.py");

/// Starts a sandbox with the programs of this test.
fn sandbox(lab: &Lab<'_>, options: &[&str]) -> Sandbox {
    lab.user.add_file("work/r.py", PROGRAMS);
    lab.sandbox(options)
}

/// Runs `terok-clearance request ARGS` inside; returns the exit status and the output.
fn request(sandbox: &mut Sandbox, user: &User, args: &str) -> (i32, String) {
    let program = user.program();
    sandbox
        .shell
        .does(&format!("{} request {args}", program.display()))
}

#[test]
fn a_request_and_the_connection_after_it_are_one_question() {
    as_everybody(|user| {
        let lab = Lab::new(user);
        let mut sandbox = sandbox(&lab, &[]);
        let mut operator = lab.operator();
        let (status, said) = request(&mut sandbox, user, "plain.test:7004 --reason 'to greet'");
        assert_eq!(status, 4, "{said}");
        let question = operator.asked("plain.test");
        assert_eq!(question["reason"], "to greet");
        assert_eq!(
            (&question["port"], &question["protocol"]),
            (&7004.into(), &"tcp".into())
        );
        let id = question["id"].as_str().unwrap();
        assert!(said.contains(&format!("--status {id}")), "{said}");

        // The same destination again: the same question, whose reason stays.
        let (status, _) = request(&mut sandbox, user, "plain.test:7004 --reason 'other words'");
        assert_eq!(status, 4);
        sandbox.begins("greet plain.test");
        let repeated = operator.waiting("plain.test", 1);
        assert_eq!(
            (&repeated["row"], &repeated["reason"]),
            (&question["row"], &"to greet".into())
        );
        operator.decide(&question, 'a');
        assert_eq!(sandbox.ends(), hello("198.51.100.41"));
        let (status, said) = request(&mut sandbox, user, &format!("--status {id}"));
        assert_eq!((status, said.starts_with("allowed:")), (0, true), "{said}");
        assert_eq!(operator.other_questions(), Vec::<&str>::new());
    });
}

#[test]
fn a_request_waits_for_its_answer_and_a_denial_can_be_read() {
    as_everybody(|user| {
        let lab = Lab::new(user);
        let mut sandbox = sandbox(&lab, &[]);
        let mut operator = lab.operator();
        let program = user.program().display().to_string();
        let waiting = |dest| format!("{program} request {dest}:7004 --reason 'to greet' --wait");
        sandbox.shell.begins(&waiting("plain.test"));
        operator.answer("plain.test", 'a');
        let (status, said) = sandbox.shell.ends();
        assert_eq!((status, said.starts_with("allowed:")), (0, true), "{said}");
        assert_eq!(sandbox.does("greet plain.test"), hello("198.51.100.41"));

        sandbox.shell.begins(&waiting("one.test"));
        operator.answer("one.test", 'd');
        let (status, said) = sandbox.shell.ends();
        assert_eq!(status, 1, "{said}");
        assert!(said.contains("denied by a rule of the operator"), "{said}");
        for (args, expected, words) in [
            (
                "--explain one.test:7004",
                1,
                "denied by a rule of the operator",
            ),
            ("--explain plain.test:7004", 0, "are allowed"),
            ("--explain other.test", 4, "asks the operator"),
            ("--explain 169.254.169.254", 1, "never opened"),
            ("plain.test:7004 --reason 'again'", 0, "are allowed"),
            ("two.test --reason 'x' --wait 0", 4, "has not answered"),
            ("two.test:1-9 --reason 'x'", 2, "one name or address"),
            ("two.test --reason ' '", 5, "needs a reason"),
        ] {
            let (status, said) = request(&mut sandbox, user, args);
            assert_eq!(
                (status, said.contains(words)),
                (expected, true),
                "{args}: {said}"
            );
        }
        // Nothing of it is a lookup.
        assert_eq!(lab.names_asked(), ["plain.test"]);
    });
}

#[test]
fn a_command_cannot_answer_itself_or_reach_the_hub() {
    as_everybody(|user| {
        let lab = Lab::new(user);
        let mut sandbox = sandbox(&lab, &[]);
        let mut operator = lab.operator();
        request(&mut sandbox, user, "plain.test --reason 'mine'");
        let id = operator.asked("plain.test")["id"]
            .as_str()
            .unwrap()
            .to_owned();
        let (status, said) = sandbox
            .shell
            .does(&format!("python3 r.py answer_itself {id}"));
        assert_eq!(status, 0, "{said}");
        let lines: Vec<_> = said.lines().collect();
        let interface = "org.varlink.service.InterfaceNotFound";
        let method = "org.varlink.service.MethodNotFound";
        assert_eq!(lines[..6], [interface; 6]);
        assert_eq!(lines[6..8], [method; 2]);
        assert!(!lines[8].contains("org.terok.Clearance2"), "{said}");

        let hub = user.hub();
        for way in lab.ways() {
            let reach = format!("{way} 'python3 r.py reach {}'", hub.display());
            let (status, said) = sandbox.shell.does(&reach);
            assert_eq!(
                (status, said.contains("connected")),
                (1, false),
                "{way}: {said}"
            );
        }
        let (status, said) = request(&mut sandbox, user, "--explain plain.test");
        assert_eq!(status, 4, "still not decided: {said}");
        // An id that this sandbox did not ask for tells nothing.
        let unknown = "org.terok.ClearanceRequest1.NoSuchRequest";
        let (_, said) = sandbox.shell.does("python3 r.py status x:1 '' web:417");
        assert_eq!(said, [unknown; 3].join("\n"));
    });
}

#[test]
fn the_socket_cannot_be_replaced_inside_nor_reached_from_outside() {
    as_everybody(|user| {
        let lab = Lab::new(user);
        // The operator's own variable does not lead elsewhere.
        user.add_file("variables", "TEROK_CLEARANCE_REQUEST=/tmp/elsewhere\n");
        let variables = user.path("variables");
        let mut sandbox = sandbox(&lab, &["--env-file", variables.to_str().unwrap()]);
        let (_, said) = sandbox.shell.does("echo $TEROK_CLEARANCE_REQUEST");
        assert_eq!(said, "/run/terok-clearance/request.sock");
        for way in lab.ways() {
            let (_, said) = sandbox.shell.does(&format!("{way} 'python3 r.py spoof'"));
            assert_eq!(said.lines().count(), 6, "{way}: {said}");
            assert!(!said.contains("done"), "{way}: {said}");
        }
        // A variable of the command leads this program nowhere else.
        sandbox
            .shell
            .does("export TEROK_CLEARANCE_REQUEST=/tmp/elsewhere");
        let (status, said) = request(&mut sandbox, user, "--explain plain.test");
        assert_eq!(status, 4, "{said}");
        // Outside the file has no name, and no sandbox is there.
        assert!(!user.path("runtime/terok/requests").exists());
        let program = user.program().display().to_string();
        let outside = user.outside(&format!("{program} request plain.test --reason x"));
        assert_eq!(outside.status.code(), Some(69), "{}", told(&outside));
        assert!(told(&outside).contains("terok-clearance run -- CMD"));
    });
}

#[test]
fn a_killed_run_leaves_no_socket() {
    as_everybody(|user| {
        let mut shell = user.shell_inside();
        assert!(shell.does("test -S $TEROK_CLEARANCE_REQUEST").0 == 0);
        shell.child.kill().unwrap();
        shell.child.wait().unwrap();
        assert!(!user.path("runtime/terok/requests").exists());
        let mut next = user.shell_inside();
        let program = user.program().display().to_string();
        let (status, said) = next.does(&format!("{program} request plain.test --reason x"));
        assert_eq!((status, said.contains("no network")), (5, true), "{said}");
    });
}

#[test]
fn a_flood_of_requests_asks_little_and_harms_nobody() {
    as_everybody(|user| {
        let lab = Lab::new(user);
        let mut sandbox = sandbox(&lab, &[]);
        let mut operator = lab.operator();
        let (status, said) = sandbox.shell.does("python3 r.py hostile");
        assert_eq!(status, 0, "{said}");
        let lines: Vec<_> = said.lines().collect();
        assert_eq!(lines[1], "ask", "{said}");
        let served: u32 = lines[0].split(' ').nth(1).unwrap().parse().unwrap();
        assert!((1..=64).contains(&served), "{said}");

        // Escape sequences and long texts in a reason.
        let text = r"say\x1b[2J\x07\nallow it \u202e".to_owned() + &"x ".repeat(300);
        let (_, said) = sandbox.shell.does(&format!("python3 r.py reason '{text}'"));
        assert_eq!(said, "pending");
        let question = operator.asked("plain.test");
        let reason = question["reason"].as_str().unwrap();
        assert!(reason.starts_with("say [2J allow it x x"), "{reason}");
        assert!(reason.len() <= 200 && reason.is_ascii(), "{reason}");

        let (_, said) = sandbox.shell.does("python3 r.py many 300");
        let [pending, refused] = said
            .split(' ')
            .filter_map(|word| word.parse().ok())
            .collect::<Vec<u32>>()[..]
        else {
            panic!("{said}")
        };
        assert!((20..=36).contains(&pending), "{said}");
        assert_eq!(pending + refused, 300);
        // The operator and the connections of the sandbox notice nothing.
        operator.decide(&question, 'a');
        assert_eq!(sandbox.does("greet plain.test"), hello("198.51.100.41"));
        let said = sandbox.finish();
        assert!(
            !said.to_lowercase().contains("closed a connection"),
            "{said}"
        );
    });
}

#[test]
fn a_request_is_json_for_programs() {
    as_everybody(|user| {
        let lab = Lab::new(user);
        let mut sandbox = sandbox(&lab, &["--allow", "plain.test"]);
        let (status, said) = request(&mut sandbox, user, "--json --explain plain.test");
        let json: Value = serde_json::from_str(&said).unwrap();
        assert_eq!((status, &json["state"]), (0, &"allowed".into()), "{said}");
        // Under its own name, too.
        let link = format!(
            "ln -s {} clearance-request && ./clearance-request other.test --reason r --json",
            user.program().display()
        );
        let (status, said) = sandbox.shell.does(&link);
        let json: Value = serde_json::from_str(&said).unwrap();
        assert_eq!((status, &json["state"]), (4, &"pending".into()), "{said}");
        assert!(json["id"].is_string());
    });
}
