// SPDX-License-Identifier: Apache-2.0
//! How much text a notification service certainly shows, and texts cut to that.
//!
//! No service reports how much it shows: some cut a long title at its end, some grow beyond the
//! screen, some clip the lines at the bottom. A sandbox that chooses a long host name could hide
//! the end of the name, which is the part that identifies its owner. [`KNOWN_SERVICES`] is measured
//! on pictures of the services with their default settings (`./check desktop`), with a margin for
//! larger fonts and for names of wide letters; every other service gets
//! [`TextLimits::CONSERVATIVE`].

use unicode_width::{UnicodeWidthChar as _, UnicodeWidthStr as _};

use super::Notification;

/// The text that a service certainly shows. Widths are in columns of a digit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TextLimits {
    /// The width of a title that is shown whole, in one line.
    pub title_columns: usize,
    /// The width of a line of the body; longer lines are wrapped.
    pub line_columns: usize,
    /// The lines of the body that are shown, counted after wrapping.
    pub lines: usize,
    /// The actions whose buttons are shown whole.
    pub actions: usize,
}

impl TextLimits {
    /// The limits of a service that is not known. GNOME Shell and Plasma, among others, show more.
    pub const CONSERVATIVE: Self = Self {
        title_columns: 40,
        line_columns: 34,
        lines: 5,
        actions: 2,
    };
    /// No limits, for a program that shows every text whole.
    pub const UNLIMITED: Self = Self {
        title_columns: usize::MAX,
        line_columns: usize::MAX,
        lines: usize::MAX,
        actions: usize::MAX,
    };

    /// Returns the number of lines that `paragraph` takes, wrapped at words.
    pub(crate) fn wrapped_lines(&self, paragraph: &str) -> usize {
        let (mut lines, mut used) = (1_usize, 0_usize);
        for word in paragraph.split(' ') {
            let mut width = word.width();
            let space = usize::from(used > 0);
            if used.saturating_add(space).saturating_add(width) <= self.line_columns {
                used = used.saturating_add(space).saturating_add(width);
                continue;
            }
            if used > 0 {
                lines = lines.saturating_add(1);
            }
            while width > self.line_columns {
                lines = lines.saturating_add(1);
                width = width.saturating_sub(self.line_columns.max(1));
            }
            used = width;
        }
        lines
    }

    /// Returns `true` if the first `count` lines of `body` are shown whole.
    ///
    /// Spaces at the end of a wrapped line take no room on the screen, so that a name with a run of
    /// spaces would look like two.
    pub(crate) fn shows(&self, body: &str, count: usize) -> bool {
        let lines = body.lines().take(count);
        let is_wrapped = |line: &&str| line.width() > self.line_columns;
        if lines
            .clone()
            .filter(is_wrapped)
            .any(|line| line.contains("  "))
        {
            return false;
        }
        let wrapped = lines.map(|line| self.wrapped_lines(line));
        wrapped.fold(0, usize::saturating_add) <= self.lines
    }
}

/// A service in its reply to `GetServerInformation`.
struct KnownService {
    name: &'static str,
    vendor: &'static str,
    /// The service draws the actions as buttons. Other services have a menu, if the operator has
    /// set one up, or none at all.
    buttons: bool,
    limits: TextLimits,
}

/// The services that were measured: the title, the width of a line, the lines, the buttons. A name
/// that takes more than three lines is not read, even where it is shown.
///
/// - Xfce and MATE grow with the buttons, and show four of `Allow once` side by side;
///   notification-daemon moves its text aside for four. A menu hides what its lines open.
/// - Xfce (0.7.3) cuts a title at the end of its only line, and a paragraph after six lines.
/// - MATE (1.26) grows with the title, to the left and beyond the screen.
/// - notification-daemon (3.20) wraps everything.
/// - dunst (1.9.0) clips the body at a height of 300 pixels, and has a menu in place of buttons.
/// - mako (1.7, by its manual) clips at a height of 100 pixels, and has a menu on request.
const KNOWN_SERVICES: [KnownService; 5] = [
    known("Xfce Notify Daemon", "Xfce", true, (32, 34, 5, 4)),
    known("Notification Daemon", "MATE", true, (45, 34, 5, 4)),
    known("Notification Daemon", "GNOME", true, (46, 30, 6, 3)),
    known("dunst", "knopwob", false, (40, 40, 5, 2)),
    known("mako", "emersion", false, (34, 34, 3, 2)),
];

