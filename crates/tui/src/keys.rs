// SPDX-License-Identifier: Apache-2.0
//! The key bindings: one table per mode. The help and the bottom line print the same tables.

use crossterm::event::{KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use terok_clearance::Action;

/// A command of the operator.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TuiCommand {
    /// Move in a list or a page.
    Navigate(CursorMove),
    /// Answer the selected question, or open the confirm dialog for the marked ones.
    Answer(Action),
    /// Confirm the answer to the marked questions.
    Confirm,
    /// Toggle the mark of the selected question.
    ToggleMark,
    /// Mark every listed question, or clear all marks.
    ToggleMarkAll,
    /// Show all details of the selected question.
    ShowDetails,
    /// Return to the list; in the list, clear the filter, then the marks.
    Back,
    /// Edit the filter.
    EditFilter,
    /// Finish editing the filter.
    KeepFilter,
    /// Delete the last character of the filter.
    DeleteChar,
    /// Clear the filter.
    ClearFilter,
    /// Append a character to the filter.
    InsertChar(char),
    /// Show the help.
    ShowHelp,
    /// Show the activity log.
    ShowLog,
    /// Show the sandboxes.
    ShowSandboxes,
    /// Search for hubs, and redraw the whole screen.
    Refresh,
    /// Toggle mouse support.
    ToggleMouse,
    /// Quit once every answer has its reply.
    Quit,
    /// Quit at once.
    Interrupt,
    /// Suspend to the shell.
    Suspend,
    /// A key without a binding in this mode.
    Unbound,
}

/// A move in a list or a page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CursorMove {
    /// Number of lines down; up if negative.
    Lines(i32),
    /// Number of windows down; up if negative.
    Windows(i32),
    /// Move to the first line.
    First,
    /// Move to the last line.
    Last,
}

/// The mode of the screen, which selects the key table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ViewMode {
    /// The list of questions.
    Questions,
    /// The list, with the filter being edited.
    Filter,
    /// All details of the selected question.
    Details,
    /// The confirm dialog for the marked questions.
    Confirm,
    /// A page of information.
    Page(InfoPage),
}

/// A page of information.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum InfoPage {
    Help,
    Log,
    Sandboxes,
}

/// A line of a key table.
pub(crate) struct KeyBinding {
    keys: &'static [KeyCode],
    control: bool,
    /// The names of the keys.
    pub(crate) name: &'static str,
    /// The effect, for the help page.
    pub(crate) help: &'static str,
    /// The effect in a word, for the bottom line; `None` leaves the key out there.
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
    "move up",
);
const DOWN: KeyBinding = bind_key(
    &[Down, Char('j')],
    "Down j",
    C::Navigate(CursorMove::Lines(1)),
    None,
    "move down",
);
const PAGE_UP: KeyBinding = bind_key(
    &[PageUp],
    "PgUp",
    C::Navigate(CursorMove::Windows(-1)),
    None,
    "move up by a window",
);
const PAGE_DOWN: KeyBinding = bind_key(
    &[PageDown],
    "PgDn",
    C::Navigate(CursorMove::Windows(1)),
    None,
    "move down by a window",
);
const FIRST: KeyBinding = bind_key(
    &[Home, Char('g')],
    "Home g",
    C::Navigate(CursorMove::First),
    None,
    "move to the first line",
);
const LAST: KeyBinding = bind_key(
    &[End, Char('G')],
    "End G",
    C::Navigate(CursorMove::Last),
    None,
    "move to the last line",
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
    "show this help; Esc or q closes it",
);
const BACK: KeyBinding = bind_key(
    &[Esc, Char('q')],
    "Esc q",
    C::Back,
    Some("back"),
    "return to the list",
);
const REFRESH: KeyBinding = bind_control(
    &[Char('l')],
    "Ctrl-L",
    C::Refresh,
    "redraw the screen and search for hubs",
);
const SUSPEND: KeyBinding = bind_control(
    &[Char('z')],
    "Ctrl-Z",
    C::Suspend,
    "suspend to the shell; fg resumes",
);
const INTERRUPT: KeyBinding = bind_control(&[Char('c')], "Ctrl-C", C::Interrupt, "quit at once");

