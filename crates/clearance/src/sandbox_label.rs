// SPDX-License-Identifier: Apache-2.0
//! The label of a sandbox in user interfaces.

use std::fmt;

use crate::{ContainerId, DisplayText, Dossier};

/// A sandbox's label: `project/task · name`, as far as the parts are known.
///
/// Without a project and a task the label is the name, and without a name the container id. All
/// user interfaces show this label.
///
/// ```
/// use terok_clearance::{Dossier, SandboxLabel};
/// let dossier = [("project", "terok"), ("task", "17"), ("name", "fix the build")];
/// let dossier = Dossier::new(dossier.map(|(key, value)| (key.into(), value.into())).into());
/// let container = "0123456789ab".parse().unwrap();
/// let label = SandboxLabel::new(&container, &dossier);
/// assert_eq!(label.to_string(), "terok/17 \u{b7} fix the build");
/// assert_eq!(label.to_ascii(), "terok/17 (fix the build)");
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SandboxLabel<'a> {
    /// The orchestrator's project; empty if unknown.
    pub project: &'a str,
    /// The task's id in that project; empty if unknown.
    pub task: &'a str,
    /// The task's name, else the container's; empty if unknown.
    pub name: &'a str,
    /// The container's id.
    pub container: &'a str,
}

impl<'a> SandboxLabel<'a> {
    /// Returns the label that a request's dossier gives.
    pub fn new(container: &'a ContainerId, dossier: &'a Dossier) -> Self {
        let value = |key: &str| {
            dossier
                .get(&DisplayText::new(key))
                .map_or("", DisplayText::as_str)
        };
        let name = value("name");
        Self {
            project: value("project"),
            task: value("task"),
            name: if name.is_empty() {
                value("container_name")
            } else {
                name
            },
            container: container.as_str(),
        }
    }

    /// Returns `true` if the label names a project's task.
    pub const fn is_task(&self) -> bool {
        !self.project.is_empty() && !self.task.is_empty()
    }

    /// Returns the label with ASCII signs, for terminals and scripts: `project/task (name)`. The
    /// parts keep their script.
    pub fn to_ascii(&self) -> String {
        let Self {
            project,
            task,
            name,
            ..
        } = self;
        if self.is_task() && !name.is_empty() {
            format!("{project}/{task} ({name})")
        } else {
            self.to_string()
        }
    }
}

impl fmt::Display for SandboxLabel<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            project,
            task,
            name,
            container,
        } = self;
        match (self.is_task(), name.is_empty()) {
            (true, true) => write!(f, "{project}/{task}"),
            (true, false) => write!(f, "{project}/{task} \u{b7} {name}"),
            (false, false) => f.write_str(name),
            (false, true) => f.write_str(container),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(dossier: &[(&str, &str)], expected: &str, ascii: &str) {
        let entries = dossier.iter().map(|(k, v)| ((*k).into(), (*v).into()));
        let dossier = Dossier::new(entries.collect());
        let container = "0123456789ab".parse().unwrap();
        let label = SandboxLabel::new(&container, &dossier);
        assert_eq!(label.to_string(), expected, "of {dossier:?}");
        assert_eq!(label.to_ascii(), ascii, "of {dossier:?}");
    }

    #[test]
    fn a_label_has_the_parts_that_are_known() {
        let both = |text| (text, text);
        let whole = [("project", "p"), ("task", "t"), ("name", "n")];
        check(&whole, "p/t \u{b7} n", "p/t (n)");
        for (dossier, (expected, ascii)) in [
            (&[][..], both("0123456789ab")),
            (&[("project", "p"), ("task", "t")], both("p/t")),
            (&[("project", "p"), ("name", "n")], both("n")),
            (&[("project", "p"), ("task", "")], both("0123456789ab")),
            (&[("container_name", "c")], both("c")),
            (&[("name", ""), ("container_name", "c")], both("c")),
            (&[("name", "n"), ("container_name", "c")], both("n")),
        ] {
            check(dossier, expected, ascii);
        }
    }
}
