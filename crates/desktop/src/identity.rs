// SPDX-License-Identifier: Apache-2.0
//! Who a sandbox is, where its questions do not say: its container's name and its task.
//!
//! Nothing here fails: who cannot be found out about is shown by their id.

mod podman;
mod task_meta;

use std::collections::BTreeMap;

use terok_clearance::{ContainerId, DisplayText};

use crate::notifier::ContainerIdentity;

pub use podman::PodmanInspector;

/// What a container's engine says of one container; empty where it says nothing.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ContainerInfo {
    /// Its id, the first 12 characters; empty if it was not found.
    pub container_id: DisplayText,
    /// Its name.
    pub name: DisplayText,
    /// What it does: `running`, `exited`, `created`, …
    pub state: DisplayText,
    /// Every annotation, as the engine has it. Make a value [`DisplayText`] before it is shown.
    pub annotations: BTreeMap<String, String>,
}

/// Something that knows containers.
pub trait ContainerInspector: Send + Sync {
    /// Returns what is known of `container`: nothing, where that cannot be found out in good time.
    fn inspect(&self, container: &ContainerId) -> impl Future<Output = ContainerInfo> + Send;

    /// Takes in that `container` ended, and that its id may be another's next.
    fn forget(&self, _container: &ContainerId) {}
}

/// Knows no container.
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

/// Makes of what an inspector knows, and of the file that the orchestrator keeps, who a sandbox is.
#[derive(Debug, Clone, Default)]
pub struct IdentityResolver<I> {
    inspector: I,
}

impl<I: ContainerInspector> IdentityResolver<I> {
    /// Makes one that asks `inspector`.
    pub const fn new(inspector: I) -> Self {
        Self { inspector }
    }

    /// Returns who `container` is; empty where nothing is known.
    ///
    /// The task's name is read anew each time, for it may change in the task's life.
    pub async fn resolve(&self, container: &ContainerId) -> ContainerIdentity {
        let info = self.inspector.inspect(container).await;
        if info.container_id.is_empty() {
            return ContainerIdentity::default();
        }
        let said = |keys: [&str; 2]| {
            let values = keys.iter().filter_map(|key| info.annotations.get(*key));
            let value = values.into_iter().find(|value| !value.is_empty());
            value.map_or_else(DisplayText::default, |value| DisplayText::new(value))
        };
        // The newer releases' annotations, and those of up to 0.6.6.
        let task_name = match task_meta::TaskMetaFile::from_annotations(&info.annotations) {
            Some(file) => file.read_name().await,
            None => None,
        };
        ContainerIdentity {
            container_id: container.to_string(),
            container_name: info.name.to_string(),
            project: said(["dossier.project", "ai.terok.project"]).to_string(),
            task_id: said(["dossier.task", "ai.terok.task"]).to_string(),
            task_name: task_name
                .unwrap_or_else(|| said(["dossier.name", "dossier.name"]))
                .to_string(),
        }
    }

    /// Takes in that `container` ended.
    pub fn forget(&self, container: &ContainerId) {
        self.inspector.forget(container);
    }
}
