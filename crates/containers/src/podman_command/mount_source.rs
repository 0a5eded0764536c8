// SPDX-License-Identifier: Apache-2.0
//! The directories and files of the host that a container gets.

use std::path::{Path, PathBuf};

use super::GuardableCommand;
use super::command_line::PodmanOption;

impl GuardableCommand {
    /// Returns the paths of the host that the container gets with `--volume`, `--mount` and
    /// `--rootfs`; relative ones as they are written.
    pub fn mount_sources(&self) -> Vec<PathBuf> {
        let mounts = self.options.iter().filter_map(source_of);
        let is_rootfs = |option: &PodmanOption| {
            option.name == "rootfs" && option.value.as_ref().is_none_or(|value| value != "false")
        };
        let rootfs = self.options.iter().any(is_rootfs);
        let rootfs = rootfs.then(|| rootfs_path(&self.image.to_string_lossy()));
        mounts.chain(rootfs).collect()
    }
}

fn source_of(option: &PodmanOption) -> Option<PathBuf> {
    let value = option.value.as_ref()?.to_string_lossy();
    match option.name {
        "volume" => {
            // Without a colon it is the path inside; a name is that of a volume.
            let (source, _) = value.split_once(':')?;
            source.starts_with(['/', '.', '~']).then(|| source.into())
        }
        "mount" => {
            let mut parts = value.split(',').map(|part| part.trim_matches('"'));
            let is_source = |(key, _): &(&str, &str)| ["src", "source"].contains(key);
            let source = parts.find_map(|part| part.split_once('=').filter(is_source));
            let (_, source) = source?;
            source.starts_with(['/', '.']).then(|| source.into())
        }
        _ => None,
    }
}

/// Returns the path of `--rootfs`, without options such as `:O`.
fn rootfs_path(image: &str) -> PathBuf {
    let path = image.split_once(':').map_or(image, |(path, _)| path);
    Path::new(path).to_owned()
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;

    use super::super::{NetworkOptions, PodmanCommandLine, PodmanVerb};
    use super::*;

    #[test]
    fn the_paths_of_the_host_are_found() {
        for (line, expected) in [
            ("-v /a:/b img", &["/a"][..]),
            ("-v /a:/b:ro,Z --volume=./c:/d img", &["/a", "./c"]),
            ("-v data:/d -v /anonymous img", &[]),
            ("--mount type=bind,source=/a,target=/b img", &["/a"]),
            ("--mount type=bind,\"src=/a\",dst=/b img", &["/a"]),
            ("--mount type=volume,src=data,dst=/b img", &[]),
            ("--mount type=tmpfs,dst=/b img -v /x:/y", &[]),
            ("--rootfs /:O sh", &["/"]),
            ("--rootfs=false img", &[]),
        ] {
            let words: Vec<OsString> = line.split(' ').map(Into::into).collect();
            let parsed = PodmanCommandLine::parse(PodmanVerb::Run, &words).unwrap();
            let command = parsed.check(NetworkOptions::Refuse).unwrap();
            let expected: Vec<_> = expected.iter().map(PathBuf::from).collect();
            assert_eq!(command.mount_sources(), expected, "{line}");
        }
    }
}
