// SPDX-License-Identifier: Apache-2.0

use proptest::prelude::*;

use super::*;
use crate::USER_KEYS;

/// Stands for the parsers of the flags.
fn check_text(key: &SettingKey, text: &str) -> Result<(), String> {
    match (key.name, text) {
        ("hold", "soon") => Err("write 30s or forever".to_owned()),
        _ => Ok(()),
    }
}

fn parse(text: &str) -> Result<SettingsFile, SettingsErrors> {
    SettingsFile::parse(Path::new("c.toml"), text, USER_KEYS, &check_text)
}

fn errors(text: &str) -> String {
    parse(text).unwrap_err().to_string()
}

fn value(text: &str, table: &str, name: &str) -> String {
    let file = parse(text).unwrap();
    file.entry(table, name).unwrap().value.to_string()
}

#[test]
fn each_way_to_write_a_table_has_the_same_values() {
    for text in [
        "[run]\nhold = \"5m\"",
        "run.hold = '5m'",
        "run = { hold = '''5m''' }",
        "[ask]\n[run]\n\"hold\" = \"5\\u006d\" # x",
    ] {
        assert_eq!(value(text, "run", "hold"), "\"5m\"");
    }
}

#[test]
fn an_error_has_its_place_its_line_and_a_suggestion() {
    let expected = "c.toml:2:3: unknown key `holdd` in [run]: did you mean `hold`?\n  \
                    2 |   holdd = \"5m\"";
    assert_eq!(errors("[run]\n  holdd = \"5m\""), expected);
    let expected = "c.toml:1:2: unknown table [runn]: did you mean [run]?\n  1 | [runn]";
    assert_eq!(errors("[runn]"), expected);
    for (text, reason) in [
        (
            "hold = '5m'",
            "`hold` belongs in a table: write [run] above it",
        ),
        (
            "[run]\nbell = 'off'",
            "unknown key `bell` in [run]: it belongs in [ask]",
        ),
        ("[run]\nzebra = 1", "unknown key `zebra` in [run]\n"),
        ("run = 1", "[run] is a table of keys, not a value"),
        (
            "[[run]]\nhold = '5m'",
            "[run] is a table of keys, not a value",
        ),
        (
            "[run]\npids = '9'",
            "`pids` is a whole number of at least 1, not a text",
        ),
        ("[run]\npids = 0", "`pids`: a whole number of at least 1"),
        (
            "[run]\npids = 99999999999",
            "`pids`: a whole number of at least 1",
        ),
        (
            "[run]\ncheck_sni = 1",
            "`check_sni` is true or false, not a number",
        ),
        ("[run]\nhold = 60", "`hold` is a text, not a number"),
        ("[run]\nhold = 'soon'", "`hold`: write 30s or forever"),
        (
            "[run]\nui = 'dektop'",
            "`ui`: \"dektop\" is not one of auto, desktop, tui, none: did you mean \"desktop\"?",
        ),
        (
            "[run]\nallow = 'a.example'",
            "`allow` is a list of destinations",
        ),
        ("[run]\napprover = []", "`approver`: there is no program"),
        ("[run]\napprover = ''", "`approver`: an empty text"),
        ("[run]\nprofiles = ['']", "`profiles`: an empty text"),
        (
            "[run]\napprover_timeout = '5'",
            "`approver_timeout`: \"5\" is not a time",
        ),
        (
            "[ask]\ndefault_scope = 'forever'",
            "`default_scope`: \"forever\" is not how long",
        ),
        (
            "[notify]\nevents = ['block']",
            "`events`: \"block\" is not one of",
        ),
        ("[run]\nhold = 1970-01-01", "`hold` is a text, not a date"),
    ] {
        let found = errors(text);
        assert!(found.contains(reason), "{text}: {found}");
    }
}

#[test]
fn every_error_of_a_file_is_reported_in_the_order_of_its_lines() {
    let text = "[run]\nallow = ['ok.example', '169.254.169.254', 'a b', 7]\nx = 1\n[ask]\nbell = 2";
    let found = parse(text).unwrap_err();
    let places: Vec<_> = found
        .problems
        .iter()
        .map(|problem| (problem.line, problem.column))
        .collect();
    assert_eq!(places, [(2, 24), (2, 43), (2, 50), (3, 1), (5, 8)]);
    let text = found.to_string();
    assert!(
        text.starts_with("c.toml has 5 errors\n2:24: `allow`: "),
        "{text}"
    );
}

#[test]
fn text_of_the_file_is_harmless_in_an_error() {
    let found = errors("[run]\n\"a\\u001b[31m\u{202e}\" = '\u{202e}'");
    assert!(!found.contains(['\u{1b}', '\u{202e}']), "{found:?}");
    let syntax = errors("[run]\nhold = \u{1b}[31m");
    assert!(syntax.contains("not TOML") && !syntax.contains('\u{1b}'));
    assert!(errors("[run]\nhold = '5m'\nhold = '6m'").contains("c.toml:3:1: not TOML"));
    assert!(errors(&format!("{} = 1", "x".repeat(5_000))).len() < 500);
}

#[test]
fn a_program_is_a_text_or_a_list() {
    assert_eq!(
        value("run.approver = '/a b'", "run", "approver"),
        "[\"/a b\"]"
    );
    let list = value("run.approver = ['/a', '']", "run", "approver");
    assert_eq!(list, "[\"/a\", \"\"]");
}

#[test]
fn a_deeply_nested_or_hostile_file_is_an_error() {
    for text in [
        format!("run = {}", "[".repeat(100_000)),
        format!("run = {}", "{a=".repeat(100_000)),
        format!("[{}a]", "a.".repeat(50_000)),
        "[x]\n".repeat(50_000),
        (0..50_000).fold(String::new(), |text, n| text + &format!("x{n} = 1\n")),
    ] {
        let found = parse(&text).unwrap_err();
        assert!(found.problems.len() <= MAX_PROBLEMS);
    }
}

proptest! {
    #[test]
    fn a_written_text_is_the_same_text(text in any::<String>()) {
        let mut written = String::new();
        let shown = SettingValue::Text(text.clone()).to_string();
        written.push_str("[run]\nhold = ");
        written.push_str(&shown);
        if text != "soon" {
            let file = parse(&written).unwrap();
            let entry = file.entry("run", "hold").unwrap();
            prop_assert_eq!(&entry.value, &SettingValue::Text(text));
        }
    }

    #[test]
    fn any_text_is_parsed_or_refused(text in ".{0,200}") {
        if let Err(found) = parse(&text) {
            prop_assert!(!found.problems.is_empty());
            let lines = text.lines().count() + 1;
            prop_assert!(found.problems.iter().all(|problem| problem.line <= lines));
        }
    }
}
