// SPDX-License-Identifier: Apache-2.0
//! Reads the screen as a person does: what it says that a key would answer.

use std::collections::BTreeMap;

use terok_clearance::Action;

/// What a person reads on a screen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Read {
    /// All that an answer to one question opens.
    Question(u64, String),
    /// The marked ones are about to be answered: with what, how many, and those that are to be
    /// seen to their end, each with what it opens.
    Together(Action, usize, BTreeMap<u64, String>),
    /// Nothing that a key may answer.
    Nothing,
}

/// Returns the lines of the pane whose title begins so, and the rest of the title.
fn pane<'a>(screen: &'a str, title: &str) -> Option<(&'a str, Vec<&'a str>)> {
    let mut lines = screen.lines().skip(1);
    let lines = &mut lines;
    let head =
        lines.find_map(|line| line.strip_prefix("\u{2500}\u{2500} ")?.strip_prefix(title))?;
    let body = lines.take_while(|line| !line.starts_with('\u{2500}'));
    Some((head, body.collect()))
}

pub(super) fn number(text: &str) -> Option<u64> {
    let digits: String = text.chars().take_while(char::is_ascii_digit).collect();
    digits.parse().ok()
}

fn join(words: &mut String, more: &str) {
    if !words.is_empty() {
        words.push(' ');
    }
    words.push_str(more.trim());
    words.truncate(words.trim_end().len());
}

/// Says whether a filter is typed, so that a key is its text.
pub(super) fn is_typing(screen: &str) -> bool {
    screen.contains("\n filter: ")
}

/// The parts of a question that were scrolled through: of which, and its lines by their number.
pub(super) type Part = Option<(u64, BTreeMap<usize, String>)>;

pub(super) fn read(screen: &str, part: &mut Part) -> Read {
    for (title, action) in [("ALLOW th", Action::Allow), ("DENY th", Action::Deny)] {
        let Some((head, lines)) = pane(screen, title) else {
            continue;
        };
        let many = if head.starts_with("is one") {
            1
        } else {
            let many = head.strip_prefix("ese ").and_then(number).unwrap();
            usize::try_from(many).unwrap()
        };
        let mut items = BTreeMap::new();
        let mut item: Option<(u64, String)> = None;
        // The two lines at the bottom are none of the page.
        let page = lines.len().saturating_sub(2);
        for line in &lines[..page] {
            if let Some(text) = line.strip_prefix(" [") {
                items.extend(item.take());
                item = Some((number(text).unwrap(), String::new()));
            } else if let Some((_, words)) = &mut item {
                join(words, line);
            }
        }
        items.extend(item);
        // Of the last one only a part may be there.
        items.retain(|_, words| words.ends_with("while the sandbox lives"));
        return Read::Together(action, many, items);
    }
    let Some((head, lines)) = pane(screen, "Question ") else {
        *part = None;
        return Read::Nothing;
    };
    let number = number(head).unwrap();
    let all = match place(head) {
        None => lines.iter().map(|line| (*line).to_owned()).collect(),
        // It is read part by part.
        Some(first) => {
            let page = &lines[..lines.len().saturating_sub(2)];
            let before = part.take_if(|(of, _)| *of == number);
            let read = before.map_or_else(BTreeMap::new, |(_, read)| read);
            let new = page.iter().map(|line| (*line).to_owned());
            let read: BTreeMap<_, _> = read.into_iter().chain((first..).zip(new)).collect();
            let whole = read.iter().zip(1..).take_while(|((at, _), n)| **at == *n);
            let whole: Vec<_> = whole.map(|((_, line), _)| line.clone()).collect();
            *part = Some((number, read));
            whole
        }
    };
    opens(&all).map_or(Read::Nothing, |words| Read::Question(number, words))
}

/// Returns which line is the first: of `1 ─── 3-8 of 18 ─`, it is 3.
fn place(head: &str) -> Option<usize> {
    let (from, _) = head.split_once(" of ")?;
    let (first, _) = from.rsplit(' ').next()?.split_once('-')?;
    first.parse().ok()
}

/// Returns what the lines say that an answer opens, if all of it is there.
fn opens(lines: &[String]) -> Option<String> {
    let mut words = String::new();
    let mut lines = lines
        .iter()
        .skip_while(|line| !line.starts_with(" a allow  "));
    join(&mut words, &lines.next()?[" a allow  ".len()..]);
    for line in lines {
        if line.starts_with(" x deny") {
            return Some(words);
        }
        join(&mut words, line);
    }
    None
}
