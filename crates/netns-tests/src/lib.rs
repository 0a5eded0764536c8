// SPDX-License-Identifier: Apache-2.0
//! Tests that need network namespaces of their own.

pub mod dialed_supervisor;
pub mod guarded;
pub mod internet;
