// SPDX-License-Identifier: Apache-2.0
//! `run` with a network: a machine with a link to the demo's simulated internet.

use std::process::Stdio;

use super::machine::{Machine, fetch, line};
use super::operator::Operator;
use super::user::{Shell, as_everybody, told};

#[test]
fn a_question_is_answered_from_a_second_terminal() {
    as_everybody(|user| {
        let machine = Machine::new(user);
        // At once refused, and held until the answer.
        for hold in ["0", "60s"] {
            let args = ["run", "--hold", hold, "sh"];
            let mut shell = Shell::start(machine.program(user, &args));
            let mut operator = Operator::start(machine.program(user, &["--json", "clearance"]));
            let mut first = |host, answer| {
                shell.begins(&fetch(host));
                if hold == "0" {
                    let (status, said) = shell.ends();
                    assert_ne!(status, 0, "{said}");
                    operator.answer(host, answer);
                    shell.begins(&fetch(host));
                } else {
                    operator.answer(host, answer);
                }
                shell.ends()
            };
            let (status, said) = first("api.example.com", 'a');
            assert_eq!(status, 0, "{hold}: {said}");
            assert!(said.contains("200"), "{hold}: {said}");
            let (status, said) = first("203.0.113.30", 'd');
            assert_ne!(status, 0, "{hold}: {said}");
            let (status, said) = shell.does(&fetch("203.0.113.30"));
            assert_ne!(status, 0, "{hold}: {said}");
            assert_eq!(operator.other_questions(), Vec::<&str>::new());
        }
    });
}

#[test]
fn what_is_allowed_from_the_start_passes_and_nothing_else() {
    as_everybody(|user| {
        let machine = Machine::new(user);
        let allowed = ["run", "--allow", "api.example.com:80"];
        let args = [&allowed[..], &["--hold", "0", "sh"]].concat();
        let mut shell = Shell::start(machine.program(user, &args));
        let (status, said) = shell.does(&fetch("api.example.com"));
        assert_eq!(status, 0, "{said}");
        assert_ne!(shell.does(&fetch("203.0.113.30")).0, 0);
    });
}

#[test]
fn a_resolver_on_the_machine_is_used_too() {
    // As with systemd-resolved and dnsmasq.
    as_everybody(|user| {
        let machine = Machine::asking(user, "127.0.0.53");
        // Knows one address for every name.
        let answer = "use IO::Socket::INET; $| = 1; $s = IO::Socket::INET->new(Proto => \"udp\", \
            LocalAddr => \"127.0.0.53\", LocalPort => 53) or die $!; print \"up\\n\"; \
            while (defined $s->recv($q, 512)) { \
            my ($name) = substr($q, 12) =~ /^(.*?\\0)/s; \
            my $kind = unpack(\"n\", substr($q, 12 + length $name, 2)); \
            my $found = $kind == 1; \
            $s->send(substr($q, 0, 2) . pack(\"nnnnn\", 0x8180, 1, $found, 0, 0) . $name . \
            pack(\"nn\", $kind, 1) . ($found ? pack(\"nnnNnC4\", 0xc00c, 1, 1, 60, 4, \
            203, 0, 113, 10) : \"\")) }";
        // Only root may use port 53, so a root process serves it for every user.
        let mut listener = machine.root(user, &["perl", "-e", answer]);
        let mut listener = listener.stdout(Stdio::piped()).spawn().unwrap();
        assert_eq!(line(&mut listener), "up");
        let args = ["run", "--allow", "a.example.com", "sh"];
        let mut shell = Shell::start(machine.program(user, &args));
        let (status, said) = shell.does(&fetch("a.example.com"));
        assert_eq!(status, 0, "{said}");
        assert!(said.contains("hello from api.example.com"), "{said}");
        listener.kill().unwrap();
        listener.wait().unwrap();
    });
}

#[test]
fn no_address_of_a_sandbox_appears_seconds_after_its_start() {
    // A browser aborts what it loads when that happens (net::ERR_NETWORK_CHANGED).
    as_everybody(|user| {
        let machine = Machine::new(user);
        let mut shell = Shell::start(machine.program(user, &["run", "--ui", "none", "sh"]));
        // Duplicates of the link-local address would be searched for if one of them was 1.
        let settings = "cat /proc/sys/net/ipv6/conf/all/accept_dad \
            /proc/sys/net/ipv6/conf/eth0/accept_dad";
        assert_eq!(shell.does(settings), (0, "0\n0".to_owned()));
        let (status, said) = shell.does("ip -6 -o address show dev eth0 scope link");
        assert_eq!(status, 0, "{said}");
        assert!(said.contains("inet6"), "{said}");
    });
}

#[test]
fn the_summary_says_what_was_asked() {
    as_everybody(|user| {
        let machine = Machine::new(user);
        let script = format!("{}; true", fetch("203.0.113.30"));
        let args = ["run", "--hold", "0", "--ui", "none", "sh", "-c", &script];
        let output = machine.program(user, &args).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(said.contains("terok-clearance clearance"), "{said}");
        assert!(said.contains("0 allowed, 0 denied, 1 unanswered"), "{said}");
        let quiet = ["run", "--quiet", "sh", "-c", "true"];
        let output = machine.program(user, &quiet).output().unwrap();
        assert!(
            output.status.success() && output.stderr.is_empty(),
            "{}",
            told(&output)
        );
    });
}
