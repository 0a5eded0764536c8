// SPDX-License-Identifier: Apache-2.0
//! Rule files inside a project, which the workload could write.
//!
//! Such a file counts only after the operator has seen its rules. The rules accepted last are kept
//! in the state directory, and every difference from them has to be accepted again.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use policy::{FileRule, RuleFile};
use rustix::fs::{CWD, Mode, OFlags, openat};
use terok_clearance::{Action, DestPattern};

use crate::private_dir::{PrivateDir, open_regular, read_limited};
use crate::project_path::{RULES_ENDING, escape_path, unique_name};
use crate::rule_store::read_rules;
use crate::{FileProblem, RuleStoreError};

/// The usual name of a rule file inside a project.
pub const DEFAULT_TRUSTED_FILE: &str = ".terok-clearance.rules";

/// The directory of accepted rules in the state directory.
const TRUSTED_DIR: &str = "trusted";
const HEADER: &str = "# accepted from: ";

/// A rule file inside a project, as it was read once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrustedFile {
    path: PathBuf,
    file: RuleFile,
}

/// The rules that differ from those accepted last.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RuleDifference {
    /// Rules that were not accepted yet.
    pub added: Vec<FileRule>,
    /// Accepted rules that are not in the file any more; their lines are those of the kept copy.
    pub removed: Vec<FileRule>,
}

/// The rules that the operator accepted, in the state directory.
#[derive(Debug, Clone)]
pub struct TrustedFileState {
    state_dir: PathBuf,
}

/// Reads a rule file that the workload could have written. A missing file has no rules.
///
/// The value does not change when the file does, so that what was shown is what is accepted.
pub fn read_trusted(path: &Path) -> Result<TrustedFile, RuleStoreError> {
    let failed = |problem: FileProblem| problem.at(path);
    let (directory, name) = match (
        path.parent(),
        path.file_name().and_then(|name| name.to_str()),
    ) {
        (Some(parent), Some(name)) if parent.as_os_str().is_empty() => (Path::new("."), name),
        (Some(parent), Some(name)) => (parent, name),
        _ => return Err(failed(FileProblem::NotRegular)),
    };
    let directory = directory
        .canonicalize()
        .map_err(|error| failed(FileProblem::io("cannot find its directory", error)))?;
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let opened = openat(CWD, &directory, flags, Mode::empty())
        .map_err(|error| failed(FileProblem::io("cannot open its directory", error)))?;
    let file = match open_regular(&opened, name).map_err(failed)? {
        Some(file) => RuleFile::parse(&read_limited(file).map_err(failed)?)
            .map_err(|error| failed(FileProblem::Rules(error)))?,
        None => RuleFile::default(),
    };
    let path = directory.join(name);
    Ok(TrustedFile { path, file })
}

impl TrustedFile {
    /// Returns the path without symbolic links.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Returns the rules, which count only if they were accepted.
    pub fn file(&self) -> &RuleFile {
        &self.file
    }
}

impl RuleDifference {
    /// Returns `true` if every rule was accepted before.
    pub fn is_empty(&self) -> bool {
        self.added.is_empty() && self.removed.is_empty()
    }

    fn between(accepted: &RuleFile, current: &RuleFile) -> Self {
        let only = |one: &RuleFile, other: &RuleFile| {
            let other: BTreeSet<_> = other.rules().map(|rule| order_key(&rule)).collect();
            one.rules()
                .filter(|rule| !other.contains(&order_key(rule)))
                .collect()
        };
        Self {
            added: only(current, accepted),
            removed: only(accepted, current),
        }
    }
}

impl TrustedFileState {
    /// Creates the state of trusted files in a state directory, which may be missing.
    pub fn new(state_dir: &Path) -> Self {
        Self {
            state_dir: state_dir.to_owned(),
        }
    }

    /// Compares a file with the rules accepted last. Without a difference the file may count;
    /// every other one has to be shown to the operator first.
    pub fn compare(&self, current: &TrustedFile) -> Result<RuleDifference, RuleStoreError> {
        let accepted = match PrivateDir::open(&self.state_dir.join(TRUSTED_DIR))? {
            Some(directory) => read_accepted(&directory, current)?,
            None => RuleFile::default(),
        };
        Ok(RuleDifference::between(&accepted, &current.file))
    }

    /// Records that the operator accepts the rules of this file.
    pub fn accept(&self, current: &TrustedFile) -> Result<(), RuleStoreError> {
        let directory = PrivateDir::create(&self.state_dir)?.create_below(TRUSTED_DIR)?;
        let lock = directory.lock()?;
        let mut text = format!("{}\n", header_of(current));
        for rule in current.file.rules() {
            let mark = if rule.action == Action::Deny { "!" } else { "" };
            text = text + mark + &rule.pattern.to_string() + "\n";
        }
        let name = name_of(current);
        RuleFile::parse(text.as_bytes())
            .map_err(|error| FileProblem::Rules(error).at(&directory.entry_path(&name)))?;
        directory.replace(&lock, &name, &text)
    }
}

fn name_of(file: &TrustedFile) -> String {
    format!("{}{RULES_ENDING}", unique_name(&file.path))
}

fn header_of(file: &TrustedFile) -> String {
    format!("{HEADER}{}", escape_path(&file.path))
}

fn read_accepted(directory: &PrivateDir, file: &TrustedFile) -> Result<RuleFile, RuleStoreError> {
    let name = name_of(file);
    let Some(accepted) = read_rules(directory, &name)? else {
        return Ok(RuleFile::default());
    };
    let expected = header_of(file);
    if accepted.first_line() == Some(&expected) {
        Ok(accepted)
    } else {
        Err(FileProblem::OtherProject { expected }.at(&directory.entry_path(&name)))
    }
}

fn order_key(rule: &FileRule) -> (bool, DestPattern) {
    (rule.action == Action::Deny, rule.pattern.clone())
}
