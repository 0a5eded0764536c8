// SPDX-License-Identifier: Apache-2.0
//! The verbs of `terok-shield`, theirs and ours, on the same state directories and on firewalls in
//! real network namespaces: the same output, status, files and rules.

mod changing;
mod failing;
mod podman;
mod reading;

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use crate::harness::{Ended, Place, Running, Stack};

const STACK: Stack = Stack::V0_8_1;
/// The id of the container, as podman knows it.
const ID: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

/// Stands in for podman, which needs images and a user of its own: it knows the containers whose
/// process ids are in files beside it. `shield_verbs/podman.rs` has the real one.
const PODMAN: &str = r#"#!/bin/sh
here=${0%/*}
case $1 in
  inspect)
    shift
    format=
    while [ $# -gt 1 ]; do
      case $1 in --format) format=$2; shift ;; esac
      shift
    done
    [ -e "$here/$1.pid" ] || { echo "no such container $1" >&2; exit 125; }
    pid=$(cat "$here/$1.pid")
    [ "$format" != '{{.State.Pid}}' ] || { echo "$pid"; exit; }
    printf '[{"Id":"x","State":{"Pid":%s},"Config":{"Annotations":' "$pid"
    printf '{"terok.shield.state_dir":"%s/state/containers/%s"}}}]\n' "$here" "$1"
    ;;
  unshare) shift; exec "$@" ;;
  info)
    echo '{"version":{"Version":"5.4.2"},"host":{"rootlessNetworkCmd":"pasta"}}'
    ;;
  version) echo 5.4.2 ;;
esac
"#;

/// Stands in for a name server.
const DIG: &str = r"#!/bin/sh
case $2 in
  one.example) echo 203.0.113.1 ;;
  two.example) echo alias.example.; echo 203.0.113.2; echo 2001:db8::2 ;;
esac
";

/// Which program performs a verb.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum By {
    Theirs,
    Ours,
}

/// A host with containers that both programs manage.
struct ShieldHost {
    place: Place,
}

/// A container: a process in a network namespace of its own.
struct Box_ {
    name: &'static str,
    process: Running,
}

impl ShieldHost {
    fn new() -> Self {
        let host = Self {
            place: Place::new(),
        };
        host.program("podman", PODMAN);
        host.program("dig", DIG);
        host
    }

    fn path(&self) -> &Path {
        self.place.path()
    }

    fn program(&self, name: &str, script: &str) {
        let path = self.path().join(name);
        fs::write(&path, script).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    }

    /// Returns the state directory of a container.
    fn state(&self, name: &str) -> PathBuf {
        self.path().join("state/containers").join(name)
    }

    /// Starts a container with a state directory as `prepare` writes it.
    async fn start(&self, name: &'static str) -> Box_ {
        let state = self.state(name);
        fs::create_dir_all(state.join("policy")).unwrap();
        for directory in [&state, &state.join("policy")] {
            fs::set_permissions(directory, fs::Permissions::from_mode(0o700)).unwrap();
        }
        for (file, text) in [
            ("upstream.dns", "169.254.1.1\n"),
            ("dns.tier", "lookup\n"),
            ("network.mode", "pasta\n"),
            ("loopback.ports", "8000\n"),
            ("resolved.ips", "203.0.113.10\n198.51.100.0/24\n"),
            ("override_resolved.ips", "10.0.0.1\n"),
            ("policy/40-project-allow", "+203.0.113.11\n+zero.example\n"),
            ("policy/20-security-deny", "-203.0.113.66\n"),
        ] {
            fs::write(state.join(file), text).unwrap();
        }
        let mut unshare = self.place.command("unshare");
        let script = "ip link set lo up; echo up; read -r _";
        let mut process = Running::start(unshare.args(["--net", "sh", "-c", script]));
        assert_eq!(process.line().await, "up");
        let pid = process.pid().as_raw_nonzero().to_string();
        fs::write(self.path().join(format!("{name}.pid")), pid).unwrap();
        Box_ { name, process }
    }

    fn command(&self, by: By, args: &[&str]) -> tokio::process::Command {
        let mut command = match by {
            By::Theirs => self.place.theirs(STACK, "terok-shield", args),
            By::Ours => self.place.ours_as("terok-shield", args),
        };
        let tools = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
        command
            .env("PATH", format!("{}:{tools}", self.path().display()))
            .env("TEROK_SHIELD_STATE_DIR", self.path().join("state"));
        command
    }

    /// Performs a verb.
    async fn verb(&self, by: By, args: &[&str]) -> Ended {
        Running::start(&mut self.command(by, args)).end().await
    }

    /// Performs a verb, which must succeed, and returns its output.
    async fn done(&self, by: By, args: &[&str]) -> String {
        let ended = self.verb(by, args).await;
        assert!(ended.status.success(), "{by:?} {args:?}: {ended:?}");
        ended.output
    }

    /// Performs a verb with both programs and returns what both print.
    async fn same(&self, args: &[&str]) -> String {
        let theirs = self.verb(By::Theirs, args).await;
        let ours = self.verb(By::Ours, args).await;
        let status = |ended: &Ended| ended.status.code();
        assert_eq!(
            (status(&ours), &ours.output),
            (status(&theirs), &theirs.output),
            "{args:?}: {theirs:?}\n{ours:?}"
        );
        ours.output
    }

    /// Runs nft in the network namespace of a container.
    async fn nft(&self, container: &Box_, script: &str) -> Ended {
        let pid = container.process.pid().as_raw_nonzero().to_string();
        let mut nsenter = self.place.command("nsenter");
        nsenter.args(["--net", "--target", &pid, "nft", "-f", "-"]);
        let mut nft = Running::start(&mut nsenter);
        nft.type_in(script).await;
        nft.end().await
    }

    /// Returns the rules of a container without counts and without the times that elements have.
    async fn rules(&self, container: &Box_) -> String {
        let listed = self.nft(container, "list ruleset").await;
        assert!(listed.status.success(), "{listed:?}");
        let mut words = listed.output.split_whitespace().peekable();
        let mut rules = Vec::new();
        while let Some(word) = words.next() {
            if matches!(word, "expires" | "packets" | "bytes") {
                words.next();
            } else {
                rules.push(word);
            }
        }
        rules.join(" ")
    }

    /// Returns the policy of the verbs and the record of a container, without the times.
    fn files(&self, name: &str) -> String {
        let read = |file: &str| fs::read_to_string(self.state(name).join(file)).unwrap_or_default();
        let record = read("audit.jsonl");
        let record = record.lines().map(|line| {
            let time = line.find("\",\"container\"").unwrap();
            assert!(line[..time].ends_with("+00:00"), "{line}");
            line[time..].replace(name, "NAME")
        });
        format!(
            "{}\n{}",
            read("policy/live"),
            record.collect::<Vec<_>>().join("\n")
        )
    }
}