const fn known(
    name: &'static str,
    vendor: &'static str,
    buttons: bool,
    (title_columns, line_columns, lines, actions): (usize, usize, usize, usize),
) -> KnownService {
    KnownService {
        name,
        vendor,
        buttons,
        limits: TextLimits {
            title_columns,
            line_columns,
            lines,
            actions,
        },
    }
}

/// Returns whether the service draws buttons for its actions, and its limits.
pub(super) fn service_limits(name: &str, vendor: &str) -> (bool, TextLimits) {
    let mut services = KNOWN_SERVICES.iter();
    match services.find(|it| (it.name, it.vendor) == (name, vendor)) {
        Some(service) => (service.buttons, service.limits),
        None => (true, TextLimits::CONSERVATIVE),
    }
}

/// The width of a name in a line that is cut, and the lines that such a line without a name takes.
const CUT_NAME_COLUMNS: usize = 32;
const CUT_LINES: usize = 2;

impl Notification {
    /// Returns the notification as a service with these `limits` shows it.
    ///
    /// A long title is cut in its middle. If the service may cut one of the first
    /// [`Notification::essential_lines`], the line is cut in its middle, and the
    /// [`Notification::fallback_actions`] and [`Notification::buttonless_hint`] take the place of
    /// the actions, because an operator cannot agree to a text that was not shown.
    #[must_use]
    pub fn fitted_to(mut self, limits: &TextLimits) -> Self {
        self.summary = cut_middle(&self.summary, limits.title_columns);
        if self.essential_lines == 0 || limits.shows(&self.body, self.essential_lines) {
            return self;
        }
        let essential = self.essential_lines;
        let columns = limits.line_columns.saturating_mul(CUT_LINES);
        let name = self.long_name.take();
        let name = name.filter(|name| name.width() > CUT_NAME_COLUMNS);
        let cut = |line: &str| match &name {
            Some(name) if line.contains(name.as_str()) => {
                line.replace(name.as_str(), &cut_middle(name, CUT_NAME_COLUMNS))
            }
            _ => cut_middle(line, columns),
        };
        let lines = self.body.lines().enumerate();
        let mut lines: Vec<String> = lines
            .map(|(at, line)| {
                if at < essential {
                    cut(line)
                } else {
                    line.to_owned()
                }
            })
            .collect();
        // After the lines that say what is asked, so that it is not clipped with the rest.
        if let Some(hint) = self
            .buttonless_hint
            .take()
            .filter(|_| !self.actions.is_empty())
        {
            lines.insert(essential.min(lines.len()), hint);
        }
        self.body = lines.join("\n");
        self.actions = std::mem::take(&mut self.fallback_actions);
        self.essential_lines = 0;
        self
    }
}

