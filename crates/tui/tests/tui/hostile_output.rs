// SPDX-License-Identifier: Apache-2.0
//! Hostile output before the screen: for any output of the command, every key that answers is
//! pressed on a terminal that shows all of the question.
//!
//! A case is: the output of a command, a question with a window size, and keys with pauses. The
//! user interface is deterministic and never reads the terminal, so the sessions (questions, sizes,
//! keys, and the bytes of each frame) are recorded once and every case takes one of them; the
//! output is random in every case. The oracle reads the screen of the model of a terminal only.

use std::sync::OnceLock;

use crossterm::event::KeyCode;
use operator::inbox::OperatorAnswer;
use ratatui::backend::{Backend as _, CrosstermBackend};
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use rustix::termios::Winsize;
use terok_clearance_tui::{TerminalStateTracker, enter_sequence, leave_sequence};
use test_support::terminal_model::TerminalModel;

use crate::attack::read::{Part, Read, read};
use crate::harness::{Effect, TestUi, asks_at};

/// Cases of one test; ten tests make a million.
const CASES: u64 = 100_000;
const SIZES: [(u16, u16); 5] = [(80, 24), (60, 15), (40, 12), (50, 14), (30, 8)];
const CLEAR: &[u8] = b"\x1b[0m\x1b[2J";

/// A pseudo-random sequence (xorshift).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, limit: usize) -> usize {
        usize::try_from(self.next() >> 16).unwrap() % limit
    }

    fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len())]
    }
}

/// What a command can print to hide or to imitate a question.
const PIECES: &[&[u8]] = &[
    b"\x1b]0;title", b"\x1b]8;;http://x/", b"\x1b]11;#000000\x07", b"\x1b]10;#000000\x07",
    b"\x1b]4;0;#ffffff;7;#ffffff;15;#ffffff\x07", b"\x1b]11;", b"\x1b]52;c;", b"\x1bP", b"\x1bPq#0",
    b"\x1bP+q", b"\x1b_", b"\x1b_Ga=T;", b"\x1b^", b"\x1bX", b"\x1b", b"\x1b[", b"\x1b[?", b"\x1b[38;5",
    b"\x1b[>", b"\x1b#", b"\x1b(", b"\x1b%", b"\xe2", b"\xe2\x80", b"\xf0\x9f", b"\xc2", b"\x9d11;",
    b"\x9b", b"\x90", b"\xc2\x9d", b"\xc2\x9b", b"\xc2\x90", b"\xc2\x9f", b"\x1b\\", b"\x07", b"\x18",
    b"\x1a", b"\x1b[8m", b"\x1b[30;40m", b"\x1b[97;107m", b"\x1b[38;2;1;2;3;48;2;1;2;3m", b"\x1b[7m",
    b"\x1b[?5h", b"\x1b[?6h", b"\x1b[?7l", b"\x1b[4h", b"\x1b[20h", b"\x1b[?69h\x1b[1;3s", b"\x1b[2;3r",
    b"\x1b[5;6r", b"\x1b(0", b"\x1b)0\x0e", b"\x1b*0", b"\x1b+0", b"\x0e", b"\x0f", b"\x1bn", b"\x1b[?1049h",
    b"\x1b[?1047h", b"\x1b[?47h", b"\x1b[?1049l", b"\x1b[?25l", b"\x1b[?2004h", b"\x1b[?2026h", b"\x1b[?1000;1003;1006h",
    b"\x1b[?1004h", b"\x1b[>31u", b"\x1b[=15u", b"\x1b[<u", b"\x1b[>4;2m", b"\x1b[?1h", b"\x1b=", b"\x1b[?2l",
    b"\x1b[5i", b"\x1b[?38h", b"\x1b[1\"q", b"\x1bV", b"\x1b#6", b"\x1b#8", b"\x1b[3g", b"\x1b[?3h", b"\x1b7", b"\x1b8",
    b"\x1b[s", b"\x1b[u", b"\x1b[H", b"\x1b[2J", b"\x1b[99;99H", b"\x1b[1;1H", b"\x1b[10S", b"\x1b[5T", b"\x1b[5L",
    b"\r\n", b"\n", b"\t", b"\x1bM", b"\x1bD", b"\x1bc", b"\x1b[!p", b"\x1b[2 q", b"\x1b[1$}", b"\x1b[2$~",
    b"text", "\u{65e5}\u{672c}".as_bytes(),
    "\r\n\u{2500}\u{2500} Question 1 \u{2500}\r\n a allow  opens good.example port 443/tcp, for this run".as_bytes(),
    b" (now 203.0.113.9)\r\n x deny   refuses good.example port 443/tcp, for this run\r\n from     w",
];

