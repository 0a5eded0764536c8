// SPDX-License-Identifier: Apache-2.0
//! The keys: one table for each mode, which is also what the help and the bottom line print.

use crossterm::event::{KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use terok_clearance::Action;

/// What a person may ask of the UI.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Command {
    /// Go somewhere in a list or a page.
    Go(Move),
    /// Answer the question, or ask to answer the marked ones.
    Answer(Action),
    /// Answer the marked ones, as was asked.
    Confirm,
    /// Mark the question, or take its mark away.
    Mark,
    /// Mark all that are shown, or take all marks away.
    MarkAll,
    /// Show all about the question.
    Open,
    /// Go back to where one came from; at the start, leave.
    Back,
    /// Type a filter.
    Filter,
    /// Keep the filter that was typed.
    KeepFilter,
    /// Take away the filter's last character.
    Erase,
    /// Take away the filter.
    EraseAll,
    /// Add to the filter.
    Type(char),
    /// Show the keys.
    Help,
    /// Show all that happened.
    Log,
    /// Show the sandboxes.
    Sandboxes,
    /// Look for hubs again, and draw everything anew.
    Refresh,
    /// Take the mouse, or leave it to the terminal.
    Mouse,
    /// Leave, at the next moment in which no answer is on its way.
    Quit,
    /// Leave at once.
    Interrupt,
    /// Stop, as a job of the shell.
    Suspend,
    /// A key that means nothing here.
    Unknown,
}

/// Where to go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Move {
    /// So many lines down; negative, up.
    Lines(i32),
    /// So many windows down; negative, up.
    Pages(i32),
    /// To the first line.
    First,
    /// To the last line.
    Last,
}

/// What the screen is about, and so what keys mean.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mode {
    /// The list.
    Questions,
    /// A filter is typed.
    Filter,
    /// All about one question.
    Details,
    /// Answering the marked ones.
    Confirm,
    /// A page to read.
    Page(Page),
}

/// A page to read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Page {
    Help,
    Log,
    Sandboxes,
}

/// A line of a table.
pub(super) struct Binding {
    keys: &'static [KeyCode],
    control: bool,
    /// How the keys are called.
    pub(super) name: &'static str,
    /// What they do, for the help.
    pub(super) help: &'static str,
    /// The same in a word, for the bottom line; none, it is not there.
    pub(super) short: Option<&'static str>,
    command: Command,
}

const fn key(
    keys: &'static [KeyCode],
    name: &'static str,
    command: Command,
    short: Option<&'static str>,
    help: &'static str,
) -> Binding {
    Binding {
        keys,
        control: false,
        name,
        help,
        short,
        command,
    }
}

const fn control(
    keys: &'static [KeyCode],
    name: &'static str,
    command: Command,
    help: &'static str,
) -> Binding {
    Binding {
        control: true,
        ..key(keys, name, command, None, help)
    }
}

use Command as C;
use KeyCode::{Char, Down, End, Enter, Esc, Home, PageDown, PageUp, Up};

const UP: Binding = key(
    &[Up, Char('k')],
    "Up k",
    C::Go(Move::Lines(-1)),
    None,
    "one up",
);
const DOWN: Binding = key(
    &[Down, Char('j')],
    "Down j",
    C::Go(Move::Lines(1)),
    None,
    "one down",
);
const PAGE_UP: Binding = key(
    &[PageUp],
    "PgUp",
    C::Go(Move::Pages(-1)),
    None,
    "a window up",
);
const PAGE_DOWN: Binding = key(
    &[PageDown],
    "PgDn",
    C::Go(Move::Pages(1)),
    None,
    "a window down",
);
const FIRST: Binding = key(
    &[Home, Char('g')],
    "Home g",
    C::Go(Move::First),
    None,
    "to the first",
);
const LAST: Binding = key(
    &[End, Char('G')],
    "End G",
    C::Go(Move::Last),
    None,
    "to the last",
);
const ALLOW: Binding = key(
    &[Char('a')],
    "a",
    C::Answer(Action::Allow),
    Some("allow"),
    "allow: open exactly what the screen says",
);
const DENY: Binding = key(
    &[Char('x'), Char('d')],
    "x d",
    C::Answer(Action::Deny),
    Some("deny"),
    "deny: refuse it without asking again",
);
const HELP: Binding = key(
    &[Char('?')],
    "?",
    C::Help,
    Some("help"),
    "this help; Esc or q leaves it",
);
const BACK: Binding = key(
    &[Esc, Char('q')],
    "Esc q",
    C::Back,
    Some("back"),
    "back to the list",
);
const REFRESH: Binding = control(
    &[Char('l')],
    "Ctrl-L",
    C::Refresh,
    "draw everything anew, and look for hubs again",
);
const SUSPEND: Binding = control(
    &[Char('z')],
    "Ctrl-Z",
    C::Suspend,
    "back to the shell; fg returns",
);
const INTERRUPT: Binding = control(&[Char('c')], "Ctrl-C", C::Interrupt, "leave at once");

