// SPDX-License-Identifier: Apache-2.0
//! Brings events to people and their answers back: the ledger, the fan-out and both Clearance interfaces.

pub mod ledger;
