// SPDX-License-Identifier: Apache-2.0
//! Builds a question's dossier from a container's annotations and its orchestrator's file.
//!
//! Pure: the caller reads the file. Both sources belong to the orchestrator, not to the sandbox.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};
use terok_clearance::{DisplayText, Dossier};

/// A container's annotations.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ContainerAnnotations {
    dossier: Dossier,
    meta_path: Option<PathBuf>,
}

/// A text could not be parsed as annotations.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AnnotationsError {
    /// Invalid JSON.
    #[error("the annotations are not valid JSON")]
    Json(#[source] serde_json::Error),
    /// JSON, but not an object.
    #[error("the annotations are not a JSON object")]
    NotAnObject,
}

/// The key of the file with the rest of the dossier; internal to the orchestrator and never sent.
const META_PATH_KEY: &str = "meta_path";
/// The prefix used by newer releases.
const DOSSIER_PREFIX: &str = "dossier.";
/// The annotations of releases up to 0.6.6 with their dossier keys. The third one names a YAML
/// file: neither read nor sent.
const LEGACY_KEYS: [(&str, Option<&str>); 3] = [
    ("ai.terok.project", Some("project")),
    ("ai.terok.task", Some("task")),
    ("ai.terok.task_meta_path", None),
];

impl ContainerAnnotations {
    /// Parses a JSON object of annotations; an empty text means `{}`.
    ///
    /// Keys count with and without the prefix `dossier.`, because the hook may have removed it.
    /// Values of other types are converted to text.
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
                dossier.insert(DisplayText::new(key), DisplayText::name(&value));
            } else if !value.is_empty() {
                meta_path = Some(PathBuf::from(value));
            }
        }
        Ok(Self {
            dossier: dossier.into(),
            meta_path,
        })
    }

    /// Returns the path of the orchestrator's file, whose contents may change between questions.
    pub fn meta_path(&self) -> Option<&Path> {
        self.meta_path.as_deref()
    }

    /// Returns the dossier, merged with `meta`, the current contents of the orchestrator's file.
    ///
    /// The file takes precedence over the annotations, except for empty values (`""`, `null`, `0`,
    /// `false`, `[]`, `{}`). A file without a JSON object is ignored.
    pub fn build_dossier(&self, meta: Option<&[u8]>) -> Dossier {
        let fields: Option<Map<String, Value>> =
            meta.and_then(|bytes| serde_json::from_slice(bytes).ok());
        let Some(fields) = fields else {
            return Dossier::clone(&self.dossier);
        };
        let mut dossier = BTreeMap::clone(&self.dossier);
        for (key, value) in fields {
            if key != META_PATH_KEY && is_truthy(&value) {
                dossier.insert(
                    DisplayText::new(&key),
                    DisplayText::name(&value_to_text(&value)),
                );
            }
        }
        dossier.into()
    }
}

/// Returns the dossier key for an annotation's key; `None` if the annotation is not sent.
fn dossier_key(key: &str) -> Option<&str> {
    if let Some((_, known)) = LEGACY_KEYS.iter().find(|(old, _)| *old == key) {
        return *known;
    }
    Some(key.strip_prefix(DOSSIER_PREFIX).unwrap_or(key))
}

/// Converts a value to text as Python's `str` does, except for lists and objects, which stay JSON.
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
    fn annotations_become_the_dossier_without_the_files_path() {
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
    fn nonempty_values_of_the_file_take_precedence() {
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
        fn any_text_is_accepted_and_the_path_is_never_sent(text in r#"[{}\[\]":,a-z_.0-9\\ ]{0,60}"#) {
            let annotations = ContainerAnnotations::parse(&text).unwrap_or_default();
            let dossier = annotations.build_dossier(Some(text.as_bytes()));
            proptest::prop_assert!(!dossier.contains_key(&DisplayText::new(META_PATH_KEY)));
        }
    }
}
