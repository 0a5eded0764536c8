// SPDX-License-Identifier: Apache-2.0
//! The text output: one line per step, at most 80 columns, durations at the right.

use std::net::SocketAddr;

use terok_clearance::{Action, Protocol, Scope};

use crate::protocol::WorkloadConfinement;
use crate::report::{DemoStep, DemoSummary};

/// Maximum width of a line.
const MAX_COLUMNS: usize = 80;
/// First column of the text after the label.
const TEXT_COLUMN: usize = 12;

/// The line after an invalid answer.
pub(crate) const INVALID_ANSWER_HINT: &str = "            type a to allow, d to deny";

const HEADER: &str = "\
A program in a default-deny sandbox tries to reach the network. The kernel,
packets, firewall and sockets are real; only the internet is simulated.
";

const LEGEND: &str = "
Each fetch has these steps, with their durations:
  packet    the program connects; its first packet is held, and it waits
  event     the held packet reaches the operator as a question
  question  the scope: all that an answer can open
  answer    allow or deny
  rule      the rule that the answer becomes
  connect   only now the name is looked up, and the program gets its connection
  passed    the page arrives, at the first attempt; or refused
";

/// Renders the steps as text.
#[derive(Debug, Clone, Copy)]
pub(crate) struct StepRenderer {
    /// Whether ANSI colours are used.
    pub(crate) colored: bool,
}

#[derive(Debug, Clone, Copy)]
enum DemoTextStyle {
    Plain,
    Bold,
    Dim,
    Red,
    Green,
    Yellow,
    Blue,
}

impl StepRenderer {
    /// Returns the introduction.
    pub(crate) fn render_header(self) -> String {
        format!(
            "{}\n\n",
            self.apply_style(DemoTextStyle::Bold, HEADER.trim_end())
        )
    }

    /// Returns the lines of a step.
    pub(crate) fn render_step(self, step: &DemoStep) -> String {
        match step {
            DemoStep::Sandbox { took_us, .. } => {
                let words = "private user, network, mount and process namespaces";
                self.render_setup_line("sandbox", words, *took_us)
            }
            DemoStep::Firewall { took_us, .. } => {
                let words = "default-deny: the only link ends in a gateway with no way on";
                self.render_setup_line("firewall", words, *took_us)
            }
            DemoStep::Internet {
                hosts,
                without_v6,
                took_us,
                ..
            } => {
                let families = match without_v6 {
                    None => "IPv4 and IPv6",
                    Some(_) => "IPv4 (no IPv6 here)",
                };
                let words = format!("{hosts} simulated hosts and a name server, {families}");
                self.render_setup_line("internet", &words, *took_us)
            }
            DemoStep::Program {
                confinement,
                took_us,
            } => {
                let line =
                    self.render_setup_line("program", &describe_confinement(confinement), *took_us);
                format!(
                    "{line}{}",
                    self.apply_style_to_lines(DemoTextStyle::Dim, LEGEND)
                )
            }
            DemoStep::Fetch { fetch, of, url } => {
                let number = self.apply_style(DemoTextStyle::Dim, &format!("{fetch} of {of}"));
                format!(
                    "\n{number}  {}\n",
                    self.apply_style(DemoTextStyle::Bold, url)
                )
            }
            DemoStep::Summary(summary) => self.render_summary(summary),
            step => {
                let line = fetch_step_line(step);
                self.render_line(line.label, line.color, &line.words, line.time_us)
            }
        }
    }

    /// Returns the prompt for an answer.
    pub(crate) fn render_prompt(self) -> String {
        let label = self.apply_style(DemoTextStyle::Blue, &format!("{:<9}", "answer"));
        format!("  {label} allow or deny? [a/d] ")
    }

    /// Returns the line with the hint of a user interface, such as where to answer.
    pub(crate) fn render_ui_hint(self, hint: &str) -> String {
        self.render_line("answer", DemoTextStyle::Blue, hint, None)
    }

