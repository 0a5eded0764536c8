// SPDX-License-Identifier: Apache-2.0
//! The commented example of a file.

use crate::SettingKey;

/// Columns of a comment.
const COLUMNS: usize = 96;

/// Returns a file with every key, its meaning and its default. Every key is commented out, so that
/// the file as it is changes nothing.
pub fn example_file(title: &str, keys: &[SettingKey]) -> String {
    let mut lines = comment(title);
    let mut table = "";
    for key in keys {
        lines.push(String::new());
        if key.table != table {
            table = key.table;
            lines.push(format!("[{table}]"));
        }
        lines.extend(comment(key.meaning));
        lines.extend(match (key.default, key.example) {
            (Some(default), Some(_)) => comment(&format!("Default: {default}")),
            (Some(_), None) => Vec::new(),
            (None, _) => comment(&format!("Default: {}", key.unset)),
        });
        let value = key.example_value().unwrap_or_default();
        lines.push(format!("#{} = {value}", key.name));
    }
    lines.push(String::new());
    lines.join("\n")
}

/// Breaks a text into lines of a comment.
fn comment(text: &str) -> Vec<String> {
    let mut lines = Vec::new();
    let mut line = "#".to_owned();
    for word in text.split_whitespace() {
        let length = line.chars().count().saturating_add(word.chars().count());
        if length >= COLUMNS && line != "#" {
            lines.push(std::mem::replace(&mut line, "#".to_owned()));
        }
        line.push(' ');
        line.push_str(word);
    }
    lines.push(line);
    lines
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::{ORGANISATION_KEYS, SettingsFile, USER_KEYS};

    #[test]
    fn the_example_parses_with_and_without_its_comment_signs() {
        for keys in [USER_KEYS, ORGANISATION_KEYS] {
            let example = example_file("An example.", keys);
            assert!(example.lines().all(|line| line.len() <= 100), "{example}");
            let parse = |text: &str| {
                let parsed = SettingsFile::parse(Path::new("x"), text, keys, &|_, _| Ok(()));
                parsed.unwrap().entries().count()
            };
            assert_eq!(parse(&example), 0);
            let in_force: String = example
                .lines()
                .map(|line| match line.strip_prefix('#') {
                    Some(rest) if !rest.starts_with(' ') => format!("{rest}\n"),
                    _ => format!("{line}\n"),
                })
                .collect();
            assert_eq!(parse(&in_force), keys.len(), "{in_force}");
        }
    }
}
