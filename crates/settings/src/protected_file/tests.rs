// SPDX-License-Identifier: Apache-2.0

use std::error::Error as _;
use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};

use tempfile::TempDir;

use super::*;

fn own_uid() -> u32 {
    rustix::process::geteuid().as_raw()
}

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

/// A root directory with `etc/terok/policy.toml`.
struct Tree(TempDir);

impl Tree {
    fn new() -> Self {
        let tree = Self(tempfile::tempdir().unwrap());
        fs::create_dir_all(tree.at("etc/terok")).unwrap();
        fs::write(tree.at("etc/terok/policy.toml"), "x").unwrap();
        for directory in ["", "etc", "etc/terok"] {
            set_mode(&tree.at(directory), 0o755);
        }
        set_mode(&tree.at("etc/terok/policy.toml"), 0o644);
        tree
    }

    fn at(&self, path: &str) -> PathBuf {
        self.0.path().join(path)
    }

    fn read_as(&self, owner: u32) -> Result<Option<String>, String> {
        let path = Path::new("/etc/terok/policy.toml");
        let read = read_owned_file(self.0.path(), path, owner);
        read.map_err(|error| error.source().unwrap().to_string())
    }

    fn read(&self) -> Result<Option<String>, String> {
        self.read_as(own_uid())
    }
}

#[test]
fn a_file_of_the_owner_alone_is_read() {
    let tree = Tree::new();
    assert_eq!(tree.read(), Ok(Some("x".to_owned())));
    set_mode(&tree.at("etc/terok/policy.toml"), 0o400);
    assert_eq!(tree.read(), Ok(Some("x".to_owned())));
}

#[test]
fn a_missing_file_or_directory_is_none_for_every_owner() {
    let tree = Tree::new();
    fs::remove_file(tree.at("etc/terok/policy.toml")).unwrap();
    assert_eq!(tree.read(), Ok(None));
    assert_eq!(tree.read_as(own_uid() + 1), Ok(None));
    fs::remove_dir(tree.at("etc/terok")).unwrap();
    assert_eq!(tree.read(), Ok(None));
}

#[test]
fn a_file_or_directory_that_others_write_is_refused() {
    for (path, name) in [
        ("", "/"),
        ("etc", "/etc"),
        ("etc/terok", "/etc/terok"),
        ("etc/terok/policy.toml", "/etc/terok/policy.toml"),
    ] {
        for mode in [0o775, 0o757, 0o1777] {
            let tree = Tree::new();
            set_mode(&tree.at(path), mode);
            let expected = format!("{name} is writable by others");
            assert_eq!(tree.read(), Err(expected), "{mode:o}");
        }
    }
}

#[test]
fn a_file_of_another_owner_is_refused() {
    let uid = own_uid();
    let expected = format!("/ is owned by user {uid}, not by user {}", uid + 1);
    assert_eq!(Tree::new().read_as(uid + 1), Err(expected));
}

#[test]
fn links_pipes_and_directories_are_refused() {
    let tree = Tree::new();
    let file = tree.at("etc/terok/policy.toml");
    fs::rename(&file, tree.at("etc/terok/real")).unwrap();
    symlink("real", &file).unwrap();
    let link = "/etc/terok/policy.toml is a symbolic link".to_owned();
    assert_eq!(tree.read(), Err(link));
    fs::remove_file(&file).unwrap();
    fs::create_dir(&file).unwrap();
    let directory = "/etc/terok/policy.toml is not a file".to_owned();
    assert_eq!(tree.read(), Err(directory.clone()));
    fs::remove_dir(&file).unwrap();
    let pipe = (FileType::Fifo, Mode::from_raw_mode(0o644));
    rustix::fs::mknodat(rustix::fs::CWD, &file, pipe.0, pipe.1, 0).unwrap();
    assert_eq!(tree.read(), Err(directory));

    let tree = Tree::new();
    fs::rename(tree.at("etc/terok"), tree.at("etc/real")).unwrap();
    symlink("real", tree.at("etc/terok")).unwrap();
    let link = "/etc/terok is a symbolic link".to_owned();
    assert_eq!(tree.read(), Err(link));
}

#[test]
fn a_dangling_link_is_no_missing_file() {
    let tree = Tree::new();
    let file = tree.at("etc/terok/policy.toml");
    fs::remove_file(&file).unwrap();
    symlink("nothing", &file).unwrap();
    assert!(tree.read().is_err());
    assert!(read_user_file(&file, own_uid()).is_err());
}

#[test]
fn the_users_file_may_be_a_link_to_a_file_of_the_user() {
    let tree = Tree::new();
    let (file, link) = (tree.at("etc/terok/policy.toml"), tree.at("link"));
    symlink(&file, &link).unwrap();
    let read = |uid| {
        let read = read_user_file(&link, uid);
        read.map_err(|error| error.source().unwrap().to_string())
    };
    assert_eq!(read(own_uid()), Ok(Some("x".to_owned())));
    set_mode(&file, 0o664);
    let writable = format!("{} is writable by others", link.display());
    assert_eq!(read(own_uid()), Err(writable));
    set_mode(&file, 0o644);
    fs::remove_file(&link).unwrap();
    assert_eq!(read(own_uid()), Ok(None));
}

#[test]
fn the_users_file_belongs_to_the_user_or_to_root() {
    let tree = Tree::new();
    let file = tree.at("etc/terok/policy.toml");
    let other = own_uid() + 1;
    let read = read_user_file(&file, other);
    // Files of root are not foreign to anyone.
    assert_eq!(read.is_ok(), own_uid() == 0);
    let machine = Path::new("/etc/passwd");
    assert!(read_user_file(machine, other).is_ok());
}

#[test]
fn a_file_is_a_text_of_limited_size() {
    let tree = Tree::new();
    let file = tree.at("etc/terok/policy.toml");
    let kind = |contents: &[u8]| {
        fs::write(&file, contents).unwrap();
        read_user_file(&file, own_uid()).map(|text| text.unwrap().len())
    };
    let limit = usize::try_from(MAX_BYTES).unwrap();
    assert_eq!(kind(&vec![b'#'; limit]).unwrap(), limit);
    let too_large = kind(&vec![b'#'; limit + 1]);
    assert!(matches!(
        too_large,
        Err(ProtectedFileError::TooLarge { .. })
    ));
    assert!(matches!(
        kind(b"\xff"),
        Err(ProtectedFileError::NotText { .. })
    ));
}
