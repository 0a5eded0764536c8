// SPDX-License-Identifier: Apache-2.0

use super::*;

const SIZE: Winsize = Winsize {
    ws_row: 24,
    ws_col: 80,
    ws_xpixel: 0,
    ws_ypixel: 0,
};

fn after(chunks: &[&[u8]]) -> TerminalStateTracker {
    let mut state = TerminalStateTracker::default();
    for chunk in chunks {
        state.observe_output(chunk, SIZE);
    }
    state
}

#[test]
fn the_alternate_screen_is_seen_even_if_the_sequence_is_cut() {
    let check = |chunks: &[&[u8]], expected| {
        assert_eq!(after(chunks).is_alternate_screen(), expected, "{chunks:?}");
    };
    check(&[b"hello"], false);
    check(&[b"x\x1b[?1049hy"], true);
    check(&[b"x\x1b[?10", b"49h"], true);
    check(&[b"\x1b", b"[", b"?", b"4", b"7", b"h"], true);
    check(&[b"\x1b[?1049h lots of text in between \x1b[?1049l"], false);
    check(&[b"\x1b[?1047h", b"lots of text", b"\x1b[?1049l"], false);
    check(&[b"\x1b[?1049h", b"lots of text in between"], true);
    check(&[b"\x1b[?1049l\x1b[?1049h"], true);
    check(&[b"\x1b[?25;1049;2004h"], true);
    check(&[b"\x1b[1049h"], false);
    check(&[b"\x1b[?1\x1b[049h"], false);
    check(&[b"\x1b]0;\x1b[?1049h"], true);
    check(&[b"\x1b]0;[?1049h\x07"], false);
    check(&[b"\xc2\x9b?1049h"], true);
    check(&[b"\x1b[?1049h\x1bc"], false);
    check(&[b"\x1b[?1049s\x1b[?1049h\x1b[?1049r"], false);
}

#[test]
fn what_was_changed_is_made_again() {
    let check = |output: &[u8], expected: &str| {
        let restored = after(&[output]).restore_sequence();
        let restored = String::from_utf8_lossy(&restored).replace(PLAIN_TEXT, "");
        assert_eq!(restored, expected, "{output:?}");
    };
    check(b"text", "");
    check(b"\x1b[?2004h$ ", "\x1b[?2004h");
    check(b"\x1b[?2004h$ \x1b[?2004l", "");
    check(
        b"\x1b[?25l\x1b[?1000;1006h\x1b[?1049h",
        "\x1b[?1049h\x1b[?25l\x1b[?1000h\x1b[?1006h",
    );
    check(b"\x1b[?25l\x1b[?25h", "");
    check(b"\x1b[?1003h\x1b[?1000h", "\x1b[?1003h\x1b[?1000h");
    check(b"\x1b[?7h\x1b[?99999999999999999999h", "");
    check(b"\x1b[?7l\x1b[4h\x1b[20h", "\x1b[?7l\x1b[4h\x1b[20h");
    check(b"\x1b[?7l\x1b[4h\x1b[!p", "");
    check(b"\x1b[3;9r", "\x1b7\x1b[3;9r\x1b8");
    check(b"\x1b[3;9r\x1b[r", "");
    check(
        b"\x1b[?69h\x1b[2;4s\x1b[?6h",
        "\x1b[?69h\x1b7\x1b[2;4s\x1b[?6h\x1b8",
    );
    check(b"\x1b(0\x1b)A\x0e", "\x1b(0\x1b)A\x0e");
    check(b"\x1b(0\x1b(B\x0e\x0f", "");
    check(b"\x1b[1;31mred", "\x1b[0;1;31m");
    check(b"\x1b=\x1b[>4;2m", "\x1b=\x1b[>4;2m");
    check(b"\x1b[>1u\x1b[=5u", "\x1b[=5;1u");
    check(b"\x1b[>1u\x1b[>3u\x1b[<u", "\x1b[=1;1u");
    check(b"\x1b[>1u\x1b[<u", "");
    check(b"\x1b[>1u\x1b[?1049h", "\x1b[?1049h");
    check(b"\x1b]11;red\x07", "\x1b]11;red\x1b\\");
    check(b"\x1b]8;;http://x/\x1b\\a", "\x1b]8;;http://x/\x1b\\");
    check(b"\x1b]8;;http://x/\x1b\\a\x1b]8;;\x07", "");
    check(b"\x1b[2 q\x1b[1\"q", "\x1b[?1049l\x1b[2 q\x1b[1\"q");
    check(b"\x1b[?2l", "\x1b[?2l");
    check(b"\x1b[?2l\x1b<", "");
    // What is unfinished goes on.
    check(b"\x1b[3", "\x1b[3");
    check(b"\x1b_data", "\x1b_data");
    check(b"\x1b]0;title\x18", "");
    check("\u{e9}".as_bytes(), "");
}

