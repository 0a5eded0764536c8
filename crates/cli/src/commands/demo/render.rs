// SPDX-License-Identifier: Apache-2.0
//! The demo as a person reads it: one line per step, at most 80 columns, times at the right.

use std::net::{IpAddr, SocketAddr};

use terok_clearance::{Action, Protocol, Scope};

use super::protocol::WorkloadConfinement;
use super::report::{DemoStep, DemoSummary};

/// The widest line.
const MAX_COLUMNS: usize = 80;
/// Where a line's words begin.
const TEXT_COLUMN: usize = 12;

/// What is said to an answer that is none.
pub(super) const INVALID_ANSWER_HINT: &str = "            type a to allow, d to deny";

const HEADER: &str = "\
A program in a default-deny sandbox reaches for the network. All of this is
real: kernel, packets, firewall, sockets; only the internet is a pretend one.
";

const LEGEND: &str = "
For each thing that the program fetches, and for each step with its time:
  packet    its first packet: the kernel drops it, logs it, tells the program
  event     from the kernel's log it comes to the operator as a question
  question  what is asked, and so all that an answer can open
  answer    what was answered
  set       the nftables set element that the answer became; it is read back
  passed    the program tries again, and gets its page; or it is refused
";

/// Writes the demo down for a person.
#[derive(Debug, Clone, Copy)]
pub(super) struct StepRenderer {
    /// Whether it is coloured.
    pub(super) colored: bool,
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
    /// Returns the words before the first step.
    pub(super) fn render_header(self) -> String {
        format!(
            "{}\n\n",
            self.apply_style(DemoTextStyle::Bold, HEADER.trim_end())
        )
    }

