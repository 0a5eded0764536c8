// SPDX-License-Identifier: Apache-2.0
//! Styles: with or without colours, with line-drawing characters or in ASCII. Colour is never the
//! only sign of a state.

use ratatui::style::{Color, Modifier, Style};

use operator::phrases::MessageTone;

/// What the terminal can show and the operator wants to see.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Theme {
    /// Use colours; bold, dim and reversed text are used always.
    pub color: bool,
    /// Use line-drawing characters instead of ASCII dashes.
    pub unicode: bool,
}

impl Theme {
    const fn colored(self, color: Color) -> Style {
        let bold = Style::new().add_modifier(Modifier::BOLD);
        if self.color { bold.fg(color) } else { bold }
    }

    pub(crate) const fn title(self) -> Style {
        self.colored(Color::Cyan)
    }

    pub(crate) const fn pending(self) -> Style {
        self.colored(Color::Yellow)
    }

    pub(crate) const fn good(self) -> Style {
        self.colored(Color::Green)
    }

    pub(crate) const fn bad(self) -> Style {
        self.colored(Color::Red)
    }

    pub(crate) const fn dim() -> Style {
        Style::new().add_modifier(Modifier::DIM)
    }

    pub(crate) const fn bold() -> Style {
        Style::new().add_modifier(Modifier::BOLD)
    }

    pub(crate) const fn selected() -> Style {
        Style::new().add_modifier(Modifier::REVERSED)
    }

    pub(crate) const fn tone(self, tone: MessageTone) -> Style {
        match tone {
            MessageTone::Quiet => Self::dim(),
            MessageTone::Good => self.good(),
            MessageTone::Bad => self.bad(),
        }
    }

    /// Returns the character of the lines between panes.
    pub(crate) const fn rule(self) -> &'static str {
        if self.unicode { "\u{2500}" } else { "-" }
    }
}
