// SPDX-License-Identifier: Apache-2.0
//! The visible characters of all scripts.

use std::ops::RangeInclusive;

use unicode_width::UnicodeWidthChar as _;

/// Maximum marks on one character. Vietnamese and pointed Hebrew have two or three; a stack of
/// more reaches into the lines above and below.
const MAX_MARKS: usize = 4;

/// Returns the characters with one space in place of each that is invisible, that moves other text,
/// or that is one mark too many.
pub(super) fn visible(text: impl Iterator<Item = char>) -> String {
    // A mark belongs to the character before it, which must be one of the name.
    let mut marks = MAX_MARKS;
    let replaced = text.map(|c| {
        if !is_visible(c) {
            marks = MAX_MARKS;
            return ' ';
        }
        if c == ' ' {
            marks = MAX_MARKS;
        } else if c.width() != Some(0) {
            marks = 0;
        } else if marks < MAX_MARKS {
            marks = marks.saturating_add(1);
        } else {
            return ' ';
        }
        c
    });
    replaced.collect()
}

/// Characters that are not seen in the text's own place.
///
/// These are the property `Default_Ignorable_Code_Point`, the general categories `Cc`, `Cf`, `Co`,
/// `Zl`, `Zp` and `Zs` of the Unicode Character Database (16.0), and characters that fonts draw as
/// nothing or as a replacement.
const HIDDEN: [RangeInclusive<char>; 36] = [
    // C0, C1, DEL, no-break space, soft hyphen.
    '\0'..='\u{1f}',
    '\u{7f}'..='\u{a0}',
    '\u{ad}'..='\u{ad}',
    // Joiners of marks, signs of Arabic and Syriac that span digits, the letter mark.
    '\u{34f}'..='\u{34f}',
    '\u{600}'..='\u{605}',
    '\u{61c}'..='\u{61c}',
    '\u{6dd}'..='\u{6dd}',
    '\u{70f}'..='\u{70f}',
    '\u{890}'..='\u{891}',
    '\u{8e2}'..='\u{8e2}',
    // Fillers of Hangul, the space of Ogham, vowels of Khmer, selectors of Mongolian.
    '\u{115f}'..='\u{1160}',
    '\u{1680}'..='\u{1680}',
    '\u{17b4}'..='\u{17b5}',
    '\u{180b}'..='\u{180f}',
    // Spaces, joiners, directional controls, line ends, invisible operators.
    '\u{2000}'..='\u{200f}',
    '\u{2028}'..='\u{202f}',
    '\u{205f}'..='\u{206f}',
    // The empty Braille pattern, the ideographic space, the filler of compatibility jamo.
    '\u{2800}'..='\u{2800}',
    '\u{3000}'..='\u{3000}',
    '\u{3164}'..='\u{3164}',
    // Private use, noncharacters, selectors, the byte order mark, half-width filler, specials.
    '\u{e000}'..='\u{f8ff}',
    '\u{fdd0}'..='\u{fdef}',
    '\u{fe00}'..='\u{fe0f}',
    '\u{feff}'..='\u{feff}',
    '\u{ffa0}'..='\u{ffa0}',
    '\u{fff0}'..='\u{ffff}',
    // Format controls of Kaithi, of hieroglyphs, of shorthand and of musical notation.
    '\u{110bd}'..='\u{110bd}',
    '\u{110cd}'..='\u{110cd}',
    '\u{13430}'..='\u{1343f}',
    '\u{1bca0}'..='\u{1bca3}',
    '\u{1d173}'..='\u{1d17a}',
    // Letters of flags and skin tones, whose width depends on the terminal.
    '\u{1f1e6}'..='\u{1f1ff}',
    '\u{1f3fb}'..='\u{1f3ff}',
    // Noncharacters of the planes with characters.
    '\u{1fffe}'..='\u{1ffff}',
    '\u{2fffe}'..='\u{2ffff}',
    // The end of the last plane with characters, tags, selectors, the planes of private use.
    '\u{3fffe}'..=char::MAX,
];

/// Returns `true` for the common space and for characters that are seen in the text's own place.
fn is_visible(c: char) -> bool {
    !HIDDEN.iter().any(|range| range.contains(&c))
}
