// SPDX-License-Identifier: Apache-2.0
//! Packets that no ordinary program sends, and the end of the supervisor: nothing gets out.

use std::process::Stdio;

use netns::gateway::{DNS_PORT, REPLAY_MARK, TCP_PORT, UDP_PORT};

use super::lab::{Lab, hello};
use super::machine::line;
use super::user::{User, as_everybody};

#[test]
fn packets_with_other_sources_options_and_destinations_stay_inside() {
    as_everybody(|user| {
        let lab = Lab::new(user);
        let options = [
            "--allow",
            "0.0.0.0/0",
            "--allow",
            "::/0",
            "--allow",
            "*.test",
        ];
        let mut sandbox = lab.sandbox(&options);
        let said = sandbox.does("spoof");
        for line in said.lines() {
            assert!(
                line.contains("failed: "),
                "nothing answers what only looks like a connection: {said}"
            );
        }
        assert_eq!(said.lines().count(), 24, "{said}");
        // What the workload sent before this has reached the link before this.
        assert_eq!(sandbox.does("greet plain.test"), hello("198.51.100.41"));
        let sent = lab.packets_sent();
        assert_eq!(sent, ["6 198.51.100.41 7004"], "{said}");
        assert_eq!(lab.events_of("udp"), Vec::<Vec<serde_json::Value>>::new());
    });
}

#[test]
fn an_answer_to_a_packet_of_its_own_does_not_leave() {
    as_everybody(|user| {
        let lab = Lab::new(user);
        let mut sandbox = lab.sandbox(&["--hold", "0"]);
        let said = sandbox.does("reply_to_oneself");
        assert!(!said.contains("the answer did"), "{said}");
        let mut sandbox = lab.sandbox(&["--allow", "plain.test"]);
        assert_eq!(sandbox.does("greet plain.test"), hello("198.51.100.41"));
        assert_eq!(lab.packets_sent(), ["6 198.51.100.41 7004"]);
    });
}

#[test]
fn namespaces_within_the_sandbox_lead_nowhere() {
    as_everybody(|user| {
        let lab = Lab::new(user);
        let mut sandbox = lab.sandbox(&["--allow", "0.0.0.0/0"]);
        for way in lab.ways() {
            let act = "ip link set lo up; python3 w.py greet 198.51.100.41 7004 5";
            let (_, said) = sandbox.shell.does(&format!("{way} '{act}'"));
            // In its own network namespace there is no link at all.
            let expected = if way.contains("Un ") || way.contains("Urn ") {
                "failed: ENETUNREACH"
            } else {
                "hello from 198.51.100.41"
            };
            assert!(said.ends_with(expected), "{way}: {said}");
            // The sandbox's own link, routes and settings are not the workload's.
            for act in [
                "ip address add 203.0.113.77/32 dev eth0",
                "ip route replace default dev lo",
                "ip link set eth0 down",
                "nft flush ruleset",
                "echo 1 > /proc/sys/net/ipv4/ip_forward",
            ] {
                let (status, said) = sandbox.shell.does(&format!("{way} '{act}'"));
                assert_ne!(status, 0, "{way}: {act}: {said}");
            }
        }
        assert_eq!(sandbox.does("greet 198.51.100.41"), hello("198.51.100.41"));
    });
}

#[test]
fn a_killed_supervisor_ends_the_workload_and_its_connections() {
    as_everybody(|user| {
        let lab = Lab::new(user);
        let options = ["--allow", "plain.test", "--hold", "forever"];
        let deed = ["python3", "w.py", "keep", "plain.test", "go"];
        let mut command = lab.run_command(&options, &deed);
        let mut run = command
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        assert_eq!(line(&mut run), "connected");
        // env, nsenter and setpriv have all executed the program by now.
        let children = format!("/proc/{0}/task/{0}/children", run.id());
        let children = std::fs::read_to_string(children).unwrap();
        let children: Vec<u32> = children
            .split_whitespace()
            .map(|pid| pid.parse().unwrap())
            .collect();
        let [init] = children[..] else {
            panic!("the sandbox alone: {children:?}")
        };
        let init = netns::ProcessHandle::open(init).unwrap();
        run.kill().unwrap(); // SIGKILL
        // The end of the output is the end of the workload.
        assert_eq!(line(&mut run), "");
        run.wait().unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_io()
            .build();
        runtime
            .unwrap()
            .block_on(async { init.wait_for_exit().await.unwrap() });
        assert_eq!(lab.packets_sent(), ["6 198.51.100.41 7001"]);
    });
}

#[test]
fn held_connections_of_a_killed_supervisor_are_not_dialed() {
    as_everybody(|user| {
        let lab = Lab::new(user);
        let mut sandbox = lab.sandbox(&["--hold", "forever"]);
        let mut operator = lab.operator();
        sandbox.begins("greet plain.test");
        let question = operator.asked("plain.test");
        sandbox.shell.child.kill().unwrap();
        sandbox.shell.child.wait().unwrap();
        operator.until(|event| event["event"] == "hub" && event["state"] != "up");
        drop(question);
        let mut next = lab.sandbox(&["--allow", "other.test"]);
        assert_eq!(next.does("greet other.test"), hello("198.51.100.129"));
        assert_eq!(lab.packets_sent(), ["6 198.51.100.129 7004"]);
        assert_eq!(lab.names_asked(), ["other.test"]);
    });
}

