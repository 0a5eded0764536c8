// SPDX-License-Identifier: Apache-2.0
//! The keys: one table for each mode, which is also what the help and the bottom line print.

use crossterm::event::{KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use terok_clearance::Action;

/// What a person may ask of the UI.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TuiCommand {
    /// Go somewhere in a list or a page.
    Navigate(CursorMove),
    /// Answer the question, or ask to answer the marked ones.
    Answer(Action),
    /// Answer the marked ones, as was asked.
    Confirm,
    /// Mark the question, or take its mark away.
    ToggleMark,
    /// Mark all that are shown, or take all marks away.
    ToggleMarkAll,
    /// Show all about the question.
    ShowDetails,
    /// Go back to where one came from; at the start, leave.
    Back,
    /// Type a filter.
    EditFilter,
    /// Keep the filter that was typed.
    KeepFilter,
    /// Take away the filter's last character.
    DeleteChar,
    /// Take away the filter.
    ClearFilter,
    /// Add to the filter.
    InsertChar(char),
    /// Show the keys.
    ShowHelp,
    /// Show all that happened.
    ShowLog,
    /// Show the sandboxes.
    ShowSandboxes,
    /// Look for hubs again, and draw everything anew.
    Refresh,
    /// Take the mouse, or leave it to the terminal.
    ToggleMouse,
    /// Leave, at the next moment in which no answer is on its way.
    Quit,
    /// Leave at once.
    Interrupt,
    /// Stop, as a job of the shell.
    Suspend,
    /// A key that means nothing here.
    Unbound,
}

/// Where to go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CursorMove {
    /// So many lines down; negative, up.
    Lines(i32),
    /// So many windows down; negative, up.
    Windows(i32),
    /// To the first line.
    First,
    /// To the last line.
    Last,
}

/// What the screen is about, and so what keys mean.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ViewMode {
    /// The list.
    Questions,
    /// A filter is typed.
    Filter,
    /// All about one question.
    Details,
    /// Answering the marked ones.
    Confirm,
    /// A page to read.
    Page(InfoPage),
}

/// A page to read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum InfoPage {
    Help,
    Log,
    Sandboxes,
}

/// A line of a table.
pub(crate) struct KeyBinding {
    keys: &'static [KeyCode],
    control: bool,
    /// How the keys are called.
    pub(crate) name: &'static str,
    /// What they do, for the help.
    pub(crate) help: &'static str,
    /// The same in a word, for the bottom line; none, it is not there.
    pub(crate) short_help: Option<&'static str>,
    command: TuiCommand,
}

const fn bind_key(
    keys: &'static [KeyCode],
    name: &'static str,
    command: TuiCommand,
    short: Option<&'static str>,
    help: &'static str,
) -> KeyBinding {
    KeyBinding {
        keys,
        control: false,
        name,
        help,
        short_help: short,
        command,
    }
}

const fn bind_control(
    keys: &'static [KeyCode],
    name: &'static str,
    command: TuiCommand,
    help: &'static str,
) -> KeyBinding {
    KeyBinding {
        control: true,
        ..bind_key(keys, name, command, None, help)
    }
}

use KeyCode::{Char, Down, End, Enter, Esc, Home, PageDown, PageUp, Up};
use TuiCommand as C;

