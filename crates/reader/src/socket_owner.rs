// SPDX-License-Identifier: Apache-2.0
//! Finds the process that asks: from the addresses of a connection to its socket, and from the
//! socket to the processes that hold it.
//!
//! A workload chooses its names and arguments, can pass a socket on, and can end a process: the
//! result is what a process says about itself, and never enough for a rule.

mod process_scan;
mod socket_diag;

pub use process_scan::{ProcessDescription, ProcessScan, SocketHolders};
pub use socket_diag::{SocketDiag, SocketEntry, SocketState};

#[cfg(test)]
mod tests;
