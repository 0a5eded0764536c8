// SPDX-License-Identifier: Apache-2.0
//! Finds the command and the bundle in the arguments of an OCI runtime, as of runc and crun. Pure.

use std::ffi::{OsStr, OsString};
use std::path::PathBuf;

/// What the arguments of an OCI runtime say.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RuntimeArguments {
    /// The command starts a container.
    pub starts_container: bool,
    /// The bundle, `--bundle`; the working directory without it.
    pub bundle: PathBuf,
    /// The log that the engine reads, `--log`.
    pub log: Option<PathBuf>,
}

/// Options before the command with a value of their own.
const GLOBAL_VALUES: [&str; 6] = [
    "cgroup-manager",
    "criu",
    "log",
    "log-format",
    "root",
    "rootless",
];

/// Commands that make a container of a bundle.
const STARTING_COMMANDS: [&str; 3] = ["create", "run", "restore"];

impl RuntimeArguments {
    /// Parses the arguments after the program's name.
    pub fn parse(arguments: &[OsString]) -> Self {
        let mut parsed = Self {
            bundle: PathBuf::from("."),
            ..Self::default()
        };
        let mut arguments = arguments.iter().map(OsString::as_os_str);
        let command = loop {
            let Some(argument) = arguments.next() else {
                return parsed;
            };
            let Some((name, value)) = split_option(argument) else {
                break argument;
            };
            let value = match value {
                Some(value) => Some(value),
                None if GLOBAL_VALUES.contains(&name) => arguments.next().map(OsStr::to_owned),
                None => None,
            };
            if name == "log" {
                parsed.log = value.map(PathBuf::from);
            }
        };
        parsed.starts_container = STARTING_COMMANDS.iter().any(|known| command == *known);
        // Wherever it stands; no id of a container looks like an option.
        while let Some(argument) = arguments.next() {
            if let Some(("bundle" | "b", value)) = split_option(argument) {
                let value = value.or_else(|| arguments.next().map(OsStr::to_owned));
                parsed.bundle = value.map_or_else(|| PathBuf::from("."), PathBuf::from);
            } else if let Some(short) = argument.to_str().and_then(|text| text.strip_prefix("-b"))
                && !argument.to_string_lossy().starts_with("--")
                && !short.is_empty()
            {
                parsed.bundle = PathBuf::from(short);
            }
        }
        parsed
    }
}

/// Splits `--name`, `-name` and `--name=value`.
fn split_option(argument: &OsStr) -> Option<(&str, Option<OsString>)> {
    let text = argument.to_str()?;
    let text = text.strip_prefix("--").or_else(|| text.strip_prefix('-'))?;
    Some(match text.split_once('=') {
        Some((name, value)) => (name, Some(value.into())),
        None => (text, None),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bundle_of_a_start_is_found() {
        for (line, starts, bundle, log) in [
            // containerd's shim
            (
                "--root /run/x --log /b/log.json --log-format json --systemd-cgroup create \
                 --bundle /b --pid-file /b/init.pid abc",
                true,
                "/b",
                Some("/b/log.json"),
            ),
            // conmon with crun
            (
                "--log=/l --root=/r create --bundle /c/userdata --pid-file p --console-socket s id",
                true,
                "/c/userdata",
                Some("/l"),
            ),
            ("run -b /b id", true, "/b", None),
            ("run -b/b id", true, "/b", None),
            ("-debug run id", true, ".", None),
            ("create --bundle=/b=c id", true, "/b=c", None),
            ("--root create start id", false, ".", None),
            ("restore --bundle /b id", true, "/b", None),
            ("start id", false, ".", None),
            ("--version", false, ".", None),
            ("", false, ".", None),
        ] {
            let words: Vec<OsString> = line.split_whitespace().map(Into::into).collect();
            let expected = RuntimeArguments {
                starts_container: starts,
                bundle: bundle.into(),
                log: log.map(PathBuf::from),
            };
            assert_eq!(RuntimeArguments::parse(&words), expected, "{line}");
        }
    }
}
