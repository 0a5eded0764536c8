// SPDX-License-Identifier: Apache-2.0
//! Containers: the OCI hooks that guard them, the annotations that select the hooks, and the
//! supervisor of one container.

pub mod annotation_keys;
mod container_cgroup;
mod container_process;
pub mod hook;
pub mod hooks_in_force;
pub mod host_layout;
mod network_claim;
mod oci_config;
pub mod oci_runtime;
mod oci_state;
pub mod podman_command;
pub mod policy_annotation;
mod resolv_conf;
mod start_connection;
mod start_request;
mod uplink;

pub use container_cgroup::{find_cgroup_id, read_cgroup_id};
pub use container_process::{ContainerProcess, ContainerProcessError};
pub use network_claim::{NetworkClaim, NetworkClaimError, claim_network, claim_path};
pub use oci_config::{OciConfig, UnguardableContainer};
pub use oci_state::{OciState, OciStateError};
pub use start_connection::{StartConnection, StartConnectionError};
pub use start_request::{
    ContainerNetwork, ContainerNetworkError, MAX_MESSAGE_BYTES, PROTOCOL_VERSION, StartReply,
    StartRequest,
};
pub use uplink::{Uplink, UplinkError, UplinkProgram};
