// SPDX-License-Identifier: Apache-2.0
//! Finds out whether a unix socket accepts connections, without making one.

use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

/// The unix sockets of the network namespace, `proc_pid_net(5)`.
const UNIX_SOCKETS: &str = "/proc/self/net/unix";

/// Flag of a socket that accepts connections (`__SO_ACCEPTCON`).
const ACCEPTS: u32 = 0x1_0000;

/// Returns `true` if a process listens at `path`.
pub fn is_listening(path: &Path) -> bool {
    let table = fs::read(UNIX_SOCKETS).unwrap_or_default();
    lists_listener(&table, path)
}

fn lists_listener(table: &[u8], path: &Path) -> bool {
    table.split(|byte| *byte == b'\n').any(|line| {
        // Num RefCount Protocol Flags Type St Inode Path
        let mut fields = line.splitn(8, |byte| *byte == b' ');
        let flags = fields.nth(3).and_then(|flags| {
            let text = std::str::from_utf8(flags).ok()?;
            u32::from_str_radix(text, 16).ok()
        });
        // The number of the inode is padded with spaces.
        let rest = fields.nth(2).map(|_inode| fields.next());
        let found = rest.flatten().map(<[u8]>::trim_ascii_start);
        let found = found.and_then(|rest| rest.rsplit(|byte| *byte == b' ').next());
        flags.is_some_and(|flags| flags & ACCEPTS != 0)
            && found == Some(path.as_os_str().as_bytes())
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use super::*;

    #[test]
    fn a_socket_is_listening_from_its_binding_to_its_end() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("start.sock");
        assert!(!is_listening(&path));
        let listener = UnixListener::bind(&path).unwrap();
        assert!(is_listening(&path));
        drop(listener);
        assert!(!is_listening(&path));
        fs::write(place.path().join("other"), "").unwrap();
        assert!(!is_listening(&place.path().join("other")));
    }

    #[test]
    fn only_listeners_with_the_whole_path_count() {
        let table = b"Num       RefCount Protocol Flags    Type St Inode Path\n\
            0000000000000000: 00000002 00000000 00010000 0001 01  1234 /run/a.sock\n\
            0000000000000000: 00000003 00000000 00000000 0001 03 99123 /run/b.sock\n\
            0000000000000000: 00000002 00000000 00010000 0001 01 99124\n";
        assert!(lists_listener(table, Path::new("/run/a.sock")));
        for other in ["/run/b.sock", "/run/a.soc", "a.sock", "", "99124"] {
            assert!(!lists_listener(table, Path::new(other)), "{other}");
        }
    }
}
