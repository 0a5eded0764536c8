// SPDX-License-Identifier: Apache-2.0
//! What a container may reach from the start: a signed annotation.
//!
//! The value of [`annotation_keys::POLICY`] is `v1.JSON.MAC`: JSON in base64url without padding,
//! and the HMAC-SHA256 of everything before the last dot in hexadecimal digits. An image can carry
//! any annotation, but has no key. The value is hostile text until its signature is verified; no
//! part of the JSON is parsed before. It has neither commas nor quotes, because podman 4 splits the
//! values of `--annotation` like a line of CSV.

mod policy_key;

use std::fmt::Display;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use egress::HoldLimit;
use egress::publish::PublishSpec;
use policy::ProfileName;
use serde::{Deserialize, Serialize};
use terok_clearance::{DestPattern, DisplayText};

#[cfg(doc)]
use crate::annotation_keys;
use crate::start_request::ContainerNetwork;

pub use policy_key::{POLICY_KEY_FILE, PolicyKey, PolicyKeyError, PolicyKeyProblem};

/// Maximum bytes of a signed policy. The kernel limits an argument of a program to 128 KiB.
pub const MAX_POLICY_BYTES: usize = 64 * 1024;

/// Maximum entries of each list of a policy.
pub const MAX_POLICY_ENTRIES: usize = 1_024;

/// The version of the format, and with it of the signature.
const VERSION: &str = "v1";

/// What the operator has decided about a container before its start.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ContainerPolicy {
    /// Destinations that are open from the start.
    pub allow: Vec<DestPattern>,
    /// Destinations that are refused without a question, before anything that allows them.
    pub deny: Vec<DestPattern>,
    /// Profiles whose destinations count, too.
    pub profiles: Vec<ProfileName>,
    /// How long a connection waits for an answer; `None`: as the supervisor's configuration says.
    pub hold: Option<HoldLimit>,
    /// Ports of the container that the supervisor publishes on the host.
    pub publish: Vec<PublishSpec>,
    /// The name of the container in questions; `None`: podman's name.
    pub name: Option<DisplayText>,
    /// Whether the server names of connections to an allowed name are checked.
    pub checks_server_names: bool,
}

/// A policy is too large for an annotation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PolicySizeError {
    /// A list has too many entries.
    #[error(
        "a container cannot have more than {MAX_POLICY_ENTRIES} destinations, profiles or ports of \
         a kind; put destinations into a profile"
    )]
    Entries,
    /// The text is too long.
    #[error(
        "the destinations of a container cannot have more than {MAX_POLICY_BYTES} bytes; put them \
         into a profile"
    )]
    Bytes,
}

/// An annotation is not a policy of the operator.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PolicyAnnotationError {
    /// The text is too long.
    #[error("it has more than {MAX_POLICY_BYTES} bytes")]
    TooLong,
    /// The text has another form.
    #[error("it is not `{VERSION}.JSON.MAC`: another version of terok-clearance made it")]
    Form,
    /// The signature is not one of the operator's key.
    #[error("it is not signed with the operator's key: it may be that of an image")]
    Signature,
    /// The policy was signed for the other way out.
    #[error("it was signed for a container whose network is {}", .0.as_str())]
    Network(ContainerNetwork),
    /// The signed content is not understood.
    #[error("its content is not understood: {0}")]
    Content(DisplayText),
}

/// The JSON of a policy, in the order of the text. Each entry has its text form.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct PolicyDocument {
    network: ContainerNetwork,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    allow: Vec<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    deny: Vec<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    profiles: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    hold: Option<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    publish: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    name: Option<DisplayText>,
    #[serde(default)]
    check_server_names: bool,
}

impl ContainerPolicy {
    /// Returns the value of the annotation for a container with the way out `network`.
    pub fn sign(
        &self,
        network: ContainerNetwork,
        key: &PolicyKey,
    ) -> Result<String, PolicySizeError> {
        let lists = [
            self.allow.len(),
            self.deny.len(),
            self.profiles.len(),
            self.publish.len(),
        ];
        if lists.into_iter().any(|length| length > MAX_POLICY_ENTRIES) {
            return Err(PolicySizeError::Entries);
        }
        let document = PolicyDocument {
            network,
            allow: texts(&self.allow),
            deny: texts(&self.deny),
            profiles: texts(&self.profiles),
            hold: self.hold.map(|hold| hold.to_string()),
            publish: texts(&self.publish),
            name: self.name.clone(),
            check_server_names: self.checks_server_names,
        };
        // Texts and flags always have a JSON form.
        let json = serde_json::to_vec(&document).map_err(|_too_large| PolicySizeError::Bytes)?;
        let signed = format!("{VERSION}.{}", URL_SAFE_NO_PAD.encode(json));
        let value = format!("{signed}.{}", key.sign(signed.as_bytes()));
        if value.len() > MAX_POLICY_BYTES {
            return Err(PolicySizeError::Bytes);
        }
        Ok(value)
    }

    /// Verifies and parses the value of an annotation. The container's way out must be the one for
    /// which the policy was signed.
    pub fn verify(
        value: &str,
        network: ContainerNetwork,
        key: &PolicyKey,
    ) -> Result<Self, PolicyAnnotationError> {
        if value.len() > MAX_POLICY_BYTES {
            return Err(PolicyAnnotationError::TooLong);
        }
        let (signed, mac) = value.rsplit_once('.').ok_or(PolicyAnnotationError::Form)?;
        let (version, encoded) = signed.split_once('.').ok_or(PolicyAnnotationError::Form)?;
        if version != VERSION {
            return Err(PolicyAnnotationError::Form);
        }
        if !key.verify(signed.as_bytes(), mac) {
            return Err(PolicyAnnotationError::Signature);
        }
        let json = URL_SAFE_NO_PAD.decode(encoded).map_err(content)?;
        let document: PolicyDocument = serde_json::from_slice(&json).map_err(content)?;
        if document.network != network {
            return Err(PolicyAnnotationError::Network(document.network));
        }
        Ok(Self {
            allow: parse_all(&document.allow)?,
            deny: parse_all(&document.deny)?,
            profiles: parse_all(&document.profiles)?,
            hold: match document.hold {
                Some(text) => Some(text.parse().map_err(content)?),
                None => None,
            },
            publish: parse_all(&document.publish)?,
            name: document.name,
            checks_server_names: document.check_server_names,
        })
    }
}

fn texts<T: Display>(entries: &[T]) -> Vec<String> {
    entries.iter().map(ToString::to_string).collect()
}

fn parse_all<T>(texts: &[String]) -> Result<Vec<T>, PolicyAnnotationError>
where
    T: FromStr<Err: Display>,
{
    if texts.len() > MAX_POLICY_ENTRIES {
        return Err(PolicyAnnotationError::TooLong);
    }
    texts
        .iter()
        .map(|text| text.parse().map_err(content))
        .collect()
}

fn content(error: impl Display) -> PolicyAnnotationError {
    PolicyAnnotationError::Content(DisplayText::new(&error.to_string()))
}

#[cfg(test)]
mod tests;
