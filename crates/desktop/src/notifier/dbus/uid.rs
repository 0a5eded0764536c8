// SPDX-License-Identifier: Apache-2.0
//! The user id of this process at the session bus.
//!
//! The bus compares the user id sent by a client with the id reported by the kernel. Inside a user
//! namespace, such as that of rootless podman, the id of this process differs from the id outside.
//! The uid map of the namespace gives the id one level up, but not further: the kernel translates
//! every id for the reader, including the maps of other processes, file owners and socket peers.
//! Nested namespaces therefore need [`super::anonymous_auth`].

/// Returns the ids to authenticate with, the likely id first: outside, then inside.
pub(super) fn uid_candidates() -> Vec<u32> {
    let inner = rustix::process::geteuid().as_raw();
    let map = std::fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
    match outer_uid(&map, inner) {
        Some(outer) if outer != inner => vec![outer, inner],
        _ => vec![inner],
    }
}

/// Returns the outer id of `inner` from a map with lines `inside outside count`
/// (see `user_namespaces(7)`).
fn outer_uid(map: &str, inner: u32) -> Option<u32> {
    map.lines().find_map(|line| {
        let mut numbers = line.split_whitespace().map(str::parse::<u32>);
        let (inside, outside) = (numbers.next()?.ok()?, numbers.next()?.ok()?);
        let count = numbers.next()?.ok()?;
        let above = inner.checked_sub(inside).filter(|above| *above < count)?;
        outside.checked_add(above)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_map_gives_the_id_outside() {
        let check =
            |map: &str, inner, expected| assert_eq!(outer_uid(map, inner), expected, "{map:?}");
        check("         0          0 4294967295\n", 1000, Some(1000));
        check("         0       1000          1\n", 0, Some(1000));
        let podman = "0 1000 1\n1 100000 65536\n";
        check(podman, 0, Some(1000));
        check(podman, 1, Some(100_000));
        check(podman, 1000, Some(100_999));
        check(podman, 65_537, None);
        check("", 0, None);
        check("0 x 1\n", 0, None);
        check("0 4294967295 10\n", 5, None);
    }
}
