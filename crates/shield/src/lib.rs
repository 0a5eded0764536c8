// SPDX-License-Identifier: Apache-2.0
//! Turns policy into kernel rules: the default-deny nftables ruleset over netlink.
//!
//! One typed [`ruleset`] is built from a [`Policy`]; the text of [`preview`] and the messages to
//! the kernel are two renderings of it. [`Shield`] puts it in force, checks that the kernel holds
//! what was meant, and turns answers into set elements. Nothing else of ours changes nftables.

mod handle;
mod policy;

pub use handle::{Element, Learnt, ListError, OrderError, Shield, ShieldError};
pub use policy::{Policy, PolicyError, preview};
