// SPDX-License-Identifier: Apache-2.0
//! Breaks text for a terminal between words, by the width of characters on the screen.

use unicode_width::UnicodeWidthChar as _;

/// Returns the columns of a text on a terminal. Sequences for colours (`ESC [ … m`) take none.
pub(crate) fn display_width(text: &str) -> usize {
    let mut width = 0_usize;
    let mut characters = text.chars();
    while let Some(character) = characters.next() {
        if character == '\u{1b}' {
            // The final character of a control sequence is a letter.
            characters.by_ref().find(char::is_ascii_alphabetic);
        } else {
            width = width.saturating_add(character.width().unwrap_or(0));
        }
    }
    width
}

/// Pads a cell with spaces to `columns`.
pub(crate) fn pad_cell(text: &str, columns: usize) -> String {
    let missing = columns.saturating_sub(display_width(text));
    format!("{text}{}", " ".repeat(missing))
}

/// Breaks each line of `text` between words, so that it has at most `width` columns. Further lines
/// are indented by `indent`, or as their first one if that is more.
///
/// A word that is wider stays whole, on a line of its own: names are copied.
pub fn wrap_lines(text: &str, width: usize, indent: usize) -> String {
    let mut wrapped = String::with_capacity(text.len());
    for line in text.split_inclusive('\n') {
        wrap_line(line, width, indent, &mut wrapped);
    }
    wrapped
}

fn wrap_line(line: &str, width: usize, indent: usize, wrapped: &mut String) {
    if display_width(line.trim_end_matches('\n')) <= width {
        wrapped.push_str(line);
        return;
    }
    let own = line
        .len()
        .saturating_sub(line.trim_start_matches(' ').len());
    let indent = indent.max(own);
    let (start, words) = line.split_at(own);
    wrapped.push_str(start);
    let (mut column, mut is_first) = (own, true);
    // The spaces between two words are left out at a break.
    let mut spaces = 0;
    for word in words.trim_end_matches('\n').split(' ') {
        if word.is_empty() {
            spaces += 1;
            continue;
        }
        let gap = if is_first { 0 } else { spaces + 1 };
        let end = column
            .saturating_add(gap)
            .saturating_add(display_width(word));
        if end > width && !is_first {
            wrapped.push('\n');
            wrapped.push_str(&" ".repeat(indent));
            column = indent.saturating_add(display_width(word));
        } else {
            wrapped.push_str(&" ".repeat(gap));
            column = end;
        }
        wrapped.push_str(word);
        (spaces, is_first) = (0, false);
    }
    if line.ends_with('\n') {
        wrapped.push('\n');
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn width_is_that_of_the_screen() {
        for (text, width) in [
            ("", 0),
            ("abc", 3),
            ("\u{1b}[1;33mabc\u{1b}[0m", 3),
            ("b\u{fc}cher", 6),
            ("\u{65e5}\u{672c}", 4),
            ("e\u{301}", 1),
        ] {
            assert_eq!(display_width(text), width, "{text:?}");
        }
        assert_eq!(pad_cell("\u{65e5}", 4), "\u{65e5}  ");
        assert_eq!(pad_cell("abcde", 4), "abcde");
    }

    #[test]
    fn lines_break_between_words_and_no_word_is_lost() {
        let check = |text: &str, width: usize, expected: &str| {
            assert_eq!(wrap_lines(text, width, 4), expected);
        };
        check("one two three\n", 13, "one two three\n");
        check("one two three\n", 12, "one two\n    three\n");
        check("one  two\nthree\n", 8, "one  two\nthree\n");
        check("      one two\n", 9, "      one\n      two\n");
        check("aaaaaaaa bb", 5, "aaaaaaaa\n    bb");
        check(
            "\u{1b}[1mone\u{1b}[0m two",
            6,
            "\u{1b}[1mone\u{1b}[0m\n    two",
        );
        check("\u{65e5}\u{672c} two", 7, "\u{65e5}\u{672c}\n    two");
        let text = "blocked once, 5 s ago; allow opens tcp port 443 of one.example\n";
        for width in 0..80 {
            let wrapped = wrap_lines(text, width, 4);
            let words: Vec<_> = wrapped.split_whitespace().collect();
            assert_eq!(words, text.split_whitespace().collect::<Vec<_>>());
            let longest = words.iter().map(|word| word.len()).max().unwrap();
            for line in wrapped.lines() {
                assert!(line.len() <= width.max(longest + 4), "{width}: {line}");
            }
        }
    }
}
