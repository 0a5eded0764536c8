// SPDX-License-Identifier: Apache-2.0
//! The rule files in the configuration directory.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use policy::{RuleEditError, RuleFile};

use crate::private_dir::PrivateDir;
use crate::project_path::RULES_ENDING;
use crate::{FileProblem, ProjectPath, RuleStoreError};

/// The directories of the configuration directory.
pub(crate) const PROFILES_DIR: &str = "profiles";
pub(crate) const RULES_DIR: &str = "rules";
pub(crate) const PROJECTS_DIR: &str = "projects";

const ALWAYS_FILE: &str = "always.rules";
const ALWAYS_HEADER: &str = "# Answers kept for every sandbox";

/// The rule files of one operator.
///
/// Nothing is kept in memory: each call reads the files as they are.
#[derive(Debug, Clone)]
pub struct RuleStore {
    config_dir: PathBuf,
}

/// The kept answers of one project.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeptProject {
    /// The project.
    pub project: ProjectPath,
    /// The file.
    pub path: PathBuf,
    /// The rules.
    pub file: RuleFile,
}

/// A file with kept answers.
struct KeptFile {
    /// The directories below the configuration directory.
    directories: &'static [&'static str],
    name: String,
    /// The first line of a new file.
    header: String,
    /// Whether an existing file must have this first line.
    is_header_checked: bool,
}

impl KeptFile {
    fn always() -> Self {
        Self {
            directories: &[RULES_DIR],
            name: ALWAYS_FILE.to_owned(),
            header: ALWAYS_HEADER.to_owned(),
            is_header_checked: false,
        }
    }

    fn of_project(project: &ProjectPath) -> Self {
        Self {
            directories: &[RULES_DIR, PROJECTS_DIR],
            name: project.file_name(),
            header: project.header(),
            is_header_checked: true,
        }
    }

    /// Reads the file; `None` if it does not exist.
    fn read(&self, directory: &PrivateDir) -> Result<Option<RuleFile>, RuleStoreError> {
        let Some(file) = read_rules(directory, &self.name)? else {
            return Ok(None);
        };
        self.check_header(directory, &file)?;
        Ok(Some(file))
    }

    fn check_header(&self, directory: &PrivateDir, file: &RuleFile) -> Result<(), RuleStoreError> {
        if self.is_header_checked && file.first_line() != Some(&self.header) {
            let expected = self.header.clone();
            let problem = FileProblem::OtherProject { expected };
            return Err(problem.at(&directory.entry_path(&self.name)));
        }
        Ok(())
    }
}

impl RuleStore {
    /// Creates a store of the rule files in a configuration directory, which may be missing.
    ///
    /// Fails if other users could change the directory.
    pub fn open(config_dir: &Path) -> Result<Self, RuleStoreError> {
        PrivateDir::open(config_dir)?;
        Ok(Self {
            config_dir: config_dir.to_owned(),
        })
    }

    /// Returns the configuration directory.
    pub fn config_dir(&self) -> &Path {
        &self.config_dir
    }

    /// Returns the directory of the operator's profiles.
    pub fn profiles_dir(&self) -> PathBuf {
        self.config_dir.join(PROFILES_DIR)
    }

    /// Returns the file with the answers kept for every sandbox.
    pub fn always_path(&self) -> PathBuf {
        self.path_of(&KeptFile::always())
    }

    /// Returns the file with the answers kept for a project.
    pub fn project_file_path(&self, project: &ProjectPath) -> PathBuf {
        self.path_of(&KeptFile::of_project(project))
    }

    /// Loads the answers kept for every sandbox; none if there is no file.
    pub fn load_always(&self) -> Result<RuleFile, RuleStoreError> {
        self.load(&KeptFile::always())
    }

    /// Loads the answers kept for a project; none if there is no file.
    pub fn load_project(&self, project: &ProjectPath) -> Result<RuleFile, RuleStoreError> {
        self.load(&KeptFile::of_project(project))
    }

    /// Changes the answers kept for every sandbox.
    ///
    /// No other program changes the file meanwhile. Blocks up to ten seconds for one that does.
    pub fn edit_always<T>(
        &self,
        edit: impl FnOnce(&mut RuleFile) -> Result<T, RuleEditError>,
    ) -> Result<T, RuleStoreError> {
        self.edit(&KeptFile::always(), edit)
    }

    /// Changes the answers kept for a project; see [`Self::edit_always`].
    pub fn edit_project<T>(
        &self,
        project: &ProjectPath,
        edit: impl FnOnce(&mut RuleFile) -> Result<T, RuleEditError>,
    ) -> Result<T, RuleStoreError> {
        self.edit(&KeptFile::of_project(project), edit)
    }

