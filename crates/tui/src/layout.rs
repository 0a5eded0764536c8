// SPDX-License-Identifier: Apache-2.0
//! Where everything goes, at every size: what is laid out here is what is drawn, and what keys mean.

use std::time::Duration;

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::text::{Line, Span};

use crate::answer_guard::{self, AnswerGuard, VisibleLines};
use crate::details::QuestionDetails;
use crate::help;
use crate::keys::{InfoPage, ViewMode};
use crate::model::TuiModel;
use crate::theme::Theme;
use crate::wrap::wrap;
use operator::inbox::RowNumber;
use operator::phrases;

/// The smallest window that has room for a question and what an answer opens.
const MIN_SCREEN_SIZE: (u16, u16) = (40, 10);
/// From this width on there is room for the sandboxes beside the log.
const SIDE_PANE_MIN_WIDTH: u16 = 110;
/// From this height on there is room for the log.
const LOG_PANE_MIN_HEIGHT: u16 = 18;

/// A screen that is laid out.
#[derive(Debug, Default)]
pub(crate) struct ScreenLayout {
    panes: Vec<(Rect, Vec<Line<'static>>)>,
    /// The questions that are listed, and the line of the first.
    rows: Vec<RowNumber>,
    first_row_y: u16,
    /// How many lines the page has room for.
    pub(crate) page_height: usize,
}

/// The space that is left, from the top down.
struct RemainingSpace {
    area: Rect,
    layout: ScreenLayout,
    theme: Theme,
}

impl RemainingSpace {
    fn width(&self) -> usize {
        self.area.width.into()
    }

    /// Takes so many lines off the top.
    fn take_top(&mut self, height: u16) -> Rect {
        let height = height.min(self.area.height);
        let taken = Rect {
            height,
            ..self.area
        };
        self.area.y = self.area.y.saturating_add(height);
        self.area.height = self.area.height.saturating_sub(height);
        taken
    }

    fn place_lines(&mut self, area: Rect, lines: Vec<Line<'static>>) {
        self.layout.panes.push((area, lines));
    }

    /// Puts a line with a title, and what there is to say at its end.
    fn place_title(&mut self, area: Rect, title: &str, right: &str) {
        let line = title_rule(self.theme, area.width.into(), title, right);
        let area = Rect { height: 1, ..area };
        self.place_lines(area, vec![line]);
    }
}

fn title_rule(theme: Theme, width: usize, title: &str, right: &str) -> Line<'static> {
    let dashes = |count| std::iter::repeat_n(theme.rule_char(), count).collect::<String>();
    let right = if right.is_empty() {
        String::new()
    } else {
        format!(" {right} ")
    };
    let used = title.len().saturating_add(right.len()).saturating_add(5);
    Line::from(vec![
        Span::styled(dashes(2), Theme::dim()),
        Span::styled(format!(" {title} "), theme.title()),
        Span::styled(dashes(width.saturating_sub(used).max(1)), Theme::dim()),
        Span::raw(right),
        Span::styled(dashes(1), Theme::dim()),
    ])
}

impl ScreenLayout {
    pub(crate) fn lay_out(model: &mut TuiModel, area: Rect, now: Duration) {
        let mut space = RemainingSpace {
            area,
            layout: Self::default(),
            theme: model.theme,
        };
        let (width, height) = MIN_SCREEN_SIZE;
        let tidied = model.selection.selected();
        model.selection.remove_ended();
        if tidied != model.selection.selected() && model.mode == ViewMode::Details {
            model.mode = ViewMode::Questions;
        }
        if area.width < width || area.height < height {
            model.answer_guard = None;
            let text = format!(
                "This window of {}x{} is too small; {width}x{height} is the least. {} waiting. q quits.",
                area.width,
                area.height,
                model.inbox.rows().len(),
            );
            let lines = wrap(&text, area.width.into()).into_iter();
            space.place_lines(area, lines.map(Line::raw).collect());
            model.layout = space.layout;
            return;
        }
        let columns = space.width();
        let top = space.take_top(1);
        space.place_lines(top, vec![model.header_line(columns)]);
        let bottom = Rect {
            y: area.bottom().saturating_sub(2),
            height: 2,
            ..area
        };
        space.area.height = space.area.height.saturating_sub(2);
        match model.mode {
            ViewMode::Questions | ViewMode::Filter => {
                lay_out_questions(model, &mut space, area.height, now);
            }
            ViewMode::Details => lay_out_details(model, &mut space, now),
            ViewMode::Confirm => lay_out_confirm(model, &mut space, now),
            ViewMode::Page(page) => lay_out_page(model, &mut space, page),
        }
        space.place_lines(
            bottom,
            vec![model.status_line(columns), model.keys_line(columns)],
        );
        model.layout = space.layout;
    }

