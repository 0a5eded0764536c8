// SPDX-License-Identifier: Apache-2.0
//! A fast parser for the lines that readers usually write; decision 0016 has the reason.

use std::borrow::Cow;

use super::line_fields::{FieldValue, LineFields};

/// Parses a line in the usual format, several times as fast as `serde_json`.
///
/// The format: texts without escapes, whole numbers, optional spaces, and `dossier`, the JSON of
/// the previous line's dossier. Returns `None` for every other line, valid or not; `serde_json`
/// then parses the line. The result equals that of `serde_json`, which debug builds assert for
/// every line.
pub(super) fn parse_fast<'a>(text: &'a str, dossier: &str) -> Option<LineFields<'a>> {
    // Counts over the whole line, because the compiler vectorises this loop.
    let odd = |byte: &&u8| **byte < 0x20 || **byte == b'\\';
    if text.as_bytes().iter().filter(odd).count() > 0 {
        return None;
    }
    let mut fields = LineFields::default();
    let mut rest = text.strip_prefix('{')?;
    loop {
        let (key, after) = scan_string(rest.trim_start_matches(' ').strip_prefix('"')?)?;
        rest = after.trim_start_matches(' ').strip_prefix(':')?;
        rest = rest.trim_start_matches(' ');
        if key == "dossier" {
            rest = rest.strip_prefix(dossier).filter(|_| !dossier.is_empty())?;
            let length = dossier.len();
            let whole = text.len().checked_sub(rest.len())?;
            fields.dossier = text.get(whole.checked_sub(length)?..whole);
        } else {
            let (value, after) = match rest.strip_prefix('"') {
                Some(quoted) => {
                    let (value, after) = scan_string(quoted)?;
                    (FieldValue::Text(Cow::Borrowed(value)), after)
                }
                None => scan_number(rest)?,
            };
            rest = after;
            match key {
                "type" => fields.kind = value,
                "container" => fields.container = value,
                "id" => fields.id = value,
                "dest" => fields.dest = value,
                "port" => fields.port = value,
                "proto" => fields.proto = value,
                "domain" => fields.domain = value,
                "reason" => fields.reason = value,
                _ => {}
            }
        }
        rest = rest.trim_start_matches(' ');
        match rest.strip_prefix(',') {
            Some(next) => rest = next,
            None => return (rest == "}").then_some(fields),
        }
    }
}

/// Returns the text up to the next quote, and the rest after that quote.
fn scan_string(rest: &str) -> Option<(&str, &str)> {
    let end = memchr::memchr(b'"', rest.as_bytes())?;
    Some((rest.get(..end)?, rest.get(end.checked_add(1)?..)?))
}

/// Returns a whole number of few digits, and the rest after the number.
fn scan_number(rest: &str) -> Option<(FieldValue<'_>, &str)> {
    let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
    let number = rest.get(..digits).filter(|_| digits < 10)?;
    if number.len() > 1 && number.starts_with('0') {
        return None;
    }
    let rest = rest.get(digits..)?;
    let ends = matches!(rest.bytes().next()?, b',' | b'}' | b' ');
    ends.then_some((FieldValue::Unsigned(number.parse().ok()?), rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PENDING: &str =
        r#""type":"pending","container":"c","id":"c:1","dest":"192.0.2.1","port":443,"proto":6"#;

    #[test]
    fn the_fast_parser_accepts_the_usual_format() {
        let dossier = r#"{"task": "t"}"#;
        for line in [
            format!("{{{PENDING}}}"),
            format!(r#"{{{PENDING},"dossier":{dossier},"ts":1.5}}"#).replace("1.5", "\"x\""),
            format!(r#"{{ "type" : "pending" , "port": 0, "dossier": {dossier} }}"#),
        ] {
            let fields = parse_fast(&line, dossier).expect(&line);
            assert_eq!(fields, serde_json::from_str(&line).unwrap(), "for {line}");
        }
        for line in [
            "{}",
            "{\"a\":1",
            "{\"a\":1}}",
            "{\"a\":01}",
            "{\"a\":-1}",
            "{\"a\":1.0}",
            "{\"a\":1e3}",
            "{\"a\":}",
            "{\"a\":\"\t\"}",
            "{\"a\":\"\\\\\"}",
            "{\"a\":\"b\",}",
            "{\"a\" \"b\"}",
            "{\"a\":null}",
            "{\"dossier\":{}}",
            "{\"a\":1234567890}",
        ] {
            assert_eq!(parse_fast(line, dossier), None, "for {line}");
        }
    }

    proptest::proptest! {
        #[test]
        fn the_fast_parser_agrees_with_serde_json(
            fields in proptest::collection::vec(
                (
                    "(type|container|id|dest|port|proto|domain|reason|ts|x y)",
                    r#"("[a-z .:{}]{0,6}"|[0-9]{1,11}|-1|1\.5|null|\{"t": "\}"\}|"\\u0041")"#,
                ),
                0..8,
            ),
            spaces in "[ ]{0,2}",
            tail in "( |\\}|,|x)?",
        ) {
            let fields: Vec<_> = fields
                .iter()
                .map(|(key, value)| {
                    let key = if value.starts_with('{') { "dossier" } else { key };
                    format!("{spaces}\"{key}\"{spaces}:{spaces}{value}{spaces}")
                })
                .collect();
            let line = format!("{{{}}}{tail}", fields.join(","));
            if let Some(fields) = parse_fast(&line, r#"{"t": "}"}"#) {
                proptest::prop_assert_eq!(serde_json::from_str(&line).ok(), Some(fields));
            }
        }
    }
}
