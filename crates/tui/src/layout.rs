// SPDX-License-Identifier: Apache-2.0
//! Computes the screen layout at every size, and a record of the shown questions and lines.

use ratatui::buffer::Buffer;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::Stylize as _;
use ratatui::symbols::border;
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, Borders, Paragraph, Table, Widget, Wrap};

use crate::answer_text::guarded_text;
use crate::drawn::{
    DrawnList, DrawnPage, DrawnQuestion, DrawnQuestionPane, DrawnRules, DrawnScreen,
};
use crate::keys::{InfoPage, ViewMode};
use crate::model::TuiModel;
use crate::panes::header::HeaderPane;
use crate::panes::list::{ListPane, empty_list_lines};
use crate::panes::log::LogPane;
use crate::panes::question::{QuestionPane, QuestionText};
use crate::panes::rules::{RulesPane, no_rules_lines};
use crate::panes::{confirm, footer, help, sandboxes};
use crate::theme::Theme;
use crate::view::SessionView;
use crate::wrap::{truncate, wrap};
use operator::answer_guard::VisibleLines;

/// The smallest screen with room for a question and the effect of an answer.
const MIN_SCREEN_SIZE: (u16, u16) = (40, 10);
/// The smallest width at which the sandboxes are shown beside the log.
const SIDE_PANE_MIN_WIDTH: u16 = 110;
/// The height of the list with its title, its heading and two questions.
const MIN_LIST_HEIGHT: u16 = 4;
/// The smallest height at which the log is shown.
const LOG_PANE_MIN_HEIGHT: u16 = 18;

/// A frame: a widget, and a record of the shown questions and lines.
///
/// Computing and drawing a frame changes nothing. Once the terminal has accepted the frame, the
/// model gets [`Self::into_drawn`] in [`TuiMessage::Drawn`](crate::TuiMessage::Drawn).
#[derive(Debug)]
pub struct ScreenLayout {
    panes: Vec<(Rect, PaneContent)>,
    drawn: DrawnScreen,
}

#[derive(Debug)]
enum PaneContent {
    Text(Paragraph<'static>),
    Table(Table<'static>),
}

impl From<Paragraph<'static>> for PaneContent {
    fn from(text: Paragraph<'static>) -> Self {
        Self::Text(text)
    }
}

impl From<Table<'static>> for PaneContent {
    fn from(table: Table<'static>) -> Self {
        Self::Table(table)
    }
}

impl ScreenLayout {
    /// Computes the frame for `area`.
    pub fn new(model: &TuiModel, view: SessionView<'_>, area: Rect) -> Self {
        let drawn = DrawnScreen {
            unanswered: view.unanswered,
            is_synced: view.is_synced,
            ..DrawnScreen::default()
        };
        let layout = Self {
            panes: Vec::new(),
            drawn,
        };
        let mut builder = LayoutBuilder {
            model,
            view,
            layout,
        };
        let (width, height) = MIN_SCREEN_SIZE;
        if area.width < width || area.height < height {
            builder.add_too_small(area);
        } else {
            builder.add_screen(area);
        }
        builder.layout
    }

    /// Returns the record of the frame.
    pub fn into_drawn(self) -> DrawnScreen {
        self.drawn
    }
}

impl Widget for &ScreenLayout {
    fn render(self, area: Rect, buf: &mut Buffer) {
        for (pane, content) in &self.panes {
            let pane = pane.intersection(area);
            match content {
                PaneContent::Text(text) => text.render(pane, buf),
                PaneContent::Table(table) => Widget::render(table, pane, buf),
            }
        }
    }
}

/// A frame under construction.
struct LayoutBuilder<'a> {
    model: &'a TuiModel,
    view: SessionView<'a>,
    layout: ScreenLayout,
}