    /// Returns the question that is listed at a line of the screen.
    pub(crate) fn row_at(&self, y: u16) -> Option<RowNumber> {
        let at = y.checked_sub(self.first_row_y)?;
        self.rows.get(usize::from(at)).copied()
    }

    pub(crate) fn paint(&self, area: Rect, buf: &mut Buffer) {
        for (pane, lines) in &self.panes {
            let pane = pane.intersection(area);
            for (y, line) in (pane.y..pane.bottom()).zip(lines) {
                buf.set_line(pane.x, y, line, pane.width);
            }
        }
    }
}

/// Notes what is drawn of the selected question: from the line `first` on, as many as `room`.
fn update_answer_guard(
    model: &mut TuiModel,
    details: &QuestionDetails,
    first: usize,
    room: usize,
    now: Duration,
) {
    let before = model.answer_guard.take();
    if model.selection.take_rows_changed() {
        model.list_changed_at = Some(now);
    }
    // Who moved in a list that was changing may have aimed at what was there before.
    let calm = model
        .list_changed_at
        .is_none_or(|at| now.saturating_sub(at) >= answer_guard::AUTO_SELECTED_DELAY);
    let chosen = model.selection.take_user_selected() && calm;
    let row = model
        .selection
        .selected()
        .and_then(|row| model.inbox.row(row));
    model.answer_guard = row.map(|row| {
        let part = VisibleLines {
            required_lines: details.required_lines,
            first,
            height: room,
        };
        AnswerGuard::record_drawn(
            before,
            row.number(),
            phrases::describe_allow_effect(row),
            part,
            chosen,
            now,
        )
    });
}

fn selected_details(model: &TuiModel, width: usize, whole: bool) -> QuestionDetails {
    let row = model
        .selection
        .selected()
        .and_then(|row| model.inbox.row(row));
    row.map_or_else(QuestionDetails::default, |row| {
        model.question_details(row, width, whole)
    })
}

fn lay_out_questions(model: &mut TuiModel, space: &mut RemainingSpace, height: u16, now: Duration) {
    let width = space.width();
    let all = space.area.height;
    let details = selected_details(model, width, false);
    // The panes do not grow and shrink with what they show, or the list would move under the
    // pointer; only to say all that an answer opens do they.
    let mut log = if height >= LOG_PANE_MIN_HEIGHT {
        (all / 4).min(14)
    } else {
        0
    };
    let needed = u16::try_from(details.required_lines)
        .unwrap_or(u16::MAX)
        .saturating_add(1);
    let usual = (all / 5 * 2).clamp(4, 10);
    let mut about = usual.max(needed);
    if about > all.saturating_sub(log).saturating_sub(4) {
        log = 0;
        about = about.min(all.saturating_sub(4));
    }
    let list = all.saturating_sub(about).saturating_sub(log);

    let area = space.take_top(list);
    let rows = model
        .selection
        .lay_out(usize::from(list).saturating_sub(2))
        .to_vec();
    let right = match (model.selection.position(), model.selection.len()) {
        (Some(at), all) if all > rows.len() => format!("{} of {all}", at.saturating_add(1)),
        _ => String::new(),
    };
    let title = if model.selection.filter().is_empty() {
        "Waiting for you".to_owned()
    } else {
        let filter = crate::wrap::truncate(model.selection.filter(), width / 2);
        format!("Waiting for you, with \"{filter}\"")
    };
    space.place_title(area, &title, &right);
    let body = Rect {
        y: area.y.saturating_add(1),
        height: area.height.saturating_sub(1),
        ..area
    };
    let lines = if rows.is_empty() {
        model.empty_list_lines()
    } else {
        model.question_lines(&rows, width)
    };
    space.place_lines(body, lines);
    space.layout.first_row_y = body.y.saturating_add(1);
    space.layout.rows = rows;

    let area = space.take_top(about);
    let title = model.selection.selected().map_or_else(
        || "No question".to_owned(),
        |number| format!("Question {number}"),
    );
    space.place_title(area, &title, "");
    let room = usize::from(about).saturating_sub(1);
    update_answer_guard(model, &details, 0, room, now);
    let body = Rect {
        y: area.y.saturating_add(1),
        height: about.saturating_sub(1),
        ..area
    };
    space.place_lines(body, details.lines);
    lay_out_log(model, space, log);
}

