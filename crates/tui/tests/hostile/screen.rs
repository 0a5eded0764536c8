// SPDX-License-Identifier: Apache-2.0
//! Every page at every size, with every hostile text.

use std::path::Path;
use std::time::Duration;

use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use operator::inbox::{HubId, Inbox, InboxEvent, OperatorReply};
use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::buffer::{Buffer, Cell};
use ratatui::style::{Color, Modifier};
use terok_clearance::client::ProtocolVersion;
use terok_clearance::wire::clearance2::NumberedEvent;
use terok_clearance_tui::{
    ClockReading, ScreenLayout, SessionView, Theme, TimeZone, TuiEffect, TuiMessage, TuiModel,
};
use unicode_width::UnicodeWidthStr as _;

use crate::harmless::{Harmless, tame};
use crate::hub;
use crate::texts;

/// The smallest size, the usual one, and one with all panes.
const SIZES: [(u16, u16); 3] = [(40, 10), (80, 24), (112, 30)];
/// The keys that open each page, the key that shows more of the page, and how often: list, details,
/// activity, sandboxes, help, confirm dialog, filter.
const PAGES: [(&str, KeyCode, usize); 7] = [
    ("", KeyCode::Down, hub::PLACES.len()),
    ("\n", KeyCode::PageDown, 4),
    ("l", KeyCode::PageDown, 4),
    ("s", KeyCode::PageDown, 1),
    ("?", KeyCode::PageDown, 1),
    ("*a", KeyCode::PageDown, 4),
    ("/", KeyCode::Down, 1),
];

struct Screen {
    model: TuiModel,
    inbox: Inbox,
    terminal: Terminal<TestBackend>,
    /// The last frame. The backend keeps what a terminal erases: the cell behind a former wide
    /// character.
    frame: Buffer,
    /// The time; each frame is long after the previous one.
    steady: Duration,
}

impl Screen {
    /// Returns a screen that received every event of a hub with `text` in each place, and of hubs
    /// whose files are called `name`.
    fn new(text: &str, name: &str, (width, height): (u16, u16)) -> Self {
        let theme = Theme {
            color: true,
            unicode: true,
        };
        let mut screen = Self {
            model: TuiModel::new(text, theme, TimeZone::default()),
            inbox: Inbox::new(),
            terminal: Terminal::new(TestBackend::new(width, height)).unwrap(),
            frame: Buffer::default(),
            steady: Duration::ZERO,
        };
        let hub = HubId::new(Path::new("/run/hub.sock"));
        screen.tell(&hub, InboxEvent::Up(ProtocolVersion::Clearance2));
        for event in hub::events(&[text.to_owned()]) {
            // A client skips malformed events.
            let read = serde_json::from_value::<NumberedEvent>(event);
            if let Some(event) = read.ok().and_then(|numbered| numbered.event) {
                screen.tell(&hub, InboxEvent::Received(event));
            }
        }
        for path in ["/run/clearance/{}/hub.sock", "/run/{}"] {
            let other = HubId::new(Path::new(&path.replace("{}", name)));
            screen.tell(&other, InboxEvent::Unreachable(text.into()));
            screen.tell(&other, InboxEvent::Up(ProtocolVersion::Clearance1));
            screen.tell(&other, InboxEvent::Down(text.into()));
            screen.tell(&other, InboxEvent::Gone);
        }
        screen
    }

    fn tell(&mut self, hub: &HubId, news: InboxEvent) {
        let changes = self.inbox.apply_event(hub, news);
        assert_eq!(self.update(TuiMessage::Changed(changes)), None);
    }

    fn update(&mut self, msg: TuiMessage) -> Option<TuiEffect> {
        let now = ClockReading {
            monotonic: self.steady,
            ..ClockReading::default()
        };
        let view = view(&self.inbox);
        self.model.update(msg, view, now)
    }

    fn press(&mut self, code: KeyCode) -> Option<TuiEffect> {
        self.update(TuiMessage::Key(KeyEvent::new(code, KeyModifiers::NONE)))
    }

    /// Denies the selected question; the answer fails, or its result is unknown.
    fn fail(&mut self, reason: &str) {
        for reply in [
            OperatorReply::Failed(reason.into()),
            OperatorReply::EnforcementFailed(reason.into()),
            OperatorReply::ResultUnknown(reason.into()),
        ] {
            self.draw();
            let Some(TuiEffect::Answer { rows, action }) = self.press(KeyCode::Char('x')) else {
                // The smallest screen does not show everything that an answer opens.
                return;
            };
            let inbox = &mut self.inbox;
            let answers = rows.into_iter();
            let answers = answers.flat_map(|(row, scope)| inbox.answer_with(row, action, &scope));
            for answer in answers.flatten().collect::<Vec<_>>() {
                let changes = self.inbox.apply_reply(&answer, reply.clone());
                assert_eq!(self.update(TuiMessage::Changed(changes)), None);
            }
        }
    }

