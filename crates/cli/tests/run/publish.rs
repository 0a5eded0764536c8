// SPDX-License-Identifier: Apache-2.0
//! `run --publish`, `--env-file` and `--check-sni`.

use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::process::{ChildStderr, Stdio};
use std::time::Duration;

use super::machine::{Machine, fetch};
use super::user::{Shell, User, as_everybody, told};

/// A shell in a sandbox with published ports.
struct PublishedShell {
    shell: Shell,
    _stderr: BufReader<ChildStderr>,
    addresses: Vec<SocketAddr>,
}

impl PublishedShell {
    /// Starts the shell with `args`, and reads where the port is published.
    fn start(user: &User, args: &[&str]) -> Self {
        let mut command = user.run(&["--json", "--quiet", "--ui", "none"]);
        command.args(args).args(["--", "sh"]).stderr(Stdio::piped());
        let mut shell = Shell::start(command);
        let mut stderr = BufReader::new(shell.child.stderr.take().unwrap());
        let mut line = String::new();
        stderr.read_line(&mut line).unwrap();
        let said: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!(said["step"], "published", "{line}");
        let addresses = said["addresses"].as_array().unwrap().iter();
        let addresses = addresses.map(|address| address.as_str().unwrap().parse().unwrap());
        Self {
            shell,
            addresses: addresses.collect(),
            _stderr: stderr,
        }
    }

    /// Starts a server in the sandbox that answers each line with its own address and the line.
    fn serve(&mut self, address: &str, protocol: &str) {
        let (more, answer) = match protocol {
            "tcp" => (
                "Listen => 5",
                "while ($c = $s->accept) { $l = <$c>; print $c \"$ARGV[0] $l\"; close $c }",
            ),
            _ => (
                "Proto => \"udp\"",
                "while (defined $s->recv($l, 999)) { $s->send(\"$ARGV[0] $l\") }",
            ),
        };
        // Returns once the server listens.
        let server = format!(
            "perl -MIO::Socket::IP -e '$s = IO::Socket::IP->new(LocalHost => $ARGV[0], \
             LocalPort => 4711, V6Only => 1, ReuseAddr => 1, {more}) or die $@; exit if fork; \
             close STDOUT; close STDERR; {answer}' {address}"
        );
        let (status, said) = self.shell.does(&server);
        assert_eq!(status, 0, "{said}");
    }

    fn stop_servers(&mut self) {
        // A server that is about to end still accepts.
        let stop = "p=$(ps -o pid= -C perl); kill $p; while kill -0 $p 2>/dev/null; do :; done";
        let (_, said) = self.shell.does(stop);
        assert_eq!(said, "");
    }
}

fn ask(address: SocketAddr) -> io::Result<String> {
    let mut client = TcpStream::connect(address)?;
    client.set_read_timeout(Some(Duration::from_secs(10)))?;
    client.write_all(b"hello\n")?;
    let mut said = String::new();
    client.read_to_string(&mut said)?;
    Ok(said)
}

#[test]
fn a_server_inside_is_reached_whichever_address_it_listens_at() {
    as_everybody(|user| {
        for network in ["dialed", "none"] {
            let args = ["--network", network, "--publish", ":4711"];
            let mut inside = PublishedShell::start(user, &args);
            assert_eq!(inside.addresses.len(), 2);
            let mut servers = vec!["127.0.0.1", "::1", "0.0.0.0", "::"];
            if network == "dialed" {
                servers.extend(["198.19.0.2", "fdc1:ea2c:19::2"]);
            }
            for server in servers {
                for address in inside.addresses.clone() {
                    // Nothing listens: the end is a reset, at once.
                    let error = ask(address).unwrap_err();
                    let kind = error.kind();
                    assert_eq!(kind, io::ErrorKind::ConnectionReset, "{network} {server}");
                }
                inside.serve(server, "tcp");
                for address in inside.addresses.clone() {
                    let said = ask(address).unwrap();
                    assert_eq!(said, format!("{server} hello\n"), "{network}");
                }
                inside.stop_servers();
            }
            let address = inside.addresses[0];
            drop(inside);
            let error = ask(address).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
        }
    });
}

#[test]
fn datagrams_reach_a_server_inside() {
    as_everybody(|user| {
        for server in ["127.0.0.1", "::1", "198.19.0.2"] {
            let mut inside = PublishedShell::start(user, &["--publish", "127.0.0.1::4711/udp"]);
            inside.serve(server, "udp");
            let client = UdpSocket::bind("127.0.0.1:0").unwrap();
            client
                .set_read_timeout(Some(Duration::from_secs(10)))
                .unwrap();
            client.connect(inside.addresses[0]).unwrap();
            for _ in 0..2 {
                client.send(b"hello").unwrap();
                let mut buffer = [0; 100];
                let length = client.recv(&mut buffer).unwrap();
                let said = String::from_utf8_lossy(&buffer[..length]);
                assert_eq!(said, format!("{server} hello"));
            }
        }
    });
}

#[test]
fn a_published_port_opens_nothing_for_the_command() {
    as_everybody(|user| {
        let outside = TcpListener::bind("127.0.0.1:0").unwrap();
        outside.set_nonblocking(true).unwrap();
        let port = outside.local_addr().unwrap().port();
        let mut inside = PublishedShell::start(user, &["--network", "none", "-p", ":4711"]);
        for port in [port, inside.addresses[0].port()] {
            for address in ["127.0.0.1", "::1", "198.19.0.1"] {
                let connect = format!(
                    "perl -MIO::Socket::IP -e 'IO::Socket::IP->new(PeerHost => \"{address}\", \
                     PeerPort => {port}, Timeout => 2) or die'"
                );
                assert_ne!(inside.shell.does(&connect).0, 0, "{address} {port}");
            }
        }
        let accepted = outside.accept().unwrap_err();
        assert_eq!(accepted.kind(), io::ErrorKind::WouldBlock);
    });
}

