// SPDX-License-Identifier: Apache-2.0
//! `run` with a network: a machine with a link to the demo's simulated internet. The helper
//! programs connect sandboxes as on any other machine.

use std::io::{BufRead as _, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use super::machine::{Machine, fetch, line};
use super::user::{Shell, User, as_everybody, told};

/// Queries a name server for api.example.com; the exit status is 0 if the server answered.
fn resolve_at(server: &str) -> String {
    format!(
        "perl -MIO::Socket::INET -e '$s = IO::Socket::INET->new(PeerAddr => $ARGV[0], \
         PeerPort => 53, Proto => \"udp\") or die $@; \
         $s->send(pack(\"nnnnnn\", 7, 256, 1, 0, 0, 0) . \
         \"\\3api\\7example\\3com\\0\\0\\1\\0\\1\") or die $!; \
         $SIG{{ALRM}} = sub {{ die \"no answer\" }}; alarm 2; \
         defined $s->recv($a, 512) && length $a or die $!' {server}"
    )
}

/// The installed helpers. Both exist if the packages for the tests are installed.
const HELPERS: [&str; 2] = ["pasta", "slirp4netns"];

/// A person at a second terminal who gives the same answer to every question.
struct Operator(Child);

impl Operator {
    fn new(machine: &Machine, user: &User) -> Self {
        let mut command = machine.program(user, &["--json", "clearance"]);
        let command = command.stdin(Stdio::piped()).stdout(Stdio::piped());
        Self(command.spawn().unwrap())
    }

    /// Answers the question about `dest`, and waits for the decision.
    fn answer(&mut self, dest: &str, answer: char) {
        use std::io::Write as _;
        loop {
            let said = line(&mut self.0);
            assert_ne!(said, "", "the prompt ended before {dest} was asked about");
            let said: serde_json::Value = serde_json::from_str(&said).unwrap();
            if said["event"] == "pending" && said["dest"] == dest {
                let row = &said["row"];
                writeln!(self.0.stdin.as_mut().unwrap(), "{answer} {row}").unwrap();
            }
            if said["event"] == "decided" && said["dest"] == dest {
                return;
            }
        }
    }
}

impl Drop for Operator {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

#[test]
fn a_question_is_answered_from_a_second_terminal() {
    as_everybody(|user| {
        let machine = Machine::new(user);
        for helper in HELPERS {
            let mut shell =
                Shell::start(machine.program(user, &["run", "--network", helper, "sh"]));
            let mut operator = Operator::new(&machine, user);
            let (status, said) = shell.does(&fetch("api.example.com"));
            assert_ne!(status, 0, "{helper}: {said}");
            operator.answer("api.example.com", 'a');
            let (status, said) = shell.does(&fetch("api.example.com"));
            assert_eq!(status, 0, "{helper}: {said}");
            assert!(said.contains("200"), "{helper}: {said}");

            let (status, _) = shell.does(&fetch("203.0.113.30"));
            assert_ne!(status, 0, "{helper}");
            operator.answer("203.0.113.30", 'd');
            let (status, _) = shell.does(&fetch("203.0.113.30"));
            assert_ne!(status, 0, "{helper}");
        }
    });
}

#[test]
fn what_is_allowed_from_the_start_passes_and_nothing_else() {
    as_everybody(|user| {
        let machine = Machine::new(user);
        for helper in HELPERS {
            let args = [
                "run",
                "--network",
                helper,
                "--allow",
                "api.example.com:80",
                "sh",
            ];
            let mut shell = Shell::start(machine.program(user, &args));
            let (status, said) = shell.does(&fetch("api.example.com"));
            assert_eq!(status, 0, "{helper}: {said}");
            assert_ne!(shell.does(&fetch("203.0.113.30")).0, 0, "{helper}");
        }
    });
}

#[test]
fn names_are_asked_of_the_sandboxs_resolver_alone() {
    as_everybody(|user| {
        let machine = Machine::new(user);
        for (helper, resolver) in [("pasta", "169.254.1.1"), ("slirp4netns", "10.0.2.3")] {
            let mut shell =
                Shell::start(machine.program(user, &["run", "--network", helper, "sh"]));
            assert_eq!(shell.does(&resolve_at(resolver)).0, 0, "{helper}");
            // The machine's resolver answers the machine, but is unreachable from the sandbox.
            assert_ne!(shell.does(&resolve_at("192.0.2.53")).0, 0, "{helper}");
        }
        let control = machine
            .command(user, &["sh", "-c", &resolve_at("192.0.2.53")])
            .output();
        let control = control.unwrap();
        assert!(control.status.success(), "{}", told(&control));
    });
}

#[test]
fn a_resolver_on_the_machine_is_used_too() {
    // As with systemd-resolved and dnsmasq.
    as_everybody(|user| {
        let machine = Machine::asking(user, "127.0.0.53");
        let answer = "use IO::Socket::INET; $| = 1; $s = IO::Socket::INET->new(Proto => \"udp\", \
            LocalAddr => \"127.0.0.53\", LocalPort => 53) or die $!; print \"up\\n\"; \
            while (defined $s->recv($q, 512)) { substr($q, 2, 1) |= \"\\x80\"; $s->send($q) }";
        // Only root may use port 53, so a root process serves it for every user.
        let mut listener = machine.root(user, &["perl", "-e", answer]);
        let mut listener = listener.stdout(Stdio::piped()).spawn().unwrap();
        assert_eq!(line(&mut listener), "up");
        for (helper, resolver) in [("pasta", "169.254.1.1"), ("slirp4netns", "10.0.2.3")] {
            let args = ["run", "--network", helper, "sh"];
            let mut shell = Shell::start(machine.program(user, &args));
            let (status, said) = shell.does(&resolve_at(resolver));
            assert_eq!(status, 0, "{helper}: {said}");
        }
        listener.kill().unwrap();
        listener.wait().unwrap();
    });
}

#[test]
fn the_operators_own_ports_are_out_of_reach() {
    as_everybody(|user| {
        let machine = Machine::new(user);
        let listen = "use IO::Socket::INET; $| = 1; $s = IO::Socket::INET->new(Listen => 5, \
            LocalAddr => \"127.0.0.1\", LocalPort => 4711, ReuseAddr => 1) or die; print \"up\\n\"; \
            while ($c = $s->accept) { print $c \"reached\"; close $c }";
        let mut command = machine.command(user, &["perl", "-e", listen]);
        let mut listener = command.stdout(Stdio::piped()).spawn().unwrap();
        assert_eq!(line(&mut listener), "up");
        let reach = |at: &str| {
            format!(
                "perl -MIO::Socket::INET -e '$s = IO::Socket::INET->new(PeerAddr => \"{at}\", \
                PeerPort => 4711, Timeout => 2) or die; print <$s>' | grep reached"
            )
        };
        for helper in HELPERS {
            let gateways = ["127.0.0.1", "192.0.2.1", "192.0.2.2", "10.0.2.2"];
            let mut args = vec!["run", "--network", helper];
            // Even if the firewall allows all traffic there.
            for address in ["192.0.2.1", "192.0.2.2"] {
                args.extend(["--allow", address]);
            }
            let mut shell = Shell::start(machine.program(user, &[&args[..], &["sh"]].concat()));
            for at in gateways {
                let (status, said) = shell.does(&reach(at));
                assert_ne!(status, 0, "{helper} {at}: {said}");
            }
        }
        let control = machine
            .command(user, &["sh", "-c", &reach("127.0.0.1")])
            .output()
            .unwrap();
        assert!(control.status.success(), "{}", told(&control));
        listener.kill().unwrap();
        listener.wait().unwrap();
    });
}

#[test]
fn a_killed_supervisor_leaves_neither_sandbox_nor_helper() {
    as_everybody(|user| {
        let machine = Machine::new(user);
        for helper in HELPERS {
            let mut command = machine.program(user, &["run", "--network", helper, "cat"]);
            command
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .stderr(Stdio::piped());
            let mut run = command.spawn().unwrap();
            let mut said = BufReader::new(run.stderr.take().unwrap());
            said.read_line(&mut String::new()).unwrap();
            // env, nsenter and setpriv have all executed the program by now.
            let children = format!("/proc/{0}/task/{0}/children", run.id());
            let children = std::fs::read_to_string(children).unwrap();
            let children: Vec<_> = children.split_whitespace().map(PathBuf::from).collect();
            assert_eq!(children.len(), 2, "the sandbox and its helper");
            let ends: Vec<_> = children
                .iter()
                .map(|pid| {
                    netns::ProcessHandle::open(pid.to_str().unwrap().parse().unwrap()).unwrap()
                })
                .collect();
            run.kill().unwrap();
            run.wait().unwrap();
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_io()
                .build();
            runtime.unwrap().block_on(async {
                for process in ends {
                    process.wait_for_exit().await.unwrap();
                }
            });
        }
    });
}

#[test]
fn the_summary_says_what_was_asked() {
    as_everybody(|user| {
        let machine = Machine::new(user);
        let script = format!("{}; true", fetch("203.0.113.30"));
        let args = [
            "run",
            "--network",
            "pasta",
            "--ui",
            "none",
            "sh",
            "-c",
            &script,
        ];
        let output = machine.program(user, &args).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(said.contains("terok-clearance clearance"), "{said}");
        assert!(said.contains("0 allowed, 0 denied, 1 unanswered"), "{said}");
        let quiet = ["run", "--quiet", "--network", "pasta", "sh", "-c", "true"];
        let output = machine.program(user, &quiet).output().unwrap();
        assert!(
            output.status.success() && output.stderr.is_empty(),
            "{}",
            told(&output)
        );
    });
}

#[test]
fn a_helper_that_ends_is_told_and_nothing_opens() {
    as_everybody(|user| {
        let machine = Machine::new(user);
        let args = [
            "run",
            "--network",
            "pasta",
            "--allow",
            "api.example.com",
            "sh",
        ];
        let mut shell = Shell::start(machine.program(user, &args));
        assert_eq!(shell.does(&fetch("api.example.com")).0, 0);
        let children = format!("/proc/{0}/task/{0}/children", shell.child.id());
        for pid in std::fs::read_to_string(children)
            .unwrap()
            .split_whitespace()
        {
            let name = std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap();
            if name.trim() != "terok-clearance" {
                assert!(
                    Command::new("kill")
                        .args(["-9", pid])
                        .status()
                        .unwrap()
                        .success()
                );
            }
        }
        assert_ne!(shell.does(&fetch("203.0.113.10")).0, 0);
    });
}
