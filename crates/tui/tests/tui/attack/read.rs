// SPDX-License-Identifier: Apache-2.0
//! Reads from the text of a screen what a key would answer.

use std::collections::BTreeMap;

use terok_clearance::Action;

/// The question that a screen asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Read {
    /// One question, with everything that an answer opens.
    Question(u64, String),
    /// The confirm dialog: the answer, the number of questions, and the questions that are shown in
    /// full, each with what the answer opens.
    Together(Action, usize, BTreeMap<u64, String>),
    /// Nothing that a key could answer.
    Nothing,
}

/// Returns the rest of the title and the lines of the pane whose title starts with `title`.
fn pane<'a>(screen: &'a str, title: &str) -> Option<(&'a str, Vec<&'a str>)> {
    let mut lines = screen.lines().skip(1);
    let lines = &mut lines;
    let head =
        lines.find_map(|line| line.strip_prefix("\u{2500}\u{2500} ")?.strip_prefix(title))?;
    let body = lines.take_while(|line| !line.starts_with('\u{2500}'));
    Some((head, body.collect()))
}

pub(crate) fn number(text: &str) -> Option<u64> {
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

/// Returns `true` if the filter is being edited.
pub(crate) fn is_typing(screen: &str) -> bool {
    screen.contains("\n filter: ")
}

/// The lines of a question that were read while scrolling: its number, and each line by its number.
pub(crate) type Part = Option<(u64, BTreeMap<usize, String>)>;

pub(crate) fn read(screen: &str, part: &mut Part) -> Read {
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
        // The two lines at the bottom do not belong to the page.
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
        // The last question may be cut off.
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
        // The question is read part by part.
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

/// Returns the number of the first visible line: 3 for `1 ─── 3-8 of 18 ─`.
fn place(head: &str) -> Option<usize> {
    let (from, _) = head.split_once(" of ")?;
    let (first, _) = from.rsplit(' ').next()?.split_once('-')?;
    first.parse().ok()
}

/// Returns the text of what an answer opens, if the lines contain all of it.
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
