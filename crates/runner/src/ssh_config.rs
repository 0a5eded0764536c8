// SPDX-License-Identifier: Apache-2.0
//! The configuration files of ssh, which it refuses unless root or its user owns them.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::Read as _;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags, open};

/// The configuration for all users of the machine.
const SYSTEM_CONFIG: &str = "/etc/ssh/ssh_config";
/// Levels of `Include`, as in OpenSSH.
const MAX_DEPTH: usize = 16;
/// Maximum number of files.
const MAX_FILES: usize = 256;
/// Maximum number of `Include` patterns looked at in one file.
const MAX_PATTERNS: usize = 64;
/// Maximum size of a file; the sandbox gets no copy of a larger one.
const MAX_FILE_BYTES: u64 = 1 << 20;

/// Returns the existing configuration files, `ssh_config(5)`: those of the user and of the machine,
/// and all that they include under any condition.
pub(crate) fn find_ssh_config_files(home: Option<&Path>) -> Vec<PathBuf> {
    let mut found = BTreeSet::new();
    let home = home.filter(|home| home.is_absolute());
    if let Some(home) = home {
        let user = home.join(".ssh");
        add_file(&user.join("config"), &user, home, MAX_DEPTH, &mut found);
    }
    let system = Path::new(SYSTEM_CONFIG);
    let directory = system.parent().unwrap_or(system);
    let home = home.unwrap_or_else(|| Path::new("/"));
    add_file(system, directory, home, MAX_DEPTH, &mut found);
    found.into_iter().collect()
}

/// Adds a file and what it includes; relative names are below `directory`.
fn add_file(
    file: &Path,
    directory: &Path,
    home: &Path,
    depth: usize,
    found: &mut BTreeSet<PathBuf>,
) {
    if found.len() >= MAX_FILES || found.contains(file) {
        return;
    }
    let Some(text) = read_config(file) else {
        return;
    };
    found.insert(file.to_owned());
    if depth == 0 {
        return;
    }
    let patterns = text.lines().flat_map(included_patterns);
    for pattern in patterns.take(MAX_PATTERNS) {
        let path = match pattern.strip_prefix("~/") {
            Some(below) => home.join(below),
            None => directory.join(&pattern),
        };
        for file in expand_pattern(&path) {
            add_file(&file, directory, home, depth.saturating_sub(1), found);
        }
    }
}

/// Reads a regular file of limited size. A former command may have put another file in its place: a
/// FIFO would block, and a device may act.
fn read_config(path: &Path) -> Option<String> {
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    if !fs::metadata(path).ok()?.is_file() {
        return None;
    }
    let file = File::from(open(path, flags, Mode::empty()).ok()?);
    let found = file.metadata().ok()?;
    if !found.is_file() || found.len() > MAX_FILE_BYTES {
        return None;
    }
    let mut text = String::new();
    file.take(MAX_FILE_BYTES).read_to_string(&mut text).ok()?;
    Some(text)
}

/// Returns the patterns of a line `Include PATTERN…`; other lines have none.
fn included_patterns(line: &str) -> Vec<String> {
    let line = line.trim_start();
    let end = line.find(|c: char| c.is_whitespace() || c == '=');
    let (keyword, rest) = line.split_at(end.unwrap_or(line.len()));
    if !keyword.eq_ignore_ascii_case("include") {
        return Vec::new();
    }
    let rest = rest.trim_start().trim_start_matches('=');
    let mut patterns = vec![String::new()];
    let mut is_quoted = false;
    for c in rest.chars() {
        match (c, patterns.last_mut()) {
            ('"', _) => is_quoted = !is_quoted,
            (c, _) if c.is_whitespace() && !is_quoted => patterns.push(String::new()),
            (c, Some(last)) => last.push(c),
            (_, None) => {}
        }
    }
    patterns.retain(|pattern| !pattern.is_empty());
    patterns
}

/// Returns the files that match a path with `*` and `?` in its components, `glob(7)`.
fn expand_pattern(pattern: &Path) -> Vec<PathBuf> {
    let mut paths = vec![PathBuf::new()];
    for component in pattern.components() {
        let name = component.as_os_str();
        let wild = name.to_str().filter(|name| name.contains(['*', '?']));
        let Some(wild) = wild else {
            for path in &mut paths {
                path.push(name);
            }
            continue;
        };
        let entries = paths
            .iter()
            .flat_map(|path| fs::read_dir(path).into_iter().flatten());
        let names = entries.flatten().filter(|entry| {
            let name = entry.file_name();
            let name = name.to_string_lossy();
            (!name.starts_with('.') || wild.starts_with('.')) && matches_wildcards(wild, &name)
        });
        paths = names.map(|entry| entry.path()).take(MAX_FILES).collect();
    }
    paths.retain(|path| path.is_file());
    paths
}

