// SPDX-License-Identifier: Apache-2.0
//! Real programs of the machine, whose first connections wait for their answers.
//!
//! The programs run side by side, each in a sandbox of its own, with an operator of its own.

use std::ffi::OsStr;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::machine::line;
use super::operator::Operator;
use super::user::{Shell, User, told};

/// The time from a question to its answer in the test of package managers.
///
/// A real wait, as long as a person needs to read a question: other clocks than that of the test
/// count it. It is longer than pip's own time to connect (15 s), and than the time of the kernel's
/// first four repetitions of a SYN.
const PERSON_ANSWERS_AFTER: Duration = Duration::from_secs(20);
/// The time from a question to its answer where the wait is not what is tested.
const SHORT_WAIT: Duration = Duration::from_secs(2);
/// The time in which a registry answers if the machine reaches it.
const STRAIGHT_TIMEOUT: &str = "15";

/// The servers of `local_servers.py`.
const LOCAL_SERVERS: &str = include_str!("local_servers.py");

/// Prints the npm registry's page of a small package, as the machine is configured.
const CONFIGURED_PAGE: &str = "$(npm config get registry | sed s,/*$,,)/ms";
const URLLIB: &str = "import sys, urllib.request; urllib.request.urlopen(sys.argv[1]).read()";
const REQUESTS: &str = "import sys, requests; requests.get(sys.argv[1]).raise_for_status()";

#[test]
fn package_managers_and_downloaders_succeed_if_the_answer_comes_after_twenty_seconds() {
    let user = User::new(None);
    let servers = LocalServers::start(&user);
    let clients = registry_clients(servers.port("registries"));
    thread::scope(|scope| {
        for client in clients {
            let user = &user;
            scope.spawn(move || {
                let mut straight =
                    operators_command(user, "timeout", &format!("straight-{}", client.name));
                straight.args([STRAIGHT_TIMEOUT, "sh", "-c", &client.configured]);
                let straight = straight.output().unwrap();
                let script = if straight.status.success() {
                    &client.configured
                } else {
                    let said = told(&straight);
                    say(&format!(
                        "{}: NOT TESTED WITH A REAL REGISTRY: {said}",
                        client.name
                    ));
                    &client.local
                };
                succeeds(user, client.name, script, PERSON_ANSWERS_AFTER);
            });
        }
    });
}

#[test]
fn git_ssh_rsync_and_local_registries_work_through_held_connections() {
    let user = User::new(None);
    let servers = LocalServers::start(&user);
    let at = |server: &str| format!("host.internal:{}", servers.port(server));
    let keys = servers.directory.display();
    let ssh = format!(
        "ssh -F /dev/null -i {keys}/client-key -o UserKnownHostsFile={keys}/known-hosts \
         -o BatchMode=yes -p {} user@host.internal",
        servers.port("ssh")
    );
    let mut clients = vec![
        (
            "git",
            format!("git clone git://{}/small.git $STORE/clone", at("git")),
        ),
        (
            "git-https",
            format!(
                "GIT_SSL_CAINFO={keys}/certificate.pem git clone https://{}/small.git $STORE/clone",
                at("git_https")
            ),
        ),
        ("ssh", format!("{ssh} true > $STORE/output")),
        (
            "rsync",
            format!("rsync rsync://{}/files/small $STORE/copy", at("rsync")),
        ),
    ];
    let registries = registry_clients(servers.port("registries"));
    clients.extend(registries.into_iter().map(|one| (one.name, one.local)));
    thread::scope(|scope| {
        for (name, script) in &clients {
            let user = &user;
            scope.spawn(move || {
                let questions = succeeds(user, name, script, SHORT_WAIT);
                assert_eq!(questions, ["host.internal"], "{name}");
            });
        }
    });
    // The programs fetched what the servers have.
    for fetched in [
        "git/clone/.git/HEAD",
        "git-https/clone/.git/HEAD",
        "rsync/copy",
    ] {
        let text = std::fs::read_to_string(user.path("work").join(fetched)).unwrap();
        assert!(!text.is_empty(), "{fetched}");
    }
}

/// A program that fetches something of a registry.
struct RegistryClient {
    name: &'static str,
    /// The script that uses the registry of the machine's configuration.
    configured: String,
    /// The script that uses the local registry.
    local: String,
}

/// Returns the clients of registries; the local registry has this port. What they store is below
/// `$STORE`, so that nothing that was fetched before is used.
///
/// No registry is named here: each program reads its own configuration, as for the operator.
fn registry_clients(port: u16) -> [RegistryClient; 7] {
    let local = format!("http://host.internal:{port}");
    let fetches = |name, command: &str| RegistryClient {
        name,
        configured: format!("{command} {CONFIGURED_PAGE}"),
        local: format!("{command} {local}/npm/ms"),
    };
    let npm = "npm --cache $STORE/npm view ms version";
    let pip = "download --no-cache-dir --no-deps -d $STORE six";
    // cargo keeps its configuration where it caches: the private cache leaves it out.
    let cargo = |config: &str| {
        format!(
            "cargo init -q --lib --vcs none --name fetching $STORE/fetching && \
             echo 'itoa = \"1\"' >> $STORE/fetching/Cargo.toml && {config} && \
             CARGO_HOME=$STORE/cargo cargo \"$@\" fetch --manifest-path $STORE/fetching/Cargo.toml"
        )
    };
    let cargo_config = "config=${CARGO_HOME:-$HOME/.cargo}/config.toml && set -- && \
        if [ -e \"$config\" ]; then set -- --config \"$config\"; fi";
    let local_cargo_config = format!(
        "set -- --config 'source.crates-io.replace-with=\"local\"' \
         --config 'source.local.registry=\"sparse+{local}/cargo/\"'"
    );
    [
        RegistryClient {
            name: "npm",
            configured: npm.to_owned(),
            local: format!("{npm} --registry {local}/npm/"),
        },
        RegistryClient {
            name: "pip",
            configured: format!("pip3 {pip}"),
            local: format!(
                "pip3 --isolated {pip} --index-url {local}/pip/ --trusted-host host.internal"
            ),
        },
        RegistryClient {
            name: "cargo",
            configured: cargo(cargo_config),
            local: cargo(&local_cargo_config),
        },
        fetches("curl", "curl -sSf -o $STORE/page"),
        fetches("wget", "wget -q -O $STORE/page"),
        fetches("urllib", &format!("python3 -c '{URLLIB}'")),
        // That of the distribution, which `./check setup` installs for its own Python.
        fetches("requests", &format!("/usr/bin/python3 -c '{REQUESTS}'")),
    ]
}

