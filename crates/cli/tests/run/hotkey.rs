// SPDX-License-Identifier: Apache-2.0
//! The hotkey of `run` at a terminal, and the terminal's own replies.

use super::console::{HOTKEY, READING, SCREEN_CLOSES, SCREEN_OPENS, Terminal, press_until, words};
use super::machine::{Machine, fetch};
use super::user::{User, as_everybody};

/// Text of the screen without a question.
const NOTHING_WAITS: &str = "refused to a sandbox appears here";

/// Returns a terminal at which a program in the sandbox prints each byte that it reads.
fn byte_printer(user: &User, before: &str, options: &str) -> Terminal {
    user.add_file(
        "work/bytes",
        "stty raw -echo\nprintf 're''ady\\r\\n'\nwhile :; do b=$(dd bs=1 count=1 2>/dev/null | od -An -tx1); \
         printf '<%s>\\r\\n' \"${b# }\"; [ \"$b\" = ' 71' ] && break; done\nstty sane\n",
    );
    let mut terminal = Terminal::new(user);
    terminal.enter(&format!("{before} run {options} -- sh ./bytes"));
    terminal.until("ready\r\n");
    terminal
}

#[test]
fn the_hotkey_opens_the_screen_in_every_encoding_with_nothing_pending() {
    as_everybody(|user| {
        let mut terminal = byte_printer(user, "", "");
        for press in [
            "\x07",
            "\x1b[103;5u",
            // Kitty: alternate keys, the kind of the event, Caps Lock and Num Lock, the release.
            "\x1b[103:71:103;5:1u\x1b[103;5:3u",
            "\x1b[103;69u",
            "\x1b[103;133u",
            "\x1b[1087::103;197u",
            // xterm, modifyOtherKeys.
            "\x1b[27;5;103~",
        ] {
            terminal.press(press);
            let shown = terminal.until(NOTHING_WAITS);
            assert!(shown.contains(SCREEN_OPENS), "{press:?}: {shown:?}");
            assert!(!shown.contains(">\r\n"), "the command got {shown:?}");
            terminal.press("q");
            let shown = terminal.until(SCREEN_CLOSES);
            assert!(!shown.contains("<07>"), "the command got {shown:?}");
        }
        terminal.press("q");
        terminal.until("<71>\r\n");
        terminal.is_as_before();
    });
}

#[test]
fn pressed_twice_the_hotkey_is_the_commands() {
    as_everybody(|user| {
        let mut terminal = byte_printer(user, "", "");
        for (press, received) in [(HOTKEY, "<07>"), ("\x1b[103;5u", "<75>")] {
            terminal.press(press);
            terminal.until(NOTHING_WAITS);
            terminal.press(press);
            terminal.until(SCREEN_CLOSES);
            terminal.until(received);
        }
        // At once.
        terminal.press(&HOTKEY.repeat(2));
        let shown = terminal.until("<07>");
        assert!(!shown.contains(SCREEN_OPENS), "{shown:?}");
        // After another key, it only closes the screen.
        terminal.press(HOTKEY);
        terminal.until(NOTHING_WAITS);
        terminal.press("\x1b[A");
        terminal.press(HOTKEY);
        terminal.until(SCREEN_CLOSES);
        terminal.press("q");
        let shown = terminal.until("<71>\r\n");
        assert!(!shown.contains("<07>"), "{shown:?}");
        terminal.is_as_before();
    });
}

#[test]
fn escape_and_other_keys_reach_the_command() {
    as_everybody(|user| {
        let mut terminal = byte_printer(user, "", "");
        terminal.press("\x1b");
        terminal.until("<1b>\r\n");
        terminal.press("\x1b[103;6u");
        for byte in ["1b", "5b", "31", "30", "33", "3b", "36", "75"] {
            terminal.until(&format!("<{byte}>\r\n"));
        }
        terminal.press("\x1b[200~\x07\x1b[201~q");
        let shown = terminal.until("<07>");
        assert!(!shown.contains(SCREEN_OPENS), "{shown:?}");
        terminal.until("<71>");
        terminal.is_as_before();
    });
}

#[test]
fn the_hotkey_is_chosen_by_an_option_or_a_variable() {
    as_everybody(|user| {
        for (before, options, name, press) in [
            ("", "--hotkey ctrl-]", "Ctrl-]", "\x1d"),
            ("", "--hotkey F12", "F12", "\x1b[24~"),
            ("TEROK_CLEARANCE_HOTKEY=alt-q", "", "Alt-q", "\x1bq"),
            (
                "TEROK_CLEARANCE_HOTKEY=alt-q",
                "--hotkey ^]",
                "Ctrl-]",
                "\x1b[93;5u",
            ),
        ] {
            let mut terminal = byte_printer(user, before, options);
            terminal.press(press);
            terminal.until(NOTHING_WAITS);
            terminal.press("q");
            terminal.until(SCREEN_CLOSES);
            terminal.press("\x07q");
            terminal.until("<71>");
            terminal.is_as_before();
            terminal.enter(&format!("{before} run {options} -- true"));
            terminal.until(&format!("{name} shows the questions"));
            terminal.is_as_before();
        }
        for option in ["ctrl-c", "a", "enter"] {
            let refused = { user.run(&["--hotkey", option, "--", "true"]) }
                .output()
                .unwrap();
            assert_eq!(refused.status.code(), Some(2), "{option}");
        }
        let mut refused = user.run(&["--", "true"]);
        let refused = refused.env("TEROK_CLEARANCE_HOTKEY", "x").output().unwrap();
        assert_eq!(refused.status.code(), Some(125));
        let said = String::from_utf8(refused.stderr).unwrap();
        assert!(said.contains("TEROK_CLEARANCE_HOTKEY"), "{said}");
    });
}

