// SPDX-License-Identifier: Apache-2.0
//! A machine whose simulated internet records what reaches it, and sandboxes on the machine.

use std::cell::RefCell;
use std::fs::File;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use serde_json::Value;

use super::machine::{Machine, line};
use super::operator::Operator;
use super::user::{ROOT_WAYS, Shell, User};

/// The resolvers of the simulated internet: the second one knows another address of `plain.test`.
pub(crate) const RESOLVER: &str = "198.51.100.53";
pub(crate) const OTHER_RESOLVER: &str = "198.51.100.54";
pub(crate) const RESOLVER_V6: &str = "2001:db8:0:53::53";

/// Servers and programs of the tests.
const SERVERS: &str = include_str!("internet.py");
const WORKLOAD: &str = include_str!("workload.py");

/// A machine, its user, and the servers of its internet.
pub(crate) struct Lab<'a> {
    pub(crate) machine: Machine,
    pub(crate) user: &'a User,
    servers: RefCell<Child>,
    sandboxes: RefCell<usize>,
}

impl<'a> Lab<'a> {
    /// Sets up a lab whose machine asks the first resolver.
    pub(crate) fn new(user: &'a User) -> Self {
        Self::asking(user, RESOLVER)
    }

    /// Sets up a lab whose machine asks this resolver.
    pub(crate) fn asking(user: &'a User, resolver: &str) -> Self {
        let machine = Machine::asking(user, resolver);
        user.add_file("work/w.py", WORKLOAD);
        user.add_file("internet.py", SERVERS);
        let script = user.path("internet.py");
        let mut servers = machine.internet_command(&["python3", script.to_str().unwrap()]);
        let mut servers = servers
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        assert_eq!(line(&mut servers), "ready");
        Self {
            machine,
            user,
            servers: RefCell::new(servers),
            sandboxes: RefCell::new(0),
        }
    }

    /// Starts a shell in a sandbox with these options of `run`.
    pub(crate) fn sandbox(&self, options: &[&str]) -> Sandbox {
        self.sandbox_of(self.run_command(options, &["sh"]))
    }

    /// Starts a shell in a sandbox by this command, which runs `sh`.
    pub(crate) fn sandbox_of(&self, mut command: Command) -> Sandbox {
        *self.sandboxes.borrow_mut() += 1;
        let number = *self.sandboxes.borrow();
        let messages = self.user.path(&format!("messages-{number}"));
        command.stderr(File::create(&messages).unwrap());
        Sandbox {
            shell: Shell::start(command),
            messages,
        }
    }

    /// Returns the command `terok-clearance run OPTIONS… -- COMMAND…` on the machine.
    pub(crate) fn run_command(&self, options: &[&str], command: &[&str]) -> Command {
        let args = [&["run", "--ui", "none"], options, &["--"], command].concat();
        self.machine.program(self.user, &args)
    }

