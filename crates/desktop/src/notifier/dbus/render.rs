// SPDX-License-Identifier: Apache-2.0
//! The texts of a notification, adapted to the capabilities of a service.

use crate::notifier::{Notification, NotificationAction, TextLimits};

/// Maximum characters of a title and of a body: a popup larger than the screen hides the buttons.
const MAX_TITLE_CHARS: usize = 256;
const MAX_BODY_CHARS: usize = 4096;

/// How a service shows actions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ActionDisplay {
    /// Not, or not known.
    None,
    /// In a menu, if the operator has set one up.
    Menu,
    Buttons,
}

/// The capabilities of the service that change the texts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct NotificationCapabilities {
    pub(super) actions: ActionDisplay,
    /// The body is shown below the title.
    pub(super) body: bool,
    /// The body is interpreted as markup.
    pub(super) markup: bool,
    /// The text that is shown whole.
    pub(super) limits: TextLimits,
}

impl NotificationCapabilities {
    /// The capabilities of a service that does not tell them.
    pub(super) const LEAST: Self = Self {
        actions: ActionDisplay::None,
        body: true,
        markup: false,
        limits: TextLimits::CONSERVATIVE,
    };

    /// Returns the capabilities with these `names`, of a service with these buttons and limits.
    pub(super) fn new(names: &[String], (buttons, limits): (bool, TextLimits)) -> Self {
        let has = |name: &str| names.iter().any(|known| known == name);
        Self {
            actions: match (has("actions"), buttons) {
                (false, _) => ActionDisplay::None,
                (true, false) => ActionDisplay::Menu,
                (true, true) => ActionDisplay::Buttons,
            },
            body: has("body"),
            markup: has("body-markup"),
            limits,
        }
    }

    /// Returns `true` if actions are shown as buttons.
    pub(super) fn has_buttons(&self) -> bool {
        self.actions == ActionDisplay::Buttons
    }
}

/// The texts and the actions in the form that is sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct RenderedTexts {
    pub(super) summary: String,
    pub(super) body: String,
    pub(super) actions: Vec<NotificationAction>,
}

/// Returns the texts of `notification` for a service with these `capabilities`.
pub(super) fn render_texts(
    notification: &Notification,
    capabilities: NotificationCapabilities,
) -> RenderedTexts {
    let is_question = notification.essential_lines > 0;
    let fitted = notification.clone().fitted_to(&capabilities.limits);
    let notification = &fitted;
    let summary = sanitize_text(&notification.summary, MAX_TITLE_CHARS).replace('\n', " ");
    let mut lines = Vec::new();
    if !notification.body.is_empty() {
        lines.push(sanitize_text(&notification.body, MAX_BODY_CHARS));
    }
    let buttonless = !capabilities.has_buttons() && !notification.actions.is_empty();
    if let Some(hint) = notification.buttonless_hint.as_ref().filter(|_| buttonless) {
        // A service that clips the end of a body shows the lines that matter first.
        let body: Vec<_> = notification.body.lines().collect();
        let essential = match notification.essential_lines {
            0 => body.len(),
            essential => essential.min(body.len()),
        };
        let (first, rest) = body.split_at(essential);
        let body = [first, &[hint.as_str()], rest].concat().join("\n");
        lines = vec![sanitize_text(&body, MAX_BODY_CHARS)];
    }
    if !capabilities.body {
        // Services never interpret a title as markup.
        let parts = std::iter::once(summary).chain(lines);
        let parts: Vec<_> = parts.map(|part| part.replace('\n', "; ")).collect();
        // A title of several lines may be cut anywhere.
        let actions = if is_question {
            &[]
        } else {
            &*notification.actions
        };
        return RenderedTexts {
            summary: parts.join("; "),
            body: String::new(),
            actions: actions.to_vec(),
        };
    }
    // A service that may or may not show actions is not given those of a question.
    let actions = if is_question && capabilities.actions == ActionDisplay::None {
        Vec::new()
    } else {
        notification.actions.clone()
    };
    let body = lines.join("\n");
    RenderedTexts {
        summary,
        actions,
        body: if capabilities.markup {
            escape_markup(&body)
        } else {
            body
        },
    }
}

/// Returns at most `limit` characters of `text`, without control characters: an XML parser rejects
/// a text that contains a control character, and some services then show nothing.
fn sanitize_text(text: &str, limit: usize) -> String {
    let harmless = |c: char| match c {
        '\n' => '\n',
        c if c.is_control() => ' ',
        c => c,
    };
    let mut cut: String = text.chars().take(limit).map(harmless).collect();
    if text.chars().nth(limit).is_some() {
        cut.push('…');
    }
    cut
}