fn hostile_output(random: &mut Random) -> Vec<u8> {
    let mut output = Vec::new();
    for _ in 0..=random.below(8) {
        if random.below(6) == 0 {
            let some = (0..random.below(6)).map(|_| random.next().to_le_bytes()[3]);
            output.extend(some);
        } else {
            output.extend(random.pick(PIECES));
        }
    }
    output
}

/// A recorded session of the user interface.
struct Session {
    size: (u16, u16),
    steps: Vec<Step>,
}

/// The output of the user interface, and the answers of the key that is pressed then.
struct Step {
    frame: Vec<u8>,
    answers: Vec<OperatorAnswer>,
}

/// Records frames as the bytes that a terminal gets.
struct Recorder {
    ui: TestUi,
    shown: Buffer,
}

impl Recorder {
    fn frame(&mut self) -> Vec<u8> {
        self.ui.draw();
        let frame = Buffer {
            area: self.shown.area,
            content: self.ui.cells().to_vec(),
        };
        let mut bytes = Vec::new();
        let mut backend = CrosstermBackend::new(&mut bytes);
        let changes = self.shown.diff(&frame);
        backend.draw(changes.into_iter()).unwrap();
        self.shown = frame;
        bytes
    }
}

fn record(random: &mut Random) -> Session {
    let size = random.pick(&SIZES);
    let mut ui = TestUi::up(size.0, size.1);
    let questions = 1 + random.below(3);
    for number in 1..=questions {
        let label = "x".repeat(1 + random.below(40));
        let name = vec![label; 1 + random.below(5)].join(".");
        let name = format!("q{number}{name}.example");
        let number = u64::try_from(number).unwrap();
        ui.asks(&asks_at(number, &name, &format!("203.0.113.{number}")));
    }
    let area = Rect::new(0, 0, size.0, size.1);
    let mut recorder = Recorder {
        ui,
        shown: Buffer::empty(area),
    };
    let keys = [
        KeyCode::Char('a'),
        KeyCode::Char('a'),
        KeyCode::Char('x'),
        KeyCode::Char('j'),
        KeyCode::Char('k'),
        KeyCode::PageDown,
        KeyCode::PageDown,
        KeyCode::Char('l'),
        KeyCode::Char('?'),
        KeyCode::Char('n'),
        KeyCode::Esc,
    ];
    let mut steps = Vec::new();
    for _ in 0..=random.below(6) {
        let frame = recorder.frame();
        recorder.ui.wait(random.pick(&[0, 60, 600, 600]));
        let answers = match recorder.ui.press(random.pick(&keys)) {
            Some(Effect::Sent(answers)) => answers,
            _ => Vec::new(),
        };
        steps.push(Step { frame, answers });
    }
    // Nothing is judged after the last answer.
    let answered = steps.iter().rposition(|step| !step.answers.is_empty());
    steps.truncate(answered.map_or(1, |last| last + 1));
    Session { size, steps }
}

fn sessions() -> &'static [Session] {
    static SESSIONS: OnceLock<Vec<Session>> = OnceLock::new();
    SESSIONS.get_or_init(|| {
        crossterm::style::force_color_output(true);
        let mut random = Random(0x5eed);
        let mut sessions: Vec<_> = (0..100).map(|_| record(&mut random)).collect();
        while sessions.len() < 300 {
            let session = record(&mut random);
            if session.steps.iter().any(|step| !step.answers.is_empty()) {
                sessions.push(session);
            }
        }
        sessions
    })
}