    /// Returns the ways to run a script in a sandbox on the machine: [`User::ways`].
    pub(crate) fn ways(&self) -> &'static [&'static str] {
        // Without root the machine is a user namespace, where the user has the id 0.
        if rustix::process::geteuid().is_root() {
            self.user.ways()
        } else {
            &ROOT_WAYS
        }
    }

    /// Starts an operator who answers from a second terminal.
    pub(crate) fn operator(&self) -> Operator {
        Operator::start(self.machine.program(self.user, &["--json", "clearance"]))
    }

    /// Returns what has reached the servers and the link until now; `internet.py` has the forms.
    pub(crate) fn events(&self) -> Vec<Value> {
        let mut servers = self.servers.borrow_mut();
        writeln!(servers.stdin.as_mut().unwrap(), "events").unwrap();
        serde_json::from_str(&line(&mut servers)).unwrap()
    }

    /// Returns the events of one kind, each without its kind.
    pub(crate) fn events_of(&self, kind: &str) -> Vec<Vec<Value>> {
        let events = self.events().into_iter();
        let fields = events.map(|event| event.as_array().unwrap().clone());
        fields
            .filter(|fields| fields[0] == kind)
            .map(|fields| fields[1..].to_vec())
            .collect()
    }

    /// Returns the names that a resolver outside was asked for, without duplicates.
    pub(crate) fn names_asked(&self) -> Vec<String> {
        let lookups = self.events_of("dns");
        let names = lookups.iter().map(|fields| fields[1].as_str().unwrap());
        let mut names: Vec<_> = names.map(str::to_owned).collect();
        names.sort();
        names.dedup();
        names
    }

    /// Returns the destinations of the packets that left the machine, as `PROTOCOL ADDRESS PORT`,
    /// without lookups and duplicates.
    pub(crate) fn packets_sent(&self) -> Vec<String> {
        let packets = self.events_of("packet");
        let shown = packets.iter().map(|fields| {
            let [protocol, _source, destination, port, options] = fields.as_slice() else {
                panic!("{fields:?}")
            };
            assert_eq!(*options, false, "{fields:?}");
            format!("{protocol} {} {port}", destination.as_str().unwrap())
        });
        let mut shown: Vec<_> = shown.filter(|packet| !packet.ends_with(" 53")).collect();
        shown.sort();
        shown.dedup();
        shown
    }

    /// Writes the machine's `/etc/resolv.conf` anew.
    pub(crate) fn write_resolv_conf(&self, text: &str) {
        std::fs::write(self.user.path("resolv.conf"), text).unwrap();
    }

    /// Writes the machine's `/etc/hosts` anew.
    pub(crate) fn write_hosts(&self, text: &str) {
        std::fs::write(self.user.path("hosts"), text).unwrap();
    }

    /// Starts a server on the machine itself that greets each client with `reached`.
    pub(crate) fn serve_on_machine(&self, address: &str, port: u16) -> MachineServer {
        let script = format!(
            "import socket\n\
             server = socket.create_server((\"{address}\", {port}), \
             family=socket.AF_INET6 if \":\" in \"{address}\" else socket.AF_INET)\n\
             print(\"up\", flush=True)\n\
             while True:\n    client, _ = server.accept()\n    \
             client.sendall(b\"reached\\n\")\n    client.close()\n"
        );
        let mut server = self.machine.root(self.user, &["python3", "-c", &script]);
        let mut server = server.stdout(Stdio::piped()).spawn().unwrap();
        assert_eq!(line(&mut server), "up");
        MachineServer(server)
    }
}

impl Drop for Lab<'_> {
    fn drop(&mut self) {
        let mut servers = self.servers.borrow_mut();
        servers.kill().unwrap();
        servers.wait().unwrap();
    }
}

/// A server on the machine.
pub(crate) struct MachineServer(Child);

impl Drop for MachineServer {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

/// A shell in a sandbox.
pub(crate) struct Sandbox {
    pub(crate) shell: Shell,
    messages: PathBuf,
}

impl Sandbox {
    /// Does something of `workload.py`; returns the output.
    pub(crate) fn does(&mut self, deed: &str) -> String {
        self.begins(deed);
        self.ends()
    }

    /// Begins something of `workload.py`.
    pub(crate) fn begins(&mut self, deed: &str) {
        self.shell.begins(&format!("python3 w.py {deed}"));
    }

    /// Waits for the end of what was begun; returns the output.
    pub(crate) fn ends(&mut self) -> String {
        self.shell.ends().1
    }

    /// Ends the shell, and returns the messages of `run`.
    pub(crate) fn finish(self) -> String {
        let Self {
            mut shell,
            messages,
        } = self;
        shell.close();
        std::fs::read_to_string(messages).unwrap()
    }
}

/// The greeting of a host of the simulated internet.
pub(crate) fn hello(address: &str) -> String {
    format!("hello from {address}")
}
