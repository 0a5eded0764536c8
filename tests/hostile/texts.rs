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
    (
        "Japanese",
        "\u{65e5}\u{672c}\u{8a9e}\u{306e}\u{540d}\u{524d}",
    ),
    (
        "Korean",
        "\u{d55c}\u{ad6d}\u{c5b4} \u{1112}\u{1161}\u{11ab}",
    ),
    (
        "Hebrew",
        "\u{5e9}\u{5c1}\u{5b8}\u{5dc}\u{5d5}\u{5b9}\u{5dd}",
    ),
    (
        "Arabic",
        "\u{639}\u{631}\u{628}\u{64a} \u{6f1}\u{6f2}\u{6f3}",
    ),
    (
        "Persian with a joiner",
        "\u{645}\u{6cc}\u{200c}\u{631}\u{648}\u{645}",
    ),
    (
        "Hindi",
        "\u{939}\u{93f}\u{928}\u{94d}\u{926}\u{940} \u{915}\u{94d}\u{200d}\u{937}",
    ),
    (
        "Thai",
        "\u{e20}\u{e32}\u{e29}\u{e32}\u{e44}\u{e17}\u{e22}\u{e17}\u{e35}\u{e48}",
    ),
    (
        "letters with marks of their own",
        "cafe\u{301} n\u{303}andu\u{308}",
    ),
    ("signs", "\u{2192} \u{20ac} \u{b7} \u{ab}x\u{bb} \u{2026}"),
    (
        "pictures",
        "\u{1f680}\u{1f3fd} \u{2764}\u{fe0f} \u{31}\u{fe0f}\u{20e3}",
    ),
    (
        "blank letters",
        "a\u{3164}b\u{115f}c\u{2800}d\u{ffa0}e\u{34f}",
    ),
    (
        "spaces of other widths",
        "a\u{a0}b\u{3000}c\u{2003}d\u{202f}e",
    ),
    ("marks on nothing", "\u{301}\u{5b8}a \u{e48}b"),
    (
        "a right-to-left end",
        "web \u{5d0}\u{5d1}) 203.0.113.9:443 (",
    ),
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
        "[1] ALLOWED  bank.example port 443/tcp, for this run",
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