const UP: KeyBinding = bind_key(
    &[Up, Char('k')],
    "Up k",
    C::Navigate(CursorMove::Lines(-1)),
    None,
    "one up",
);
const DOWN: KeyBinding = bind_key(
    &[Down, Char('j')],
    "Down j",
    C::Navigate(CursorMove::Lines(1)),
    None,
    "one down",
);
const PAGE_UP: KeyBinding = bind_key(
    &[PageUp],
    "PgUp",
    C::Navigate(CursorMove::Windows(-1)),
    None,
    "a window up",
);
const PAGE_DOWN: KeyBinding = bind_key(
    &[PageDown],
    "PgDn",
    C::Navigate(CursorMove::Windows(1)),
    None,
    "a window down",
);
const FIRST: KeyBinding = bind_key(
    &[Home, Char('g')],
    "Home g",
    C::Navigate(CursorMove::First),
    None,
    "to the first",
);
const LAST: KeyBinding = bind_key(
    &[End, Char('G')],
    "End G",
    C::Navigate(CursorMove::Last),
    None,
    "to the last",
);
const ALLOW: KeyBinding = bind_key(
    &[Char('a')],
    "a",
    C::Answer(Action::Allow),
    Some("allow"),
    "allow: open exactly what the screen says",
);
const DENY: KeyBinding = bind_key(
    &[Char('x'), Char('d')],
    "x d",
    C::Answer(Action::Deny),
    Some("deny"),
    "deny: refuse it without asking again",
);
const HELP: KeyBinding = bind_key(
    &[Char('?')],
    "?",
    C::ShowHelp,
    Some("help"),
    "this help; Esc or q leaves it",
);
const BACK: KeyBinding = bind_key(
    &[Esc, Char('q')],
    "Esc q",
    C::Back,
    Some("back"),
    "back to the list",
);
const REFRESH: KeyBinding = bind_control(
    &[Char('l')],
    "Ctrl-L",
    C::Refresh,
    "draw everything anew, and look for hubs again",
);
const SUSPEND: KeyBinding = bind_control(
    &[Char('z')],
    "Ctrl-Z",
    C::Suspend,
    "back to the shell; fg returns",
);
const INTERRUPT: KeyBinding = bind_control(&[Char('c')], "Ctrl-C", C::Interrupt, "leave at once");

