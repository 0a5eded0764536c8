// SPDX-License-Identifier: Apache-2.0
//! Compares the messages of a step with the recorded ones, field by field.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::iter::Peekable;
use std::str::SplitWhitespace;

use serde_json::Value;

use crate::harness::{CLOSED, StepResult};
use crate::recording::{Line, Step};

/// A field or message that differs from the recording.
#[derive(Debug)]
pub(crate) struct Difference {
    /// The step's name.
    pub(crate) step: String,
    /// The connection.
    pub(crate) on: String,
    /// The field as a JSON pointer; `message` for a missing or additional message.
    pub(crate) at: String,
    /// The recorded value as JSON; empty if there is none.
    pub(crate) theirs: String,
    /// Our value as JSON; empty if there is none.
    pub(crate) ours: String,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            step,
            on,
            at,
            theirs,
            ours,
        } = self;
        write!(f, "[{step}] {on} {at}: {theirs} -> {ours}")
    }
}

/// Returns every difference between a recorded step and ours.
pub(crate) fn compare(step: &Step, StepResult(ours): StepResult) -> Vec<Difference> {
    let mut theirs: BTreeMap<String, Vec<Value>> = BTreeMap::new();
    for line in &step.lines {
        let (name, message) = match line {
            Line::Out { name, message } if name == "helper" => {
                (name, serde_json::json!({"out": message}))
            }
            Line::In { name, bytes } if name == "helper" => {
                let message: Value = serde_json::from_slice(bytes).unwrap();
                (name, serde_json::json!({"in": message}))
            }
            Line::Out { name, message } => (name, message.clone()),
            Line::Closed(name) => (name, CLOSED.into()),
            Line::Shield(words) => (&"shield".to_owned(), words.clone().into()),
            _ => continue,
        };
        theirs.entry(name.clone()).or_default().push(message);
    }
    let mut found = Vec::new();
    let names: BTreeSet<_> = theirs.keys().chain(ours.keys()).collect();
    for name in names {
        let list = |from: &BTreeMap<String, Vec<Value>>| -> Vec<Value> {
            let messages = from.get(name).into_iter().flatten();
            messages.cloned().map(with_members).collect()
        };
        let mut differences = Vec::new();
        let (theirs, ours) = (list(&theirs), list(&ours));
        messages(&theirs, &ours, &mut differences);
        found.extend(
            differences
                .into_iter()
                .map(|(at, theirs, ours)| Difference {
                    step: step.name.clone(),
                    on: name.clone(),
                    at,
                    theirs: theirs.map(ToString::to_string).unwrap_or_default(),
                    ours: ours.map(ToString::to_string).unwrap_or_default(),
                }),
        );
    }
    found
}

/// The field, the recorded value and our value.
type Found<'a> = (String, Option<&'a Value>, Option<&'a Value>);

/// Compares messages one by one. If their numbers differ, reports those that are not in both lists.
fn messages<'a>(theirs: &'a [Value], ours: &'a [Value], found: &mut Vec<Found<'a>>) {
    if theirs.len() == ours.len() {
        for (theirs, ours) in theirs.iter().zip(ours) {
            fields("", Some(theirs), Some(ours), found);
        }
        return;
    }
    let (mut theirs, mut ours) = (theirs, ours);
    loop {
        match (theirs, ours) {
            ([], []) => return,
            ([first, rest @ ..], [other, others @ ..]) if first == other => {
                (theirs, ours) = (rest, others);
            }
            ([first, rest @ ..], _) if !ours.contains(first) => {
                found.push(("message".to_owned(), Some(first), None));
                theirs = rest;
            }
            (_, [other, others @ ..]) => {
                found.push(("message".to_owned(), None, Some(other)));
                ours = others;
            }
            ([first, rest @ ..], []) => {
                found.push(("message".to_owned(), Some(first), None));
                theirs = rest;
            }
        }
    }
}

