// SPDX-License-Identifier: Apache-2.0
//! What `run` draws is seen whatever its command printed, and leaves the command's output whole.
//!
//! The screen is that of a model of a terminal, which gets all output.

use rustix::fs::{Mode, fchmod};
use test_support::pseudo_terminal::PseudoTerminal;
use test_support::terminal_model::TerminalModel;

use super::console::{
    COLUMNS, HOTKEY, READING, ROWS, SCREEN_CLOSES, SCREEN_OPENS, Terminal, press_until,
};
use super::machine::{Machine, fetch};
use super::user::{User, as_everybody};

/// A terminal and what it shows.
struct Watched {
    terminal: Terminal,
    model: TerminalModel,
}

impl Watched {
    fn new(terminal: Terminal) -> Self {
        Self {
            terminal,
            model: TerminalModel::new(COLUMNS, ROWS),
        }
    }

    fn until(&mut self, text: &str) {
        self.until_all(&[text]);
    }

    fn until_all(&mut self, texts: &[&str]) {
        let shown = self.terminal.until_all(texts);
        self.model.feed(shown.as_bytes());
    }

    fn lines(&self) -> Vec<String> {
        let screen = self.model.screen();
        screen.lines().map(str::to_owned).collect()
    }
}

/// Returns the command that starts a program of the user without a controlling terminal, at a
/// terminal that the user may not open: as after `su`, `runuser` or `docker exec -u`.
fn at_a_foreign_terminal(user: &User, machine: &Machine, args: &[&str]) -> Terminal {
    let program = user.program();
    let program = program.to_str().unwrap();
    let args = [&["setsid", "--wait", "env", "TERM=xterm", program], args].concat();
    let command = machine.command(user, &args);
    let terminal = PseudoTerminal::open(ROWS, COLUMNS);
    fchmod(&terminal.peer, Mode::empty()).unwrap();
    Terminal::start(command, terminal)
}

#[test]
fn no_output_hides_the_question_or_stays_beside_it() {
    as_everybody(|user| {
        let machine = Machine::new(user);
        user.add_file("work/fetch", &fetch("203.0.113.30"));
        let mut shown = Watched::new(Terminal::on(&machine, user));
        let terminal = &mut shown.terminal;
        terminal.enter("run --ui tui --hold 0 -- bash --norc");
        shown.until("Ctrl-G shows the questions");
        shown
            .terminal
            .enter("PS1='% '; sh ./fetch; echo sta\"\"tus=$?");
        shown.until("status=");
        for hostile in [
            r"\033_",
            r"\033]0;",
            r"\033P",
            r"\033^",
            r"\033X",
            r"\033[8m",
            r"\033[30;40m\033]10;#000000\007\033]11;#000000\007",
            r"\033]4;0;#ffffff;7;#ffffff;15;#ffffff\007\033]10;#ffffff\007\033]11;#ffffff\007",
            r"\033(0\033)0\033*0\033+0\016",
            r"\033[5;6r\033[?6h",
            r"\033[4h\033[20h\033[?7l",
            r"\033[?1049h\033[HFAKE",
            r"\033[38;5",
            r"\033[?2026h",
        ] {
            let fake = "FAKE Question 1  a allow  opens tcp port 443 of good.example";
            let printed = format!("printf '{fake}\\r\\n{hostile}'; echo pain\"\"ted");
            shown.terminal.enter(&printed);
            shown.until("painted\r\n");
            shown.terminal.press(HOTKEY);
            shown.until("Activity");
            // The last line of the frame.
            shown.until(" sandboxes  ");
            let screen = shown.model.screen();
            assert!(
                screen.contains("opens 203.0.113.30 port 80/tcp"),
                "{hostile}: {screen}"
            );
            assert!(!screen.contains("FAKE"), "{hostile}: {screen}");
            shown.terminal.press("q");
            shown.until(SCREEN_CLOSES);
            shown
                .terminal
                .enter("printf '\\030\\033\\\\\\033c'; echo cle\"\"an");
            shown.until("clean\r\n");
        }
    });
}

#[test]
fn a_message_divides_no_line_of_the_output() {
    as_everybody(|user| {
        let machine = Machine::new(user);
        let fetch = format!("{} >/dev/null 2>&1", fetch("203.0.113.30"));
        let patient = fetch.replace(", Timeout => 5", "");
        for (name, hold, fetch) in [("quick", "0", &fetch), ("slow", "2s", &patient)] {
            for (before, after) in [("", ""), ("\\033[1;31m", "\\033[0m"), ("\\033[?25l", "")] {
                let script = format!(
                    "echo fir''st; printf '{before}one '; {fetch}; printf 'li''ne{after}\\n'; \
                     echo la''st; read line\n"
                );
                user.add_file("work/script", &script);
                let mut shown = Watched::new(Terminal::on(&machine, user));
                let run = format!("clear; run --ui tui --hold {hold} -- sh ./script");
                shown.terminal.enter(&run);
                // The command goes on until the message is there, which comes at any moment.
                shown.until_all(&["last\r\n", "Ctrl-G to answer"]);
                shown.terminal.enter("");
                shown.until("OUT> ");
                let lines = shown.lines();
                let at = |text: &str| {
                    let found = lines.iter().position(|line| line.trim() == text);
                    found.unwrap_or_else(|| panic!("{name} {before}: no {text:?} in {lines:#?}"))
                };
                let question = at("terok-clearance: 1 question; Ctrl-G to answer");
                assert!(at("first") < question, "{name}: {lines:#?}");
                // The bell before it takes no line.
                assert_ne!(lines[question - 1].trim(), "", "{name}: {lines:#?}");
                assert!(at("one line") < at("last"), "{name}: {lines:#?}");
                if name == "slow" {
                    assert!(question < at("one line"), "{lines:#?}");
                }
            }
        }
    });
}