/// Returns `true` if `name` matches a pattern with `*` and `?`.
///
/// `states` has a place for each part of the pattern that may come next, so that the time is
/// bounded: the pattern may be a former command's.
fn matches_wildcards(pattern: &str, name: &str) -> bool {
    let pattern: Vec<char> = pattern.chars().collect();
    let skip_stars = |mut at: usize, states: &mut BTreeSet<usize>| {
        states.insert(at);
        while pattern.get(at) == Some(&'*') {
            at = at.saturating_add(1);
            states.insert(at);
        }
    };
    let mut states = BTreeSet::new();
    skip_stars(0, &mut states);
    for letter in name.chars() {
        let mut next = BTreeSet::new();
        for at in states {
            match pattern.get(at) {
                Some('*') => skip_stars(at, &mut next),
                Some('?') => skip_stars(at.saturating_add(1), &mut next),
                Some(known) if *known == letter => skip_stars(at.saturating_add(1), &mut next),
                _ => {}
            }
        }
        states = next;
    }
    states.contains(&pattern.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_patterns_of_an_include_line_are_found() {
        let check = |line: &str, expected: &[&str]| {
            assert_eq!(included_patterns(line), expected, "{line}");
        };
        check(
            "Include /etc/ssh/ssh_config.d/*.conf",
            &["/etc/ssh/ssh_config.d/*.conf"],
        );
        check("  include\ta  \"b c\" d", &["a", "b c", "d"]);
        check("INCLUDE=x", &["x"]);
        check("Include = x", &["x"]);
        check("IncludeNot x", &[]);
        check("# Include x", &[]);
        check("Host *", &[]);
        check("", &[]);
    }

    #[test]
    fn wildcards_match_as_in_a_shell() {
        let check = |pattern, name, expected| {
            assert_eq!(
                matches_wildcards(pattern, name),
                expected,
                "{pattern} {name}"
            );
        };
        check("*.conf", "10-a.conf", true);
        check("*.conf", "10-a.conf.bak", false);
        check("??-*", "10-a", true);
        check("*", "", true);
        check("a", "b", false);
    }

    #[test]
    fn included_files_are_found_at_every_level() {
        let home = tempfile::tempdir().unwrap();
        let ssh = home.path().join(".ssh");
        fs::create_dir_all(ssh.join("d")).unwrap();
        fs::write(
            ssh.join("config"),
            "Host x\n  Include d/*.conf\nInclude ~/more config\n",
        )
        .unwrap();
        fs::write(ssh.join("d/one.conf"), "Include nothing-*/x two\n").unwrap();
        fs::write(ssh.join("d/.hidden.conf"), "").unwrap();
        fs::write(ssh.join("two"), "").unwrap();
        fs::write(home.path().join("more"), "").unwrap();
        let found = find_ssh_config_files(Some(home.path()));
        let found = found
            .iter()
            .filter_map(|path| path.strip_prefix(home.path()).ok());
        let names: Vec<_> = found.map(|path| path.to_str().unwrap()).collect();
        assert_eq!(
            names,
            [".ssh/config", ".ssh/d/one.conf", ".ssh/two", "more"]
        );
    }

    #[test]
    fn a_file_of_a_former_command_neither_blocks_nor_fills_the_memory() {
        let home = tempfile::tempdir().unwrap();
        let ssh = home.path().join(".ssh");
        fs::create_dir_all(&ssh).unwrap();
        let fifo = ssh.join("config");
        let made = std::process::Command::new("mkfifo").arg(&fifo).status();
        assert!(made.unwrap().success());
        assert_eq!(read_config(&fifo), None);
        assert_eq!(read_config(Path::new("/dev/zero")), None);
        let large = ssh.join("large");
        File::create(&large).unwrap().set_len(1 << 40).unwrap();
        assert_eq!(read_config(&large), None);
        let found = find_ssh_config_files(Some(home.path()));
        assert!(found.iter().all(|path| !path.starts_with(home.path())));
        // Files that include each other are read once.
        fs::remove_file(&fifo).unwrap();
        fs::write(&fifo, "Include *\n".repeat(1000)).unwrap();
        let found = find_ssh_config_files(Some(home.path()));
        assert_eq!(found.iter().filter(|path| **path == fifo).count(), 1);
    }
}
