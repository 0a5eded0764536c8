// SPDX-License-Identifier: Apache-2.0
//! Kept answers: files, edits, projects.

#![expect(clippy::unwrap_used, reason = "tests")]

use std::fs;
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};

use policy::{ProfileName, RuleFile};
use terok_clearance::{Action, DestPattern};
use terok_clearance_store::{
    FileProblem, ProfileOrigin, ProjectPath, RuleStore, RuleStoreError, TrustedFile,
    TrustedFileState, read_trusted,
};

/// Creates a directory for this user alone, whatever the umask of the test is.
fn private_directory() -> tempfile::TempDir {
    let mode = fs::Permissions::from_mode(0o700);
    tempfile::Builder::new()
        .permissions(mode)
        .tempdir()
        .unwrap()
}

struct Home {
    directory: tempfile::TempDir,
}

impl Home {
    fn new() -> Self {
        let directory = private_directory();
        Self { directory }
    }

    fn path(&self, below: &str) -> PathBuf {
        self.directory.path().canonicalize().unwrap().join(below)
    }

    fn store(&self) -> RuleStore {
        RuleStore::open(&self.path("config")).unwrap()
    }

    fn write(&self, below: &str, text: &str) -> PathBuf {
        let path = self.path(below);
        create_private(path.parent().unwrap());
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        path
    }

    fn project(&self, below: &str) -> ProjectPath {
        let path = self.path(below);
        create_private(&path);
        ProjectPath::find(&path).unwrap()
    }
}

/// Creates directories, whatever the umask of the test is.
fn create_private(path: &Path) {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true).mode(0o700).create(path).unwrap();
}

fn dest(text: &str) -> DestPattern {
    text.parse().unwrap()
}

fn name(text: &str) -> ProfileName {
    text.parse().unwrap()
}

fn keep(store: &RuleStore, project: &ProjectPath) {
    let edited = store.edit_project(project, |file| {
        file.add(Action::Allow, &dest("a.example"), None)
    });
    edited.unwrap();
}

#[test]
fn missing_files_have_no_rules() {
    let home = Home::new();
    let store = home.store();
    assert_eq!(store.load_always().unwrap(), RuleFile::default());
    let project = home.project("src/web");
    assert_eq!(store.load_project(&project).unwrap(), RuleFile::default());
    assert!(store.list_projects().unwrap().is_empty());
    assert!(!home.path("config").exists());
}

#[test]
fn kept_answers_are_found_again() {
    let home = Home::new();
    let store = home.store();
    let edit = store.edit_always(|file| {
        file.add(
            Action::Allow,
            &dest("a.example:443/tcp"),
            Some("allowed by uid 1000"),
        )
    });
    assert_eq!(edit.unwrap().added, 1);
    let text = fs::read_to_string(store.always_path()).unwrap();
    let expected = "# Answers kept for every sandbox\n\
                    a.example:443/tcp  # allowed by uid 1000\n";
    assert_eq!(text, expected);
    let project = home.project("src/web");
    keep(&store, &project);
    let text = fs::read_to_string(store.project_file_path(&project)).unwrap();
    assert_eq!(
        text,
        format!("# project: {}\na.example\n", project.as_path().display())
    );
    let listed = store.list_projects().unwrap();
    let [Ok(kept)] = listed.as_slice() else {
        panic!("{listed:?}");
    };
    assert_eq!(kept.project, project);
    assert_eq!(kept.file, store.load_project(&project).unwrap());
}

#[test]
fn an_edit_without_a_change_writes_nothing() {
    let home = Home::new();
    let store = home.store();
    store
        .edit_always(|file| file.remove(Action::Allow, &dest("a.example")))
        .unwrap();
    assert!(!store.always_path().exists());
    let refused = store.edit_always(|file| file.add(Action::Allow, &dest("169.254.169.254"), None));
    assert!(matches!(refused, Err(RuleStoreError::Edit { .. })));
    assert!(!store.always_path().exists());
}

#[test]
fn an_unusable_file_is_an_error_that_stays() {
    let home = Home::new();
    let store = home.store();
    let path = home.write(
        "config/rules/always.rules",
        "a.example\nhttps://b.example\n",
    );
    let error = store.load_always().unwrap_err();
    let lines = error.rule_file_error().unwrap().lines();
    assert_eq!(lines.iter().map(|line| line.line).collect::<Vec<_>>(), [2]);
    // An edit would have to drop the wrong line.
    let edited = store.edit_always(|file| file.add(Action::Deny, &dest("c.example"), None));
    assert!(edited.is_err());
    assert_eq!(
        fs::read_to_string(&path).unwrap(),
        "a.example\nhttps://b.example\n"
    );
    fs::write(&path, "a.example\n").unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o666)).unwrap();
    let edited = store.edit_always(|file| file.add(Action::Deny, &dest("c.example"), None));
    let problem = match edited.unwrap_err() {
        RuleStoreError::File { problem, path: at } if at == path => problem,
        other => panic!("{other}"),
    };
    assert!(problem.to_string().contains("chmod go-w"), "{problem}");
    fs::set_permissions(home.path("config"), fs::Permissions::from_mode(0o777)).unwrap();
    assert!(RuleStore::open(&home.path("config")).is_err());
}

