// SPDX-License-Identifier: Apache-2.0
//! Where everything goes, at every size: what is laid out here is what is drawn, and what keys mean.

use std::time::Duration;

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::text::{Line, Span};

use super::details::Details;
use super::guard::{self, Part, Shown};
use super::help;
use super::keys::{Mode, Page};
use super::model::Model;
use super::theme::Theme;
use super::wrap::wrap;
use crate::inbox::RowNumber;
use crate::words;

/// The smallest window that has room for a question and what an answer opens.
const LEAST: (u16, u16) = (40, 10);
/// From this width on there is room for the sandboxes beside the log.
const WIDE: u16 = 110;
/// From this height on there is room for the log.
const TALL: u16 = 18;

/// A screen that is laid out.
#[derive(Debug, Default)]
pub(super) struct Screen {
    panes: Vec<(Rect, Vec<Line<'static>>)>,
    /// The questions that are listed, and the line of the first.
    rows: Vec<RowNumber>,
    first: u16,
    /// How many lines the page has room for.
    pub(super) window: usize,
}

/// The space that is left, from the top down.
struct Space {
    area: Rect,
    screen: Screen,
    theme: Theme,
}

impl Space {
    fn width(&self) -> usize {
        self.area.width.into()
    }

    /// Takes so many lines off the top.
    fn take(&mut self, height: u16) -> Rect {
        let height = height.min(self.area.height);
        let taken = Rect {
            height,
            ..self.area
        };
        self.area.y = self.area.y.saturating_add(height);
        self.area.height = self.area.height.saturating_sub(height);
        taken
    }

    fn put(&mut self, area: Rect, lines: Vec<Line<'static>>) {
        self.screen.panes.push((area, lines));
    }

    /// Puts a line with a title, and what there is to say at its end.
    fn title(&mut self, area: Rect, title: &str, right: &str) {
        let line = rule(self.theme, area.width.into(), title, right);
        let area = Rect { height: 1, ..area };
        self.put(area, vec![line]);
    }
}

fn rule(theme: Theme, width: usize, title: &str, right: &str) -> Line<'static> {
    let dashes = |count| std::iter::repeat_n(theme.line(), count).collect::<String>();
    let right = if right.is_empty() {
        String::new()
    } else {
        format!(" {right} ")
    };
    let used = title.len().saturating_add(right.len()).saturating_add(5);
    Line::from(vec![
        Span::styled(dashes(2), Theme::quiet()),
        Span::styled(format!(" {title} "), theme.title()),
        Span::styled(dashes(width.saturating_sub(used).max(1)), Theme::quiet()),
        Span::raw(right),
        Span::styled(dashes(1), Theme::quiet()),
    ])
}

impl Screen {
    pub(super) fn lay_out(model: &mut Model, area: Rect, now: Duration) {
        let mut space = Space {
            area,
            screen: Self::default(),
            theme: model.theme,
        };
        let (width, height) = LEAST;
        let tidied = model.list.selected();
        model.list.tidy();
        if tidied != model.list.selected() && model.mode == Mode::Details {
            model.mode = Mode::Questions;
        }
        if area.width < width || area.height < height {
            model.shown = None;
            let text = format!(
                "This window of {}x{} is too small; {width}x{height} is the least. {} waiting. q quits.",
                area.width,
                area.height,
                model.inbox.rows().len(),
            );
            let lines = wrap(&text, area.width.into()).into_iter();
            space.put(area, lines.map(Line::raw).collect());
            model.screen = space.screen;
            return;
        }
        let columns = space.width();
        let top = space.take(1);
        space.put(top, vec![model.header(columns)]);
        let bottom = Rect {
            y: area.bottom().saturating_sub(2),
            height: 2,
            ..area
        };
        space.area.height = space.area.height.saturating_sub(2);
        match model.mode {
            Mode::Questions | Mode::Filter => questions(model, &mut space, area.height, now),
            Mode::Details => details(model, &mut space, now),
            Mode::Confirm => confirm(model, &mut space, now),
            Mode::Page(page) => read(model, &mut space, page),
        }
        space.put(
            bottom,
            vec![model.status_line(columns), model.keys_line(columns)],
        );
        model.screen = space.screen;
    }

    /// Returns the question that is listed at a line of the screen.
    pub(super) fn row_at(&self, y: u16) -> Option<RowNumber> {
        let at = y.checked_sub(self.first)?;
        self.rows.get(usize::from(at)).copied()
    }

    pub(super) fn paint(&self, area: Rect, buf: &mut Buffer) {
        for (pane, lines) in &self.panes {
            let pane = pane.intersection(area);
            for (y, line) in (pane.y..pane.bottom()).zip(lines) {
                buf.set_line(pane.x, y, line, pane.width);
            }
        }
    }
}

/// Notes what is drawn of the selected question: from the line `first` on, as many as `room`.
fn note_shown(model: &mut Model, details: &Details, first: usize, room: usize, now: Duration) {
    let before = model.shown.take();
    if model.list.takes_shifted() {
        model.shifted = Some(now);
    }
    // Who moved in a list that was changing may have aimed at what was there before.
    let calm = model
        .shifted
        .is_none_or(|at| now.saturating_sub(at) >= guard::BY_ITSELF);
    let chosen = model.list.takes_chosen() && calm;
    let row = model.list.selected().and_then(|row| model.inbox.row(row));
    model.shown = row.map(|row| {
        let part = Part {
            needed: details.needed,
            first,
            room,
        };
        Shown::draw(before, row.number(), words::opens(row), part, chosen, now)
    });
}

fn selected_details(model: &Model, width: usize, whole: bool) -> Details {
    let row = model.list.selected().and_then(|row| model.inbox.row(row));
    row.map_or_else(Details::default, |row| model.details(row, width, whole))
}

