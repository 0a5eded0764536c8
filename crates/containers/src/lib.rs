// SPDX-License-Identifier: Apache-2.0
//! Containers: the OCI hooks that guard them, the annotations that select the hooks, and the
//! supervisor of one container.

pub mod annotation_keys;
pub mod host_layout;
