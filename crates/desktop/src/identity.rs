// SPDX-License-Identifier: Apache-2.0
//! The container and the task of a sandbox, looked up when questions arrive without a dossier.
//!
//! A look-up never fails: an unknown sandbox is shown by the container id.

mod podman;
mod task_meta;

use std::collections::BTreeMap;

use terok_clearance::{ContainerId, DisplayText};

use crate::notifier::ContainerIdentity;

pub use podman::PodmanInspector;

/// The container engine's record of one container. Unknown fields are empty.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ContainerInfo {
    /// The first 12 characters of the id; empty if the container was not found.
    pub container_id: DisplayText,
    /// The container's name.
    pub name: DisplayText,
    /// The state: `running`, `exited`, `created`, …
    pub state: DisplayText,
    /// The annotations, unchanged. Values must be converted to [`DisplayText`] before display.
    pub annotations: BTreeMap<String, String>,
}

/// A source of container records.
pub trait ContainerInspector: Send + Sync {
    /// Returns the record of `container`; an empty record if unknown or if the look-up takes too
    /// long.
    fn inspect(&self, container: &ContainerId) -> impl Future<Output = ContainerInfo> + Send;

    /// Forgets `container`, which ended: another container may get the same id.
    fn forget(&self, _container: &ContainerId) {}
}

/// Finds no container.
#[derive(Debug, Clone, Copy, Default)]
pub struct NullInspector;

impl ContainerInspector for NullInspector {
    async fn inspect(&self, _: &ContainerId) -> ContainerInfo {
        ContainerInfo::default()
    }
}

impl<I: ContainerInspector> ContainerInspector for Option<I> {
    async fn inspect(&self, container: &ContainerId) -> ContainerInfo {
        match self {
            Some(inspector) => inspector.inspect(container).await,
            None => ContainerInfo::default(),
        }
    }

    fn forget(&self, container: &ContainerId) {
        if let Some(inspector) = self {
            inspector.forget(container);
        }
    }
}

/// Finds the identity of a sandbox by an inspector and by the orchestrator's metadata file.
#[derive(Debug, Clone, Default)]
pub struct IdentityResolver<I> {
    inspector: I,
}

impl<I: ContainerInspector> IdentityResolver<I> {
    /// Returns a resolver that uses `inspector`.
    pub const fn new(inspector: I) -> Self {
        Self { inspector }
    }

    /// Returns the identity of `container`; unknown fields are empty.
    ///
    /// Every call reads the orchestrator's file, because the task may be renamed while it runs. As
    /// with the Python stack's reader, its fields take precedence over the annotations.
    pub async fn resolve(&self, container: &ContainerId) -> ContainerIdentity {
        let info = self.inspector.inspect(container).await;
        if info.container_id.is_empty() {
            return ContainerIdentity::default();
        }
        let annotation = |keys: [&str; 2]| {
            let values = keys.iter().filter_map(|key| info.annotations.get(*key));
            let value = values.into_iter().find(|value| !value.is_empty());
            value.map_or_else(DisplayText::default, |value| DisplayText::name(value))
        };
        // `dossier.*` is from releases after 0.6.6, `ai.terok.*` from releases up to 0.6.6.
        let meta = match task_meta::TaskMetaFile::from_annotations(&info.annotations) {
            Some(file) => file.read().await,
            None => task_meta::TaskMeta::default(),
        };
        let first = |texts: [DisplayText; 2]| {
            let [said, otherwise] = texts;
            if said.is_empty() { otherwise } else { said }.to_string()
        };
        ContainerIdentity {
            container_id: container.to_string(),
            container_name: first([meta.container_name, info.name]),
            project: first([
                meta.project,
                annotation(["dossier.project", "ai.terok.project"]),
            ]),
            task_id: first([meta.task, annotation(["dossier.task", "ai.terok.task"])]),
            task_name: first([meta.name, annotation(["dossier.name", "dossier.name"])]),
        }
    }

    /// Forgets `container`, which ended.
    pub fn forget(&self, container: &ContainerId) {
        self.inspector.forget(container);
    }
}
