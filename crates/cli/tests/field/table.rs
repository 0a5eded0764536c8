// SPDX-License-Identifier: Apache-2.0
//! The table of `list`: aligned columns, whole lines in a pipe, words whole on a terminal.

use std::io::Read as _;

use test_support::pseudo_terminal::PseudoTerminal;

use super::harness::UserSession;

/// Returns the column in which the last of the three columns starts.
fn destination_column(line: &str) -> usize {
    let dest = line
        .find(".example port")
        .unwrap_or_else(|| line.find("WANTS").unwrap());
    line[..dest].rfind("  ").map_or(dest, |gap| gap + 2)
}

#[test]
fn a_table_in_a_pipe_is_aligned_and_never_broken() {
    let session = UserSession::new();
    let long = format!("{}.example", "a".repeat(60));
    let _short = session.sandbox("a", &["one.example", &long]);
    let _middle = session.sandbox("a-name-of-medium-length", &["two.example"]);
    let _wide = session.sandbox(&format!("long name {}", "x".repeat(60)), &["three.example"]);
    let mut outputs = Vec::new();
    for columns in [
        None,
        Some("1"),
        Some("20"),
        Some("80"),
        Some("500"),
        Some("x"),
    ] {
        let mut command = session.command(&["list"]);
        if let Some(columns) = columns {
            command.env("COLUMNS", columns);
        }
        let output = super::harness::output_of(&mut command);
        assert_eq!(output.status, Some(0));
        let lines: Vec<_> = output.stdout.lines().collect();
        assert_eq!(lines.len(), 1 + 2 * 4, "{}", output.stdout);
        let heads = lines.iter().filter(|line| !line.starts_with("    "));
        let starts: Vec<_> = heads.map(|line| destination_column(line)).collect();
        assert_eq!(starts.len(), 5);
        assert!(
            starts.iter().all(|start| *start == starts[0]),
            "{}",
            output.stdout
        );
        outputs.push(
            lines
                .iter()
                .map(|line| line.split(" ago").next().unwrap().len())
                .sum::<usize>(),
        );
    }
    assert!(
        outputs.iter().all(|length| *length == outputs[0]),
        "{outputs:?}"
    );
}

#[test]
fn a_table_on_a_terminal_fits_and_loses_no_word() {
    let session = UserSession::new();
    let _web = session.sandbox("web", &["one.example", "two.example"]);
    let _other = session.sandbox("a-name-of-medium-length", &["three.example"]);
    let words = |text: &str| {
        let words = text
            .split_whitespace()
            .filter(|word| !word.bytes().all(|b| b.is_ascii_digit()));
        words.map(str::to_owned).collect::<Vec<_>>()
    };
    let piped = session.run(&["list"]).stdout;
    for columns in [1_u16, 20, 40, 80, 132, 400] {
        let terminal = PseudoTerminal::open(24, columns);
        let mut command = session.command(&["list", "--color", "never"]);
        let mut list = command.stdout(terminal.stdio()).spawn().unwrap();
        drop(command);
        let mut reader = terminal.into_master();
        let mut text = Vec::new();
        // The end of a pseudo-terminal's last writer is an error.
        drop(reader.read_to_end(&mut text));
        assert!(list.wait().unwrap().success());
        let text = String::from_utf8(text).unwrap().replace("\r\n", "\n");
        assert_eq!(words(&text), words(&piped), "{columns}: {text}");
        let longest = words(&text).iter().map(String::len).max().unwrap();
        for line in text.lines() {
            assert!(
                line.len() <= usize::from(columns).max(longest + 4),
                "{columns}: {line}"
            );
        }
    }
}