    fn render_summary(self, summary: &DemoSummary) -> String {
        let verdict = &summary.verdict;
        let mut lines = vec![String::new()];
        if !verdict.problems.is_empty() {
            lines.push(self.apply_style(DemoTextStyle::Red, "The firewall or the demo failed:"));
        } else if verdict.missing.is_empty() {
            let words = "The firewall held: what was allowed passed, and nothing else.";
            lines.push(self.apply_style(DemoTextStyle::Green, words));
        } else {
            let words = "Nothing passed that was not allowed, but the demo is incomplete:";
            lines.push(self.apply_style(DemoTextStyle::Yellow, words));
        }
        let wrong = verdict.problems.iter().chain(&verdict.missing);
        lines.extend(wrong.map(|words| format!("  {words}")));
        lines.push(format!(
            "  {} questions: {} allowed, {} denied, {} not answered",
            verdict.asked, verdict.allowed, verdict.denied, verdict.unanswered
        ));
        lines.push(format!(
            "  {} fetches: {} passed, {} refused",
            verdict.passed + verdict.refused,
            verdict.passed,
            verdict.refused
        ));
        if let Some(looked_up) = verdict.looked_up {
            lines.push(format!(
                "  {} names asked for by the program, {looked_up} looked up outside",
                verdict.names
            ));
        }
        let times = [
            (
                summary.packet_to_event_us,
                "from a packet to its question (median)",
            ),
            (
                summary.answer_to_connect_us,
                "from an answer to the program's connection (median)",
            ),
            (Some(summary.took_us), "in total"),
        ];
        let times = times
            .into_iter()
            .filter_map(|(time, words)| Some((time?, words)));
        lines.extend(times.map(|(time, words)| format!("  {} {words}", format_duration(time))));
        lines.join("\n") + "\n"
    }

    fn render_setup_line(self, label: &str, words: &str, took_us: u64) -> String {
        self.render_line(label, DemoTextStyle::Plain, words, Some(took_us))
    }

    fn render_line(
        self,
        label: &str,
        color: DemoTextStyle,
        words: &str,
        time_us: Option<u64>,
    ) -> String {
        let time = time_us.map(format_duration).unwrap_or_default();
        let room = MAX_COLUMNS - TEXT_COLUMN - if time.is_empty() { 0 } else { time.len() + 1 };
        let mut words = words.to_owned();
        if words.len() > room {
            words.truncate(room.saturating_sub(3));
            words += "...";
        }
        let label = self.apply_style(color, &format!("{label:<9}"));
        if time.is_empty() {
            return format!("  {label} {words}\n");
        }
        let gap = room - words.len() + 1;
        format!(
            "  {label} {words}{:gap$}{}\n",
            "",
            self.apply_style(DemoTextStyle::Dim, &time)
        )
    }

    fn apply_style(self, color: DemoTextStyle, text: &str) -> String {
        let code = match color {
            DemoTextStyle::Plain => return text.to_owned(),
            DemoTextStyle::Bold => 1,
            DemoTextStyle::Dim => 2,
            DemoTextStyle::Red => 31,
            DemoTextStyle::Green => 32,
            DemoTextStyle::Yellow => 33,
            DemoTextStyle::Blue => 36,
        };
        if self.colored {
            format!("\x1b[{code}m{text}\x1b[0m")
        } else {
            text.to_owned()
        }
    }

    fn apply_style_to_lines(self, color: DemoTextStyle, text: &str) -> String {
        text.lines()
            .map(|line| match line {
                "" => "\n".to_owned(),
                line => format!("{}\n", self.apply_style(color, line)),
            })
            .collect()
    }
}

/// One line of a fetch.
struct StepLine {
    label: &'static str,
    color: DemoTextStyle,
    words: String,
    time_us: Option<u64>,
}

const fn line(
    label: &'static str,
    color: DemoTextStyle,
    words: String,
    time_us: Option<u64>,
) -> StepLine {
    StepLine {
        label,
        color,
        words,
        time_us,
    }
}

fn fetch_step_line(step: &DemoStep) -> StepLine {
    match step {
        DemoStep::Packet {
            address,
            lookup_us,
            held,
            ..
        } => {
            let kind = lookup_us.map_or("", |_| ", a stand-in for the name");
            let state = if *held { ": held" } else { "" };
            let words = format!("to {}{kind}{state}", format_socket_address(address));
            line("packet", DemoTextStyle::Yellow, words, None)
        }
        DemoStep::Event {
            packet_to_log_us,
            packet_to_event_us,
            ..
        } => {
            let log =
                packet_to_log_us.map(|us| format!("in the log after {}, ", format_duration(us)));
            let words = format!("{}at the operator after", log.unwrap_or_default());
            line(
                "event",
                DemoTextStyle::Yellow,
                words,
                Some(*packet_to_event_us),
            )
        }
        DemoStep::Question { scope, process, .. } => {
            let source = process.as_ref().map_or_else(String::new, |process| {
                format!(" (from {}, process {})", process.name, process.pid)
            });
            let words = format!("{}?{source}", describe_scope(scope));
            line("question", DemoTextStyle::Blue, words, None)
        }
        DemoStep::Answer { answer, by, .. } => match answer {
            Some(Action::Allow) => line(
                "answer",
                DemoTextStyle::Green,
                format!("allow ({by})"),
                None,
            ),
            Some(Action::Deny) => line("answer", DemoTextStyle::Red, format!("deny ({by})"), None),
            None => {
                let words = "none: an unanswered question opens nothing";
                line("answer", DemoTextStyle::Red, words.to_owned(), None)
            }
        },
        step => result_step_line(step),
    }
}

