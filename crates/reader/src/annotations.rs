// SPDX-License-Identifier: Apache-2.0
//! A container's annotations and its orchestrator's file become the dossier of its questions.
//!
//! Pure: whoever calls reads the file. Both are the orchestrator's word, not the sandbox's.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};
use terok_clearance::{DisplayText, Dossier};

/// What the annotations of a container say about it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ContainerAnnotations {
    dossier: Dossier,
    meta_path: Option<PathBuf>,
}

/// Why a text gives no annotations.
#[derive(Debug, thiserror::Error)]
pub enum AnnotationsError {
    /// It is no JSON.
    #[error("the annotations are no JSON")]
    Json(#[source] serde_json::Error),
    /// It is JSON, but no object.
    #[error("the annotations are no JSON object")]
    NotAnObject,
}

/// Names the file with the rest of the dossier; it is the orchestrator's own and is never sent.
const META_PATH_KEY: &str = "meta_path";
/// The newer releases' annotations.
const DOSSIER_PREFIX: &str = "dossier.";
/// The annotations of releases up to 0.6.6, and the keys of a dossier that say the same. The third
/// of them names a file like `meta_path` does, but of YAML: it is not read, and not sent.
const LEGACY_KEYS: [(&str, Option<&str>); 3] = [
    ("ai.terok.project", Some("project")),
    ("ai.terok.task", Some("task")),
    ("ai.terok.task_meta_path", None),
];

impl ContainerAnnotations {
    /// Reads a JSON object of annotations, `{}` for the empty text.
    ///
    /// Keys count with and without the prefix `dossier.`, which the hook has already taken away.
    /// Values that are no texts become some.
    pub fn parse(text: &str) -> Result<Self, AnnotationsError> {
        if text.is_empty() {
            return Ok(Self::default());
        }
        let value = serde_json::from_str(text).map_err(AnnotationsError::Json)?;
        let Value::Object(fields) = value else {
            return Err(AnnotationsError::NotAnObject);
        };
        let mut meta_path = None;
        let mut dossier = BTreeMap::new();
        for (key, value) in fields {
            let Some(key) = dossier_key(&key) else {
                continue;
            };
            let value = value_to_text(&value);
            if key != META_PATH_KEY {
                dossier.insert(DisplayText::new(key), DisplayText::new(&value));
            } else if !value.is_empty() {
                meta_path = Some(PathBuf::from(value));
            }
        }
        Ok(Self {
            dossier: dossier.into(),
            meta_path,
        })
    }

    /// Returns the file that says more, and may say something else at the next question.
    pub fn meta_path(&self) -> Option<&Path> {
        self.meta_path.as_deref()
    }

    /// Returns the dossier, if `meta` is what the file says now.
    ///
    /// The file wins over the annotations, but for values that say nothing (`""`, `null`, `0`,
    /// `false`, `[]`, `{}`). A file that is no JSON object says nothing at all.
    pub fn build_dossier(&self, meta: Option<&[u8]>) -> Dossier {
        let said: Option<Map<String, Value>> =
            meta.and_then(|bytes| serde_json::from_slice(bytes).ok());
        let Some(said) = said else {
            return Dossier::clone(&self.dossier);
        };
        let mut dossier = BTreeMap::clone(&self.dossier);
        for (key, value) in said {
            if key != META_PATH_KEY && is_truthy(&value) {
                dossier.insert(
                    DisplayText::new(&key),
                    DisplayText::new(&value_to_text(&value)),
                );
            }
        }
        dossier.into()
    }
}

/// Returns the key of a dossier for the key of an annotation; `None` for what is not sent.
fn dossier_key(key: &str) -> Option<&str> {
    if let Some((_, known)) = LEGACY_KEYS.iter().find(|(old, _)| *old == key) {
        return *known;
    }
    Some(key.strip_prefix(DOSSIER_PREFIX).unwrap_or(key))
}

/// Returns a value as text: what Python's `str` makes of it, but of lists and objects, which stay
/// JSON.
fn value_to_text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => "None".into(),
        Value::Bool(true) => "True".into(),
        Value::Bool(false) => "False".into(),
        Value::Number(_) | Value::Array(_) | Value::Object(_) => value.to_string(),
    }
}

fn is_truthy(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Bool(truth) => *truth,
        Value::Number(number) => number.as_f64() != Some(0.0),
        Value::String(text) => !text.is_empty(),
        Value::Array(items) => !items.is_empty(),
        Value::Object(fields) => !fields.is_empty(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dossier(annotations: &str, meta: Option<&str>) -> String {
        let annotations = ContainerAnnotations::parse(annotations).unwrap();
        serde_json::to_string(&annotations.build_dossier(meta.map(str::as_bytes))).unwrap()
    }

    #[test]
    fn annotations_are_the_dossier_and_the_files_path_is_kept_back() {
        for (annotations, expected) in [
            ("", "{}"),
            ("{}", "{}"),
            (r#"{"task":"t","name":""}"#, r#"{"name":"","task":"t"}"#),
            (
                r#"{"dossier.task":"t","dossier.meta_path":"/m","meta_path":"/n"}"#,
                r#"{"task":"t"}"#,
            ),
            (
                r#"{"ai.terok.project":"p","ai.terok.task":"t","ai.terok.task_meta_path":"/y"}"#,
                r#"{"project":"p","task":"t"}"#,
            ),
            (
                r#"{"a":1,"b":true,"c":false,"d":null,"e":1.5,"f":[1]}"#,
                r#"{"a":"1","b":"True","c":"False","d":"None","e":"1.5","f":"[1]"}"#,
            ),
            ("{\"n\":\"a\\u001b[31mb\"}", r#"{"n":"a [31mb"}"#),
        ] {
            assert_eq!(dossier(annotations, None), expected, "of {annotations}");
        }
        let path = |text| ContainerAnnotations::parse(text).unwrap().meta_path;
        assert_eq!(path(r#"{"meta_path":"/m.json"}"#), Some("/m.json".into()));
        assert_eq!(path(r#"{"meta_path":""}"#), None);
        assert_eq!(path("{}"), None);
        for wrong in ["nonsense", "[]", "1", "null", "{\"a\":"] {
            assert!(ContainerAnnotations::parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn the_file_wins_where_it_says_something() {
        let annotations = r#"{"task":"t","name":"old"}"#;
        for (meta, expected) in [
            ("", r#"{"name":"old","task":"t"}"#),
            ("nonsense", r#"{"name":"old","task":"t"}"#),
            ("[1]", r#"{"name":"old","task":"t"}"#),
            (
                r#"{"name":"new","project":"p"}"#,
                r#"{"name":"new","project":"p","task":"t"}"#,
            ),
            (
                r#"{"name":"","task":null,"a":0,"b":false,"c":[],"d":{},"e":0.0}"#,
                r#"{"name":"old","task":"t"}"#,
            ),
            (
                r#"{"meta_path":"/secret","n":7}"#,
                r#"{"n":"7","name":"old","task":"t"}"#,
            ),
        ] {
            assert_eq!(dossier(annotations, Some(meta)), expected, "of {meta}");
        }
    }

    proptest::proptest! {
        #[test]
        fn nothing_breaks_it_and_the_path_is_never_sent(text in r#"[{}\[\]":,a-z_.0-9\\ ]{0,60}"#) {
            let annotations = ContainerAnnotations::parse(&text).unwrap_or_default();
            let dossier = annotations.build_dossier(Some(text.as_bytes()));
            proptest::prop_assert!(!dossier.contains_key(&DisplayText::new(META_PATH_KEY)));
        }
    }
}