/// The log, and the sandboxes beside it where there is room.
fn lay_out_log(model: &TuiModel, space: &mut RemainingSpace, height: u16) {
    if height < 2 {
        return;
    }
    let mut area = space.take_top(height);
    let lines = usize::from(height).saturating_sub(1);
    if area.width >= SIDE_PANE_MIN_WIDTH {
        let side = area.width / 3;
        area.width = area.width.saturating_sub(side).saturating_sub(1);
        let beside = Rect {
            x: area.right().saturating_add(1),
            width: side,
            ..area
        };
        space.place_title(beside, "Sandboxes", "");
        let body = Rect {
            y: beside.y.saturating_add(1),
            height: height.saturating_sub(1),
            ..beside
        };
        let shown = model.sandboxes.lines(model.theme, side.into(), lines);
        space.place_lines(body, shown);
    }
    space.place_title(area, "What happened", "");
    let body = Rect {
        y: area.y.saturating_add(1),
        height: height.saturating_sub(1),
        ..area
    };
    space.place_lines(body, model.log_lines(area.width.into(), lines));
}

fn lay_out_details(model: &mut TuiModel, space: &mut RemainingSpace, now: Duration) {
    let width = space.width();
    let details = selected_details(model, width, true);
    let room = usize::from(space.area.height).saturating_sub(1);
    let last = details.lines.len().saturating_sub(room);
    model.scroll = (model.scroll.0.min(last), last);
    update_answer_guard(model, &details, model.scroll.0, room, now);
    let number = model.selection.selected();
    let title = number.map_or_else(String::new, |number| format!("Question {number}"));
    place_page(model, space, &title, details.lines);
}

fn lay_out_confirm(model: &mut TuiModel, space: &mut RemainingSpace, now: Duration) {
    let width = space.width();
    let height = usize::from(space.area.height).saturating_sub(1);
    model.answer_guard = None;
    let Some(confirm) = &mut model.confirm else {
        return;
    };
    let lines = confirm.lay_out(width, height, now);
    let (title, place) = (confirm.title(), confirm.position_text());
    let area = space.area;
    space.place_title(area, &title, &place);
    let body = Rect {
        y: area.y.saturating_add(1),
        height: area.height.saturating_sub(1),
        ..area
    };
    space.place_lines(body, lines);
}

fn lay_out_page(model: &mut TuiModel, space: &mut RemainingSpace, which: InfoPage) {
    let width = space.width();
    // Whoever comes back from a page has not read the question just now.
    model.answer_guard = None;
    let (title, lines) = match which {
        InfoPage::Help => ("The keys", help::help_lines(model.theme, width)),
        InfoPage::Log => ("What happened", model.log_page(width)),
        InfoPage::Sandboxes => (
            "Sandboxes",
            model.sandboxes.lines(model.theme, width, usize::MAX),
        ),
    };
    let room = usize::from(space.area.height).saturating_sub(1);
    let last = lines.len().saturating_sub(room);
    model.scroll = (model.scroll.0.min(last), last);
    place_page(model, space, title, lines);
}

/// Puts the part of the lines that the page is scrolled to.
fn place_page(
    model: &TuiModel,
    space: &mut RemainingSpace,
    title: &str,
    lines: Vec<Line<'static>>,
) {
    let area = space.area;
    let room = usize::from(area.height).saturating_sub(1);
    space.layout.page_height = room;
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
    space.place_title(area, title, &right);
    let body = Rect {
        y: area.y.saturating_add(1),
        height: area.height.saturating_sub(1),
        ..area
    };
    space.place_lines(body, lines.into_iter().skip(at).take(room).collect());
}
