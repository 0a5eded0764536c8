// SPDX-License-Identifier: Apache-2.0
//! Tests of `podman` and `oci-runtime` with the real podman and runc, as root. Each test has its
//! own mount namespace, in which the directories of hooks and sockets are its own, and a container
//! store of its own.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test fails by panicking, its helpers too"
)]

mod machine;
mod oci_runtime;
mod podman;
