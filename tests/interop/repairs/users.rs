// SPDX-License-Identifier: Apache-2.0
//! Every socket of ours asks the kernel who is at the other end, and turns another user away before
//! it reads a byte; their clearance and verdict sockets let anybody in whom the modes do not stop.
//!
//! Another user's process cannot be had in a user namespace with one user in it: `./check interop`
//! runs these tests by themselves, without one.

use std::io::{Read as _, Write as _};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use serde_json::Value;
use tokio::process::Command;

use super::{STACK, classic};
use crate::harness::{Place, Running, Shield};

const CALL: &[u8] = b"{\"method\":\"org.varlink.service.GetInfo\"}\0";

/// Run as another user by the tests below: says what becomes of a connection.
#[test]
fn child_connects() {
    #[expect(clippy::disallowed_methods, reason = "the tests below say so")]
    let (path, call) = (std::env::var_os("SOCKET_AT"), std::env::var_os("CALLS"));
    let Some(path) = path else {
        return;
    };
    let mut stream = UnixStream::connect(path).unwrap();
    if call.is_some() {
        // It fails where the connection has ended already.
        drop(stream.write_all(CALL));
    }
    let read = stream.read(&mut [0; 8]).unwrap_or(0);
    println!("came: {read} bytes.");
}

/// Returns the command that runs `program` as another user.
fn as_another_user(place: &Place, program: &Path) -> Command {
    let mut command = if rustix::process::geteuid().is_root() {
        let mut command = place.command("setpriv");
        command.args(["--reuid", "65534", "--regid", "65534", "--clear-groups"]);
        command
    } else {
        // The first of the users that the system lends to this one.
        let mut command = place.command("unshare");
        command.args(["--user", "--map-root-user", "--map-auto"]);
        command.args(["--setuid", "1", "--setgid", "1"]);
        command
    };
    command.arg(program);
    command
}

fn open(path: &Path, mode: u32) {
    std::fs::set_permissions(path, PermissionsExt::from_mode(mode)).unwrap();
}

/// Opens the way to a socket for everybody, so that only the check at its end is left, and returns
/// how many bytes come to another user's process there; first it makes a call, if `calls`.
async fn comes(place: &Place, socket: &Path, calls: bool) -> String {
    let program = place.path().join("program");
    if !program.exists() {
        std::fs::copy(std::env::current_exe().unwrap(), &program).unwrap();
        open(&program, 0o755);
    }
    open(socket, 0o666);
    for directory in socket.ancestors().skip(1) {
        open(directory, 0o755);
        if directory == place.path() {
            break;
        }
    }
    let mut command = as_another_user(place, &program);
    command
        .args(["--exact", "repairs::users::child_connects", "--nocapture"])
        .env("SOCKET_AT", socket);
    if calls {
        command.env("CALLS", "1");
    }
    let mut child = Running::start(&mut command);
    let said = child.until("bytes.").await;
    let (_, came) = said.rsplit_once("came: ").unwrap();
    came.to_owned()
}

/// To be turned away is to get an end without having said anything.
async fn turned_away(place: &Place, socket: &Path) {
    assert_eq!(
        comes(place, socket, false).await,
        "0 bytes.",
        "{}",
        socket.display()
    );
    assert_eq!(
        comes(place, socket, true).await,
        "0 bytes.",
        "{}",
        socket.display()
    );
}

#[tokio::test]
async fn theirs_serve_another_user() {
    let place = Place::new();
    let _hub = place.their_hub(STACK).await;
    let verdict = place.runtime().shared_hub_sockets().verdict;
    let mut helper = place.theirs(STACK, "terok-clearance-hub", &["serve-verdict"]);
    let _helper = place
        .serve(&mut helper, std::slice::from_ref(&verdict))
        .await;
    let (hub, ingester) = classic(&place);
    assert_eq!(comes(&place, &hub, true).await, "8 bytes.");
    assert_eq!(comes(&place, &verdict, true).await, "8 bytes.");
    // Their ingester asks who it is.
    turned_away(&place, &ingester).await;
}

#[tokio::test]
async fn every_socket_of_ours_turns_another_user_away() {
    let place = Place::new();
    let _hub = place.our_hub(&[]).await;
    let shield = Shield::within(&place.path().join("bin"));
    let _helper = place.our_helper(&shield).await;
    let (hub, ingester) = classic(&place);
    let mut sockets: Vec<PathBuf> = vec![hub, ingester];
    sockets.push(place.runtime().shared_hub_sockets().verdict);
    let mut sandbox = place.command("unshare");
    sandbox.args([
        "--user",
        "--map-root-user",
        "--net",
        "sh",
        "-c",
        "echo ready; exec cat",
    ]);
    let mut sandbox = Running::start(&mut sandbox);
    sandbox.until("ready").await;
    let mut guard = Running::start(&mut place.supervise(&sandbox, &["--json"]));
    let ready: Value = guard.json().await;
    for key in ["hub", "ingester"] {
        sockets.push(ready[key].as_str().expect("a path").into());
    }
    assert_eq!(sockets.len(), 5);
    for socket in &sockets {
        turned_away(&place, socket).await;
    }
}