/// Asserts that the screen shows all of what the answers open.
fn assert_shown(read: &Read, answers: &[OperatorAnswer], screen: &str) {
    let Read::Question(number, words) = read else {
        panic!("an answer without a question on the screen:\n{screen}");
    };
    for answer in answers {
        assert_eq!(answer.row.get(), *number, "{screen}");
        let opens = format!(
            "opens {} port 443/tcp, for this run (now ",
            answer.scope.dest
        );
        // A long name is wrapped within.
        let (words, opens) = (words[0].replace(' ', ""), opens.replace(' ', ""));
        assert!(words.contains(&opens), "{opens} is not in\n{screen}");
        assert!(words.contains(answer.request.address.as_str()), "{screen}");
    }
}

fn window(size: (u16, u16)) -> Winsize {
    Winsize {
        ws_row: size.1,
        ws_col: size.0,
        ws_xpixel: 0,
        ws_ypixel: 0,
    }
}

/// After the screen, the next output of the command meets the terminal as it would without.
#[test]
fn the_command_goes_on_where_it_was() {
    let size = (60, 15);
    let window = window(size);
    let mut random = Random(0x0b5e_55ed);
    for case in 0..20_000 {
        let output = regular_output(&mut random);
        let (mut alone, mut model) = (
            TerminalModel::new(size.0, size.1),
            TerminalModel::new(size.0, size.1),
        );
        let mut tracker = TerminalStateTracker::default();
        tracker.observe_output(&output, window);
        alone.feed(&output);
        model.feed(&output);
        model.feed(tracker.takeover_sequence(window).as_bytes());
        model.feed(enter_sequence().as_bytes());
        model.feed(CLEAR);
        model.feed(b"a question\x1b[31m");
        model.feed(leave_sequence().as_bytes());
        model.feed(&tracker.restore_sequence());
        let next = b"next\r\n\x1b[1mbold";
        alone.feed(next);
        model.feed(next);
        let shown = output.escape_ascii();
        assert_eq!(model.state(), alone.state(), "case {case}: {shown}");
        // A full-screen command draws again.
        if !tracker.is_alternate_screen() {
            assert_eq!(model.screen(), alone.screen(), "case {case}: {shown}");
        }
    }
}

/// A notice is readable, divides no line of the output, and changes nothing for the next output.
#[test]
fn a_notice_leaves_the_output_whole() {
    const NOTICE: &str = "1 question; Ctrl-G to answer";
    let size = (60, 40);
    let window = window(size);
    let mut random = Random(0x00f1_ce00);
    let mut within_lines = 0;
    for case in 0..20_000 {
        let (before, after) = (line_output(&mut random), line_output(&mut random));
        let mut alone = TerminalModel::new(size.0, size.1);
        let mut model = TerminalModel::new(size.0, size.1);
        let mut tracker = TerminalStateTracker::default();
        tracker.observe_output(&before, window);
        alone.feed(&before);
        model.feed(&before);
        model.feed(&tracker.notice_sequence(NOTICE, window));
        let shown = before.escape_ascii();
        assert_eq!(model.state(), alone.state(), "case {case}: {shown}");
        alone.feed(&after);
        model.feed(&after);
        let screen = model.screen();
        let (notices, rest): (Vec<_>, Vec<_>) = screen.lines().partition(|line| *line == NOTICE);
        assert_eq!(notices.len(), 1, "case {case}: {shown}: {screen}");
        let rest = rest.join("\n");
        let (rest, expected) = (rest.trim_end(), alone.screen());
        assert_eq!(rest, expected.trim_end(), "case {case}: {shown}");
        within_lines += usize::from(!tracker.is_line_start());
    }
    assert!(
        within_lines > 5_000,
        "only {within_lines} notices within lines"
    );
}

/// Returns output of a program that writes lines, long ones too, and rewrites the last.
fn line_output(random: &mut Random) -> Vec<u8> {
    const PIECES: &[&[u8]] = &[
        b"word ",
        b"and more words of a line ",
        b"end\r\n",
        "\u{65e5}\u{672c} ".as_bytes(),
        b"\x1b[1;31m",
        b"\x1b[8m",
        b"\x1b[0m",
        b"\x1b[4h",
        b"\x1b[4l",
        b"\x1b(0",
        b"\x1b(B",
        b"50%\r",
        b"\x1b[K",
        b"\x08",
        b"\x1b]8;;http://example.com/\x07",
        b"\x1b[3",
        b"\x1b]0;ti",
        b"\x1b_x",
    ];
    let mut output = Vec::new();
    for _ in 0..=random.below(8) {
        output.extend(random.pick(PIECES));
    }
    output
}

