// SPDX-License-Identifier: Apache-2.0
//! The interfaces: their descriptions, methods, replies and errors, as types.
//!
//! [`clearance1`] and [`verdict1`] are the Python stack's and frozen: its clients refuse an event
//! with one field more or less. [`clearance2`] is ours, and carries what those cannot.

pub mod clearance1;
pub mod clearance2;
pub mod verdict1;