/// The list's keys.
pub(super) const QUESTIONS: &[Binding] = &[
    ALLOW,
    DENY,
    key(
        &[Char(' ')],
        "Space",
        C::Mark,
        Some("mark"),
        "mark, to answer several together",
    ),
    key(
        &[Char('*')],
        "*",
        C::MarkAll,
        None,
        "mark all that are listed, or take all marks away",
    ),
    key(
        &[Enter],
        "Enter",
        C::Open,
        Some("more"),
        "all that is known about the question",
    ),
    key(
        &[Char('/')],
        "/",
        C::Filter,
        Some("filter"),
        "list only what has this text in it",
    ),
    HELP,
    key(
        &[Char('q')],
        "q",
        C::Quit,
        Some("quit"),
        "quit; what is not answered stays asked, and nothing is opened",
    ),
    UP,
    DOWN,
    PAGE_UP,
    PAGE_DOWN,
    FIRST,
    LAST,
    key(
        &[Char('l')],
        "l",
        C::Log,
        Some("log"),
        "all that happened since the start",
    ),
    key(
        &[Char('s')],
        "s",
        C::Sandboxes,
        Some("sandboxes"),
        "the sandboxes and their firewalls",
    ),
    key(
        &[Char('m')],
        "m",
        C::Mouse,
        None,
        "the mouse: a click selects, or the terminal's own selection",
    ),
    REFRESH,
    SUSPEND,
    key(
        &[Esc],
        "Esc",
        C::Back,
        None,
        "take the filter away, then the marks",
    ),
    INTERRUPT,
];

/// The keys while a filter is typed; other characters are its text.
pub(super) const FILTER: &[Binding] = &[
    key(
        &[Enter],
        "Enter",
        C::KeepFilter,
        Some("keep"),
        "keep the filter",
    ),
    key(
        &[Esc],
        "Esc",
        C::Back,
        Some("no filter"),
        "take the filter away",
    ),
    key(
        &[KeyCode::Backspace],
        "Backspace",
        C::Erase,
        None,
        "take the last character away",
    ),
    control(&[Char('u')], "Ctrl-U", C::EraseAll, "take all of it away"),
    key(&[Up], "Up", C::Go(Move::Lines(-1)), None, "one up"),
    key(&[Down], "Down", C::Go(Move::Lines(1)), None, "one down"),
    SUSPEND,
    INTERRUPT,
];

/// The keys where all about one question is shown.
pub(super) const DETAILS: &[Binding] = &[
    ALLOW, DENY, UP, DOWN, PAGE_UP, PAGE_DOWN, FIRST, LAST, REFRESH, SUSPEND, HELP, BACK, INTERRUPT,
];

/// The keys where the marked ones are about to be answered.
pub(super) const CONFIRM: &[Binding] = &[
    key(
        &[Char('y')],
        "y",
        C::Confirm,
        Some("yes, all of them"),
        "answer all of them; to allow, every one must have been shown",
    ),
    key(
        &[Esc, Char('n'), Char('q')],
        "n Esc",
        C::Back,
        Some("no"),
        "answer none",
    ),
    UP,
    DOWN,
    key(
        &[PageDown],
        "PgDn",
        C::Go(Move::Pages(1)),
        Some("more"),
        "a window down",
    ),
    PAGE_UP,
    FIRST,
    LAST,
    REFRESH,
    SUSPEND,
    INTERRUPT,
];

