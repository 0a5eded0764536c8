// SPDX-License-Identifier: Apache-2.0
//! Separates the options of commands that run another program from that program's arguments.
//!
//! The options of podman and of OCI runtimes are not this program's: `-v` is a volume there. This
//! program's come first, and the first argument that is not one of them begins the other program's.

use std::ffi::OsString;

use clap::Args as _;

use crate::commands::{oci_runtime, podman};

/// Inserts `--` before the other program's arguments, for the parser.
pub(crate) fn separate_passed_arguments(mut args: Vec<OsString>) -> Vec<OsString> {
    if let Some(position) = find_passed_arguments(&args) {
        args.insert(position, "--".into());
    }
    args
}

/// Returns the position of the other program's first argument, unless `--` stands before it.
fn find_passed_arguments(args: &[OsString]) -> Option<usize> {
    let parser = clap::Command::new("passed");
    let mut position = skip_global_options(args, 1)?;
    let own = match args.get(position)?.to_str()? {
        "oci-runtime" => oci_runtime::Args::augment_args(parser),
        "podman" => {
            position = skip_global_options(args, position + 1)?;
            podman::parser_of_verb(args.get(position)?.to_str()?, parser)?
        }
        _ => return None,
    };
    position += 1;
    loop {
        let argument = args.get(position)?;
        if argument == "--" {
            return None;
        }
        let Some(count) = own_option_length(argument, &own) else {
            return Some(position);
        };
        position += count;
    }
}

/// Returns how many arguments an option of this program takes with its value; `None` for another
/// argument.
fn own_option_length(argument: &OsString, own: &clap::Command) -> Option<usize> {
    let text = argument.to_str()?.strip_prefix("--")?;
    let (name, has_value) = match text.split_once('=') {
        Some((name, _)) => (name, true),
        None => (text, false),
    };
    match name {
        "help" | "json" | "verbose" => return Some(1),
        "color" => return Some(if has_value { 1 } else { 2 }),
        _ => {}
    }
    let mut options = own.get_arguments();
    let option = options.find(|option| option.get_long() == Some(name))?;
    let takes_next =
        option.get_action().takes_values() && !option.is_require_equals_set() && !has_value;
    Some(if takes_next { 2 } else { 1 })
}

fn skip_global_options(args: &[OsString], mut position: usize) -> Option<usize> {
    loop {
        let argument = args.get(position)?.to_str()?;
        if !argument.starts_with('-') || argument == "--" {
            return Some(position);
        }
        position += if argument == "--color" { 2 } else { 1 };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_argument_of_the_other_program_is_found() {
        for (line, expected) in [
            ("podman run -v /a:/b img", "podman run -- -v /a:/b img"),
            ("podman run img", "podman run -- img"),
            ("podman run -- img", "podman run -- img"),
            (
                "podman run --allow a.example --hold=5m --check-sni --dry-run --rm img --deny x",
                "podman run --allow a.example --hold=5m --check-sni --dry-run -- --rm img --deny x",
            ),
            (
                "--color never -v podman create --via filtered --json -it img",
                "--color never -v podman create --via filtered --json -- -it img",
            ),
            ("podman run --allow", "podman run --allow"),
            ("podman run --help", "podman run --help"),
            ("podman run -h x img", "podman run -- -h x img"),
            (
                "oci-runtime --via dialed --root /r -v create",
                "oci-runtime --via dialed -- --root /r -v create",
            ),
            ("oci-runtime --version", "oci-runtime -- --version"),
            ("podman annotations -v", "podman annotations -v"),
            ("run podman run -v", "run podman run -v"),
            ("podman", "podman"),
        ] {
            let args = |line: &str| -> Vec<OsString> {
                let words = std::iter::once("terok-clearance").chain(line.split(' '));
                words.map(Into::into).collect()
            };
            assert_eq!(
                separate_passed_arguments(args(line)),
                args(expected),
                "{line}"
            );
        }
    }
}
