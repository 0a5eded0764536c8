// SPDX-License-Identifier: Apache-2.0
//! The metadata file of the orchestrator: project, task and name of a sandbox.

mod yaml;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, FileType, Mode, OFlags, fstat, open, openat};
use serde_json::{Map, Value};
use terok_clearance::DisplayText;

/// Maximum bytes of a file; a longer one is not read.
const MAX_META_BYTES: u64 = 64 * 1024;

/// The path and the format of the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum TaskMetaFile {
    /// A JSON object, from releases after 0.6.6: the dossier of the sandbox.
    Json(PathBuf),
    /// YAML, from releases up to 0.6.6: its key `name` is the name of the task.
    Yaml(PathBuf),
}

/// The contents of the file. Unknown fields are empty.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct TaskMeta {
    pub(super) project: DisplayText,
    pub(super) task: DisplayText,
    pub(super) name: DisplayText,
    pub(super) container_name: DisplayText,
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

    /// Reads the file; an unreadable or malformed one is empty.
    pub(super) async fn read(self) -> TaskMeta {
        // The file may be on a slow disk or a network file system.
        let read = tokio::task::spawn_blocking(move || self.read_blocking()).await;
        read.ok().flatten().unwrap_or_default()
    }

    fn read_blocking(&self) -> Option<TaskMeta> {
        let (Self::Json(path) | Self::Yaml(path)) = self;
        let text = read_regular_file(path)?;
        match self {
            Self::Json(_) => parse_json(&text),
            Self::Yaml(_) => Some(TaskMeta {
                name: DisplayText::name(&yaml::parse_name(&text)?),
                ..TaskMeta::default()
            }),
        }
    }
}

/// Parses a dossier as the Python stack's reader does: empty values do not count, and others become
/// texts.
fn parse_json(text: &str) -> Option<TaskMeta> {
    let fields: Map<String, Value> = serde_json::from_str(text).ok()?;
    let text = |key: &str| {
        let text = match fields.get(key) {
            Some(Value::String(text)) => text.clone(),
            Some(Value::Bool(true)) => "True".to_owned(),
            Some(Value::Number(number)) if number.as_f64() != Some(0.0) => number.to_string(),
            // A list or an object is no name.
            _ => String::new(),
        };
        DisplayText::name(&text)
    };
    Some(TaskMeta {
        project: text("project"),
        task: text("task"),
        name: text("name"),
        container_name: text("container_name"),
    })
}

/// Returns the content of a regular file of at most [`MAX_META_BYTES`].
///
/// Other kinds of files are not even opened, because that alone can block (a pipe) or act (a
/// device). A symbolic link as the last component is refused: the path is that of a file which the
/// orchestrator writes.
fn read_regular_file(path: &Path) -> Option<String> {
    let place = open(
        path,
        OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC,
        Mode::empty(),
    )
    .ok()?;
    if FileType::from_raw_mode(fstat(&place).ok()?.st_mode) != FileType::RegularFile {
        return None;
    }
    // The same file, whatever the path leads to meanwhile.
    let place = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&place));
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOCTTY;
    let file = File::from(openat(CWD, &place, flags, Mode::empty()).ok()?);
    let mut bytes = Vec::new();
    file.take(MAX_META_BYTES.saturating_add(1))
        .read_to_end(&mut bytes)
        .ok()?;
    let fits = u64::try_from(bytes.len()).is_ok_and(|length| length <= MAX_META_BYTES);
    String::from_utf8(bytes).ok().filter(|_| fits)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dossier_has_project_task_and_name() {
        let check = |json: &str, expected: Option<[&str; 4]>| {
            let meta = parse_json(json);
            let found = meta.as_ref().map(|meta| {
                [&meta.project, &meta.task, &meta.name, &meta.container_name]
                    .map(DisplayText::as_str)
            });
            assert_eq!(found, expected, "{json:?}");
        };
        let whole = r#"{"project":"p","task":"t","name":"n","container_name":"c"}"#;
        check(whole, Some(["p", "t", "n", "c"]));
        check("{}", Some([""; 4]));
        check(
            r#"{"project":7,"task":true,"name":"a\u001b[31mb"}"#,
            Some(["7", "True", "a [31mb", ""]),
        );
        check(
            r#"{"project":null,"task":0,"name":["n"],"container_name":{}}"#,
            Some([""; 4]),
        );
        check(r#"{"name":"x","name":"y"}"#, Some(["", "", "y", ""]));
        for malformed in ["", "[]", "7", "\u{0}", "{\"name\": }", "{} x"] {
            check(malformed, None);
        }
    }

    #[tokio::test]
    async fn only_a_regular_file_of_bounded_size_is_read() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("meta.json");
        let name = async |path: &Path| TaskMetaFile::Json(path.to_owned()).read().await.name;
        assert!(name(&path).await.is_empty());
        std::fs::write(&path, r#"{"name": "n"}"#).unwrap();
        assert_eq!(name(&path).await.as_str(), "n");
        let link = place.path().join("link");
        std::os::unix::fs::symlink(&path, &link).unwrap();
        assert!(name(&link).await.is_empty());
        let pipe = place.path().join("pipe");
        rustix::fs::mkfifoat(CWD, &pipe, 0o600.into()).unwrap();
        assert!(name(&pipe).await.is_empty());
        let socket = place.path().join("socket");
        let _listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
        assert!(name(&socket).await.is_empty());
        for special in [place.path(), Path::new("/dev/zero"), Path::new("/dev/tty")] {
            assert!(name(special).await.is_empty(), "{special:?}");
        }
        let json = |spaces: usize| format!("{{\"name\": \"n\"{}}}", " ".repeat(spaces));
        let room = usize::try_from(MAX_META_BYTES).unwrap() - json(0).len();
        std::fs::write(&path, json(room)).unwrap();
        assert_eq!(name(&path).await.as_str(), "n");
        std::fs::write(&path, json(room + 1)).unwrap();
        assert!(name(&path).await.is_empty());
        std::fs::write(&path, b"{\"name\": \"\xff\"}").unwrap();
        assert!(name(&path).await.is_empty());
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
