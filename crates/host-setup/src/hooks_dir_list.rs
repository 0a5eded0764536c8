// SPDX-License-Identifier: Apache-2.0
//! The list `hooks_dir` in the text of a `containers.conf`, containers.conf(5).
//!
//! An edit inserts or removes bytes at a place that the parser names; all other bytes stay. The
//! result is parsed again, and refused if anything but the list has changed.

use std::ops::Range;

use serde_json::{Map, Value as Json};
use toml_edit::{Array, Document, Item, TableLike, Value};

/// The directories that podman uses without a list, the stronger last.
pub const DEFAULT_HOOKS_DIRS: [&str; 2] = [
    "/usr/share/containers/oci/hooks.d",
    "/etc/containers/oci/hooks.d",
];

const SECTION: &str = "engine";
const KEY: &str = "hooks_dir";

/// A text cannot be read or edited.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum HooksDirError {
    /// The text is no TOML.
    #[error("line {line} is not TOML: {message}")]
    Syntax {
        /// The number of the line, from 1.
        line: usize,
        /// The message of the parser.
        message: String,
    },
    /// The value is no list of strings.
    #[error("hooks_dir of [engine] is not a list of strings")]
    NotList,
    /// The text is written in a way that is not edited.
    #[error("[engine] is written in a way that cannot be edited safely")]
    Unsupported,
}

/// The directories of a list.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct HooksDirList {
    /// The directories, in order.
    pub directories: Vec<String>,
    /// Whether they are added to those of earlier files (`{append=true}`).
    pub append: bool,
}

/// A text with one more directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AddedHooksDir {
    /// The text.
    pub text: String,
    /// The lines that were added for the list; `None` if there was one.
    pub inserted: Option<String>,
}

/// Returns the list in `text`; `None` if there is none.
pub fn read_hooks_dirs(text: &str) -> Result<Option<HooksDirList>, HooksDirError> {
    let document = parse(text)?;
    let Some(item) = find_list(&document) else {
        return Ok(None);
    };
    let array = item.as_array().ok_or(HooksDirError::NotList)?;
    let mut list = HooksDirList::default();
    for value in array {
        match value {
            Value::String(directory) => list.directories.push(directory.value().clone()),
            Value::InlineTable(attributes) => {
                list.append = attributes.get("append").and_then(Value::as_bool) == Some(true);
            }
            _ => return Err(HooksDirError::NotList),
        }
    }
    Ok(Some(list))
}

/// Adds `directory` to the list in `text`; `None` if the list has it. Without a list, one with
/// `inherited` and `directory` is added, because it replaces the list of earlier files.
pub fn add_hooks_dir(
    text: &str,
    directory: &str,
    inherited: &[String],
) -> Result<Option<AddedHooksDir>, HooksDirError> {
    let document = parse(text)?;
    let mut expected = tree(&document)?;
    let added = match read_hooks_dirs(text)? {
        Some(list) if list.directories.iter().any(|known| known == directory) => return Ok(None),
        Some(_) => {
            let array = find_list(&document).and_then(Item::as_array);
            let array = array.ok_or(HooksDirError::Unsupported)?;
            let text = insert_element(text, array, directory)?;
            let list = list_of(&mut expected).ok_or(HooksDirError::Unsupported)?;
            list.push(directory.into());
            AddedHooksDir {
                text,
                inserted: None,
            }
        }
        None => {
            let mut all = inherited.to_vec();
            all.push(directory.to_owned());
            let added = insert_list(text, &document, &all)?;
            let section = expected.entry(SECTION).or_insert_with(|| Map::new().into());
            let section = section.as_object_mut().ok_or(HooksDirError::Unsupported)?;
            section.insert(KEY.to_owned(), all.into());
            added
        }
    };
    check_tree(&added.text, &expected)?;
    Ok(Some(added))
}

