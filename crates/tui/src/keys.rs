// SPDX-License-Identifier: Apache-2.0
//! The key bindings: one table per mode. The help and the bottom line print the same tables.

mod bindings;

use crossterm::event::{KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use operator::ScopeChoice;
use terok_clearance::Action;

pub(crate) use bindings::BINDING_TABLES;
use bindings::{
    CONFIRM_BINDINGS, DETAILS_BINDINGS, FILTER_BINDINGS, PAGE_BINDINGS, QUESTION_BINDINGS,
    REVOKE_BINDINGS, RULES_BINDINGS,
};

/// A command of the operator.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TuiCommand {
    /// Move in a list or a page.
    Navigate(CursorMove),
    /// Answer the selected question, or open the confirm dialog for the marked ones.
    Answer(Action),
    /// Confirm the answer to the marked questions, or the end of a rule.
    Confirm,
    /// Choose how long an answer lasts.
    ChooseLifetime(ScopeChoice),
    /// Choose the next wider name, after the widest the name itself.
    WidenName,
    /// Return to the default scope.
    ResetScope,
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
    /// Show the rules, or list them again.
    ShowRules,
    /// Open the dialog that ends the selected rule.
    Revoke,
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

impl TuiCommand {
    /// Returns `true` for the choice of another scope.
    pub(crate) const fn changes_scope(self) -> bool {
        matches!(
            self,
            Self::ChooseLifetime(_) | Self::WidenName | Self::ResetScope
        )
    }
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
    /// The list of rules.
    Rules,
    /// The dialog that ends a rule.
    Revoke,
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

impl ViewMode {
    /// Returns the key table of the mode.
    pub(crate) const fn bindings(self) -> &'static [KeyBinding] {
        match self {
            Self::Questions => QUESTION_BINDINGS,
            Self::Filter => FILTER_BINDINGS,
            Self::Details => DETAILS_BINDINGS,
            Self::Confirm => CONFIRM_BINDINGS,
            Self::Rules => RULES_BINDINGS,
            Self::Revoke => REVOKE_BINDINGS,
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
            (None, Self::Filter, KeyCode::Char(c)) if plain => TuiCommand::InsertChar(c),
            (None, ..) => TuiCommand::Unbound,
        })
    }
}

#[cfg(test)]
mod tests {
    use KeyCode::Char;
    use TuiCommand as C;

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
            ViewMode::Rules,
            ViewMode::Revoke,
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