/// The list's keys.
pub(crate) const QUESTION_BINDINGS: &[KeyBinding] = &[
    ALLOW,
    DENY,
    bind_key(
        &[Char(' ')],
        "Space",
        C::ToggleMark,
        Some("mark"),
        "mark, to answer several together",
    ),
    bind_key(
        &[Char('*')],
        "*",
        C::ToggleMarkAll,
        None,
        "mark all that are listed, or take all marks away",
    ),
    bind_key(
        &[Enter],
        "Enter",
        C::ShowDetails,
        Some("more"),
        "all that is known about the question",
    ),
    bind_key(
        &[Char('/')],
        "/",
        C::EditFilter,
        Some("filter"),
        "list only what has this text in it",
    ),
    HELP,
    bind_key(
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
    bind_key(
        &[Char('l')],
        "l",
        C::ShowLog,
        Some("log"),
        "all that happened since the start",
    ),
    bind_key(
        &[Char('s')],
        "s",
        C::ShowSandboxes,
        Some("sandboxes"),
        "the sandboxes and their firewalls",
    ),
    bind_key(
        &[Char('m')],
        "m",
        C::ToggleMouse,
        None,
        "the mouse: a click selects, or the terminal's own selection",
    ),
    REFRESH,
    SUSPEND,
    bind_key(
        &[Esc],
        "Esc",
        C::Back,
        None,
        "take the filter away, then the marks",
    ),
    INTERRUPT,
];

/// The keys while a filter is typed; other characters are its text.
pub(crate) const FILTER_BINDINGS: &[KeyBinding] = &[
    bind_key(
        &[Enter],
        "Enter",
        C::KeepFilter,
        Some("keep"),
        "keep the filter",
    ),
    bind_key(
        &[Esc],
        "Esc",
        C::Back,
        Some("no filter"),
        "take the filter away",
    ),
    bind_key(
        &[KeyCode::Backspace],
        "Backspace",
        C::DeleteChar,
        None,
        "take the last character away",
    ),
    bind_control(
        &[Char('u')],
        "Ctrl-U",
        C::ClearFilter,
        "take all of it away",
    ),
    bind_key(
        &[Up],
        "Up",
        C::Navigate(CursorMove::Lines(-1)),
        None,
        "one up",
    ),
    bind_key(
        &[Down],
        "Down",
        C::Navigate(CursorMove::Lines(1)),
        None,
        "one down",
    ),
    SUSPEND,
    INTERRUPT,
];

/// The keys where all about one question is shown.
pub(crate) const DETAILS_BINDINGS: &[KeyBinding] = &[
    ALLOW, DENY, UP, DOWN, PAGE_UP, PAGE_DOWN, FIRST, LAST, REFRESH, SUSPEND, HELP, BACK, INTERRUPT,
];

/// The keys where the marked ones are about to be answered.
pub(crate) const CONFIRM_BINDINGS: &[KeyBinding] = &[
    bind_key(
        &[Char('y')],
        "y",
        C::Confirm,
        Some("yes, all of them"),
        "answer all of them; to allow, every one must have been shown",
    ),
    bind_key(
        &[Esc, Char('n'), Char('q')],
        "n Esc",
        C::Back,
        Some("no"),
        "answer none",
    ),
    UP,
    DOWN,
    bind_key(
        &[PageDown],
        "PgDn",
        C::Navigate(CursorMove::Windows(1)),
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
pub(crate) const PAGE_BINDINGS: &[KeyBinding] = &[
    UP, DOWN, PAGE_UP, PAGE_DOWN, FIRST, LAST, REFRESH, SUSPEND, HELP, BACK, INTERRUPT,
];

/// Every table, with what stands above it in the help.
pub(crate) const BINDING_TABLES: &[(&str, &[KeyBinding])] = &[
    ("The list of questions", QUESTION_BINDINGS),
    ("Typing a filter", FILTER_BINDINGS),
    ("All about one question", DETAILS_BINDINGS),
    ("Answering the marked ones", CONFIRM_BINDINGS),
    ("The log, the sandboxes, this help", PAGE_BINDINGS),
];

impl ViewMode {
    /// Returns the table of the mode.
    pub(crate) const fn bindings(self) -> &'static [KeyBinding] {
        match self {
            Self::Questions => QUESTION_BINDINGS,
            Self::Filter => FILTER_BINDINGS,
            Self::Details => DETAILS_BINDINGS,
            Self::Confirm => CONFIRM_BINDINGS,
            Self::Page(_) => PAGE_BINDINGS,
        }
    }

    /// Returns what a key asks for in this mode; nothing for the release of one.
    pub(crate) fn command_for(self, event: KeyEvent) -> Option<TuiCommand> {
        if event.kind == KeyEventKind::Release {
            return None;
        }
        let control = event.modifiers.contains(KeyModifiers::CONTROL);
        let chorded = KeyModifiers::CONTROL | KeyModifiers::ALT | KeyModifiers::SUPER;
        let plain = !event.modifiers.intersects(chorded);
        let bound = self.bindings().iter().find(|binding| {
            let modified = if binding.control { control } else { plain };
            modified && binding.keys.contains(&event.code)
        });
        Some(match (bound, self, event.code) {
            (Some(binding), ..) => binding.command,
            (None, Self::Filter, Char(c)) if plain => TuiCommand::InsertChar(c),
            (None, ..) => TuiCommand::Unbound,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn press(mode: ViewMode, code: KeyCode, modifiers: KeyModifiers) -> Option<TuiCommand> {
        mode.command_for(KeyEvent::new(code, modifiers))
    }

    #[test]
    fn no_key_of_a_table_means_two_things() {
        for (name, table) in BINDING_TABLES {
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
        let list = |code, modifiers| press(ViewMode::Questions, code, modifiers);
        assert_eq!(list(Char('a'), none), Some(C::Answer(Action::Allow)));
        assert_eq!(list(Char('x'), none), Some(C::Answer(Action::Deny)));
        assert_eq!(list(Char('d'), none), Some(C::Answer(Action::Deny)));
        for modifiers in [KeyModifiers::CONTROL, KeyModifiers::ALT] {
            assert_eq!(list(Char('a'), modifiers), Some(C::Unbound));
            assert_eq!(list(Char('d'), modifiers), Some(C::Unbound));
        }
        assert_eq!(list(Char('A'), KeyModifiers::SHIFT), Some(C::Unbound));
        assert_eq!(list(Char('y'), none), Some(C::Unbound));
        let filter = press(ViewMode::Filter, Char('a'), none);
        assert_eq!(filter, Some(C::InsertChar('a')));
        for mode in [
            ViewMode::Filter,
            ViewMode::Confirm,
            ViewMode::Page(InfoPage::Help),
        ] {
            let answers = mode
                .bindings()
                .iter()
                .any(|b| matches!(b.command, C::Answer(_)));
            assert!(!answers, "{mode:?}");
        }
        let mut release = KeyEvent::new(Char('a'), none);
        release.kind = KeyEventKind::Release;
        assert_eq!(ViewMode::Questions.command_for(release), None);
    }
}
