// SPDX-License-Identifier: Apache-2.0
//! The sockets of the services: stale files in their place, and paths that somebody removes.

use std::fs;
use std::io::Write as _;
use std::os::unix::net::UnixStream;
use std::path::Path;

use serde_json::json;
use test_support::packets::pending_line;

use crate::harness::ScriptHarness;

/// Waits until a process listens at the path.
fn wait_for_listener(path: &Path) -> UnixStream {
    loop {
        if let Ok(stream) = UnixStream::connect(path) {
            return stream;
        }
        std::thread::yield_now();
    }
}

fn blocked(reader: &mut UnixStream, id: &str, name: &str) {
    let line = pending_line("0123456789ab", id, "203.0.113.7", name, &json!({}));
    reader.write_all(line.as_bytes()).unwrap();
}

#[test]
fn serve_replaces_stale_files_and_binds_removed_sockets_anew() {
    let harness = ScriptHarness::new();
    let ingester = harness.path("terok-shield-events.sock");
    let hub = harness.path("terok-clearance.sock");
    fs::write(&ingester, "").unwrap();
    fs::write(&hub, "stale").unwrap();
    let _serve = harness.start_shared_hub();
    let mut reader = UnixStream::connect(&ingester).unwrap();
    let mut watch = harness.watch(&[]);
    watch.next("ready");
    // As `terok-sandbox setup` does.
    fs::remove_file(&ingester).unwrap();
    fs::remove_file(&hub).unwrap();
    let mut late = wait_for_listener(&ingester);
    drop(wait_for_listener(&hub));
    // Connections from before are still served, and new ones reach the same hub.
    blocked(&mut reader, "1", "one.example");
    assert_eq!(watch.next("pending")["dest"], "one.example");
    blocked(&mut late, "2", "two.example");
    assert_eq!(watch.next("pending")["dest"], "two.example");
    assert_eq!(harness.run_json(&["list"]).0.len(), 3);
}

#[test]
fn the_verdict_helper_replaces_a_stale_file_and_binds_its_socket_anew() {
    let harness = ScriptHarness::new();
    let socket = harness.path("terok-clearance-verdict.sock");
    fs::write(&socket, "stale").unwrap();
    let _helper = harness.start_verdict_helper("");
    let _hub = harness.start_shared_hub();
    harness.report(&["one.example"]);
    fs::remove_file(&socket).unwrap();
    drop(wait_for_listener(&socket));
    let (lines, _) = harness.run_json(&["list"]);
    let id = lines[0]["id"].as_str().unwrap();
    assert_eq!(harness.run(&["allow", id]).status, 0);
    assert_eq!(harness.orders().len(), 1);
}

#[test]
fn a_file_elsewhere_is_not_replaced_by_a_socket() {
    let harness = ScriptHarness::new();
    let notes = harness.path("notes.txt");
    fs::write(&notes, "precious").unwrap();
    let notes_path = notes.to_str().unwrap();
    for args in [
        ["serve", "--clearance-socket", notes_path],
        ["serve", "--reader-socket", notes_path],
        ["serve-verdict", "--verdict-socket", notes_path],
    ] {
        let output = harness.run(&args);
        assert_eq!(output.status, 1, "{}", output.stderr);
        assert!(
            output.stderr.contains("is not a socket"),
            "{}",
            output.stderr
        );
    }
    assert_eq!(fs::read_to_string(&notes).unwrap(), "precious");
}

#[test]
fn serve_verdict_without_a_shield_names_the_option() {
    let harness = ScriptHarness::new();
    let _helper = harness.start(&["serve-verdict"], "name it with `--shield PATH`");
}

#[test]
fn without_arguments_and_a_terminal_the_help_is_printed() {
    let harness = ScriptHarness::new();
    let output = harness.run(&[]);
    assert_eq!((output.status, output.stdout.as_str()), (2, ""));
    assert!(
        output.stderr.contains("Usage: terok-clearance"),
        "{}",
        output.stderr
    );
}
