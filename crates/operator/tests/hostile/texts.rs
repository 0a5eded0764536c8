// SPDX-License-Identifier: Apache-2.0
//! Texts that a sandbox could choose to fool a person, for every way to show one.

/// What it is, and the text.
pub(crate) const TEXTS: [(&str, &str); 14] = [
    ("a colour", "a\u{1b}[31mred\u{1b}[0m"),
    ("a title for the window", "\u{1b}]0;Allowed\u{7}"),
    (
        "a link",
        "\u{1b}]8;;https://evil.example\u{1b}\\good\u{1b}]8;;\u{1b}\\",
    ),
    (
        "the screen wiped",
        "\u{1b}[2J\u{1b}[HBlocked: good.example:443",
    ),
    ("a one-byte CSI", "\u{9b}31mred"),
    (
        "markup",
        "<b>bold</b> <a href=\"https://evil.example\">good</a> <img src=\"/etc/passwd\"/>",
    ),
    ("entities", "&lt;b&gt; &amp; &#x41; &broken"),
    ("right to left", "\u{202e}moc.dab\u{202c}\u{2066}x\u{2069}"),
    ("nothing to see", "a\u{200b}\u{200d}\u{feff}b\u{ad}c"),
    (
        "lines",
        "x\nTask: terok/other\r\nAllow opens nothing\u{2028}y\u{85}z",
    ),
    (
        "tabs and backspaces",
        "good\u{8}\u{8}\u{8}\u{8}evil\tx\u{0}y\u{7f}",
    ),
    (
        "wide and combining",
        "\u{65e5}\u{672c}\u{1f600}e\u{301}\u{301}\u{301}\u{301}",
    ),
    ("look-alikes", "\u{430}pple.example"),
    ("a very long name", LONG),
];

const LONG: &str = {
    const BYTES: [u8; 10_000] = [b'x'; 10_000];
    match std::str::from_utf8(&BYTES) {
        Ok(text) => text,
        Err(_) => "",
    }
};

/// Says what is wrong with what is shown, line by line, apart from the characters of our own words.
pub(crate) fn harm(shown: &str, longest: usize) -> Option<String> {
    let ours = ['\n', '\u{b7}'];
    if let Some(c) = shown
        .chars()
        .find(|c| !(' '..='~').contains(c) && !ours.contains(c))
    {
        return Some(format!("{c:?} in {shown:?}"));
    }
    let long = shown.lines().find(|line| line.chars().count() > longest)?;
    Some(format!("a line of {} characters", long.chars().count()))
}