fn escape_markup(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            character => escaped.push(character),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: NotificationCapabilities = NotificationCapabilities {
        actions: ActionDisplay::Buttons,
        body: true,
        markup: true,
        limits: TextLimits::UNLIMITED,
    };

    fn asking(body: &str) -> Notification {
        Notification {
            body: body.to_owned(),
            actions: vec!["allow:Allow".parse().unwrap()],
            buttonless_hint: Some("Answer with `x` & <y>.".to_owned()),
            ..Notification::new("a <b>title</b>")
        }
    }

    #[test]
    fn only_a_body_that_is_interpreted_as_markup_is_escaped() {
        let body = "<a href='x'>1 & 2</a>";
        let shown = render_texts(&asking(body), ALL);
        assert_eq!(shown.summary, "a <b>title</b>");
        assert_eq!(shown.body, "&lt;a href='x'&gt;1 &amp; 2&lt;/a&gt;");
        let able = NotificationCapabilities {
            markup: false,
            ..ALL
        };
        assert_eq!(render_texts(&asking(body), able).body, body);
    }

    #[test]
    fn without_buttons_the_text_says_how_to_answer() {
        let able = NotificationCapabilities {
            actions: ActionDisplay::None,
            ..ALL
        };
        let shown = render_texts(&asking("who"), able);
        assert_eq!(shown.body, "who\nAnswer with `x` &amp; &lt;y&gt;.");
        let nothing_to_choose = Notification {
            actions: Vec::new(),
            ..asking("who")
        };
        assert_eq!(render_texts(&nothing_to_choose, able).body, "who");
        let able = NotificationCapabilities {
            body: false,
            ..able
        };
        let titles = render_texts(&asking("who\nwhat"), able);
        assert_eq!(
            titles.summary,
            "a <b>title</b>; who; what; Answer with `x` & <y>."
        );
        assert_eq!(titles.body, "");
    }

    #[test]
    fn a_question_has_its_actions_where_its_first_line_is_shown() {
        let question = || Notification {
            body: "opens a\nmore".to_owned(),
            essential_lines: 1,
            fallback_actions: vec!["open:Open".parse().unwrap()],
            ..asking("")
        };
        let check = |capabilities, body: &str, labels: &[&str]| {
            let shown = render_texts(&question(), capabilities);
            let actions = shown.actions.iter();
            let actions: Vec<_> = actions.map(NotificationAction::label).collect();
            assert_eq!(
                (&*shown.body, &*actions),
                (body, labels),
                "{capabilities:?}"
            );
        };
        let plain = NotificationCapabilities {
            markup: false,
            ..ALL
        };
        let with = |actions| NotificationCapabilities { actions, ..plain };
        let hint = "opens a\nAnswer with `x` & <y>.\nmore";
        check(plain, "opens a\nmore", &["Allow"]);
        check(with(ActionDisplay::Menu), hint, &["Allow"]);
        check(with(ActionDisplay::None), hint, &[]);
        let titles = NotificationCapabilities {
            body: false,
            ..plain
        };
        check(titles, "", &[]);
        let limits = TextLimits {
            line_columns: 3,
            lines: 2,
            ..TextLimits::UNLIMITED
        };
        let narrow = NotificationCapabilities { limits, ..plain };
        check(
            narrow,
            "op\u{2026}s a\nAnswer with `x` & <y>.\nmore",
            &["Open"],
        );
    }

    #[test]
    fn control_characters_and_overlong_texts_are_cut() {
        let hostile = Notification {
            body: format!("\u{1b}[31m\0\r\n{}", "x".repeat(10_000)),
            ..Notification::new("two\nlines")
        };
        let shown = render_texts(&hostile, ALL);
        assert_eq!(shown.summary, "two lines");
        assert!(
            shown.body.starts_with(" [31m  \nxxx"),
            "{:?}",
            &shown.body[..20]
        );
        assert_eq!(shown.body.chars().count(), MAX_BODY_CHARS + 1);
        assert!(!shown.body.contains(|c: char| c.is_control() && c != '\n'));
    }

    #[test]
    fn capabilities_are_known_by_name() {
        let said = ["body", "x-canonical", "actions"].map(str::to_owned);
        let able = NotificationCapabilities {
            markup: false,
            ..ALL
        };
        assert_eq!(
            NotificationCapabilities::new(&said, (true, TextLimits::UNLIMITED)),
            able
        );
    }
}
