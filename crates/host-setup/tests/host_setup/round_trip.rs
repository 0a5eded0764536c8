// SPDX-License-Identifier: Apache-2.0
//! What setup writes is what uninstall removes.

use std::fs;

use host_setup::{PathChange, SetupEvent};

use super::harness::{Host, assert_no_problem, changes};

const CONF: &str = "# mine\n[containers]\nenv = [\"A=1\"] # x\n\n[engine]\nruntime = \"crun\"\n";

#[test]
fn uninstall_leaves_the_tree_as_it_was() {
    for host in [Host::of_user(), Host::of_machine()] {
        for conf in [
            None,
            Some(CONF),
            Some(""),
            Some("[engine]\nhooks_dir = ['/x']"),
        ] {
            let place = &host.context.directories.containers_conf;
            if let Some(text) = conf {
                fs::create_dir_all(place.parent().unwrap()).unwrap();
                fs::write(place, text).unwrap();
            }
            let before = host.tree();
            let events = host.setup();
            assert_no_problem(&events);
            let installed = host.tree();
            assert!(installed.len() > before.len() + 15, "{installed:#?}");
            // Again: nothing changes.
            let again = host.setup();
            assert_eq!(changes(&again), []);
            assert_eq!(host.tree(), installed);
            assert_no_problem(&host.uninstall());
            assert_eq!(host.tree(), before);
        }
    }
}

#[test]
fn a_dry_run_reports_the_same_changes_and_makes_none() {
    let mut host = Host::of_user();
    host.write("home/.config/containers/containers.conf", CONF);
    let before = host.tree();
    host.options.dry_run = true;
    let planned = host.setup();
    assert_eq!(host.tree(), before);
    assert_eq!(host.calls(), [""; 0]);
    host.options.dry_run = false;
    let done = host.setup();
    assert_eq!(changes(&planned), changes(&done));
    let installed = host.tree();
    host.calls();
    host.options.dry_run = true;
    let planned = host.uninstall();
    assert_eq!(host.tree(), installed);
    assert_eq!(host.calls(), [""; 0]);
    host.options.dry_run = false;
    assert_eq!(changes(&planned), changes(&host.uninstall()));
    assert_eq!(host.tree(), before);
}

#[test]
fn podmans_default_directories_stay_in_a_new_list() {
    let host = Host::of_user();
    host.setup();
    let conf = host.read("home/.config/containers/containers.conf");
    let hooks = host.context.directories.hooks.display().to_string();
    let expected = format!(
        "[engine]\nhooks_dir = [\"/usr/share/containers/oci/hooks.d\", \
         \"/etc/containers/oci/hooks.d\", \"{hooks}\"]\n"
    );
    assert_eq!(conf, expected);
}

#[test]
fn the_lists_of_system_files_are_inherited() {
    let host = Host::of_user();
    host.write(
        "usr/share/containers/containers.conf",
        "[engine]\nhooks_dir = [\"/a\"]\n",
    );
    host.write(
        "etc/containers/containers.conf",
        "[engine]\nhooks_dir = [\"/b\"]\n",
    );
    let late = "[engine]\nhooks_dir = [\"/c\", {append=true}]\n";
    host.write("etc/containers/containers.conf.d/10-x.conf", late);
    host.setup();
    let conf = host.read("home/.config/containers/containers.conf");
    assert!(conf.contains("hooks_dir = [\"/b\", \"/c\", \""), "{conf}");
}

#[test]
fn a_list_that_is_read_later_is_the_one_that_is_edited() {
    let host = Host::of_user();
    let late = host.write(
        "home/.config/containers/containers.conf.d/20-late.conf",
        "[engine]\nhooks_dir = [\"/a\"]\n",
    );
    host.write(
        "home/.config/containers/containers.conf.d/30.conf",
        "[engine]\n",
    );
    let before = host.tree();
    host.setup();
    let hooks = host.context.directories.hooks.display().to_string();
    assert!(fs::read_to_string(late).unwrap().contains(&hooks));
    host.uninstall();
    assert_eq!(host.tree(), before);
}

#[test]
fn a_containers_conf_that_was_edited_since_loses_only_our_entry() {
    let host = Host::of_user();
    let name = "home/.config/containers/containers.conf";
    host.write(name, CONF);
    host.setup();
    let edited = host.read(name).replace("crun", "runc") + "# more\n";
    host.write(name, &edited);
    let events = host.uninstall();
    assert!(changes(&events).contains(&(host.path(name), PathChange::Restored)));
    assert_eq!(host.read(name), CONF.replace("crun", "runc") + "# more\n");
}

#[test]
fn a_link_to_a_containers_conf_stays_a_link() {
    let host = Host::of_user();
    let real = host.write("home/dotfiles/containers.conf", CONF);
    let link = host.path("home/.config/containers/containers.conf");
    fs::create_dir_all(link.parent().unwrap()).unwrap();
    std::os::unix::fs::symlink(&real, &link).unwrap();
    let before = host.tree();
    host.setup();
    assert_ne!(fs::read_to_string(&real).unwrap(), CONF);
    assert!(link.is_symlink());
    host.uninstall();
    assert_eq!(host.tree(), before);
}

#[test]
fn a_containers_conf_that_is_no_toml_is_reported_and_stays() {
    let host = Host::of_user();
    let conf = host.write("home/.config/containers/containers.conf", "[engine\n");
    let before = host.tree();
    let events = host.setup();
    let is_named = |event: &SetupEvent| match event {
        SetupEvent::Failed { message, .. } => message.contains("line 1 is not TOML"),
        _ => false,
    };
    assert!(events.iter().any(is_named), "{events:?}");
    assert_eq!(fs::read_to_string(conf).unwrap(), "[engine\n");
    host.uninstall();
    assert_eq!(host.tree(), before);
}

#[test]
fn a_setup_that_failed_is_repaired_by_the_next_and_removed_by_uninstall() {
    for is_repaired in [true, false] {
        let host = Host::of_user();
        let empty = host.tree();
        // A file where the hooks need a directory.
        let obstacle = host.write("home/.local/share/terok-clearance", "");
        let before = host.tree();
        let events = host.setup();
        assert!(events.iter().any(SetupEvent::is_problem));
        let conf = host.path("home/.config/containers/containers.conf");
        assert!(!conf.exists(), "hooks that are missing are not named");
        if is_repaired {
            fs::remove_file(&obstacle).unwrap();
            assert_no_problem(&host.setup());
            assert!(conf.exists());
        }
        assert_no_problem(&host.uninstall());
        if is_repaired {
            // The directories that the obstacle needed were not made by setup.
            let left = host.tree();
            assert_eq!(left.len(), empty.len() + 2, "{left:#?}");
        } else {
            assert_eq!(host.tree(), before);
        }
    }
}
