// SPDX-License-Identifier: Apache-2.0
//! The project whose kept rules a command is about.

use std::io;
use std::path::Path;

use anyhow::Context as _;
use store::{ProjectPath, ProjectPathError, RuleStore, RuleStoreError};

use crate::{CommandContext, CommandError};

/// Opens the operator's rule files.
pub(super) fn open_rule_store(context: &CommandContext) -> Result<RuleStore, CommandError> {
    Ok(RuleStore::open(context.environment.config_dir())?)
}

/// Finds a project by its directory, which may be gone if rules are kept for it. Without a
/// directory, finds the project of the working directory, as `run` does.
pub(super) fn find_project(
    store: &RuleStore,
    directory: Option<&Path>,
    context: &CommandContext,
) -> Result<ProjectPath, CommandError> {
    let Some(directory) = directory else {
        let working_dir = std::env::current_dir().context("cannot find the working directory")?;
        return Ok(store.project_of(&working_dir, context.environment.home())?);
    };
    let error = match ProjectPath::find(directory) {
        Ok(project) => return Ok(project),
        Err(error) => error,
    };
    if let ProjectPathError::Find { source, .. } = &error
        && source.kind() == io::ErrorKind::NotFound
        && let Ok(absolute) = std::path::absolute(directory)
    {
        let known = store.list_projects()?.into_iter().flatten();
        let mut known = known.map(|kept| kept.project);
        if let Some(project) = known.find(|project| project.as_path() == absolute) {
            return Ok(project);
        }
    }
    Err(RuleStoreError::from(error).into())
}