fn questions(model: &mut Model, space: &mut Space, height: u16, now: Duration) {
    let width = space.width();
    let all = space.area.height;
    let details = selected_details(model, width, false);
    // The panes do not grow and shrink with what they show, or the list would move under the
    // pointer; only to say all that an answer opens do they.
    let mut log = if height >= TALL { (all / 4).min(14) } else { 0 };
    let needed = u16::try_from(details.needed)
        .unwrap_or(u16::MAX)
        .saturating_add(1);
    let usual = (all / 5 * 2).clamp(4, 10);
    let mut about = usual.max(needed);
    if about > all.saturating_sub(log).saturating_sub(4) {
        log = 0;
        about = about.min(all.saturating_sub(4));
    }
    let list = all.saturating_sub(about).saturating_sub(log);

    let area = space.take(list);
    let rows = model
        .list
        .lay_out(usize::from(list).saturating_sub(2))
        .to_vec();
    let right = match (model.list.position(), model.list.len()) {
        (Some(at), all) if all > rows.len() => format!("{} of {all}", at.saturating_add(1)),
        _ => String::new(),
    };
    let title = if model.list.filter().is_empty() {
        "Waiting for you".to_owned()
    } else {
        let filter = super::wrap::fit(model.list.filter(), width / 2);
        format!("Waiting for you, with \"{filter}\"")
    };
    space.title(area, &title, &right);
    let body = Rect {
        y: area.y.saturating_add(1),
        height: area.height.saturating_sub(1),
        ..area
    };
    let lines = if rows.is_empty() {
        model.nothing_listed()
    } else {
        model.question_lines(&rows, width)
    };
    space.put(body, lines);
    space.screen.first = body.y.saturating_add(1);
    space.screen.rows = rows;

    let area = space.take(about);
    let title = model.list.selected().map_or_else(
        || "No question".to_owned(),
        |number| format!("Question {number}"),
    );
    space.title(area, &title, "");
    let room = usize::from(about).saturating_sub(1);
    note_shown(model, &details, 0, room, now);
    let body = Rect {
        y: area.y.saturating_add(1),
        height: about.saturating_sub(1),
        ..area
    };
    space.put(body, details.lines);
    happened(model, space, log);
}

/// The log, and the sandboxes beside it where there is room.
fn happened(model: &Model, space: &mut Space, height: u16) {
    if height < 2 {
        return;
    }
    let mut area = space.take(height);
    let lines = usize::from(height).saturating_sub(1);
    if area.width >= WIDE {
        let side = area.width / 3;
        area.width = area.width.saturating_sub(side).saturating_sub(1);
        let beside = Rect {
            x: area.right().saturating_add(1),
            width: side,
            ..area
        };
        space.title(beside, "Sandboxes", "");
        let body = Rect {
            y: beside.y.saturating_add(1),
            height: height.saturating_sub(1),
            ..beside
        };
        let shown = model.sandboxes.lines(model.theme, side.into(), lines);
        space.put(body, shown);
    }
    space.title(area, "What happened", "");
    let body = Rect {
        y: area.y.saturating_add(1),
        height: height.saturating_sub(1),
        ..area
    };
    space.put(body, model.log_lines(area.width.into(), lines));
}

fn details(model: &mut Model, space: &mut Space, now: Duration) {
    let width = space.width();
    let details = selected_details(model, width, true);
    let room = usize::from(space.area.height).saturating_sub(1);
    let last = details.lines.len().saturating_sub(room);
    model.scroll = (model.scroll.0.min(last), last);
    note_shown(model, &details, model.scroll.0, room, now);
    let number = model.list.selected();
    let title = number.map_or_else(String::new, |number| format!("Question {number}"));
    page(model, space, &title, details.lines);
}

fn confirm(model: &mut Model, space: &mut Space, now: Duration) {
    let width = space.width();
    let height = usize::from(space.area.height).saturating_sub(1);
    model.shown = None;
    let Some(confirm) = &mut model.confirm else {
        return;
    };
    let lines = confirm.lay_out(width, height, now);
    let (title, place) = (confirm.title(), confirm.place());
    let area = space.area;
    space.title(area, &title, &place);
    let body = Rect {
        y: area.y.saturating_add(1),
        height: area.height.saturating_sub(1),
        ..area
    };
    space.put(body, lines);
}

fn read(model: &mut Model, space: &mut Space, which: Page) {
    let width = space.width();
    // Whoever comes back from a page has not read the question just now.
    model.shown = None;
    let (title, lines) = match which {
        Page::Help => ("The keys", help::lines(model.theme, width)),
        Page::Log => ("What happened", model.log_page(width)),
        Page::Sandboxes => (
            "Sandboxes",
            model.sandboxes.lines(model.theme, width, usize::MAX),
        ),
    };
    let room = usize::from(space.area.height).saturating_sub(1);
    let last = lines.len().saturating_sub(room);
    model.scroll = (model.scroll.0.min(last), last);
    page(model, space, title, lines);
}

/// Puts the part of the lines that the page is scrolled to.
fn page(model: &Model, space: &mut Space, title: &str, lines: Vec<Line<'static>>) {
    let area = space.area;
    let room = usize::from(area.height).saturating_sub(1);
    space.screen.window = room;
    let (at, _) = model.scroll;
    let all = lines.len();
    let right = if all > room {
        format!(
            "{}-{} of {all}",
            at.saturating_add(1),
            at.saturating_add(room).min(all)
        )
    } else {
        String::new()
    };
    space.title(area, title, &right);
    let body = Rect {
        y: area.y.saturating_add(1),
        height: area.height.saturating_sub(1),
        ..area
    };
    space.put(body, lines.into_iter().skip(at).take(room).collect());
}
