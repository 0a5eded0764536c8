// SPDX-License-Identifier: Apache-2.0
//! The texts of a notification, adapted to the capabilities of a service.

use crate::notifier::Notification;

/// Maximum characters of a title and of a body: a popup larger than the screen hides the buttons.
const MAX_TITLE_CHARS: usize = 256;
const MAX_BODY_CHARS: usize = 4096;

/// The capabilities of the service that change the texts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct NotificationCapabilities {
    /// Actions are shown as buttons.
    pub(super) actions: bool,
    /// The body is shown below the title.
    pub(super) body: bool,
    /// The body is interpreted as markup.
    pub(super) markup: bool,
}

impl NotificationCapabilities {
    pub(super) fn from_names(names: &[String]) -> Self {
        let has = |name: &str| names.iter().any(|known| known == name);
        Self {
            actions: has("actions"),
            body: has("body"),
            markup: has("body-markup"),
        }
    }
}

/// The texts in the form that is sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct RenderedTexts {
    pub(super) summary: String,
    pub(super) body: String,
}

/// Returns the texts of `notification` for a service with these `capabilities`.
pub(super) fn render_texts(
    notification: &Notification,
    capabilities: NotificationCapabilities,
) -> RenderedTexts {
    let summary = sanitize_text(&notification.summary, MAX_TITLE_CHARS).replace('\n', " ");
    let mut lines = Vec::new();
    if !notification.body.is_empty() {
        lines.push(sanitize_text(&notification.body, MAX_BODY_CHARS));
    }
    let buttonless = !capabilities.actions && !notification.actions.is_empty();
    if let Some(hint) = notification.buttonless_hint.as_ref().filter(|_| buttonless) {
        lines.push(sanitize_text(hint, MAX_BODY_CHARS));
    }
    if !capabilities.body {
        // Services never interpret a title as markup.
        let parts = std::iter::once(summary).chain(lines);
        let parts: Vec<_> = parts.map(|part| part.replace('\n', "; ")).collect();
        return RenderedTexts {
            summary: parts.join("; "),
            body: String::new(),
        };
    }
    let body = lines.join("\n");
    RenderedTexts {
        summary,
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
        actions: true,
        body: true,
        markup: true,
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
            actions: false,
            ..ALL
        };
        let shown = render_texts(&asking("who"), able);
        assert_eq!(shown.body, "who\nAnswer with `x` &amp; &lt;y&gt;.");
        let nothing_to_choose = Notification {
            actions: Vec::new(),
            ..asking("who")
        };
        assert_eq!(render_texts(&nothing_to_choose, able).body, "who");
        let titles = render_texts(&asking("who\nwhat"), NotificationCapabilities::default());
        assert_eq!(
            titles.summary,
            "a <b>title</b>; who; what; Answer with `x` & <y>."
        );
        assert_eq!(titles.body, "");
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
        assert_eq!(NotificationCapabilities::from_names(&said), able);
    }
}
