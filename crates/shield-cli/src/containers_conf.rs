// SPDX-License-Identifier: Apache-2.0
//! Reads two lists of podman's `containers.conf`, and adds to one of them.
//!
//! The files are TOML. Only the lists `hooks_dir` and `network_cmd_options` of the section
//! `[engine]` are read, as arrays of plain strings or as one string.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::ops::Range;
use std::path::{Path, PathBuf};

use terok_clearance::IpPrefix;

use crate::state_bundle::{StateBundleError, read_file, write_file};

/// The configuration files of podman.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContainersConfPaths {
    /// The user's file.
    pub user: PathBuf,
    /// The files of the machine, the later before the earlier.
    pub system: Vec<PathBuf>,
    /// The caller is root, who does not take network options from the file of a user.
    pub is_root: bool,
    /// The home directory, for paths with `~`.
    pub home: PathBuf,
}

impl ContainersConfPaths {
    /// Returns the directories with hooks, of the user's file if it has any.
    pub(crate) fn hooks_directories(&self) -> Vec<PathBuf> {
        let files = std::iter::once(&self.user).chain(&self.system);
        let lists = files.map(|file| read_list(file, "hooks_dir"));
        let list = lists.into_iter().find(|list| !list.is_empty());
        let expand = |path: String| match path.strip_prefix("~/") {
            Some(rest) => self.home.join(rest),
            None => path.into(),
        };
        list.unwrap_or_default().into_iter().map(expand).collect()
    }

    /// Returns `true` if the user's file names `directory`.
    pub(crate) fn user_has_hooks_directory(&self, directory: &Path) -> bool {
        let own = Self {
            system: Vec::new(),
            ..self.clone()
        };
        own.hooks_directories()
            .iter()
            .any(|known| known == directory)
    }

    /// Adds `directory` to the hooks directories of the user's file, with all other lines as they
    /// are.
    pub(crate) fn add_hooks_directory(&self, directory: &Path) -> Result<(), StateBundleError> {
        if self.user_has_hooks_directory(directory) {
            return Ok(());
        }
        let text = read_file(&self.user)?.unwrap_or_default();
        write_file(&self.user, &with_hooks_directory(&text, directory))
    }
}

/// Returns the addresses of the host for containers of slirp4netns: the second of its network.
pub(crate) fn slirp_gateways(paths: &ContainersConfPaths) -> (Ipv4Addr, Ipv6Addr) {
    let user = (!paths.is_root).then_some(&paths.user);
    let files = user.into_iter().chain(&paths.system);
    let network = files
        .flat_map(|file| read_list(file, "network_cmd_options"))
        .find_map(|option| option.strip_prefix("cidr=").map(str::to_owned));
    let network = network.and_then(|network| network.parse::<IpPrefix>().ok());
    let base = match network.map(IpPrefix::network) {
        Some(IpAddr::V4(base)) => base,
        _ => Ipv4Addr::new(10, 0, 2, 0),
    };
    let gateway = Ipv4Addr::from_bits(base.to_bits().wrapping_add(2));
    (gateway, Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 2))
}

/// Returns a list of the section `[engine]`; an unreadable file has none.
fn read_list(file: &Path, key: &str) -> Vec<String> {
    let text = read_file(file).ok().flatten().unwrap_or_default();
    parse_list(&text, key)
}

fn parse_list(text: &str, key: &str) -> Vec<String> {
    let value = find_value(text, key).and_then(|range| text.get(range));
    value.map_or_else(Vec::new, quoted_strings)
}

/// Returns the position of a value: an array with its brackets, or a string with its quotes.
fn find_value(text: &str, key: &str) -> Option<Range<usize>> {
    let mut is_engine = false;
    let mut offset = 0_usize;
    for line in text.split_inclusive('\n') {
        let start = offset;
        offset = offset.saturating_add(line.len());
        let trimmed = line.trim();
        if trimmed.starts_with('[') {
            is_engine = trimmed.split('#').next().unwrap_or_default().trim() == "[engine]";
            continue;
        }
        let Some((name, value)) = line.split_once('=').filter(|_| is_engine) else {
            continue;
        };
        if name.trim() != key {
            continue;
        }
        let spaces = value.len().saturating_sub(value.trim_start().len());
        let begin = [name.len(), 1, spaces]
            .into_iter()
            .fold(start, usize::saturating_add);
        let rest = text.get(begin..)?;
        let last = match rest.chars().next()? {
            '[' => closing_bracket(rest)?,
            quote @ ('"' | '\'') => rest.get(1..)?.find(quote)?.saturating_add(1),
            _ => return None,
        };
        return Some(begin..begin.saturating_add(last).saturating_add(1));
    }
    None
}

/// Returns the position of the bracket that closes an array.
fn closing_bracket(text: &str) -> Option<usize> {
    let mut quote = None;
    let mut is_comment = false;
    for (at, c) in text.char_indices() {
        match (c, quote) {
            ('\n', _) => is_comment = false,
            _ if is_comment => {}
            (c, Some(open)) if c == open => quote = None,
            ('"' | '\'', None) => quote = Some(c),
            ('#', None) => is_comment = true,
            (']', None) => return Some(at),
            _ => {}
        }
    }
    None
}

