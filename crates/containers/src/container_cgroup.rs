// SPDX-License-Identifier: Apache-2.0
//! Finds a container's id in the control group of its process, which the runtime chose.

use std::fs;
use std::io;

use netns::ProcessHandle;
use rustix::io::Errno;

/// The length of an id of podman, docker and containerd, in hexadecimal digits.
const ID_LENGTH: usize = 64;

/// Returns the id in the control group of a process; `None` if its path has none.
pub fn read_cgroup_id(process: &ProcessHandle) -> io::Result<Option<String>> {
    let read = fs::read_to_string(format!("/proc/{}/cgroup", process.pid()));
    if !process.is_alive() {
        return Err(Errno::SRCH.into()); // the number may have been reused
    }
    Ok(find_cgroup_id(&read?).map(str::to_owned))
}

/// Returns the last id in the paths of a `/proc/PID/cgroup`, `cgroups(7)`: a directory such as
/// `libpod-ID.scope`, `docker-ID.scope` or `ID`.
pub fn find_cgroup_id(text: &str) -> Option<&str> {
    let paths = text.lines().filter_map(|line| line.splitn(3, ':').nth(2));
    let directories = paths.flat_map(|path| path.split('/'));
    directories.filter_map(id_of_directory).next_back()
}

fn id_of_directory(name: &str) -> Option<&str> {
    let name = name.strip_suffix(".scope").unwrap_or(name);
    let id = name.rsplit_once('-').map_or(name, |(_, id)| id);
    let is_id = id.len() == ID_LENGTH && id.bytes().all(|byte| byte.is_ascii_hexdigit());
    is_id.then_some(id)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "17aa51f7a19a3405809e651072149dccfd39ffbc0de27bdb8d736ae8bc1d9c10";

    #[test]
    fn an_id_is_found_in_the_forms_of_the_engines() {
        for path in [
            format!(
                "0::/user.slice/user-1000.slice/user@1000.service/user.slice/libpod-{ID}.scope"
            ),
            format!("0::/user.slice/libpod-{ID}.scope/container"),
            format!("9:name=systemd:/\n8:pids:/libpod_parent/libpod-{ID}\n0::/"),
            format!("0::/system.slice/docker-{ID}.scope"),
            format!("0::/docker/{ID}"),
            format!("0::/system.slice:docker:{ID}/x\n1:cpu:/docker/{ID}"),
        ] {
            assert_eq!(find_cgroup_id(&path), Some(ID), "{path}");
        }
    }

    #[test]
    fn other_paths_have_none() {
        for path in [
            "",
            "0::/",
            "0::/user.slice/session-1.scope",
            "0::/libpod_parent/conmon",
            "x",
        ] {
            assert_eq!(find_cgroup_id(path), None, "{path}");
        }
    }
}
