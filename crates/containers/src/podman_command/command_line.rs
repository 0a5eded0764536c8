// SPDX-License-Identifier: Apache-2.0
//! Splits the arguments of `podman run` and `podman create` into options, image and command, as
//! podman's parser does (`pflag` without interspersed options).

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};

use super::PodmanVerb;
use super::option_table::{PodmanOptionKind, find_letter, find_option};
use super::refusal::PodmanRefusal;

/// A command line of podman, split.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PodmanCommandLine {
    pub(super) verb: PodmanVerb,
    pub(super) options: Vec<PodmanOption>,
    pub(super) image: OsString,
    pub(super) rest: Vec<OsString>,
}

/// An option of podman.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PodmanOption {
    /// The name without dashes, no alias; empty for an option that this program does not know.
    pub(super) name: &'static str,
    /// The value.
    pub(super) value: Option<OsString>,
    /// The arguments, as podman gets them.
    pub(super) words: Vec<OsString>,
}

impl PodmanCommandLine {
    /// Splits `arguments`, which follow the command.
    pub fn parse(verb: PodmanVerb, arguments: &[OsString]) -> Result<Self, PodmanRefusal> {
        let mut options = Vec::new();
        let mut arguments = arguments.iter();
        let image = loop {
            let argument = arguments.next().ok_or(PodmanRefusal::NoImage)?;
            match argument.as_bytes() {
                b"--" => break arguments.next().ok_or(PodmanRefusal::NoImage)?,
                [b'-', b'-', long @ ..] => {
                    options.push(parse_long(argument, long, &mut arguments)?);
                }
                [b'-', letters @ ..] if !letters.is_empty() => {
                    parse_letters(letters, &mut arguments, &mut options)?;
                }
                _ => break argument,
            }
        };
        Ok(Self {
            verb,
            options,
            image: image.clone(),
            rest: arguments.cloned().collect(),
        })
    }

    /// Returns the value of the option `name`; of several the last counts.
    pub fn value_of(&self, name: &str) -> Option<&OsStr> {
        let mut options = self.options.iter().rev();
        options.find(|option| option.name == name)?.value.as_deref()
    }

    /// Returns `true` if podman prints its help and does nothing else.
    pub fn asks_for_help(arguments: &[OsString]) -> bool {
        arguments.first().is_some_and(|first| first == "--help")
    }
}

type Arguments<'a> = std::slice::Iter<'a, OsString>;

fn parse_long(
    argument: &OsString,
    long: &[u8],
    arguments: &mut Arguments<'_>,
) -> Result<PodmanOption, PodmanRefusal> {
    let mut parts = long.splitn(2, |byte| *byte == b'=');
    let name = parts.next().unwrap_or_default();
    let value = parts.next();
    let text = std::str::from_utf8(name).unwrap_or_default();
    let Some((name, kind)) = find_option(text) else {
        // With its value after `=`, an option takes no other argument.
        return match value {
            Some(value) if is_option_name(text) => Ok(PodmanOption {
                name: "",
                value: Some(OsString::from_vec(value.to_vec())),
                words: vec![argument.clone()],
            }),
            _ => Err(PodmanRefusal::UnknownOption(lossy(name))),
        };
    };
    let mut words = vec![argument.clone()];
    let value = match (value, kind) {
        (Some(value), _) => Some(OsString::from_vec(value.to_vec())),
        (None, PodmanOptionKind::Flag) => None,
        (None, PodmanOptionKind::Value) => {
            let next = arguments.next();
            let next = next.ok_or(PodmanRefusal::MissingValue(name))?;
            words.push(next.clone());
            Some(next.clone())
        }
    };
    Ok(PodmanOption { name, value, words })
}

/// Parses options of one letter: `-it`, `-p8080:80`, `-p=8080:80`, `-itp 8080:80`. Each becomes an
/// option of its own.
fn parse_letters(
    mut letters: &[u8],
    arguments: &mut Arguments<'_>,
    options: &mut Vec<PodmanOption>,
) -> Result<(), PodmanRefusal> {
    while let Some((letter, rest)) = letters.split_first() {
        let letter = char::from(*letter);
        let found = find_letter(letter);
        let (name, kind) = found.ok_or(PodmanRefusal::UnknownLetter(letter))?;
        let mut words = vec![OsString::from(format!("-{letter}"))];
        let value = match (kind, rest) {
            // `-i=false`
            (_, [b'=', value @ ..]) if !value.is_empty() => {
                let value = OsString::from_vec(value.to_vec());
                let mut word = OsString::from(format!("-{letter}="));
                word.push(&value);
                words = vec![word];
                letters = &[];
                Some(value)
            }
            (PodmanOptionKind::Flag, rest) => {
                letters = rest;
                None
            }
            (PodmanOptionKind::Value, []) => {
                let next = arguments.next();
                let next = next.ok_or(PodmanRefusal::MissingValue(name))?;
                words.push(next.clone());
                letters = &[];
                Some(next.clone())
            }
            (PodmanOptionKind::Value, rest) => {
                let value = OsString::from_vec(rest.to_vec());
                words.push(value.clone());
                letters = &[];
                Some(value)
            }
        };
        options.push(PodmanOption { name, value, words });
    }
    Ok(())
}

fn is_option_name(text: &str) -> bool {
    let is_part = |c: char| c.is_ascii_alphanumeric() || c == '-';
    text.starts_with(|c: char| c.is_ascii_alphanumeric()) && text.chars().all(is_part)
}

fn lossy(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).chars().take(60).collect()
}
