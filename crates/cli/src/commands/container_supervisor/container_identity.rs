// SPDX-License-Identifier: Apache-2.0
//! What questions and the record say about a container.

use std::path::{Path, PathBuf};

use containers::StartRequest;
use reader::ContainerAnnotations;
use record::AuditSandbox;
use serde::Deserialize;
use supervisor::DossierSource;
use terok_clearance::{ContainerId, DisplayText, Dossier};

/// Maximum bytes of the orchestrator's file, and of podman's list of containers.
const MAX_META_BYTES: u64 = 64 * 1024;
const MAX_LIST_BYTES: u64 = 16 * 1024 * 1024;

/// The key of the name in a dossier.
const NAME_KEY: &str = "name";
/// Keys under which an orchestrator names a container.
const NAME_KEYS: [&str; 3] = [NAME_KEY, "container_name", "task"];

/// A container, as an operator knows it.
pub(super) struct SupervisedContainer {
    id: ContainerId,
    annotations: ContainerAnnotations,
    /// The name for a container that its orchestrator does not name.
    name: Option<DisplayText>,
    /// The name that the operator gave it, which comes before all others.
    given_name: Option<DisplayText>,
}

impl SupervisedContainer {
    /// Finds the names of a container. `given_name` is the operator's.
    pub(super) fn find(request: &StartRequest, given_name: Option<DisplayText>) -> Self {
        let annotations = request.annotations.iter();
        let of_orchestrator: serde_json::Map<_, _> = annotations
            .filter(|(key, _)| !key.starts_with("org.terok.clearance."))
            .map(|(key, value)| (key.clone(), value.clone().into()))
            .collect();
        let json = serde_json::Value::from(of_orchestrator).to_string();
        let annotations = ContainerAnnotations::parse(&json).unwrap_or_default();
        Self {
            id: request.id.clone(),
            annotations,
            name: podman_name(&request.bundle, &request.id),
            given_name,
        }
    }

    /// Returns the source of the dossier. The orchestrator's file is read for each question.
    pub(super) fn dossier_source(self) -> DossierSource {
        DossierSource::new(move || self.read_dossier())
    }

    /// Returns the container for the record.
    pub(super) fn audit_sandbox(&self) -> AuditSandbox {
        let dossier = self.read_dossier();
        let mut names = NAME_KEYS.iter();
        AuditSandbox {
            name: names.find_map(|key| dossier.get(&DisplayText::new(key)).cloned()),
            ..AuditSandbox::new(self.id.clone())
        }
    }

    fn read_dossier(&self) -> Dossier {
        let meta = self.annotations.meta_path().and_then(|path| {
            // Regular files only: the annotation may be the image's.
            let read = netns::read_file_in_root(Path::new("/"), path.to_str()?, MAX_META_BYTES);
            read.inspect_err(|error| {
                tracing::debug!(%error, "could not read the file with the dossier");
            })
            .ok()
        });
        let dossier = self.annotations.build_dossier(meta.as_deref());
        let key = DisplayText::new(NAME_KEY);
        let is_named = NAME_KEYS
            .iter()
            .any(|key| dossier.contains_key(&DisplayText::new(key)));
        let name = self.name.as_ref().filter(|_| !is_named);
        let Some(name) = self.given_name.as_ref().or(name) else {
            return dossier;
        };
        let mut named = std::collections::BTreeMap::clone(&dossier);
        named.insert(key, name.clone());
        Dossier::new(named)
    }
}

/// An entry of podman's lists of containers.
#[derive(Deserialize)]
struct StoredContainer {
    id: String,
    #[serde(default)]
    names: Vec<String>,
}

/// Returns podman's name of a container. Its bundle is `STORAGE/overlay-containers/ID/userdata`,
/// and two lists in `STORAGE/overlay-containers` have the names (containers/storage).
fn podman_name(bundle: &Path, id: &ContainerId) -> Option<DisplayText> {
    let lists: PathBuf = bundle.parent()?.parent()?.into();
    let id = id.to_string();
    for list in ["containers.json", "volatile-containers.json"] {
        let path = lists.join(list);
        let read = netns::read_file_in_root(Path::new("/"), path.to_str()?, MAX_LIST_BYTES);
        let stored = read.and_then(|json| Ok(serde_json::from_slice(&json)?));
        let stored: Vec<StoredContainer> = match stored {
            Ok(stored) => stored,
            Err(error) => {
                let path = path.display();
                tracing::debug!(%path, %error, "podman's list of containers was not read");
                continue;
            }
        };
        if let Some(found) = stored.into_iter().find(|stored| stored.id == id) {
            return found.names.first().map(|name| DisplayText::name(name));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use containers::{ContainerNetwork, PROTOCOL_VERSION};

    use super::*;

    fn request(bundle: &Path, annotations: &[(&str, &str)]) -> StartRequest {
        let annotations = annotations.iter();
        StartRequest {
            version: PROTOCOL_VERSION,
            id: "17aa51f7a19a".parse().unwrap(),
            pid: 1,
            bundle: bundle.to_owned(),
            network: ContainerNetwork::Dialed,
            annotations: annotations
                .map(|(k, v)| ((*k).into(), (*v).into()))
                .collect(),
            asks_loopback: true,
        }
    }

    fn dossier(request: &StartRequest, given: Option<&str>) -> String {
        let identity = SupervisedContainer::find(request, given.map(DisplayText::new));
        serde_json::to_string(&identity.read_dossier()).unwrap()
    }

    #[test]
    fn the_name_is_the_operators_or_the_orchestrators_or_podmans() {
        let storage = tempfile::tempdir().unwrap();
        let bundle = storage.path().join("17aa51f7a19a/userdata");
        std::fs::create_dir_all(&bundle).unwrap();
        let check = |annotations: &[_], given, expected| {
            assert_eq!(dossier(&request(&bundle, annotations), given), expected);
        };
        check(&[], None, "{}");
        let list = r#"[{"id":"0","names":["other"]},{"id":"17aa51f7a19a","names":["web"]}]"#;
        std::fs::write(storage.path().join("containers.json"), list).unwrap();
        check(&[], None, r#"{"name":"web"}"#);
        check(&[], Some("mine"), r#"{"name":"mine"}"#);
        check(
            &[
                ("dossier.name", "task-1"),
                ("org.terok.clearance.network", "dialed"),
            ],
            None,
            r#"{"name":"task-1"}"#,
        );
        check(
            &[("ai.terok.task", "build"), ("ai.terok.project", "warp")],
            None,
            r#"{"project":"warp","task":"build"}"#,
        );
    }

    #[test]
    fn the_orchestrators_file_is_read_each_time() {
        let directory = tempfile::tempdir().unwrap();
        let meta = directory.path().join("meta.json");
        let annotations = [("dossier.meta_path", meta.to_str().unwrap())];
        let identity = SupervisedContainer::find(&request(directory.path(), &annotations), None);
        let read = || serde_json::to_string(&identity.read_dossier()).unwrap();
        assert_eq!(read(), "{}");
        std::fs::write(&meta, r#"{"task":"one"}"#).unwrap();
        assert_eq!(read(), r#"{"task":"one"}"#);
        std::fs::write(&meta, r#"{"task":"two"}"#).unwrap();
        assert_eq!(read(), r#"{"task":"two"}"#);
    }
}
