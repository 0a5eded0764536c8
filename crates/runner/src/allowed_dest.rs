// SPDX-License-Identifier: Apache-2.0
//! Parses a destination to allow from the start: the whole destination or a port.

use supervisor::AllowedDest;
use terok_clearance::{DestParseError, Target};

/// A text is not an allowed destination.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AllowedDestError {
    /// The text is not a destination.
    #[error(transparent)]
    Dest(#[from] DestParseError),
    /// The text after the colon is not a port.
    #[error("{0:?} is no port: give a number from 1 to 65535")]
    Port(String),
}

/// Parses `HOST`, `ADDRESS`, or a port of either: `HOST:PORT`, `[ADDRESS]:PORT`.
pub fn parse_allowed_dest(text: &str) -> Result<AllowedDest, AllowedDestError> {
    let whole = match text.parse::<Target>() {
        Ok(target) => return Ok(target.into()),
        Err(error) => error,
    };
    let Some((dest, port)) = text.rsplit_once(':') else {
        return Err(whole.into());
    };
    let dest = dest
        .strip_prefix('[')
        .and_then(|dest| dest.strip_suffix(']'))
        .unwrap_or(dest);
    let target = dest.parse()?;
    let port = match port.parse() {
        Ok(0) | Err(_) => return Err(AllowedDestError::Port(port.to_owned())),
        Ok(port) => port,
    };
    Ok(AllowedDest {
        target,
        port: Some(port),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_destination_is_whole_or_one_port() {
        let check = |text: &str, target: &str, port| {
            let target = target.parse().unwrap();
            assert_eq!(
                parse_allowed_dest(text),
                Ok(AllowedDest { target, port }),
                "{text}"
            );
        };
        check("api.example.com", "api.example.com", None);
        check("api.example.com:443", "api.example.com", Some(443));
        check("203.0.113.7", "203.0.113.7", None);
        check("203.0.113.7:53", "203.0.113.7", Some(53));
        check("2001:db8::7", "2001:db8::7", None);
        check("[2001:db8::7]:443", "2001:db8::7", Some(443));
    }

    #[test]
    fn anything_else_is_refused() {
        for text in [
            "",
            ":",
            ":443",
            "a.example:",
            "a.example:0",
            "a.example:65536",
            "a.example:https",
            "https://a.example",
            "a.example/path",
            "203.0.113.0/24",
            "*.example",
        ] {
            assert!(parse_allowed_dest(text).is_err(), "{text}");
        }
    }
}
