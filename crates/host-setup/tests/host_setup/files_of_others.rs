// SPDX-License-Identifier: Apache-2.0
//! Files that setup did not write, or that were changed since.

use std::fs;
use std::os::unix::fs::symlink;

use host_setup::{PathChange, SetupPart};

use super::harness::{Host, assert_no_problem, changes, skipped};

const COMPLETION: &str = "home/.local/share/bash-completion/completions/terok-clearance";
const HOOK: &str = "home/.local/share/terok-clearance/hooks.d/terok-clearance-createRuntime.json";

#[test]
fn a_file_of_another_program_stays() {
    let host = Host::of_user();
    let foreign = host.write(COMPLETION, "mine");
    let before = host.tree();
    let events = host.setup();
    // No container depends on it.
    assert_no_problem(&events);
    assert!(changes(&events).contains(&(foreign, PathChange::KeptForeign)));
    assert_eq!(host.read(COMPLETION), "mine");
    host.uninstall();
    assert_eq!(host.tree(), before);
}

#[test]
fn a_hook_of_another_program_is_a_problem() {
    let host = Host::of_user();
    let foreign = host.write(HOOK, "{}");
    let events = host.setup();
    assert!(changes(&events).contains(&(foreign, PathChange::KeptForeign)));
    assert!(events.iter().any(host_setup::SetupEvent::is_problem));
    assert!(
        !host
            .path("home/.config/containers/containers.conf")
            .exists()
    );
}

#[test]
fn a_file_that_was_changed_stays_until_it_is_removed() {
    let host = Host::of_user();
    let before = host.tree();
    host.setup();
    let changed = host.write(COMPLETION, "changed");
    let events = host.setup();
    assert!(changes(&events).contains(&(changed.clone(), PathChange::KeptChanged)));
    let events = host.uninstall();
    assert_eq!(host.read(COMPLETION), "changed");
    assert!(changes(&events).contains(&(changed.clone(), PathChange::KeptChanged)));
    // What is left is the file, and the list with it.
    fs::remove_file(changed).unwrap();
    host.uninstall();
    assert_eq!(host.tree(), before);
}

#[test]
fn a_file_of_ours_is_replaced_by_a_newer_one() {
    let mut host = Host::of_user();
    host.setup();
    let new = host.write("home/bin/terok-clearance-2", "#!/bin/sh\n");
    fs::set_permissions(&new, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let uid = rustix::process::geteuid().as_raw();
    let origin = host_setup::ProgramOrigin::Chosen;
    host.program = host_setup::HookProgram::check(&new, origin, uid, &[]).unwrap();
    let events = host.setup();
    assert_no_problem(&events);
    assert!(host.read(HOOK).contains("terok-clearance-2"));
    let unit = "home/.config/systemd/user/clearance-supervisor@.service";
    assert!(
        host.read(unit)
            .contains("terok-clearance-2 container-supervisor")
    );
}

#[test]
fn names_are_linked_unless_another_program_has_them() {
    let host = Host::of_user();
    let foreign = host.write("home/bin/terok-shield", "#!/bin/sh\n");
    let events = host.setup();
    let link = host.path("home/.local/bin/terok-clearance-hub");
    assert_eq!(fs::read_link(&link).unwrap(), host.program.path());
    assert!(!host.path("home/.local/bin/terok-shield").exists());
    assert!(!host.path("home/.local/bin/terok-clearance").exists());
    let reason = format!(
        "{} has this name: terok-shield is not linked",
        foreign.display()
    );
    assert!(skipped(&events).contains(&(SetupPart::ProgramNames, reason)));
    // A link of the user's own stays.
    fs::remove_file(&link).unwrap();
    symlink("/elsewhere", &link).unwrap();
    assert_no_problem(&host.setup());
    host.uninstall();
    assert_eq!(fs::read_link(&link).unwrap().to_str(), Some("/elsewhere"));
}

#[test]
fn what_the_programs_package_has_is_not_installed_twice() {
    let host = Host::of_user();
    host.write("home/share/man/man1/terok-clearance.1.gz", "");
    symlink("terok-clearance", host.path("home/bin/terok-clearance-hub")).unwrap();
    let events = host.setup();
    assert!(!host.path("home/.local/share/man").exists());
    assert!(!host.path("home/.local/bin/terok-clearance-hub").exists());
    let parts: Vec<_> = skipped(&events).into_iter().map(|(part, _)| part).collect();
    assert_eq!(parts, [SetupPart::ManPages]);
}

#[test]
fn the_profile_for_apparmor_is_installed_where_it_is_needed() {
    let host = Host::of_machine();
    let restriction = "proc/sys/kernel/apparmor_restrict_unprivileged_userns";
    host.write(restriction, "1\n");
    let before = host.tree();
    let events = host.setup();
    assert_no_problem(&events);
    let profile = host.read("etc/apparmor.d/terok-clearance");
    assert!(profile.contains("userns,"), "{profile}");
    let reasons = skipped(&events);
    assert!(
        reasons
            .iter()
            .any(|(_, reason)| reason.contains("apparmor_parser"))
    );
    host.uninstall();
    assert_eq!(host.tree(), before);
    // A user is told what only root can do.
    let user = Host::of_user();
    user.write(restriction, "1\n");
    let parts: Vec<_> = skipped(&user.setup())
        .into_iter()
        .map(|(part, _)| part)
        .collect();
    assert_eq!(parts, [SetupPart::Apparmor]);
}
