// SPDX-License-Identifier: Apache-2.0
//! A terminal: alacritty's model, of which only the screen is read.

use alacritty_terminal::event::VoidListener;
use alacritty_terminal::grid::Dimensions;
use alacritty_terminal::index::{Column, Line};
use alacritty_terminal::term::cell::{Cell, Flags};
use alacritty_terminal::term::{Config, Term};
use alacritty_terminal::vte::ansi::{Color, NamedColor, Processor};

/// A terminal without history.
#[expect(
    missing_debug_implementations,
    reason = "the model of the library has none"
)]
pub struct TerminalModel {
    term: Term<VoidListener>,
    parser: Processor,
}

struct Size {
    width: u16,
    height: u16,
}

impl Dimensions for Size {
    fn total_lines(&self) -> usize {
        self.height.into()
    }

    fn screen_lines(&self) -> usize {
        self.height.into()
    }

    fn columns(&self) -> usize {
        self.width.into()
    }
}

impl TerminalModel {
    /// Returns a new terminal of this size.
    pub fn new(width: u16, height: u16) -> Self {
        let config = Config {
            scrolling_history: 0,
            kitty_keyboard: true,
            ..Config::default()
        };
        Self {
            term: Term::new(config, &Size { width, height }, VoidListener),
            parser: Processor::new(),
        }
    }

    /// Takes output of a program.
    pub fn feed(&mut self, output: &[u8]) {
        self.parser.advance(&mut self.term, output);
    }

    /// Returns the text that a person can read, without trailing spaces: nothing of a cell whose
    /// text is hidden or has the colour of its background.
    pub fn screen(&self) -> String {
        let grid = self.term.grid();
        let mut text = String::new();
        for line in 0..grid.screen_lines() {
            let row = &grid[Line(i32::try_from(line).unwrap())];
            let start = text.len();
            for column in 0..grid.columns() {
                let cell = &row[Column(column)];
                if !cell.flags.contains(Flags::WIDE_CHAR_SPACER) {
                    text.push(self.visible_character(cell));
                }
            }
            let end = text[start..].trim_end().len();
            text.truncate(start + end);
            if line + 1 < grid.screen_lines() {
                text.push('\n');
            }
        }
        text
    }

    fn visible_character(&self, cell: &Cell) -> char {
        let is_hidden = cell.flags.contains(Flags::HIDDEN) || self.is_one_color(cell);
        if is_hidden { ' ' } else { cell.c }
    }

    /// Returns `true` if a cell's text and background have one colour, by its attributes or because
    /// the palette was changed.
    fn is_one_color(&self, cell: &Cell) -> bool {
        let shown = |color: Color| {
            let index = match color {
                Color::Named(named) => named as usize,
                Color::Indexed(index) => index.into(),
                Color::Spec(rgb) => return Err(rgb),
            };
            self.term.colors()[index]
                .ok_or(index)
                .or_else(|index| Ok(index_color(index)))
        };
        let (text, background) = (shown(cell.fg), shown(cell.bg));
        let rgb = |color: Result<_, _>| color.unwrap_or_else(|rgb| rgb);
        rgb(text) == rgb(background)
    }

    /// Returns the modes and attributes that the next output meets.
    pub fn state(&self) -> String {
        let cursor = &self.term.grid().cursor;
        let cell = &cursor.template;
        let link = cell.hyperlink().map(|link| link.uri().to_owned());
        let look = (cell.fg, cell.bg, cell.flags, link);
        format!("{:?} {look:?} {:?}", self.term.mode(), cursor.charsets)
    }
}

/// Returns a colour of its own for each number.
fn index_color(index: usize) -> alacritty_terminal::vte::ansi::Rgb {
    let index = match index {
        // The named colours of text and background.
        index if index == NamedColor::Foreground as usize => 1000,
        index if index == NamedColor::Background as usize => 2000,
        index => index,
    };
    alacritty_terminal::vte::ansi::Rgb {
        r: 255,
        g: u8::try_from(index / 256).unwrap(),
        b: u8::try_from(index % 256).unwrap(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_model_shows_what_a_person_sees() {
        let shown = |output: &[u8]| {
            let mut model = TerminalModel::new(8, 2);
            model.feed(output);
            model.screen()
        };
        assert_eq!(shown(b"text"), "text\n");
        assert_eq!(shown(b"a\x1b[8mb\x1b[28mc"), "a c\n");
        assert_eq!(shown(b"a\x1b_b"), "a\n");
        assert_eq!(shown(b"a\x1b[31;41mb"), "a\n");
        assert_eq!(shown(b"\x1b]10;#123456\x07\x1b]11;#123456\x07a"), "\n");
        assert_eq!(
            shown(b"\x1b]4;1;#123456\x07\x1b]11;#123456\x07\x1b[31ma\x1b[39mb"),
            " b\n"
        );
    }
}