    /// Lists the projects with kept answers, ordered by file name. An unusable file is an error in
    /// the list.
    pub fn list_projects(
        &self,
    ) -> Result<Vec<Result<KeptProject, RuleStoreError>>, RuleStoreError> {
        let Some(directory) = self.open_directory(&[RULES_DIR, PROJECTS_DIR])? else {
            return Ok(Vec::new());
        };
        let mut projects = Vec::new();
        for name in directory.names()? {
            if name.starts_with('.') || !name.ends_with(RULES_ENDING) {
                continue;
            }
            projects.push(match read_rules(&directory, &name) {
                Ok(None) => continue,
                Ok(Some(file)) => {
                    let path = directory.entry_path(&name);
                    let project = file.first_line().and_then(ProjectPath::from_header);
                    match project.filter(|project| project.file_name() == name) {
                        Some(project) => Ok(KeptProject {
                            project,
                            path,
                            file,
                        }),
                        None => Err(FileProblem::NoProject.at(&path)),
                    }
                }
                Err(error) => Err(error),
            });
        }
        Ok(projects)
    }

    /// Finds the project of a working directory: the nearest directory at or above it that has a
    /// file with kept answers, else the working directory.
    ///
    /// A file for the home directory, for a directory above it, or for one in which other users may
    /// create directories counts only in that directory itself, because it would open everything
    /// below. Files in the directories themselves never count.
    pub fn project_of(
        &self,
        working_dir: &Path,
        home: &Path,
    ) -> Result<ProjectPath, RuleStoreError> {
        let working = ProjectPath::find(working_dir)?;
        let Some(directory) = self.open_directory(&[RULES_DIR, PROJECTS_DIR])? else {
            return Ok(working);
        };
        let home = home
            .canonicalize()
            .unwrap_or_else(|_missing| home.to_owned());
        for ancestor in working.as_path().ancestors() {
            let is_wide =
                ancestor.parent().is_none() || home.starts_with(ancestor) || is_shared(ancestor);
            if is_wide && ancestor != working.as_path() {
                break;
            }
            let project = ProjectPath::from_canonical(ancestor.to_owned())?;
            if directory.has_entry(&project.file_name())? {
                return Ok(project);
            }
            if is_wide {
                break;
            }
        }
        Ok(working)
    }

    fn path_of(&self, kept: &KeptFile) -> PathBuf {
        let directories: PathBuf = kept.directories.iter().collect();
        self.config_dir.join(directories).join(&kept.name)
    }

    /// Opens a directory below the configuration directory; `None` if it does not exist.
    pub(crate) fn open_directory(
        &self,
        names: &[&str],
    ) -> Result<Option<PrivateDir>, RuleStoreError> {
        let mut directory = PrivateDir::open(&self.config_dir)?;
        for name in names {
            directory = match directory {
                Some(above) => above.open_below(name)?,
                None => return Ok(None),
            };
        }
        Ok(directory)
    }

    fn load(&self, kept: &KeptFile) -> Result<RuleFile, RuleStoreError> {
        let Some(directory) = self.open_directory(kept.directories)? else {
            return Ok(RuleFile::default());
        };
        Ok(kept.read(&directory)?.unwrap_or_default())
    }

    fn edit<T>(
        &self,
        kept: &KeptFile,
        edit: impl FnOnce(&mut RuleFile) -> Result<T, RuleEditError>,
    ) -> Result<T, RuleStoreError> {
        let mut directory = PrivateDir::create(&self.config_dir)?;
        for name in kept.directories {
            directory = directory.create_below(name)?;
        }
        let lock = directory.lock()?;
        let path = directory.entry_path(&kept.name);
        let mut file = if let Some(file) = kept.read(&directory)? {
            file
        } else {
            let header = format!("{}\n", kept.header);
            RuleFile::parse(header.as_bytes())
                .map_err(|error| FileProblem::Rules(error).at(&path))?
        };
        let before = file.render();
        let result = edit(&mut file).map_err(|source| RuleStoreError::Edit {
            path: path.clone(),
            source,
        })?;
        kept.check_header(&directory, &file)?;
        let after = file.render();
        if after != before {
            directory.replace(&lock, &kept.name, &after)?;
        }
        Ok(result)
    }
}

/// Reads and parses a rule file; `None` if it does not exist.
pub(crate) fn read_rules(
    directory: &PrivateDir,
    name: &str,
) -> Result<Option<RuleFile>, RuleStoreError> {
    let Some(bytes) = directory.read(name)? else {
        return Ok(None);
    };
    let parsed = RuleFile::parse(&bytes);
    parsed
        .map(Some)
        .map_err(|error| FileProblem::Rules(error).at(&directory.entry_path(name)))
}

/// Returns `true` if other users may create directories in this one, or if that is not known.
fn is_shared(directory: &Path) -> bool {
    let metadata = directory.symlink_metadata();
    metadata.map_or(true, |metadata| metadata.permissions().mode() & 0o002 != 0)
}
