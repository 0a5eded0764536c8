// SPDX-License-Identifier: Apache-2.0
//! A check of output lines with `docs/schema/`: all required fields, and no unknown ones.
//!
//! The schema tells programs to ignore unknown fields. Here an unknown field is an error, because
//! it is not documented.

use std::collections::BTreeSet;
use std::sync::LazyLock;

use serde_json::{Value, json};

static LINES: LazyLock<Value> = LazyLock::new(|| {
    serde_json::from_str(include_str!("../../../../docs/schema/lines.json")).unwrap()
});
static ERROR: LazyLock<Value> = LazyLock::new(|| {
    serde_json::from_str(include_str!("../../../../docs/schema/error.json")).unwrap()
});

/// Parses the lines of an output, each checked with the schema.
pub(crate) fn lines(text: &str) -> Vec<Value> {
    assert!(text.is_empty() || text.ends_with('\n'), "{text}");
    text.lines().map(line).collect()
}

/// Parses a line, and checks it with the schema.
pub(crate) fn line(text: &str) -> Value {
    let line: Value = serde_json::from_str(text).unwrap();
    if let Err(error) = holds(&LINES, &LINES, &line) {
        panic!("docs/schema/lines.json: {error}: {line}");
    }
    line
}

/// Parses an error, and checks it with its schema.
pub(crate) fn error(text: &str) -> Value {
    let line: Value = serde_json::from_str(text).unwrap();
    if let Err(error) = holds(&ERROR, &ERROR, &line) {
        panic!("docs/schema/error.json: {error}: {line}");
    }
    line
}

/// Returns the kinds of lines in the schema.
pub(crate) fn kinds() -> BTreeSet<String> {
    let schema = &*LINES;
    let texts = |value: &Value| value.as_str().unwrap().to_owned();
    let branches = schema["oneOf"].as_array().unwrap().iter();
    branches
        .flat_map(|branch| {
            let event = &resolve(schema, branch)["properties"]["event"];
            match event["enum"].as_array() {
                Some(several) => several.iter().map(texts).collect(),
                None => vec![texts(&event["const"])],
            }
        })
        .collect()
}

fn resolve<'a>(root: &'a Value, schema: &'a Value) -> &'a Value {
    let Some(path) = schema["$ref"].as_str() else {
        return schema;
    };
    let found = root.pointer(path.strip_prefix('#').unwrap());
    found.unwrap_or_else(|| panic!("the schema has no {path}"))
}

/// Checks a value. Only the keywords of JSON Schema 2020-12 in these two schemas are supported.
fn holds(root: &Value, schema: &Value, value: &Value) -> Result<(), String> {
    let schema = resolve(root, schema);
    let keywords = schema.as_object().unwrap().iter();
    let (kind, rest): (Vec<_>, Vec<_>) = keywords.partition(|(keyword, _)| *keyword == "type");
    for (keyword, rule) in kind.into_iter().chain(rest) {
        let ok = match keyword.as_str() {
            "$schema" | "$defs" | "title" | "description" => true,
            "type" => match rule.as_str().unwrap() {
                "object" => value.is_object(),
                "array" => value.is_array(),
                "string" => value.is_string(),
                "boolean" => value.is_boolean(),
                "integer" => value.is_i64() || value.is_u64(),
                other => panic!("the schema has the type {other}"),
            },
            "const" => value == rule,
            "enum" => rule.as_array().unwrap().contains(value),
            "minimum" => value.as_u64() >= rule.as_u64(),
            "maximum" => value.as_u64() <= rule.as_u64(),
            "required" => {
                let mut names = rule.as_array().unwrap().iter();
                names.all(|name| value.get(name.as_str().unwrap()).is_some())
            }
            "properties" => {
                for (name, field) in value.as_object().into_iter().flatten() {
                    let rule = rule
                        .get(name)
                        .ok_or_else(|| format!("unknown field {name}"))?;
                    holds(root, rule, field).map_err(|error| format!("{name}: {error}"))?;
                }
                true
            }
            "additionalProperties" => {
                for field in value.as_object().unwrap().values() {
                    holds(root, rule, field)?;
                }
                true
            }
            "items" => {
                for item in value.as_array().unwrap() {
                    holds(root, rule, item)?;
                }
                true
            }
            "oneOf" => {
                let branches = rule.as_array().unwrap().iter();
                let (fit, unfit): (Vec<_>, Vec<_>) = branches
                    .map(|branch| {
                        // The kind of line selects the branch whose errors are reported.
                        let kind = &resolve(root, branch)["properties"]["event"];
                        holds(root, kind, &value["event"])?;
                        Ok(holds(root, branch, value))
                    })
                    .filter_map(|branch: Result<_, String>| branch.ok())
                    .partition(Result::is_ok);
                if let [Err(error)] = unfit.as_slice() {
                    return Err(error.clone());
                }
                fit.len() == 1
            }
            other => panic!("the schema uses {other}, which is not checked"),
        };
        if !ok {
            return Err(format!("{keyword} does not hold"));
        }
    }
    Ok(())
}

#[test]
fn the_check_reports_errors() {
    let check = |line: Value, expected: Result<(), &str>| {
        let found = holds(&LINES, &LINES, &line);
        assert_eq!(found, expected.map_err(str::to_owned), "{line}");
    };
    check(json!({"event": "list", "rows": 1}), Ok(()));
    check(json!({"event": "list"}), Err("required does not hold"));
    check(
        json!({"event": "list", "rows": 1, "more": 2}),
        Err("unknown field more"),
    );
    check(
        json!({"event": "list", "rows": "1"}),
        Err("rows: type does not hold"),
    );
    check(
        json!({"event": "list", "rows": -1}),
        Err("rows: minimum does not hold"),
    );
    check(json!({"event": "else"}), Err("oneOf does not hold"));
    check(json!({}), Err("oneOf does not hold"));
    check(
        json!({"event": "sent", "row": 1, "action": "dismiss"}),
        Err("action: enum does not hold"),
    );
}
