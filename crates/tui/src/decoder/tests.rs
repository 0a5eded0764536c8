// SPDX-License-Identifier: Apache-2.0
use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use proptest::prelude::*;

use super::*;

/// Decodes `bytes` one by one; `pauses` says after which a pause follows.
fn decode_slowly(bytes: &[u8], pauses: &[bool]) -> Vec<InputFrame> {
    let mut decoder = InputDecoder::default();
    let mut frames = Vec::new();
    for (at, byte) in bytes.iter().enumerate() {
        decoder.push(&[*byte]);
        frames.extend(std::iter::from_fn(|| decoder.next_frame()));
        if pauses.get(at) == Some(&true) {
            frames.extend(decoder.flush_escape());
        }
    }
    frames.extend(decoder.flush_escape());
    frames
}

fn frames(chunks: &[&[u8]]) -> Vec<InputFrame> {
    let mut decoder = InputDecoder::default();
    let mut frames = Vec::new();
    for chunk in chunks {
        decoder.push(chunk);
        frames.extend(std::iter::from_fn(|| decoder.next_frame()));
    }
    frames.extend(decoder.flush_escape());
    frames
}

/// Without the doubt, which depends on pauses.
fn codes(frames: &[InputFrame]) -> Vec<Option<KeyEvent>> {
    let code = |frame: &InputFrame| match frame {
        InputFrame::Key(key) => Some(key.typed()),
        _ => None,
    };
    frames.iter().map(code).collect()
}

fn key(code: KeyCode) -> InputFrame {
    InputFrame::Key(KeyEvent::new(code, KeyModifiers::NONE).into())
}

/// Returns `true` for a key that may be an answer.
fn may_answer(frame: &InputFrame) -> bool {
    matches!(frame, InputFrame::Key(key) if key.is_certain()
        && matches!(key.command().code, KeyCode::Char(_))
        && (key.command().modifiers - KeyModifiers::SHIFT).is_empty())
}

#[test]
fn keys_are_decoded_from_parts_of_any_size() {
    let a = || key(KeyCode::Char('a'));
    for (bytes, expected) in [
        (&b"a"[..], vec![a()]),
        (b"aa", vec![a(), a()]),
        (b"\r", vec![key(KeyCode::Enter)]),
        (b"\x1b[A", vec![key(KeyCode::Up)]),
        (b"\x1bOA", vec![key(KeyCode::Up)]),
        (b"\x9bA", vec![key(KeyCode::Up)]),
        (b"\xc2\x9bA", vec![key(KeyCode::Up)]),
        (b"\x1b[5~", vec![key(KeyCode::PageUp)]),
        (b"\x1b[15~a", vec![key(KeyCode::F(5)), a()]),
        (b"\x1b[[A", vec![key(KeyCode::F(1))]),
        (b"\x1b[97;1ua", vec![a(), a()]),
        ("\u{e9}".as_bytes(), vec![key(KeyCode::Char('\u{e9}'))]),
        (
            b"\x1b[200~ax\x1b[A\x1b[201~a",
            vec![InputFrame::Paste("ax\x1b[A".into()), a()],
        ),
        (
            b"\x9b200~a\x9b201~a",
            vec![InputFrame::Paste("a".into()), a()],
        ),
        (
            b"\x1b]11;rgb:aaaa/aaaa/aaaa\x1b\\a",
            vec![InputFrame::Quiet, a()],
        ),
    ] {
        assert_eq!(frames(&[bytes]), expected, "{bytes:?}");
        for cut in 1..bytes.len() {
            let (one, two) = bytes.split_at(cut);
            assert_eq!(frames(&[one, two]), expected, "{bytes:?} cut at {cut}");
        }
    }
    let alt = KeyEvent::new(KeyCode::Char('a'), KeyModifiers::ALT);
    assert_eq!(codes(&frames(&[b"\x1ba"])), [Some(alt)]);
}

#[test]
fn keys_that_arrive_together_are_detected() {
    let mut decoder = InputDecoder::default();
    decoder.push(b"ax");
    assert_eq!(decoder.next_frame(), Some(key(KeyCode::Char('a'))));
    assert!(decoder.has_buffered_bytes());
    assert_eq!(decoder.next_frame(), Some(key(KeyCode::Char('x'))));
    assert!(!decoder.has_buffered_bytes());
}

