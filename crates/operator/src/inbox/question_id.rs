// SPDX-License-Identifier: Apache-2.0
//! Ids of questions that a person can type: the sandbox's name and the number, `web:17`.
//!
//! A request id contains the id of the container, up to 64 hexadecimal digits, and often a number
//! of 16 digits. The short form has the name instead while one sandbox alone has that name, and the
//! end of the number; otherwise the whole id is shown. An id that two pending questions have is
//! refused.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use terok_clearance::{ContainerId, DisplayText, Dossier, RequestId};

use super::row::Row;
use super::{HubId, Inbox, RowNumber};

/// Maximum length of a name in a short id.
const MAX_NAME_BYTES: usize = 32;
/// Characters of a container id in a short id, as container engines print it.
const SHORT_CONTAINER_CHARS: usize = 12;
/// Maximum length of a number that is shown whole.
const WHOLE_NUMBER_DIGITS: usize = 6;
/// The last digits that are shown of a longer number.
const SHORT_NUMBER_DIGITS: usize = 4;

/// The sandboxes that have rows, by each of their names.
#[derive(Debug, Default)]
pub(super) struct SandboxIndex {
    /// The number of rows of each sandbox.
    sandboxes: HashMap<Arc<str>, BTreeMap<(HubId, ContainerId), usize>>,
}

impl SandboxIndex {
    pub(super) fn add_row(&mut self, row: &Row) {
        let sandbox = (row.hub().clone(), row.container().clone());
        for name in names(row) {
            let sandboxes = self.sandboxes.entry(name).or_default();
            let rows = sandboxes.entry(sandbox.clone()).or_default();
            *rows = rows.saturating_add(1);
        }
    }

    pub(super) fn remove_row(&mut self, row: &Row) {
        let sandbox = (row.hub().clone(), row.container().clone());
        for name in names(row) {
            let Some(sandboxes) = self.sandboxes.get_mut(&name) else {
                continue;
            };
            if let Some(rows) = sandboxes.get_mut(&sandbox) {
                *rows = rows.saturating_sub(1);
                if *rows == 0 {
                    sandboxes.remove(&sandbox);
                }
            }
            if sandboxes.is_empty() {
                self.sandboxes.remove(&name);
            }
        }
    }

    /// Returns `true` if another sandbox has one of the names of this row's short id.
    fn is_ambiguous(&self, row: &Row) -> bool {
        let sandboxes = self.sandboxes.get(&*row.short_name);
        let mut others = sandboxes.into_iter().flat_map(BTreeMap::keys);
        others.any(|(hub, container)| (hub, container) != (row.hub(), row.container()))
    }
}

/// Returns the number in short ids. A reader starts with a time, so that a restarted one repeats no
/// number; its questions follow each other, and differ in the last digits.
fn short_number(number: &str) -> &str {
    if number.len() <= WHOLE_NUMBER_DIGITS {
        return number;
    }
    let start = number.len().saturating_sub(SHORT_NUMBER_DIGITS);
    number.get(start..).unwrap_or(number)
}

/// Returns `true` if `given` is the number of a request, whole or as short ids have it.
pub(crate) fn is_request_number(whole: &str, given: &str) -> bool {
    whole == given || short_number(whole) == given
}

/// Returns the names under which a row's sandbox is found, each once.
fn names(row: &Row) -> Vec<Arc<str>> {
    let container = row.container().as_str();
    let mut names = vec![
        Arc::clone(&row.short_name),
        container.into(),
        short_container(container).into(),
    ];
    names.sort_unstable();
    names.dedup();
    names
}

/// Returns the name of a sandbox in short ids: the name in its dossier if that can be typed
/// without quotes, else the container's id.
pub(super) fn short_name(container: &ContainerId, dossier: &Dossier) -> Arc<str> {
    let named = |key: &str| dossier.get(&DisplayText::new(key)).map(DisplayText::as_str);
    let name = ["name", "container_name"].into_iter().find_map(named);
    let name = name.filter(|name| is_typable(name));
    name.unwrap_or_else(|| short_container(container.as_str()))
        .into()
}