/// Returns the strings of an array, or a single string. Comments are skipped.
fn quoted_strings(value: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut current: Option<(char, String)> = None;
    let mut is_comment = false;
    for c in value.chars() {
        match (&mut current, c) {
            (_, '\n') => is_comment = false,
            _ if is_comment => {}
            (Some((quote, text)), c) if c == *quote => {
                if !text.is_empty() {
                    found.push(std::mem::take(text));
                }
                current = None;
            }
            (Some((_, text)), c) => text.push(c),
            (None, '"' | '\'') => current = Some((c, String::new())),
            (None, '#') => is_comment = true,
            (None, _) => {}
        }
    }
    found
}

fn with_hooks_directory(text: &str, directory: &Path) -> String {
    let directory = directory.display();
    if let Some(range) = find_value(text, "hooks_dir") {
        let mut all = text
            .get(range.clone())
            .map_or_else(Vec::new, quoted_strings);
        all.push(directory.to_string());
        let all: Vec<_> = all.iter().map(|path| format!("\"{path}\"")).collect();
        let mut changed = text.to_owned();
        changed.replace_range(range, &format!("[{}]", all.join(", ")));
        return changed;
    }
    let line = format!("hooks_dir = [\"{directory}\"]");
    let mut lines: Vec<&str> = text.lines().collect();
    match lines.iter().position(|other| other.trim() == "[engine]") {
        Some(at) => lines.insert(at.saturating_add(1), &line),
        None => lines.extend(["[engine]", &line]),
    }
    lines.join("\n") + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_of_the_engine_are_read() {
        let check = |text: &str, expected: &[&str]| {
            assert_eq!(parse_list(text, "hooks_dir"), expected, "{text}");
        };
        check("", &[]);
        check("[engine]\nhooks_dir = [\"/a\", '/b']\n", &["/a", "/b"]);
        check("[engine] # x\n  hooks_dir=\"/a\"\n", &["/a"]);
        check(
            "[containers]\nhooks_dir = [\"/no\"]\n[engine]\nhooks_dir = [ # \"/c\"\n  \"/a\", # ]\n  \"/b\",\n]\n",
            &["/a", "/b"],
        );
        check(
            "[engine]\n# hooks_dir = [\"/a\"]\nhooks_dirs = [\"/b\"]\n",
            &[],
        );
        check("[engine]\nhooks_dir = [\"/a\"", &[]);
    }

    #[test]
    fn a_directory_is_added_and_all_else_stays() {
        let add = |text: &str| {
            let changed = with_hooks_directory(text, Path::new("/new"));
            assert!(
                parse_list(&changed, "hooks_dir").contains(&"/new".to_owned()),
                "{changed}"
            );
            changed
        };
        assert_eq!(add(""), "[engine]\nhooks_dir = [\"/new\"]\n");
        assert_eq!(
            add("[containers]\na = 1\n"),
            "[containers]\na = 1\n[engine]\nhooks_dir = [\"/new\"]\n"
        );
        assert_eq!(
            add("# mine\n[engine]\nruntime = \"crun\" # x\n"),
            "# mine\n[engine]\nhooks_dir = [\"/new\"]\nruntime = \"crun\" # x\n"
        );
        assert_eq!(
            add("[engine]\nhooks_dir = [\"/a\"] # x\nb = 1\n"),
            "[engine]\nhooks_dir = [\"/a\", \"/new\"] # x\nb = 1\n"
        );
        assert_eq!(
            add("[engine]\nhooks_dir = \"/a\"\n"),
            "[engine]\nhooks_dir = [\"/a\", \"/new\"]\n"
        );
    }

    #[test]
    fn the_gateway_of_slirp4netns_follows_its_network() {
        let place = tempfile::tempdir().unwrap();
        let user = place.path().join("containers.conf");
        let mut paths = ContainersConfPaths {
            user: user.clone(),
            system: Vec::new(),
            is_root: false,
            home: "/home/op".into(),
        };
        assert_eq!(slirp_gateways(&paths).0.to_string(), "10.0.2.2");
        let text = "[engine]\nnetwork_cmd_options = [\"mtu=1500\", \"cidr=10.9.0.0/16\"]\n\
                    hooks_dir = [\"~/hooks\"]\n";
        std::fs::write(&user, text).unwrap();
        assert_eq!(slirp_gateways(&paths).0.to_string(), "10.9.0.2");
        assert_eq!(paths.hooks_directories(), [PathBuf::from("/home/op/hooks")]);
        assert!(paths.user_has_hooks_directory(Path::new("/home/op/hooks")));
        paths.is_root = true;
        assert_eq!(slirp_gateways(&paths).0.to_string(), "10.0.2.2");
    }
}