#[test]
fn a_file_counts_for_its_project_only() {
    let home = Home::new();
    let store = home.store();
    let (one, other) = (home.project("one"), home.project("other"));
    keep(&store, &one);
    let copy = store.project_file_path(&other);
    fs::copy(store.project_file_path(&one), &copy).unwrap();
    let refused = |result: Result<RuleFile, RuleStoreError>| {
        matches!(
            result,
            Err(RuleStoreError::File {
                problem: FileProblem::OtherProject { .. },
                ..
            })
        )
    };
    assert!(refused(store.load_project(&other)));
    let edited = store.edit_project(&other, |file| {
        file.add(Action::Allow, &dest("b.example"), None)
    });
    assert!(edited.is_err());
    let listed = store.list_projects().unwrap();
    assert_eq!(listed.iter().filter(|kept| kept.is_err()).count(), 1);
    fs::write(&copy, "a.example\n").unwrap();
    assert!(refused(store.load_project(&other)));
    fs::write(&copy, "").unwrap();
    assert!(refused(store.load_project(&other)));
}

#[test]
fn a_project_is_the_nearest_directory_with_kept_answers() {
    let home = Home::new();
    let store = home.store();
    let of = |below: &str| {
        store
            .project_of(&home.path(below), &home.path("home"))
            .unwrap()
    };
    let web = home.project("home/src/web");
    let part = home.project("home/src/web/part/deep");
    assert_eq!(of("home/src/web/part/deep"), part);
    keep(&store, &web);
    assert_eq!(of("home/src/web/part/deep"), web);
    assert_eq!(of("home/src/web"), web);
    assert_eq!(of("home/src"), home.project("home/src"));
    keep(&store, &part);
    assert_eq!(of("home/src/web/part/deep"), part);
    assert_eq!(of("home/src/web/part"), web);
    // By any other path to it.
    symlink(home.path("home/src/web/part"), home.path("link")).unwrap();
    assert_eq!(of("link"), web);
    // A file in the work tree decides nothing.
    let tree = home.project("home/tree/below");
    home.write("home/tree/.terok-clearance.rules", "a.example\n");
    assert_eq!(of("home/tree/below"), tree);
}

#[test]
fn the_home_directory_is_no_project_of_what_is_below() {
    let home = Home::new();
    let store = home.store();
    let of = |below: &str| {
        store
            .project_of(&home.path(below), &home.path("home/jo"))
            .unwrap()
    };
    let project = home.project("home/jo/src");
    for wide in ["", "home", "home/jo"] {
        keep(&store, &home.project(wide));
    }
    let root = ProjectPath::find(Path::new("/")).unwrap();
    keep(&store, &root);
    assert_eq!(of("home/jo/src"), project);
    assert_eq!(of("home/jo"), home.project("home/jo"));
    assert_eq!(of("home"), home.project("home"));
    let of_root = store
        .project_of(Path::new("/"), &home.path("home/jo"))
        .unwrap();
    assert_eq!(of_root, root);
}

#[test]
fn a_shared_directory_is_no_project_of_what_is_below() {
    let home = Home::new();
    let store = home.store();
    let shared = home.project("shared");
    let below = home.project("shared/below");
    keep(&store, &shared);
    let of = |below: &str| {
        store
            .project_of(&home.path(below), &home.path("home"))
            .unwrap()
    };
    assert_eq!(of("shared/below"), shared);
    fs::set_permissions(shared.as_path(), fs::Permissions::from_mode(0o1777)).unwrap();
    assert_eq!(of("shared/below"), below);
    assert_eq!(of("shared"), shared);
}

#[test]
fn a_new_profile_replaces_none() {
    let home = Home::new();
    let store = home.store();
    let file = RuleFile::parse(b"# mine\na.example:443/tcp\n").unwrap();
    let path = store.create_profile(&name("web"), &file).unwrap();
    assert_eq!(path, home.path("config/profiles/web.rules"));
    assert_eq!(fs::read_to_string(&path).unwrap(), file.render());
    let mode = fs::metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    assert_eq!(store.load_profile(&name("web")).unwrap().file, file);
    home.write("config/profiles/shield.txt", "+a.example\n");
    for taken in ["web", "shield"] {
        for refused in [
            store
                .create_profile(&name(taken), &RuleFile::default())
                .err(),
            store.check_new_profile(&name(taken)).err(),
        ] {
            let is_refused = matches!(refused, Some(RuleStoreError::ProfileExists { .. }));
            assert!(is_refused, "{taken}");
        }
    }
    assert_eq!(fs::read_to_string(&path).unwrap(), file.render());
    let bundled = store.create_profile(&name("npm"), &file);
    assert!(matches!(bundled, Err(RuleStoreError::BundledName(_))));
    store.check_new_profile(&name("other")).unwrap();
}