/// Removes `directory` from the list in `text`; `None` if the list does not have it. `inserted`
/// are the lines that were added for it: if they are still there, they are removed.
pub fn remove_hooks_dir(
    text: &str,
    directory: &str,
    inserted: Option<&str>,
) -> Result<Option<String>, HooksDirError> {
    let document = parse(text)?;
    let Some(list) = read_hooks_dirs(text)? else {
        return Ok(None);
    };
    if !list.directories.iter().any(|known| known == directory) {
        return Ok(None);
    }
    let mut expected = tree(&document)?;
    if let Some(without) = inserted.and_then(|lines| without_lines(text, lines)) {
        let mut without_list = expected.clone();
        if let Some(section) = without_list.get_mut(SECTION).and_then(Json::as_object_mut) {
            section.remove(KEY);
        }
        if check_tree(&without, &without_list).is_ok() {
            return Ok(Some(without));
        }
    }
    let array = find_list(&document).and_then(Item::as_array);
    let array = array.ok_or(HooksDirError::Unsupported)?;
    let position = array.iter().position(|one| one.as_str() == Some(directory));
    let position = position.ok_or(HooksDirError::Unsupported)?;
    let range = element_range(text, array, position).ok_or(HooksDirError::Unsupported)?;
    let mut edited = text.to_owned();
    edited.replace_range(range, "");
    let list = list_of(&mut expected).ok_or(HooksDirError::Unsupported)?;
    if position < list.len() {
        list.remove(position);
    }
    check_tree(&edited, &expected)?;
    // A directory that was listed twice.
    Ok(Some(
        remove_hooks_dir(&edited, directory, None)?.unwrap_or(edited),
    ))
}

fn parse(text: &str) -> Result<Document<&str>, HooksDirError> {
    Document::parse(text).map_err(|error| {
        let before = error.span().and_then(|span| text.get(..span.start));
        HooksDirError::Syntax {
            line: before.unwrap_or_default().matches('\n').count() + 1,
            message: error.message().replace('\n', "; "),
        }
    })
}

fn find_list<'a>(document: &'a Document<&str>) -> Option<&'a Item> {
    document.get(SECTION)?.as_table_like()?.get(KEY)
}

/// Inserts an element after the last one, written like it.
fn insert_element(text: &str, array: &Array, directory: &str) -> Result<String, HooksDirError> {
    let spans: Option<Vec<_>> = array.iter().map(Value::span).collect();
    let spans = spans.ok_or(HooksDirError::Unsupported)?;
    let quoted = quote(directory);
    let (at, inserted) = match spans.as_slice() {
        [] => {
            let open = array.span().ok_or(HooksDirError::Unsupported)?;
            (open.start.saturating_add(1), quoted)
        }
        [.., last] => {
            let before = text.get(..last.start).unwrap_or_default();
            let line = before.rsplit('\n').next().unwrap_or_default();
            let is_own_line = line.len() < before.len() && line.trim().is_empty();
            let inserted = if is_own_line {
                format!(",{}{line}{quoted}", line_end(text))
            } else {
                format!(", {quoted}")
            };
            (last.end, inserted)
        }
    };
    let mut edited = text.to_owned();
    edited.insert_str(at, &inserted);
    Ok(edited)
}

/// Inserts lines with a list.
fn insert_list(
    text: &str,
    document: &Document<&str>,
    directories: &[String],
) -> Result<AddedHooksDir, HooksDirError> {
    let end = line_end(text);
    let quoted: Vec<_> = directories.iter().map(|one| quote(one)).collect();
    let line = format!("{KEY} = [{}]{end}", quoted.join(", "));
    let section = document.get(SECTION);
    let (at, inserted) = match section {
        // A header such as [engine.runtimes] alone does not write the section.
        None => (text.len(), format!("[{SECTION}]{end}{line}")),
        Some(Item::Table(table)) if table.is_dotted() => (0, format!("{SECTION}.{line}")),
        Some(Item::Table(table)) if table.is_implicit() => {
            (text.len(), format!("[{SECTION}]{end}{line}"))
        }
        Some(Item::Table(table)) => {
            let header = table.span().ok_or(HooksDirError::Unsupported)?;
            let rest = text.get(header.end..).unwrap_or_default();
            let header_end = match rest.find('\n') {
                Some(at) => header.end.saturating_add(at).saturating_add(1),
                None => text.len(),
            };
            (header_end, line)
        }
        Some(_) => return Err(HooksDirError::Unsupported),
    };
    let (before, after) = text
        .split_at_checked(at)
        .ok_or(HooksDirError::Unsupported)?;
    let is_line_start = before.is_empty() || before.ends_with('\n');
    let inserted = if is_line_start {
        inserted
    } else {
        format!("{end}{inserted}")
    };
    Ok(AddedHooksDir {
        text: format!("{before}{inserted}{after}"),
        inserted: Some(inserted),
    })
}