/// The keys of the list.
pub(crate) const QUESTION_BINDINGS: &[KeyBinding] = &[
    ALLOW,
    DENY,
    bind_key(
        &[Char(' ')],
        "Space",
        C::ToggleMark,
        Some("mark"),
        "mark the question, to answer several together",
    ),
    bind_key(
        &[Char('*')],
        "*",
        C::ToggleMarkAll,
        None,
        "mark every listed question, or clear all marks",
    ),
    bind_key(
        &[Enter],
        "Enter",
        C::ShowDetails,
        Some("more"),
        "show all details of the question",
    ),
    bind_key(
        &[Char('/')],
        "/",
        C::EditFilter,
        Some("filter"),
        "list only questions that contain a text",
    ),
    HELP,
    bind_key(
        &[Char('q')],
        "q",
        C::Quit,
        Some("quit"),
        "quit; unanswered questions stay pending, and nothing is opened",
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
        "show all activity since the start",
    ),
    bind_key(
        &[Char('s')],
        "s",
        C::ShowSandboxes,
        Some("sandboxes"),
        "show the sandboxes and their firewalls",
    ),
    bind_key(
        &[Char('m')],
        "m",
        C::ToggleMouse,
        None,
        "turn mouse support on or off",
    ),
    REFRESH,
    SUSPEND,
    bind_key(
        &[Esc],
        "Esc",
        C::Back,
        None,
        "clear the filter, then the marks",
    ),
    INTERRUPT,
];

/// The keys while the filter is edited; other characters are its text.
pub(crate) const FILTER_BINDINGS: &[KeyBinding] = &[
    bind_key(
        &[Enter],
        "Enter",
        C::KeepFilter,
        Some("keep"),
        "keep the filter",
    ),
    bind_key(&[Esc], "Esc", C::Back, Some("clear"), "clear the filter"),
    bind_key(
        &[KeyCode::Backspace],
        "Backspace",
        C::DeleteChar,
        None,
        "delete the last character",
    ),
    bind_control(&[Char('u')], "Ctrl-U", C::ClearFilter, "clear the text"),
    bind_key(
        &[Up],
        "Up",
        C::Navigate(CursorMove::Lines(-1)),
        None,
        "move up",
    ),
    bind_key(
        &[Down],
        "Down",
        C::Navigate(CursorMove::Lines(1)),
        None,
        "move down",
    ),
    SUSPEND,
    INTERRUPT,
];

/// The keys of the details.
pub(crate) const DETAILS_BINDINGS: &[KeyBinding] = &[
    ALLOW, DENY, UP, DOWN, PAGE_UP, PAGE_DOWN, FIRST, LAST, REFRESH, SUSPEND, HELP, BACK, INTERRUPT,
];

/// The keys of the confirm dialog.
pub(crate) const CONFIRM_BINDINGS: &[KeyBinding] = &[
    bind_key(
        &[Char('y')],
        "y",
        C::Confirm,
        Some("yes, all of them"),
        "answer all of them; to allow, each must have been shown",
    ),
    bind_key(
        &[Esc, Char('n'), Char('q')],
        "n Esc",
        C::Back,
        Some("no"),
        "answer none of them",
    ),
    UP,
    DOWN,
    bind_key(
        &[PageDown],
        "PgDn",
        C::Navigate(CursorMove::Windows(1)),
        Some("more"),
        "move down by a window",
    ),
    PAGE_UP,
    FIRST,
    LAST,
    REFRESH,
    SUSPEND,
    INTERRUPT,
];

/// The keys of a page of information.
pub(crate) const PAGE_BINDINGS: &[KeyBinding] = &[
    UP, DOWN, PAGE_UP, PAGE_DOWN, FIRST, LAST, REFRESH, SUSPEND, HELP, BACK, INTERRUPT,
];

/// Every table with its title in the help.
pub(crate) const BINDING_TABLES: &[(&str, &[KeyBinding])] = &[
    ("List of questions", QUESTION_BINDINGS),
    ("Filter", FILTER_BINDINGS),
    ("Details of a question", DETAILS_BINDINGS),
    ("Answer to the marked questions", CONFIRM_BINDINGS),
    ("Activity, sandboxes, this help", PAGE_BINDINGS),
];

impl ViewMode {
    /// Returns the key table of the mode.
    pub(crate) const fn bindings(self) -> &'static [KeyBinding] {
        match self {
            Self::Questions => QUESTION_BINDINGS,
            Self::Filter => FILTER_BINDINGS,
            Self::Details => DETAILS_BINDINGS,
            Self::Confirm => CONFIRM_BINDINGS,
            Self::Page(_) => PAGE_BINDINGS,
        }
    }

    /// Returns the command of a key in this mode; `None` for a released key.
    pub(crate) fn command_for(self, event: KeyEvent) -> Option<TuiCommand> {
        if event.kind == KeyEventKind::Release {
            return None;
        }
        let control = event.modifiers.contains(KeyModifiers::CONTROL);
        let chorded = KeyModifiers::CONTROL
            | KeyModifiers::ALT
            | KeyModifiers::SUPER
            | KeyModifiers::HYPER
            | KeyModifiers::META;
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
    fn no_table_binds_a_key_twice() {
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
    fn only_the_exact_keys_answer() {
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
