// SPDX-License-Identifier: Apache-2.0
//! The address of a unix socket in the argument of a system call (unix(7)).

/// Length of the field in front of the path.
const FAMILY_BYTES: usize = size_of::<libc::sa_family_t>();
/// Maximum length of an address, of which the kernel takes only one family.
pub(super) const MAX_ADDRESS_BYTES: usize = size_of::<libc::sockaddr_storage>();
/// Maximum length of a unix address; the kernel refuses longer ones.
const MAX_UNIX_ADDRESS_BYTES: usize = size_of::<libc::sockaddr_un>();

/// The path in an address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct SocketPath {
    /// The directory or file that `path` starts from instead of the caller's own directories.
    pub(super) base_fd: Option<i32>,
    /// The path, absolute or relative, not empty without a `base_fd`. It contains no zero byte.
    pub(super) path: Vec<u8>,
}

/// Links to the descriptors of the process that follows them: here the broker, not the caller.
const DESCRIPTOR_DIRECTORIES: [&[u8]; 3] =
    [b"/proc/self/fd/", b"/proc/thread-self/fd/", b"/dev/fd/"];

/// Returns the path in an address of a unix socket. `None` if the kernel does not take `address`
/// for a path: an abstract name, no name, or an invalid address.
pub(super) fn parse_socket_path(address: &[u8]) -> Option<SocketPath> {
    let (family, path) = address.split_first_chunk::<FAMILY_BYTES>()?;
    let is_unix = i32::from(u16::from_ne_bytes(*family)) == libc::AF_UNIX;
    if !is_unix || address.len() > MAX_UNIX_ADDRESS_BYTES {
        return None;
    }
    let path = path.split(|byte| *byte == 0).next().unwrap_or_default();
    if path.is_empty() {
        return None;
    }
    let by_descriptor = DESCRIPTOR_DIRECTORIES
        .into_iter()
        .find_map(|directory| parse_descriptor(path.strip_prefix(directory)?));
    Some(by_descriptor.unwrap_or_else(|| SocketPath {
        base_fd: None,
        path: path.to_owned(),
    }))
}

/// Parses the rest of a path below a directory of descriptors: a number, and what follows it.
fn parse_descriptor(rest: &[u8]) -> Option<SocketPath> {
    let end = rest.iter().position(|byte| *byte == b'/');
    let (number, rest) = rest.split_at_checked(end.unwrap_or(rest.len()))?;
    let number = str::from_utf8(number).ok()?;
    if !number.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let below = rest.iter().position(|byte| *byte != b'/');
    Some(SocketPath {
        base_fd: Some(number.parse().ok()?),
        path: rest.get(below.unwrap_or(rest.len())..)?.to_owned(),
    })
}

/// Returns the address of a unix socket with this path. The path fits: callers pass short ones.
pub(super) fn encode_socket_path(path: &[u8]) -> Vec<u8> {
    let family = u16::try_from(libc::AF_UNIX).unwrap_or_default();
    let mut address = family.to_ne_bytes().to_vec();
    address.extend(path);
    address.push(0);
    address
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(path: &[u8]) -> Vec<u8> {
        [&1_u16.to_ne_bytes()[..], path].concat()
    }

    #[test]
    fn paths_are_told_from_other_addresses() {
        let plain = |path: &[u8]| {
            Some(SocketPath {
                base_fd: None,
                path: path.to_owned(),
            })
        };
        let below = |fd, path: &[u8]| {
            Some(SocketPath {
                base_fd: Some(fd),
                path: path.to_owned(),
            })
        };
        let long = [b'x'; 108];
        for (address, expected) in [
            (address(b"/run/x\0"), plain(b"/run/x")),
            (address(b"/run/x"), plain(b"/run/x")),
            (address(b"/run/x\0/tail"), plain(b"/run/x")),
            (address(b"x"), plain(b"x")),
            (address(&long), plain(&long)),
            (address(b"/proc/self/fd/3/x"), below(3, b"x")),
            (address(b"/proc/thread-self/fd/12"), below(12, b"")),
            (address(b"/dev/fd/0//x/y\0"), below(0, b"x/y")),
            (address(b"/proc/self/fd/"), plain(b"/proc/self/fd/")),
            (address(b"/proc/self/fd/x"), plain(b"/proc/self/fd/x")),
            (address(b"/proc/self/fd/+3"), plain(b"/proc/self/fd/+3")),
            (
                address(b"/proc/self/fd/99999999999"),
                plain(b"/proc/self/fd/99999999999"),
            ),
            (address(b"\0abstract"), None),
            (address(b""), None),
            (address(&[b'x'; 109]), None),
            (Vec::new(), None),
            (vec![1], None),
            ([&2_u16.to_ne_bytes()[..], b"/run/x"].concat(), None),
        ] {
            assert_eq!(parse_socket_path(&address), expected, "{address:?}");
        }
    }

    #[test]
    fn an_encoded_path_is_parsed() {
        let encoded = encode_socket_path(b"/run/x");
        assert_eq!(parse_socket_path(&encoded).unwrap().path, b"/run/x");
    }
}
