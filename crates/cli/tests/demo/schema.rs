// SPDX-License-Identifier: Apache-2.0
//! The JSON output matches `docs/demo.md`.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use crate::demo::{Demo, User};

const DOCUMENT: &str = include_str!("../../../../docs/demo.md");

/// The fields of each step; the flag is `true` for fields that may be null.
type Schema = BTreeMap<String, BTreeMap<String, bool>>;

fn documented() -> Schema {
    let table = DOCUMENT.split("| `step` | fields |").nth(1).unwrap();
    let rows = table
        .lines()
        .skip(2)
        .take_while(|line| line.starts_with('|'));
    let mut schema = Schema::new();
    let mut step = String::new();
    for row in rows {
        let mut cells = row.trim_matches('|').split('|').map(str::trim);
        // A row without a step continues the previous row.
        match cells.next().unwrap().trim_matches('`') {
            "" => assert!(!step.is_empty(), "{row} continues nothing"),
            name => {
                name.clone_into(&mut step);
                let known = schema.insert(step.clone(), BTreeMap::new());
                assert!(known.is_none(), "{name} stands there twice");
            }
        }
        let fields = cells.next().unwrap().split(',').map(str::trim);
        for field in fields.filter(|field| !field.is_empty()) {
            let optional = field.ends_with('?');
            let name = field.trim_end_matches('?').trim_matches('`');
            let known = schema.get_mut(&step).unwrap();
            assert!(known.insert(name.to_owned(), optional).is_none(), "{row}");
        }
    }
    schema
}

#[test]
fn every_step_has_the_documented_fields_and_no_others() {
    let schema = documented();
    assert_eq!(schema.len(), 17, "{schema:#?}");
    let demo = Demo::new();
    let answers = ["--json", "demo", "--answer", "ask"];
    let run = demo.run(User::Me, &answers, "a\nd\na\nd\n");
    let mut met = BTreeSet::new();
    for step in &run.steps {
        let name = step["step"].as_str().unwrap();
        let fields = &schema[name];
        let object = step.as_object().unwrap();
        for (field, optional) in fields {
            let value = object.get(field);
            let value = value.unwrap_or_else(|| panic!("{name} has no {field}: {step}"));
            assert!(
                *optional || *value != Value::Null,
                "{name}.{field} is null: {step}"
            );
        }
        for field in object.keys().filter(|field| *field != "step") {
            assert!(
                fields.contains_key(field),
                "{name}.{field} is not documented"
            );
            let is_number = field.ends_with("_us") || matches!(field.as_str(), "at" | "fetch");
            assert!(
                !is_number || step[field].is_u64() || step[field].is_null(),
                "{step}"
            );
        }
        met.insert(name);
    }
    let never = schema.keys().filter(|name| !met.contains(name.as_str()));
    let never: Vec<_> = never.collect();
    assert_eq!(never, ["skipped"], "steps that did not happen");
}

#[test]
fn the_steps_come_in_order() {
    let demo = Demo::new();
    let run = demo.run(User::Me, &["demo", "--json", "--answer", "allow"], "");
    let steps = run.steps.iter().map(|step| step["step"].as_str().unwrap());
    let steps: Vec<_> = steps.collect();
    let set_up = ["sandbox", "internet", "firewall", "program"];
    assert_eq!(steps[..4], set_up);
    let fetch = [
        "fetch",
        "packet",
        "event",
        "question",
        "answer",
        "rule",
        "connected",
        "passed",
    ];
    assert_eq!(steps[4..12], fetch);
    let at = |step: &str| run.step(step)["at"].as_u64().unwrap();
    let to_event = run.step("event")["packet_to_event_us"].as_u64().unwrap();
    assert_eq!(at("event") - at("packet"), to_event, "one clock for both");
}
