// SPDX-License-Identifier: Apache-2.0
//! Tests of edits of `hooks_dir`.

use proptest::prelude::*;

use super::*;

const OURS: &str = "/home/me/.local/share/terok-clearance/hooks.d";

fn defaults() -> Vec<String> {
    DEFAULT_HOOKS_DIRS.map(str::to_owned).to_vec()
}

fn add(text: &str) -> AddedHooksDir {
    add_hooks_dir(text, OURS, &defaults()).unwrap().unwrap()
}

#[test]
fn a_directory_is_added_to_each_form_of_the_list() {
    let check = |text: &str, expected: &str| {
        assert_eq!(add(text).text, expected.replace("OURS", OURS), "{text}");
    };
    let list = "hooks_dir = [\"/usr/share/containers/oci/hooks.d\", \
                \"/etc/containers/oci/hooks.d\", \"OURS\"]";
    check("", &format!("[engine]\n{list}\n"));
    check("# mine\n", &format!("# mine\n[engine]\n{list}\n"));
    check("# mine", &format!("# mine\n[engine]\n{list}\n"));
    check("[engine]", &format!("[engine]\n{list}\n"));
    check(
        "[engine] # x\nruntime = \"crun\" # y\n[network]\n",
        &format!("[engine] # x\n{list}\nruntime = \"crun\" # y\n[network]\n"),
    );
    check(
        "[engine.runtimes]\nx = [\"/x\"]\n",
        &format!("[engine.runtimes]\nx = [\"/x\"]\n[engine]\n{list}\n"),
    );
    check(
        "engine.runtime = \"crun\"\n[network]\n",
        &format!("engine.{list}\nengine.runtime = \"crun\"\n[network]\n"),
    );
    check(
        "[engine]\r\nruntime = \"crun\"\r\n",
        &format!("[engine]\r\n{list}\r\nruntime = \"crun\"\r\n"),
    );
    check(
        "[engine]\nhooks_dir = []\n",
        "[engine]\nhooks_dir = [\"OURS\"]\n",
    );
    check(
        "[engine]\nhooks_dir=['/a',]#x\n",
        "[engine]\nhooks_dir=['/a', \"OURS\",]#x\n",
    );
    check(
        "[engine]\nhooks_dir = [\n  \"/a\",\n  \"/b\" # the last\n]\n",
        "[engine]\nhooks_dir = [\n  \"/a\",\n  \"/b\",\n  \"OURS\" # the last\n]\n",
    );
    check(
        "engine = { hooks_dir = [\"/a\"] }\n",
        "engine = { hooks_dir = [\"/a\", \"OURS\"] }\n",
    );
    check(
        "[engine]\nhooks_dir = [\"/a\", {append=true}]\n",
        "[engine]\nhooks_dir = [\"/a\", {append=true}, \"OURS\"]\n",
    );
}

#[test]
fn a_list_that_has_the_directory_is_not_changed() {
    let text = format!("[engine]\nhooks_dir = [\"{OURS}\"]\n");
    assert_eq!(add_hooks_dir(&text, OURS, &defaults()), Ok(None));
}

#[test]
fn other_forms_are_refused() {
    let check = |text: &str, expected: HooksDirError| {
        assert_eq!(add_hooks_dir(text, OURS, &[]), Err(expected), "{text}");
    };
    check("[engine]\nhooks_dir = \"/a\"\n", HooksDirError::NotList);
    check("[engine]\nhooks_dir = [1]\n", HooksDirError::NotList);
    check(
        "engine = { runtime = \"crun\" }\n",
        HooksDirError::Unsupported,
    );
    check("engine = 1\n", HooksDirError::Unsupported);
    check("[[engine]]\n", HooksDirError::Unsupported);
    let refused = add_hooks_dir("[engine]\n\nhooks_dir = [\n", OURS, &[]).unwrap_err();
    assert!(matches!(refused, HooksDirError::Syntax { line: 3.., .. }));
}

#[test]
fn lists_are_read() {
    let list = |text| read_hooks_dirs(text).unwrap();
    assert_eq!(list("[containers]\nhooks_dir = [\"/a\"]\n"), None);
    let found = list("[engine]\nhooks_dir = [\"/a\", '/b', {append = true}]\n").unwrap();
    assert_eq!(found.directories, ["/a", "/b"]);
    assert!(found.append);
}

#[test]
fn a_directory_is_removed_and_comments_stay() {
    let check = |text: &str, expected: &str| {
        let text = text.replace("OURS", OURS);
        let removed = remove_hooks_dir(&text, OURS, None).unwrap();
        assert_eq!(removed.as_deref(), Some(expected), "{text}");
    };
    check(
        "[engine]\nhooks_dir = [\"OURS\"]\n",
        "[engine]\nhooks_dir = []\n",
    );
    check(
        "[engine]\nhooks_dir = [\"OURS\",]\n",
        "[engine]\nhooks_dir = []\n",
    );
    check(
        "[engine]\nhooks_dir = [\"OURS\", \"/a\"] # x\n",
        "[engine]\nhooks_dir = [\"/a\"] # x\n",
    );
    check(
        "[engine]\nhooks_dir = [\n  \"/a\", # a\n  \"OURS\", # ours\n  \"/b\",\n]\n",
        "[engine]\nhooks_dir = [\n  \"/a\", # a\n   # ours\n  \"/b\",\n]\n",
    );
    check(
        "[engine]\nhooks_dir = [\"OURS\", '/a', \"OURS\"]\n",
        "[engine]\nhooks_dir = ['/a']\n",
    );
    assert_eq!(remove_hooks_dir("[engine]\n", OURS, None), Ok(None));
}

