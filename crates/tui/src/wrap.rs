// SPDX-License-Identifier: Apache-2.0
//! Fits text into columns: cut with a mark where it may be cut, wrapped where all of it counts.

use unicode_width::{UnicodeWidthChar as _, UnicodeWidthStr as _};

/// Returns `text` in at most `width` columns; what was cut ends in dots.
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

/// Returns `text` in at most `width` columns, cut in its middle: of a name, the end says whose it is.
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

/// Returns all of `text` in lines of at most `width` columns, broken at spaces where there are any.
pub(crate) fn wrap(text: &str, width: usize) -> Vec<String> {
    let width = width.max(1);
    let mut lines = Vec::new();
    let mut line = String::new();
    for word in text.split(' ') {
        let mut word = word;
        let gap = usize::from(!line.is_empty());
        if line.width() + gap + word.width() <= width {
            if gap == 1 {
                line.push(' ');
            }
            line.push_str(word);
            continue;
        }
        if !line.is_empty() {
            lines.push(std::mem::take(&mut line));
        }
        while word.width() > width {
            let mut room = width;
            let end = word.char_indices().find_map(|(at, c)| {
                let rest = room.checked_sub(c.width().unwrap_or(0));
                room = rest.unwrap_or(0);
                rest.is_none().then_some(at)
            });
            // Wider than the line: one character at least.
            let first = word.chars().next().map_or(0, char::len_utf8);
            let (now, rest) = word.split_at(end.unwrap_or(word.len()).max(first));
            lines.push(now.to_owned());
            word = rest;
        }
        line.push_str(word);
    }
    if !line.is_empty() || lines.is_empty() {
        lines.push(line);
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cut_shows_and_counts_columns() {
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
    fn the_end_of_a_name_is_kept() {
        let name = "www.bank.example.aaaaaaaaaaaaaaaaaaaaaaaaaa.evil.example port 443/tcp";
        assert_eq!(
            truncate_middle(name, 40),
            "www.bank....aa.evil.example port 443/tcp"
        );
        assert_eq!(truncate_middle("short", 40), "short");
    }

    proptest::proptest! {
        #[test]
        fn nothing_is_wider_than_its_place_and_wrapping_loses_nothing(
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