/// Returns the line end of a text.
fn line_end(text: &str) -> &'static str {
    if text.contains("\r\n") { "\r\n" } else { "\n" }
}

/// Returns `text` without `lines`, if it has them once.
fn without_lines(text: &str, lines: &str) -> Option<String> {
    let (before, after) = text.split_once(lines)?;
    (!after.contains(lines)).then(|| format!("{before}{after}"))
}

/// Returns what to remove for an element: with a comma, and without a comment.
fn element_range(text: &str, array: &Array, position: usize) -> Option<Range<usize>> {
    let own = array.get(position)?.span()?;
    let has_comment = |range: Range<usize>| text.get(range).is_none_or(|one| one.contains('#'));
    if let Some(previous) = position.checked_sub(1) {
        let previous = array.get(previous)?.span()?;
        if !has_comment(previous.end..own.start) {
            return Some(previous.end..own.end);
        }
    } else if let Some(next) = array.get(position.saturating_add(1)) {
        let next = next.span()?;
        if !has_comment(own.end..next.start) {
            return Some(own.start..next.start);
        }
    }
    let rest = text.get(own.end..)?;
    let comma = rest.len().saturating_sub(rest.trim_start().len());
    let has_comma = rest.trim_start().starts_with(',');
    let end = if has_comma {
        own.end.saturating_add(comma).saturating_add(1)
    } else {
        own.end
    };
    Some(own.start..end)
}

/// Returns a basic string of TOML.
fn quote(text: &str) -> String {
    let mut quoted = "\"".to_owned();
    for c in text.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            c if c.is_control() => quoted.extend(format!("\\u{:04X}", u32::from(c)).chars()),
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}

fn list_of(tree: &mut Map<String, Json>) -> Option<&mut Vec<Json>> {
    tree.get_mut(SECTION)?.get_mut(KEY)?.as_array_mut()
}

fn check_tree(text: &str, expected: &Map<String, Json>) -> Result<(), HooksDirError> {
    let mut found = tree(&parse(text)?)?;
    let mut expected = expected.clone();
    for one in [&mut found, &mut expected] {
        // A section without a key is as good as none.
        let section = one.get(SECTION).and_then(Json::as_object);
        if section.is_some_and(Map::is_empty) {
            one.remove(SECTION);
        }
    }
    if found == expected {
        Ok(())
    } else {
        Err(HooksDirError::Unsupported)
    }
}

/// Returns the content of a text, for comparison.
fn tree(document: &Document<&str>) -> Result<Map<String, Json>, HooksDirError> {
    table_tree(document.as_table()).ok_or(HooksDirError::Unsupported)
}

fn table_tree(table: &dyn TableLike) -> Option<Map<String, Json>> {
    let entries = table.iter();
    let entries = entries.map(|(key, item)| Some((key.to_owned(), item_tree(item)?)));
    entries.collect()
}

fn item_tree(item: &Item) -> Option<Json> {
    Some(match item {
        Item::None => return None,
        Item::Value(value) => value_tree(value)?,
        Item::Table(table) => table_tree(table)?.into(),
        Item::ArrayOfTables(tables) => {
            let tables = tables.iter().map(|table| Some(table_tree(table)?.into()));
            Json::Array(tables.collect::<Option<_>>()?)
        }
    })
}

fn value_tree(value: &Value) -> Option<Json> {
    Some(match value {
        Value::String(text) => text.value().clone().into(),
        Value::Integer(number) => (*number.value()).into(),
        // JSON has no infinity; the bits tell zeros apart, too.
        Value::Float(number) => format!("float {:x}", number.value().to_bits()).into(),
        Value::Boolean(flag) => (*flag.value()).into(),
        Value::Datetime(time) => format!("time {}", time.value()).into(),
        Value::Array(values) => {
            let values = values.iter().map(value_tree);
            Json::Array(values.collect::<Option<_>>()?)
        }
        Value::InlineTable(table) => table_tree(table)?.into(),
    })
}

#[cfg(test)]
mod tests;
