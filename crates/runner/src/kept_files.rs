// SPDX-License-Identifier: Apache-2.0
//! The files of answers that last, for the supervisor.

use policy::{RuleEditError, RuleFile};
use store::{ProjectPath, RuleStore, RuleStoreError};
use supervisor::{KeptAnswers, KeptPlace, KeptRule};
use terok_clearance::{DisplayText, error_chain};

/// The files of a project and of every sandbox.
#[derive(Debug, Clone)]
pub struct KeptFiles {
    /// The operator's rule files.
    pub store: RuleStore,
    /// The project of the run; `None` for a sandbox of no project.
    pub project: Option<ProjectPath>,
}

impl KeptFiles {
    fn read(&self, place: KeptPlace) -> Result<RuleFile, RuleStoreError> {
        match (place, &self.project) {
            (KeptPlace::Project, Some(project)) => self.store.load_project(project),
            (KeptPlace::Project, None) => Ok(RuleFile::default()),
            (KeptPlace::Always, _) => self.store.load_always(),
        }
    }

    fn edit(
        &self,
        place: KeptPlace,
        edit: impl FnOnce(&mut RuleFile) -> Result<(), RuleEditError>,
    ) -> Result<(), DisplayText> {
        let edited = match (place, &self.project) {
            (KeptPlace::Project, Some(project)) => self.store.edit_project(project, edit),
            (KeptPlace::Project, None) => {
                let text = "the sandbox belongs to no project: choose another time";
                return Err(DisplayText::new(text));
            }
            (KeptPlace::Always, _) => self.store.edit_always(edit),
        };
        edited.map_err(|error| error_chain(&error))
    }
}

impl KeptAnswers for KeptFiles {
    fn load(&self, place: KeptPlace) -> Result<Vec<KeptRule>, DisplayText> {
        let file = self.read(place).map_err(|error| error_chain(&error))?;
        let rules = file.rules().map(|rule| KeptRule {
            action: rule.action,
            pattern: rule.pattern,
        });
        Ok(rules.collect())
    }

    fn keep(&self, place: KeptPlace, rule: &KeptRule, comment: &str) -> Result<(), DisplayText> {
        self.edit(place, |file| {
            file.add(rule.action, &rule.pattern, Some(comment))
                .map(drop)
        })
    }

    fn forget(&self, place: KeptPlace, rule: &KeptRule) -> Result<(), DisplayText> {
        self.edit(place, |file| {
            file.remove(rule.action, &rule.pattern).map(drop)
        })
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use terok_clearance::Action;

    use super::*;

    #[test]
    fn answers_are_kept_in_the_file_of_their_place() {
        let directory = tempfile::tempdir().unwrap();
        let permissions = std::fs::Permissions::from_mode(0o700);
        std::fs::set_permissions(directory.path(), permissions).unwrap();
        let files = KeptFiles {
            store: RuleStore::open(&directory.path().join("config")).unwrap(),
            project: Some(ProjectPath::find(directory.path()).unwrap()),
        };
        let rule = |action, pattern: &str| KeptRule {
            action,
            pattern: pattern.parse().unwrap(),
        };
        let allow = rule(Action::Allow, "a.example:443/tcp");
        let deny = rule(Action::Deny, "a.example:443/tcp");
        files.keep(KeptPlace::Project, &allow, "web:1").unwrap();
        files.keep(KeptPlace::Always, &deny, "web:2").unwrap();
        assert_eq!(files.load(KeptPlace::Project), Ok(vec![allow.clone()]));
        files.keep(KeptPlace::Project, &deny, "web:3").unwrap();
        assert_eq!(files.load(KeptPlace::Project), Ok(vec![deny.clone()]));
        files.forget(KeptPlace::Project, &deny).unwrap();
        assert_eq!(files.load(KeptPlace::Project), Ok(Vec::new()));
        assert_eq!(files.load(KeptPlace::Always), Ok(vec![deny]));
        let path = files.store.always_path();
        std::fs::write(&path, "not a rule\n").unwrap();
        assert!(files.load(KeptPlace::Always).is_err());
        assert!(files.keep(KeptPlace::Always, &allow, "").is_err());
    }
}
