// SPDX-License-Identifier: Apache-2.0
//! The messages to the model, and the effects that the event loop performs.

use crossterm::event::{KeyEvent, MouseEvent};
use operator::AnswerScope;
use operator::inbox::{HubId, InboxChange, RowNumber};
use terok_clearance::wire::clearance2::{ListedRule, RevokeReply};
use terok_clearance::{Action, DisplayText};

use crate::drawn::DrawnScreen;

/// An event for the model.
#[derive(Debug, Clone)]
pub enum TuiMessage {
    /// The inbox changed; the [`SessionView`](crate::SessionView) already contains the changes.
    Changed(Vec<InboxChange>),
    /// The terminal accepted a frame.
    Drawn(DrawnScreen),
    /// The terminal reported that it has processed all frames.
    Processed,
    /// An answer key was pressed while the terminal has not processed all frames.
    AnswerBeforeProcessed,
    /// A key was pressed.
    Key(KeyEvent),
    /// A key was pressed that arrived together with others, and so is not an answer.
    KeyBurst(KeyEvent),
    /// A key was pressed that may be a part of something else, and so is not an answer.
    DoubtfulKey(KeyEvent),
    /// Input without an effect.
    Ignored(IgnoredInput),
    /// A mouse event.
    Mouse(MouseEvent),
    /// Text was pasted, which is never interpreted as keys.
    Paste(String),
    /// The size of the terminal changed, or the screen was lost.
    Resized,
    /// The user interface has the terminal again.
    Resumed,
    /// Suspending failed, because no shell could resume the program.
    NoJobControl,
    /// A hub listed its rules; an error is the reason why not.
    RulesListed(HubId, Result<Vec<ListedRule>, DisplayText>),
    /// A hub replied to the end of a rule.
    RuleRevoked {
        /// The hub.
        hub: HubId,
        /// The name of the rule.
        rule: DisplayText,
        /// The effect, or the reason why there is none.
        result: Result<RevokeReply, DisplayText>,
    },
}

/// Input without an effect, which the status line explains.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IgnoredInput {
    /// A key or a sequence without a known meaning.
    UnknownKey,
    /// A part of an unfinished reply of the terminal, or keys that look like one.
    InsideReply,
    /// A part of a pasted text.
    InsidePaste,
}

/// A task for the event loop.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TuiEffect {
    /// Answer these rows. Each can be answered.
    Answer {
        /// The rows, each with the scope that the screen showed.
        rows: Vec<(RowNumber, AnswerScope)>,
        /// The answer.
        action: Action,
    },
    /// Ask these hubs for their rules.
    ListRules(Vec<HubId>),
    /// End a rule.
    Revoke {
        /// The hub.
        hub: HubId,
        /// The name of the rule.
        rule: DisplayText,
    },
    /// Search for hubs, and redraw the whole screen.
    Refresh,
    /// Report mouse events (`true`), or leave the mouse to the terminal.
    CaptureMouse(bool),
    /// Suspend to the shell.
    Suspend,
    /// End.
    Quit,
    /// End as after Ctrl-C.
    Interrupt,
}
