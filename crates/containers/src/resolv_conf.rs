// SPDX-License-Identifier: Apache-2.0
//! Decides whether the programs of a container send their DNS queries to its loopback interface,
//! which is not connected to the gateway.

use std::net::IpAddr;
use std::path::Path;

use crate::oci_config::OciConfig;

/// Maximum bytes read. The C library reads few servers.
const MAX_BYTES: u64 = 64 * 1024;

const RESOLV_CONF: &str = "/etc/resolv.conf";

/// Returns `true` if the C library in a container asks a server at the loopback interface:
/// `resolv.conf(5)`, also without a file or a server in it.
///
/// The runtime has mounted the container's files.
pub(crate) fn asks_loopback(config: &OciConfig, bundle: &Path) -> bool {
    let read = match (config.mount_source(Path::new(RESOLV_CONF)), config.root()) {
        (Some(file), _) => {
            netns::read_file_in_root(Path::new("/"), &file.to_string_lossy(), MAX_BYTES)
        }
        (None, Some(root)) => netns::read_file_in_root(&bundle.join(root), RESOLV_CONF, MAX_BYTES),
        (None, None) => return true,
    };
    match read {
        Ok(text) => names_loopback(&String::from_utf8_lossy(&text)),
        Err(error) => {
            tracing::debug!(%error, "the container's resolv.conf was not read");
            true
        }
    }
}

fn names_loopback(text: &str) -> bool {
    let mut servers = text.lines().filter_map(|line| {
        let mut words = line.split_whitespace();
        (words.next() == Some("nameserver")).then(|| words.next())?
    });
    let is_loopback = |server: &str| {
        let address = server
            .split('%')
            .next()
            .unwrap_or_default()
            .parse::<IpAddr>();
        address.is_ok_and(|address| address.is_loopback() || address.is_unspecified())
    };
    match servers.next() {
        None => true,
        Some(first) => is_loopback(first) || servers.any(is_loopback),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_is_asked_without_another_server() {
        for text in [
            "",
            "# nameserver 192.0.2.1\n",
            "search example\n",
            "nameserver 127.0.0.11\n",
            "nameserver 192.0.2.1\nnameserver ::1\n",
            "nameserver 0.0.0.0\n",
        ] {
            assert!(names_loopback(text), "{text}");
        }
        for text in [
            "nameserver 192.0.2.1\n",
            "options edns0\n nameserver\tfe80::1%eth0\n",
        ] {
            assert!(!names_loopback(text), "{text}");
        }
    }

    #[test]
    fn a_mounted_file_counts_before_that_of_the_image() {
        let directory = tempfile::tempdir().unwrap();
        let etc = directory.path().join("rootfs/etc");
        std::fs::create_dir_all(&etc).unwrap();
        std::fs::write(etc.join("resolv.conf"), "nameserver 127.0.0.1\n").unwrap();
        let mounted = directory.path().join("mounted");
        std::fs::write(&mounted, "nameserver 192.0.2.1\n").unwrap();
        let parse = |mounts: &str| {
            let json = format!(r#"{{"root":{{"path":"rootfs"}},"mounts":{mounts}}}"#);
            OciConfig::parse(json.as_bytes()).unwrap()
        };
        assert!(asks_loopback(&parse("[]"), directory.path()));
        let mounts = format!(
            r#"[{{"destination":"/etc/resolv.conf","source":"{}"}}]"#,
            mounted.display()
        );
        assert!(!asks_loopback(&parse(&mounts), directory.path()));
        assert!(asks_loopback(&OciConfig::default(), directory.path()));
    }
}