fn fields<'a>(
    at: &str,
    theirs: Option<&'a Value>,
    ours: Option<&'a Value>,
    found: &mut Vec<Found<'a>>,
) {
    match (theirs, ours) {
        (Some(Value::Object(theirs)), Some(Value::Object(ours))) => {
            let keys: BTreeSet<_> = theirs.keys().chain(ours.keys()).collect();
            for key in keys {
                fields(
                    &format!("{at}/{key}"),
                    theirs.get(key),
                    ours.get(key),
                    found,
                );
            }
        }
        (theirs, ours) if theirs == ours => {}
        _ => found.push((at.to_owned(), theirs, ours)),
    }
}

/// Returns a message with the description of an interface replaced by its members: comments,
/// blanks and order do not matter.
fn with_members(mut message: Value) -> Value {
    if let Some(description) = message.pointer_mut("/parameters/description")
        && let Some(text) = description.as_str()
    {
        *description = members(text);
    }
    message
}

fn members(description: &str) -> Value {
    let mut members = serde_json::Map::new();
    let mut name = String::new();
    for line in description.lines() {
        let line = line.split('#').next().unwrap_or_default();
        let mut words = line.split_whitespace().peekable();
        if let Some(&kind @ ("interface" | "type" | "method" | "error")) = words.peek()
            && !line.starts_with(' ')
        {
            words.next();
            let rest: String = words.collect::<Vec<_>>().join(" ");
            let end = rest.find(['(', ' ']).unwrap_or(rest.len());
            name = format!("{kind} {}", &rest[..end]);
            members.insert(name.clone(), Value::String(String::new()));
            words = rest[end..].split_whitespace().peekable();
            append(&mut members, &name, words);
        } else {
            append(&mut members, &name, words);
        }
    }
    members.into()
}

fn append(
    members: &mut serde_json::Map<String, Value>,
    name: &str,
    words: Peekable<SplitWhitespace<'_>>,
) {
    for word in words {
        if let Some(Value::String(member)) = members.get_mut(name) {
            member.push_str(word);
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// `theirs` and `ours` are lists of messages.
    fn check(theirs: &Value, ours: &Value, expected: &[&str]) {
        let mut found = Vec::new();
        let list = |of: &Value| of.as_array().unwrap().clone();
        let (theirs, ours) = (list(theirs), list(ours));
        messages(&theirs, &ours, &mut found);
        let shown = |value: Option<&Value>| value.map(ToString::to_string).unwrap_or_default();
        let found: Vec<_> = found
            .into_iter()
            .map(|(at, theirs, ours)| format!("{at}: {} -> {}", shown(theirs), shown(ours)))
            .collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn every_field_and_every_message_counts() {
        let [a, b] = [json!({"x": {"y": 1, "z": 2}}), json!({"x": 3})];
        check(&json!([a, b]), &json!([a, b]), &[]);
        let other_key = json!([{"x": {"y": 1, "w": 2}}]);
        check(&json!([a]), &other_key, &["/x/w:  -> 2", "/x/z: 2 -> "]);
        let other_type = json!([{"x": {"y": true, "z": 2}}]);
        check(&json!([a]), &other_type, &["/x/y: 1 -> true"]);
        let lost = r#"message: {"x":{"y":1,"z":2}} -> "#;
        check(&json!([a, b]), &json!([b]), &[lost]);
        let more = r#"message:  -> {"x":3}"#;
        check(&json!([b]), &json!([b, b]), &[more]);
        check(&json!([]), &json!([b]), &[more]);
    }

    #[test]
    fn a_description_is_compared_by_its_members() {
        let one =
            "interface a.b\n# said\ntype T (\n  x: int,\n  y: string\n)\nmethod M(t: T) -> ()\n";
        let other = "interface a.b\nmethod M (t: T) -> ()\n\ntype T (x: int, y: string)";
        assert_eq!(members(one), members(other));
        assert_eq!(members(one)["type T"], "(x:int,y:string)");
        let third = other.replace("string", "object");
        assert_ne!(members(one), members(&third));
    }
}
