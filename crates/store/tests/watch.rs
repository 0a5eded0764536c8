// SPDX-License-Identifier: Apache-2.0
//! Changes of rule files are noticed.

#![expect(clippy::unwrap_used, reason = "tests")]

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::Duration;

use terok_clearance::Action;
use terok_clearance_store::{RuleFileWatch, RuleStore};

/// Creates a directory for this user alone, whatever the umask of the test is.
fn private_directory() -> tempfile::TempDir {
    let mode = fs::Permissions::from_mode(0o700);
    tempfile::Builder::new()
        .permissions(mode)
        .tempdir()
        .unwrap()
}

async fn is_changed(watch: &mut RuleFileWatch) -> bool {
    let limit = Duration::from_secs(5);
    tokio::time::timeout(limit, watch.changed())
        .await
        .is_ok_and(|changed| changed.is_ok())
}

/// Returns `true` if nothing is reported, even after a while.
async fn is_quiet(watch: &mut RuleFileWatch) -> bool {
    let while_ = Duration::from_millis(100);
    tokio::time::timeout(while_, watch.changed()).await.is_err()
}

/// Takes what is reported until nothing more comes.
async fn settle(watch: &mut RuleFileWatch) {
    while !is_quiet(watch).await {}
}

fn add(config: &Path, name: &str) {
    let store = RuleStore::open(config).unwrap();
    let dest = name.parse().unwrap();
    store
        .edit_always(|file| file.add(Action::Deny, &dest, None))
        .unwrap();
}

#[tokio::test]
async fn a_directory_may_appear_later() {
    let temporary = private_directory();
    let config = temporary.path().join("a/config");
    let mut watch = RuleFileWatch::new(&config).unwrap();
    assert!(is_quiet(&mut watch).await);
    fs::create_dir(temporary.path().join("other")).unwrap();
    assert!(is_quiet(&mut watch).await);
    add(&config, "a.example");
    assert!(is_changed(&mut watch).await);
    settle(&mut watch).await;
    add(&config, "b.example");
    assert!(is_changed(&mut watch).await);
}

#[tokio::test]
async fn replaced_files_and_directories_are_noticed() {
    let temporary = private_directory();
    let config = temporary.path();
    add(config, "a.example");
    fs::create_dir_all(config.join("profiles")).unwrap();
    let mut watch = RuleFileWatch::new(config).unwrap();
    for round in 0..3 {
        add(config, &format!("b{round}.example"));
        assert!(is_changed(&mut watch).await, "{round}");
        settle(&mut watch).await;
    }
    fs::write(config.join("profiles/mine.rules"), "a.example\n").unwrap();
    assert!(is_changed(&mut watch).await);
    settle(&mut watch).await;
    fs::rename(config.join("profiles"), config.join("away")).unwrap();
    assert!(is_changed(&mut watch).await);
    settle(&mut watch).await;
    fs::create_dir(config.join("profiles")).unwrap();
    assert!(is_changed(&mut watch).await);
    settle(&mut watch).await;
    fs::write(config.join("profiles/mine.rules"), "b.example\n").unwrap();
    assert!(is_changed(&mut watch).await);
    settle(&mut watch).await;
    fs::remove_file(config.join("profiles/mine.rules")).unwrap();
    assert!(is_changed(&mut watch).await);
}

#[tokio::test]
async fn other_files_are_not_reported() {
    let temporary = private_directory();
    let config = temporary.path();
    add(config, "a.example");
    let mut watch = RuleFileWatch::new(config).unwrap();
    // The lock is taken, and nothing is written.
    add(config, "a.example");
    fs::write(config.join("rules/notes"), "x").unwrap();
    fs::write(config.join("rules/.always.rules.swp"), "x").unwrap();
    assert!(is_quiet(&mut watch).await);
}