    fn open(&mut self, page: &str) {
        for key in page.chars() {
            let code = if key == '\n' {
                KeyCode::Enter
            } else {
                KeyCode::Char(key)
            };
            self.press(code);
        }
    }

    fn leave(&mut self) {
        for _ in 0..3 {
            self.press(KeyCode::Esc);
        }
    }

    fn draw(&mut self) -> &Buffer {
        self.steady += Duration::from_secs(9);
        let (model, inbox) = (&self.model, &self.inbox);
        let mut drawn = None;
        let last = &mut self.frame;
        self.terminal
            .draw(|frame| {
                let layout = ScreenLayout::new(model, view(inbox), frame.area());
                frame.render_widget(&layout, frame.area());
                drawn = Some(layout.into_drawn());
                last.clone_from(frame.buffer_mut());
            })
            .unwrap();
        assert_eq!(
            self.update(TuiMessage::Drawn(drawn.unwrap_or_default())),
            None
        );
        &self.frame
    }
}

fn view(inbox: &Inbox) -> SessionView<'_> {
    SessionView {
        inbox,
        unanswered: 0,
        is_synced: false,
    }
}

/// Returns a file name made from a text.
fn file_name(text: &str) -> String {
    text.replace(['/', '\0'], "_").chars().take(60).collect()
}

/// Returns the cells of a line that a terminal shows: a wide character hides the cell behind it.
fn shown_cells(line: &[Cell]) -> impl Iterator<Item = &Cell> {
    let mut hidden = 0;
    line.iter().filter(move |cell| {
        if hidden > 0 {
            hidden -= 1;
            return false;
        }
        hidden = cell.symbol().width().saturating_sub(1);
        true
    })
}

fn shown_lines(buffer: &Buffer) -> impl Iterator<Item = &[Cell]> {
    buffer.content().chunks(usize::from(buffer.area.width))
}

fn text(buffer: &Buffer) -> String {
    let line = |cells| {
        let symbols = shown_cells(cells).map(Cell::symbol);
        symbols.chain(["\n"]).collect::<String>()
    };
    shown_lines(buffer).map(line).collect()
}

/// Returns the colours and modifiers of each column that a terminal shows.
fn looks(buffer: &Buffer) -> impl Iterator<Item = (Color, Color, Modifier)> {
    let cells = shown_lines(buffer).flat_map(shown_cells);
    cells.flat_map(|cell| {
        let columns = cell.symbol().width().max(1);
        std::iter::repeat_n((cell.fg, cell.bg, cell.modifier), columns)
    })
}

/// Compares a screen with that of a harmless text.
fn compare(harmless: &Harmless, plain: &Buffer, shown: &Buffer) -> Result<(), String> {
    harmless.text(&text(plain), &text(shown))?;
    if looks(plain).ne(looks(shown)) {
        return Err(format!("it has other colours:\n{}", text(shown)));
    }
    Ok(())
}

/// Compares every page of a hostile and a harmless screen.
fn check_every_page(size: (u16, u16)) {
    for (case, text) in texts::all() {
        let name = file_name(&text);
        let harmless = Harmless::new(&[text.clone(), name.clone()]);
        let mut plain = Screen::new(&tame(&text), &tame(&name), size);
        let mut shown = Screen::new(&text, &name, size);
        plain.fail(&tame(&text));
        shown.fail(&text);
        for (page, more, often) in PAGES {
            plain.open(page);
            shown.open(page);
            let mut before = None;
            for step in 0..=often {
                let (plain, shown) = (&mut plain, &mut shown);
                let drawn = plain.draw().clone();
                let compared = compare(&harmless, &drawn, shown.draw());
                assert_eq!(compared, Ok(()), "{case}, {page:?} at {size:?}, {step}");
                if before.replace(drawn) == Some(plain.frame.clone()) {
                    break;
                }
                plain.press(more);
                shown.press(more);
            }
            plain.leave();
            shown.leave();
        }
        // The details of each question, from the last to the first.
        for place in hub::PLACES {
            for screen in [&mut plain, &mut shown] {
                screen.press(KeyCode::Up);
                screen.open("\n");
            }
            let compared = compare(&harmless, plain.draw(), shown.draw());
            assert_eq!(compared, Ok(()), "{case}, all about {place} at {size:?}");
            plain.leave();
            shown.leave();
        }
    }
}

#[test]
fn text_is_harmless_on_the_smallest_screen() {
    check_every_page(SIZES[0]);
}

#[test]
fn text_is_harmless_on_the_usual_screen() {
    check_every_page(SIZES[1]);
}

#[test]
fn text_is_harmless_on_a_wide_screen() {
    check_every_page(SIZES[2]);
}
