// SPDX-License-Identifier: Apache-2.0
//! Processes in separate namespaces, and the network configuration of a test's namespace.

use std::fs::File;
use std::io::Write as _;
use std::process::{Command, Stdio};

use crate::child::ChildGuard;

/// Checks that the test runs in private namespaces, because the test changes links and rules.
///
/// # Panics
/// If the user namespace maps every id to the same id, as only the host's namespace does.
pub fn require_private_namespaces() {
    let map = std::fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
    let map: Vec<&str> = map.split_whitespace().collect();
    assert!(
        map != ["0", "0", "4294967295"],
        "this test changes the network: run it with `./check netns` or `./check interop`, in \
         namespaces of its own"
    );
}

/// A process that keeps namespaces alive. Ends on drop or with the test's process.
#[derive(Debug)]
pub struct NamespaceHolder(ChildGuard);

impl NamespaceHolder {
    /// Starts a process in new namespaces and waits until the namespaces exist. `flags` are passed
    /// to `unshare`.
    pub fn start(flags: &[&str]) -> Self {
        Self::start_script(flags, "echo ready; exec cat")
    }

    /// Starts a shell script in new namespaces. The script must print a line when ready, and end
    /// when standard input ends.
    pub fn start_script(flags: &[&str], script: &str) -> Self {
        let mut command = Command::new("unshare");
        command
            .args(flags)
            .args(["--", "sh", "-c", script])
            .stdin(Stdio::piped());
        Self(ChildGuard::spawn_until_ready(&mut command).0)
    }

    /// Returns the process id.
    pub fn pid(&self) -> u32 {
        self.0.id()
    }

    /// Opens the file of the network namespace.
    pub fn netns_file(&self) -> File {
        File::open(format!("/proc/{}/ns/net", self.pid())).unwrap()
    }

    /// Returns a command that runs `program` in the network namespace.
    pub fn command(&self, program: &str) -> Command {
        let mut command = Command::new("nsenter");
        command.args(["--net", "-t", &self.pid().to_string(), "--", program]);
        command
    }

    /// Closes the standard input of the process and waits for the end.
    pub fn end(&mut self) {
        drop(self.0.stdin.take());
        self.0.wait().unwrap();
    }

    /// Kills the process without waiting for the end.
    pub fn kill(&mut self) {
        self.0.kill().unwrap();
    }
}

/// Runs `ip` with these arguments in the caller's network namespace.
pub fn ip(words: &str) {
    require_private_namespaces();
    run_ip(Command::new("ip"), words);
}

/// Runs `ip` with these arguments in another network namespace.
pub fn ip_in(holder: &NamespaceHolder, words: &str) {
    run_ip(holder.command("ip"), words);
}

fn run_ip(mut command: Command, words: &str) {
    let status = command.args(words.split(' ')).status().unwrap();
    assert!(status.success(), "{command:?}: {status}");
}

/// Adds a default route for IPv4 and IPv6 that leads nowhere to the caller's network namespace.
pub fn add_dead_end_uplink() {
    for words in [
        "link set lo up",
        "link add out0 type veth peer name in0",
        "address add 192.0.2.2/24 dev out0",
        "address add 2001:db8::2/64 dev out0 nodad",
        "link set in0 up",
        "link set out0 up",
        "route add default via 192.0.2.1 dev out0",
        "-6 route add default via 2001:db8::1 dev out0",
    ] {
        ip(words);
    }
}

/// Loads nftables rules into the caller's network namespace.
pub fn load_rules(rules: &[u8]) {
    require_private_namespaces();
    let mut nft = Command::new("nft")
        .args(["-f", "-"])
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    nft.stdin.take().unwrap().write_all(rules).unwrap();
    assert!(nft.wait().unwrap().success());
}

#[cfg(test)]
mod tests {
    use super::*;

    const OF_A_USER: &[&str] = &["--user", "--map-root-user", "--net"];

    #[test]
    fn a_holder_keeps_a_separate_network_namespace_until_the_end() {
        let own = std::fs::read_link("/proc/self/ns/net").unwrap();
        let mut holder = NamespaceHolder::start(OF_A_USER);
        let process = format!("/proc/{}", holder.pid());
        assert_ne!(
            std::fs::read_link(format!("{process}/ns/net")).unwrap(),
            own
        );
        holder.end();
        assert!(!std::fs::exists(process).unwrap());
    }

    #[test]
    fn a_dropped_holder_leaves_no_process() {
        let holder = NamespaceHolder::start(OF_A_USER);
        let process = format!("/proc/{}", holder.pid());
        drop(holder);
        assert!(!std::fs::exists(process).unwrap());
    }
}
