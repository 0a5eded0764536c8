// SPDX-License-Identifier: Apache-2.0
//! Fits text into columns: shortened if a part is enough, wrapped if all of it must be readable.

use std::borrow::Cow;

use textwrap::{Options, WordSeparator, WordSplitter, WrapAlgorithm};
use unicode_width::{UnicodeWidthChar as _, UnicodeWidthStr as _};

/// Returns `text` in at most `width` columns; a shortened text ends in dots.
pub(crate) fn truncate(text: &str, width: usize) -> String {
    if text.width() <= width {
        return text.to_owned();
    }
    let dots = width.min(3);
    let mut room = width.saturating_sub(dots);
    let mut kept = String::new();
    for c in text.chars() {
        let Some(rest) = room.checked_sub(c.width().unwrap_or(0)) else {
            break;
        };
        room = rest;
        kept.push(c);
    }
    kept.extend(std::iter::repeat_n('.', dots));
    kept
}

/// Returns `text` in at most `width` columns, shortened in the middle: the end of a domain name
/// identifies its owner.
pub(crate) fn truncate_middle(text: &str, width: usize) -> String {
    let Some(room) = width.checked_sub(3).filter(|_| text.width() > width) else {
        return truncate(text, width);
    };
    let end = room - room / 4;
    let mut columns = 0;
    let kept = text.char_indices().rev().take_while(|(_, c)| {
        columns += c.width().unwrap_or(0);
        columns <= end
    });
    let from = kept.last().map_or(text.len(), |(at, _)| at);
    let (start, end) = text.split_at(from);
    let start = truncate(start, room / 4 + 3);
    format!("{start}{end}")
}

/// Returns all of `text` in lines of at most `width` columns, broken at spaces if possible.
pub(crate) fn wrap(text: &str, width: usize) -> Vec<String> {
    let options = Options::new(width.max(1))
        .wrap_algorithm(WrapAlgorithm::FirstFit)
        .word_separator(WordSeparator::AsciiSpace)
        .word_splitter(WordSplitter::NoHyphenation);
    let lines = textwrap::wrap(text, options).into_iter();
    lines.map(Cow::into_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shortened_text_ends_in_dots() {
        assert_eq!(truncate("abcdef", 6), "abcdef");
        assert_eq!(truncate("abcdef", 5), "ab...");
        assert_eq!(truncate("abcdef", 2), "..");
        assert_eq!(truncate("abcdef", 0), "");
        assert_eq!(
            truncate("\u{6f22}\u{5b57}\u{6f22}\u{5b57}", 6),
            "\u{6f22}..."
        );
    }

    #[test]
    fn shortened_name_keeps_its_end() {
        let name = "www.bank.example.aaaaaaaaaaaaaaaaaaaaaaaaaa.evil.example port 443/tcp";
        assert_eq!(
            truncate_middle(name, 40),
            "www.bank....aa.evil.example port 443/tcp"
        );
        assert_eq!(truncate_middle("short", 40), "short");
    }

    proptest::proptest! {
        #[test]
        fn no_text_exceeds_the_width_and_wrapping_keeps_all_characters(
            text in "[a-z\u{6f22}\u{301} ]{0,80}", width in 2_usize..30
        ) {
            assert!(truncate(&text, width).width() <= width);
            assert!(truncate_middle(&text, width).width() <= width);
            let lines = wrap(&text, width);
            assert!(lines.iter().all(|line| line.width() <= width), "{lines:?}");
            let all = |text: &str| text.replace(' ', "");
            assert_eq!(all(&lines.concat()), all(&text));
        }
    }
}