#[test]
fn endless_sequences_take_no_room() {
    for introducer in [&b"\x1b[?"[..], b"\x1b]0;", b"\x1b_x", b"\x1bP"] {
        let mut state = after(&[introducer]);
        state.observe_output(&b"1;".repeat(100_000), SIZE);
        // Of a string only the introducer is put back, and what follows is still within it.
        assert_eq!(state.restore_sequence(), introducer[..2], "{introducer:?}");
    }
    let mut state = after(&[b"\x1b[?"]);
    state.observe_output(&b"1;".repeat(100_000), SIZE);
    state.observe_output(b"1049h", SIZE);
    assert!(!state.is_alternate_screen());
    for many in [
        &b"\x1b[>1u"[..],
        b"\x1b[>4;2m",
        b"\x1b[?25l",
        b"\x1b[?69;6;7s",
    ] {
        let state = after(&[&many.repeat(10_000)]);
        assert!(state.restore_sequence().len() < 32);
    }
}

#[test]
fn the_start_of_a_line_is_known() {
    let check = |output: &str, expected: bool| {
        let found = after(&[output.as_bytes()]).is_line_start();
        assert_eq!(found, expected, "{output:?}");
    };
    check("", true);
    check("text\r\n", true);
    check("text\n", false);
    check("text", false);
    check("text\r", false);
    check("50%\r\x1b[K", true);
    check("50%\x1b[K", false);
    check("\x1b[31m", true);
    check("text\r\n\x1b[3", false);
    check("\x1b[H\x1b[2J", false);
    check("\x1b[H\x1b[2Jtext\r\n", true);
    check("text\r\n\x1b_G", false);
}

/// What the terminal gets for features that a model does not have: an argument from documents.
#[test]
fn features_that_were_perhaps_used_are_reset() {
    let check = |output: &[u8], expected: &[&str]| {
        let taken = after(&[output]).takeover_sequence(SIZE);
        let rest = taken.strip_prefix(END_UNFINISHED).unwrap();
        for part in expected {
            assert!(rest.contains(part), "{output:?}: {rest:?}");
        }
        assert_eq!(rest.is_empty(), expected.is_empty(), "{output:?}: {rest:?}");
    };
    check("plain \u{2014} text\x1b[1m\x1b]0;title\x07".as_bytes(), &[]);
    // xterm: OSC 104, 110 and 111 reset the palette, the text and the background.
    let colors = ["\x1b]104\x1b\\", "\x1b]110\x1b\\", "\x1b]111\x1b\\"];
    check(b"\x1b]4;0;red\x07", &colors);
    check(b"\x1b]11;#ffffff\x1b\\", &colors);
    check(b"\x1b]\x0010;red\x07", &colors);
    check(b"\x1b_x\x1b\x00]10;red", &colors);
    check(b"\x9d10;red\x07", &colors);
    check(b"\x1b]P7000000", &colors);
    // The window's title and others are no colours.
    check(b"\x1b]0;4\x07\x1b]8;;x\x07\x1b]9;x\x07", &[]);
    // xterm: erasing leaves protected characters; printing does not.
    let row = format!("\x1b[24H{}", " ".repeat(80));
    check(b"\x1b[1\"q", &[&row]);
    check(b"\x1bVfake\x1bW", &[&row]);
    // kitty: images lie over the characters.
    check(b"\x1b_Ga=T;AAAA\x1b\\", &["\x1b[?1049h\x1b_Ga=d\x1b\\"]);
    // VT510: the status line has text of the command.
    check(b"\x1b[2$~\x1b[1$}fake", &["\x1b[0$~"]);
}
