// SPDX-License-Identifier: Apache-2.0
//! The profiles that come with the program.

use crate::ProfileName;

/// Names and texts of the bundled profiles, ordered by name.
const BUNDLED: [(&str, &str); 18] = [
    ("alpine", include_str!("../profiles/alpine.rules")),
    ("anthropic", include_str!("../profiles/anthropic.rules")),
    ("cargo", include_str!("../profiles/cargo.rules")),
    ("debian", include_str!("../profiles/debian.rules")),
    ("fedora", include_str!("../profiles/fedora.rules")),
    ("github", include_str!("../profiles/github.rules")),
    ("gitlab", include_str!("../profiles/gitlab.rules")),
    ("go", include_str!("../profiles/go.rules")),
    ("google-ai", include_str!("../profiles/google-ai.rules")),
    ("huggingface", include_str!("../profiles/huggingface.rules")),
    ("maven", include_str!("../profiles/maven.rules")),
    ("nodejs", include_str!("../profiles/nodejs.rules")),
    ("npm", include_str!("../profiles/npm.rules")),
    ("oci", include_str!("../profiles/oci.rules")),
    ("openai", include_str!("../profiles/openai.rules")),
    ("pypi", include_str!("../profiles/pypi.rules")),
    ("rubygems", include_str!("../profiles/rubygems.rules")),
    ("ubuntu", include_str!("../profiles/ubuntu.rules")),
];

/// Returns the text of a bundled profile.
pub fn bundled_profile(name: &ProfileName) -> Option<&'static str> {
    let found = BUNDLED.iter().find(|(own, _)| *own == name.as_str());
    found.map(|(_, text)| *text)
}

/// Iterates over the names of the bundled profiles, ordered by name.
pub fn bundled_profile_names() -> impl Iterator<Item = ProfileName> {
    BUNDLED.iter().filter_map(|(name, _)| name.parse().ok())
}

#[cfg(test)]
mod tests;
