// SPDX-License-Identifier: Apache-2.0
//! The name of a task in the YAML file of releases up to 0.6.6, read as `PyYAML` reads it.
//!
//! The parser reports events, so that no alias is ever expanded. The types of plain scalars are
//! those of YAML 1.1: the orchestrator writes with `PyYAML`, which quotes by these rules.

use std::collections::HashMap;
use std::rc::Rc;

use saphyr_parser::{Event, Parser, ScalarStyle, Tag};

/// Maximum depth of nested lists and mappings.
const MAX_DEPTH: usize = 64;

/// Returns the text at the key `name` of the document's mapping; `None` without such a text, or if
/// `PyYAML` would refuse the document.
pub(super) fn parse_name(text: &str) -> Option<String> {
    if !text.chars().all(is_printable) {
        return None;
    }
    let mut reader = NameReader::default();
    for event in Parser::new_from_str(text.strip_prefix('\u{feff}').unwrap_or(text)) {
        reader.read(event.ok()?.0)?;
    }
    match &*reader.document? {
        YamlNode::Map(Some(name)) => match &**name {
            YamlNode::Text(name) => Some(name.clone()),
            _ => None,
        },
        _ => None,
    }
}

/// Returns `true` for the characters that YAML 1.1 allows in a document.
const fn is_printable(c: char) -> bool {
    matches!(
        c,
        '\t' | '\n' | '\r' | ' '..='~' | '\u{85}' | '\u{a0}'..='\u{fffd}' | '\u{10000}'..
    )
}

/// A node, as far as the name depends on it.
#[derive(Debug)]
enum YamlNode {
    Text(String),
    /// A number, a truth value, a date, …
    OtherScalar,
    List(Vec<Rc<Self>>),
    /// A mapping, with the value at its key `name`.
    Map(Option<Rc<Self>>),
    /// A mapping of a type that is no dictionary, or a node that contains itself.
    Opaque,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum MapKey {
    Name,
    /// `<<`, whose value has further entries.
    Merge,
    Other,
}

/// A list or mapping that is being read.
#[derive(Debug)]
struct OpenNode {
    anchor: usize,
    content: OpenContent,
}

#[derive(Debug)]
enum OpenContent {
    List(Vec<Rc<YamlNode>>),
    Map {
        name: Option<Rc<YamlNode>>,
        merged: Option<Rc<YamlNode>>,
        key: Option<MapKey>,
        is_dictionary: bool,
    },
}

#[derive(Debug, Default)]
struct NameReader {
    document: Option<Rc<YamlNode>>,
    open: Vec<OpenNode>,
    anchors: HashMap<usize, Rc<YamlNode>>,
}

impl NameReader {
    /// Reads the next event; `None` if the document is refused.
    fn read(&mut self, event: Event<'_>) -> Option<()> {
        match event {
            Event::Alias(anchor) => {
                let node = self.anchors.get(&anchor).cloned();
                self.add(node.unwrap_or_else(|| Rc::new(YamlNode::Opaque)), None)
            }
            Event::Scalar(text, style, anchor, tag) => {
                let scalar = ScalarType::of(&text, style, tag.as_deref())?;
                let key = match scalar {
                    ScalarType::Merge => MapKey::Merge,
                    ScalarType::Text if text == "name" => MapKey::Name,
                    ScalarType::Text | ScalarType::Value | ScalarType::Other => MapKey::Other,
                };
                let node = Rc::new(match scalar {
                    ScalarType::Text => YamlNode::Text(text.into_owned()),
                    ScalarType::Merge | ScalarType::Value if !self.expects_key() => return None,
                    ScalarType::Merge | ScalarType::Value | ScalarType::Other => {
                        YamlNode::OtherScalar
                    }
                });
                self.anchors.insert(anchor, Rc::clone(&node));
                self.add(node, Some(key))
            }
            Event::SequenceStart(anchor, tag) => {
                if !matches!(core_type(tag.as_deref())?, "" | "seq" | "omap" | "pairs") {
                    return None;
                }
                self.start(anchor, OpenContent::List(Vec::new()))
            }
            Event::MappingStart(anchor, tag) => {
                let kind = core_type(tag.as_deref())?;
                if !matches!(kind, "" | "map" | "set") {
                    return None;
                }
                self.start(
                    anchor,
                    OpenContent::Map {
                        name: None,
                        merged: None,
                        key: None,
                        is_dictionary: kind != "set",
                    },
                )
            }
            Event::SequenceEnd | Event::MappingEnd => {
                let ended = self.open.pop()?;
                let node = Rc::new(match ended.content {
                    OpenContent::List(items) => YamlNode::List(items),
                    OpenContent::Map {
                        name,
                        merged,
                        is_dictionary: true,
                        ..
                    } => YamlNode::Map(name.or(merged)),
                    OpenContent::Map { .. } => YamlNode::Opaque,
                });
                self.anchors.insert(ended.anchor, Rc::clone(&node));
                self.add(node, None)
            }
            Event::Nothing
            | Event::StreamStart
            | Event::StreamEnd
            | Event::DocumentStart(_)
            | Event::DocumentEnd => Some(()),
        }
    }

