// SPDX-License-Identifier: Apache-2.0
//! The annotations of a container that this program reads.
//!
//! A container has the annotations of its image, too. An image may ask to be guarded and choose the
//! way out; what opens something counts only in [`POLICY`], which an image cannot sign.

/// Selects the hooks; the value is a [`NETWORK_DIALED`] or [`NETWORK_FILTERED`].
pub const NETWORK: &str = "org.terok.clearance.network";

/// Value of [`NETWORK`]: the supervisor makes each allowed connection.
pub const NETWORK_DIALED: &str = "dialed";

/// Value of [`NETWORK`]: a connection of the container's own, behind rules in its namespace.
pub const NETWORK_FILTERED: &str = "filtered";

/// What is allowed from the start: a JSON text with a signature of the operator's key.
pub const POLICY: &str = "org.terok.clearance.policy";

/// Prefix of what a question says about a container (`dossier.project`).
pub const DOSSIER_PREFIX: &str = "dossier.";

/// The path of a JSON file with more of it, read again for each question.
pub const DOSSIER_META_PATH: &str = "dossier.meta_path";
