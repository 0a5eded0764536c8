// SPDX-License-Identifier: Apache-2.0
//! A workload that sees the sockets of another sandbox: in a runtime directory that its own sandbox
//! does not hide.

use std::path::{Path, PathBuf};

use serde_json::Value;

use super::user::{Shell, User, as_everybody, quoted, told};

/// A script that sends `line`, NUL-terminated, and prints the reply; it fails without one.
fn exchange(socket: &Path, line: &str) -> String {
    let script = "use Socket; socket(S, PF_UNIX, SOCK_STREAM, 0) or die; \
        connect(S, sockaddr_un($ARGV[0])) or die $!; $SIG{PIPE} = q(IGNORE); \
        syswrite(S, \"$ARGV[1]\\0\"); sysread(S, $r, 4096) or die q(no reply); print $r";
    format!("perl -e '{}' {} '{line}'", quoted(script), socket.display())
}

const GET_INFO: &str = r#"{"method":"org.varlink.service.GetInfo"}"#;

/// A run whose runtime directory lies in the home directory, with a shell.
struct Other {
    shell: Shell,
    runtime: PathBuf,
}

impl Other {
    fn start(user: &User) -> Self {
        let runtime = user.directory("home/rt");
        let mut run = user.run(&["--ui", "none", "--", "sh"]);
        run.env("XDG_RUNTIME_DIR", &runtime);
        let shell = Shell::start(run);
        Self { shell, runtime }
    }

    /// A command of the program that looks for hubs there.
    fn program(&self, user: &User, arguments: &str) -> String {
        let runtime = self.runtime.display();
        let program = user.program();
        format!(
            "XDG_RUNTIME_DIR={runtime} {} {arguments}",
            program.display()
        )
    }

    fn sockets(&self) -> [PathBuf; 2] {
        let sandboxes = [
            ("terok/clearance", "hub.sock"),
            ("terok/events", "ingester.sock"),
        ];
        sandboxes.map(|(directory, name)| {
            let mut entries = std::fs::read_dir(self.runtime.join(directory)).unwrap();
            entries.next().unwrap().unwrap().path().join(name)
        })
    }
}

#[test]
fn a_workload_cannot_answer_the_questions_of_another_sandbox() {
    as_everybody(|user| {
        let mut before = user.shell_inside();
        let mut other = Other::start(user);
        let mut after = user.shell_inside();
        // Nobody is there to answer: refused, and the question stays.
        other.shell.does("curl -sS http://203.0.113.9/");
        let list = other.program(user, "--json list");
        let listed = String::from_utf8(user.outside(&list).stdout).unwrap();
        let question: Value = serde_json::from_str(listed.lines().next().unwrap()).unwrap();
        assert_eq!(question["dest"], "203.0.113.9");
        let id = question["id"].as_str().unwrap();
        let [hub, ingester] = other.sockets();
        let control = user.outside(&exchange(&hub, GET_INFO));
        assert!(control.status.success(), "{}", told(&control));
        for attacker in [&mut before, &mut after] {
            for way in user.ways() {
                for act in [
                    other.program(user, &format!("allow {id}")),
                    exchange(&hub, GET_INFO),
                    exchange(&ingester, GET_INFO),
                ] {
                    let act = format!("{way} '{}'", quoted(&act));
                    let (status, said) = attacker.does(&act);
                    assert_ne!(status, 0, "{act}\n{said}");
                }
            }
            let (_, said) = attacker.does(&list);
            assert!(!said.contains(id), "{said}");
        }
        let still = user.outside(&list);
        assert!(told(&still).contains(id), "{}", told(&still));
        let allowed = user.outside(&other.program(user, &format!("allow {id}")));
        assert!(allowed.status.success(), "{}", told(&allowed));
    });
}