    fn start(&mut self, anchor: usize, content: OpenContent) -> Option<()> {
        self.open.push(OpenNode { anchor, content });
        (self.open.len() <= MAX_DEPTH).then_some(())
    }

    /// Returns `true` if the next node is the key of a mapping.
    fn expects_key(&self) -> bool {
        matches!(
            self.open.last().map(|node| &node.content),
            Some(OpenContent::Map { key: None, .. })
        )
    }

    /// Adds a complete node to the node that contains it; `key` is its meaning as a key.
    fn add(&mut self, node: Rc<YamlNode>, key: Option<MapKey>) -> Option<()> {
        let Some(parent) = self.open.last_mut() else {
            // A second document is an error.
            return self.document.replace(node).is_none().then_some(());
        };
        match &mut parent.content {
            OpenContent::List(items) => items.push(node),
            OpenContent::Map {
                name,
                merged,
                key: open_key,
                ..
            } => match open_key.take() {
                None => *open_key = Some(key.or_else(|| key_of(&node))?),
                Some(MapKey::Name) => *name = Some(node),
                Some(MapKey::Merge) => {
                    if let Some(found) = merged_name(&node).ok()? {
                        *merged = Some(found);
                    }
                }
                Some(MapKey::Other) => {}
            },
        }
        Some(())
    }
}

/// Returns the meaning of an alias as a key; `None` for a node that cannot be a key.
fn key_of(node: &YamlNode) -> Option<MapKey> {
    match node {
        YamlNode::Text(text) if text == "name" => Some(MapKey::Name),
        YamlNode::Text(_) | YamlNode::OtherScalar => Some(MapKey::Other),
        YamlNode::List(_) | YamlNode::Map(_) | YamlNode::Opaque => None,
    }
}

/// A value that `<<` cannot have.
struct InvalidMerge;

/// Returns the name that `<<` with this value adds; an error for a value that `<<` cannot have.
///
/// Of a list, the first mapping with a name counts.
fn merged_name(node: &YamlNode) -> Result<Option<Rc<YamlNode>>, InvalidMerge> {
    match node {
        YamlNode::Map(name) => Ok(name.clone()),
        YamlNode::List(items) => {
            let mut found = None;
            for item in items {
                let YamlNode::Map(name) = &**item else {
                    return Err(InvalidMerge);
                };
                found = found.or_else(|| name.clone());
            }
            Ok(found)
        }
        _ => Err(InvalidMerge),
    }
}

/// Returns the name of a type of YAML itself, empty without a tag; `None` for any other tag.
fn core_type(tag: Option<&Tag>) -> Option<&str> {
    match tag {
        None => Some(""),
        Some(tag) if tag.is_yaml_core_schema() => Some(&tag.suffix),
        Some(_) => None,
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ScalarType {
    Text,
    /// `<<`
    Merge,
    /// `=`
    Value,
    Other,
}

impl ScalarType {
    /// Returns the type of a scalar; `None` for a tag that `PyYAML` refuses.
    fn of(text: &str, style: ScalarStyle, tag: Option<&Tag>) -> Option<Self> {
        // `!` alone: the type of a plain scalar, whatever the quotes.
        let is_bare = tag.is_some_and(|tag| format!("{}{}", tag.handle, tag.suffix) == "!");
        match if is_bare { "" } else { core_type(tag)? } {
            "" if !is_bare && style != ScalarStyle::Plain => Some(Self::Text),
            "" => Some(match text {
                "<<" => Self::Merge,
                "=" => Self::Value,
                text if is_plain_text(text) => Self::Text,
                _ => Self::Other,
            }),
            "str" => Some(Self::Text),
            "null" | "bool" | "int" | "float" | "binary" | "timestamp" => Some(Self::Other),
            _ => None,
        }
    }
}

/// Returns `true` for a plain scalar that is a text by YAML 1.1, not another type.
fn is_plain_text(text: &str) -> bool {
    let is_word = matches!(
        text,
        "" | "~"
            | "null"
            | "Null"
            | "NULL"
            | "yes"
            | "Yes"
            | "YES"
            | "no"
            | "No"
            | "NO"
            | "true"
            | "True"
            | "TRUE"
            | "false"
            | "False"
            | "FALSE"
            | "on"
            | "On"
            | "ON"
            | "off"
            | "Off"
            | "OFF"
            | ".nan"
            | ".NaN"
            | ".NAN"
    );
    !(is_word || is_integer(text) || is_float(text) || is_date(text) || is_date_time(text))
}

fn without_sign(text: &str) -> &str {
    text.strip_prefix(['-', '+']).unwrap_or(text)
}

/// Returns `true` for a digit, then digits and `_`.
fn is_decimal(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_digit()) && is_digits(text)
}

fn is_digits(text: &str) -> bool {
    text.bytes()
        .all(|byte| byte.is_ascii_digit() || byte == b'_')
}

/// Returns `true` for one or more groups of up to two digits below 60: `30:59`.
fn is_sexagesimal(text: &str) -> bool {
    text.split(':').all(|part| match part.as_bytes() {
        [ones] => ones.is_ascii_digit(),
        [tens, ones] => matches!(tens, b'0'..=b'5') && ones.is_ascii_digit(),
        _ => false,
    })
}

fn is_integer(text: &str) -> bool {
    let text = without_sign(text);
    let of = |prefix: &str, digit: fn(u8) -> bool| {
        text.strip_prefix(prefix)
            .is_some_and(|rest| !rest.is_empty() && rest.bytes().all(|b| digit(b) || b == b'_'))
    };
    let is_one = |b: u8| matches!(b, b'0' | b'1');
    let is_octal = |b: u8| matches!(b, b'0'..=b'7');
    let starts_high = !text.starts_with('0') && is_decimal(text.split(':').next().unwrap_or(""));
    let base_60 = text
        .split_once(':')
        .is_some_and(|(_, rest)| is_sexagesimal(rest));
    text == "0"
        || of("0b", is_one)
        || of("0x", |b| b.is_ascii_hexdigit())
        || of("0", is_octal)
        || (starts_high && (!text.contains(':') || base_60))
}

fn is_float(text: &str) -> bool {
    let unsigned = without_sign(text);
    if matches!(unsigned, ".inf" | ".Inf" | ".INF") {
        return true;
    }
    let (number, exponent) = match unsigned.find(['e', 'E']) {
        Some(at) => unsigned.split_at(at),
        None => (unsigned, ""),
    };
    let exponent = exponent.get(1..).unwrap_or_default();
    let has_exponent = unsigned.len() > number.len();
    let digits = exponent.strip_prefix(['-', '+']);
    let exponent_fits = !has_exponent
        || digits.is_some_and(|d| !d.is_empty() && d.bytes().all(|b| b.is_ascii_digit()));
    let Some((whole, fraction)) = number.split_once('.') else {
        return false;
    };
    let base_60 = whole
        .split_once(':')
        .is_some_and(|(first, rest)| is_decimal(first) && is_sexagesimal(rest) && !has_exponent);
    let fits = match whole {
        "" => is_decimal(fraction) && unsigned == text,
        whole => is_digits(fraction) && (is_decimal(whole) || base_60),
    };
    fits && exponent_fits
}

/// Takes between `least` and `most` digits from the start of `text`.
fn take_digits(text: &str, least: usize, most: usize) -> Option<&str> {
    let count = text
        .bytes()
        .take(most)
        .take_while(u8::is_ascii_digit)
        .count();
    text.get(count..).filter(|_| count >= least)
}

fn is_date(text: &str) -> bool {
    let parts = || {
        let rest = take_digits(text, 4, 4)?.strip_prefix('-')?;
        let rest = take_digits(rest, 2, 2)?.strip_prefix('-')?;
        take_digits(rest, 2, 2)
    };
    parts() == Some("")
}

fn is_date_time(text: &str) -> bool {
    let blank = |c: char| matches!(c, ' ' | '\t');
    let parts = || {
        let rest = take_digits(text, 4, 4)?.strip_prefix('-')?;
        let rest = take_digits(rest, 1, 2)?.strip_prefix('-')?;
        let rest = take_digits(rest, 1, 2)?;
        let rest = match rest.strip_prefix(['T', 't']) {
            Some(rest) => rest,
            None => Some(rest.trim_start_matches(blank)).filter(|after| *after != rest)?,
        };
        let rest = take_digits(rest, 1, 2)?.strip_prefix(':')?;
        let rest = take_digits(rest, 2, 2)?.strip_prefix(':')?;
        let rest = take_digits(rest, 2, 2)?;
        let rest = match rest.strip_prefix('.') {
            Some(fraction) => fraction.trim_start_matches(|c: char| c.is_ascii_digit()),
            None => rest,
        };
        let zone = rest.trim_start_matches(blank);
        if rest.is_empty() || zone == "Z" {
            return Some(());
        }
        let hours = take_digits(zone.strip_prefix(['-', '+'])?, 1, 2)?;
        match hours.strip_prefix(':') {
            None => hours.is_empty().then_some(()),
            Some(minutes) => take_digits(minutes, 2, 2)?.is_empty().then_some(()),
        }
    };
    parts().is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: Option<&str>) {
        assert_eq!(parse_name(text).as_deref(), expected, "{text:?}");
    }

    // `interop task_meta` compares all of it and more with `PyYAML`.
    #[test]
    fn a_name_has_quotes_escapes_comments_and_lines() {
        check("task: 7\nname: fix the parser\n", Some("fix the parser"));
        check("name: \"fix: it\"  # why\n", Some("fix: it"));
        check("name: 'it''s'\n", Some("it's"));
        check("name: plain # said\n", Some("plain"));
        check("name: a#b\n", Some("a#b"));
        check(
            "# first\nname: \"a\\nb \\u00e9\\x41 \\\"q\\\"\"\n",
            Some("a\nb \u{e9}A \"q\""),
        );
        check("name: |\n  two\n  lines\n", Some("two\nlines\n"));
        check("name: >-\n  one\n  line\n", Some("one line"));
        check("\"name\": x\n", Some("x"));
        check("{name: x, task: y}", Some("x"));
        check("a: &a x\nname: *a\n", Some("x"));
        check("a: &a {name: x}\n<<: *a\n", Some("x"));
        check("name: x\nname: y\n", Some("y"));
        check("name: !!str 5\n", Some("5"));
        check("name: ! x\n", Some("x"));
        check("name: ''\n", Some(""));
    }

    #[test]
    fn what_is_no_text_is_no_name() {
        for value in [
            "",
            "~",
            "null",
            "yes",
            "Off",
            "7",
            "-7",
            "0x1f",
            "017",
            "1_000",
            "1:30",
            "1.5",
            "1.",
            ".5",
            "1e3x: y",
            "1.0e+3",
            ".inf",
            "2024-01-01",
            "2024-1-1 1:02:03",
            "[a, b]",
            "{a: b}",
            "!!int 5",
            "! 5",
            "! '5'",
            "!!binary aGk=",
            "!thing x",
            "=",
            "<<",
        ] {
            check(&format!("name: {value}\n"), None);
        }
        for text in [
            "y", "n", "08", "1e3", "1.0e3", "0x", "2024-1-1", "1:75", "1:2:3a", "nULL",
        ] {
            check(&format!("name: {text}\n"), Some(text));
        }
    }

    #[test]
    fn a_document_that_is_malformed_or_hostile_has_no_name() {
        check("", None);
        check("meta:\n  name: inner\n", None);
        check("- name: x\n", None);
        check("name: x\n---\nname: y\n", None);
        check("name: x\nbad: [1\n", None);
        check("name: x\nbad: !!python/object:os.system y\n", None);
        check("name: \"\u{1b}\"\n", None);
        check("name: x\n? [a]\n: b\n", None);
        check(&format!("name: x\na: {}\n", "[".repeat(30_000)), None);
        let nested = format!("name: x\na: {}{}\n", "[".repeat(3000), "]".repeat(3000));
        check(&nested, None);
        let mut laughs = String::from("a0: &a0 {name: x}\n");
        for n in 1..40 {
            let before = n - 1;
            let line = format!("a{n}: &a{n} {{<<: [*a{before}, *a{before}]}}\n");
            laughs.push_str(&line);
        }
        check(&format!("{laughs}<<: *a39\n"), Some("x"));
    }

    proptest::proptest! {
        #[test]
        fn arbitrary_documents_do_not_panic(text in "[a\\[\\]{}:,&*!|>'\"%@`#?<\\- \\n\\t0-9nam]{0,60}") {
            drop(parse_name(&text));
        }
    }
}
