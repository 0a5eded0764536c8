// SPDX-License-Identifier: Apache-2.0
//! The program `terok-clearance`, implemented by the library of this package.

use std::process::ExitCode;

fn main() -> ExitCode {
    terok_clearance_cli::main(std::env::args_os().collect())
}
