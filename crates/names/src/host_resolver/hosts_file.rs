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