/// Returns output of a program that behaves: whole sequences, and at most one unfinished.
///
/// Without SO and SI: DEC's terminals and xterm save the shift with the cursor, the model does not.
fn regular_output(random: &mut Random) -> Vec<u8> {
    const WHOLE: &[&[u8]] = &[
        b"text ",
        b"more\r\n",
        "\u{65e5}\u{672c} ".as_bytes(),
        b"\x1b[1;31m",
        b"\x1b[38;5;200;4m",
        b"\x1b[0m",
        b"\x1b(0",
        b"\x1b(B",
        b"\x1b)0",
        b"\x1b[?2004h",
        b"\x1b[?2004l",
        b"\x1b[?1h\x1b=",
        b"\x1b[?1l\x1b>",
        b"\x1b[?25l",
        b"\x1b[?7l",
        b"\x1b[4h",
        b"\x1b[4l",
        b"\x1b[20h",
        b"\x1b[?1000;1006h",
        b"\x1b[?1003h",
        b"\x1b[?1004h",
        b"\x1b[>1u",
        b"\x1b[<u",
        b"\x1b]8;;http://example.com/\x07",
        b"\x1b]8;;\x07",
        b"\x1b[3;9r\x1b[5H",
        b"\x1b[r",
        b"\x1b]0;title\x07",
        b"\x1b[?1049h",
        b"\x1b[?1049l",
    ];
    const UNFINISHED: &[&[u8]] = &[
        b"",
        b"",
        b"\x1b[",
        b"\x1b[3",
        b"\x1b]0;ti",
        b"\x1b_x",
        b"\x1b",
    ];
    let mut output = Vec::new();
    for _ in 0..=random.below(10) {
        output.extend(random.pick(WHOLE));
    }
    output.extend(random.pick(UNFINISHED));
    output
}

/// Runs the session after the output; returns the number of answers.
fn run(session: &Session, output: &[u8]) -> usize {
    let size = window(session.size);
    let mut model = TerminalModel::new(session.size.0, session.size.1);
    let mut tracker = TerminalStateTracker::default();
    tracker.observe_output(output, size);
    model.feed(output);
    model.feed(tracker.takeover_sequence(size).as_bytes());
    model.feed(enter_sequence().as_bytes());
    model.feed(CLEAR);
    assert_eq!(
        model.screen().trim(),
        "",
        "something of the command is left"
    );
    let (mut part, mut answers): (Part, usize) = (None, 0);
    for step in &session.steps {
        model.feed(&step.frame);
        let screen = model.screen();
        let read = read(&screen, &mut part);
        if !step.answers.is_empty() {
            assert_shown(&read, &step.answers, &screen);
            answers += 1;
        }
    }
    answers
}

fn hundred_thousand(seed: u64) {
    let sessions = sessions();
    let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    let mut answered = 0;
    for case in 0..CASES {
        let session = random.below(sessions.len());
        let output = hostile_output(&mut random);
        let Ok(count) = std::panic::catch_unwind(|| run(&sessions[session], &output)) else {
            panic!(
                "case {case}: session {session} after {}",
                output.escape_ascii()
            );
        };
        answered += count;
    }
    assert!(answered > 10_000, "only {answered} answers");
}

macro_rules! cases {
    ($($name:ident: $seed:literal;)*) => {
        $(
            #[test]
            fn $name() {
                hundred_thousand($seed);
            }
        )*
    };
}

cases! {
    every_answer_is_to_a_visible_question_1: 1;
    every_answer_is_to_a_visible_question_2: 2;
    every_answer_is_to_a_visible_question_3: 3;
    every_answer_is_to_a_visible_question_4: 4;
    every_answer_is_to_a_visible_question_5: 5;
    every_answer_is_to_a_visible_question_6: 6;
    every_answer_is_to_a_visible_question_7: 7;
    every_answer_is_to_a_visible_question_8: 8;
    every_answer_is_to_a_visible_question_9: 9;
    every_answer_is_to_a_visible_question_10: 10;
}
