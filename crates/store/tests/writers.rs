// SPDX-License-Identifier: Apache-2.0
//! Writers that are killed, that meet, and that find the disk full.

#![expect(clippy::unwrap_used, clippy::panic, reason = "tests")]
#![expect(
    clippy::disallowed_methods,
    reason = "the test programs get their arguments so"
)]

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use terok_clearance::{Action, DestPattern};
use terok_clearance_store::{FileProblem, RuleStore, RuleStoreError};

const DIRECTORY: &str = "STORE_TEST_DIRECTORY";
const PREFIX: &str = "STORE_TEST_PREFIX";

/// Creates a directory for this user alone, whatever the umask of the test is.
fn private_directory() -> tempfile::TempDir {
    let mode = fs::Permissions::from_mode(0o700);
    tempfile::Builder::new()
        .permissions(mode)
        .tempdir()
        .unwrap()
}

fn dest(text: &str) -> DestPattern {
    text.parse().unwrap()
}

/// Starts a test of this file as a program of its own.
fn start(program: &mut Command, test: &str, directory: &Path, prefix: &str) -> Child {
    program
        .args([test, "--exact", "--ignored", "--nocapture"])
        .env(DIRECTORY, directory)
        .env(PREFIX, prefix)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap()
}

fn this_program() -> Command {
    Command::new(std::env::current_exe().unwrap())
}

fn store() -> (RuleStore, String) {
    let directory = PathBuf::from(std::env::var_os(DIRECTORY).unwrap());
    (
        RuleStore::open(&directory).unwrap(),
        std::env::var(PREFIX).unwrap(),
    )
}

/// Replaces the pair of the edit before by the pair of this one.
fn write_pair(store: &RuleStore, number: u32) {
    let pair = |number: u32| {
        (
            dest(&format!("n{number}.example")),
            dest(&format!("d{number}.example")),
        )
    };
    let edited = store.edit_always(|file| {
        let last = number.wrapping_sub(1);
        file.remove(Action::Allow, &pair(last).0)?;
        file.remove(Action::Deny, &pair(last).1)?;
        file.add(Action::Allow, &pair(number).0, Some("allowed"))?;
        file.add(Action::Deny, &pair(number).1, Some("denied"))
    });
    edited.unwrap();
}

/// Returns the number of the pair in the file, which must be whole.
fn read_pair(store: &RuleStore) -> Option<u32> {
    let file = store.load_always().unwrap();
    let rules: Vec<_> = file.rules().filter(|rule| rule.line > 201).collect();
    if rules.is_empty() {
        return None;
    }
    let [allow, deny] = rules.as_slice() else {
        panic!("{rules:?}");
    };
    assert_eq!((allow.action, deny.action), (Action::Allow, Action::Deny));
    let number = |text: String, mark| -> u32 {
        let digits = text
            .strip_prefix(mark)
            .unwrap()
            .strip_suffix(".example")
            .unwrap();
        digits.parse().unwrap()
    };
    let allowed = number(allow.pattern.to_string(), 'n');
    assert_eq!(number(deny.pattern.to_string(), 'd'), allowed);
    assert_eq!(file.rule_count(), 202);
    Some(allowed)
}

#[test]
fn a_killed_writer_leaves_the_old_or_the_new_rules() {
    let temporary = private_directory();
    let store = RuleStore::open(temporary.path()).unwrap();
    // So many lines that a torn file would be seen.
    let denied = (0..200).map(|number| format!("!always-denied-{number}.example  # kept\n"));
    let text = String::from("# Answers\n") + &denied.collect::<String>();
    // The first edit makes the file and its directory private.
    write_pair(&store, 0);
    fs::write(store.always_path(), text).unwrap();
    let (mut last, mut found) = (None, 0);
    for round in 0_u32..24 {
        let mut writer = start(
            &mut this_program(),
            "program_writes_pairs",
            temporary.path(),
            "",
        );
        let mut lines = BufReader::new(writer.stdout.take().unwrap()).lines();
        // The time of an edit is divided into many moments.
        let mut edits = 0;
        while edits <= round % 4 {
            let line = lines.next().unwrap().unwrap();
            edits += u32::from(line.contains("edit"));
        }
        for _ in 0..(round % 15) * 20_000 {
            std::hint::spin_loop();
        }
        writer.kill().unwrap();
        writer.wait().unwrap();
        let now = read_pair(&store);
        assert!(now >= last, "{now:?} after {last:?}");
        found += u32::from(now > last);
        last = now;
    }
    assert!(found > 5, "{found}");
    // The lock of a killed writer is free, and what it left is no obstacle.
    write_pair(&store, last.unwrap() + 1);
    assert_eq!(read_pair(&store), Some(last.unwrap() + 1));
}

