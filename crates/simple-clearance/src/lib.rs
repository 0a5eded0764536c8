// SPDX-License-Identifier: Apache-2.0
//! `simple-clearance`: the questions of one container at a terminal, without a hub.
//!
//! A reader process reports the packets that the container's firewall refused; the queue
//! (`question_queue`, pure) shows one question after the other and applies each answer to the
//! firewall. The texts are those of the Python tool.
//!
//! The caller provides every value in a [`SimpleClearanceConfig`], the output as a
//! [`QuestionOutput`] and the signals that stop the program.

mod absolute_path;
mod bounded_lines;
mod config;
mod container;
mod error;
mod firewall;
#[cfg(test)]
mod hostile_table;
mod hub_check;
mod question_loop;
mod question_queue;
mod reader_process;
mod simple_clearance;
mod takeover;

pub use config::{QuestionOutput, SimpleClearanceConfig};
pub use error::{HookRestartError, PodmanInspectError, ServingHubError, SimpleClearanceError};
pub use simple_clearance::SimpleClearance;