/// The keys of a page to read.
pub(super) const PAGE: &[Binding] = &[
    UP, DOWN, PAGE_UP, PAGE_DOWN, FIRST, LAST, REFRESH, SUSPEND, HELP, BACK, INTERRUPT,
];

/// Every table, with what stands above it in the help.
pub(super) const TABLES: &[(&str, &[Binding])] = &[
    ("The list of questions", QUESTIONS),
    ("Typing a filter", FILTER),
    ("All about one question", DETAILS),
    ("Answering the marked ones", CONFIRM),
    ("The log, the sandboxes, this help", PAGE),
];

impl Mode {
    /// Returns the table of the mode.
    pub(super) const fn keys(self) -> &'static [Binding] {
        match self {
            Self::Questions => QUESTIONS,
            Self::Filter => FILTER,
            Self::Details => DETAILS,
            Self::Confirm => CONFIRM,
            Self::Page(_) => PAGE,
        }
    }

    /// Returns what a key asks for in this mode; nothing for the release of one.
    pub(super) fn command(self, event: KeyEvent) -> Option<Command> {
        if event.kind == KeyEventKind::Release {
            return None;
        }
        let control = event.modifiers.contains(KeyModifiers::CONTROL);
        let chorded = KeyModifiers::CONTROL | KeyModifiers::ALT | KeyModifiers::SUPER;
        let plain = !event.modifiers.intersects(chorded);
        let bound = self.keys().iter().find(|binding| {
            let modified = if binding.control { control } else { plain };
            modified && binding.keys.contains(&event.code)
        });
        Some(match (bound, self, event.code) {
            (Some(binding), ..) => binding.command,
            (None, Self::Filter, Char(c)) if plain => Command::Type(c),
            (None, ..) => Command::Unknown,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn press(mode: Mode, code: KeyCode, modifiers: KeyModifiers) -> Option<Command> {
        mode.command(KeyEvent::new(code, modifiers))
    }

    #[test]
    fn no_key_of_a_table_means_two_things() {
        for (name, table) in TABLES {
            let all = table
                .iter()
                .flat_map(|b| b.keys.iter().map(move |k| (b.control, *k)));
            let mut seen = Vec::new();
            for key in all {
                assert!(!seen.contains(&key), "{key:?} in {name}");
                seen.push(key);
            }
        }
    }

    #[test]
    fn an_answer_needs_its_very_key() {
        let none = KeyModifiers::NONE;
        let list = |code, modifiers| press(Mode::Questions, code, modifiers);
        assert_eq!(list(Char('a'), none), Some(C::Answer(Action::Allow)));
        assert_eq!(list(Char('x'), none), Some(C::Answer(Action::Deny)));
        assert_eq!(list(Char('d'), none), Some(C::Answer(Action::Deny)));
        for modifiers in [KeyModifiers::CONTROL, KeyModifiers::ALT] {
            assert_eq!(list(Char('a'), modifiers), Some(C::Unknown));
            assert_eq!(list(Char('d'), modifiers), Some(C::Unknown));
        }
        assert_eq!(list(Char('A'), KeyModifiers::SHIFT), Some(C::Unknown));
        assert_eq!(list(Char('y'), none), Some(C::Unknown));
        let filter = press(Mode::Filter, Char('a'), none);
        assert_eq!(filter, Some(C::Type('a')));
        for mode in [Mode::Filter, Mode::Confirm, Mode::Page(Page::Help)] {
            let answers = mode
                .keys()
                .iter()
                .any(|b| matches!(b.command, C::Answer(_)));
            assert!(!answers, "{mode:?}");
        }
        let mut release = KeyEvent::new(Char('a'), none);
        release.kind = KeyEventKind::Release;
        assert_eq!(Mode::Questions.command(release), None);
    }
}