/// Replies and reports of terminals, and unknown sequences, that contain letters.
const REPLIES: &[&[u8]] = &[
    b"\x1b]4;1;rgb:aaaa/dddd/xxxx\x1b\\",
    b"\x1b]10;rgb:aaaa/dddd/xxxx\x07",
    b"\x1b]11;rgb:aaaa/aaaa/aaaa\x1b\\",
    b"\x1b]11;rgb:aaaa/aaaa/aaaa\x07",
    b"\x9d11;rgb:aaaa/aaaa/aaaa\x9c",
    b"\x9d11;rgb:aaaa/aaaa/aaaa\x07",
    b"\xc2\x9d11;rgb:aaaa/aaaa/aaaa\xc2\x9c",
    b"\x1b]52;c;YWRkYXhk\x07",
    "\x1b]ladd an \u{41c} axe\x1b\\".as_bytes(),
    "\u{9d}la \u{41c}axad\u{9c}".as_bytes(),
    b"\x9dl\xd0\x9caxad\x9c",
    b"\x1bP1$r0;1adx\x1b\\",
    b"\x901$r0a\x9c",
    b"\x1bP>|xterm(388)a\x1b\\",
    b"\x1bP!|7E7E7E7Ea\x1b\\",
    b"\x1bP1+r616464=61\x1b\\",
    b"\x1bP5!~aaaa\x1b\\",
    b"\x1b_Ga=x;OK: add\x1b\\",
    b"\x9fGa;OK\x9c",
    b"\x1b^a\x1b\\",
    b"\x9ea\x9c",
    b"\x1bXa\x1b\\",
    b"\x98a\x9c",
    b"\x1b[?64;1;2;6;22c",
    b"\x9b?64;1;2;6;22c",
    b"\xc2\x9b?64;1;2c",
    b"\x1b[>1;10;0c",
    b"\x1b[0n",
    b"\x1b[12;40R",
    b"\x1b[?12;40;1R",
    b"\x1b[?2026;2$y",
    b"\x1b[4;2$y",
    b"\x1b[?1u",
    b"\x1b[?29u",
    b"\x1b[?997;1n",
    b"\x1b[48;24;80;0;0t",
    b"\x1b[8;24;80t",
    b"\x1b[2;1;1;112;112;1;0x",
    b"\x1b[I",
    b"\x1b[O",
    b"\x1b[Maaa",
    b"\x1b[M ad",
    b"\x1b[M\x20\x9b\xe1",
    b"\x1b[M\x20\xc3\xa1a",
    b"\x1b[M\x20\xc3\xa1\xc3\xa1",
    b"\x9bMaxd",
    b"\x1b[tax",
    b"\x1b[Taxdaxd",
    b"\x1b[<0;97;97M",
    b"\x1b[<0;97;97m",
    b"\x1b[97;97;97M",
    b"\x1b[1;2;97;97;0&w",
    b"\x1b[a",
    b"\x1b[1;2x",
    b"\x1bOx",
    b"\x1bO5a",
    b"\x8fx",
    // VT52.
    b"\x1b/a",
    b"\x1b?y",
    b"\x1b[200~axd y\r\x1b[Aa\x1b[201~",
];

/// Bytes that are no characters.
const BROKEN: &[&[u8]] = &[b"\xff", b"\xe4\xbd"];

#[test]
fn letters_of_replies_are_no_keys_whatever_is_between_them() {
    for bytes in [REPLIES, BROKEN].concat() {
        for cut in 0..=bytes.len() {
            // A pause at one place, and at all.
            let once: Vec<_> = (0..bytes.len()).map(|at| at + 1 == cut).collect();
            for pauses in [once, vec![cut > 0; bytes.len()]] {
                let found = decode_slowly(bytes, &pauses);
                assert!(
                    !found.iter().any(may_answer),
                    "{bytes:?} {pauses:?}: {found:?}"
                );
            }
            let found = frames(&[&bytes[..cut], &bytes[cut..]]);
            assert!(
                !found.iter().any(may_answer),
                "{bytes:?} at {cut}: {found:?}"
            );
        }
    }
}

#[test]
fn endings_that_never_come_leave_no_keys() {
    for bytes in [
        &b"\x1b]0;aaaa"[..],
        b"\x1b[200~aaa",
        b"\x1bPaaa",
        b"\x9daaaa",
        b"\x1b[1;2;3",
    ] {
        let found = decode_slowly(bytes, &vec![true; bytes.len()]);
        assert!(!found.iter().any(may_answer), "{bytes:?}: {found:?}");
    }
}

#[test]
fn escape_alone_is_a_key_after_a_pause_and_the_next_key_is_doubtful() {
    let mut decoder = InputDecoder::default();
    decoder.push(b"\x1b");
    assert_eq!(decoder.next_frame(), None);
    assert!(decoder.awaits_escape());
    let escape = decoder.flush_escape();
    assert!(matches!(escape, Some(InputFrame::Key(key)) if key.typed().code == KeyCode::Esc));
    assert_eq!(decoder.flush_escape(), None, "once");
    for certain in [false, true] {
        decoder.push(b"a");
        let Some(InputFrame::Key(pressed)) = decoder.next_frame() else {
            panic!("no key");
        };
        assert_eq!(pressed.typed().code, KeyCode::Char('a'));
        assert_eq!(pressed.is_certain(), certain);
    }
    // The keys that also continue a sequence of a VT52.
    for sign in ['/', '?', ' ', '*'] {
        decoder.push(b"\x1b");
        assert_eq!(decoder.next_frame(), None);
        assert!(decoder.flush_escape().is_some());
        decoder.push(&[u8::try_from(sign).unwrap()]);
        assert_eq!(
            codes(&[decoder.next_frame().unwrap()])[0].unwrap().code,
            KeyCode::Char(sign)
        );
        decoder.push(b"y");
        assert!(!may_answer(&decoder.next_frame().unwrap()), "{sign}");
    }
}