/// Runs a script in a sandbox, whose questions are all allowed when they are `after` old. Asserts
/// that the script succeeds, not earlier, and is asked about each destination once. Returns the
/// destinations.
#[expect(
    clippy::disallowed_methods,
    reason = "a wait of a real program is measured"
)]
fn succeeds(user: &User, name: &str, script: &str, after: Duration) -> Vec<String> {
    let runtime = user.directory(&format!("runtime-{name}"));
    let program = |args: &[&str]| {
        let mut command = operators_command(user, user.program(), name);
        command.env("XDG_RUNTIME_DIR", &runtime);
        command.args(args);
        command
    };
    let mut run = program(&["run", "--ui", "none", "--", "sh"]);
    let messages = user.path(&format!("messages-{name}"));
    run.stderr(std::fs::File::create(&messages).unwrap());
    let mut shell = Shell::start(run);
    let operator = Operator::start(program(&["--json", "clearance"]));
    let answering = thread::spawn(move || allow_all(operator, after));
    let start = Instant::now();
    let (status, said) = shell.does(script);
    let took = start.elapsed();
    shell.close();
    let questions = answering.join().unwrap();
    let messages = std::fs::read_to_string(&messages).unwrap();
    let told = format!("{name}, {took:?}, {questions:?}: {said}\n{messages}");
    assert_eq!(status, 0, "{told}");
    let mut once = questions.clone();
    once.sort();
    once.dedup();
    assert_eq!(once.len(), questions.len(), "{told}");
    assert!(!questions.is_empty() && took >= after, "{told}");
    say(&format!("{name}: {took:.1?}, asked about {questions:?}"));
    questions.into_iter().map(|(dest, ..)| dest).collect()
}

/// Allows each question when it is `after` old, until the sandbox ends. Returns what was asked.
fn allow_all(mut operator: Operator, after: Duration) -> Vec<(String, u64, String)> {
    let mut questions = Vec::new();
    loop {
        let event = operator.until(|event| {
            event["event"] == "pending" || (event["event"] == "hub" && event["state"] != "up")
        });
        if event["event"] == "hub" {
            return questions;
        }
        thread::sleep(after);
        let decided = operator.decide(&event, 'a');
        let waited = decided["at"].as_u64().unwrap() - event["first_seen"].as_u64().unwrap();
        assert!(u128::from(waited) >= after.as_micros(), "{decided}");
        let text = |field: &str| event[field].as_str().unwrap().to_owned();
        let port = event["port"].as_u64().unwrap();
        questions.push((text("dest"), port, text("protocol")));
    }
}

/// Returns a command with the environment and the configuration files of the user who runs the
/// tests, and an empty directory `$STORE` of this name.
///
/// pip's time to connect is its default: a longer one would not be a test.
fn operators_command(user: &User, program: impl AsRef<OsStr>, store: &str) -> Command {
    let mut command = Command::new(program);
    command
        .env_remove("PIP_DEFAULT_TIMEOUT")
        .env("STORE", user.directory(&format!("work/{store}")))
        .env("XDG_STATE_HOME", user.path("home"))
        .current_dir(user.path("work"))
        .stdin(Stdio::null());
    command
}

/// Says something about a test that passes.
#[expect(clippy::print_stderr, reason = "the person who runs the test reads it")]
fn say(text: &str) {
    eprintln!("{text}");
}

/// Servers on the machine's loopback.
struct LocalServers {
    child: Child,
    ports: Value,
    /// Keys, certificates and logs.
    directory: PathBuf,
}

impl LocalServers {
    fn start(user: &User) -> Self {
        let directory = user.directory("servers");
        // That of the distribution, whose packages `./check setup` installs.
        let mut command = user.command("/usr/bin/python3");
        command
            .args(["-W", "ignore", "-c", LOCAL_SERVERS])
            .arg(&directory);
        let command = command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let ports = line(&mut child);
        let Ok(ports) = serde_json::from_str(&ports) else {
            panic!("{}", told(&child.wait_with_output().unwrap()))
        };
        Self {
            child,
            ports,
            directory,
        }
    }

    fn port(&self, server: &str) -> u16 {
        let port = self.ports[server].as_u64().unwrap();
        u16::try_from(port).unwrap()
    }
}

impl Drop for LocalServers {
    fn drop(&mut self) {
        // The end of its input ends the servers.
        drop(self.child.stdin.take());
        drop(self.child.wait());
    }
}
