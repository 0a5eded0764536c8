// SPDX-License-Identifier: Apache-2.0
//! The recordings that `crates/cli/tests/replay` replays are what the installed releases say.
//!
//! Those of 0.6.6, 0.6.12 and 0.6.14a7 cannot be made here: these releases are on no registry.

use std::path::{Path, PathBuf};

use crate::harness::{Place, Running, Stack};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/interop/recordings")
}

/// Makes a recording with `stack`, and fails at the first line that is not the one in the file.
async fn check(stack: Stack, args: &[&str], file: &str) {
    let place = Place::new();
    let made = place.path().join("made.jsonl");
    let mut command = place.command(stack.program("python"));
    command
        .arg(folder().join("record.py"))
        .args(args)
        .arg(&made);
    let ended = Running::start(&mut command).end().await;
    assert!(ended.status.success(), "{}", ended.errors);
    let read = |path: PathBuf| std::fs::read_to_string(path).unwrap();
    let (made, kept) = (read(made), read(folder().join(file)));
    // 0.8.0 and 0.8.1 say the same but for their names.
    let made = made.replace(r#""version": "0.8.0""#, r#""version": "0.8.1""#);
    for (number, (made, kept)) in made.lines().zip(kept.lines()).enumerate() {
        assert_eq!(made, kept, "line {} of {file}", number + 1);
    }
    assert_eq!(
        made.lines().count(),
        kept.lines().count(),
        "lines of {file}"
    );
}

#[tokio::test]
async fn the_recording_of_0_7_0_is_what_it_says() {
    check(Stack::V0_7_0, &[], "0.7.0.jsonl").await;
}

#[tokio::test]
async fn the_recording_of_0_8_1_is_what_it_says() {
    check(Stack::V0_8_1, &[], "0.8.1.jsonl").await;
}

#[tokio::test]
async fn the_recording_of_0_8_1_is_what_0_8_0_says_too() {
    check(Stack::V0_8_0, &[], "0.8.1.jsonl").await;
}

/// The clients of every installed release take what those of 0.6.14a7 took, and answer alike.
#[tokio::test]
async fn the_newer_clients_talk_with_our_hub_as_recorded() {
    let ours = env!("CARGO_BIN_EXE_terok-clearance");
    for stack in Stack::ALL {
        check(stack, &["--hub", ours], "ours-0.6.14a7.jsonl").await;
    }
}
