// SPDX-License-Identifier: Apache-2.0
//! The parts of the screen: each turns the data in its arguments into text or a table, and changes
//! nothing.

pub(crate) mod confirm;
pub(crate) mod footer;
pub(crate) mod header;
pub(crate) mod help;
pub(crate) mod list;
pub(crate) mod log;
pub(crate) mod question;
pub(crate) mod rules;
pub(crate) mod sandboxes;
mod scopes;
