// SPDX-License-Identifier: Apache-2.0
//! Reads the host's `resolv.conf` (resolv.conf(5)), which the host's programs may change at any
//! time.

use std::fs::File;
use std::io::{self, Read as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};
use std::path::Path;

use terok_clearance::DomainName;

use crate::dns::DNS_PORT;

/// Maximum bytes of the file that are read.
const MAX_FILE_BYTES: u64 = 64 * 1024;
/// Maximum name servers, the limit of the C library (`MAXNS`).
const MAX_NAME_SERVERS: usize = 3;

/// Returns the search domains of a `resolv.conf`: those of the last `search` or `domain` line.
///
/// Entries that are not host names, such as `.`, are left out. A file that cannot be read has none.
pub fn read_search_domains(resolv_conf: &Path) -> Vec<String> {
    read_limited(resolv_conf)
        .inspect_err(|error| {
            tracing::debug!(path = %resolv_conf.display(), %error, "search domains not read");
        })
        .map(|text| parse_search_domains(&text))
        .unwrap_or_default()
}

/// Returns the addresses of the name servers in the text of a `resolv.conf`, without the interfaces
/// of link-local ones. The file may be that of a sandbox.
pub fn parse_server_addresses(text: &str) -> Vec<IpAddr> {
    let words = name_server_words(text).filter_map(|word| {
        let address = word.split_once('%').map_or(word, |(address, _)| address);
        Some(address.parse::<IpAddr>().ok()?.to_canonical())
    });
    words.take(MAX_NAME_SERVERS).collect()
}

/// Returns the name servers of a `resolv.conf`; without any, this machine, as the C library does.
pub(crate) fn read_name_servers(resolv_conf: &Path) -> io::Result<Vec<SocketAddr>> {
    let mut servers = parse_name_servers(&read_limited(resolv_conf)?);
    if servers.is_empty() {
        servers.push((Ipv4Addr::LOCALHOST, DNS_PORT).into());
    }
    Ok(servers)
}

fn read_limited(path: &Path) -> io::Result<String> {
    let mut bytes = Vec::new();
    File::open(path)?
        .take(MAX_FILE_BYTES)
        .read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

fn parse_search_domains(text: &str) -> Vec<String> {
    let is_search = |word: &str| matches!(word, "search" | "domain");
    let last = keyword_lines(text).filter(|(keyword, _)| is_search(keyword));
    let words = last.last().map(|(_, words)| words);
    words
        .into_iter()
        .flatten()
        .filter_map(|word| word.parse::<DomainName>().ok())
        .map(|domain| domain.as_str().to_owned())
        .collect()
}

fn parse_name_servers(text: &str) -> Vec<SocketAddr> {
    name_server_words(text)
        .filter_map(parse_name_server)
        .take(MAX_NAME_SERVERS)
        .collect()
}

fn name_server_words(text: &str) -> impl Iterator<Item = &str> {
    keyword_lines(text)
        .filter(|(keyword, _)| *keyword == "nameserver")
        .filter_map(|(_, mut words)| words.next())
}

/// Returns the keyword of each line with the words after it. Comments have a keyword of their own,
/// because `;` and `#` count at the start of a line.
fn keyword_lines(text: &str) -> impl Iterator<Item = (&str, std::str::SplitWhitespace<'_>)> {
    text.lines().filter_map(|line| {
        let mut words = line.split_whitespace();
        Some((words.next()?, words))
    })
}

/// Parses an address; a link-local one names its interface after `%`.
fn parse_name_server(text: &str) -> Option<SocketAddr> {
    let Some((address, interface)) = text.split_once('%') else {
        return Some(SocketAddr::new(text.parse::<IpAddr>().ok()?, DNS_PORT));
    };
    let address: Ipv6Addr = address.parse().ok()?;
    let scope = interface
        .parse()
        .ok()
        .or_else(|| interface_index(interface))?;
    Some(SocketAddrV6::new(address, DNS_PORT, 0, scope).into())
}

fn interface_index(interface: &str) -> Option<u32> {
    if interface.contains('/') || interface.starts_with('.') {
        return None;
    }
    let path = Path::new("/sys/class/net").join(interface).join("ifindex");
    read_limited(&path).ok()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_search_or_domain_line_counts() {
        let check = |text: &str, expected: &[&str]| {
            assert_eq!(parse_search_domains(text), expected, "of {text:?}");
        };
        check("", &[]);
        check("nameserver 192.0.2.1\n", &[]);
        check("search corp.test  Lab.Test.\n", &["corp.test", "lab.test"]);
        check("domain old.test\nsearch\tnew.test", &["new.test"]);
        check("search new.test\ndomain old.test", &["old.test"]);
        check("search a.test\nsearch", &[]);
        check(
            "#search a.test\n;search b.test\n search c.test",
            &["c.test"],
        );
        check("search . a.test -b.test \u{1b}[2J.test", &["a.test"]);
    }

    #[test]
    fn at_most_three_name_servers_of_both_families_count() {
        let check = |text: &str, expected: &[&str]| {
            let servers: Vec<_> = parse_name_servers(text)
                .iter()
                .map(ToString::to_string)
                .collect();
            assert_eq!(servers, expected, "of {text:?}");
        };
        check("", &[]);
        check(
            "# nameserver 192.0.2.9\nnameserver 192.0.2.1 # first\nnameserver ::1\n",
            &["192.0.2.1:53", "[::1]:53"],
        );
        check("nameserver fe80::1%lo\n", &["[fe80::1%1]:53"]);
        check("nameserver fe80::1%7\n", &["[fe80::1%7]:53"]);
        check(
            "nameserver fe80::1%../net/lo\nnameserver x\nnameserver",
            &[],
        );
        let many: Vec<_> = (1..6).map(|n| format!("nameserver 192.0.2.{n}")).collect();
        check(
            &many.join("\n"),
            &["192.0.2.1:53", "192.0.2.2:53", "192.0.2.3:53"],
        );
    }

    #[test]
    fn addresses_are_listed_without_their_interfaces() {
        let text = "nameserver ::ffff:192.0.2.1\nnameserver fe80::1%none0\nnameserver x%1\n\
                    nameserver ::1\nnameserver 192.0.2.4\n";
        let addresses = ["192.0.2.1", "fe80::1", "::1"].map(|ip| ip.parse::<IpAddr>().unwrap());
        assert_eq!(parse_server_addresses(text), addresses);
        assert!(parse_server_addresses("\u{0}\u{1b}nameserver").is_empty());
    }

    #[test]
    fn files_are_read_when_they_are_asked_for() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("resolv.conf");
        assert_eq!(read_search_domains(&path), Vec::<String>::new());
        assert!(read_name_servers(&path).is_err());
        std::fs::write(&path, "search corp.test\n").unwrap();
        assert_eq!(read_search_domains(&path), ["corp.test"]);
        let local = SocketAddr::from((Ipv4Addr::LOCALHOST, DNS_PORT));
        assert_eq!(read_name_servers(&path).unwrap(), [local]);
    }
}