#[test]
fn own_profiles_replace_bundled_ones() {
    let home = Home::new();
    let store = home.store();
    let npm = store.load_profile(&name("npm")).unwrap();
    assert_eq!(npm.origin, ProfileOrigin::Bundled);
    assert!(npm.file.rule_count() > 0);
    let missing = store.load_profile(&name("mine")).unwrap_err();
    assert!(missing.to_string().contains("profile list"), "{missing}");
    let path = home.write("config/profiles/npm.rules", "a.example\n");
    let npm = store.load_profile(&name("npm")).unwrap();
    let replaces_bundled = true;
    assert_eq!(
        npm.origin,
        ProfileOrigin::Own {
            path,
            replaces_bundled
        }
    );
    assert_eq!(npm.file.rule_count(), 1);
    let path = home.write("config/profiles/shield.txt", "+a.example\n-b.example\n");
    let shield = store.load_profile(&name("shield")).unwrap();
    let replaces_bundled = false;
    assert_eq!(
        shield.origin,
        ProfileOrigin::Own {
            path,
            replaces_bundled
        }
    );
    assert_eq!(shield.file.rule_count(), 3);
    home.write("config/profiles/shield.rules", "a.example\n");
    let two = store.load_profile(&name("shield"));
    assert!(matches!(two, Err(RuleStoreError::TwoProfiles { .. })));
    // A broken file does not bring the bundled profile back.
    home.write("config/profiles/cargo.rules", "*\n");
    assert!(store.load_profile(&name("cargo")).is_err());
    symlink("npm.rules", home.path("config/profiles/pypi.rules")).unwrap();
    assert!(store.load_profile(&name("pypi")).is_err());
    home.write("config/profiles/.hidden.rules", "");
    let listed = store.list_profiles().unwrap();
    assert!(listed.is_sorted_by_key(|entry| entry.name.clone()));
    let wrong = listed.iter().filter(|entry| entry.loaded.is_err());
    let wrong: Vec<_> = wrong.map(|entry| entry.name.as_str()).collect();
    assert_eq!(wrong, ["cargo", "pypi", "shield"]);
}

#[test]
fn a_trusted_file_counts_as_it_was_accepted() {
    let home = Home::new();
    let state = TrustedFileState::new(&home.path("state"));
    let path = home.write("web/.terok-clearance.rules", "# x\na.example\n!b.example\n");
    let read = || read_trusted(&path).unwrap();
    let shown = |file: &TrustedFile| {
        let difference = state.compare(file).unwrap();
        let text = |rules: Vec<policy::FileRule>| -> Vec<String> {
            let rules = rules.iter();
            rules
                .map(|rule| format!("{:?} {}", rule.action, rule.pattern))
                .collect()
        };
        (text(difference.added), text(difference.removed))
    };
    let allow_a = "Allow a.example".to_owned();
    let deny_b = "Deny b.example".to_owned();
    let first = read();
    assert_eq!(
        shown(&first),
        (vec![allow_a.clone(), deny_b.clone()], vec![])
    );
    // What was shown is accepted, whatever the file is by then.
    fs::write(&path, "a.example\n!b.example\nc.example\n").unwrap();
    state.accept(&first).unwrap();
    assert_eq!(shown(&first), (vec![], vec![]));
    assert_eq!(shown(&read()), (vec!["Allow c.example".to_owned()], vec![]));
    // Comments and order are free; a deny that disappears is not.
    fs::write(&path, "!b.example # y\na.example\n").unwrap();
    assert!(state.compare(&read()).unwrap().is_empty());
    fs::write(&path, "a.example\n").unwrap();
    assert_eq!(shown(&read()), (vec![], vec![deny_b.clone()]));
    fs::remove_file(&path).unwrap();
    assert_eq!(shown(&read()), (vec![], vec![allow_a, deny_b]));
    // Neither links nor pipes nor wrong lines.
    symlink("/etc/hostname", &path).unwrap();
    assert!(read_trusted(&path).is_err());
    fs::remove_file(&path).unwrap();
    fs::write(&path, "*\n").unwrap();
    assert!(read_trusted(&path).is_err());
    // Another file of the same text has not been accepted.
    let other = home.write("other/.terok-clearance.rules", "a.example\n");
    assert!(
        !state
            .compare(&read_trusted(&other).unwrap())
            .unwrap()
            .is_empty()
    );
}
