// SPDX-License-Identifier: Apache-2.0
//! The full screen: every cell has one plain character, or one of our lines.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use operator::inbox::{HubId, News};
use operator::tui::{Model, Msg, Now, Theme, Zone};
use ratatui::Terminal;
use ratatui::backend::TestBackend;
use terok_clearance::client::Speaks;
use terok_clearance::wire::clearance2::{ContainerState, Event, Request};
use terok_clearance::{Action, Decision, DisplayText};

use crate::cases;

struct Screen {
    model: Model,
    terminal: Terminal<TestBackend>,
}

impl Screen {
    fn new(place: &str, width: u16, height: u16) -> Self {
        let theme = Theme {
            color: true,
            unicode: true,
        };
        Self {
            model: Model::new(place, theme, Zone::default()),
            terminal: Terminal::new(TestBackend::new(width, height)).unwrap(),
        }
    }

    fn tell(&mut self, hub: &HubId, news: News) {
        let msg = Msg::News(hub.clone(), news);
        assert_eq!(self.model.update(msg, Now::default()), None);
    }

    /// Draws every page, and asserts that all that is on it is harmless.
    fn is_harmless(&mut self, case: &str) {
        for keys in ["", "\n", "l", "s", "?", "*a", "/"] {
            for key in keys.chars() {
                let code = if key == '\n' {
                    KeyCode::Enter
                } else {
                    KeyCode::Char(key)
                };
                let key = KeyEvent::new(code, KeyModifiers::NONE);
                self.model.update(Msg::Key(key), Now::default());
            }
            let now = Now {
                steady: Duration::from_secs(9),
                ..Now::default()
            };
            let model = &mut self.model;
            self.terminal
                .draw(|frame| {
                    model.lay_out(frame.area(), now);
                    frame.render_widget(&*model, frame.area());
                })
                .unwrap();
            for cell in self.terminal.backend().buffer().content() {
                let symbol = cell.symbol();
                let plain = symbol.len() == 1 && symbol.bytes().all(|b| (b' '..=b'~').contains(&b));
                assert!(plain || symbol == "\u{2500}", "{case}: {symbol:?}");
            }
            for _ in 0..3 {
                let escape = KeyEvent::new(KeyCode::Esc, KeyModifiers::NONE);
                self.model.update(Msg::Key(escape), Now::default());
            }
        }
    }
}

fn decision(request: &Request, text: &str) -> Decision {
    Decision {
        request: request.id.clone(),
        container: request.container.clone(),
        dest: request.dest.clone(),
        action: Action::Allow.into(),
        scope: Some(request.scope.clone()),
        by: DisplayText::new(text),
        at: 1,
        ok: true,
        reason: Some(DisplayText::new(text)),
    }
}

#[test]
fn whatever_a_question_says() {
    for (width, height) in [(40, 10), (80, 24), (160, 50)] {
        for (case, text) in cases::all() {
            let mut screen = Screen::new(&text, width, height);
            let hub = HubId::new(Path::new("/run/hub.sock"));
            screen.tell(&hub, News::Up(Speaks::Clearance2));
            let neighbour = cases::pending(1, "quiet");
            let asked = [neighbour, cases::pending(2, &text), cases::about(3, &text)];
            for json in asked {
                // A text that is no destination at all never comes so far.
                if let Ok(request) = serde_json::from_str::<Request>(&json) {
                    screen.tell(&hub, News::Said(Event::Pending(Arc::new(request))));
                }
            }
            screen.is_harmless(case);
        }
    }
}

#[test]
fn whatever_a_hub_says_of_itself() {
    for (case, text) in cases::all() {
        let mut screen = Screen::new("/run", 80, 24);
        // A file's name cannot have a NUL, nor be longer than 255 bytes.
        let name: String = text.replace(['/', '\0'], "_").chars().take(60).collect();
        let hub = HubId::new(Path::new(&format!("/run/clearance/{name}/hub.sock")));
        screen.tell(&hub, News::Up(Speaks::Clearance2));
        let request: Request = serde_json::from_str(&cases::pending(1, &text)).unwrap();
        let request = Arc::new(request);
        let reason = DisplayText::new(&text);
        let container = request.container.clone();
        for event in [
            Event::Pending(Arc::clone(&request)),
            Event::Withdrawn {
                request: Arc::clone(&request),
                reason: reason.clone(),
            },
            Event::Pending(Arc::clone(&request)),
            Event::Decided(Arc::new(decision(&request, &text))),
            Event::Container {
                container,
                state: ContainerState::Exited,
                reason: Some(reason.clone()),
            },
            Event::Lost {
                lost: 7,
                reason: reason.clone(),
            },
        ] {
            screen.tell(&hub, News::Said(event));
        }
        screen.tell(&hub, News::Down(reason.clone()));
        let other = HubId::new(Path::new(&format!("/{name}")));
        screen.tell(&other, News::Unreachable(reason));
        screen.is_harmless(case);
    }
}
