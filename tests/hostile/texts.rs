// SPDX-License-Identifier: Apache-2.0
//! Texts that a sandbox, or a file of it, may choose to mislead whoever reads them: the one table
//! for every UI, included with `#[path]` by the tests of each.

/// What it tries, and the text.
const TEXTS: &[(&str, &str)] = &[
    ("colours", "\u{1b}[31mred\u{1b}[0m"),
    (
        "a cleared screen",
        "a\u{1b}[2J\u{1b}[HBlocked: good.example:443",
    ),
    ("a window's title", "\u{1b}]0;Allowed\u{7}"),
    (
        "a link",
        "\u{1b}]8;;https://evil.example\u{1b}\\good\u{1b}]8;;\u{1b}\\",
    ),
    ("a paste into the clipboard", "\u{1b}]52;c;ZXZpbA==\u{7}"),
    ("an answerback", "\u{1b}[6n\u{1b}[c\u{5}"),
    ("a sequence in one byte", "\u{9b}31mred\u{9d}0;t\u{9c}"),
    ("a device control string", "\u{1b}P$q\"p\u{1b}\\"),
    ("the end of a paste", "\u{1b}[201~a\r"),
    ("backspaces", "deny\u{8}\u{8}\u{8}\u{8}allow"),
    ("a carriage return", "evil.example\rgood.example"),
    ("newlines", "one\n[9] BLOCKED  bank.example\nthree\r\n"),
    (
        "a popup's lines",
        "x\nTask: terok/other\r\nAllow opens nothing",
    ),
    ("other line ends", "a\u{85}b\u{2028}c\u{2029}d\u{b}e\u{c}f"),
    ("a tab", "a\tb"),
    ("a NUL", "a\0b"),
    ("a DEL", "a\u{7f}b"),
    (
        "every control",
        "\u{1}\u{2}\u{3}\u{6}\u{e}\u{1a}\u{1c}\u{80}\u{90}\u{9f}",
    ),
    ("a bidi override", "\u{202e}elpmaxe.live\u{202c}"),
    ("bidi isolates", "\u{2066}a\u{2067}b\u{2068}c\u{2069}"),
    ("marks of direction", "a\u{200e}b\u{200f}c\u{61c}"),
    (
        "nothing to see",
        "a\u{200b}b\u{200c}c\u{200d}d\u{2060}e\u{feff}",
    ),
    ("a soft hyphen", "exa\u{ad}mple"),
    ("wide characters", "\u{6f22}\u{5b57}.example"),
    ("a picture", "\u{1f469}\u{200d}\u{1f4bb}\u{1f1e9}\u{1f1ea}"),
    (
        "marks on top of each other",
        "z\u{335}\u{336}\u{337}\u{338}\u{20dd}\u{489}",
    ),
    (
        "letters of another alphabet",
        "\u{440}\u{430}y\u{440}\u{430}l.example",
    ),
    (
        "full-width letters",
        "\u{ff41}\u{ff4c}\u{ff4c}\u{ff4f}\u{ff57}",
    ),
    ("tags", "a\u{e0061}\u{e007f}b"),
    ("private use", "\u{e000}\u{f8ff}\u{10ffff}"),
    ("a replacement character", "\u{fffd}"),
    (
        "markup",
        "<b>bold</b> <a href=\"https://evil.example\">good</a> <img src='/etc/passwd'/>",
    ),
    (
        "markup that ends nowhere",
        "<span foreground=\"white\"><!-- ]]> </",
    ),
    ("entities", "&lt;b&gt; &amp; &#x202e; &#10; &broken &"),
    ("markdown", "[x](javascript:alert) `code` **b**"),
    ("JSON", "\"},\"event\":\"decided\",\"x\":{\"\\u001b\\n\":\""),
    ("a shell's words", "$(reboot) `reboot` ; reboot | cat && x"),
    ("an option", "--help"),
    ("a path", "../../../../etc/passwd"),
    ("a format", "%s%n %{x} {0} {{}}"),
    ("a percent escape", "%1b%5b2J%0a"),
    (
        "a prompt's words",
        "[1] ALLOWED  tcp port 443 of bank.example",
    ),
    ("a keyboard's words", "a 1"),
    ("spaces alone", "            "),
    ("nothing", ""),
];

/// Returns every case, what it tries and its text, those of 10 kB among them.
pub(crate) fn all() -> Vec<(&'static str, String)> {
    let mut all: Vec<_> = TEXTS
        .iter()
        .map(|(tries, text)| (*tries, (*text).to_owned()))
        .collect();
    let everything: String = TEXTS.iter().map(|(_, text)| *text).collect();
    let long = everything.chars().cycle().take(10_000).collect();
    all.push(("ten kilobytes of all of them", long));
    all.push(("ten kilobytes of one word", "x".repeat(10_000)));
    all.push(("ten kilobytes of lines", "\n".repeat(10_000)));
    all
}

/// Returns the texts alone, in their order.
pub(crate) fn texts() -> Vec<String> {
    all().into_iter().map(|(_, text)| text).collect()
}