/// The lines after an answer, and those without a question.
fn result_step_line(step: &DemoStep) -> StepLine {
    match step {
        DemoStep::Rule {
            action,
            dest,
            protocol,
            port,
            answer_to_rule_us,
            ..
        } => {
            let (color, verb) = match action {
                Action::Allow => (DemoTextStyle::Green, "is allowed"),
                Action::Deny => (DemoTextStyle::Red, "is denied, not asked again"),
            };
            let words = format!("{} {verb}", describe_dest(dest, *port, *protocol));
            line("rule", color, words, *answer_to_rule_us)
        }
        DemoStep::Connected {
            address,
            answer_to_connect_us,
            ..
        } => {
            let words = format!("to {}", format_socket_address(address));
            line(
                "connect",
                DemoTextStyle::Green,
                words,
                *answer_to_connect_us,
            )
        }
        DemoStep::Notice { waited_us, .. } => {
            let words = "refused without a question: never opened by any answer";
            line("notice", DemoTextStyle::Red, words.to_owned(), *waited_us)
        }
        DemoStep::Forged { error, .. } => {
            let words = format!("a forged answer is refused: {error}");
            line("forged", DemoTextStyle::Blue, words, None)
        }
        DemoStep::Passed {
            result,
            waited_us,
            took_us,
            ..
        } => {
            let wait = waited_us.map(|us| format!(" after a wait of {}", format_duration(us)));
            let words = format!("\"{result}\"{}", wait.unwrap_or_default());
            line("passed", DemoTextStyle::Green, words, Some(*took_us))
        }
        DemoStep::Refused {
            result,
            waited_us,
            answer_to_refused_us,
            ..
        } => line(
            "refused",
            DemoTextStyle::Red,
            format_os_error(result.as_str()),
            answer_to_refused_us.or(*waited_us),
        ),
        DemoStep::Skipped { reason, .. } => {
            line("skipped", DemoTextStyle::Dim, reason.to_string(), None)
        }
        // Rendered by `render_step` and `fetch_step_line`.
        DemoStep::Sandbox { .. }
        | DemoStep::Internet { .. }
        | DemoStep::Firewall { .. }
        | DemoStep::Program { .. }
        | DemoStep::Fetch { .. }
        | DemoStep::Packet { .. }
        | DemoStep::Event { .. }
        | DemoStep::Question { .. }
        | DemoStep::Answer { .. }
        | DemoStep::Summary(_) => line("", DemoTextStyle::Plain, String::new(), None),
    }
}

fn describe_confinement(confinement: &WorkloadConfinement) -> String {
    let mut words = format!("user {} inside", confinement.uid);
    if confinement.capabilities.as_str().bytes().all(|b| b == b'0') {
        words += ", no capabilities";
    }
    if confinement.seccomp {
        words += ", system calls filtered";
    }
    words
}

/// Returns a duration with three digits: `1.23 s`.
fn format_duration(us: u64) -> String {
    let rounded = |value: u64, unit: u64, name: &str| {
        let (whole, rest) = (value / unit, value % unit);
        match whole {
            0..10 => format!("{whole}.{:02} {name}", rest * 100 / unit),
            10..100 => format!("{whole}.{} {name}", rest * 10 / unit),
            _ => format!("{whole} {name}"),
        }
    };
    match us {
        0..1_000_000 => rounded(us, 1_000, "ms"),
        _ => rounded(us, 1_000_000, "s"),
    }
}

fn format_socket_address(address: &SocketAddr) -> String {
    format!("{} port {}", address.ip(), address.port())
}

fn describe_scope(scope: &Scope) -> String {
    describe_dest(scope.dest.as_str(), scope.port, scope.protocol)
}

fn describe_dest(dest: &str, port: Option<u16>, protocol: Option<Protocol>) -> String {
    let narrowed = match (port, protocol) {
        (Some(port), Some(protocol)) => format!(" port {port}/{protocol}"),
        (None, Some(protocol)) => format!(" {protocol}"),
        (Some(port), None) => format!(" port {port}"),
        (None, None) => ", every port".to_owned(),
    };
    format!("{dest}{narrowed}")
}

/// Returns an error of the C library in lower case and without the number.
fn format_os_error(words: &str) -> String {
    let words = words.split(" (os error").next().unwrap_or(words);
    let mut chars = words.chars();
    chars.next().map_or_else(String::new, |first| {
        first.to_lowercase().chain(chars).collect()
    })
}

#[cfg(test)]
mod tests;
