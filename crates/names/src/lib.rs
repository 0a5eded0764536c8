// SPDX-License-Identifier: Apache-2.0
//! Answers the DNS queries of a sandbox without a lookup that no rule allows.
//!
//! Lookups are a way out of a sandbox, because labels carry data. A query for a name that no rule
//! allows is therefore answered on this machine, with a stand-in address that belongs to that name
//! alone. The workload connects to it, and the connection becomes a question about the name.
//!
//! | part | contents |
//! |---|---|
//! | [`StandInTable`] | names to stand-in addresses and back |

#![cfg_attr(
    not(test),
    deny(
        clippy::arithmetic_side_effects,
        clippy::as_conversions,
        clippy::indexing_slicing,
        clippy::string_slice
    )
)]

mod stand_in;

pub use stand_in::{StandInKey, StandInTable, StandInsExhausted};