#[test]
#[ignore = "the program of another test"]
fn program_writes_pairs() {
    let (store, _) = store();
    let mut number = read_pair(&store).unwrap_or(0);
    loop {
        number += 1;
        println!("edit {number}");
        write_pair(&store, number);
    }
}

#[test]
fn writers_that_meet_lose_nothing() {
    let temporary = private_directory();
    let path = temporary.path().join("config");
    let mut writers: Vec<_> = ["a", "b", "c"]
        .map(|prefix| start(&mut this_program(), "program_adds_rules", &path, prefix))
        .into();
    std::thread::scope(|scope| {
        for prefix in ["x", "y"] {
            let path = &path;
            scope.spawn(move || add_rules(&RuleStore::open(path).unwrap(), prefix));
        }
    });
    for writer in &mut writers {
        assert!(writer.wait().unwrap().success());
    }
    let file = RuleStore::open(&path).unwrap().load_always().unwrap();
    assert_eq!(file.rule_count(), 5 * 40);
    for prefix in ["a", "b", "c", "x", "y"] {
        for number in 0..40 {
            assert!(file.contains(Action::Deny, &dest(&format!("{prefix}{number}.example"))));
        }
    }
}

fn add_rules(store: &RuleStore, prefix: &str) {
    for number in 0..40 {
        let deny = dest(&format!("{prefix}{number}.example"));
        store
            .edit_always(|file| file.add(Action::Deny, &deny, None))
            .unwrap();
    }
}

#[test]
#[ignore = "the program of another test"]
fn program_adds_rules() {
    let (store, prefix) = store();
    add_rules(&store, &prefix);
}

#[test]
fn a_full_disk_changes_nothing() {
    let temporary = private_directory();
    let mut program = Command::new("unshare");
    program.args(["--user", "--map-root-user", "--mount", "sh", "-c"]);
    program.arg(format!(
        "mount -t tmpfs -o size=64k,mode=700 none \"${DIRECTORY}\" && exec \"$0\" \"$@\""
    ));
    program.arg(std::env::current_exe().unwrap());
    let child = start(&mut program, "program_fills_the_disk", temporary.path(), "");
    let output = child.wait_with_output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success() && text.contains("the disk was full"),
        "{text}"
    );
}

#[test]
#[ignore = "the program of another test"]
fn program_fills_the_disk() {
    let (store, _) = store();
    let directory = store.config_dir().to_owned();
    let add = |name: &str| store.edit_always(|file| file.add(Action::Allow, &dest(name), None));
    add("a.example").unwrap();
    let before = fs::read_to_string(store.always_path()).unwrap();
    let filled = fs::write(directory.join("filler"), vec![0; 128 * 1024]);
    assert_eq!(filled.unwrap_err().kind(), std::io::ErrorKind::StorageFull);
    let refused = add("b.example");
    assert!(matches!(
        refused,
        Err(RuleStoreError::File {
            problem: FileProblem::NoSpace(_),
            ..
        })
    ));
    assert_eq!(fs::read_to_string(store.always_path()).unwrap(), before);
    let left = fs::read_dir(directory.join("rules")).unwrap().count();
    assert_eq!(left, 2, "the rules and the lock");
    fs::remove_file(directory.join("filler")).unwrap();
    add("b.example").unwrap();
    println!("the disk was full");
}
