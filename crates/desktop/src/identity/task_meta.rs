// SPDX-License-Identifier: Apache-2.0
//! The metadata file of the orchestrator, which contains the name of a task.

use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::io::Read as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;
use terok_clearance::DisplayText;

/// Maximum bytes that are read of a file.
const MAX_META_BYTES: u64 = 64 * 1024;

/// The path and the format of the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum TaskMetaFile {
    /// A JSON object, from releases after 0.6.6.
    Json(PathBuf),
    /// YAML, from releases up to 0.6.6.
    Yaml(PathBuf),
}

impl TaskMetaFile {
    /// Returns the file whose absolute path is in the annotations of a container.
    pub(super) fn from_annotations(annotations: &BTreeMap<String, String>) -> Option<Self> {
        let path = |key: &str| {
            let path = annotations.get(key).map(PathBuf::from)?;
            path.is_absolute().then_some(path)
        };
        let json = path("dossier.meta_path").map(Self::Json);
        json.or_else(|| path("ai.terok.task_meta_path").map(Self::Yaml))
    }

    /// Reads the name from the file.
    pub(super) async fn read_name(self) -> Option<DisplayText> {
        // The file may be on a slow disk or a network file system.
        let read = tokio::task::spawn_blocking(move || self.read_blocking()).await;
        read.ok()?.filter(|name| !name.is_empty())
    }

    fn read_blocking(&self) -> Option<DisplayText> {
        let (Self::Json(path) | Self::Yaml(path)) = self;
        let text = read_regular_file(path)?;
        let name = match self {
            Self::Json(_) => {
                let said: serde_json::Map<_, _> = serde_json::from_str(&text).ok()?;
                said.get("name")?.as_str()?.to_owned()
            }
            Self::Yaml(_) => yaml_name(&text)?,
        };
        Some(DisplayText::name(&name))
    }
}

/// Returns the content of a regular file. Other kinds of files are refused: a pipe could block.
fn read_regular_file(path: &Path) -> Option<String> {
    let flags = i32::try_from((OFlags::NONBLOCK | OFlags::NOCTTY).bits()).ok()?;
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(flags)
        .open(path)
        .ok()?;
    if !file.metadata().ok()?.is_file() {
        return None;
    }
    let mut text = String::new();
    file.take(MAX_META_BYTES).read_to_string(&mut text).ok()?;
    Some(text)
}

/// Returns the value of `name` at the top level of a YAML document, if the value is a single plain
/// or quoted line.
fn yaml_name(text: &str) -> Option<String> {
    let value = text
        .lines()
        .find_map(|line| line.strip_prefix("name:"))?
        .trim();
    if let Some(quoted) = value.strip_prefix('"') {
        let end = quoted.find('"')?;
        let quoted = quoted.get(..end)?;
        // Escape sequences are not supported; the task is then shown by its id.
        return (!quoted.contains('\\')).then(|| quoted.to_owned());
    }
    if let Some(quoted) = value.strip_prefix('\'') {
        return Some(quoted.strip_suffix('\'')?.replace("''", "'"));
    }
    let plain = value.split(" #").next().unwrap_or_default().trim_end();
    let is_plain = !plain.starts_with(['[', '{', '&', '*', '!', '|', '>', '%', '@', '`', '#']);
    let is_text = !matches!(plain, "" | "~" | "null" | "true" | "false");
    (is_plain && is_text).then(|| plain.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_of_a_yaml_file_is_one_line_at_the_top_level() {
        let check = |text: &str, expected: Option<&str>| {
            assert_eq!(yaml_name(text).as_deref(), expected, "{text:?}");
        };
        check("task: 7\nname: fix the parser\n", Some("fix the parser"));
        check("name: \"fix: it\"  # why\n", Some("fix: it"));
        check("name: 'it''s'\n", Some("it's"));
        check("name: plain # said\n", Some("plain"));
        check("meta:\n  name: inner\n", None);
        check("name: null\n", None);
        check("name:\n  - a\n", None);
        check("name: [a, b]\n", None);
        check("name: |\n  text\n", None);
        check("name: \"a\\nb\"\n", None);
        check("", None);
    }

    #[tokio::test]
    async fn missing_special_or_malformed_files_have_no_name() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("meta.json");
        let name = async |path: &Path| TaskMetaFile::Json(path.to_owned()).read_name().await;
        assert_eq!(name(&path).await, None);
        for text in ["", "[]", "{}", r#"{"name": 7}"#, r#"{"name": ""}"#, "\u{0}"] {
            std::fs::write(&path, text).unwrap();
            assert_eq!(name(&path).await, None, "{text:?}");
        }
        std::fs::write(&path, "{\"name\": \"a\\u001b[31mb\"}").unwrap();
        assert_eq!(name(&path).await.unwrap().as_str(), "a [31mb");
        let pipe = place.path().join("pipe");
        rustix::fs::mkfifoat(rustix::fs::CWD, &pipe, 0o600.into()).unwrap();
        assert_eq!(name(&pipe).await, None);
        assert_eq!(name(place.path()).await, None);
    }

    #[test]
    fn only_an_absolute_path_is_accepted() {
        let of = |key: &str, path: &str| {
            TaskMetaFile::from_annotations(&[(key.to_owned(), path.to_owned())].into())
        };
        assert_eq!(
            of("dossier.meta_path", "/m"),
            Some(TaskMetaFile::Json("/m".into()))
        );
        assert_eq!(
            of("ai.terok.task_meta_path", "/m"),
            Some(TaskMetaFile::Yaml("/m".into()))
        );
        assert_eq!(of("dossier.meta_path", "m"), None);
        assert_eq!(of("meta_path", "/m"), None);
    }
}