#[test]
fn a_port_that_cannot_be_published_is_an_error_before_the_start() {
    as_everybody(|user| {
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let taken = taken.local_addr().unwrap();
        let fails = |spec: &str, status: i32, words: &[&str]| {
            let args = ["--network", "none", "--publish", spec, "touch", "started"];
            let output = user.run(&args).output().unwrap();
            let said = told(&output);
            assert_eq!(output.status.code(), Some(status), "{said}");
            for word in words {
                assert!(said.contains(word), "{word} in {said}");
            }
            assert!(!user.path("work/started").exists());
        };
        let in_use = [&*format!("cannot listen at {taken}"), "--publish :PORT"];
        fails(&format!("{}:80", taken.port()), 125, &in_use);
        fails(
            "192.0.2.77:8080:80",
            125,
            &["192.0.2.77:8080", "ip address"],
        );
        if !user.is_root() {
            fails("80:80", 125, &["127.0.0.1:80", "below 1024"]);
        }
        fails("localhost:8080:80", 2, &["no IP address", "127.0.0.1"]);
    });
}

#[test]
fn the_start_says_what_is_published() {
    as_everybody(|user| {
        let args = [
            "--network",
            "none",
            "-p",
            "127.0.0.1::80",
            "-p",
            ":53/udp",
            "true",
        ];
        let output = user.run(&args).output().unwrap();
        let said = told(&output);
        assert!(
            said.contains("terok-clearance: published 127.0.0.1:"),
            "{said}"
        );
        assert!(said.contains(" to port 80 of the sandbox\n"), "{said}");
        assert!(said.contains(" to UDP port 53 of the sandbox\n"), "{said}");
    });
}

#[test]
fn variables_of_a_file_are_set_and_withheld_ones_only_if_written() {
    as_everybody(|user| {
        let file = user.path("work/variables");
        let text = "# a comment\nA=from file\nMINE\nMISSING\nSSH_AUTH_SOCK=/written\nno_proxy\n";
        std::fs::write(&file, text).unwrap();
        let mut command = user.run(&["--network", "none", "--env-file", "variables"]);
        command.args(["env"]).envs([
            ("A", "callers"),
            ("MINE", "1"),
            ("SSH_AUTH_SOCK", "/callers"),
            ("no_proxy", "a.example"),
            ("HTTPS_PROXY", "http://p.example:3128"),
        ]);
        let output = command.output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout);
        let lines: Vec<_> = said.lines().collect();
        let expected = [
            "A=from file",
            "MINE=1",
            "SSH_AUTH_SOCK=/written",
            "no_proxy=a.example",
        ];
        for line in expected {
            assert!(lines.contains(&line), "{line} in {}", told(&output));
        }
        for absent in ["HTTPS_PROXY", "MISSING", "A=callers", "/callers"] {
            assert!(!said.contains(absent), "{absent} in {said}");
        }

        std::fs::write(&file, "A=1\nexport B=2\n").unwrap();
        let args = ["--network", "none", "--env-file", "variables", "true"];
        let output = user.run(&args).output().unwrap();
        assert_eq!(output.status.code(), Some(125), "{}", told(&output));
        assert!(told(&output).contains("variables line 2: leave out `export`"));
    });
}

/// Sends a request with a `Host` field to api.example.com.
fn fetch_as(host: &str) -> String {
    let request = format!("GET / HTTP/1.0\\r\\nHost: {host}\\r\\n\\r\\n");
    fetch("api.example.com").replace("GET / HTTP/1.0\\r\\n\\r\\n", &request)
}

#[test]
fn a_connection_that_asks_for_another_name_is_reset() {
    as_everybody(|user| {
        let machine = Machine::new(user);
        let args = "run --ui none --allow api.example.com --allow cdn.example.com";
        let script = [
            format!(
                "{} | grep -q 200 && echo right",
                fetch_as("API.example.com:80")
            ),
            format!(
                "{} | grep -q 200 && echo allowed",
                fetch_as("cdn.example.com")
            ),
            format!(
                "{} | grep -q 200 || echo other",
                fetch_as("evil.example.com")
            ),
            format!("{} | grep -q 200 || echo none", fetch("api.example.com")),
        ];
        let script = script.join("; ");
        let mut args: Vec<_> = args.split(' ').collect();
        args.extend(["--check-sni", "sh", "-c", &script]);
        let output = machine.program(user, &args).output().unwrap();
        let said = told(&output);
        let words = String::from_utf8_lossy(&output.stdout);
        assert_eq!(words, "right\nallowed\nother\nnone\n", "{said}");
        assert!(
            said.contains("--check-sni found evil.example.com"),
            "{said}"
        );
        assert!(
            said.contains("--check-sni found an HTTP request without a host"),
            "{said}"
        );
        // Without the option, the server answers.
        args.retain(|arg| *arg != "--check-sni");
        let output = machine.program(user, &args).output().unwrap();
        assert_eq!(
            String::from_utf8_lossy(&output.stdout),
            "right\nallowed\n",
            "{}",
            told(&output)
        );
    });
}
