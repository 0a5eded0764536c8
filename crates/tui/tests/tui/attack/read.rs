// SPDX-License-Identifier: Apache-2.0
//! Reads from the text of a screen what a key would answer.

use std::collections::BTreeMap;

use operator::AnswerScope;
use terok_clearance::{Action, RuleLifetime};

/// The question that a screen asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Read {
    /// One question, with everything that `allow` opens and `deny` closes.
    Question(u64, [String; 2]),
    /// The confirm dialog: the answer, the number of questions with the chosen lifetime, and the
    /// questions that are shown in full, each with what the answer does.
    Together(Action, (usize, Option<String>), BTreeMap<u64, String>),
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
        items.retain(|_, words| said(words).is_some());
        let chosen = lines.iter().find_map(|line| {
            let (_, from) = line.split_once('[').filter(|_| !line.starts_with(" ["))?;
            from.split_once(']').map(|(chosen, _)| chosen.to_owned())
        });
        return Read::Together(action, (many, chosen), items);
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
            let mut read = before.map_or_else(BTreeMap::new, |(_, read)| read);
            // A text that has become another one must be read anew.
            let is_new = |(at, line): (usize, &&str)| read.get(&at).is_some_and(|old| old != line);
            if (first..).zip(page).any(is_new) {
                read.clear();
            }
            let new = page.iter().map(|line| (*line).to_owned());
            let read: BTreeMap<_, _> = read.into_iter().chain((first..).zip(new)).collect();
            let whole = read.iter().zip(1..).take_while(|((at, _), n)| **at == *n);
            let whole: Vec<_> = whole.map(|((_, line), _)| line.clone()).collect();
            *part = Some((number, read));
            whole
        }
    };
    effects(&all).map_or(Read::Nothing, |words| Read::Question(number, words))
}

/// Returns the number of the first visible line: 3 for `1 ─── 3-8 of 18 ─`.
fn place(head: &str) -> Option<usize> {
    let (from, _) = head.split_once(" of ")?;
    let (first, _) = from.rsplit(' ').next()?.split_once('-')?;
    first.parse().ok()
}

/// Returns the texts of what an answer opens and closes, if the lines contain all of both.
fn effects(lines: &[String]) -> Option<[String; 2]> {
    let mut words = [String::new(), String::new()];
    let mut at = None;
    for line in lines {
        if line.starts_with(" a allow  ") {
            at = Some(0);
        } else if line.starts_with(" x deny   ") && at == Some(0) {
            at = Some(1);
        } else if line.starts_with(" from     ") && at == Some(1) {
            return Some(words);
        } else if !line.starts_with("          ") {
            at = None;
        }
        if let Some(at) = at {
            join(&mut words[at], &line[10.min(line.len())..]);
        }
    }
    None
}

/// Returns the scope that a text promises, and the present addresses in it: `opens a.example port
/// 443/tcp, for this run (now 203.0.113.7)`. `None` if the text is cut off.
pub(crate) fn said(words: &str) -> Option<(AnswerScope, String)> {
    let (words, addresses) = match words.strip_prefix("opens ") {
        Some(words) => match words.split_once(" (now ") {
            Some((words, addresses)) => (words, addresses.strip_suffix(')')?),
            // Only the text of a wider name has no address.
            None => (words.strip_suffix(" receives what is looked up")?, ""),
        },
        None => (words.strip_prefix("refuses ")?, ""),
    };
    let (reach, lifetime) = words.split_once(" port 443/tcp, ")?;
    let lifetime = lifetime
        .split_once("; whoever runs ")
        .map_or(lifetime, |(lifetime, _)| lifetime);
    let dest = match reach.strip_prefix("every name below ") {
        Some(names) => {
            let (parent, not) = names.split_once(" (not ")?;
            assert_eq!(not, format!("{parent} itself)"));
            Some(format!("*.{parent}").parse().unwrap())
        }
        None => None,
    };
    let (keep, seconds) = match lifetime {
        "once: the next connection within 60 s"
        | "once: the connection that waits now"
        | "once: the connections that wait now" => (RuleLifetime::Once, None),
        "for 5 minutes" => (RuleLifetime::Sandbox, Some(300)),
        "for 1 hour" => (RuleLifetime::Sandbox, Some(3600)),
        "for this run" => (RuleLifetime::Sandbox, None),
        "for this project, also in later runs" => (RuleLifetime::Project, None),
        "always, in every sandbox" => (RuleLifetime::Always, None),
        _ => return None,
    };
    let scope = AnswerScope {
        dest,
        keep,
        seconds,
    };
    Some((scope, addresses.to_owned()))
}