impl LayoutBuilder<'_> {
    fn add(&mut self, area: Rect, content: impl Into<PaneContent>) {
        self.layout.panes.push((area, content.into()));
    }

    fn add_too_small(&mut self, area: Rect) {
        let (width, height) = MIN_SCREEN_SIZE;
        let text = format!(
            "This window of {}x{} is too small; the minimum is {width}x{height}. {} waiting. \
             q quits.",
            area.width,
            area.height,
            self.view.inbox.rows().len(),
        );
        self.add(area, Paragraph::new(text).wrap(Wrap { trim: true }));
    }

    fn add_screen(&mut self, area: Rect) {
        let (model, view) = (self.model, self.view);
        let columns = usize::from(area.width);
        let rows = Layout::vertical([
            Constraint::Length(1),
            Constraint::Fill(1),
            Constraint::Length(2),
        ]);
        let [top, body, bottom] = rows.areas(area);
        let header = HeaderPane {
            inbox: view.inbox,
            sandboxes: &model.sandboxes,
            marked: model.selection.marked().len(),
            hub_source: model.hub_source.as_str(),
            theme: model.theme,
        };
        self.add(top, Paragraph::new(header.line(columns)));
        match model.mode {
            ViewMode::Questions | ViewMode::Filter => self.add_list(body, area.height),
            ViewMode::Details => self.add_details(body),
            ViewMode::Confirm => self.add_confirm(body),
            ViewMode::Rules => self.add_rules(body),
            ViewMode::Revoke => self.add_revoke(body),
            ViewMode::Page(page) => self.add_page(body, page),
        }
        let status = if model.mode == ViewMode::Filter {
            footer::filter_line(model.theme, model.selection.filter(), columns)
        } else {
            footer::status_line(model.theme, model.status.as_ref(), view, columns)
        };
        let keys = footer::keys_line(model.mode, columns);
        self.add(bottom, Paragraph::new(vec![status, keys]));
    }

    /// Adds the list, the selected question and the log.
    fn add_list(&mut self, body: Rect, screen_height: u16) {
        let question = self.selected_text(body.width, false);
        let heights = list_heights(body.height, screen_height, &question);
        let [list, about, log] = Layout::vertical(heights.map(Constraint::Length)).areas(body);
        self.add_question_list(list);
        let title = self.model.selection.selected().map_or_else(
            || "No question".to_owned(),
            |number| format!("Question {number}"),
        );
        let block = self.block(&title, "");
        let lines = VisibleLines {
            required_lines: question.required_lines,
            first: 0,
            height: block.inner(about).height.into(),
        };
        self.record_question(lines);
        self.add(about, Paragraph::new(question.lines).block(block));
        if log.height > 0 {
            self.add_log(log);
        }
    }

    fn add_question_list(&mut self, area: Rect) {
        let (model, view) = (self.model, self.view);
        let (selection, width) = (&model.selection, usize::from(area.width));
        // The title and the heading have a line each.
        let height = usize::from(area.height).saturating_sub(2);
        let (first_visible, rows) = selection.window(height);
        let position = match (selection.position(), selection.len()) {
            (Some(at), all) if all > rows.len() => format!("{} of {all}", at.saturating_add(1)),
            _ => String::new(),
        };
        let title = if selection.filter().is_empty() {
            "Waiting for you".to_owned()
        } else {
            let filter = truncate(selection.filter(), width / 2);
            format!("Waiting for you, with \"{filter}\"")
        };
        let block = self.block(&title, &position);
        if rows.is_empty() {
            self.add(area, Paragraph::new(empty_list_lines(view)).block(block));
        } else {
            let list = ListPane {
                inbox: view.inbox,
                selected: selection.selected(),
                marked: selection.marked(),
                zone: &model.zone,
            };
            self.add(area, list.table(&rows, width).block(block));
        }
        self.layout.drawn.list = Some(DrawnList {
            rows,
            first_row_y: area.y.saturating_add(2),
            first_visible,
            height,
        });
    }

    /// Adds the log and, if the screen is wide enough, the sandboxes on its right.
    fn add_log(&mut self, area: Rect) {
        let model = self.model;
        let mut log_area = area;
        if area.width >= SIDE_PANE_MIN_WIDTH {
            let columns = [Constraint::Fill(1), Constraint::Length(area.width / 3)];
            let [left, right] = Layout::horizontal(columns).spacing(1).areas(area);
            log_area = left;
            // The title and the heading have a line each.
            let max_rows = usize::from(right.height).saturating_sub(2);
            let width = right.width.into();
            let table = sandboxes::table(&model.sandboxes, model.theme, width, 0, max_rows);
            let block = self.block("Sandboxes", "");
            self.add(right, table.block(block));
        }
        let block = self.block("Activity", "");
        let height = block.inner(log_area).height.into();
        let lines = self.log().last_lines(log_area.width.into(), height);
        self.add(log_area, Paragraph::new(lines).block(block));
    }

    fn add_details(&mut self, body: Rect) {
        let QuestionText {
            lines,
            required_lines,
            ..
        } = self.selected_text(body.width, true);
        let title = match self.model.selection.selected() {
            Some(number) => format!("Question {number}"),
            None => String::new(),
        };
        let page = self.add_text_page(body, &title, lines);
        self.record_question(VisibleLines {
            required_lines,
            first: page.first_line,
            height: page.height,
        });
    }

    fn add_confirm(&mut self, body: Rect) {
        let Some(dialog) = &self.model.confirm else {
            return;
        };
        let height = usize::from(body.height).saturating_sub(1);
        let text = confirm::text(dialog, body.width.into(), height);
        let position = confirm::position_text(dialog, text.drawn);
        let block = self.block(&confirm::title(dialog), &position);
        self.layout.drawn.confirm = Some(text.drawn);
        self.add(body, Paragraph::new(text.lines).block(block));
    }

    /// Adds the list of rules, and all about the selected one.
    fn add_rules(&mut self, body: Rect) {
        let model = self.model;
        let about = (body.height / 5 * 2).clamp(4, 9);
        let heights = [body.height.saturating_sub(about), about];
        let [list, about] = Layout::vertical(heights.map(Constraint::Length)).areas(body);
        let pane = RulesPane {
            rules: &model.rules,
            sandboxes: &model.sandboxes,
            theme: model.theme,
            zone: &model.zone,
        };
        // The title and the heading have a line each.
        let height = usize::from(list.height).saturating_sub(2);
        let (first_visible, lines) = model.rules.window(height);
        let count = model.rules.len();
        let position = match model.rules.position() {
            Some(at) => format!("{} of {count}", at.saturating_add(1)),
            None => String::new(),
        };
        let title = match model.rules.listed_at() {
            Some(at) => format!("Rules, as of {}", model.zone.format_time(at)),
            None => "Rules".to_owned(),
        };
        let block = self.block(&title, &position);
        let first_row_y = list.y.saturating_add(2);
        if lines.is_empty() {
            self.add(list, Paragraph::new(no_rules_lines()).block(block));
        } else {
            let width = usize::from(list.width);
            self.add(list, pane.table(&lines, width).block(block));
            for (line, y) in lines.iter().zip(first_row_y..) {
                if let Some(text) = pane.remark(line, width) {
                    let area = Rect {
                        y,
                        height: 1,
                        ..list
                    };
                    self.add(area, Paragraph::new(text));
                }
            }
        }
        self.layout.drawn.rules = Some(DrawnRules {
            first_row_y,
            first_visible,
            height,
        });
        let selected = pane.selected_lines(about.width.into());
        let block = self.block("Selected rule", "");
        self.add(about, Paragraph::new(selected).block(block));
    }

    fn add_revoke(&mut self, body: Rect) {
        let Some(dialog) = &self.model.revoke else {
            return;
        };
        let width = usize::from(body.width).saturating_sub(2);
        let paragraphs = dialog.paragraphs();
        let lines = paragraphs.iter().flat_map(|text| wrap(text, width));
        let lines = lines.map(|line| Line::raw(format!(" {line}"))).collect();
        let name = truncate(&dialog.name, usize::from(body.width) / 2);
        self.add_text_page(body, &format!("REVOKE {name}?"), lines);
    }

    fn add_page(&mut self, body: Rect, page: InfoPage) {
        let (model, width) = (self.model, usize::from(body.width));
        match page {
            InfoPage::Help => {
                let lines = help::help_lines(model.theme, width);
                self.add_text_page(body, "Keys", lines);
            }
            InfoPage::Log => {
                let lines = self.log().all_lines(width);
                self.add_text_page(body, "Activity", lines);
            }
            InfoPage::Sandboxes => {
                // The title and the heading have a line each.
                let height = usize::from(body.height).saturating_sub(2);
                let count = model.sandboxes.len();
                let page = self.record_page(count, height);
                let first = page.first_line;
                let table = sandboxes::table(&model.sandboxes, model.theme, width, first, height);
                let block = self.block("Sandboxes", &page_position(page, count));
                self.add(body, table.block(block));
            }
        }
    }

    /// Adds the part of `lines` to which the operator scrolled.
    fn add_text_page(&mut self, area: Rect, title: &str, lines: Vec<Line<'static>>) -> DrawnPage {
        let height = usize::from(area.height).saturating_sub(1);
        let count = lines.len();
        let page = self.record_page(count, height);
        let block = self.block(title, &page_position(page, count));
        let shown = lines.into_iter().skip(page.first_line).take(height);
        let text = Paragraph::new(shown.collect::<Vec<_>>());
        self.add(area, text.block(block));
        page
    }

    fn record_page(&mut self, count: usize, height: usize) -> DrawnPage {
        let max_first_line = count.saturating_sub(height);
        let page = DrawnPage {
            first_line: self.model.first_line.min(max_first_line),
            max_first_line,
            height,
        };
        self.layout.drawn.page = Some(page);
        page
    }

    /// Records that `lines` of the selected question are shown.
    fn record_question(&mut self, lines: VisibleLines) {
        let selected = self.model.selection.selected();
        let row = selected.and_then(|number| self.view.inbox.row(number));
        let question = row.map(|row| DrawnQuestion {
            number: row.number(),
            effects: guarded_text(row, &self.model.scopes.scope(row)),
            lines,
        });
        self.layout.drawn.question_pane = Some(DrawnQuestionPane { question });
    }

    /// Returns the lines about the selected question; none without a selection.
    fn selected_text(&self, width: u16, full: bool) -> QuestionText {
        let (model, inbox) = (self.model, self.view.inbox);
        let selected = model.selection.selected();
        let row = selected.and_then(|number| inbox.row(number));
        row.map_or_else(QuestionText::default, |row| {
            let pane = QuestionPane {
                row,
                scope: &model.scopes.scope(row),
                is_hub_connected: inbox.is_connected(row.hub()),
                shield_state: model.sandboxes.shield_state(row),
                theme: model.theme,
                zone: &model.zone,
            };
            pane.text(width.into(), full)
        })
    }

    fn log(&self) -> LogPane<'_> {
        LogPane {
            log: &self.model.log,
            theme: self.model.theme,
            zone: &self.model.zone,
        }
    }

    /// Returns a block with a title line: the title on the left, a position on the right.
    fn block(&self, title: &str, position: &str) -> Block<'static> {
        let theme = self.model.theme;
        let border = border::Set {
            horizontal_top: theme.rule(),
            ..border::PLAIN
        };
        let title = Line::from(vec![
            Span::styled(theme.rule().repeat(2), Theme::dim()),
            Span::styled(format!(" {title} "), theme.title().not_dim()),
        ]);
        let block = Block::new()
            .borders(Borders::TOP)
            .border_set(border)
            .border_style(Theme::dim())
            .title_top(title);
        if position.is_empty() {
            return block;
        }
        let position = Line::from(vec![
            Span::raw(format!(" {position} ")).not_dim(),
            Span::styled(theme.rule(), Theme::dim()),
        ]);
        block.title_top(position.right_aligned())
    }
}