#[test]
fn inserted_lines_are_removed_unless_they_carry_other_keys() {
    let added = add("# mine");
    let inserted = added.inserted.as_deref();
    let removed = remove_hooks_dir(&added.text, OURS, inserted).unwrap();
    assert_eq!(removed.as_deref(), Some("# mine"));
    // The user added a key to the section, which must not lose its header.
    let edited = format!("{}runtime = \"crun\"\n", added.text);
    let removed = remove_hooks_dir(&edited, OURS, inserted).unwrap().unwrap();
    let list = read_hooks_dirs(&removed).unwrap().unwrap();
    assert_eq!(list.directories, DEFAULT_HOOKS_DIRS);
    assert!(removed.contains("[engine]\n") && removed.ends_with("runtime = \"crun\"\n"));
}

/// Returns texts of `containers.conf` in many forms: with and without the section, the list,
/// comments, indentation and a last line end.
fn texts() -> impl Strategy<Value = String> {
    let comment = prop_oneof![Just(""), Just(" # a # comment"), Just("\t# [engine]")];
    let path = prop_oneof![Just("/a"), Just("/b c"), Just("~/hooks"), Just("/d]#\\\"")];
    let list = (
        proptest::collection::vec(path, 0..4),
        any::<bool>(),
        any::<bool>(),
        comment.clone(),
    )
        .prop_map(|(paths, lines, comma, comment)| {
            let (gap, end) = if lines {
                (format!("{comment}\n    "), format!("{comment}\n  "))
            } else {
                (" ".to_owned(), String::new())
            };
            let quoted: Vec<_> = paths.iter().map(|path| format!("\"{path}\"")).collect();
            let comma = if comma && !paths.is_empty() { "," } else { "" };
            let start = if lines { gap.clone() } else { String::new() };
            format!("[{start}{}{comma}{end}]", quoted.join(&format!(",{gap}")))
        });
    let before = prop_oneof![
        Just(""),
        Just("# mine\n\n"),
        Just("[containers]\nenv = [\"A=1\"]\ntz = 'local' # x\n"),
        Just("log = 1979-05-27T07:32:00Z\n[network.a]\nx = -0.0\n"),
    ];
    let after = prop_oneof![
        Just(""),
        Just("\n"),
        Just("\n[engine.runtimes]\ncrun = [\n  \"/usr/bin/crun\",\n]\n"),
        Just("\n[machine]\nimage = \"\"\"\n[engine]\nhooks_dir = []\n\"\"\"\n"),
        Just("\n[[x]]\n[[x]]\ny = {z = inf}"),
    ];
    let keys = prop_oneof![
        Just(""),
        Just("\n  runtime = \"crun\""),
        Just("\n\nx.y = true")
    ];
    let section = prop_oneof![
        Just(String::new()),
        (comment.clone(), keys.clone()).prop_map(|(c, k)| format!("[engine]{c}{k}")),
        (comment.clone(), keys, list, comment)
            .prop_map(|(c, k, list, d)| format!("[ engine ]{c}{k}\n\thooks_dir = {list}{d}")),
    ];
    let parts = (before, section, after, any::<bool>());
    parts.prop_map(|(before, section, after, crlf)| {
        let text = format!("{before}{section}{after}");
        if crlf {
            text.replace('\n', "\r\n")
        } else {
            text
        }
    })
}

proptest! {
    #[test]
    fn an_added_directory_changes_nothing_else(text in texts()) {
        let added = add_hooks_dir(&text, OURS, &defaults()).unwrap().unwrap();
        // All that was there is there, in order.
        let mut rest = added.text.as_str();
        let (before, after) = split_common(&text, &added.text);
        prop_assert_eq!(format!("{before}{after}"), text.clone());
        rest = rest.strip_prefix(before).unwrap();
        prop_assert!(rest.ends_with(after));
        let list = read_hooks_dirs(&added.text).unwrap().unwrap();
        prop_assert_eq!(list.directories.last().map(String::as_str), Some(OURS));
        // And it is gone again without a trace.
        let removed = remove_hooks_dir(&added.text, OURS, added.inserted.as_deref()).unwrap();
        prop_assert_eq!(removed, Some(text));
    }

    #[test]
    fn any_text_is_edited_or_refused(text in ".{0,200}") {
        if let Ok(Some(added)) = add_hooks_dir(&text, OURS, &[]) {
            let removed = remove_hooks_dir(&added.text, OURS, added.inserted.as_deref());
            prop_assert!(removed.unwrap().is_some());
        }
    }

    #[test]
    fn every_path_is_quoted(directory in "/.{0,40}") {
        let added = add_hooks_dir("", &directory, &[]).unwrap().unwrap();
        let list = read_hooks_dirs(&added.text).unwrap().unwrap();
        prop_assert_eq!(list.directories, [directory]);
    }
}

/// Returns the start and the end of `old` between which `new` has more.
fn split_common<'a>(old: &'a str, new: &str) -> (&'a str, &'a str) {
    let same = old
        .bytes()
        .zip(new.bytes())
        .take_while(|(a, b)| a == b)
        .count();
    let mut at = same;
    // The end of the common start may also be the end of what was inserted.
    while !(old.is_char_boundary(at) && new.ends_with(&old[at..])) {
        at -= 1;
    }
    old.split_at(at)
}
