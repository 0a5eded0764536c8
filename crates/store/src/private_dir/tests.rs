// SPDX-License-Identifier: Apache-2.0

use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};

use super::*;

/// Creates a directory for this user alone, whatever the umask of the test is.
fn private_directory() -> tempfile::TempDir {
    let mode = Permissions::from_mode(0o700);
    tempfile::Builder::new()
        .permissions(mode)
        .tempdir()
        .unwrap()
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().mode() & 0o777
}

fn problem<T: std::fmt::Debug>(result: Result<T, RuleStoreError>) -> FileProblem {
    match result.unwrap_err() {
        RuleStoreError::File { problem, .. } => problem,
        other => panic!("{other}"),
    }
}

#[test]
fn new_directories_and_files_are_private() {
    let temporary = private_directory();
    let path = temporary.path().join("a/b");
    let directory = PrivateDir::create(&path)
        .unwrap()
        .create_below("c")
        .unwrap();
    let lock = directory.lock().unwrap();
    directory.replace(&lock, "x.rules", "a.example\n").unwrap();
    for created in ["a", "a/b", "a/b/c"] {
        assert_eq!(mode(&temporary.path().join(created)), 0o700, "{created}");
    }
    for created in ["a/b/c/x.rules", "a/b/c/.lock"] {
        assert_eq!(mode(&temporary.path().join(created)), 0o600, "{created}");
    }
    assert_eq!(directory.names().unwrap(), [".", "..", ".lock", "x.rules"]);
}

#[test]
fn a_file_is_replaced_as_a_whole() {
    let temporary = private_directory();
    let directory = PrivateDir::create(temporary.path()).unwrap();
    let file = temporary.path().join("x.rules");
    fs::write(&file, "old\n").unwrap();
    // What a killed process left is no obstacle, and is not followed.
    symlink("x.rules", temporary.path().join(".x.rules.new")).unwrap();
    let mut reader = File::open(&file).unwrap();
    let lock = directory.lock().unwrap();
    directory.replace(&lock, "x.rules", "new\n").unwrap();
    let mut old = String::new();
    reader.read_to_string(&mut old).unwrap();
    assert_eq!(
        (old.as_str(), fs::read_to_string(&file).unwrap().as_str()),
        ("old\n", "new\n")
    );
    // A directory cannot be replaced by a file.
    fs::create_dir(temporary.path().join("y.rules")).unwrap();
    assert!(directory.replace(&lock, "y.rules", "new\n").is_err());
    assert!(!temporary.path().join(".y.rules.new").exists());
}

#[test]
fn a_second_writer_waits_for_a_limited_time() {
    let temporary = private_directory();
    let one = PrivateDir::create(temporary.path()).unwrap();
    let other = PrivateDir::create(temporary.path()).unwrap();
    let lock = one.lock().unwrap();
    let refused = problem(other.lock_within(2));
    assert!(matches!(refused, FileProblem::Locked { seconds: 0 }));
    drop(lock);
    other.lock_within(1).unwrap();
}

#[test]
fn only_private_regular_files_are_read() {
    let temporary = private_directory();
    let path = |name: &str| temporary.path().join(name);
    let directory = PrivateDir::open(temporary.path()).unwrap().unwrap();
    assert_eq!(directory.read("missing").unwrap(), None);
    fs::write(path("file"), "a.example\n").unwrap();
    fs::set_permissions(path("file"), Permissions::from_mode(0o600)).unwrap();
    assert_eq!(directory.read("file").unwrap().unwrap(), b"a.example\n");
    symlink("file", path("link")).unwrap();
    symlink("missing", path("dangling")).unwrap();
    for link in ["link", "dangling"] {
        assert!(matches!(
            problem(directory.read(link)),
            FileProblem::SymbolicLink
        ));
    }
    fs::create_dir(path("directory")).unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(path("socket")).unwrap();
    let fifo = Mode::RUSR | Mode::WUSR;
    rustix::fs::mknodat(CWD, path("fifo"), FileType::Fifo, fifo, 0).unwrap();
    for other in ["directory", "socket", "fifo"] {
        assert!(
            matches!(problem(directory.read(other)), FileProblem::NotRegular),
            "{other}"
        );
    }
    for writable in [0o620, 0o602, 0o666] {
        fs::set_permissions(path("file"), Permissions::from_mode(writable)).unwrap();
        let refused = problem(directory.read("file"));
        assert!(
            matches!(refused, FileProblem::OthersWrite { .. }),
            "{writable:o}"
        );
    }
    for readable in [0o600, 0o644, 0o444] {
        fs::set_permissions(path("file"), Permissions::from_mode(readable)).unwrap();
        assert!(directory.read("file").is_ok(), "{readable:o}");
    }
    fs::set_permissions(path("file"), Permissions::from_mode(0o600)).unwrap();
    fs::write(path("file"), vec![b'#'; MAX_RULE_FILE_BYTES * 2]).unwrap();
    let large = directory.read("file").unwrap().unwrap();
    assert_eq!(large.len(), MAX_RULE_FILE_BYTES + 1);
}

#[test]
fn a_directory_that_others_may_change_is_not_used() {
    let temporary = private_directory();
    let path = temporary.path().join("shared");
    fs::create_dir(&path).unwrap();
    fs::set_permissions(&path, Permissions::from_mode(0o770)).unwrap();
    let above = PrivateDir::open(temporary.path()).unwrap().unwrap();
    for refused in [PrivateDir::open(&path), above.open_below("shared")] {
        assert!(matches!(
            problem(refused),
            FileProblem::OthersWrite { mode: 0o770 }
        ));
    }
    let refused = problem(above.create_below("shared"));
    assert!(matches!(refused, FileProblem::OthersWrite { .. }));
    fs::write(temporary.path().join("file"), "").unwrap();
    assert!(matches!(
        problem(above.open_below("file")),
        FileProblem::NotDirectory
    ));
    assert!(above.open_below("missing").unwrap().is_none());
    // A link could lead to where a workload may write.
    fs::set_permissions(&path, Permissions::from_mode(0o700)).unwrap();
    symlink("shared", temporary.path().join("link")).unwrap();
    for refused in [
        above.open_below("link").map(drop),
        above.create_below("link").map(drop),
    ] {
        assert!(matches!(problem(refused), FileProblem::SymbolicLink));
    }
    assert!(
        PrivateDir::open(&temporary.path().join("link"))
            .unwrap()
            .is_some()
    );
}

#[test]
fn what_another_user_owns_is_not_used() {
    let temporary = private_directory();
    if !rustix::process::geteuid().is_root() {
        // Root's directory is the other user's one here.
        let refused = problem(PrivateDir::open(Path::new("/etc")));
        assert!(matches!(refused, FileProblem::OtherOwner { owner: 0 }));
        return;
    }
    let file = temporary.path().join("file");
    fs::write(&file, "a.example\n").unwrap();
    let directory = PrivateDir::open(temporary.path()).unwrap().unwrap();
    std::os::unix::fs::chown(&file, Some(12), None).unwrap();
    let refused = problem(directory.read("file"));
    assert!(matches!(refused, FileProblem::OtherOwner { owner: 12 }));
    std::os::unix::fs::chown(temporary.path(), Some(12), None).unwrap();
    let refused = problem(PrivateDir::open(temporary.path()));
    assert!(matches!(refused, FileProblem::OtherOwner { owner: 12 }));
}
