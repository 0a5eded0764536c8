// SPDX-License-Identifier: Apache-2.0
//! `terok-clearance`, the program: everything it does is in the library beside it.

use std::process::ExitCode;

fn main() -> ExitCode {
    terok_clearance_cli::main(std::env::args_os().collect())
}