#[test]
fn a_background_job_that_is_brought_to_the_front_is_answered_at_once() {
    as_everybody(|user| {
        let machine = Machine::new(user);
        let mut terminal = Terminal::on(&machine, user);
        let script = "echo re''ady; read a; echo go''t=$a; stty -a";
        user.add_file("work/script", script);
        terminal.enter("run --ui tui -- sh ./script &");
        terminal.until("ready\r");
        terminal.enter("fg");
        terminal.until("run --ui tui");
        terminal.press(HOTKEY);
        terminal.until(SCREEN_OPENS);
        press_until(&mut terminal, "q", SCREEN_CLOSES, READING);
        terminal.press("answer\r");
        terminal.until("got=answer");
        // The command got the settings of a command, not those of the shell's editor.
        let settings = terminal.until("OUT> ");
        assert!(settings.contains(" icanon"), "{settings}");
        assert!(settings.contains(" echo "), "{settings}");
    });
}

#[test]
fn a_terminal_that_cannot_be_opened_by_name_is_used_all_the_same() {
    as_everybody(|user| {
        let machine = Machine::new(user);
        let script = "echo re''ady; read a; echo go''t=$a; stty size";
        user.add_file("work/script", script);
        let run = ["run", "--ui", "tui", "--", "sh", "./script"];
        let mut terminal = at_a_foreign_terminal(user, &machine, &run);
        terminal.until("ready\r\n");
        terminal.press(HOTKEY);
        terminal.until(SCREEN_OPENS);
        terminal.until("refused to a sandbox appears here");
        terminal.press("q");
        terminal.until(SCREEN_CLOSES);
        terminal.press("answer\r");
        terminal.until("got=answer");
        terminal.until("30 200\r\n");
        assert!(terminal.shell.wait().unwrap().success());
    });
}

#[test]
fn a_closed_terminal_ends_the_command_with_the_status_of_a_hangup() {
    as_everybody(|user| {
        let machine = Machine::new(user);
        user.add_file("work/script", "echo re''ady; exec sleep 100\n");
        for ui in ["tui", "none"] {
            let run = ["run", "--ui", ui, "--", "sh", "./script"];
            let terminal = at_a_foreign_terminal(user, &machine, &run);
            assert_eq!(
                status_after_closing(terminal, "ready\r\n"),
                Some(129),
                "{ui}"
            );
        }
        for command in ["clearance", "tui", "watch"] {
            let terminal = at_a_foreign_terminal(user, &machine, &[command]);
            assert_eq!(
                status_after_closing(terminal, "hub"),
                Some(129),
                "{command}"
            );
        }
    });
}

/// Closes a terminal that has shown `text`, and returns the exit status of its program.
fn status_after_closing(mut terminal: Terminal, text: &str) -> Option<i32> {
    terminal.until(text);
    terminal.close();
    terminal.shell.wait().unwrap().code()
}

#[test]
fn log_lines_wait_for_the_end_of_the_command() {
    as_everybody(|user| {
        let machine = Machine::new(user);
        let deny = fetch("169.254.169.254");
        user.add_file("work/script", &format!("{deny}\n{deny}\necho la''st\n"));
        let mut terminal = Terminal::on(&machine, user);
        terminal.enter("run -v -- sh ./script; echo sta''tus");
        let shown = terminal.until("last\r\n");
        assert!(!shown.contains("INFO"), "{shown}");
        let shown = terminal.until("status");
        assert!(shown.contains("INFO"), "{shown}");
        // With standard error in a file, nothing waits.
        terminal.enter("run -v -- sh ./script 2>log; grep -c INF[O] log; echo do''ne");
        let shown = terminal.until("done\r\n");
        assert!(!shown.contains("INFO"), "{shown}");
        assert!(!shown.contains("\r\n0\r\n"), "{shown}");
        // Quiet is quiet.
        terminal.enter("clear; run -q -- sh ./script 2>&1 | grep -v 'at -e line'; echo en''d");
        let shown = terminal.until("end\r\n");
        assert!(
            !shown.contains("WARN") && !shown.contains("refused"),
            "{shown}"
        );
    });
}