#[test]
fn escape_ends_a_string_that_has_no_end() {
    let mut decoder = InputDecoder::default();
    decoder.push(b"\x1b]aaa");
    assert_eq!(decoder.next_frame(), None);
    assert!(decoder.is_inside_string() && !decoder.is_doubtful_string());
    decoder.push(b"\x1b");
    assert_eq!(decoder.next_frame(), None);
    decoder.push(b"[A");
    assert_eq!(decoder.next_frame(), Some(InputFrame::Unknown));
    assert_eq!(decoder.next_frame(), Some(key(KeyCode::Up)));
    // CAN and SUB cancel.
    decoder.push(b"\x1bPa\x18a");
    assert_eq!(decoder.next_frame(), Some(InputFrame::Unknown));
    assert!(!may_answer(&decoder.next_frame().unwrap()));
}

#[test]
fn endless_text_is_bounded_and_contains_no_keys() {
    for (begin, end) in [
        (&b"\x1b[200~"[..], &b"\x1b[201~"[..]),
        (b"\x1b]0;", b"\x07"),
        (b"\x90", b"\x9c"),
        (b"\x1b[", b"m"),
    ] {
        let mut decoder = InputDecoder::default();
        decoder.push(begin);
        for _ in 0..1000 {
            decoder.push(&[b'1'; 1000]);
            assert_eq!(decoder.next_frame(), None);
            assert!(decoder.frame.len() <= MAX_FRAME_BYTES);
        }
        decoder.push(end);
        let frame = decoder.next_frame().unwrap();
        assert!(!matches!(frame, InputFrame::Key(_)), "{frame:?}");
        decoder.push(b"a");
        assert_eq!(decoder.next_frame(), Some(key(KeyCode::Char('a'))));
    }
}

fn hostile_bytes() -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(
        prop_oneof![
            any::<u8>(),
            prop::sample::select(b"\x1b\x1b[]OPMa0;~\x07\\<\x9b\x9d\x9c\xc2tT?/u".to_vec()),
        ],
        0..200,
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn decoding_does_not_depend_on_how_bytes_are_split(
        bytes in hostile_bytes(),
        cut in 0usize..200,
    ) {
        let (one, two) = bytes.split_at(cut.min(bytes.len()));
        prop_assert_eq!(frames(&[&bytes]), frames(&[one, two]));
    }

    /// Replies of a terminal at any speed, with keys between them that answer nothing.
    #[test]
    fn replies_at_any_speed_are_no_answers(
        parts in prop::collection::vec((0..REPLIES.len(), 0..6_usize), 1..6),
        pauses in prop::collection::vec(any::<bool>(), 0..200),
    ) {
        let between: [&[u8]; 6] = [b"", b"\x1b[A", b"\r", b"\x1b[24~", b"\x1b[1092;5u", b"\t"];
        let mut bytes = Vec::new();
        for (reply, then) in parts {
            bytes.extend(REPLIES[reply]);
            bytes.extend(between[then]);
        }
        let found = decode_slowly(&bytes, &pauses);
        prop_assert!(!found.iter().any(may_answer), "{:?}", found);
    }

    /// Keys are recognised after replies, however the bytes are cut.
    #[test]
    fn keys_between_replies_are_recognised(
        parts in prop::collection::vec((0..REPLIES.len(), 0..5_usize), 1..6),
        cut in 0usize..200,
    ) {
        let keys: [(&[u8], KeyCode); 5] = [
            (b"\x1b[A", KeyCode::Up),
            (b"\x1b[97u", KeyCode::Char('a')),
            (b"\x1b[6~", KeyCode::PageDown),
            (b"\x1bOP", KeyCode::F(1)),
            (b"\x1b[27;1;120~", KeyCode::Char('x')),
        ];
        let (mut bytes, mut expected) = (Vec::new(), Vec::new());
        for (reply, then) in parts {
            // Such a mouse event may go on for another byte.
            if may_continue(REPLIES[reply]) {
                continue;
            }
            bytes.extend(REPLIES[reply]);
            bytes.extend(keys[then].0);
            expected.push(keys[then].1);
        }
        let (one, two) = bytes.split_at(cut.min(bytes.len()));
        let found = codes(&frames(&[one, two]));
        let found: Vec<_> = found.into_iter().flatten().map(|key| key.code).collect();
        prop_assert_eq!(found, expected);
    }

    #[test]
    fn no_bytes_panic(bytes in hostile_bytes(), pauses in prop::collection::vec(any::<bool>(), 0..200)) {
        drop(decode_slowly(&bytes, &pauses));
    }
}

/// Whether a reply has no certain end.
fn may_continue(reply: &[u8]) -> bool {
    reply.starts_with(b"\x1b[M") && !reply.is_ascii()
}