    /// Returns the words for a step.
    pub(super) fn render_step(self, step: &DemoStep) -> String {
        match step {
            DemoStep::Sandbox { took_us, .. } => {
                let words = "user, network, mount and process namespaces of its own";
                self.render_setup_line("sandbox", words, *took_us)
            }
            DemoStep::Firewall { took_us, .. } => {
                let words = "default-deny, verified in the kernel before anything runs";
                self.render_setup_line("firewall", words, *took_us)
            }
            DemoStep::Internet {
                hosts,
                without_v6,
                took_us,
            } => {
                let families = match without_v6 {
                    None => "IPv4 and IPv6",
                    Some(_) => "IPv4 (no IPv6 here)",
                };
                let words = format!("{hosts} hosts and a name server next door, {families}");
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
            told => {
                let told = fetch_step_line(told);
                self.render_line(told.label, told.color, &told.words, told.time_us)
            }
        }
    }

    /// Returns the beginning of the line on which a person answers.
    pub(super) fn render_prompt(self) -> String {
        let label = self.apply_style(DemoTextStyle::Blue, &format!("{:<9}", "answer"));
        format!("  {label} allow or deny? [a/d] ")
    }

    /// Returns the words that say where a person is asked who is not asked here.
    pub(super) fn render_frontend_hint(self, ui: &str) -> String {
        let label = self.apply_style(DemoTextStyle::Blue, &format!("{:<9}", "answer"));
        match ui {
            "desktop" => format!("  {label} on the popup; Ctrl-C ends the demo\n"),
            _ => String::new(),
        }
    }

    fn render_summary(self, summary: &DemoSummary) -> String {
        let verdict = &summary.verdict;
        let mut lines = vec![String::new()];
        if !verdict.problems.is_empty() {
            lines.push(self.apply_style(DemoTextStyle::Red, "It does not hold:"));
        } else if verdict.missing.is_empty() {
            let words = "It holds: what was allowed passed, and nothing else.";
            lines.push(self.apply_style(DemoTextStyle::Green, words));
        } else {
            let words = "Nothing passed that was not allowed, but not everything was shown:";
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
        let times = [
            (
                summary.packet_to_event_us,
                "from a packet to its question (median)",
            ),
            (
                summary.answer_to_set_us,
                "from an answer to the set element (median)",
            ),
            (Some(summary.took_us), "in all"),
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

/// A line about a fetch.
struct StepLine {
    label: &'static str,
    color: DemoTextStyle,
    words: String,
    time_us: Option<u64>,
}

fn fetch_step_line(step: &DemoStep) -> StepLine {
    let told = |label, color, words, time_us| StepLine {
        label,
        color,
        words,
        time_us,
    };
    match step {
        DemoStep::Packet {
            address,
            result,
            took_us,
            ..
        } => {
            let to = address.map_or_else(|| "nowhere".to_owned(), |a| format_socket_address(&a));
            let words = format!("to {to}: {}", format_os_error(result.as_str()));
            told("packet", DemoTextStyle::Red, words, Some(*took_us))
        }
        DemoStep::Event {
            packet_to_log_us,
            packet_to_event_us,
            ..
        } => {
            let log =
                packet_to_log_us.map(|us| format!("in the log after {}, ", format_duration(us)));
            let words = format!("{}at the operator after", log.unwrap_or_default());
            told(
                "event",
                DemoTextStyle::Yellow,
                words,
                Some(*packet_to_event_us),
            )
        }
        DemoStep::Question { scope, process, .. } => {
            let who = process.as_ref().map_or_else(String::new, |process| {
                format!(" (from {}, process {})", process.name, process.pid)
            });
            let words = format!("{}?{who}", describe_scope(scope));
            told("question", DemoTextStyle::Blue, words, None)
        }
        DemoStep::Answer { answer, by, .. } => match answer {
            Some(Action::Allow) => told(
                "answer",
                DemoTextStyle::Green,
                format!("allow ({by})"),
                None,
            ),
            Some(Action::Deny) => told("answer", DemoTextStyle::Red, format!("deny ({by})"), None),
            None => {
                let words = "none: what nobody answers stays shut";
                told("answer", DemoTextStyle::Red, words.to_owned(), None)
            }
        },
        DemoStep::Set {
            action,
            address,
            protocol,
            port,
            answer_to_set_us,
            ..
        } => {
            let (color, verb) = match action {
                Action::Allow => (DemoTextStyle::Green, "is open"),
                Action::Deny => (DemoTextStyle::Red, "is shut, nobody is asked again"),
            };
            let words = format!("{} {verb}", format_element(*address, *protocol, *port));
            told("set", color, words, *answer_to_set_us)
        }
        DemoStep::Forged { error, .. } => {
            let words = format!("never asked; a forged answer: {error}");
            told("forged", DemoTextStyle::Blue, words, None)
        }
        DemoStep::Passed {
            result, took_us, ..
        } => told(
            "passed",
            DemoTextStyle::Green,
            format!("\"{result}\""),
            Some(*took_us),
        ),
        DemoStep::Refused {
            result, took_us, ..
        } => told(
            "refused",
            DemoTextStyle::Red,
            format_os_error(result.as_str()),
            Some(*took_us),
        ),
        DemoStep::Skipped { reason, .. } => {
            told("skipped", DemoTextStyle::Dim, reason.to_string(), None)
        }
        // These have lines of their own.
        DemoStep::Sandbox { .. }
        | DemoStep::Firewall { .. }
        | DemoStep::Internet { .. }
        | DemoStep::Program { .. }
        | DemoStep::Fetch { .. }
        | DemoStep::Summary(_) => told("", DemoTextStyle::Plain, String::new(), None),
    }
}

fn describe_confinement(confinement: &WorkloadConfinement) -> String {
    let mut words = format!("user {} in there", confinement.uid);
    if confinement.capabilities.as_str().bytes().all(|b| b == b'0') {
        words += ", no capabilities";
    }
    if confinement.seccomp {
        words += ", system calls filtered";
    }
    words
}

/// `1234567` is `1.23 s`: three digits are enough to compare by.
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
    let narrowed = match (scope.port, scope.protocol) {
        (Some(port), Some(protocol)) => format!(" port {port}/{protocol}"),
        (None, Some(protocol)) => format!(" {protocol}"),
        (Some(port), None) => format!(" port {port}"),
        (None, None) => ", every port".to_owned(),
    };
    format!("{}{narrowed}", scope.dest)
}

fn format_element(address: IpAddr, protocol: Option<Protocol>, port: Option<u16>) -> String {
    let mut words = address.to_string();
    words.extend(protocol.map(|protocol| format!(" . {protocol}")));
    words.extend(port.map(|port| format!(" . {port}")));
    words
}

/// The C library's words for an error, as they stand in the middle of a sentence, without the
/// number behind them.
fn format_os_error(words: &str) -> String {
    let words = words.split(" (os error").next().unwrap_or(words);
    let mut chars = words.chars();
    chars.next().map_or_else(String::new, |first| {
        first.to_lowercase().chain(chars).collect()
    })
}

#[cfg(test)]
mod tests;