#[test]
fn a_storm_of_destinations_delays_nobody_else() {
    as_everybody(|user| {
        let lab = Lab::new(user);
        let many = ["--open-files", "4000"];
        let options = [&many[..], &["--hold", "0", "--allow", "plain.test:7004"]].concat();
        let mut sandbox = lab.sandbox(&options);
        sandbox
            .shell
            .does("ulimit -n $(ulimit -Hn); python3 w.py garbage 8.8.8.8");
        assert_eq!(sandbox.does("scan plain.test 1500"), "1500 ECONNREFUSED");
        assert_eq!(
            sandbox.does("greet plain.test 7004 2"),
            hello("198.51.100.41")
        );
        let said = sandbox.finish();
        assert!(said.contains("asked about 1: "), "{said}");
        assert!(!said.contains("nothing new can be answered"), "{said}");
        assert_eq!(lab.packets_sent(), ["6 198.51.100.41 7004"]);
        assert_eq!(lab.names_asked(), ["plain.test"]);
    });
}

#[test]
fn the_gateways_own_ports_and_marks_are_out_of_reach() {
    as_everybody(|user| {
        let lab = Lab::new(user);
        let options = ["--hold", "0", "--allow", "0.0.0.0/0", "--allow", "::/0"];
        let mut sandbox = lab.sandbox(&options);
        for gateway in ["198.19.0.1", "fdc1:ea2c:19::1"] {
            for port in [TCP_PORT, UDP_PORT, DNS_PORT] {
                for deed in ["greet GATEWAY PORT 5", "datagram GATEWAY x 5 PORT"] {
                    let deed = deed.replace("GATEWAY", gateway);
                    let said = sandbox.does(&deed.replace("PORT", &port.to_string()));
                    assert_eq!(said, "failed: ECONNREFUSED", "{deed} {port}");
                }
            }
        }
        for way in lab.ways() {
            let act = format!("python3 w.py mark {REPLAY_MARK}");
            let (_, said) = sandbox.shell.does(&format!("{way} '{act}'"));
            // In a network namespace of its own the mark leads nowhere.
            let own = way.contains("Un ") || way.contains("Urn ");
            assert_eq!(said == "marked", own, "{way}: {said}");
        }
        assert_eq!(lab.packets_sent(), Vec::<String>::new());
    });
}

#[test]
fn a_storm_of_questions_loses_none() {
    let user = User::new(None);
    let lab = Lab::new(&user);
    let mut sandbox = lab.sandbox(&["--hold", "forever"]);
    let mut operator = lab.operator();
    let scan = "ulimit -n $(ulimit -Hn); python3 w.py scan plain.test 500";
    sandbox.shell.begins(scan);
    let questions: Vec<_> = (0..500).map(|_| operator.asked("plain.test")).collect();
    let mut ports: Vec<_> = questions.iter().map(|one| one["port"].as_u64()).collect();
    ports.sort_unstable();
    ports.dedup();
    assert_eq!(ports.len(), 500);
    for question in &questions {
        operator.decide(question, 'd');
    }
    assert_eq!(sandbox.shell.ends().1, "500 ECONNREFUSED");
    assert_eq!(operator.other_questions(), Vec::<&str>::new());
}

#[test]
fn a_flood_of_first_packets_takes_bounded_memory_and_delays_no_other_sandbox() {
    let user = User::new(None);
    let lab = Lab::new(&user);
    let allowed = ["--allow", "plain.test:7004"];
    let [mut flooded, mut other] = [(); 2].map(|()| lab.sandbox(&allowed));
    // Its output is not read: an operator who does not keep up.
    let _operator = lab.operator();
    flooded.begins("first_packets 100000");
    for _ in 0..10 {
        assert_eq!(
            other.does("greet plain.test 7004 2"),
            hello("198.51.100.41")
        );
    }
    assert_eq!(flooded.ends(), "100000 begun");
    // The list of the questions is complete.
    let mut list = lab.machine.program(&user, &["--json", "list"]);
    let list = list.output().unwrap();
    assert!(list.status.success(), "{}", list.status);
    let rows = String::from_utf8(list.stdout).unwrap();
    let rows = rows.matches("\"event\":\"listed\"").count();
    assert!(rows > 1_000, "{rows}");
    let status = format!("/proc/{}/status", flooded.shell.child.id());
    let status = std::fs::read_to_string(status).unwrap();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let peak = peak.unwrap().trim().trim_end_matches(" kB");
    let peak: u32 = peak.parse().unwrap();
    println!("{rows} questions, at most {peak} kB");
    assert!(peak < 128 << 10, "{peak} kB for {rows} questions");
    assert_eq!(
        flooded.does("greet plain.test 7004 2"),
        hello("198.51.100.41")
    );
    let said = flooded.finish();
    assert!(!said.contains("nothing new can be answered"), "{said}");
    assert!(!said.contains("panicked"), "{said}");
    assert_eq!(lab.names_asked(), ["plain.test"]);
}