fn is_typable(name: &str) -> bool {
    let typed = |c: char| c.is_ascii_alphanumeric() || "._/@+-".contains(c);
    name.len() <= MAX_NAME_BYTES
        && name.starts_with(|c: char| c.is_ascii_alphanumeric())
        && name.chars().all(typed)
}

/// Returns the short form of a hexadecimal container id, and other ids as they are.
fn short_container(id: &str) -> &str {
    let is_hex = id.bytes().all(|byte| byte.is_ascii_hexdigit());
    match id.get(..SHORT_CONTAINER_CHARS) {
        Some(short) if is_hex => short,
        _ => id,
    }
}

/// Returns the number of a request, the part of its id after the container.
fn request_number<'a>(request: &'a RequestId, container: &ContainerId) -> Option<&'a str> {
    let rest = request.as_str().strip_prefix(container.as_str())?;
    let number = rest.strip_prefix(':')?;
    let is_number = !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then_some(number)
}

impl Inbox {
    /// Returns the id by which a person names the newest question of the row: `web:17` while one
    /// sandbox alone is called `web`, otherwise the request id.
    pub fn question_id(&self, row: &Row) -> String {
        let request = &row.request().id;
        match request_number(request, row.container()) {
            Some(number) if !self.sandbox_index.is_ambiguous(row) => {
                format!("{}:{}", row.short_name, short_number(number))
            }
            _ => request.to_string(),
        }
    }

    /// Returns the rows of all hubs that have the question `id`, each with the request id: by the
    /// request id, and by the short form with any name of the sandbox.
    pub fn find_question(&self, id: &str) -> Vec<(RowNumber, RequestId)> {
        let exact = self.hubs.keys().filter_map(|hub| {
            let row = self.find_row(hub, id)?;
            Some((row, id.parse().ok()?))
        });
        let mut found: BTreeMap<RowNumber, RequestId> = exact.collect();
        if let Some((name, number)) = id.rsplit_once(':')
            && let Some(sandboxes) = self.sandbox_index.sandboxes.get(name)
        {
            for (hub, container) in sandboxes.keys() {
                let requests = self.hubs.get(hub).map(|hub| &hub.requests);
                for (request, (row, _)) in requests.into_iter().flatten() {
                    let whole = request_number(request, container);
                    if whole.is_some_and(|whole| is_request_number(whole, number)) {
                        found.entry(*row).or_insert_with(|| request.clone());
                    }
                }
            }
        }
        found.into_iter().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_need_no_quotes_are_used_in_ids() {
        let hex = "0123456789ab".repeat(5) + "0123";
        let check = |container: &str, name: Option<&str>, expected: &str| {
            let entry = name.map(|name| (DisplayText::new("name"), DisplayText::new(name)));
            let dossier = Dossier::new(entry.into_iter().collect());
            let container = container.parse().unwrap();
            assert_eq!(&*short_name(&container, &dossier), expected, "{name:?}");
        };
        check(&hex, Some("web"), "web");
        check(&hex, Some("python3.13"), "python3.13");
        check(&hex, None, "0123456789ab");
        for name in [
            "",
            "a b",
            "a:1",
            "$(x)",
            "-x",
            "*",
            "a\u{1b}b",
            &"x".repeat(33),
        ] {
            check(&hex, Some(name), "0123456789ab");
        }
        check("my-container-42", None, "my-container-42");
    }

    #[test]
    fn long_numbers_are_shown_by_their_end() {
        for (number, short) in [
            ("17", "17"),
            ("999999", "999999"),
            ("1795956692905345", "5345"),
            ("1795956692900045", "0045"),
        ] {
            assert_eq!(short_number(number), short);
        }
    }

    #[test]
    fn only_ids_of_a_container_and_a_number_are_shortened() {
        let number = |request: &str| {
            let request: RequestId = request.parse().unwrap();
            request_number(&request, &"web".parse().unwrap()).map(str::to_owned)
        };
        assert_eq!(number("web:17").as_deref(), Some("17"));
        for other in ["web:", "web:x", "web2:1", "17", "web:1:2", "web:-1"] {
            assert_eq!(number(other), None, "{other}");
        }
    }
}
