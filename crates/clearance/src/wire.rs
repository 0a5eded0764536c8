// SPDX-License-Identifier: Apache-2.0
//! The varlink interfaces: descriptions, methods, replies and errors.
//!
//! [`clearance1`] and [`verdict1`] are the Python stack's interfaces and frozen: Python clients
//! reject an event with one field more or less. [`clearance2`] carries the additional data, and
//! [`request1`] is for the programs inside a sandbox.

pub mod clearance1;
pub mod clearance2;
pub mod request1;
pub mod verdict1;