/// A terminal answers a query of the command while the screen opens, slowly.
#[test]
fn a_reply_of_the_terminal_answers_nothing() {
    as_everybody(|user| {
        let machine = Machine::new(user);
        let mut terminal = Terminal::on(&machine, user);
        user.add_file("work/fetch", &fetch("203.0.113.30"));
        user.add_file(
            "work/reader",
            "sh ./fetch\nstty raw -echo\n\
             while [ \"$(dd bs=1 count=1 2>/dev/null)\" != Z ]; do :; done\nstty sane\n",
        );
        terminal.enter("run --hold 0 -- sh ./reader");
        terminal.until("1 question; Ctrl-G to answer");
        for (start, pieces, end) in [
            // The command reads the start of the reply, and the rest follows the hotkey.
            ("\x1b]11;rgb:", &["aaaa", "/", "a", "a"][..], "\x1b\\"),
            ("\x1b", &["]11;rgb:", "a", "a"], "\x07"),
            ("\x1b[M", &["a", "a"], "a"),
            ("\u{9d}11;rgb:", &["a", "a"], "\u{9c}"),
        ] {
            terminal.press("\x1b[103;5u");
            terminal.press(start);
            let shown = terminal.until("blocked");
            assert!(words(&shown).contains("203.0.113.30"), "{shown}");
            for piece in pieces {
                // Long enough for an answer to count.
                std::thread::park_timeout(READING);
                terminal.press(piece);
            }
            terminal.press(end);
            press_until(&mut terminal, "q", SCREEN_CLOSES, READING);
        }
        terminal.press("Z");
        let shown = terminal.until("0 allowed, 0 denied, 1 unanswered");
        assert!(!shown.contains("ALLOWED"), "{shown}");
        terminal.is_as_before();
    });
}

#[test]
fn a_new_question_rings_as_chosen() {
    as_everybody(|user| {
        let machine = Machine::new(user);
        user.add_file("work/fetch", &fetch("203.0.113.30"));
        for (options, expected) in [
            ("", "\x07"),
            ("--bell off", ""),
            (
                "--bell osc9",
                "\x07\x1b]9;terok-clearance: 1 question waits\x1b\\",
            ),
            (
                "--bell osc777",
                "\x07\x1b]777;notify;terok-clearance;1 question waits\x1b\\",
            ),
        ] {
            let mut terminal = Terminal::on(&machine, user);
            terminal.enter(&format!("run --hold 2s {options} -- sh ./fetch"));
            let shown = terminal.until("1 question; Ctrl-G to answer");
            let sign = shown
                .rsplit("shows the questions")
                .next()
                .and_then(|rest| rest.strip_suffix("terok-clearance: 1 question; Ctrl-G to answer"))
                .unwrap();
            // On the line of the message, where it takes no room.
            assert_eq!(sign.strip_prefix("\r\n"), Some(expected), "{shown:?}");
            terminal.is_as_before();
        }
    });
}

/// Kitty and others tell the place of a key; the screen asks for it.
#[test]
fn answer_keys_work_by_their_place_on_the_keyboard() {
    as_everybody(|user| {
        let machine = Machine::new(user);
        user.add_file("work/fetch", &fetch("203.0.113.30"));
        let mut terminal = Terminal::on(&machine, user);
        terminal.enter("run --hold 0 -- bash --norc");
        terminal.until("Ctrl-G shows the questions");
        terminal.enter("PS1='% '; sh ./fetch; echo sta\"\"tus=$?");
        terminal.until("status=");
        terminal.press(HOTKEY);
        assert!(terminal.until("blocked").contains("\x1b[=29u"));
        // A Cyrillic letter without its place.
        terminal.press("\u{444}");
        terminal.until("switch it to Latin ones");
        press_until(&mut terminal, "\x1b[1092::97;1;1092u", "ALLOWED", READING);
        press_until(
            &mut terminal,
            "\x1b[113::113;65;81u",
            SCREEN_CLOSES,
            READING,
        );
        terminal.enter("exit");
        terminal.until("1 allowed, 0 denied, 0 unanswered");
        terminal.is_as_before();
    });
}

/// The terminal reports what it has shown, and an answer to a later question waits for that.
#[test]
fn a_question_that_the_terminal_has_not_shown_is_not_answered() {
    const REQUEST: &str = "\x1b[5n";
    const REPORT: &str = "\x1b[0n";
    as_everybody(|user| {
        let machine = Machine::new(user);
        user.add_file("work/fetch", &fetch("203.0.113.30"));
        user.add_file("work/other", &fetch("api.example.com"));
        let mut terminal = Terminal::on(&machine, user);
        terminal.enter("run --hold 0 -- bash --norc");
        terminal.until("Ctrl-G shows the questions");
        terminal.enter("PS1='% '; sh ./fetch; sh ./other; echo sta\"\"tus=$?");
        terminal.until("status=");
        terminal.press(HOTKEY);
        terminal.until(REQUEST);
        terminal.press(REPORT);
        press_until(&mut terminal, "a", "ALLOWED", READING);
        terminal.until(REQUEST);
        // The second question has been written, but is not on the screen yet.
        press_until(&mut terminal, "x", "has not shown all of it", READING);
        terminal.press(REPORT);
        press_until(&mut terminal, "x", "DENIED", READING);
        terminal.press("q");
        terminal.until(SCREEN_CLOSES);
        terminal.enter("exit");
        let shown = terminal.until("1 allowed, 1 denied, 0 unanswered");
        assert!(!shown.contains("[0n"), "{shown:?}");
        terminal.is_as_before();
    });
}
