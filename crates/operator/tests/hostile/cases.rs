// SPDX-License-Identifier: Apache-2.0
//! Text that a sandbox may choose to mislead whoever reads it: one table for every UI.
//!
//! Include it with `#[path]`. A UI passes when nothing of it reaches its output but printable
//! ASCII, and nothing around it is moved, hidden or coloured by it.

/// What it tries, and the text.
pub(crate) const CASES: &[(&str, &str)] = &[
    ("colours", "\u{1b}[31mred\u{1b}[0m"),
    ("a cleared screen", "a\u{1b}[2J\u{1b}[Hallowed"),
    ("a window's title", "\u{1b}]0;owned\u{7}"),
    (
        "a link",
        "\u{1b}]8;;https://evil.example\u{1b}\\click\u{1b}]8;;\u{1b}\\",
    ),
    ("a paste into the clipboard", "\u{1b}]52;c;ZXZpbA==\u{7}"),
    ("an answerback", "\u{1b}[6n\u{1b}[c\u{5}"),
    ("a sequence in one byte", "\u{9b}31mred\u{9d}0;t\u{9c}"),
    ("a device control string", "\u{1b}P$q\"p\u{1b}\\"),
    ("backspaces", "deny\u{8}\u{8}\u{8}\u{8}allow"),
    ("a carriage return", "evil.example\rgood.example"),
    ("newlines", "one\n[9] BLOCKED  bank.example\nthree\r\n"),
    ("other line ends", "a\u{85}b\u{2028}c\u{2029}d\u{b}e\u{c}f"),
    ("a tab", "a\tb"),
    ("a NUL", "a\0b"),
    ("a bidi override", "\u{202e}elpmaxe.live\u{202c}"),
    ("bidi isolates", "\u{2066}a\u{2067}b\u{2068}c\u{2069}"),
    ("marks of direction", "a\u{200e}b\u{200f}c\u{61c}"),
    (
        "nothing to see",
        "a\u{200b}b\u{200c}c\u{200d}d\u{2060}e\u{feff}",
    ),
    ("a soft hyphen", "exa\u{ad}mple"),
    ("a wide character", "\u{6f22}\u{5b57}.example"),
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
    ("markup", "<b>bold</b> <a href=\"x\">&amp; &#x202e; ]]></a>"),
    ("markdown", "[x](javascript:alert) `code` **b**"),
    ("a shell's words", "$(reboot) `reboot` ; reboot | cat && x"),
    ("a format", "%s%n %{x} {0} {{}}"),
    ("a percent escape", "%1b%5b2J%0a"),
    ("a DEL", "a\u{7f}b"),
    ("spaces alone", "            "),
    ("nothing", ""),
    (
        "a prompt's words",
        "[1] ALLOWED  tcp port 443 of bank.example",
    ),
];

/// Returns a text of 10 kB that has everything in it.
pub(crate) fn long() -> String {
    let all: String = CASES.iter().map(|(_, text)| *text).collect();
    all.chars().cycle().take(10_000).collect()
}

/// Returns every case, the long one among them.
pub(crate) fn all() -> Vec<(&'static str, String)> {
    let mut all: Vec<_> = CASES
        .iter()
        .map(|(name, text)| (*name, (*text).to_owned()))
        .collect();
    all.push(("ten kilobytes", long()));
    all.push(("ten kilobytes of one word", "x".repeat(10_000)));
    all
}

/// Returns the event of a question, as a hub of `org.terok.Clearance2` would send it, with `text`
/// wherever a sandbox or its files may choose one.
pub(crate) fn pending(number: usize, text: &str) -> String {
    let question = serde_json::json!({
        "id": format!("web:{number}"), "container": "web",
        "dest": format!("host{number}.example"), "address": "203.0.113.7",
        "port": 443, "protocol": "tcp", "domain": format!("host{number}.example"),
        "scope": {
            "dest": format!("host{number}.example"), "port": 443, "protocol": "tcp",
            "keep": "sandbox",
        },
        "process": {"pid": 1, "uid": 1000, "name": text, "command": [text, text]},
        "dossier": {"project": text, "task": text, "name": text, "container_name": text, text: text},
        "first_seen": 1, "last_seen": 1, "count": 1,
    });
    question.to_string()
}

/// Returns the question of a `Clearance2` hub whose very destination is `text`; a client refuses it
/// or makes it harmless.
pub(crate) fn about(number: usize, text: &str) -> String {
    let question = serde_json::json!({
        "id": format!("web:{number}"), "container": "web", "dest": text, "address": "203.0.113.7",
        "port": 443, "protocol": "tcp", "domain": text,
        "scope": {"dest": text, "port": 443, "protocol": "tcp", "keep": "sandbox"},
        "first_seen": 1, "last_seen": 1, "count": 1,
    });
    question.to_string()
}
