// SPDX-License-Identifier: Apache-2.0
//! A machine with a network link to the demo's simulated internet, which alone has no link.

use std::io::Read as _;
use std::process::{Child, Command, Stdio};

use super::user::{User, told};

/// A machine: network and mount namespaces with a link to the simulated internet and its resolver.
pub(crate) struct Machine {
    holder: Child,
    internet: Child,
}

impl Machine {
    /// Sets up the machine. The owner is root if root runs the tests, otherwise root of a user
    /// namespace.
    pub(crate) fn new(user: &User) -> Self {
        Self::asking(user, "192.0.2.53")
    }

    /// Sets up a machine with another resolver.
    pub(crate) fn asking(user: &User, resolver: &str) -> Self {
        let [resolv, hosts] = ["resolv.conf", "hosts"].map(|file| user.path(file));
        std::fs::write(&resolv, format!("nameserver {resolver}\n")).unwrap();
        std::fs::write(&hosts, "127.0.0.1 localhost\n").unwrap();
        let prepare = format!(
            "ip link set lo up && mount --bind {} /etc/resolv.conf && \
             mount --bind {} /etc/hosts && echo && exec cat",
            resolv.display(),
            hosts.display()
        );
        let mut unshare = Command::new("unshare");
        if !rustix::process::geteuid().is_root() {
            unshare.args(["--user", "--map-root-user"]);
        }
        let mut holder = unshare
            .args(["--net", "--mount", "sh", "-c", &prepare])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        line(&mut holder);
        let mut internet = Command::new(user.program())
            .args(["demo-internet", &holder.id().to_string(), "/nonexistent"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let ready = line(&mut internet);
        assert!(ready.contains("ready"), "{ready}");
        let machine = Self { holder, internet };
        machine.connect(user);
        machine
    }

    /// Links the machine with the simulated internet, and leads its default routes there.
    fn connect(&self, user: &User) {
        let ends = [
            format!(
                "ip link add eth0 type veth peer name machine netns {}",
                self.internet.id()
            ),
            "ip link set machine up && ip address add 192.0.2.1/29 dev machine && \
             ip address add 2001:db8::1/64 dev machine nodad"
                .to_owned(),
            "ip link set eth0 up && ip address add 192.0.2.2/29 dev eth0 && \
             ip address add 2001:db8::2/64 dev eth0 nodad && \
             ip route add default via 192.0.2.1 && ip route add default via 2001:db8::1"
                .to_owned(),
        ];
        let [link, internet, machine] = ends.each_ref().map(|end| ["sh", "-c", end]);
        for mut command in [
            self.root(user, &link),
            self.internet_command(&internet),
            self.root(user, &machine),
        ] {
            let output = command.output().unwrap();
            assert!(output.status.success(), "{}", told(&output));
        }
    }

    /// A command of the user on this machine.
    pub(crate) fn command(&self, user: &User, args: &[&str]) -> Command {
        self.command_as(user, user.uid(), args)
    }

    /// A command of root on this machine.
    pub(crate) fn root(&self, user: &User, args: &[&str]) -> Command {
        self.command_as(user, None, args)
    }

    /// A command of root in the network namespace of the simulated internet.
    pub(crate) fn internet_command(&self, args: &[&str]) -> Command {
        let mut command = Command::new("nsenter");
        command.args(["-t", &self.internet.id().to_string()]);
        if !rustix::process::geteuid().is_root() {
            command.args(["-U", "--preserve-credentials"]);
        }
        command.args(["-n", "--"]).args(args);
        command
    }

    fn command_as(&self, user: &User, uid: Option<u32>, args: &[&str]) -> Command {
        let pid = self.holder.id().to_string();
        let mut command = user.command("nsenter");
        if rustix::process::geteuid().is_root() {
            // Entering the namespaces requires root; the user is set afterwards.
            command = Command::new("nsenter");
            command
                .args(["-t", &pid, "-n", "-m", "--", "env", "-i", "-C"])
                .arg(user.path("work"));
            command.arg("PATH=/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin");
            for (name, below) in [("HOME", "home"), ("XDG_RUNTIME_DIR", "runtime")] {
                command.arg(format!("{name}={}", user.path(below).display()));
            }
            if let Some(uid) = uid {
                let become_user = ["--reuid", "--regid"].map(|flag| format!("{flag}={uid}"));
                command
                    .arg("setpriv")
                    .args(become_user)
                    .arg("--clear-groups");
            }
        } else {
            command.args(["-t", &pid, "-U", "--preserve-credentials", "-n", "-m", "--"]);
            // Entering a mount namespace changes the working directory to its root.
            command.args(["env", "-C"]).arg(user.path("work"));
        }
        command.args(args).stdin(Stdio::null());
        command
    }

    /// `terok-clearance ARGS…` on this machine.
    pub(crate) fn program(&self, user: &User, args: &[&str]) -> Command {
        let program = user.program();
        self.command(user, &[&[program.to_str().unwrap()], args].concat())
    }
}

/// Reads the next line of a child's output.
pub(crate) fn line(child: &mut Child) -> String {
    let mut line = String::new();
    let output = child.stdout.as_mut().unwrap();
    let mut byte = [0];
    while output.read(&mut byte).unwrap() == 1 && byte != *b"\n" {
        line.push(char::from(byte[0]));
    }
    line
}

impl Drop for Machine {
    fn drop(&mut self) {
        for child in [&mut self.internet, &mut self.holder] {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }
}

/// Fetches a page of the simulated internet; the exit status is 0 if the page arrived.
pub(crate) fn fetch(host: &str) -> String {
    format!(
        "perl -MIO::Socket::INET -e '$s = IO::Socket::INET->new(PeerAddr => $ARGV[0], \
         PeerPort => 80, Timeout => 5) or die $@; print $s \"GET / HTTP/1.0\\r\\n\\r\\n\"; \
         print <$s>' {host}"
    )
}