/// Returns the heights of the list, of the selected question and of the log.
///
/// They do not depend on the length of the texts, since the list would move under the pointer; only
/// to show everything that an answer opens, and the choice of scopes where there is room, does the
/// question pane grow.
fn list_heights(body: u16, screen: u16, text: &QuestionText) -> [u16; 3] {
    let mut log = if screen >= LOG_PANE_MIN_HEIGHT {
        (body / 4).min(14)
    } else {
        0
    };
    let height_of = |lines: usize| u16::try_from(lines.saturating_add(1)).unwrap_or(u16::MAX);
    let room = body.saturating_sub(log).saturating_sub(MIN_LIST_HEIGHT);
    let preferred = height_of(text.preferred_lines).min(room);
    let mut question = (body / 5 * 2)
        .clamp(4, 10)
        .max(height_of(text.required_lines))
        .max(preferred);
    if question > room {
        log = 0;
        question = question.min(body.saturating_sub(MIN_LIST_HEIGHT));
    }
    let list = body.saturating_sub(question).saturating_sub(log);
    [list, question, log]
}

/// Returns the position in a page that does not fit: `3-8 of 18`.
fn page_position(page: DrawnPage, count: usize) -> String {
    if count <= page.height {
        return String::new();
    }
    let last = page.first_line.saturating_add(page.height).min(count);
    format!("{}-{last} of {count}", page.first_line.saturating_add(1))
}
