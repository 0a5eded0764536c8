// SPDX-License-Identifier: Apache-2.0
//! Standard streams of `run`: bytes pass, and nothing else that the files behind them can do.

use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream, UdpSocket};
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::process::{Command, Stdio};

use super::user::{User, as_everybody, told};

/// A program that takes a new peer for the standard stream `$1` and sends something there: to the
/// port `$2` of this machine.
const RECONNECT: &str = "import ctypes, socket, struct, sys\n\
    fd, port = int(sys.argv[1]), int(sys.argv[2])\n\
    libc = ctypes.CDLL(None, use_errno=True)\n\
    address = struct.pack('!2sH4s8x', struct.pack('H', 2), port, socket.inet_aton('127.0.0.1'))\n\
    libc.connect(fd, struct.pack('H14x', 0), 16)\n\
    sys.exit(0 if libc.connect(fd, address, 16) == 0 else 1)";

fn tcp_pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    (client, listener.accept().unwrap().0)
}

fn reconnect(user: &User, fd: &str, port: u16, inside: bool) -> Command {
    let mut command = if inside {
        user.run(&["--network", "none", "--", "python3"])
    } else {
        user.command("python3")
    };
    command.args(["-c", RECONNECT, fd, &port.to_string()]);
    command
}

#[test]
fn a_socket_leads_to_no_other_peer() {
    as_everybody(|user| {
        let elsewhere = TcpListener::bind("127.0.0.1:0").unwrap();
        elsewhere.set_nonblocking(true).unwrap();
        let port = elsewhere.local_addr().unwrap().port();
        for inside in [true, false] {
            for fd in ["0", "1", "2"] {
                let (ours, _theirs) = tcp_pair();
                let mut command = reconnect(user, fd, port, inside);
                let stream = Stdio::from(OwnedFd::from(ours));
                match fd {
                    "0" => command.stdin(stream),
                    "1" => command.stdout(stream),
                    _ => command.stderr(stream),
                };
                let output = command.output().unwrap();
                assert_eq!(!output.status.success(), inside, "{fd}: {}", told(&output));
                assert_eq!(elsewhere.accept().is_err(), inside, "{fd}");
            }
        }
    });
}

#[test]
fn what_is_no_stream_of_bytes_is_refused() {
    as_everybody(|user| {
        let (datagrams, _peer) = UnixDatagram::pair().unwrap();
        let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
        udp.connect(udp.local_addr().unwrap()).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let open = |path: &str| OwnedFd::from(File::open(path).unwrap());
        let mut files = vec![
            (OwnedFd::from(datagrams), "a socket"),
            (udp.into(), "a socket"),
            (listener.into(), "a socket"),
            (open("/"), "a directory"),
            (open("/proc/self/ns/net"), "a file of the kernel"),
            (open("/proc/self/status"), "a file of the kernel"),
        ];
        if let Ok(tun) = File::open("/dev/net/tun") {
            files.push((tun.into(), "a device"));
        }
        for (file, expected) in files {
            let run = |number: usize| {
                let mut run = user.run(&["--network", "none", "--", "true"]);
                run.stdout(Stdio::null()).stderr(Stdio::piped());
                let file = Stdio::from(file.try_clone().unwrap());
                match number {
                    0 => run.stdin(file),
                    _ => run.stdout(file),
                };
                run.output().unwrap()
            };
            for (number, name) in [(0, "standard input"), (1, "standard output")] {
                let output = run(number);
                let said = told(&output);
                assert_eq!(output.status.code(), Some(125), "{said}");
                assert!(
                    said.contains(&format!("{name} of the command is {expected}")),
                    "{said}"
                );
            }
        }
    });
}

#[test]
fn bytes_pass_through_sockets_in_both_directions() {
    as_everybody(|user| {
        // As Node does it: one socket pair for each stream.
        let pairs = [0; 3].map(|_| UnixStream::pair().unwrap());
        let [
            (mut input, theirs_in),
            (mut output, theirs_out),
            (mut error, theirs_error),
        ] = pairs;
        let script = "cat; echo done >&2; exit 7";
        let mut child = user
            .run(&["-q", "--network", "none", "--", "sh", "-c", script])
            .stdin(OwnedFd::from(theirs_in))
            .stdout(OwnedFd::from(theirs_out))
            .stderr(OwnedFd::from(theirs_error))
            .spawn()
            .unwrap();
        let sent: Vec<u8> = (0..3_000_000_u32)
            .map(|number| number.to_le_bytes()[1])
            .collect();
        let received = std::thread::scope(|scope| {
            let bytes = &sent;
            scope.spawn(move || {
                input.write_all(bytes).unwrap();
                input.shutdown(Shutdown::Write).unwrap();
            });
            let mut received = Vec::new();
            output.read_to_end(&mut received).unwrap();
            received
        });
        let mut said = String::new();
        error.read_to_string(&mut said).unwrap();
        assert_eq!(child.wait().unwrap().code(), Some(7));
        assert!(received == sent, "{} bytes", received.len());
        assert_eq!(said, "done\n");
    });
}

#[test]
fn one_socket_as_input_and_output_is_a_conversation() {
    // As inetd does it.
    as_everybody(|user| {
        let (theirs, mut ours) = tcp_pair();
        let child = user
            .run(&["-q", "--network", "none", "--"])
            .args([
                "sh",
                "-c",
                "while read -r line; do echo \"got $line\"; done",
            ])
            .stdin(OwnedFd::from(theirs.try_clone().unwrap()))
            .stdout(OwnedFd::from(theirs))
            .spawn();
        let mut child = child.unwrap();
        for word in ["one", "two"] {
            ours.write_all(format!("{word}\n").as_bytes()).unwrap();
            let mut answer = vec![0; "got \n".len() + word.len()];
            ours.read_exact(&mut answer).unwrap();
            assert_eq!(answer, format!("got {word}\n").as_bytes());
        }
        ours.shutdown(Shutdown::Write).unwrap();
        assert!(child.wait().unwrap().success());
        let mut rest = Vec::new();
        ours.read_to_end(&mut rest).unwrap();
        assert_eq!(rest, b"");
    });
}

#[test]
fn a_reader_that_goes_away_ends_the_writer() {
    as_everybody(|user| {
        let (theirs, ours) = tcp_pair();
        drop(ours);
        let output = user
            .run(&[
                "-q",
                "--network",
                "none",
                "--",
                "sh",
                "-c",
                "yes; echo $? >ended",
            ])
            .stdout(OwnedFd::from(theirs))
            .output()
            .unwrap();
        assert!(output.status.code().is_some(), "{}", told(&output));
        let ended = fs::read_to_string(user.path("work/ended")).unwrap();
        assert_ne!(ended.trim(), "0");
    });
}
