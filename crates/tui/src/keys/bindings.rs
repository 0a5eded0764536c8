// SPDX-License-Identifier: Apache-2.0
//! The tables of the key bindings.

use crossterm::event::KeyCode;
use operator::ScopeChoice;
use terok_clearance::Action;

use super::{CursorMove, KeyBinding, TuiCommand};

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
const ONCE: KeyBinding = bind_lifetime(
    &[Char('1')],
    "1",
    ScopeChoice::Once,
    "an answer is for the connections that wait, else the next one",
);
const FIVE_MINUTES: KeyBinding = bind_lifetime(
    &[Char('2')],
    "2",
    ScopeChoice::FiveMinutes,
    "an answer lasts for 5 minutes",
);
const ONE_HOUR: KeyBinding = bind_lifetime(
    &[Char('3')],
    "3",
    ScopeChoice::OneHour,
    "an answer lasts for 1 hour",
);
const THIS_RUN: KeyBinding = bind_lifetime(
    &[Char('4')],
    "4",
    ScopeChoice::Run,
    "an answer lasts for this run",
);
const THIS_PROJECT: KeyBinding = bind_lifetime(
    &[Char('5')],
    "5",
    ScopeChoice::Project,
    "an answer lasts for this project, also in later runs",
);
const ALWAYS: KeyBinding = bind_lifetime(
    &[Char('6')],
    "6",
    ScopeChoice::Always,
    "an answer lasts always, in every sandbox",
);
const WIDEN_NAME: KeyBinding = bind_key(
    &[Char('w')],
    "w",
    C::WidenName,
    None,
    "an answer is for the next wider name, after the widest for the name itself",
);
const DEFAULT_SCOPE: KeyBinding = bind_key(
    &[Char('0')],
    "0",
    C::ResetScope,
    None,
    "an answer is for the name itself, as long as by default",
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
    ONCE,
    FIVE_MINUTES,
    ONE_HOUR,
    THIS_RUN,
    THIS_PROJECT,
    ALWAYS,
    WIDEN_NAME,
    DEFAULT_SCOPE,
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
        &[Char('r')],
        "r",
        C::ShowRules,
        Some("rules"),
        "show the rules of all sandboxes, to revoke them",
    ),
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
    ALLOW,
    DENY,
    ONCE,
    FIVE_MINUTES,
    ONE_HOUR,
    THIS_RUN,
    THIS_PROJECT,
    ALWAYS,
    WIDEN_NAME,
    DEFAULT_SCOPE,
    UP,
    DOWN,
    PAGE_UP,
    PAGE_DOWN,
    FIRST,
    LAST,
    REFRESH,
    SUSPEND,
    HELP,
    BACK,
    INTERRUPT,
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
    ONCE,
    FIVE_MINUTES,
    ONE_HOUR,
    THIS_RUN,
    THIS_PROJECT,
    ALWAYS,
    DEFAULT_SCOPE,
    REFRESH,
    SUSPEND,
    INTERRUPT,
];

/// The keys of the list of rules.
pub(crate) const RULES_BINDINGS: &[KeyBinding] = &[
    bind_key(
        &[Char('x')],
        "x",
        C::Revoke,
        Some("revoke"),
        "revoke the rule, after a confirmation",
    ),
    bind_key(
        &[Char('r')],
        "r",
        C::ShowRules,
        Some("list again"),
        "list the rules again",
    ),
    UP,
    DOWN,
    PAGE_UP,
    PAGE_DOWN,
    FIRST,
    LAST,
    REFRESH,
    SUSPEND,
    HELP,
    BACK,
    INTERRUPT,
];

/// The keys of the dialog that ends a rule.
pub(crate) const REVOKE_BINDINGS: &[KeyBinding] = &[
    bind_key(
        &[Char('y')],
        "y",
        C::Confirm,
        Some("yes, revoke it"),
        "revoke the rule, once all of the dialog has been shown",
    ),
    bind_key(
        &[Esc, Char('n'), Char('q')],
        "n Esc",
        C::Back,
        Some("no"),
        "keep the rule",
    ),
    UP,
    DOWN,
    PAGE_UP,
    PAGE_DOWN,
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
    ("Rules", RULES_BINDINGS),
    ("Revoke a rule", REVOKE_BINDINGS),
    ("Activity, sandboxes, this help", PAGE_BINDINGS),
];

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

const fn bind_lifetime(
    keys: &'static [KeyCode],
    name: &'static str,
    choice: ScopeChoice,
    help: &'static str,
) -> KeyBinding {
    bind_key(keys, name, TuiCommand::ChooseLifetime(choice), None, help)
}
