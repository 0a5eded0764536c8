// SPDX-License-Identifier: Apache-2.0
//! Containers that are started and killed in a loop: nothing is left, and each asked with its
//! first instruction.

use std::collections::BTreeSet;
use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex};

use super::guarded::{Host, WAYS, guarded};
use super::machine::{Account, PATIENCE, until};
use super::podman::{SERVER, fetch};

const CONTAINERS: usize = 200;
const AT_ONCE: usize = 10;

/// What a machine has that a container could leave behind.
#[derive(Debug, Eq, PartialEq)]
struct Remains {
    processes: Vec<String>,
    network_namespaces: BTreeSet<String>,
    units: Vec<String>,
    files: Vec<String>,
    sockets: Vec<String>,
}

impl Remains {
    fn of(host: &Host) -> Self {
        let root = |script: &str| {
            let text = host.machine.done(Account::Root, script);
            let mut lines: Vec<_> = text.lines().map(str::to_owned).collect();
            lines.sort();
            lines
        };
        let runtime = host.machine.runtime_directory(host.account);
        // The listing itself is one process, and its shell another.
        let processes = root(
            "ps -eo comm=,args= | \
             grep -vE '^(ps|sh|grep|nsenter|setpriv) |--json clearance'",
        );
        let namespaces = "readlink /proc/[0-9]*/ns/net /proc/[0-9]*/task/*/ns/net; \
             find /proc/[0-9]*/fd -lname 'net:*' -printf '%l\\n' 2>/dev/null; true";
        Self {
            processes,
            network_namespaces: root(namespaces).into_iter().collect(),
            units: host
                .systemctl("list-units --all --plain --no-legend --type service,socket,scope")
                .lines()
                .map(|line| line.split(' ').next().unwrap().to_owned())
                .filter(|unit| !unit.starts_with("systemd-"))
                .collect(),
            files: root(&format!(
                "find {runtime}/terok {runtime}/libpod/tmp/exits -not -name '*.log'; \
                 ls /home/op/.local/share/containers/storage/vfs-containers/ | \
                 grep -vE '\\.(json|lock)$'; true"
            )),
            sockets: root(&format!(
                "awk '$8 ~ \"^{runtime}/terok\" {{ print $8 }}' /proc/net/unix"
            )),
        }
    }
}

/// The containers whose question the operator has received, each with the question's id.
#[derive(Default)]
struct Asked {
    questions: Mutex<HashMap<String, String>>,
    changed: Condvar,
}

impl Asked {
    fn wait(&self, id: &str) -> String {
        let questions = self.questions.lock().unwrap();
        let is_missing = |known: &mut HashMap<String, String>| !known.contains_key(&id[..12]);
        let (known, timeout) = self
            .changed
            .wait_timeout_while(questions, PATIENCE, is_missing)
            .unwrap();
        assert!(!timeout.timed_out(), "{id} asked nothing");
        known[&id[..12]].clone()
    }
}

/// Starts a container that fetches a page in its first instruction, waits for its question, and
/// kills it; every tenth is allowed first.
fn start_and_kill(host: &Host, asked: &Asked, number: usize) {
    let way = WAYS[number % WAYS.len()];
    let podman = host.podman();
    let id = podman.done(&format!(
        "run --detach --name c{number} {} bb:latest {}",
        guarded(way),
        fetch(&number.to_string())
    ));
    let question = asked.wait(&id);
    if number % 10 < 2 {
        host.clearance(&format!("allow {question} --expect {SERVER}"));
        podman.done(&format!("wait {id}"));
    }
    podman.done(&format!("rm --force --time 0 {id}"));
}

#[test]
fn nothing_is_left_of_two_hundred_containers() {
    let host = Host::set_up(Account::Operator);
    let mut operator = host.operator();
    // One container, for what podman and systemd keep.
    let warm = host.begin_fetch("dialed", "warm");
    let question = operator.asked(SERVER);
    operator.decide(&question, 'd');
    warm.ends();
    let before = Remains::of(&host);
    let asked = Asked::default();
    let next = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        let (host, asked, next) = (&host, &asked, &next);
        let questions = scope.spawn(move || {
            for _ in 0..CONTAINERS {
                let question = operator.asked_anything();
                let field = |name: &str| question[name].as_str().unwrap().to_owned();
                let mut questions = asked.questions.lock().unwrap();
                questions.insert(field("container")[..12].to_owned(), field("id"));
                asked.changed.notify_all();
            }
            operator
        });
        let workers: Vec<_> = (0..AT_ONCE)
            .map(|_| {
                scope.spawn(move || {
                    loop {
                        let number = next.fetch_add(1, Ordering::Relaxed);
                        if number >= CONTAINERS {
                            return;
                        }
                        start_and_kill(host, asked, number);
                    }
                })
            })
            .collect();
        for worker in workers {
            worker.join().unwrap();
        }
        let operator = questions.join().unwrap();
        assert_eq!(operator.other_questions(), [""; 0]);
    });
    let mut allowed: Vec<_> = (0..CONTAINERS)
        .filter(|number| number % 10 < 2)
        .map(|number| number.to_string())
        .collect();
    allowed.sort();
    assert_eq!(host.pages(), allowed, "the control outside");
    assert_eq!(host.machine.events_of("tcp").len(), allowed.len());
    assert_eq!(asked.questions.lock().unwrap().len(), CONTAINERS);
    let mut after = Remains::of(&host);
    until(
        || {
            after = Remains::of(&host);
            after == before
        },
        || format!("{before:#?}\n{:#?}", Remains::of(&host)),
    );
}
