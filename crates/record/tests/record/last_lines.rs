// SPDX-License-Identifier: Apache-2.0
//! The last lines of a record, in files of every size and with every limit.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use proptest::prelude::*;
use terok_clearance_record::{FILE_NAME, LastLines, ReadRecordError, RecordFileError};
use test_support::directory::private_directory;

fn newest_first(lines: &LastLines) -> Vec<String> {
    let lines = lines.newest_first();
    lines
        .map(|line| String::from_utf8(line.to_vec()).unwrap())
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn the_last_lines_are_the_end_of_all_files(
        files in prop::collection::vec(prop::collection::vec("[a-c]{1,5}", 0..6), 1..4),
        limit in 1_u64..80,
    ) {
        let directory = private_directory();
        let path = directory.path().join(FILE_NAME);
        // The first file is the newest, and each has its lines in order.
        let mut expected = Vec::new();
        let mut left = usize::try_from(limit).unwrap();
        for (number, lines) in files.iter().enumerate() {
            let suffix = if number == 0 { String::new() } else { format!(".{number}") };
            let text: String = lines.iter().flat_map(|line| [line.as_str(), "\n"]).collect();
            fs::write(format!("{}{suffix}", path.display()), &text).unwrap();
            let kept = left.min(text.len());
            let mut length = 0;
            for line in lines.iter().rev() {
                length += line.len() + 1;
                if length <= kept {
                    expected.push(line.clone());
                }
            }
            left -= kept;
        }
        let found = LastLines::read(&path, limit).unwrap();
        prop_assert_eq!(newest_first(&found), expected);
    }
}

#[test]
fn a_missing_newest_file_is_a_rotation() {
    let directory = private_directory();
    let path = directory.path().join(FILE_NAME);
    let missing = LastLines::read(&path, 100);
    assert!(matches!(missing, Err(ReadRecordError::Missing(_))));
    fs::write(format!("{}.1", path.display()), "one\ntwo").unwrap();
    let found = LastLines::read(&path, 100).unwrap();
    assert_eq!(newest_first(&found), ["two", "one"]);
}

#[test]
fn a_file_that_others_may_write_is_not_read() {
    let directory = private_directory();
    let path = directory.path().join(FILE_NAME);
    fs::write(&path, "one\n").unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o666)).unwrap();
    let refused = LastLines::read(&path, 100);
    assert!(matches!(
        refused,
        Err(ReadRecordError::File(RecordFileError::OthersWrite(_)))
    ));
}
