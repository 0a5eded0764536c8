// SPDX-License-Identifier: Apache-2.0
//! The varlink interfaces: descriptions, methods, replies and errors.
//!
//! [`clearance1`] and [`verdict1`] are the Python stack's interfaces and frozen: Python clients
//! reject an event with one field more or less. [`clearance2`] carries the additional data.

pub mod clearance1;
pub mod clearance2;
pub mod verdict1;
