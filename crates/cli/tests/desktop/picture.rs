// SPDX-License-Identifier: Apache-2.0
//! Looks at a picture of the screen: where a popup is, and where its buttons are.
//!
//! The screen is black and every popup is light with dark letters, so the lowest line of letters in
//! it are the buttons' labels.

use std::ops::Range;

pub(crate) const WIDTH: usize = 1024;
pub(crate) const HEIGHT: usize = 400;

/// Darker than this is a letter.
const LETTER: u8 = 100;
/// What is nearer than this to the popup's edge is the edge.
const EDGE: usize = 14;
/// A label is about as high, with what hangs below its line.
const LETTERS: usize = 11;
/// Letters further apart than this are of different labels.
const APART: usize = 16;
/// Lit lines nearer than this are of one popup.
const SEAM: usize = 2;

/// The screen in shades of grey, line by line.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Picture(pub(crate) Vec<u8>);

impl Picture {
    fn at(&self, x: usize, y: usize) -> u8 {
        self.0.get(y * WIDTH + x).copied().unwrap_or(0)
    }

    /// Says whether nothing at all is on the screen.
    pub(crate) fn is_empty(&self) -> bool {
        self.popup().is_none()
    }

    /// Returns how high what is shown is.
    pub(crate) fn popup_height(&self) -> usize {
        self.popup().map_or(0, |(_, lines)| lines.len())
    }

    /// Returns how many popups there are, one below the other.
    pub(crate) fn popups(&self) -> usize {
        let lit = |y: &usize| (0..WIDTH).any(|x| self.at(x, *y) > LETTER);
        let lines: Vec<_> = (0..HEIGHT).filter(lit).collect();
        lines.chunk_by(|a, b| b - a <= SEAM).count()
    }

    /// Returns where the upper popup is closed: there is a cross, or it closes wherever it is
    /// clicked on but on a button.
    pub(crate) fn cross(&self) -> Option<(usize, usize)> {
        let (columns, lines) = self.popup()?;
        Some((columns.end - 28, lines.start + 27))
    }

    /// Returns the columns and the lines in which something is shown.
    fn popup(&self) -> Option<(Range<usize>, Range<usize>)> {
        let lit = |x, y| self.at(x, y) > LETTER;
        let columns = (0..WIDTH).filter(|&x| (0..HEIGHT).any(|y| lit(x, y)));
        let lines = (0..HEIGHT).filter(|&y| (0..WIDTH).any(|x| lit(x, y)));
        Some((span(columns)?, span(lines)?))
    }

    /// Returns the middle of each button, from left to right.
    pub(crate) fn buttons(&self) -> Vec<(usize, usize)> {
        let Some((columns, lines)) = self.popup() else {
            return Vec::new();
        };
        // On the left there may be a coloured stripe.
        let within = columns.start + columns.len() / 4..columns.end.saturating_sub(EDGE);
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