/// Returns `text` in at most `columns` columns. A longer text loses its middle: begin and end of a
/// host name say most about its owner.
pub(crate) fn cut_middle(text: &str, columns: usize) -> String {
    if text.width() <= columns {
        return text.to_owned();
    }
    let room = columns.saturating_sub(1);
    let (start_room, end_room) = (room / 2, room - room / 2);
    let fits = |room: usize| {
        let mut used = 0_usize;
        move |c: &char| {
            used = used.saturating_add(c.width().unwrap_or(0));
            used <= room
        }
    };
    let start: String = text.chars().take_while(fits(start_room)).collect();
    let mut end: Vec<char> = text.chars().rev().take_while(fits(end_room)).collect();
    // A mark without its letter would join the ellipsis.
    while end.last().is_some_and(|c| c.width() == Some(0)) {
        end.pop();
    }
    let end: String = end.into_iter().rev().collect();
    format!("{start}\u{2026}{end}")
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: TextLimits = TextLimits {
        title_columns: 20,
        line_columns: 10,
        lines: 2,
        actions: 2,
    };

    #[test]
    fn a_long_text_loses_its_middle() {
        let check = |text: &str, columns: usize, expected: &str| {
            let cut = cut_middle(text, columns);
            assert_eq!(cut, expected, "{text:?} in {columns}");
            assert!(cut.width() <= columns, "{cut:?}");
        };
        check("a.example", 9, "a.example");
        check(
            "bank.example.xxxxx.evil.example",
            21,
            "bank.examp\u{2026}il.example",
        );
        check(
            "\u{65e5}\u{672c}\u{8a9e}\u{65e5}\u{672c}\u{8a9e}",
            7,
            "\u{65e5}\u{2026}\u{8a9e}",
        );
        check(
            "ae\u{301}e\u{301}e\u{301}e\u{301}e\u{301}z",
            4,
            "a\u{2026}e\u{301}z",
        );
    }

    #[test]
    fn lines_are_wrapped_at_words_and_within_long_ones() {
        let check = |text: &str, lines: usize| {
            assert_eq!(LIMITS.wrapped_lines(text), lines, "{text:?}");
        };
        check("", 1);
        check("1234567890", 1);
        check("12345678901", 2);
        check("1234 6789 1234", 2);
        check("1234 12345678901234567890123", 4);
        check("\u{65e5}\u{672c}\u{8a9e}\u{65e5}\u{672c}\u{8a9e}", 2);
    }

    #[test]
    fn actions_are_offered_only_if_the_essential_lines_are_shown() {
        let asking = |body: &str, essential_lines| Notification {
            body: body.to_owned(),
            actions: vec!["allow:Allow".parse().unwrap()],
            fallback_actions: vec!["open:Open".parse().unwrap()],
            buttonless_hint: Some("Type x".to_owned()),
            essential_lines,
            ..Notification::new("a title of more than twenty columns")
        };
        let short = asking("opens a\nmore", 1).fitted_to(&LIMITS);
        assert_eq!(short.summary, "a title o\u{2026}ty columns");
        assert_eq!(
            (&*short.body, short.actions[0].label()),
            ("opens a\nmore", "Allow")
        );
        let long = format!("opens a{}z\nmore", "b".repeat(20));
        let cut = asking(&long, 1).fitted_to(&LIMITS);
        assert_eq!(cut.body, "opens abb\u{2026}bbbbbbbbbz\nType x\nmore");
        assert_eq!(cut.actions[0].label(), "Open");
        let spaced = asking("opens  abcd", 1).fitted_to(&LIMITS);
        assert_eq!(spaced.actions[0].label(), "Open");
        let again = cut.clone().fitted_to(&LIMITS);
        assert_eq!(again, cut, "a second pass changes nothing");
        let whatever = asking(&long, 0).fitted_to(&LIMITS);
        assert_eq!(
            (&whatever.body, whatever.actions[0].label()),
            (&long, "Allow")
        );
        let list = asking("a\nb\nc", 3).fitted_to(&LIMITS);
        assert_eq!(list.body, "a\nb\nc\nType x");
        assert_eq!(list.actions[0].label(), "Open");
    }

    #[test]
    fn unknown_services_show_little() {
        assert_eq!(service_limits("", ""), (true, TextLimits::CONSERVATIVE));
        assert_eq!(
            service_limits("dunst", "other"),
            (true, TextLimits::CONSERVATIVE)
        );
        assert!(!service_limits("dunst", "knopwob").0);
    }
}
