// SPDX-License-Identifier: Apache-2.0
//! Finds popups and their buttons on a picture of the screen.
//!
//! The screen is black, and popups are light with dark text, so the lowest line of text in a popup
//! contains the button labels.

use std::ops::Range;

pub(crate) const WIDTH: usize = 1024;
pub(crate) const HEIGHT: usize = 400;

/// Pixels darker than this belong to a letter.
const LETTER: u8 = 100;
/// The width of a popup's border in pixels.
const EDGE: usize = 14;
/// The height of a label in pixels, including descenders.
const LETTERS: usize = 11;
/// Letters with a larger distance belong to different labels.
const APART: usize = 16;
/// Light lines with a smaller distance belong to the same popup.
const SEAM: usize = 2;

/// The screen in shades of grey, line by line.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Picture(pub(crate) Vec<u8>);

impl Picture {
    fn at(&self, x: usize, y: usize) -> u8 {
        self.0.get(y * WIDTH + x).copied().unwrap_or(0)
    }

    /// Returns `true` if the screen is empty.
    pub(crate) fn is_empty(&self) -> bool {
        self.popup().is_none()
    }

    /// Returns the height of the area with popups.
    pub(crate) fn popup_height(&self) -> usize {
        self.popup().map_or(0, |(_, lines)| lines.len())
    }

    /// Returns the number of popups, one below the other.
    pub(crate) fn popups(&self) -> usize {
        let lit = |y: &usize| (0..WIDTH).any(|x| self.at(x, *y) > LETTER);
        let lines: Vec<_> = (0..HEIGHT).filter(lit).collect();
        lines.chunk_by(|a, b| b - a <= SEAM).count()
    }

    /// Returns a position that closes the upper popup: a cross, or a place outside the buttons.
    pub(crate) fn cross(&self) -> Option<(usize, usize)> {
        let (columns, lines) = self.popup()?;
        Some((columns.end - 28, lines.start + 27))
    }

    /// Returns a position on the text of the upper popup.
    pub(crate) fn body(&self) -> Option<(usize, usize)> {
        let (columns, lines) = self.popup()?;
        Some((columns.start + columns.len() / 2, lines.start + 30))
    }

    /// Returns the columns and the lines of the area with popups.
    fn popup(&self) -> Option<(Range<usize>, Range<usize>)> {
        let lit = |x, y| self.at(x, y) > LETTER;
        let columns = (0..WIDTH).filter(|&x| (0..HEIGHT).any(|y| lit(x, y)));
        let lines = (0..HEIGHT).filter(|&y| (0..WIDTH).any(|x| lit(x, y)));
        Some((span(columns)?, span(lines)?))
    }

    /// Returns the centre of each button, from left to right.
    pub(crate) fn buttons(&self) -> Vec<(usize, usize)> {
        let Some((columns, lines)) = self.popup() else {
            return Vec::new();
        };
        // A popup may have a coloured stripe on the left.
        let within = columns.start + columns.len() / 10..columns.end.saturating_sub(EDGE);
        let inner = lines.start + EDGE..lines.end.saturating_sub(EDGE);
        let letter = |x: usize, y: usize| self.at(x, y) < LETTER;
        let has_letters = |y: &usize| within.clone().any(|x| letter(x, *y));
        let Some(last) = inner.rev().find(has_letters) else {
            return Vec::new();
        };
        let label = last.saturating_sub(LETTERS)..last + 1;
        let inked: Vec<_> = within
            .filter(|&x| label.clone().any(|y| letter(x, y)))
            .collect();
        let words = inked.chunk_by(|a, b| b - a <= APART);
        let middle = usize::midpoint(label.start, label.end);
        let centre = |word: &[usize]| {
            let (first, last) = (word.first()?, word.last()?);
            Some((usize::midpoint(*first, *last), middle))
        };
        words.filter_map(centre).collect()
    }
}

fn span(mut numbers: impl DoubleEndedIterator<Item = usize>) -> Option<Range<usize>> {
    let first = numbers.next()?;
    Some(first..numbers.next_back().unwrap_or(first) + 1)
}
