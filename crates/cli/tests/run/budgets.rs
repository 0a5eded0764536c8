// SPDX-License-Identifier: Apache-2.0
//! Attempts of a workload to use up what all processes of its user share.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};

use super::user::{User, as_everybody, told};

/// A Python program that takes as many as it can get, prints the number, and keeps them until the
/// end of its input.
fn taker(take: &str) -> String {
    format!(
        "import array, ctypes, os, socket, sys, threading\n\
         libc = ctypes.CDLL(None)\n\
         kept = []\n\
         {take}\n\
         taken = 0\n\
         try:\n\
         \x20   while taken < LIMIT:\n\
         \x20       got = take()\n\
         \x20       if got <= 0: break\n\
         \x20       taken += got\n\
         except (OSError, RuntimeError): pass\n\
         print(taken, flush=True)\n\
         sys.stdin.read()\n"
    )
}

const DESCRIPTORS: &str = "\
LIMIT = 1250
def take():
    pair = socket.socketpair()
    kept.append(pair)
    socket.send_fds(pair[0], [b'x'], [pair[0].fileno()] * 250)
    return 250";

const INOTIFY_INSTANCES: &str = "\
LIMIT = 128
def take():
    return 1 if libc.inotify_init() >= 0 else 0";

const PROCESSES: &str = "\
LIMIT = 1000
def take():
    child = os.fork()
    if child == 0:
        sys.stdin.read()
        os._exit(0)
    return 1";

const THREADS: &str = "\
LIMIT = 1000
threading.stack_size(65536)
end = threading.Event()
def take():
    threading.Thread(target=end.wait, daemon=True).start()
    return 1";

/// A sandbox whose workload has taken all it can get.
struct Taken {
    child: Child,
    number: u32,
}

impl Taken {
    fn start(mut command: Command) -> Self {
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut said = String::new();
        let output = child.stdout.take().unwrap();
        BufReader::new(output).read_line(&mut said).unwrap();
        let number = said.trim().parse().unwrap();
        Self { child, number }
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        self.child.wait().unwrap();
    }
}

/// A run of a taker in the ways of nested namespaces; its options are before the command.
fn take(user: &User, limits: &[&str], options: &[&str], way: &str, what: &str) -> Taken {
    let mut command = if limits.is_empty() {
        user.command(user.program())
    } else {
        let mut command = user.command("prlimit");
        command.args(limits).arg(user.program());
        command
    };
    command.args(["run", "--network", "none"]).args(options);
    let way = way.strip_suffix("sh -c").unwrap();
    command.arg("--").args(way.split_whitespace());
    command.args(["python3", "-c", &taker(what)]);
    Taken::start(command)
}

#[test]
fn descriptors_in_flight() {
    as_everybody(|user| {
        for way in user.ways() {
            let taken = take(user, &[], &["--open-files", "512"], way, DESCRIPTORS);
            assert!(taken.number < 1024, "{way}: {}", taken.number);
            drop(taken);
            let taken = take(user, &[], &[], way, DESCRIPTORS);
            let passing = "python3 -c 'import socket; a, b = socket.socketpair(); \
                socket.send_fds(a, [b\"x\"], [0]); socket.recv_fds(b, 1, 1)'";
            let outside = user
                .command("prlimit")
                .args(["--nofile=1024", "sh", "-c", passing])
                .output()
                .unwrap();
            assert!(outside.status.success(), "{way}: {}", told(&outside));
            assert!(taken.number > 0, "{way}");
        }
    });
}

#[test]
fn inotify_instances() {
    as_everybody(|user| {
        for way in user.ways() {
            let taken = take(user, &[], &[], way, INOTIFY_INSTANCES);
            assert!((8..=64).contains(&taken.number), "{way}: {}", taken.number);
            let watch = "python3 -c 'import ctypes, sys; \
                sys.exit(ctypes.CDLL(None).inotify_init() < 0)'";
            let outside = user.outside(watch);
            assert!(outside.status.success(), "{way}: {}", told(&outside));
        }
    });
}

#[test]
fn processes_and_threads() {
    as_everybody(|user| {
        for way in user.ways() {
            for what in [PROCESSES, THREADS] {
                let taken = take(user, &[], &["--pids", "40"], way, what);
                // The kernel has no limit for processes of root: the sandbox's process ids end.
                let most = if user.is_root() { 340 } else { 40 };
                assert!(
                    (20..=most).contains(&taken.number),
                    "{way}: {}",
                    taken.number
                );
            }
        }
    });
}

/// The default stops a fork bomb before the operator has no process left.
#[test]
fn half_of_the_processes_are_the_operators() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("skipped: needs a user without other processes");
        return;
    }
    let user = User::new(Some(54_322));
    let limit = ["--nproc=200"];
    for way in user.ways() {
        let taken = take(&user, &limit, &[], way, PROCESSES);
        assert!(
            (50..=100).contains(&taken.number),
            "{way}: {}",
            taken.number
        );
        let outside = user
            .command("prlimit")
            .args(limit)
            .args([
                "sh",
                "-c",
                "ls / | cat | sort >/dev/null && sh -c 'true | true'",
            ])
            .output()
            .unwrap();
        assert!(outside.status.success(), "{way}: {}", told(&outside));
    }
}

#[test]
fn memory() {
    as_everybody(|user| {
        for way in user.ways() {
            let script =
                |size: &str| format!("{way} 'python3 -c \"x = bytearray({size} << 20)\" 2>&1'");
            let run = |size| {
                let args = ["--network", "none", "--memory", "200M", "--", "sh", "-c"];
                user.run(&args).arg(script(size)).output().unwrap()
            };
            let modest = run("20");
            assert!(modest.status.success(), "{way}: {}", told(&modest));
            let greedy = run("400");
            assert!(!greedy.status.success(), "{way}: {}", told(&greedy));
        }
        for size in ["0", "lots", "1.5G"] {
            let refused = user
                .run(&["--memory", size, "--", "true"])
                .output()
                .unwrap();
            assert_eq!(refused.status.code(), Some(2), "{}", told(&refused));
        }
    });
}
