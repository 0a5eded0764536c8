// SPDX-License-Identifier: Apache-2.0
//! Rule files, which an editor, another program or a workload may have written, and their edits.
#![no_main]

use libfuzzer_sys::fuzz_target;
use policy::RuleFile;
use terok_clearance::{Action, DestPattern};

/// Returns the rules without their lines.
fn rules(file: &RuleFile) -> Vec<(Action, DestPattern)> {
    file.rules()
        .map(|rule| (rule.action, rule.pattern))
        .collect()
}

fuzz_target!(|input: (u8, &[u8])| {
    let (choice, bytes) = input;
    let file = match RuleFile::parse(bytes) {
        Ok(file) => file,
        Err(error) => {
            let ordered = error.lines().is_sorted_by_key(|line| line.line);
            assert!(ordered && !error.to_string().contains('\n'));
            return;
        }
    };
    assert_eq!(
        file.render().as_bytes(),
        bytes,
        "a file is kept byte for byte"
    );
    let before = rules(&file);
    assert_eq!(before.len(), file.rule_count());
    assert!(
        !before
            .iter()
            .any(|(action, dest)| *action == Action::Allow && dest.is_floor()),
        "the floor is never allowed"
    );
    // An edit of one of its rules, or of another one.
    let mut edited = file.clone();
    let action = if choice & 1 == 0 {
        Action::Allow
    } else {
        Action::Deny
    };
    let other = "other.example:443".parse().expect("a pattern");
    let dest = before
        .get(usize::from(choice >> 3))
        .map_or(other, |(_, dest)| dest.clone());
    let outcome = match choice >> 1 & 3 {
        0 | 1 => edited.add(action, &dest, Some("by a fuzzer")),
        2 => edited.remove(action, &dest),
        _ => edited.set_action(action, &dest),
    };
    let after = rules(&edited);
    if outcome.is_err() {
        assert_eq!(edited, file, "a refused edit changes nothing");
        return;
    }
    assert_eq!(
        RuleFile::parse(edited.render().as_bytes()).as_ref(),
        Ok(&edited)
    );
    for rule in &after {
        assert!(
            before.contains(rule) || *rule == (action, dest.clone()),
            "{rule:?} is new"
        );
    }
    for rule in &before {
        assert!(after.contains(rule) || rule.1 == dest, "{rule:?} is lost");
    }
});
