// SPDX-License-Identifier: Apache-2.0
//! The lines follow `docs/schema/record.json`: all required fields, and no unknown ones.

use std::collections::BTreeSet;
use std::sync::LazyLock;

use proptest::prelude::*;
use serde_json::Value;
use terok_clearance_record::*;

use crate::entries::any_entry;

static SCHEMA: LazyLock<Value> = LazyLock::new(|| {
    serde_json::from_str(include_str!("../../../../docs/schema/record.json")).unwrap()
});

fn definition(name: &str) -> &'static Value {
    let found = &SCHEMA["$defs"][name];
    assert!(found.is_object(), "the schema has no {name}");
    found
}

/// Checks a value with a definition: its type, its words, and the fields of an object.
fn check(schema: &Value, value: &Value) {
    if let Some(path) = schema["$ref"].as_str() {
        return check(definition(path.strip_prefix("#/$defs/").unwrap()), value);
    }
    let is_of_type = match schema["type"].as_str() {
        Some("string") => value.is_string(),
        Some("integer") => value.is_i64() || value.is_u64(),
        Some("boolean") => value.is_boolean(),
        Some("array") => value.as_array().unwrap().iter().all(Value::is_string),
        Some("object") => value.is_object(),
        _ => schema["const"] == *value,
    };
    assert!(is_of_type, "{value} is not of {schema}");
    if let Some(words) = schema["enum"].as_array() {
        assert!(words.contains(value), "{value} is not of {schema}");
    }
    let Some(fields) = schema["properties"].as_object() else {
        return;
    };
    for name in schema["required"].as_array().into_iter().flatten() {
        assert!(
            value.get(name.as_str().unwrap()).is_some(),
            "{value} has no {name}"
        );
    }
    for (name, value) in value.as_object().unwrap() {
        let schema = fields.get(name);
        check(
            schema.unwrap_or_else(|| panic!("{name} is not documented")),
            value,
        );
    }
}

#[test]
fn every_kind_is_documented() {
    let kinds = SCHEMA["$defs"].as_object().unwrap().values();
    let kinds: BTreeSet<_> = kinds
        .filter_map(|schema| schema["properties"]["kind"]["const"].as_str())
        .collect();
    assert_eq!(kinds, KNOWN_KINDS.iter().copied().collect());
}

proptest! {
    #[test]
    fn the_lines_are_as_documented(entry in any_entry()) {
        let line = encode_line(&entry, 1, ChainHash::START);
        let line: Value = serde_json::from_slice(&line).unwrap();
        check(definition(entry.event.kind()), &line);
    }
}
