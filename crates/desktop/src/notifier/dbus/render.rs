// SPDX-License-Identifier: Apache-2.0
//! What a notification looks like on a desktop that can show only so much.

use crate::notifier::Notification;

/// The longest title and the longest text, in characters: nobody reads more in a popup, and one
/// that fills the screen hides its buttons.
const MAX_TITLE_CHARS: usize = 256;
const MAX_BODY_CHARS: usize = 4096;

/// Said where a choice came too soon to be one.
const TOO_SOON_TEXT: &str = "The click came too soon after this appeared, so it was not taken. \
Choose again.";

/// What the service says it can do, as far as it matters here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct NotificationCapabilities {
    /// It shows actions, and reports them.
    pub(super) actions: bool,
    /// It shows more than a title.
    pub(super) body: bool,
    /// It takes the text as markup.
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

/// The texts that are sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct RenderedTexts {
    pub(super) summary: String,
    pub(super) body: String,
}

/// Returns what is sent for `notification` to a service that can do `able`; `too_soon` says that a
/// click was not taken.
pub(super) fn render_texts(
    notification: &Notification,
    able: NotificationCapabilities,
    too_soon: bool,
) -> RenderedTexts {
    let summary = sanitize_text(&notification.summary, MAX_TITLE_CHARS).replace('\n', " ");
    let mut lines = Vec::new();
    if too_soon {
        lines.push(TOO_SOON_TEXT.to_owned());
    }
    if !notification.body.is_empty() {
        lines.push(sanitize_text(&notification.body, MAX_BODY_CHARS));
    }
    let buttonless = !able.actions && !notification.actions.is_empty();
    if let Some(elsewhere) = notification.buttonless_hint.as_ref().filter(|_| buttonless) {
        lines.push(sanitize_text(elsewhere, MAX_BODY_CHARS));
    }
    if !able.body {
        // A title is never markup.
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
        body: if able.markup {
            escape_markup(&body)
        } else {
            body
        },
    }
}

/// Returns `text` cut to `most` characters, without the controls that some services show nothing
/// for: an XML parser refuses a text for one of them.
fn sanitize_text(text: &str, most: usize) -> String {
    let harmless = |c: char| match c {
        '\n' => '\n',
        c if c.is_control() => ' ',
        c => c,
    };
    let mut cut: String = text.chars().take(most).map(harmless).collect();
    if text.chars().nth(most).is_some() {
        cut.push('…');
    }
    cut
}

/// Returns `text` with the characters escaped that begin markup.
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
    fn only_a_text_that_is_taken_as_markup_is_escaped_and_a_title_never_is() {
        let body = "<a href='x'>1 & 2</a>";
        let shown = render_texts(&asking(body), ALL, false);
        assert_eq!(shown.summary, "a <b>title</b>");
        assert_eq!(shown.body, "&lt;a href='x'&gt;1 &amp; 2&lt;/a&gt;");
        let able = NotificationCapabilities {
            markup: false,
            ..ALL
        };
        assert_eq!(render_texts(&asking(body), able, false).body, body);
    }

    #[test]
    fn where_there_are_no_buttons_it_says_how_to_answer() {
        let able = NotificationCapabilities {
            actions: false,
            ..ALL
        };
        let shown = render_texts(&asking("who"), able, false);
        assert_eq!(shown.body, "who\nAnswer with `x` &amp; &lt;y&gt;.");
        let nothing_to_choose = Notification {
            actions: Vec::new(),
            ..asking("who")
        };
        assert_eq!(render_texts(&nothing_to_choose, able, false).body, "who");
        let titles = render_texts(
            &asking("who\nwhat"),
            NotificationCapabilities::default(),
            false,
        );
        assert_eq!(
            titles.summary,
            "a <b>title</b>; who; what; Answer with `x` & <y>."
        );
        assert_eq!(titles.body, "");
    }

    #[test]
    fn a_click_that_was_not_taken_is_said_before_the_rest() {
        let shown = render_texts(&asking("who"), ALL, true);
        assert_eq!(shown.body, format!("{TOO_SOON_TEXT}\nwho"));
    }

    #[test]
    fn what_a_screen_cannot_show_is_left_out() {
        let hostile = Notification {
            body: format!("\u{1b}[31m\0\r\n{}", "x".repeat(10_000)),
            ..Notification::new("two\nlines")
        };
        let shown = render_texts(&hostile, ALL, false);
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
