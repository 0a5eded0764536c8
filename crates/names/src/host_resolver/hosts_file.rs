// SPDX-License-Identifier: Apache-2.0
//! Finds a name in a hosts file (hosts(5)).

use std::fs::File;
use std::io::{self, BufRead as _, BufReader};
use std::net::IpAddr;
use std::path::Path;

use terok_clearance::DomainName;

/// Returns the addresses of all lines with `name`, each once, in their order.
///
/// The file is scanned at each call, as the C library does; nothing is kept.
pub(super) fn find_addresses(path: &Path, name: &DomainName) -> io::Result<Vec<IpAddr>> {
    let mut file = BufReader::new(File::open(path)?);
    let mut addresses = Vec::new();
    let mut line = Vec::new();
    while file.read_until(b'\n', &mut line)? != 0 {
        if let Some(address) = address_of(&line, name)
            && !addresses.contains(&address)
        {
            addresses.push(address);
        }
        line.clear();
    }
    Ok(addresses)
}

/// Maximum names that [`read_host_labels`] returns.
const MAX_HOST_LABELS: usize = 1_000;

/// Returns the names of one label in a hosts file, those of loopback addresses left out. A file
/// that cannot be read has none.
///
/// The C library looks such a name up in the hosts file before it appends search domains.
pub fn read_host_labels(path: &Path) -> Vec<DomainName> {
    let Ok(bytes) = std::fs::read(path) else {
        return Vec::new();
    };
    let mut labels = Vec::new();
    for line in bytes.split(|byte| *byte == b'\n') {
        let text = line.split(|byte| *byte == b'#').next().unwrap_or_default();
        let Ok(text) = str::from_utf8(text) else {
            continue;
        };
        let mut words = text.split_ascii_whitespace();
        let address = words.next().and_then(|word| word.parse::<IpAddr>().ok());
        if address.is_none_or(|address| address.is_loopback()) {
            continue;
        }
        labels.extend(
            words
                .filter(|word| !word.contains('.'))
                .filter_map(|word| word.parse::<DomainName>().ok()),
        );
    }
    labels.truncate(MAX_HOST_LABELS);
    labels
}

/// Returns the address of a line with `name`. Addresses with a scope (`fe80::1%eth0`) are skipped:
/// link-local destinations are not allowed.
fn address_of(line: &[u8], name: &DomainName) -> Option<IpAddr> {
    let text = line.split(|byte| *byte == b'#').next()?;
    let mut words = text
        .split(u8::is_ascii_whitespace)
        .filter(|word| !word.is_empty());
    let address = words.next()?;
    let is_name = |word: &[u8]| {
        let word = word.strip_suffix(b".").unwrap_or(word);
        word.eq_ignore_ascii_case(name.as_str().as_bytes())
    };
    if words.any(is_name) {
        str::from_utf8(address).ok()?.parse().ok()
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_one_label_are_those_without_a_dot_or_a_loopback_address() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("hosts");
        let hosts = "127.0.0.1 localhost box\n::1 ip6-localhost\n192.0.2.1 Nas nas.lan # printer\n\
                     not-an-address x\n2001:db8::1 pi\n\n";
        std::fs::write(&path, hosts).unwrap();
        let labels: Vec<_> = read_host_labels(&path)
            .iter()
            .map(ToString::to_string)
            .collect();
        assert_eq!(labels, ["nas", "pi"]);
        assert!(read_host_labels(&dir.path().join("none")).is_empty());
    }

    #[test]
    fn all_lines_with_the_name_count() {
        const HOSTS: &[u8] = b"127.0.0.1 localhost\n\
            # 192.0.2.9 wiki.corp.test\n\
            \t192.0.2.1\tother.test  Wiki.corp.TEST # a comment wiki2.test\n\
            192.0.2.1 wiki.corp.test\n\
            2001:db8::1 wiki.corp.test.\r\n\
            fe80::1%eth0 wiki.corp.test\n\
            not-an-address wiki.corp.test\n\
            \xff\xfe wiki.corp.test\n\
            192.0.2.7\n\
            192.0.2.8 last.test";
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("hosts");
        std::fs::write(&path, HOSTS).unwrap();
        let check = |name: &str, expected: &[&str]| {
            let found = find_addresses(&path, &name.parse().unwrap()).unwrap();
            let expected: Vec<IpAddr> = expected.iter().map(|text| text.parse().unwrap()).collect();
            assert_eq!(found, expected, "of {name}");
        };
        check("wiki.corp.test", &["192.0.2.1", "2001:db8::1"]);
        check("other.test", &["192.0.2.1"]);
        check("last.test", &["192.0.2.8"]);
        check("wiki2.test", &[]);
        check("corp.test", &[]);
        assert!(find_addresses(&dir.path().join("none"), &"a.test".parse().unwrap()).is_err());
    }
}
