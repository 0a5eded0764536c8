// SPDX-License-Identifier: Apache-2.0
//! The demo reports faults: the tests manipulate its namespaces while a question waits.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Output};

use crate::check;
use crate::demo::{Demo, Started, User};

/// A demo whose first question waits.
struct AskedDemo {
    started: Started,
    sandbox: u64,
    internet: u64,
}

impl AskedDemo {
    fn start(demo: &Demo) -> Self {
        let mut started = demo.start(User::Me, &["demo", "--json", "--answer", "ask"]);
        let sandbox = started.until("sandbox")["pid"].as_u64().unwrap();
        let internet = started.until("internet")["pid"].as_u64().unwrap();
        started.until("question");
        Self {
            started,
            sandbox,
            internet,
        }
    }

    /// Returns a command that runs a program as the owner of a network namespace of the demo.
    fn inside(&self, netns: &str, program: &str) -> Command {
        let mut command = Command::new("nsenter");
        command
            .arg("--preserve-credentials")
            .arg(format!("--user=/proc/{}/ns/user", self.sandbox))
            .arg(format!("--net={netns}"))
            .arg(program);
        command
    }

    fn in_sandbox(&self, command: &str) {
        self.run(&format!("/proc/{}/ns/net", self.sandbox), command);
    }

    fn in_internet(&self, command: &str) {
        self.run(&format!("/proc/{}/ns/net", self.internet), command);
    }

    /// Runs a command, split at blanks.
    fn run(&self, netns: &str, command: &str) {
        let mut words = command.split(' ');
        let mut inside = self.inside(netns, words.next().unwrap());
        assert_success(command, &inside.args(words).output().unwrap());
    }

    fn shell_in_internet(&self, script: &str) {
        let netns = format!("/proc/{}/ns/net", self.internet);
        let output = self.inside(&netns, "bash").args(["-c", script]).output();
        assert_success(script, &output.unwrap());
    }

    /// Finds the gateway's network namespace among the open files of the demo.
    fn gateway(&self) -> PathBuf {
        let files = fs::read_dir(format!("/proc/{}/fd", self.started.child.id())).unwrap();
        let is_gateway = |file: &PathBuf| {
            let target = fs::read_link(file).unwrap_or_default();
            target.to_string_lossy().starts_with("net:[") && {
                let mut list = self.inside(file.to_str().unwrap(), "nft");
                let list = list.args(["list", "table", "inet", "terok_shield"]);
                list.output().unwrap().status.success()
            }
        };
        let mut paths = files.map(|file| file.unwrap().path());
        paths.find(is_gateway).unwrap()
    }

    fn answer(mut self, answers: &str) -> crate::Run {
        self.started.answer(answers);
        self.started.end()
    }
}

fn assert_success(command: &str, output: &Output) {
    assert!(output.status.success(), "{command}: {output:?}");
}

fn assert_problem(run: &crate::Run, expected: &str) {
    let problems = run.summary()["problems"].to_string();
    assert!(problems.contains(expected), "{expected}: {run:#?}");
}

#[test]
fn it_fails_when_an_allowed_fetch_does_not_pass() {
    let demo = Demo::new();
    let asked = AskedDemo::start(&demo);
    asked.in_internet("nft add table inet sabotage");
    asked.in_internet("nft add chain inet sabotage in { type filter hook input priority 0 ; }");
    let rule = "ip daddr 203.0.113.10 tcp dport 80 reject with tcp reset";
    asked.in_internet(&format!("nft add rule inet sabotage in {rule}"));
    let run = asked.answer("a\nd\nd\nd\nd\n");
    check(&run, 1, [5, 1, 4, 0, 0, 6]);
    assert_problem(
        &run,
        "http://api.example.com/: it was allowed and did not pass",
    );
}

#[test]
fn it_fails_when_a_second_link_leads_out_of_the_sandbox() {
    let demo = Demo::new();
    let asked = AskedDemo::start(&demo);
    let internet = asked.internet;
    asked.in_sandbox(&format!(
        "ip link add leak type veth peer name leak netns {internet}"
    ));
    asked.in_internet("ip link set leak up");
    asked.in_internet("ip route add 198.19.0.2 dev leak");
    asked.in_sandbox("ip link set leak up");
    asked.in_sandbox("ip route add 198.51.100.99 dev leak");
    let run = asked.answer("d\nd\nd\nd\n");
    check(&run, 1, [4, 0, 4, 0, 1, 5]);
    let host = "http://198.51.100.99:8080/";
    assert_problem(&run, &format!("{host}: it passed before an answer"));
    assert_problem(&run, &format!("{host}: no question was asked"));
    assert_problem(&run, &format!("{host}: it passed and was not allowed"));
    assert_problem(&run, "the sandbox has the links lo, eth0, leak");
}

#[test]
fn it_fails_when_the_firewall_is_gone() {
    let demo = Demo::new();
    let asked = AskedDemo::start(&demo);
    let gateway = asked.gateway();
    let delete = "nft delete table inet terok_shield";
    asked.run(gateway.to_str().unwrap(), delete);
    let run = asked.answer("d\nd\nd\nd\nd\n");
    check(&run, 1, [1, 0, 1, 0, 0, 6]);
    assert_problem(&run, "cannot verify the firewall");
    let host = "http://registry.example.net/";
    assert_problem(&run, &format!("{host}: no question was asked"));
}

#[test]
fn it_fails_when_a_host_is_reached_without_permission() {
    let demo = Demo::new();
    let asked = AskedDemo::start(&demo);
    asked.shell_in_internet("exec 3<> /dev/tcp/203.0.113.10/80");
    asked.shell_in_internet("exec 3<> /dev/tcp/192.0.2.53/8080");
    let run = asked.answer("d\nd\nd\nd\nd\n");
    check(&run, 1, [5, 0, 5, 0, 0, 6]);
    let host = "http://api.example.com/";
    assert_problem(&run, &format!("{host}: its host was reached"));
    assert_problem(&run, "192.0.2.53:8080 was reached without a fetch");
}

#[test]
fn it_fails_when_a_name_is_looked_up_without_permission() {
    let demo = Demo::new();
    let asked = AskedDemo::start(&demo);
    for labels in [r"\x03api\x07example\x03com", r"\x06secret\x07example"] {
        let header = r"\0\1\1\0\0\1\0\0\0\0\0\0";
        asked.shell_in_internet(&format!(
            r"printf '{header}{labels}\0\0\1\0\1' > /dev/udp/192.0.2.53/53"
        ));
    }
    let run = asked.answer("d\nd\nd\nd\nd\n");
    check(&run, 1, [5, 0, 5, 0, 0, 6]);
    let host = "http://api.example.com/";
    assert_problem(
        &run,
        &format!("{host}: its name was looked up without permission"),
    );
    assert_problem(&run, "secret.example was looked up without a fetch");
}
